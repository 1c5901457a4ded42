"""Panels of the figures that show what an agent has learned, and what is true of its policy.

Every panel is drawn in the coordinates of `cs285.envs.maze_figures`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cs285.analysis.maps import Maps, RunMaps
from cs285.envs.dynamics import MOVES
from cs285.envs.maze_figures import draw_maze
from cs285.envs.mazes import FloatArray
from cs285.infrastructure.palette import GREY, INK, SKY, VERMILION, thousands

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

SMALL = 8
VALUE_COLOURS, DIFFERENCE_COLOURS = "viridis", "PuOr_r"
DENSITY_COLOURS, LOSS_COLOURS = "YlGnBu", "Oranges"
DECADES = 4
"""Powers of ten below the largest density that differ in colour."""
ARROWS = 16
"""Arrows along the longer side of a maze with smaller cells than this needs."""
DIFFERENT = 0.02
"""Loss from which on an action counts as worse than the best one: the error of grids."""


@dataclass(frozen=True)
class Limits:
    """Ranges of colours; runs that are compared share them."""

    values: tuple[float, float]
    difference: float
    loss: float


def limits_of(runs: Sequence[RunMaps]) -> Limits:
    """Return ranges that suit the final agents of all runs.

    Estimates that are off by more than the range of all true values get the colour of its ends.
    """
    exact = np.concatenate([run.last.values.ravel() for run in runs])
    low, high = float(np.nanmin(exact)), float(np.nanmax(exact))
    span = max(high - low, 1.0)
    apart = 1.0
    for run in runs:
        learned, difference = run.last.largest_learned, run.last.difference
        if learned is not None and difference is not None:
            low = min(low, max(float(np.nanpercentile(learned, 2)), low - span))
            high = max(high, min(float(np.nanpercentile(learned, 98)), high + span))
            apart = max(apart, min(float(np.nanpercentile(np.abs(difference), 98)), span))
    loss = max(0.1, *(float(np.nanpercentile(run.loss(run.last), 98)) for run in runs))
    return Limits((low, high), apart, loss)


def draw_learned(ax: Axes, run: RunMaps, maps: Maps, limits: Limits) -> None:
    """Show `max_a Qhat`."""
    if maps.largest_learned is None:
        _say(ax, run, "This agent estimates\nno values of the task.")
    else:
        _draw_field(ax, run, maps.largest_learned, VALUE_COLOURS, limits.values)
    ax.set_title("Learned max Q\N{COMBINING CIRCUMFLEX ACCENT}")


def draw_exact(ax: Axes, run: RunMaps, maps: Maps, limits: Limits) -> None:
    """Show the policy's values."""
    _draw_field(ax, run, maps.values, VALUE_COLOURS, limits.values)
    ax.set_title("Exact V of its policy")


def draw_difference(ax: Axes, run: RunMaps, maps: Maps, limits: Limits) -> None:
    """Show `max_a Qhat - V`."""
    if maps.difference is None:
        _say(ax, run, "Nothing to compare")
    else:
        bounds = (-limits.difference, limits.difference)
        _draw_field(ax, run, maps.difference, DIFFERENCE_COLOURS, bounds)
    ax.set_title("Learned \N{MINUS SIGN} exact")


def draw_data(ax: Axes, run: RunMaps) -> None:
    """Show where the data is: transitions per unit area, on a logarithmic scale."""
    if run.density is None:
        _say(ax, run, "The dataset\nis not here.")
    else:
        per_unit = len(run.density) // run.maze.height
        _draw_density(ax, run, run.density * per_unit**2)
    ax.set_title("Data per cell")


def draw_occupancy(ax: Axes, run: RunMaps, maps: Maps) -> None:
    """Show where the policy is: expected steps of an episode per unit area."""
    per_unit = len(maps.occupancy) // run.maze.height
    _draw_density(ax, run, maps.occupancy * per_unit**2)
    ax.set_title("Steps per episode")


def draw_policy(ax: Axes, run: RunMaps, maps: Maps, limits: Limits) -> None:
    """Show the mean move of the policy beside that of the best one, on what its choices lose."""
    _draw_field(ax, run, run.loss(maps), LOSS_COLOURS, (0.0, limits.loss))
    best = np.eye(run.best.shape[-1])[np.nan_to_num(run.best).argmax(axis=-1)]
    for policy, colour, width in ((best, SKY, 0.0075), (maps.policy, INK, 0.0032)):
        _draw_arrows(ax, run, policy, colour, width)
    ax.set_title("Policy (black), best (blue)")


