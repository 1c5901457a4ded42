"""Draw the README's pictures that are not part of a report, into docs/images/.

.venv/bin/python tools/readme_pictures.py    # after ./run_hw5.sh, whose datasets it reads
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cs285.datasets.dataset_files import dataset_path, load_dataset
from cs285.envs.maze_figures import draw_coverage, draw_maze
from cs285.envs.mazes import MAZES, Maze
from cs285.envs.planner import plan
from cs285.results.figures import save_png

IMAGES = Path(__file__).parent.parent / "docs/images"
PANEL_INCHES = 3.4


def panels(count: int) -> tuple[Figure, list[Any]]:
    """Make a row of square panels."""
    size = (count * PANEL_INCHES, PANEL_INCHES)
    figure = Figure(figsize=size, layout="constrained")
    return figure, list(figure.subplots(1, count))


def mazes() -> Figure:
    """Show every maze, coloured by the best policy's expected return from each point."""
    figure, axes = panels(len(MAZES))
    for ax, maze in zip(axes, MAZES.values(), strict=True):
        best = plan(maze.env_id)
        values = np.ma.masked_invalid(best.values[0])
        image = ax.imshow(values, extent=(0, 1, 1, 0), cmap="viridis", zorder=1)
        figure.colorbar(image, ax=ax, shrink=0.8, ticks=MaxNLocator(6, integer=True))
        draw_maze(ax, maze)
        name = maze.env_id.removeprefix("Pointmass").removesuffix("-v0")
        ax.set_title(f"{name}: {best.optimal_return:.1f} from S", fontsize=11)
    return figure


def exploration(maze: Maze) -> Figure:
    """Show where random actions and RND went in one maze."""
    figure, axes = panels(2)
    for ax, agent in zip(axes, ("random", "rnd"), strict=True):
        path = dataset_path(Path("datasets"), f"pointmass_{maze.name}_{agent}", seed=1)
        states = load_dataset(path, maze.env_id).next_observations
        names = {"random": "Random actions", "rnd": "Random network distillation"}
        draw_coverage(ax, maze, states, names[agent])
    return figure


if __name__ == "__main__":
    IMAGES.mkdir(exist_ok=True)
    save_png(mazes(), IMAGES / "mazes.png")
    save_png(exploration(MAZES["PointmassHard-v0"]), IMAGES / "exploration.png")
