"""Random network distillation: how its prediction error falls with visits.

`docs/lectures.md` explains the figure and the numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from cs285.envs.mazes import Maze, cell_of, get_maze, observe, positions_of
from cs285.infrastructure import pytorch_util as ptu
from cs285.infrastructure.palette import BLUE, GREEN, GREY, INK, VERMILION, thousands
from cs285.lectures.shared.outputs import (
    column,
    percent,
    rounded,
    select,
    spread,
    use_logarithm,
    write,
)
from cs285.lectures.shared.trained import Trained, explored
from cs285.report.plots import Plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FloatArray = npt.NDArray[np.float64]

ENVIRONMENT = "PointmassHard-v0"
SEEDS = (1, 2, 3)
MOMENTS = (150, 1_000, 10_000)
"""Until step 150, nothing has learned."""
POINTS = 6
"""The error of a cell is the mean over so many points along each axis."""
FEW = 0.1
"""Is added to the mean visits around a cell, so that it has a logarithm."""


@dataclass(frozen=True)
class Row:
    """One free cell of the maze at one moment of one exploration.

    Attributes:
        seed: Of the exploration.
        step: Environment steps so far.
        row: Of the cell.
        column: Of the cell.
        visits: Steps that ended in the cell so far.
        around: Mean of the visits of the free cells around it.
        error: Root mean square over the cell of the norm of the prediction error.
    """

    seed: int
    step: int
    row: int
    column: int
    visits: int
    around: float
    error: float


@dataclass(frozen=True)
class Fit:
    """The error of the visited cells at one moment, as a product of powers.

    Attributes:
        alone: Exponent of the visits of a cell, if nothing else is known.
        explained: Share of the variance of the error's logarithm that this explains.
        own: Exponent of the visits of the cell, if those around it are known as well.
        around: Exponent of the visits around it.
        explained_by_both: Share of the variance that both explain.
    """

    alone: float
    explained: float
    own: float
    around: float
    explained_by_both: float


def measure(
    seeds: Sequence[int] = SEEDS, moments: Sequence[int] = MOMENTS, env_id: str = ENVIRONMENT
) -> Iterator[Row]:
    """Explore, and yield the numbers of all cells at all moments."""
    settings = [{"base_config": "rnd", "env_name": env_id, "seed": seed} for seed in seeds]
    for found in explored(settings, moments):
        yield from cells(found, get_maze(env_id))


def cells(found: Trained, maze: Maze) -> Iterator[Row]:
    """Yield the numbers of all free cells at one moment of an exploration."""
    where = cell_of(maze, positions_of(maze, found.dataset.next_observations))
    visits = np.zeros(maze.walls.shape)
    np.add.at(visits, tuple(where.T), 1)
    around = around_of(visits, maze.walls)
    free = np.argwhere(~maze.walls)
    for (row, col), error in zip(free.tolist(), errors(found, maze, free), strict=True):
        counted, near = int(visits[row, col]), float(around[row, col])
        yield Row(found.config.seed, found.step, row, col, counted, near, float(error))


def errors(found: Trained, maze: Maze, free: npt.NDArray[np.intp]) -> FloatArray:
    """Return the root mean square over each cell of the norm of the prediction error `(cells,)`."""
    axis = (np.arange(POINTS) + 0.5) / POINTS
    within = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    points = observe(maze, (free[:, None] + within).reshape(-1, 2))
    with torch.no_grad():
        squares = ptu.to_numpy(found.policy.agent.compute_errors(ptu.from_numpy(points)))
    means: FloatArray = np.sqrt(squares.reshape(len(free), -1).mean(axis=1, dtype=np.float64))
    return means


def around_of(visits: FloatArray, walls: npt.NDArray[np.bool_]) -> FloatArray:
    """Return the mean visits of the up to eight free cells around each cell, of the same shape."""
    total, count = np.zeros(visits.shape), np.zeros(visits.shape)
    padded, free = np.pad(np.where(walls, 0, visits), 1), np.pad(~walls, 1).astype(float)
    height, width = visits.shape
    for down in range(3):
        for right in range(3):
            if (down, right) != (1, 1):
                total += padded[down : down + height, right : right + width]
                count += free[down : down + height, right : right + width]
    return np.asarray(total / np.maximum(count, 1))


def fit(rows: Sequence[Row]) -> Fit:
    """Fit powers of visits to the errors of visited cells, by least squares of logarithms."""
    visited = [row for row in rows if row.visits > 0]
    own, around = np.log(column(visited, "visits")), np.log(column(visited, "around") + FEW)
    wanted = np.log(column(visited, "error"))
    (alone,), explained = _powers([own], wanted)
    (given, near), both = _powers([own, around], wanted)
    return Fit(alone, explained, given, near, both)


def _powers(causes: Sequence[FloatArray], wanted: FloatArray) -> tuple[list[float], float]:
    """Return the coefficients of a linear fit with a constant, and the share that it explains."""
    inputs = np.column_stack([*causes, np.ones(len(wanted))])
    found, *_ = np.linalg.lstsq(inputs, wanted, rcond=None)
    rest = wanted - inputs @ found
    return found[:-1].tolist(), float(1 - rest.var() / wanted.var())


def fits(rows: Sequence[Row], step: int) -> list[Fit]:
    """Return the fit of every seed at one moment."""
    return [fit(select(rows, step=step, seed=seed)) for seed in sorted({row.seed for row in rows})]


def claims(rows: Sequence[Row]) -> list[str]:
    """Return what the page says of the rows."""
    start, early, late = sorted({row.step for row in rows})
    found = fits(rows, late)
    alone, own, around = (spread(column(found, name), ".2f") for name in ("alone", "own", "around"))
    explained, both = (column(found, name).mean() for name in ("explained", "explained_by_both"))
    early_alone = spread(column(fits(rows, early), "alone"), ".2f")
    unseen = [row for row in select(rows, step=early) if row.visits == 0]
    visited = [row for row in select(rows, step=late) if row.visits > 0]
    before = np.median(column(select(rows, step=start), "error"))
    visits = np.median(column(visited, "visits"))
    after = np.median(column(visited, "error"))
    return [
        (
            f"The error is not proportional to 1/sqrt(n). After {late:,} steps, its exponent over "
            f"the visits n of a cell is {alone} instead of -0.5 (that of the squared error, which "
            f"is the bonus here, is twice as large), and visits explain {percent(explained)} of "
            f"the variance of its logarithm. After {early:,} steps, the exponent is {early_alone}."
        ),
        (
            "The network generalises: if the mean visits of the cells around are known as well, "
            f"the exponent of these is {around}, that of the cell's own visits is {own}, and both "
            f"explain {percent(both)}. RND counts visits to a neighbourhood."
        ),
        (
            f"So places become familiar that were never visited: after {early:,} steps, the "
            f"median error of cells without a visit is {np.median(column(unseen, 'error')):.2f}, "
            f"while it was {before:.2f} before training."
        ),
        (
            "Targets have no noise that visits would have to average out: the median error of "
            f"visited cells falls by a factor of {before / after:.0f} until step {late:,}, with a "
            f"median of {visits:.0f} visits, whose square root is {visits**0.5:.1f}."
        ),
    ]


def plot_of(rows: Sequence[Row]) -> Plot:
    """Return the figure."""
    late = max(row.step for row in rows)
    return Plot(
        "rnd",
        "RND's prediction error in the cells of Hard over visits, and exponents of visits",
        (
            lambda ax: _draw_errors(ax, select(rows, step=late), "visits", "Visits of the cell"),
            lambda ax: _draw_errors(ax, select(rows, step=late), "around", "Mean visits around it"),
            lambda ax: _draw_exponents(ax, rows),
        ),
        3,
    )


def _draw_errors(ax: Axes, rows: Sequence[Row], x: str, label: str) -> None:
    visited = [row for row in rows if row.visits > 0 and row.around > 0]
    visits, error = column(visited, x), column(visited, "error")
    ax.scatter(visits, error, s=7, color=GREEN, alpha=0.35, linewidths=0, label="cells")
    (power,), _ = _powers([np.log(visits)], np.log(error))
    middle, centre = np.exp(np.log(visits).mean()), np.exp(np.log(error).mean())
    ends = np.array([visits.min(), visits.max()])
    for exponent, colour, line, name in (
        (power, INK, "solid", "fitted power"),
        (-0.5, VERMILION, "dashed", "1/sqrt(n)"),
    ):
        ax.plot(
            ends, centre * (ends / middle) ** exponent, color=colour, linestyle=line, label=name
        )
    for axis in ("x", "y"):
        use_logarithm(ax, axis)
    ax.set(xlabel=label, ylabel="Prediction error")
    ax.set_title(f"Error to the power {power:.2f}".replace("-", "\N{MINUS SIGN}"))


def _draw_exponents(ax: Axes, rows: Sequence[Row]) -> None:
    _, *steps = sorted({row.step for row in rows})
    names = {"alone": "own,\nalone", "own": "own, beside\nthose around", "around": "around"}
    for step, colour in zip(steps, (GREY, BLUE), strict=True):
        found = fits(rows, step)
        at = np.repeat(range(len(names)), len(found)) + (0.12 if step == steps[-1] else -0.12)
        values = np.concatenate([column(found, name) for name in names])
        ax.plot(at, values, "o", color=colour, alpha=0.8, label=f"after {thousands(step)} steps")
    ax.axhline(-0.5, color=VERMILION, linestyle="dashed")
    ax.axhline(0, color=INK, linewidth=1)
    ax.set_xticks(range(len(names)), list(names.values()))
    ax.set_title("Exponents, by seed")


def make(out: Path) -> list[str]:
    """Write the table and the figure into a folder; return the claims."""
    rows = rounded(list(measure()))
    write(out, rows, plot_of(rows))
    return claims(rows)
