"""Whether logs fit what their folders say they are, and what these environments can give.

Every sentence states a fact that does not fit, never how it came about. The arithmetic is that of
an environment in which a step costs 1 until the goal is reached: an episode of `l` steps returns
`-(l - 1)` if it ends at the goal and `-T` if the step limit `T` ends it.
"""

from __future__ import annotations

import calendar
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import reduce

import numpy as np
import numpy.typing as npt

from cs285.envs.tasks import known_tasks
from cs285.grading.archives import printable
from cs285.grading.hand_ins.submitted_runs import Run
from cs285.homework import algorithms
from cs285.results.event_files import final_return_of

Floats = npt.NDArray[np.float64]

ROUNDING = 3e-4
"""How far float32 moves a mean of returns or lengths, with room to spare; less than one episode in
3,000 moves a rate of success."""
PLAN_ERROR = 0.5
"""How far an expected return of the planner may be off."""
PUBLIC_SLACK = 1
"""Steps by which loops of public versions may let an evaluation's episodes go past the limit."""
SIGMAS = 6.0
LATEST = 10
"""Evaluations at the end that are compared with the best policy as well: they matter most."""
FEW_SPREAD = 10.0
"""Standard deviation to assume where there are too few evaluations to tell: that of one episode."""
CLOCK_SLACK = 120.0
"""Seconds between making a folder, opening its log and logging first, on a slow disk."""
FARTHEST_ZONE = 15 * 3600
"""Seconds between a local time and UTC, and some."""
LONGEST_WAIT = 7 * 24 * 3600
"""Seconds from the making of a run's folder to its first step."""
TIME_ZONE_STEP = 900.0
"""Time zones differ by multiples of this, so minutes and seconds are compared alone."""
MAX_EVALUATIONS = 100_000
FASTEST_STEP = 1e-5
"""Seconds of one gradient step on hardware that is yet to come."""
CRITIC_TAGS = {"critic_loss", "q_loss"}
"""Tags of the loss of a critic: loops of public versions write either."""


def find_misfits(runs: Sequence[Run]) -> dict[Run, list[str]]:
    """Return for every run what does not fit, an empty list for a run of which all does."""
    found = {run: [fact for check in _CHECKS for fact in check(run)] for run in runs}
    copies: defaultdict[bytes, list[Run]] = defaultdict(list)
    for run in runs:
        if run.log.tags:
            copies[run.log.fingerprint].append(run)
    for group in copies.values():
        # One run may be handed in for two questions, but not as two experiments. Where something
        # else does not fit in some of the folders, the others are where the log belongs.
        for run in [run for run in group if found[run]] or group:
            others = [other.name for other in group if other.identity != run.identity]
            if others:
                found[run].append(f"its log is that of {others[0]}")
    return found


def foreign_tags(algorithm: str) -> list[str]:
    """Return the tags of losses that other algorithms write and this one does not."""
    if algorithm not in algorithms():
        return []
    own = set(algorithms()[algorithm].tags)
    own |= CRITIC_TAGS if own & CRITIC_TAGS else set()
    written = dict.fromkeys(tag for one in algorithms().values() for tag in one.tags)
    return [tag for tag in written if tag not in own]


def _tags(run: Run) -> Iterator[str]:
    foreign = [tag for tag in foreign_tags(run.algorithm) if tag in run.log.series]
    if foreign:
        yield f"the log has {' and '.join(foreign)}, which {run.algorithm} has not"
    if run.stage == "offline" and "train_return" in run.log.series:
        yield "the log has train_return, but offline training takes no steps in the environment"
    if run.stage != "explore" and "coverage" in run.log.series:
        yield "the log has coverage, which only exploration has"


