"""The four Pointmass mazes: walls, start, goal and step limit.

Coordinates are (row, column) throughout. Row 0 is the first line of a map, and cell `(i, j)`
covers the positions `[i, i + 1) x [j, j + 1)`; the far edges of the box belong to the last row and
column of cells.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

_CORNER = """
.....
####.
####.
####.
####.
"""

_MAZE = """
..#...
#.#.#.
..#.##
.##..#
..##.#
#....#
"""

_FOURROOMS = """
.....#.....
.....#.....
...........
.....#.....
.....#.....
#.####.....
.....###.##
.....#.....
.....#.....
...........
.....#.....
"""

_LABYRINTH = """
.#...#...#.
.#.#.#.#.#.
.#.#.#.#.#.
.#.#.#.#.#.
...#...#.#.
########.#.
###...#..#.
###.#.#.##.
....#...##.
.#########.
...........
"""


def _walls(text: str, factor: int) -> npt.NDArray[np.bool_]:
    """Read a map, in which `#` is a wall, and repeat each cell `factor` times along both axes."""
    cells = np.array([[char == "#" for char in line] for line in text.split()])
    walls = cells.repeat(factor, axis=0).repeat(factor, axis=1)
    walls.flags.writeable = False
    return walls


@dataclass(frozen=True, eq=False)
class Maze:
    """One Pointmass maze; all lengths are in cells after scaling.

    Attributes:
        env_id: The environment's id in Gymnasium.
        name: The short name used in file names and tables.
        title: The name in figures and text.
        walls: Boolean array `(H, W)`, true where there is a wall.
        start: Position (row, column) at which every episode begins.
        goal: Centre (row, column) of the goal disc.
        goal_radius: An episode ends when the distance to the goal falls below this.
        max_episode_steps: Steps after which an episode is truncated.
    """

    env_id: str
    name: str
    title: str
    walls: npt.NDArray[np.bool_]
    start: tuple[float, float]
    goal: tuple[float, float]
    goal_radius: float
    max_episode_steps: int

    @property
    def height(self) -> int:
        """Number of rows, H."""
        return int(self.walls.shape[0])

    @property
    def width(self) -> int:
        """Number of columns, W."""
        return int(self.walls.shape[1])

    @cached_property
    def scale(self) -> FloatArray:
        """The array `[H, W]`; a position divided by it is an observation."""
        scale = np.array(self.walls.shape, dtype=np.float64)
        scale.flags.writeable = False
        return scale

    @property
    def free_cells(self) -> int:
        """Number of cells without a wall."""
        return int((~self.walls).sum())


MAZES: dict[str, Maze] = {
    maze.env_id: maze
    for maze in (
        Maze(
            "PointmassEasy-v0", "easy", "Easy",
            _walls(_CORNER, 2), (1.0, 1.0), (9.0, 9.0), 2.0, 50,
        ),
        Maze(
            "PointmassMedium-v0", "medium", "Medium",
            _walls(_MAZE, 1), (0.5, 0.5), (1.5, 5.5), 1.0, 150,
        ),
        Maze(
            "PointmassHard-v0", "hard", "Hard",
            _walls(_FOURROOMS, 2), (2.0, 2.0), (20.0, 20.0), 2.0, 100,
        ),
        Maze(
            "PointmassVeryHard-v0", "veryhard", "VeryHard",
            _walls(_LABYRINTH, 1), (0.5, 0.5), (0.5, 10.5), 1.0, 200,
        ),
    )
}  # fmt: skip


def get_maze(env_id: str) -> Maze:
    """Return the maze with this Gymnasium id.

    Raises:
        ValueError: If the id is unknown; the message lists the known ids.
    """
    if env_id in MAZES:
        return MAZES[env_id]
    close = difflib.get_close_matches(env_id, MAZES, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    raise ValueError(f"unknown environment {env_id[:80]!r}: known are {', '.join(MAZES)}{hint}")


def cell_of(maze: Maze, positions: npt.ArrayLike) -> npt.NDArray[np.intp]:
    """Return the cell indices `(..., 2)` of positions `(..., 2)` within the box."""
    floor = np.floor(np.asarray(positions, dtype=np.float64))
    cells: npt.NDArray[np.intp] = np.clip(floor, 0, maze.scale - 1).astype(np.intp)
    return cells


def coverage(maze: Maze, positions: npt.ArrayLike) -> float:
    """Return the fraction of the free cells that the positions `(N, 2)` visit."""
    visited = np.zeros_like(maze.walls)
    visited[tuple(cell_of(maze, positions).T)] = True
    # Positions recovered from float32 observations may round onto the edge of a wall cell.
    return float((visited & ~maze.walls).sum() / maze.free_cells)


def observe(maze: Maze, positions: FloatArray) -> npt.NDArray[np.float32]:
    """Return the observations `(row / H, column / W)`, float32 `(N, 2)`, of positions `(N, 2)`."""
    return (positions / maze.scale).astype(np.float32)


def positions_of(maze: Maze, observations: npt.ArrayLike) -> FloatArray:
    """Return the positions `(N, 2)` of observations `(N, 2)`, up to the rounding of float32."""
    return np.asarray(observations, dtype=np.float64) * maze.scale
