"""Pictures of the mazes for reports and for TensorBoard.

Every picture is oriented like the maze's text map: x is column / width to the right, y is row /
height downwards, with row 0 at the top. An observation is (row / height, column / width), so x is
its second entry and y its first. Figures are made without pyplot, which would keep a reference to
each of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from cs285.envs.mazes import coverage, positions_of
from cs285.infrastructure.palette import (
    BLUE,
    GREEN,
    LABEL_SIZE,
    ORANGE,
    PURPLE,
    SKY,
    TITLE_SIZE,
    VERMILION,
    WALL,
    signed,
    thousands,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from cs285.envs.mazes import Maze

    Floats = npt.NDArray[np.floating[Any]]

LINE_COLOURS = (BLUE, VERMILION, PURPLE, ORANGE, SKY, GREEN)
LINE_STYLES = ("solid", (0, (5, 1.5)), (0, (1.5, 1)))
PANEL_INCHES = (5.4, 4.8)


@runtime_checkable
class AuxPlotter(Protocol):
    """An agent that draws pictures itself, such as RND's map of the prediction error."""

    def num_aux_plots(self) -> int:
        """Return the number of axes that `plot_aux` needs."""

    def plot_aux(self, axes: Sequence[Axes]) -> object:
        """Draw in the coordinates of this module: both axes from 0 to 1, y downwards."""


@dataclass(frozen=True)
class MazeDrawing:
    """The pictures of one maze: a `cs285.envs.tasks.Drawing`."""

    maze: Maze

    def exploration(
        self, observations: Floats, agent: object = None, title: str | None = None
    ) -> Figure:
        """Show the visited states next to the agent's own pictures; see `exploration_figure`."""
        return exploration_figure(self.maze, observations, agent, title)

    def trajectories(
        self,
        trajectories: Sequence[Floats],
        returns: Sequence[float],
        *,
        title: str | None = None,
        online_start: int | None = None,
    ) -> Figure:
        """Show the paths of evaluation episodes; see `trajectories_figure`."""
        return trajectories_figure(
            self.maze, trajectories, returns, title=title, online_start=online_start
        )


def coverage_figure(maze: Maze, observations: Floats, title: str | None = None) -> Figure:
    """Show every visited state, coloured by the step of the visit, earliest on top.

    Each region therefore has the colour of the step at which it was first reached.

    Args:
        maze: The maze.
        observations: Shape `(N, 2)`, in the order of the visits.
        title: Text above the picture, next to the fraction of free cells visited.
    """
    figure, (ax,) = _panels(1)
    draw_coverage(ax, maze, observations, title or maze.env_id)
    return figure


def aux_figure(maze: Maze, agent: AuxPlotter) -> Figure:
    """Show the agent's own pictures, with the walls' edges, the start and the goal on top."""
    figure, axes = _panels(agent.num_aux_plots())
    _draw_aux(axes, maze, agent)
    return figure


def exploration_figure(
    maze: Maze, observations: Floats, agent: object = None, title: str | None = None
) -> Figure:
    """Show the visited states next to the agent's own pictures, if it has any.

    Args:
        maze: The maze.
        observations: Shape `(N, 2)`, in the order of the visits.
        agent: Any agent; only one with `num_aux_plots` and `plot_aux` adds pictures.
        title: Text above the visited states, next to the fraction of free cells visited.
    """
    plotter = agent if isinstance(agent, AuxPlotter) else None
    figure, (ax, *aux_axes) = _panels(1 + (plotter.num_aux_plots() if plotter else 0))
    draw_coverage(ax, maze, observations, title or maze.env_id)
    if plotter:
        _draw_aux(aux_axes, maze, plotter)
    return figure


def trajectories_figure(
    maze: Maze,
    trajectories: Sequence[Floats],
    returns: Sequence[float],
    *,
    title: str | None = None,
    online_start: int | None = None,
) -> Figure:
    """Show the paths of evaluation episodes; a cross marks where one ended without the goal.

    Args:
        maze: The maze.
        trajectories: Observations of each episode, shapes `(T_i, 2)`, including the first one.
        returns: The return of each episode; the title gives their mean.
        title: Text above the picture.
        online_start: The step at which online training began, if any; the title mentions it.
    """
    figure, (ax,) = _panels(1)
    draw_maze(ax, maze)
    styles = cycle((colour, style) for style in LINE_STYLES for colour in LINE_COLOURS)
    for observations, (colour, style) in zip(trajectories, styles, strict=False):
        y, x = np.transpose(observations)
        ax.plot(x, y, color=colour, linestyle=style, linewidth=1.6, alpha=0.85, zorder=2.5)
        reached = math.dist(positions_of(maze, observations[-1]), maze.goal) < maze.goal_radius
        ax.plot(
            x[-1], y[-1], marker="o" if reached else "X", markersize=5 if reached else 9,
            color=colour, markeredgecolor="white", markeredgewidth=0.8, zorder=4.5,
        )  # fmt: skip
    lines = [
        title or maze.env_id,
        f"mean return {signed(float(np.mean(returns)))} over {len(returns)} episodes",
    ]
    if online_start is not None:
        lines[1] += f", online since step {online_start:,}"
    ax.set_title("\n".join(lines), fontsize=TITLE_SIZE)
    return figure