def _evaluations(run: Run) -> Iterator[str]:
    """Compare the numbers of every evaluation with each other; one fact of a kind is enough."""
    tags = ["eval_return", "eval_ep_len"]
    spread = [
        f"eval/{what}_{which}" for what in ("return", "ep_len") for which in ("std", "min", "max")
    ]
    series = run.log.series
    if not run.env_id or any(tag not in series for tag in tags):
        return
    # A single episode has no spread, and public versions do not log it then.
    tags += spread if all(tag in series for tag in spread) else []
    steps = reduce(np.intersect1d, [series[tag].steps for tag in tags])
    every = reduce(np.union1d, [series[tag].steps for tag in tags])
    # A run that is stopped may stop within an evaluation.
    if len(steps) < len(every) - 1 or (len(steps) < len(every) and every[-1] in steps):
        yield "eval_return and what goes with it are not logged at the same steps"
        return
    columns = [series[tag].values[: len(steps)] for tag in tags]
    limit = known_tasks()[run.env_id].max_episode_steps
    for problem, fits in _arithmetic(limit, 0 if run.config else PUBLIC_SLACK, *columns):
        # Not a number is no fit either.
        bad = np.flatnonzero(~fits)
        if len(bad):
            numbers = ", ".join(
                f"{tag} {column[bad[0]]:.6g}" for tag, column in zip(tags, columns, strict=True)
            )
            more = f", and at {len(bad) - 1} more" if len(bad) > 1 else ""
            yield f"{problem}: at step {steps[bad[0]]:,}{more} ({numbers})"
            return


def _arithmetic(
    limit: int, slack: int, returns: Floats, lengths: Floats, *spread: Floats
) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
    """Yield what must hold of evaluations (N,), and where it does."""
    yield (
        f"episodes last from 1 to {limit} steps here",
        (lengths >= 1 - ROUNDING) & (lengths <= limit + slack + ROUNDING),
    )
    # Each episode that reaches the goal is spared one step's cost.
    reached = returns + lengths
    yield (
        "the return is minus the length, and up to 1 more",
        (reached >= -ROUNDING) & (reached <= 1 + ROUNDING),
    )
    if not spread:
        return
    return_std, return_min, return_max, length_std, length_min, length_max = spread
    yield (
        "the mean lies between least and most",
        (return_min <= returns + ROUNDING)
        & (returns <= return_max + ROUNDING)
        & (length_min <= lengths + ROUNDING)
        & (lengths <= length_max + ROUNDING),
    )
    # What follows needs to know how long an episode lasts that fails.
    overlong = (length_max > limit + ROUNDING) & (length_max <= limit + slack + ROUNDING)
    failed = reached < 1 - ROUNDING
    worst = np.where(failed, -limit, 1 - length_max)
    best = np.where(reached > ROUNDING, 1 - length_min, -limit)
    yield (
        f"an episode that fails lasts {limit} steps here",
        overlong | ~failed | (np.abs(length_max - limit) <= ROUNDING),
    )
    yield (
        "the longest episode returns least and the shortest most",
        overlong
        | (np.abs(return_min - worst) <= ROUNDING) & (np.abs(return_max - best) <= ROUNDING),
    )
    # With s = 1 for a success, return = s - length; all that fail have the same length.
    variance = length_std**2 + reached * (1 - reached) + 2 * (1 - reached) * (limit - lengths)
    yield (
        "the spread of returns follows from that of lengths",
        overlong | (np.abs(return_std**2 - variance) <= ROUNDING * (1 + limit + variance)),
    )


def _scores(run: Run) -> Iterator[str]:
    """Compare with what the best policy gets, and with the score that is logged beside."""
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
    expected = (curve.values - best.random_return) / (best.optimal_return - best.random_return)
    if not (np.abs(scores.values - expected) <= 0.02).all():  # noqa: PLR2004 - another planner's
        yield "eval/normalised_score is not that of eval_return"


def _grid(run: Run) -> Iterator[str]:
    """Look for evaluations that are missing between others."""
    curve = run.log.series.get("eval_return")
    # How a fine-tuning loop of one's own spaces its evaluations is left to its author.
    if curve is None or len(curve.steps) < 4 or (run.stage == "finetune" and not run.config):  # noqa: PLR2004
        return
    interval = max(1, int(np.median(np.diff(curve.steps))))
    first, last = int(curve.steps[0]), int(curve.steps[-1])
    if run.config:
        first = min(first, interval)
        if _is_union_of_grids(curve.steps, (run.config.offline_steps, run.config.planned_steps)):
            return
    if (last - first) // interval > MAX_EVALUATIONS:
        yield f"evaluations come every {interval:,} steps up to step {last:,}"
        return
    missing = np.setdiff1d(np.arange(first, last + 1, interval), curve.steps)
    if len(missing):
        yield (
            f"evaluations come every {interval:,} steps, but {len(missing)} are missing, "
            f"such as that at step {missing[0]:,}"
        )


