"""Results of runs with a log but no summary, such as those of public versions of the homework."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from cs285.envs.tasks import describe_task
from cs285.homework import Stage
from cs285.infrastructure.errors import printable
from cs285.report.collection import LeftOut, collect
from cs285.report.experiments import Run
from cs285.results.event_files import final_episodes_of
from cs285.results.final_returns import final_return_in
from cs285.results.statistics import FINAL_EVALUATIONS, PUBLIC_EPISODES
from cs285.results.summaries import Result, has_only_a_log

_IMPOSSIBLE = 6.0
"""A return this many standard errors above that of the best policy cannot be chance."""
_LEAST_ERROR = 0.4
"""Approximate standard error over 100 episodes of a good policy."""


def read_logs(
    data_dirs: Sequence[Path], since: datetime | None = None
) -> tuple[list[Result], list[str]]:
    """Read the logs of the runs below some folders that have no summary.

    Args:
        data_dirs: The folders.
        since: Leave out runs that started earlier; without a time zone it is local time.

    Returns:
        The results of the runs that evidently finished, oldest first, and a line for each other
        run.

    Raises:
        UserError: If a folder does not exist.
    """
    collection = collect(data_dirs, only=has_only_a_log)
    names = _names(collection.runs)
    results = [_result_of(run, names[run.name]) for run in collection.runs]
    if since is not None:
        earliest = since.astimezone()
        results = [
            result
            for result in results
            if result.started is None or result.started.astimezone() >= earliest
        ]
    results.sort(key=lambda result: result.started.timestamp() if result.started else 0.0)
    return results, [_line(left_out) for left_out in collection.left_out]


def _line(left_out: LeftOut) -> str:
    return printable(f"{left_out.name}: {left_out.reason}")


def _names(runs: Sequence[Run]) -> dict[str, str]:
    """Return the runs' experiment names, with the settings in which equal names differ."""
    namesakes: defaultdict[tuple[object, ...], list[Run]] = defaultdict(list)
    for run in runs:
        namesakes[run.stage, run.env_id, run.algorithm, run.experiment].append(run)
    names = {}
    for group in namesakes.values():
        keys = sorted({key for run in group for key in run.settings})
        differing = [key for key in keys if len({run.settings.get(key) for run in group}) > 1]
        for run in group:
            shown = [f"{key}={run.settings[key]}" for key in differing if key in run.settings]
            names[run.name] = " ".join([run.experiment, *shown])
    return names


def _result_of(run: Run, experiment: str) -> Result:
    task = describe_task(run.env_id)
    reference = task.reference()
    # Public versions evaluate their explorers once, before the first step.
    is_evaluated = "eval_return" in run.curves and run.curves["eval_return"].steps[-1] > 0
    known = final_return_in(run.curves)
    final = known.measured if is_evaluated else None
    scores = None if final is None else task.normalised_score([final])
    episodes = final_episodes_of(run.curves) if is_evaluated else None
    error = known.measured_error if is_evaluated else None
    is_assumed = episodes is None and error is not None
    if is_assumed:
        evaluations = len(run.curves["eval_return"].steps)
        episodes = PUBLIC_EPISODES * min(FINAL_EVALUATIONS, evaluations)
    notes = list(run.notes)
    if reference and final is not None and error is not None:
        above = final - reference.optimal_return
        if above > _IMPOSSIBLE * max(error, _LEAST_ERROR):
            notes.append(
                f"its final return is {above:.1f} above that of the best policy, far more than "
                "chance allows: perhaps another environment, or returns counted differently"
            )
    started = None
    with suppress(ValueError):
        started = datetime.strptime(run.started, "%Y-%m-%d %H:%M").astimezone()
    is_explored = "coverage" in run.curves
    return Result(
        script=run.stage,
        exp_name=printable(experiment),
        env_name=run.env_id,
        algorithm=run.algorithm,
        name=run.name,
        seed=run.seed,
        total_steps=run.steps,
        started=started,
        wall_time_s=run.wall_time_s,
        final_return=final,
        error=error,
        exact_return=known.exact if final is not None and run.stage is not Stage.EXPLORE else None,
        exact_error=known.exact_error,
        episodes=episodes,
        are_assumed=is_assumed,
        optimal_return=reference.optimal_return if reference and final is not None else None,
        normalised_score=None if scores is None else float(scores[0]),
        coverage=run.curves["coverage"].last if is_explored else None,
        goals_reached=int(run.curves["goals_reached"].last)
        if "goals_reached" in run.curves
        else None,
        notes=tuple(map(printable, notes)),
    )
