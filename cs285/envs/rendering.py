"""Pictures of a maze and a point in it, in plain NumPy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cs285.envs.mazes import cell_of

if TYPE_CHECKING:
    from cs285.envs.mazes import FloatArray, Maze

CELL_PIXELS = 20
"""Side length of a unit cell in the picture."""

FLOOR = (255, 255, 255)
WALL = (60, 60, 60)
START = (90, 140, 230)
GOAL = (140, 210, 140)
AGENT = (220, 50, 40)


def draw(maze: Maze, position: FloatArray) -> npt.NDArray[np.uint8]:
    """Draw a maze from above.

    Args:
        maze: The maze.
        position: The point's (row, column), shape `(2,)`.

    Returns:
        RGB picture `(H * CELL_PIXELS, W * CELL_PIXELS, 3)` with row 0 at the top.
    """
    rows = (np.arange(maze.height * CELL_PIXELS) + 0.5) / CELL_PIXELS
    columns = (np.arange(maze.width * CELL_PIXELS) + 0.5) / CELL_PIXELS
    pixels = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1)

    def disc(centre: tuple[float, float] | FloatArray, radius: float) -> npt.NDArray[np.bool_]:
        inside: npt.NDArray[np.bool_] = ((pixels - centre) ** 2).sum(axis=-1) < radius**2
        return inside

    walls = maze.walls[tuple(np.moveaxis(cell_of(maze, pixels), -1, 0))]
    picture = np.full((*pixels.shape[:2], 3), FLOOR, dtype=np.uint8)
    picture[disc(maze.goal, maze.goal_radius)] = GOAL
    picture[walls] = WALL
    picture[disc(maze.start, 0.3)] = START
    picture[disc(position, 0.25)] = AGENT
    return picture
