"""The table of results: one line per experiment, from its finished runs."""

import math
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import mean, stdev
from typing import NamedTuple

from pydantic import ValidationError

from cs285.envs.tasks import describe_task
from cs285.homework import STAGES, Stage, order_of
from cs285.infrastructure.errors import UserError, printable
from cs285.results.event_files import final_episodes_of, final_error_of
from cs285.results.final_returns import FinalReturn, Kind, comparable
from cs285.results.run_folders import RunFolder, find_runs
from cs285.results.run_summary import RunStatus, RunSummary
from cs285.results.statistics import with_error

PLUS_MINUS = "\N{PLUS-MINUS SIGN}"
_CURVES = ("eval_return", "eval/return_std", "eval/episodes")


@dataclass(frozen=True)
class Result:
    """What one run achieved; None for what is not known or does not apply."""

    script: Stage
    exp_name: str
    env_name: str
    algorithm: str
    name: str
    """The run's folder, which is unique."""
    seed: int | None
    total_steps: int
    started: datetime | None = None
    wall_time_s: float | None = None
    final_return: float | None = None
    error: float | None = None
    """Standard error of the final return, over its episodes."""
    exact_return: float | None = None
    """Expected return of the last policy, if the run computed it."""
    exact_error: float | None = None
    """How far off that may be."""
    episodes: int | None = None
    """Number of episodes that the final return averages over."""
    are_assumed: bool = False
    """Whether that number is assumed, since public versions do not log it."""
    optimal_return: float | None = None
    normalised_score: float | None = None
    """Score of `final_return`."""
    coverage: float | None = None
    goals_reached: int | None = None
    notes: tuple[str, ...] = ()
    """Unusual properties of the run's log."""

    @property
    def returned(self) -> FinalReturn:
        """Its final return, of both kinds."""
        return FinalReturn(self.final_return, self.error, self.exact_return, self.exact_error)


def read_summaries(
    data_dirs: Path | Sequence[Path], since: datetime | None = None
) -> tuple[list[Result], list[str]]:
    """Read the summaries of the runs below some folders.

    Runs with a log but no summary, such as those of public versions, are not read here.

    Args:
        data_dirs: The folders, or one.
        since: Leave out runs that started earlier; without a time zone it is local time.

    Returns:
        The results, oldest first, and one line for every run folder that has neither a valid
        summary nor a log.

    Raises:
        UserError: If a folder does not exist.
    """
    since = since.astimezone() if since else None
    results, problems = [], []
    for folder in all_runs(data_dirs):
        try:
            summary = folder.read_summary()
        except (OSError, ValidationError) as error:
            # A run adds files to its folder, so the time of the folder shows when it ran.
            is_recent = since is None or folder.path.stat().st_mtime >= since.timestamp()
            if is_recent and not has_only_a_log(folder):
                problems.append(f"{folder}: {_reason(error)}")
        else:
            if since is not None and summary.started.astimezone() < since:
                continue
            if summary.status is RunStatus.FINISHED:
                results.append(_result_of(folder, summary))
            else:
                problems.append(f"{folder}: the run diverged; its numbers are not finite")
    results.sort(key=_started)
    return results, [printable(problem) for problem in problems]


def all_runs(data_dirs: Path | Sequence[Path]) -> list[RunFolder]:
    """Return the run folders below some folders, each once.

    Raises:
        UserError: If a folder does not exist.
    """
    found: dict[Path, RunFolder] = {}
    for data_dir in [data_dirs] if isinstance(data_dirs, Path) else data_dirs:
        if not data_dir.is_dir():
            raise UserError(
                f"the folder {data_dir} does not exist; set --data_dir to the folder with the runs"
            )
        for folder in find_runs(data_dir)[0]:
            found.setdefault(folder.path.resolve(), folder)
    return list(found.values())


def has_only_a_log(folder: RunFolder) -> bool:
    """Return whether a run has event files but no summary."""
    try:
        return not folder.has_ended and bool(folder.event_files())
    except OSError:
        return False


def _result_of(folder: RunFolder, summary: RunSummary) -> Result:
    try:
        curves = folder.read_log(_CURVES).curves
    except OSError:
        curves = {}
    is_learning = summary.script is not Stage.EXPLORE
    return Result(
        script=summary.script,
        exp_name=summary.exp_name,
        env_name=summary.env_name,
        algorithm=summary.algorithm,
        name=str(folder),
        seed=summary.seed,
        total_steps=summary.total_steps,
        started=summary.started,
        wall_time_s=summary.wall_time_s,
        final_return=summary.final_return,
        error=final_error_of(curves),
        exact_return=summary.exact_return if is_learning else None,
        exact_error=summary.exact_return_error if is_learning else None,
        episodes=final_episodes_of(curves),
        optimal_return=summary.optimal_return,
        normalised_score=summary.normalised_score
        if summary.exact_return is None
        else _score_of(summary.env_name, summary.final_return),
        coverage=summary.coverage,
        goals_reached=summary.goals_reached,
    )


