"""Checks whether logs are consistent with their folders and with what the environments allow.

Every message states a fact, never a guess at its cause. The arithmetic is that of an environment in
which each step costs 1 until the goal is reached: an episode of `l` steps returns `-(l - 1)` if it
ends at the goal, and `-T` if it ends at the step limit `T`.
"""

from __future__ import annotations

import calendar
import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from enum import StrEnum
from functools import reduce
from itertools import combinations
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cs285.envs.tasks import known_tasks
from cs285.grading.archives import printable
from cs285.grading.hand_ins.submitted_runs import Run
from cs285.homework import Stage, algorithms
from cs285.results.event_files import final_return_of
from cs285.results.foreign_logs import fastest_step, was_written_again
from cs285.results.run_folders import SUMMARY

Floats = npt.NDArray[np.float64]

ROUNDING = 3e-4
"""Upper bound on the float32 error of a mean of returns or lengths; smaller than the effect of one
episode in 3,000 on a success rate."""
PLAN_ERROR = 0.5
"""Upper bound on the error of the planner's expected returns."""
PUBLIC_SLACK = 1
"""Steps by which evaluation episodes of public versions may exceed the limit."""
PUBLIC_RANDOM_LIMIT = 100
"""Steps at which public versions cut off the episodes of their random agent, in every maze."""
SIGMAS = 6.0
RARE = 10.0
"""Outcomes with this probability divided by the number of episodes occur in nearly every set of
that many: they are missing from one in 20,000."""
LATEST = 10
"""Number of final evaluations that are also compared with the best policy: they matter most."""
FEW_SPREAD = 10.0
"""Standard deviation assumed for fewer evaluations than that: the one of a single episode."""
CLOCK_SLACK = 120.0
"""Maximum seconds between creating a folder, opening its log and the first entry on a slow disk."""
FARTHEST_ZONE = 15 * 3600
"""Upper bound on the seconds between a local time and UTC."""
LONGEST_WAIT = 7 * 24 * 3600
"""Maximum seconds between the creation of a run's folder and its first step."""
FUTURE_SLACK = 24 * 3600.0
"""Seconds that a time may be ahead of this computer's clock before it is worth a remark."""
FEW_EVALUATIONS = 5
"""Maximum number of successive equal evaluations that is not worth a remark."""
MANY_EVALUATIONS = 12
"""The same if an evaluation may be a single episode: one in three is equal to the one before.
Twelve in a row happen in one run of several thousand."""
SAME_FOR = 2_000
"""Minimum number of steps over which evaluations must be equal."""
STRETCH = 0.2
"""Fraction of a run's steps over which its speed is measured."""
MIN_DEFICIT = 0.1
"""Minimum seconds by which a stretch must be too short, since entries are written in batches."""
SAME_LOSSES = 12
"""Minimum number of losses that two runs must share to count as the same run."""
MOSTLY = 0.8
"""Minimum fraction of the losses, and of the steps, that two such runs have in common."""
MAX_LOSSES = 1_000_000
"""Maximum number of losses of a hand-in that are compared."""
MAX_HOLDERS = 20
"""Maximum number of runs with a loss; a more common one is ignored."""
TIME_ZONE_STEP = 900.0
"""Time zones differ by multiples of this, so times are compared modulo it."""
MAX_EVALUATIONS = 100_000
DECISIVE_TAGS = {"rnd_loss", "actor_loss", "v_loss"}
"""Only these tags show that a public version's log is of another algorithm: students add tags."""
MEAN_TAGS = ("eval_return", "eval_ep_len")
SPREAD_TAGS = tuple(
    f"eval/{what}_{which}" for what in ("return", "ep_len") for which in ("std", "min", "max")
)
"""Tags for the numbers of an evaluation."""
CRITIC_TAGS = {"critic_loss", "q_loss"}
"""Tags for a critic's loss: public versions write either one."""


class Aspect(StrEnum):
    """What was compared when an inconsistency was found."""

    TAGS = "tags"
    EVALUATIONS = "evaluations"
    SCORES = "scores"
    GRID = "grid"
    CLOCK = "clock"
    CONFIG = "config"
    SUMMARY = "summary"
    DATASET = "dataset"
    EPISODES = "episodes"
    COPY = "copy"