def draw_maze(ax: Axes, maze: Maze, *, outline: bool = False, fill_goal: bool = True) -> None:
    """Draw walls, start (S) and goal (G with its disc), and fix the axes to the maze.

    Args:
        ax: Axes for this maze alone.
        maze: The maze.
        outline: Draw only the edges of the walls, on top of a map that also covers wall cells.
        fill_goal: Tint the goal's disc, unless there is a map below it.
    """
    from matplotlib.colors import ListedColormap, to_rgba
    from matplotlib.patches import Ellipse

    if outline:
        _draw_wall_edges(ax, maze)
    else:
        walls = np.ma.masked_where(~maze.walls, maze.walls)
        # Browsers would blur the few pixels of this picture if it were not drawn finer.
        ax.imshow(
            walls, extent=(0, 1, 1, 0), cmap=ListedColormap([WALL]), interpolation="nearest",
            zorder=2,
        )  # fmt: skip
    (start_y, start_x), (goal_y, goal_x) = maze.start / maze.scale, maze.goal / maze.scale
    height, width = 2 * maze.goal_radius / maze.scale
    fill = to_rgba(GREEN, 0.3 if fill_goal and not outline else 0)
    ax.add_patch(
        Ellipse(
            (goal_x, goal_y), width, height, facecolor=fill, edgecolor=GREEN, lw=1.8, zorder=2.2
        )
    )
    for x, y, letter, colour in ((start_x, start_y, "S", BLUE), (goal_x, goal_y, "G", GREEN)):
        ax.text(
            x, y, letter,
            ha="center", va="center_baseline", fontsize=9, fontweight="bold", color="white",
            bbox={"boxstyle": "circle,pad=0.25", "facecolor": colour, "edgecolor": "white"},
            zorder=5,
        )  # fmt: skip
    ax.set(xlim=(0, 1), ylim=(1, 0), xticks=[], yticks=[], aspect=maze.height / maze.width)
    for spine in ax.spines.values():
        spine.set(color=WALL, linewidth=2, zorder=3)


def draw_coverage(ax: Axes, maze: Maze, observations: Floats, title: str) -> None:
    """Draw what `coverage_figure` shows."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    draw_maze(ax, maze)
    # Drawn from last to first, so that the first visit to a place stays visible.
    steps = np.arange(1, len(observations) + 1)[::-1]
    y, x = np.transpose(observations[::-1])
    # Without the palest tenth of the colour map, which is hard to see on a white background.
    colours = ListedColormap(colormaps["plasma"](np.linspace(0, 0.9, 256)))
    points = ax.scatter(x, y, c=steps, s=5, linewidths=0, cmap=colours, vmin=0, zorder=1)
    bar = ax.figure.colorbar(points, ax=ax, shrink=0.9, format=lambda step, _: thousands(step))
    bar.set_label("Step of the first visit", fontsize=LABEL_SIZE)
    visited = coverage(maze, positions_of(maze, observations))
    ax.set_title(f"{title}\n{visited:.0%} of free cells visited", fontsize=TITLE_SIZE)


def _draw_aux(axes: Sequence[Axes], maze: Maze, agent: AuxPlotter) -> None:
    agent.plot_aux(axes)
    for ax in axes:
        draw_maze(ax, maze, outline=True)


def _draw_wall_edges(ax: Axes, maze: Maze) -> None:
    """Draw the lines between wall cells and free cells, white on black to stand out everywhere."""
    from matplotlib.collections import LineCollection

    rows, cols = np.nonzero(maze.walls[1:] != maze.walls[:-1])
    across = [((col, row + 1), (col + 1, row + 1)) for row, col in zip(rows, cols, strict=True)]
    rows, cols = np.nonzero(maze.walls[:, 1:] != maze.walls[:, :-1])
    down = [((col + 1, row), (col + 1, row + 1)) for row, col in zip(rows, cols, strict=True)]
    edges = np.divide(across + down, (maze.width, maze.height)).tolist()
    for colour, width in (("black", 2.6), ("white", 1.2)):
        lines = LineCollection(edges, colors=colour, linewidths=width, capstyle="round", zorder=3)
        ax.add_collection(lines, autolim=False)


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    width, height = PANEL_INCHES
    # Spaced, so that a colour bar's label does not look like the label of the next panel's axis.
    layout = ConstrainedLayoutEngine(wspace=0.06)
    figure = Figure(figsize=(count * width, height), layout=layout)
    return figure, list(figure.subplots(1, count, squeeze=False)[0])
