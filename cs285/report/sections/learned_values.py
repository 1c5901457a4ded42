"""What agents have learned beside what is true, in one environment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cs285.analysis.maps import RunMaps
from cs285.envs.tasks import MazeTask
from cs285.homework import Stage, title_of
from cs285.infrastructure.errors import UserError
from cs285.infrastructure.palette import signed
from cs285.report import microscope, parts
from cs285.report.collection import Collection, Experiment, Run, by_environment, plain
from cs285.report.sections import Section, comparisons, register
from cs285.results.run_folders import RunFolder

MOST = 3
"""Agents that are shown; more would be too small to see on paper."""


@register(order=75)
def learned_values(collection: Collection) -> list[Section]:
    """Show the agents of one environment; return no section if no run has kept its agent."""
    shown = _examined(_chosen(collection))
    if not shown:
        return []
    runs = [maps for _, maps in shown]
    where = parts.title_of_task(shown[0][0])
    plot = microscope.side_by_side(
        runs, "E_learned_values", "Learned and exact values", [_label(one) for one, _ in shown]
    )
    says = (
        f"Agents of offline learning on {where}, one run of each algorithm: the values that they "
        "have learned; the exact values of their policies, under the same discount; the "
        "difference, orange where the agent is too optimistic; and their policies in black, "
        "the best one in blue, on what one wrong action costs."
    )
    caption = (says, "The script analyse.py shows more of each run.")
    return [
        Section(
            "E", "Learned and exact values", plot, caption,
            tuple(_finding(one, maps) for one, maps in shown), None, (),
        )
    ]  # fmt: skip


def _label(experiment: Experiment) -> str:
    return title_of(experiment.first.algorithm)


def _chosen(collection: Collection) -> list[tuple[Experiment, Run]]:
    """Return the basic experiments with agents in the maze that has most of them, the hardest."""
    experiments = collection.select(Stage.OFFLINE, *comparisons.shown(Stage.OFFLINE))
    best: list[tuple[Experiment, Run]] = []
    for members in by_environment(experiments).values():
        found = [
            (one, run)
            for one in plain(members)
            if isinstance(parts.task_of(one), MazeTask) and (run := _with_agent(one)) is not None
        ]
        if len(found) >= len(best):
            best = found
    return best


def _with_agent(experiment: Experiment) -> Run | None:
    """Return the first run of an experiment that has kept its agent."""
    for run in experiment.runs:
        folder = run.folder and RunFolder(run.folder)
        if folder and folder.weights.is_file() and folder.config.is_file():
            return run
    return None


def _examined(chosen: Sequence[tuple[Experiment, Run]]) -> list[tuple[Experiment, RunMaps]]:
    """Evaluate agents; those that cannot be read are left out, as a report needs only logs."""
    found = []
    for experiment, run in chosen:
        try:
            (maps,) = microscope.examine([run.folder or Path()], None, 1)
        except UserError:
            continue
        found.append((experiment, maps))
    return found[:MOST]


def _finding(experiment: Experiment, maps: RunMaps) -> str:
    numbers = maps.last.numbers
    text = (
        f"{_label(experiment)} has an exact return of {signed(numbers['expected_return'])}, and "
        f"loses {numbers['regret']:z.2f} at the start to the best policy under its discount."
    )
    if (off := numbers.get("overestimation")) is not None:
        direction = "high" if off > 0 else "low"
        text += f" Where it goes, its estimates are {abs(off):.2f} too {direction} on average."
    return text