class Inconsistency(NamedTuple):
    """A fact about a run that contradicts another fact."""

    aspect: Aspect
    fact: str


def find_inconsistencies(runs: Sequence[Run]) -> dict[Run, list[Inconsistency]]:
    """Return the inconsistencies of every run; an empty list for a consistent one."""
    found = {
        run: [
            Inconsistency(aspect, fact) for aspect, check in _CHECKS.items() for fact in check(run)
        ]
        for run in runs
    }
    copies: defaultdict[bytes, list[Run]] = defaultdict(list)
    for run in runs:
        if run.log.tags:
            copies[run.log.fingerprint].append(run)
    for group in copies.values():
        # One run may be handed in for two questions, but not as two experiments. If some of the
        # folders are inconsistent in other ways, the log belongs to the other folders.
        for run in [run for run in group if found[run]] or group:
            others = [other.name for other in group if other.identity != run.identity]
            if others:
                fact = f"its log is the same as that of {others[0]}"
                found[run].append(Inconsistency(Aspect.COPY, fact))
    for one, other in _same_numbers(runs):
        for run, twin in ((one, other), (other, one)):
            if not any(each.aspect is Aspect.COPY for each in found[run]):
                fact = f"its losses are those of {twin.name}, at the same steps"
                found[run].append(Inconsistency(Aspect.COPY, fact))
    return found


def _same_numbers(runs: Sequence[Run]) -> Iterator[tuple[Run, Run]]:
    """Yield pairs of runs with the same losses but different seeds, whatever their times."""
    holders: defaultdict[tuple[str, int, str], list[int]] = defaultdict(list)
    for place, run in enumerate(runs):
        for tag, series in run.log.series.items():
            if tag.endswith("loss") and len(np.unique(series.values)) >= SAME_LOSSES:
                # Values are rounded because a copy may have been changed slightly.
                for step, value in zip(series.steps.tolist(), series.values.tolist(), strict=True):
                    if len(holders) < MAX_LOSSES:
                        holders[tag, step, f"{value:.4g}"].append(place)
    shared: Counter[tuple[int, int]] = Counter()
    for places in holders.values():
        if 1 < len(places) <= MAX_HOLDERS:
            shared.update(combinations(places, 2))
    for (first, second), count in shared.items():
        one, other = runs[first], runs[second]
        ends = sorted((one.log.last_step, other.log.last_step))
        points = [
            sum(len(series.steps) for tag, series in run.log.series.items() if tag.endswith("loss"))
            for run in (one, other)
        ]
        if (
            count >= max(SAME_LOSSES, MOSTLY * min(points))
            # Fine-tuning begins with the numbers of an offline run.
            and ends[0] >= MOSTLY * ends[1]
            and None not in {one.seed, other.seed}
            and one.seed != other.seed
        ):
            yield one, other


class Oddity(StrEnum):
    """What a remark is about."""

    FUTURE = "times in the future"
    VARIANCE = "evaluations without variance"
    EXACT = "exact returns that contradict evaluations"
    SPEED = "steps beyond what the times allow"


class Remark(NamedTuple):
    """Something that genuine runs do not show, for a person to look at; it costs no points."""

    oddity: Oddity
    fact: str


def find_remarks(run: Run, now: float | None = None) -> list[Remark]:
    """Return what is odd about a log, even if it is consistent.

    Args:
        run: The run.
        now: Seconds since 1970; by default this computer's time.
    """
    moment = time.time() if now is None else now
    facts = {
        Oddity.FUTURE: _future(run, moment),
        Oddity.VARIANCE: _without_variance(run),
        Oddity.EXACT: exact_contradictions(run),
        Oddity.SPEED: _too_fast(run),
    }
    return [Remark(oddity, fact) for oddity, found in facts.items() for fact in found]


def _future(run: Run, now: float) -> Iterator[str]:
    """Look for times in the future, wherever a run records a time."""
    log = run.log
    times: dict[str, float] = {}
    if log.tags:
        times |= {"its first entry": log.begins, "its last entry": log.ends}
    if log.named_times:
        times["the name of its event file"] = max(float(named) for named, _ in log.named_times)
    if (created := _folder_time(run.time_in_name)) is not None:
        times["the folder's name"] = created - FARTHEST_ZONE  # it is a local time
    if run.summary is not None:
        with suppress(OverflowError, ValueError):
            times[SUMMARY] = run.summary.started.timestamp()
    ahead = {what: when for what, when in times.items() if when > now + FUTURE_SLACK}
    if ahead:
        latest = max(ahead.values())
        yield (
            f"{' and '.join(ahead)} {'is' if len(ahead) == 1 else 'are'} in the future: up to "
            f"{_date(latest)}, {(latest - now) / 86_400:,.0f} days after this check "
            f"({_date(now)})"
        )