def _started(result: Result) -> float:
    return result.started.astimezone().timestamp() if result.started else 0.0


def format_results(results: Sequence[Result]) -> str:
    """Format results, oldest first, as plain text: a table per stage, a line per experiment.

    Each line shows the means over the runs of an experiment. If several runs have the same seed and
    number of steps, the last one counts; runs whose seed is not known all count. Numbers after ±
    are standard errors: of one run over its episodes; of several over runs, or over episodes if
    that is larger.
    """
    stages = _lines(results)
    has_both_kinds = len(_kinds(results)) > 1
    columns = [column for column in _COLUMNS if has_both_kinds or column is not _KIND]
    tables = [
        f"{STAGES[script].title}\n{_format_table(sorted(lines, key=_rank), columns)}"
        for script, lines in stages.items()
    ]
    return "\n\n".join(tables) or "No finished runs."


def _kind(runs: Sequence[Result]) -> Kind | None:
    """Return which kind of final return a line shows; None if it shows none."""
    returns = comparable([run.returned for run in runs])
    return None if any(one.value is None for one in returns) else returns[0].kind


def _kinds(results: Sequence[Result]) -> set[Kind]:
    """Return the kinds of final returns that the lines show."""
    lines = [runs for stage in _lines(results).values() for runs in stage]
    return {kind for runs in lines if (kind := _kind(runs))}


def explain_returns(results: Sequence[Result]) -> str:
    """Say which kinds of final returns the tables show; empty if they show none."""
    meanings = {
        Kind.EXACT: "the expected return of the last policy, computed (docs/exact.md)",
        Kind.MEASURED: "the mean of the last evaluation episodes, where a run computed no "
        "exact return",
    }
    kinds = sorted(_kinds(results))
    said = "; ".join(f"{kind}: {meanings[kind]}" for kind in kinds)
    return f"Final returns are {' or '.join(kinds)}. {said[0].upper()}{said[1:]}." if kinds else ""


def explain_errors(results: Sequence[Result]) -> str:
    """Return an explanation of the numbers after ±; empty if there are none."""
    lines = [runs for stage in _lines(results).values() for runs in stage]
    if not any(len(runs) > 1 or runs[0].error is not None for runs in lines):
        return ""
    text = (
        f"After {PLUS_MINUS}: the standard error, of one run over its evaluation episodes, of "
        "several over runs, or over episodes if that is larger."
    )
    if Kind.EXACT in _kinds(results):
        text += " Of one exact return it is how far off that may be."
    if any(run.are_assumed for run in results):
        text += " ~: public versions do not log the number of episodes; 10 each are assumed."
    return text


def _lines(results: Sequence[Result]) -> dict[Stage, list[list[Result]]]:
    """Return the runs of every line, by stage."""
    experiments: defaultdict[Stage, dict[tuple[object, ...], dict[object, Result]]]
    experiments = defaultdict(lambda: defaultdict(dict))
    for run in results:
        experiment = (run.env_name, run.algorithm, run.exp_name, run.total_steps)
        unit = run.name if run.seed is None else run.seed
        experiments[run.script][experiment][unit] = run
    return {
        script: [
            sorted(units.values(), key=lambda run: (run.seed is None, run.seed or 0, run.name))
            for units in experiments[script].values()
        ]
        for script in STAGES
        if script in experiments
    }


class _Column(NamedTuple):
    """A heading, and the function that returns an experiment's cell below it; "" if it is empty."""

    heading: str
    cell: Callable[[list[Result]], str]
    is_number: bool = True


def _format_table(lines: list[list[Result]], shown: Sequence[_Column]) -> str:
    columns = []
    for heading, cell, is_number in shown:
        cells = [cell(runs) for runs in lines]
        if any(cells):
            texts = [heading, *(text or "-" for text in cells)]
            width = max(map(len, texts))
            columns.append([f"{text:{'>' if is_number else '<'}{width}}" for text in texts])
    return "\n".join("  " + "  ".join(row).rstrip() for row in zip(*columns, strict=True))


def _rank(runs: list[Result]) -> tuple[object, ...]:
    """Order by difficulty, algorithm and name."""
    run = runs[0]
    return (
        describe_task(run.env_name).rank,
        run.env_name,
        order_of(run.algorithm),
        natural_key(run.exp_name),
        run.total_steps,
    )