def _is_union_of_grids(steps: npt.NDArray[np.int64], ends: Sequence[int]) -> bool:
    """Tell whether steps are the multiples of at most two numbers, and ends of phases.

    Evaluations and pictures have intervals of their own, and each picture comes with an evaluation.
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
    if not log.tags:
        return
    if len(log.setbacks) > 1:
        times = f"{len(log.setbacks)} times, by {max(log.setbacks):,.0f} s at most"
        yield f"the clock of the log goes back {times}"
    took = log.ends - log.begins + sum(log.setbacks)
    if run.stage != "explore" and took < log.last_step * FASTEST_STEP:
        yield f"{log.last_step:,} steps of training were logged within {took:.2f} s"
    for named, first in log.named_times:
        if abs(named - first) > CLOCK_SLACK:
            yield f"an event file is named after a time {abs(named - first):,.0f} s from its start"
    made = _folder_time(run.time_in_name)
    if made is not None:
        apart = (log.begins - made + CLOCK_SLACK) % TIME_ZONE_STEP
        # A command makes all its folders at once, and a run may wait for others or be resumed.
        may_wait = run.config is not None
        late = LONGEST_WAIT if may_wait else 0
        if not -FARTHEST_ZONE <= log.begins - made <= FARTHEST_ZONE + late or (
            apart > 2 * CLOCK_SLACK and not may_wait
        ):
            yield "the time in the folder's name is not that at which the log begins"


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
            f"config.yaml is of {printable(config.exp_name)} with seed {config.seed}, not of this "
            "folder"
        )
    if last > config.planned_steps:
        yield f"the log goes on to step {last:,} of {config.planned_steps:,}"


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
        said = getattr(summary, name)
        if said != value:
            yield f"{name} is {printable(said)} in summary.json and {printable(value)} elsewhere"
    if summary.total_steps > log.last_step:
        yield f"summary.json tells of {summary.total_steps:,} steps, the log of {log.last_step:,}"
    for name, seen in _summarised(run).items():
        said = getattr(summary, name)
        if said is not None and seen is not None and not abs(said - seen) <= ROUNDING:
            yield f"{name} is {said:.6g} in summary.json and {seen:.6g} in the log"


def _summarised(run: Run) -> dict[str, float | None]:
    """Return from the log what a summary says, too."""
    series = run.log.series
    returns = series.get("eval_return")
    return {
        "final_return": final_return_of(series),
        "best_return": None if returns is None else float(returns.values.max()),
        "coverage": series["coverage"].last if "coverage" in series else None,
        "goals_reached": series["goals_reached"].last if "goals_reached" in series else None,
    }


def _dataset(run: Run) -> Iterator[str]:
    """Compare what was collected with what was logged of it."""
    dataset, series = run.dataset, run.log.series
    if dataset is None:
        return
    if dataset.transitions != run.planned_steps:
        yield f"its dataset has {dataset.transitions:,} transitions, not {run.planned_steps:,}"
    for name, number in (("coverage", dataset.coverage), ("goals_reached", dataset.goals)):
        if name in series and not abs(series[name].last - number) <= ROUNDING:
            yield f"{name} of its dataset is {number:.6g}, that of the log {series[name].last:.6g}"


def _episodes(run: Run) -> Iterator[str]:
    """Compare the episodes of collecting data; loops of public versions disturb them."""
    returns, lengths = (run.log.series.get(tag) for tag in ("train_return", "train_ep_len"))
    if run.config is None or returns is None or lengths is None or not run.env_id:
        return
    if not np.array_equal(returns.steps, lengths.steps):
        yield "train_return and train_ep_len are not logged at the same steps"
        return
    limit = known_tasks()[run.env_id].max_episode_steps
    reached = returns.values + lengths.values
    if ((lengths.values > limit) | ~np.isin(reached, (0.0, 1.0))).any():
        yield "train_return is not that of train_ep_len"
    # Logs may be thinned, so episodes may lie further apart than their length, never closer.
    elif (np.diff(returns.steps) < lengths.values[1:]).any():
        yield "episodes of training end closer to each other than they last"


_CHECKS: tuple[Callable[[Run], Iterator[str]], ...] = (
    _tags, _evaluations, _scores, _grid, _clock, _config, _summary, _dataset, _episodes,
)  # fmt: skip