def exact_contradictions(run: Run) -> Iterator[str]:
    """Compare exact returns with those of evaluation episodes and with the best policy's.

    An outcome with probability p is missing from n episodes with probability e^(-p n), so a mean
    may also be off because it lacks rare episodes, each of which may cost the step limit.
    """
    tags = ("exact/return", "exact/return_error", "eval_return", "eval/return_std", "eval/episodes")
    curves = [run.log.series.get(tag) for tag in tags]
    known = [curve for curve in curves if curve is not None]
    if len(known) < len(curves) or not run.env_id:
        return
    task = known_tasks()[run.env_id]
    steps = reduce(np.intersect1d, [curve.steps for curve in known])
    exact, error, measured, spread, episodes = (
        curve.values[np.isin(curve.steps, steps)] for curve in known
    )
    best = task.reference().optimal_return
    above = np.flatnonzero(exact - np.maximum(error, 0) > best + PLAN_ERROR)
    if len(above):
        yield (
            f"exact/return is {exact[above[-1]]:.1f} at step {steps[above[-1]]:,}; the best policy "
            f"on {task.name} is expected to return {best:.1f}"
        )
        return
    count = np.maximum(episodes, 1)
    by_chance = SIGMAS * np.hypot(spread / np.sqrt(np.maximum(count - 1, 1)), error)
    margin = by_chance + RARE * task.max_episode_steps / count
    apart = np.flatnonzero(np.abs(exact - measured) > margin)
    if len(apart):
        at = apart[-1]
        yield (
            f"exact/return is {exact[at]:.1f} at step {steps[at]:,}, where {count[at]:.0f} "
            f"episodes return {measured[at]:.1f} on average"
        )


def _date(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(moment))


def _without_variance(run: Run) -> Iterator[str]:
    """Look for evaluations that are all equal although episodes are random.

    Evaluations without any success are left out: failed episodes all have the same return.
    """
    series = run.log.series
    returns = series.get("eval_return")
    if returns is None or not run.env_id:
        return
    known = [series[tag] for tag in (*MEAN_TAGS, *SPREAD_TAGS) if tag in series]
    if any(not np.array_equal(one.steps, returns.steps) for one in known):
        return
    table = np.array([one.values for one in known])
    lengths = series.get("eval_ep_len")
    succeeds = np.ones(len(returns.steps), dtype=bool)
    if lengths is not None:
        succeeds = returns.values + lengths.values > ROUNDING
    spread = series.get("eval/return_std")
    episodes = series.get("eval/episodes")
    is_single = spread is None
    if episodes is not None and np.array_equal(episodes.steps, returns.steps):
        is_single |= bool(episodes.values.min() < FEW_EVALUATIONS)
    least = MANY_EVALUATIONS if is_single else FEW_EVALUATIONS
    same = (table[:, 1:] == table[:, :-1]).all(axis=0) & succeeds[1:] & succeeds[:-1]
    yield from _longest_stretch(run, same, least, "the same numbers")
    if spread is not None and not is_single:
        flat = (spread.values == 0) & succeeds
        both = flat[1:] & flat[:-1] & ~same
        yield from _longest_stretch(run, both, MANY_EVALUATIONS, "no spread at all")


def _longest_stretch(
    run: Run, together: npt.NDArray[np.bool_], least: int, what: str
) -> Iterator[str]:
    """Describe the longest row of evaluations in which all neighbours match.

    Args:
        run: The run, with N evaluations.
        together: Whether each evaluation matches the next one, shape (N - 1,).
        least: The longest row that is not worth a remark.
        what: What the evaluations in the row have.
    """
    returns = run.log.series["eval_return"]
    edges = np.flatnonzero(np.diff(np.concatenate([[False], together, [False]]).astype(int)))
    rows = sorted(
        zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True),
        key=lambda row: row[1] - row[0],
        reverse=True,
    )
    for begin, end in rows[:1]:
        first, last = int(returns.steps[begin]), int(returns.steps[end])
        if end - begin + 1 > least and last - first >= SAME_FOR:
            yield (
                f"{end - begin + 1} evaluations in a row, from step {first:,} to step {last:,}, "
                f"have {what} (eval_return {returns.values[begin]:.6g}); with noisy actions, "
                "episodes differ"
            )


