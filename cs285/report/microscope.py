"""Evaluates the agents of runs exactly, and draws what they have learned beside what is true."""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import numpy.typing as npt

from cs285.analysis import panels
from cs285.analysis.exact import Data, OutputError, evaluate
from cs285.analysis.maps import Maps, RunMaps, best_of, counts_of, density_of, maps_of
from cs285.analysis.panels import CURVES, described, limits_of
from cs285.datasets.dataset_files import find_dataset, load_dataset
from cs285.env_configs.base_config import CriticConfig
from cs285.envs.tasks import MazeTask, get_task, known_tasks
from cs285.homework import STAGES, Stage
from cs285.infrastructure.errors import UserError
from cs285.infrastructure.files import prepare_folder, write_atomically
from cs285.infrastructure.palette import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION
from cs285.report import explorer
from cs285.report.plots import Panel, Plot, style
from cs285.results.run_folders import RunFolder
from cs285.training.policies import load_policy
from cs285.training.run_results import RunResult, load_run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["described", "examine", "plots_of", "side_by_side", "write"]

_SNAPSHOT = re.compile(r"agent_step(\d+)\.pt")
_COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
_MAP_INCHES = (3.5, 3.3)
_MOST_EPISODES = 250
"""Simulated episodes where no grid is exact enough; the error of the return says what they leave
open."""


def examine(
    paths: Sequence[Path],
    dataset_dir: Path | None,
    most_moments: int,
    report: Callable[[str], None] = lambda _: None,
) -> list[RunMaps]:
    """Evaluate runs exactly, at the end of training and at the snapshots that they kept.

    Args:
        paths: Run folders, or files of agents within them.
        dataset_dir: The folder with their datasets; None to leave them out.
        most_moments: Largest number of agents of one run; the last one is always among them.
        report: Is called with one line for everything that is missing but not needed.

    Raises:
        UserError: If a run has no agent, cannot be read, or was trained where exact values are not
            known.
    """
    runs = [load_run(path if path.is_dir() else path.parent) for path in map(_existing, paths)]
    names = _names(runs)
    return [
        _examine(path, run, name, dataset_dir, most_moments, report)
        for path, run, name in zip(paths, runs, names, strict=True)
    ]


def _existing(path: Path) -> Path:
    if not path.exists():
        raise UserError(f"{path} does not exist; give run folders, or files of agents within them")
    return path


def _names(runs: Sequence[RunResult]) -> list[str]:
    """Name runs by experiment and seed, and those that share both by folder."""
    names = [f"{run.name}, seed {run.seed}" for run in runs]
    counted = Counter(names)
    return [
        name if counted[name] == 1 else run.folder.resolve().name
        for name, run in zip(names, runs, strict=True)
    ]


def _examine(
    path: Path,
    run: RunResult,
    name: str,
    dataset_dir: Path | None,
    most_moments: int,
    report: Callable[[str], None],
) -> RunMaps:
    task = get_task(str(run.config["env_name"]))
    models = task.models()
    if not isinstance(task, MazeTask) or not models:
        raise UserError(
            f"{path}: its environment {task.env_id} has no exact planner, because the "
            "probabilities of its transitions are not known; those of "
            f"{', '.join(known_tasks())} are"
        )
    data = None if dataset_dir is None else _read_data(run, task, dataset_dir, report)
    discount = float(run.config.get("discount", CriticConfig.model_fields["discount"].default))
    moments: list[Maps] = []
    for step, file in _thinned(_agents(path, run), most_moments):
        policy = load_policy(file)
        # Explorers learn the values of their bonus, which are not those of the task.
        has_values = run.stage is not Stage.EXPLORE and policy.has_values
        values = policy.action_values if has_values else None
        try:
            evaluation = evaluate(
                models, policy, discount=discount, values=values, data=data,
                rng=np.random.default_rng(0), episodes=_MOST_EPISODES,
                chooses=not policy.has_probabilities,
                at_step=policy.at_step if policy.changes else None,
            )  # fmt: skip
        except OutputError as error:
            raise UserError(f"{file} cannot be evaluated: {error}") from error
        moments.append(maps_of(step, evaluation, policy, values))
        best = best_of(evaluation.chain.model, discount)
    return RunMaps(
        name=name,
        maze=task.maze,
        discount=discount,
        best=best,
        density=None if data is None else density_of(task.maze, data),
        counts=None if data is None else counts_of(task.maze, data),
        moments=tuple(moments),
        curves=_curves(run),
    )


def _curves(run: RunResult) -> dict[str, npt.NDArray[np.float64]]:
    """Return what a run logged of its exact results; of its return, what it measured if not."""
    found = {}
    for name, _ in CURVES:
        tags = ("exact/return", "eval_return") if name == "expected_return" else (f"exact/{name}",)
        curve = next((run.curves[tag] for tag in tags if tag in run.curves), None)
        if curve is not None:
            found[name] = np.array([curve.steps, curve.values], dtype=np.float64)
    return found