def draw_errors(ax: Axes, run: RunMaps, maps: Maps) -> None:
    """Show the error of every cell and action against its visits in the data."""
    from matplotlib.ticker import LogLocator, NullFormatter

    errors = run.errors(maps)
    if errors is None or run.counts is None:
        ax.set_axis_off()
        missing = "estimates" if errors is None else "dataset"
        ax.text(0.5, 0.5, f"no {missing}", ha="center", va="center", color=GREY)
    else:
        free = ~run.maze.walls
        visits, error = run.counts[free].ravel().astype(float), errors[free].ravel()
        is_visited = np.repeat(run.visits(maps)[free] >= OFTEN, run.counts.shape[-1])
        unseen = 0.4  # between no visit and one, on a logarithmic axis
        x = np.where(visits == 0, unseen, visits)
        for own, colour, label in ((~is_visited, GREY, "rarely"), (is_visited, VERMILION, "often")):
            ax.scatter(x[own], error[own], s=7, color=colour, alpha=0.45, linewidths=0, label=label)
        edges, medians = _medians(visits, error)
        ax.plot(np.where(edges == 0, unseen, edges), medians, "o-", color=INK, ms=4, lw=1.4)
        ax.set(xscale="log", yscale="log", xlabel="Transitions, by cell and action",
               ylabel="RMS of Q\N{COMBINING CIRCUMFLEX ACCENT} \N{MINUS SIGN} Q")  # fmt: skip
        ticks = [unseen, *(10.0**k for k in range(int(math.log10(max(10, visits.max()))) + 1))]
        ax.set_xticks(ticks, ["0", *(thousands(tick) for tick in ticks[1:])])
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        ax.yaxis.set_minor_formatter(NullFormatter())
        ax.legend(frameon=False, fontsize=SMALL, title="its policy is there", title_fontsize=SMALL,
                  markerscale=2, handletextpad=0.2)  # fmt: skip
    ax.set_title("Error against visits")


OFTEN = 0.01
"""Expected steps in a cell per episode from which on a policy is there often."""