def _too_fast(run: Run) -> Iterator[str]:
    """Look for steps that took less time than any computer needs."""
    log, summary = run.log, run.summary
    if not _learns(run) or why_written_again(run):
        return
    fastest = fastest_step(is_ours=run.config is not None)
    if summary is not None and summary.wall_time_s < summary.total_steps * fastest:
        yield (
            f"summary.json says that {summary.total_steps:,} steps took {summary.wall_time_s:.3g} "
            f"s, {1e6 * summary.wall_time_s / max(1, summary.total_steps):.2g} microseconds each; "
            f"no computer takes less than {1e6 * fastest:.0f}"
        )
    worst: tuple[float, int, int, float] | None = None
    for tag, series in log.series.items():
        for first, last, took in _stretches(series.steps, log.times[tag], log.last_step):
            deficit = (last - first) * fastest - took
            if took >= 0 and deficit >= MIN_DEFICIT and (worst is None or deficit > worst[0]):
                worst = deficit, first, last, took
    if worst is not None:
        _, first, last, took = worst
        yield (
            f"by the times in the log, steps {first:,} to {last:,} took {took:.3g} s, "
            f"{1e6 * took / (last - first):.2g} microseconds each; no computer takes less than "
            f"{1e6 * fastest:.0f}"
        )