def natural_key(name: str) -> list[str | float]:
    """Return a key that sorts the numbers in names by value: alpha2 before alpha10."""
    parts = re.split(r"(\d+(?:\.\d+)?)", name)
    return [float(part) if index % 2 else part for index, part in enumerate(parts)]


class _Mean(NamedTuple):
    """A mean, and its standard error if it is known."""

    value: float
    error: float | None


def _mean_of(values: Sequence[float | None], errors: Sequence[float | None] = ()) -> _Mean | None:
    """Return the mean of some runs; None if a run has no value.

    Args:
        values: One per run.
        errors: Their standard errors over episodes.
    """
    numbers = [value for value in values if value is not None]
    if not numbers or len(numbers) < len(values):
        return None
    known = [error for error in errors if error is not None]
    spreads = [math.hypot(*known) / len(known)] if len(known) == len(numbers) else []
    if len(numbers) > 1:
        spreads.append(stdev(numbers) / math.sqrt(len(numbers)))
    return _Mean(mean(numbers), max(spreads, default=None))


def _average(
    values: Sequence[float | None], digits: int, errors: Sequence[float | None] = ()
) -> str:
    found = _mean_of(values, errors)
    return with_error(found.value, found.error, digits) if found else ""


def _score_of(env_id: str, value: float | None) -> float | None:
    scores = None if value is None else describe_task(env_id).normalised_score([value])
    return None if scores is None else float(scores[0])


def _return(runs: list[Result]) -> str:
    returns = comparable([run.returned for run in runs])
    return _average([one.value for one in returns], 1, [one.error for one in returns])


def _score(runs: list[Result]) -> str:
    returns = comparable([run.returned for run in runs])
    scores = [
        _score_of(run.env_name, one.value) if one.is_exact else run.normalised_score
        for run, one in zip(runs, returns, strict=True)
    ]
    reference = describe_task(runs[0].env_name).reference()
    span = None if reference is None else reference.optimal_return - reference.random_return
    errors = [None if one.error is None or span is None else one.error / span for one in returns]
    found = _mean_of(scores, errors)
    if found is None:
        return ""
    # No policy is better than the best one; luck can make it look so, and the error shows that.
    if found.value > 1 and found.error is None:
        return f"{1:.2f} {PLUS_MINUS} ?"
    return with_error(found.value, found.error, 2)


def _seeds(runs: list[Result]) -> str:
    known = [str(run.seed) for run in runs if run.seed is not None]
    others = len(runs) - len(known)
    if others:
        known.append(f"{others} run{'s' * (others != 1)}")
    return " ".join(known)


def _episodes(runs: list[Result]) -> str:
    if comparable([run.returned for run in runs])[0].is_exact:
        return ""
    numbers = [run.episodes for run in runs if run.episodes is not None]
    if not numbers or len(numbers) < len(runs):
        return ""
    return f"{'~' if any(run.are_assumed for run in runs) else ''}{sum(numbers)}"


def _percent(values: Sequence[float | None]) -> str:
    average = _average([None if value is None else 100 * value for value in values], 0)
    return f"{average} %" if average else ""


def _duration(times: Sequence[float | None]) -> str:
    known = [time for time in times if time is not None]
    if not known:
        return ""
    minutes, seconds = divmod(round(max(known)), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"


_KIND = _Column("return is", lambda runs: _kind(runs) or "", is_number=False)
_COLUMNS = (
    _Column("environment", lambda runs: runs[0].env_name, is_number=False),
    _Column("algorithm", lambda runs: runs[0].algorithm, is_number=False),
    _Column("experiment", lambda runs: runs[0].exp_name, is_number=False),
    _Column("seeds", _seeds, is_number=False),
    _Column("steps", lambda runs: str(runs[0].total_steps)),
    _KIND,
    _Column("final return", _return),
    _Column("episodes", _episodes),
    _Column("best policy", lambda runs: _average([runs[0].optimal_return], 1)),
    _Column("score", _score),
    _Column("coverage", lambda runs: _percent([run.coverage for run in runs])),
    _Column("goals", lambda runs: _average([run.goals_reached for run in runs], 0)),
    # Each run of a program reports the time of the whole program.
    _Column("time", lambda runs: _duration([run.wall_time_s for run in runs])),
)


def _reason(error: OSError | ValidationError) -> str:
    if isinstance(error, FileNotFoundError):
        return "no summary.json and no log: the run failed, or has just begun"
    if isinstance(error, OSError):
        return f"summary.json cannot be read: {error.strerror}"
    first = error.errors()[0]
    key = "".join(f" {part}:" for part in first["loc"])
    return f"summary.json is not valid:{key} {first['msg']}"
