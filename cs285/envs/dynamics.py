"""Batched Pointmass dynamics, for any number of points in a maze."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from cs285.envs.mazes import FloatArray, Maze

MOVES: FloatArray = np.array([(0, 0), (0, -1), (0, 1), (-1, 0), (1, 0)], dtype=np.float64)
"""Mean displacement (row, column) of the five actions: stay, left, right, up, down."""

NUM_ACTIONS = len(MOVES)

NOISE_STD = 0.5
"""Standard deviation of the displacement along each axis."""

SUBSTEPS = 10
"""A displacement is split into this many equal parts, so that points slide along walls."""


def move(
    walls: npt.NDArray[np.bool_], positions: FloatArray, displacements: FloatArray
) -> FloatArray:
    """Move points by their displacements; walls and the edges of the box stop them.

    A point takes ten substeps, each a tenth of its displacement, first along the row axis and then
    along the column axis. A move that would leave the box or enter a wall cell is dropped, but only
    for that axis of that substep.

    Args:
        walls: Boolean array `(H, W)`, true where there is a wall.
        positions: Array `(N, 2)`, float64, of points in free cells.
        displacements: Array `(N, 2)`, float64: action plus noise.

    Returns:
        The new positions `(N, 2)`.
    """
    # A point that nothing stops visits path[0], ..., path[SUBSTEPS] in turn. Accumulating has
    # exactly the same rounding as adding the parts one by one.
    path = np.empty((SUBSTEPS + 1, *positions.shape))
    path[0] = positions
    path[1:] = displacements * (1 / SUBSTEPS)
    np.add.accumulate(path, axis=0, out=path)
    moved: FloatArray = path[-1].copy()

    # Coordinates along a path are monotone, so a path stays in the box if its last point does.
    # Indices of paths that leave the box are clipped; their values are not used.
    outside = ((moved < 0) | (moved >= walls.shape)).any(axis=1)
    cells = path.astype(np.intp)
    rows, columns = cells[1:, :, 0] * walls.shape[1], cells[..., 1]
    after_row_moves = walls.take(rows + columns[:-1], mode="clip")
    after_column_moves = walls.take(rows + columns[1:], mode="clip")
    stopped = outside | (after_row_moves | after_column_moves).any(axis=0)
    if stopped.any():
        moved[stopped] = _slide(walls, path[:, stopped])
    return moved


def _slide(walls: npt.NDArray[np.bool_], path: FloatArray) -> FloatArray:
    """Take the substeps one by one for M points that meet a wall on their path `(11, M, 2)`.

    A dropped move leaves a coordinate unchanged, so after any substep a point has made `i` moves
    along the rows and `j` along the columns and is at `(path[i, :, 0], path[j, :, 1])`: the loop
    only has to advance the two counters.
    """
    size, points = SUBSTEPS + 1, np.arange(path.shape[1])
    inside = ((path >= 0) & (path <= walls.shape)).T
    cells = np.minimum(path.astype(np.intp), np.subtract(walls.shape, 1)).T
    index = (cells[0] * walls.shape[1])[:, :, None] + cells[1][:, None, :]
    free = inside[0][:, :, None] & inside[1][:, None, :] & ~walls.take(index, mode="clip")

    # `free` is (M, 11, 11): point, row moves, column moves. In its flat form a row move is `size`
    # places ahead and a column move one place ahead; `advance` makes both moves of a substep.
    free = free.ravel()
    advance = np.where(free[size:-1], size + free[size + 1 :], free[1:-size])
    first = points * size**2
    place = first.copy()
    for _ in range(SUBSTEPS):
        place += advance[place]
    row_moves, column_moves = np.divmod(place - first, size)
    moved = np.empty(path.shape[1:])
    moved[:, 0] = path[row_moves, points, 0]
    moved[:, 1] = path[column_moves, points, 1]
    return moved


def distance_to_goal(maze: Maze, positions: FloatArray) -> FloatArray:
    """Return the Euclidean distances `(N,)` of positions `(N, 2)` from the goal."""
    offsets = positions - maze.goal
    distance: FloatArray = np.sqrt(np.einsum("ni,ni->n", offsets, offsets))
    return distance


def reached_goal(maze: Maze, positions: FloatArray) -> npt.NDArray[np.bool_]:
    """Return whether positions `(N, 2)` are closer to the goal than its radius, bool `(N,)`."""
    return distance_to_goal(maze, positions) < maze.goal_radius


def outcome(
    maze: Maze, positions: FloatArray, *, dense: bool = False
) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Return the rewards `(N,)` for arriving at positions `(N, 2)`, and which reach the goal.

    The rewards are 0 in the goal and -1 elsewhere, or minus the distance to the goal if `dense`.
    """
    distance = distance_to_goal(maze, positions)
    reached = distance < maze.goal_radius
    return -distance if dense else reached - np.ones(len(reached)), reached