def _stretches(
    steps: npt.NDArray[np.int64], times: Floats, total: int
) -> Iterator[tuple[int, int, float]]:
    """Yield the first and last step of stretches of a run, and the seconds that each took."""
    ends = np.searchsorted(steps, steps + max(1, int(STRETCH * total)))
    begins = np.flatnonzero(ends < len(steps))
    for begin in begins[:: max(1, len(begins) // 500)]:
        end = ends[begin]
        yield int(steps[begin]), int(steps[end]), float(times[end] - times[begin])


def foreign_tags(algorithm: str) -> list[str]:
    """Return the tags that other algorithms write and this one does not."""
    if algorithm not in algorithms():
        return []
    own = set(algorithms()[algorithm].tags)
    own |= CRITIC_TAGS if own & CRITIC_TAGS else set()
    written = dict.fromkeys(tag for one in algorithms().values() for tag in one.tags)
    return [tag for tag in written if tag not in own]


def _tags(run: Run) -> Iterator[str]:
    foreign = [
        tag
        for tag in foreign_tags(run.algorithm)
        if tag in run.log.series and (run.config or tag in DECISIVE_TAGS)
    ]
    if foreign:
        yield f"the log contains {' and '.join(foreign)}, which {run.algorithm} does not write"
    if run.stage is Stage.OFFLINE and "train_return" in run.log.series:
        yield "the log contains train_return, but offline training does not step the environment"
    if run.stage is not Stage.EXPLORE and "coverage" in run.log.series:
        yield "the log contains coverage, which only exploration writes"


def _evaluations(run: Run) -> Iterator[str]:
    """Compare the numbers of every evaluation with each other; report the first violated rule."""
    series = run.log.series
    if not run.env_id or any(tag not in series for tag in MEAN_TAGS):
        return
    # For a single episode, public versions do not log the spread.
    has_spread = all(tag in series for tag in SPREAD_TAGS)
    tags = [*MEAN_TAGS, *(SPREAD_TAGS if has_spread else ())]
    steps = reduce(np.intersect1d, [series[tag].steps for tag in tags])
    every = reduce(np.union1d, [series[tag].steps for tag in tags])
    # A run may have been stopped during an evaluation.
    if len(steps) < len(every) - 1 or (len(steps) < len(every) and every[-1] in steps):
        yield "eval_return and the other tags of evaluations are not logged at the same steps"
        return
    columns = [series[tag].values[: len(steps)] for tag in tags]
    episodes = series.get("eval/episodes")
    if episodes is not None and np.array_equal(episodes.steps[: len(steps)], steps):
        sums = episodes.values[: len(steps)] * columns[1]
        slack = np.minimum(0.25, episodes.values[: len(steps)] * ROUNDING)
        bad = np.flatnonzero(np.abs(sums - np.round(sums)) > slack)
        if len(bad):
            count, mean = episodes.values[bad[0]], columns[1][bad[0]]
            yield (
                f"the lengths of {count:.0f} episodes must add up to a whole number; violated at "
                f"step {steps[bad[0]]:,} (eval_ep_len {mean:.6g})"
            )
            return
    for rule, holds in _arithmetic(_step_limit(run), 0 if run.config else PUBLIC_SLACK, *columns):
        # No rule holds for NaN.
        bad = np.flatnonzero(~holds)
        if len(bad):
            numbers = ", ".join(
                f"{tag} {column[bad[0]]:.6g}" for tag, column in zip(tags, columns, strict=True)
            )
            more = f" and at {len(bad) - 1} more" if len(bad) > 1 else ""
            yield f"{rule}; violated at step {steps[bad[0]]:,}{more} ({numbers})"
            return


def _step_limit(run: Run) -> int:
    """Return the number of steps after which a run's evaluation episodes were cut off."""
    limit = known_tasks()[run.env_id].max_episode_steps
    if run.config is None and run.algorithm == "random":
        longest = run.log.series.get("eval/ep_len_max", run.log.series["eval_ep_len"]).values.max()
        if PUBLIC_RANDOM_LIMIT <= longest + ROUNDING <= PUBLIC_RANDOM_LIMIT + PUBLIC_SLACK + 1:
            return PUBLIC_RANDOM_LIMIT
    return limit


def _arithmetic(
    limit: int, slack: int, returns: Floats, lengths: Floats, *spread: Floats
) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
    """Yield the rules for evaluations and whether each evaluation obeys them, shape (N,)."""
    yield (
        f"episodes here last 1 to {limit} steps",
        (lengths >= 1 - ROUNDING) & (lengths <= limit + slack + ROUNDING),
    )
    # Each episode that reaches the goal saves the cost of one step.
    reached = returns + lengths
    yield (
        "the return must be minus the length, plus at most 1",
        (reached >= -ROUNDING) & (reached <= 1 + ROUNDING),
    )
    if not spread:
        return
    return_std, return_min, return_max, length_std, length_min, length_max = spread
    yield (
        "the mean must be between minimum and maximum",
        (return_min <= returns + ROUNDING)
        & (returns <= return_max + ROUNDING)
        & (length_min <= lengths + ROUNDING)
        & (lengths <= length_max + ROUNDING),
    )
    # The other rules need the length of an episode that fails to reach the goal.
    overlong = (length_max > limit + ROUNDING) & (length_max <= limit + slack + ROUNDING)
    failed = reached < 1 - ROUNDING
    worst = np.where(failed, -limit, 1 - length_max)
    best = np.where(reached > ROUNDING, 1 - length_min, -limit)
    yield (
        f"an episode that misses the goal lasts {limit} steps here",
        overlong | ~failed | (np.abs(length_max - limit) <= ROUNDING),
    )
    yield (
        "the longest episode must have the lowest return, and the shortest the highest",
        overlong
        | (np.abs(return_min - worst) <= ROUNDING) & (np.abs(return_max - best) <= ROUNDING),
    )
    # With s = 1 for a success, return = s - length; all failures have the same length.
    variance = length_std**2 + reached * (1 - reached) + 2 * (1 - reached) * (limit - lengths)
    yield (
        "the spread of returns must follow from the spread of lengths",
        overlong | (np.abs(return_std**2 - variance) <= ROUNDING * (1 + limit + variance)),
    )


def _scores(run: Run) -> Iterator[str]:
    """Compare returns with the best policy's, and with the logged scores."""
    curve = run.log.series.get("eval_return")
    if curve is None or not run.env_id:
        return
    task = known_tasks()[run.env_id]
    best = task.reference()
    for values in (curve.values, curve.values[-LATEST:]):
        least = 0.5 if len(values) >= LATEST else FEW_SPREAD
        margin = SIGMAS * max(float(values.std()), least) / np.sqrt(len(values))
        if values.mean() > best.optimal_return + PLAN_ERROR + margin:
            yield (
                f"{len(values)} evaluations return {values.mean():.1f} on average; the best policy "
                f"on {task.name} is expected to return {best.optimal_return:.1f}"
            )
            break
    scores = run.log.series.get("eval/normalised_score")
    if scores is None or not np.array_equal(scores.steps, curve.steps):
        return
    expected = best.score(curve.values)
    if not (np.abs(scores.values - expected) <= 0.02).all():  # noqa: PLR2004 - for another planner
        yield "eval/normalised_score does not match eval_return"


def _grid(run: Run) -> Iterator[str]:
    """Look for gaps between evaluations."""
    curve = run.log.series.get("eval_return")
    # Students write their own fine-tuning loops, and may evaluate at any steps in them.
    if curve is None or len(curve.steps) < 4 or (run.stage is Stage.FINETUNE and not run.config):  # noqa: PLR2004
        return
    interval = max(1, int(np.median(np.diff(curve.steps))))
    first, last = int(curve.steps[0]), int(curve.steps[-1])
    if run.config:
        first = min(first, interval)
        if _is_union_of_grids(curve.steps, (run.config.offline_steps, run.config.planned_steps)):
            return
    if (last - first) // interval > MAX_EVALUATIONS:
        yield f"evaluations come every {interval:,} steps up to step {last:,}: too many for a run"
        return
    missing = np.setdiff1d(np.arange(first, last + 1, interval), curve.steps)
    if len(missing):
        yield (
            f"evaluations come every {interval:,} steps, but {len(missing)} are missing, "
            f"for example the one at step {missing[0]:,}"
        )


def _is_union_of_grids(steps: npt.NDArray[np.int64], ends: Sequence[int]) -> bool:
    """Return whether steps are the multiples of at most two numbers and the ends of phases.

    Evaluations and pictures have separate intervals, and each picture comes with an evaluation.
    """
    last = int(steps[-1])
    for regular in (steps, np.setdiff1d(steps, ends)):
        grid = np.array([], dtype=np.int64)
        for _ in range(2):
            rest = np.setdiff1d(regular, grid)
            if len(rest) and 0 <= last // MAX_EVALUATIONS < rest[0]:
                grid = np.union1d(grid, np.arange(rest[0], last + 1, rest[0]))
        if np.isin(regular, grid).all() and np.isin(grid, steps).all():
            return True
    return False


def _clock(run: Run) -> Iterator[str]:
    log = run.log
    if not log.tags or why_written_again(run):
        return
    if len(log.setbacks) > 1:
        times = f"{len(log.setbacks)} times, by up to {max(log.setbacks):,.0f} s"
        yield f"the log's clock jumps back {times}"
    for named, first in log.named_times:
        if abs(named - first) > CLOCK_SLACK:
            apart = abs(named - first)
            yield f"the time in an event file's name is {apart:,.0f} s from its first event"
    if not begins_with_its_folder(run):
        yield "the time in the folder's name is not the time at which the log begins"


def begins_with_its_folder(run: Run) -> bool:
    """Return whether the log may begin at the time in its folder's name, if it has one."""
    created = _folder_time(run.time_in_name)
    if created is None:
        return True
    # A command creates all its folders at once; a run may then wait for others or be resumed.
    may_wait = run.config is not None
    after = run.log.begins - created
    if not -FARTHEST_ZONE <= after <= FARTHEST_ZONE + (LONGEST_WAIT if may_wait else 0):
        return False
    return may_wait or (after + CLOCK_SLACK) % TIME_ZONE_STEP <= 2 * CLOCK_SLACK


def why_written_again(run: Run) -> str:
    """Return the evidence that a log was written again after its run; empty if there is none.

    Nothing else is wrong with such a log, but it does not show how long the run took.
    """
    log = run.log
    took = log.ends - log.begins
    if not log.tags or (not _learns(run) and begins_with_its_folder(run)):
        return ""
    if not was_written_again(log.last_step, took, is_ours=run.config is not None):
        return ""
    return (
        f"all times in its log, which reaches step {log.last_step:,}, span only {took:.2f} s, as "
        "in a log that was written again, for instance to make it smaller: ask for the original"
    )


def _learns(run: Run) -> bool:
    """Return whether a run does more than take random actions."""
    return run.stage is not Stage.EXPLORE or "rnd_loss" in run.log.series


def _folder_time(text: str) -> float | None:
    """Return the time in a folder's name as if it were UTC."""
    for form in ("%Y-%m-%d_%H-%M-%S", "%d-%m-%Y_%H-%M-%S"):
        with suppress(ValueError):
            return calendar.timegm(time.strptime(text, form))
    return None


def _config(run: Run) -> Iterator[str]:
    """Compare `config.yaml` with the folder's name and the log."""
    config, last = run.config, run.log.last_step
    if config is None:
        return
    if not re.search(rf"{re.escape(config.exp_name)}_sd{config.seed}(_|$)", run.bare_name):
        yield (
            f"config.yaml belongs to {printable(config.exp_name)} with seed {config.seed}, not to "
            "this folder"
        )
    if last > config.planned_steps:
        yield f"the log reaches step {last:,}, but config.yaml sets {config.planned_steps:,} steps"


def _summary(run: Run) -> Iterator[str]:
    """Compare `summary.json` with `config.yaml` and the log."""
    config, summary, log = run.config, run.summary, run.log
    if summary is None:
        return
    known: dict[str, object] = {"script": run.stage, "seed": run.seed}
    if config is not None:
        known |= {
            "exp_name": config.exp_name,
            "env_name": config.env_name,
            "algorithm": config.base_config,
            "total_steps": config.planned_steps,
        }
    for name, value in known.items():
        stated = getattr(summary, name)
        if stated != value:
            yield f"{name} is {printable(stated)} in summary.json and {printable(value)} elsewhere"
    if summary.total_steps > log.last_step:
        yield f"summary.json has {summary.total_steps:,} steps, but the log {log.last_step:,}"
    for name, seen in _summarised(run).items():
        stated = getattr(summary, name)
        if stated is not None and seen is not None and not abs(stated - seen) <= ROUNDING:
            yield f"{name} is {stated:.6g} in summary.json and {seen:.6g} in the log"


def _summarised(run: Run) -> dict[str, float | None]:
    """Return the entries of a summary as computed from the log."""
    series = run.log.series
    returns = series.get("eval_return")
    return {
        "final_return": final_return_of(series),
        "best_return": None if returns is None else float(returns.values.max()),
        "coverage": series["coverage"].last if "coverage" in series else None,
        "goals_reached": series["goals_reached"].last if "goals_reached" in series else None,
    }


def _dataset(run: Run) -> Iterator[str]:
    """Compare the dataset with what was logged about it."""
    dataset, series = run.dataset, run.log.series
    if dataset is None:
        return
    if dataset.transitions != run.planned_steps:
        yield f"its dataset has {dataset.transitions:,} transitions, not {run.planned_steps:,}"
    for name, number in (("coverage", dataset.coverage), ("goals_reached", dataset.goals)):
        if name in series and not abs(series[name].last - number) <= ROUNDING:
            yield f"{name} is {number:.6g} in its dataset and {series[name].last:.6g} in the log"


def _episodes(run: Run) -> Iterator[str]:
    """Compare the logs of training episodes, except those of public versions, which are wrong."""
    returns, lengths = (run.log.series.get(tag) for tag in ("train_return", "train_ep_len"))
    if run.config is None or returns is None or lengths is None or not run.env_id:
        return
    if not np.array_equal(returns.steps, lengths.steps):
        yield "train_return and train_ep_len are not logged at the same steps"
        return
    limit = known_tasks()[run.env_id].max_episode_steps
    reached = returns.values + lengths.values
    if ((lengths.values > limit) | ~np.isin(reached, (0.0, 1.0))).any():
        yield "train_return does not match train_ep_len"
    # Logs may be thinned, so episodes may end further apart than their lengths, but not closer.
    elif (np.diff(returns.steps) < lengths.values[1:]).any():
        yield "training episodes end closer together than their lengths allow"


_CHECKS: Mapping[Aspect, Callable[[Run], Iterator[str]]] = {
    Aspect.TAGS: _tags,
    Aspect.EVALUATIONS: _evaluations,
    Aspect.SCORES: _scores,
    Aspect.GRID: _grid,
    Aspect.CLOCK: _clock,
    Aspect.CONFIG: _config,
    Aspect.SUMMARY: _summary,
    Aspect.DATASET: _dataset,
    Aspect.EPISODES: _episodes,
}