def _medians(visits: FloatArray, errors: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the median of the visits and of the errors: of no visits, then by powers of three."""
    bins = np.where(visits == 0, -1, np.floor(np.log(np.maximum(visits, 1)) / np.log(3)))
    groups = [bins == number for number in np.unique(bins)]
    return (
        np.array([np.median(visits[group]) for group in groups]),
        np.array([np.median(errors[group]) for group in groups]),
    )


def draw_numbers(ax: Axes, run: RunMaps, maps: Maps) -> None:
    """List the results in numbers."""
    ax.set_axis_off()
    lines = [(label, text) for label, text in described(maps)]
    lines.insert(0, ("discount", f"{run.discount:g}"))
    for row, (label, text) in enumerate(lines):
        y = 0.97 - row * 0.105
        ax.text(0.0, y, label, transform=ax.transAxes, va="top", fontsize=9, color=GREY)
        ax.text(1.0, y, text, transform=ax.transAxes, va="top", ha="right", fontsize=9)
    ax.set_title("In numbers")


def described(maps: Maps) -> list[tuple[str, str]]:
    """Return the results of an agent as pairs of a label and a number in words."""
    numbers = maps.numbers
    found = [("step", f"{maps.step:,}"), ("exact return", f"{numbers['expected_return']:z.2f}")]
    for name, label, form in (
        ("regret", "regret at the start", "z.2f"),
        ("overestimation", "overestimation", "+.2f"),
        ("q_error", "error on the data", ".2f"),
        ("q_error_occupancy", "error on its path", ".2f"),
        ("unseen", "visits without data", ".0%"),
        ("shift", "distance from the data", ".2f"),
    ):
        if name in numbers:
            found.append((label, format(numbers[name], form)))
    return [(label, text.replace("-", "\N{MINUS SIGN}")) for label, text in found]


CURVES = (
    ("expected_return", "Exact return"),
    ("overestimation", "Overestimation"),
    ("q_error", "RMS error on the data"),
    ("shift", "Distance from the data"),
)
"""What the curves over training show."""


def draw_training(
    ax: Axes, runs: Sequence[RunMaps], colours: Sequence[str], name: str, title: str
) -> None:
    """Show how one result of several runs changed over training."""
    for run, colour in zip(runs, colours, strict=True):
        if name in run.curves:
            ax.plot(*run.curves[name], color=colour, lw=1, alpha=0.5)
        points = [(maps.step, maps.numbers[name]) for maps in run.moments if name in maps.numbers]
        if points:
            ax.plot(*zip(*points, strict=True), "o-", color=colour, ms=4.5, lw=1.6, label=run.name)
    if name == "overestimation":
        ax.axhline(0, color=INK, lw=1, linestyle="dashed")
    ax.set(title=title, xlabel="Training step")
    ax.xaxis.set_major_formatter(lambda step, _: thousands(step))


def _draw_field(
    ax: Axes, run: RunMaps, field: FloatArray, colours: str, limits: tuple[float, float]
) -> None:
    from matplotlib import colormaps

    image = ax.imshow(
        field, extent=(0, 1, 1, 0), cmap=colormaps[colours], vmin=limits[0], vmax=limits[1],
        interpolation="nearest", zorder=1,
    )  # fmt: skip
    below, above = np.nanmin(field) < limits[0], np.nanmax(field) > limits[1]
    extend = {(False, False): "neither", (True, False): "min", (False, True): "max"}
    _add_bar(ax, image, extend.get((bool(below), bool(above)), "both"))
    draw_maze(ax, run.maze, fill_goal=False)


def _draw_density(ax: Axes, run: RunMaps, field: FloatArray) -> None:
    from matplotlib import colormaps
    from matplotlib.colors import LogNorm

    top = max(float(np.nanmax(field)), 1e-9)
    norm = LogNorm(vmin=top / 10**DECADES, vmax=top, clip=False)
    shown = np.ma.masked_where(~(field > 0), field)
    image = ax.imshow(
        shown, extent=(0, 1, 1, 0), cmap=colormaps[DENSITY_COLOURS], norm=norm,
        interpolation="nearest", zorder=1,
    )  # fmt: skip
    _add_bar(ax, image, "min" if shown.min() < top / 10**DECADES else "neither")
    draw_maze(ax, run.maze, fill_goal=False)


def _add_bar(ax: Axes, image: AxesImage, extend: str) -> None:
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import NullFormatter

    bar = ax.figure.colorbar(image, ax=ax, shrink=0.85, pad=0.02, extend=extend)
    bar.ax.tick_params(labelsize=SMALL)
    bar.outline.set_visible(False)
    if isinstance(image.norm, LogNorm):
        # Formulas, which these ticks would be, are not set in this style.
        bar.ax.yaxis.set_major_formatter(lambda value, _: thousands(value))
        bar.ax.yaxis.set_minor_formatter(NullFormatter())


def _draw_arrows(ax: Axes, run: RunMaps, policy: FloatArray, colour: str, width: float) -> None:
    """Draw one arrow per cell, or several in small mazes; a dot where the mean move is none."""
    maze = run.maze
    per_unit = len(policy) // maze.height
    count = max(1, ARROWS // max(maze.height, maze.width))
    step = per_unit // count
    rows, columns = np.meshgrid(
        *(np.arange(step // 2, size, step) for size in policy.shape[:2]), indexing="ij"
    )
    free = ~maze.walls[rows // per_unit, columns // per_unit]
    rows, columns = rows[free], columns[free]
    centres = (np.stack([rows, columns], axis=1) + 0.5) / per_unit
    moves = policy[rows, columns] @ MOVES
    moves[np.abs(moves) < DIFFERENT] = 0
    still = (moves == 0).all(axis=1)
    y, x = (centres / maze.scale).T
    dy, dx = (moves * 0.8 / count / maze.scale).T
    ax.quiver(
        x[~still], y[~still], dx[~still], dy[~still], angles="xy", scale_units="xy", scale=1,
        pivot="mid", color=colour, width=width, headwidth=3.2, headlength=3.2, headaxislength=3,
        zorder=2.4,
    )  # fmt: skip
    ax.scatter(x[still], y[still], s=width * 2_500, color=colour, linewidths=0, zorder=2.4)


def _say(ax: Axes, run: RunMaps, text: str) -> None:
    draw_maze(ax, run.maze)
    ax.text(0.5, 0.5, text, ha="center", va="center", color=GREY, zorder=6,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85})  # fmt: skip
