"""The table of results: one line per experiment, from the summaries of finished runs."""

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from statistics import mean, stdev
from typing import NamedTuple

from pydantic import ValidationError

from cs285.envs.tasks import describe_task
from cs285.homework import STAGES, order_of
from cs285.infrastructure.errors import UserError, printable
from cs285.results.run_folders import find_runs
from cs285.results.run_summary import RunStatus, RunSummary


def read_summaries(
    data_dir: Path, since: datetime | None = None
) -> tuple[list[RunSummary], list[str]]:
    """Read the summaries of the run folders `hw5_*` of a folder.

    Args:
        data_dir: Folder of run folders.
        since: Leave out runs that started earlier; without a time zone it is local time.

    Returns:
        The summaries, oldest first, and one line for every run folder without a valid one.

    Raises:
        UserError: If the folder does not exist.
    """
    if not data_dir.is_dir():
        raise UserError(
            f"the folder {data_dir} does not exist; set --data_dir to the folder with the runs"
        )
    since = since.astimezone() if since else None
    summaries, problems = [], []
    for folder in find_runs(data_dir)[0]:
        try:
            summary = folder.read_summary()
        except (OSError, ValidationError) as error:
            # A run adds files to its folder, so the time of the folder shows when it ran.
            if since is None or folder.path.stat().st_mtime >= since.timestamp():
                problems.append(f"{folder}: {_reason(error)}")
        else:
            if since is not None and summary.started.astimezone() < since:
                continue
            if summary.status is RunStatus.FINISHED:
                summaries.append(summary)
            else:
                problems.append(f"{folder}: the run diverged; its numbers are not finite")
    summaries.sort(key=lambda summary: summary.started.astimezone())
    return summaries, [printable(problem) for problem in problems]


def format_results(summaries: Sequence[RunSummary]) -> str:
    """Format summaries, oldest first, as plain text: a table per stage, a line per experiment.

    The seeds of an experiment share a line with their mean and sample standard deviation. If
    several runs have the same seed and number of steps, the last one counts.
    """
    experiments: defaultdict[str, dict[tuple[object, ...], dict[int, RunSummary]]]
    experiments = defaultdict(lambda: defaultdict(dict))
    for run in summaries:
        experiment = (run.env_name, run.algorithm, run.exp_name, run.total_steps)
        experiments[run.script][experiment][run.seed] = run
    tables = []
    for script, stage in STAGES.items():
        lines = [
            [by_seed[seed] for seed in sorted(by_seed)] for by_seed in experiments[script].values()
        ]
        if lines:
            tables.append(f"{stage.title}\n{_format_table(sorted(lines, key=_rank))}")
    return "\n\n".join(tables) or "No finished runs."


class _Column(NamedTuple):
    """A heading, and the cell below it for the runs of one experiment; "" if it is empty."""

    heading: str
    cell: Callable[[list[RunSummary]], str]
    is_number: bool = True


def _format_table(lines: list[list[RunSummary]]) -> str:
    columns = []
    for heading, cell, is_number in _COLUMNS:
        cells = [cell(runs) for runs in lines]
        if any(cells):
            texts = [heading, *(text or "-" for text in cells)]
            width = max(map(len, texts))
            columns.append([f"{text:{'>' if is_number else '<'}{width}}" for text in texts])
    return "\n".join("  " + "  ".join(row).rstrip() for row in zip(*columns, strict=True))


def _rank(runs: list[RunSummary]) -> tuple[object, ...]:
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


def _average(values: Sequence[float | None], digits: int) -> str:
    numbers = [value for value in values if value is not None]
    if not numbers or len(numbers) < len(values):
        return ""
    spread = f" +- {stdev(numbers):z.{digits}f}" if len(numbers) > 1 else ""
    return f"{mean(numbers):z.{digits}f}{spread}"


def _percent(values: Sequence[float | None]) -> str:
    average = _average([None if value is None else 100 * value for value in values], 0)
    return f"{average} %" if average else ""


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"


_COLUMNS = (
    _Column("environment", lambda runs: runs[0].env_name, is_number=False),
    _Column("algorithm", lambda runs: runs[0].algorithm, is_number=False),
    _Column("experiment", lambda runs: runs[0].exp_name, is_number=False),
    _Column("seeds", lambda runs: " ".join(str(run.seed) for run in runs), is_number=False),
    _Column("steps", lambda runs: str(runs[0].total_steps)),
    _Column("final return", lambda runs: _average([run.final_return for run in runs], 1)),
    _Column("optimum", lambda runs: _average([runs[0].optimal_return], 1)),
    _Column("score", lambda runs: _average([run.normalised_score for run in runs], 2)),
    _Column("coverage", lambda runs: _percent([run.coverage for run in runs])),
    _Column("goals", lambda runs: _average([run.goals_reached for run in runs], 0)),
    # Each run of a program reports the time of the whole program.
    _Column("time", lambda runs: _duration(max(run.wall_time_s for run in runs))),
)


def _reason(error: OSError | ValidationError) -> str:
    if isinstance(error, FileNotFoundError):
        return "no summary.json: the run failed, was stopped or is still running"
    if isinstance(error, OSError):
        return f"summary.json cannot be read: {error.strerror}"
    first = error.errors()[0]
    key = "".join(f" {part}:" for part in first["loc"])
    return f"summary.json is not valid:{key} {first['msg']}"