def _agents(path: Path, run: RunResult) -> list[tuple[int, Path]]:
    """Return the agents that a run kept, with their steps, in the order of training."""
    folder = RunFolder(run.folder)
    last = _length(run)
    if path.is_file():
        named = _SNAPSHOT.fullmatch(path.name)
        return [(int(named[1]) if named else last, path)]
    kept = folder.snapshots()
    if folder.weights.is_file() or not kept:
        # Whatever is wrong with a run without any agent, `load_policy` says it.
        kept[last] = folder.path if not folder.weights.is_file() else folder.weights
    return sorted(kept.items())


def _length(run: RunResult) -> int:
    """Return the steps that a run has taken, or should take if it does not say."""
    if isinstance(steps := run.summary.get("total_steps"), int):
        return steps
    return sum(int(run.config.get(key, 0)) for key in STAGES[run.stage].step_keys)


def _thinned(agents: list[tuple[int, Path]], most: int) -> list[tuple[int, Path]]:
    """Return at most so many agents, evenly spread; the last is always among them."""
    if len(agents) <= most:
        return agents
    return [agents[round(k)] for k in np.linspace(len(agents) - 1, 0, most)][::-1]


def _read_data(
    run: RunResult, task: MazeTask, dataset_dir: Path, report: Callable[[str], None]
) -> Data | None:
    """Return what a run has learned from: its dataset, or what an exploring run collected."""
    seed = run.config.get("dataset_seed")
    name = str(run.config["dataset_name"])
    number = run.seed if seed is None or run.stage is Stage.EXPLORE else int(seed)
    path = find_dataset(dataset_dir, name, number)
    if path is None:
        report(
            f"{run.folder}: there is no dataset {name}_seed{number}.npz in {dataset_dir}, so "
            "nothing is shown of its data; --dataset_dir names the folder"
        )
        return None
    dataset = load_dataset(path, task.env_id)
    return Data(dataset.observations, dataset.actions)


def plots_of(runs: Sequence[RunMaps]) -> list[Plot]:
    """Return a plot for every run, one with all of them side by side, and curves over training."""
    plots = [_plot_of(run, f"run{number}") for number, run in enumerate(runs, 1)]
    if len(runs) > 1:
        title = "Learned and exact values and policies of several runs"
        plots.append(side_by_side(runs, "side_by_side", title, [run.name for run in runs]))
    colours = [_COLOURS[k % len(_COLOURS)] for k in range(len(runs))]
    plots.append(
        Plot(
            "training", "Exact results over training",
            tuple(
                functools.partial(
                    panels.draw_training, runs=runs, colours=colours, name=name, title=title
                )
                for name, title in CURVES
            ),
            len(CURVES),
        )
    )  # fmt: skip
    return plots


def _plot_of(run: RunMaps, name: str) -> Plot:
    limits = limits_of([run])
    maps = run.last
    shown = (
        lambda ax: panels.draw_learned(ax, run, maps, limits),
        lambda ax: panels.draw_exact(ax, run, maps, limits),
        lambda ax: panels.draw_difference(ax, run, maps, limits),
        lambda ax: panels.draw_policy(ax, run, maps, limits),
        lambda ax: panels.draw_data(ax, run),
        lambda ax: panels.draw_occupancy(ax, run, maps),
        lambda ax: panels.draw_errors(ax, run, maps),
        lambda ax: panels.draw_numbers(ax, run, maps),
    )
    return Plot(name, run.name, shown, 4, _MAP_INCHES, has_legend=False)


def side_by_side(runs: Sequence[RunMaps], name: str, title: str, labels: Sequence[str]) -> Plot:
    """Return a plot of several runs with common ranges of colours, one column each.

    Args:
        runs: The runs.
        name: Of the file.
        title: For readers who cannot see it.
        labels: What to call each run.
    """
    limits = limits_of(runs)
    rows = (panels.draw_learned, panels.draw_exact, panels.draw_difference, panels.draw_policy)
    drawn = tuple(
        _labelled(draw, run, limits, label)
        for draw in rows
        for run, label in zip(runs, labels, strict=True)
    )
    return Plot(name, title, drawn, len(runs), _MAP_INCHES, has_legend=False, is_picture=True)


def _labelled(
    draw: Callable[[Axes, RunMaps, Maps, panels.Limits], None],
    run: RunMaps,
    limits: panels.Limits,
    label: str,
) -> Panel:
    def panel(ax: Axes) -> None:
        draw(ax, run, run.last, limits)
        ax.set_title(f"{label}\n{ax.get_title()}")

    return panel


def write(runs: Sequence[RunMaps], out: Path, formats: Sequence[str]) -> list[Path]:
    """Write all figures and the page `explorer.html`; return their paths.

    Args:
        runs: The runs.
        out: The folder to write to.
        formats: Of the figures: `png`, `pdf`.

    Raises:
        UserError: If a file cannot be written.
    """
    prepare_folder(out)
    written = []
    with style():
        for plot in plots_of(runs):
            for file_format in formats:
                content = plot.bytes(file_format)
                path = out / f"{plot.name}.{file_format}"
                write_atomically(path, functools.partial(_fill, content))
                written.append(path)
    page = out / "explorer.html"
    write_atomically(page, functools.partial(_fill, explorer.render(runs).encode()))
    return [*written, page]


def _fill(content: bytes, file: BinaryIO) -> None:
    file.write(content)
