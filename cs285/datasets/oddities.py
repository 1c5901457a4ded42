"""Finds transitions that are impossible in a maze, such as those in buffers of public versions.

These versions evaluate in the environment in which they explore. Afterwards the agent continues
from where it was, but the environment continues from where the evaluation ended, with its step
limit used up. So one transition leads across the maze, and the episode around it may have any
length.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from cs285.envs.dynamics import MOVES, NOISE_STD
from cs285.envs.mazes import FloatArray, Maze, cell_of

BoolArray = npt.NDArray[np.bool_]

SIGMAS = 6.0
"""Standard deviations that the noise hardly ever exceeds: one step in 250 million, on each axis."""


def impossible_moves(
    maze: Maze, before: FloatArray, actions: npt.NDArray[np.int64], after: FloatArray
) -> BoolArray:
    """Return which moves are impossible in one step, bool `(N,)`.

    Walls only shorten a step, and along each axis a point moves in one direction. So a move is
    impossible if it is farther along an axis than the action and its noise, or if walls block every
    path between the two points that does not turn back on either axis.

    Args:
        maze: The maze.
        before: Positions `(N, 2)` in cells.
        actions: Shape `(N,)`.
        after: Positions `(N, 2)` one step later.
    """
    moved = after - before
    noise = np.abs(moved) - np.sign(moved) * MOVES[actions]
    far = np.asarray((noise > SIGMAS * NOISE_STD).any(axis=1))
    cells = np.concatenate([cell_of(maze, before), cell_of(maze, after)], axis=1)
    pairs, which = np.unique(cells, axis=0, return_inverse=True)
    closed = np.array([not _is_open(maze.walls, *pair) for pair in pairs.tolist()])
    impossible: BoolArray = far | closed[which.ravel()]
    return impossible


def _is_open(walls: BoolArray, row: int, column: int, last_row: int, last_column: int) -> bool:
    """Return whether free cells connect two cells without turning back on either axis."""
    rows = _towards(row, last_row)
    columns = list(_towards(column, last_column))
    reached = [index == 0 for index in range(len(columns))]
    for at, one in enumerate(rows):
        for index, other in enumerate(columns):
            begins = at == index == 0
            came = begins or (at > 0 and reached[index]) or (index > 0 and reached[index - 1])
            # Rounding may put the points themselves into a wall.
            is_end = (one, other) in {(row, column), (last_row, last_column)}
            reached[index] = bool(came and (is_end or not walls[one, other]))
    return reached[-1]


def _towards(first: int, last: int) -> Iterable[int]:
    return range(first, last + 1) if last >= first else range(first, last - 1, -1)
