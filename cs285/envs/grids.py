"""The transition probabilities of a maze on a grid of positions.

A grid has `n x n` nodes per free cell, at the centres of equal squares, and further nodes at the
walls, where points that push against one collect. The Gaussian noise is summed over steps from each
node to the centres of squares, so a point that meets no wall moves from node to node. Only the
endpoints of stopped moves are interpolated, linearly and inside their own cell: nothing leaks
through a wall, and all weights are probabilities.
Values inside the goal are those of a point that starts there; interpolation needs them smooth.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cs285.envs.dynamics import MOVES, NOISE_STD, NUM_ACTIONS, SUBSTEPS, distance_to_goal, move
from cs285.envs.mazes import FloatArray, Maze, cell_of
from cs285.infrastructure.caches import read_arrays, write_arrays

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Indices = npt.NDArray[np.intp]

ALGORITHM_VERSION = 2
"""Raise this with every change that alters grids: it is part of the names of cached files."""

NOISE_REACH = 3.5
"""Standard deviations at which the noise is cut off; 0.0005 of its mass per axis is beyond."""

WALL_DISTANCE = 1e-7
"""Distance of the further nodes from a wall: as good as none, but within the free cell."""

ROUNDING = 1e-9
"""Bound on the rounding of positions; smaller distances are none."""

MOVES_AT_ONCE = 8192
"""Moves simulated in one call, few enough to fit into the processor's cache."""


@dataclass(frozen=True, eq=False)
class Layout:
    """The nodes of a grid.

    Attributes:
        maze: The maze.
        resolution: Nodes per unit length, n, without those at walls.
        nodes: Positions of the N nodes `(N, 2)`.
        lower: Lower corner of the rectangle that each node represents `(N, 2)`.
        upper: Upper corner of that rectangle `(N, 2)`.
        lattice: Number of the node at the centre of each square, int32 `(H * n, W * n)`; -1: wall.
        first: Number of the first node of each cell `(H, W)`; those of a cell follow row by row.
        kinds: Which coordinates the nodes of each cell have along each axis `(H, W, 2)`: an index
            of `axes`.
        axes: The four possible sets of coordinates within a cell: a wall on neither side, on the
            lower side, on the upper side, on both.
    """

    maze: Maze
    resolution: int
    nodes: FloatArray
    lower: FloatArray
    upper: FloatArray
    lattice: npt.NDArray[np.int32]
    first: Indices
    kinds: Indices
    axes: tuple[FloatArray, ...]

    def interpolate(self, positions: FloatArray) -> tuple[Indices, FloatArray]:
        """Return four nodes around each position and their weights, both `(M, 4)`.

        Away from walls these are the centres of the four nearest squares; near one, they are nodes
        of the position's own cell.
        """
        # Rounding puts a point that started on a node and met no wall exactly on a node again.
        places = np.round(positions * self.resolution - 0.5, 9)
        squares = np.floor(places).astype(np.intp)
        nodes = self._around(squares)
        weights = _corner_weights(*(places - squares).T)
        near_wall = np.flatnonzero((nodes < 0).any(axis=1))
        nodes[near_wall], weights[near_wall] = self._within_cell(positions[near_wall])
        return nodes, weights

    def _around(self, squares: Indices) -> Indices:
        """Return the nodes of squares and those above, right of and beyond them; -1: wall."""
        corners = squares[:, None] + _CORNERS
        inside = ((corners >= 0) & (corners < self.lattice.shape)).all(axis=-1)
        rows, columns = np.where(inside[..., None], corners, 0).transpose(2, 0, 1)
        return np.where(inside, self.lattice[rows, columns], -1).astype(np.intp)

    def _within_cell(self, positions: FloatArray) -> tuple[Indices, FloatArray]:
        """Interpolate between nodes of one cell; values are constant beyond the outermost nodes."""
        cells = cell_of(self.maze, positions)
        kinds = self.kinds[cells[:, 0], cells[:, 1]]
        within = positions - cells
        row, row_share = self._along(kinds[:, 0], within[:, 0])
        column, column_share = self._along(kinds[:, 1], within[:, 1])
        width = np.array([len(axis) for axis in self.axes])[kinds[:, 1]]
        corner = self.first[cells[:, 0], cells[:, 1]] + row * width + column
        nodes = corner[:, None] + _CORNERS[:, 0] * width[:, None] + _CORNERS[:, 1]
        return nodes, _corner_weights(row_share, column_share)

    def _along(self, kinds: Indices, within: FloatArray) -> tuple[Indices, FloatArray]:
        """Return the coordinate below each point along one axis, and the share of the one above."""
        below = np.empty(len(within), dtype=np.intp)
        share = np.empty(len(within))
        for kind, axis in enumerate(self.axes):
            own = np.flatnonzero(kinds == kind)
            k = np.clip(np.searchsorted(axis, within[own], side="right") - 1, 0, len(axis) - 2)
            below[own] = k
            share[own] = np.clip((within[own] - axis[k]) / (axis[k + 1] - axis[k]), 0.0, 1.0)
        return below, share


_CORNERS = np.array([(0, 0), (0, 1), (1, 0), (1, 1)])


def _corner_weights(rows: FloatArray, columns: FloatArray) -> FloatArray:
    """Return the weights `(M, 4)` of the corners of a unit square at points within it."""
    along = [
        np.stack([1 - share, share], axis=1)[:, _CORNERS[:, k]]
        for k, share in enumerate((rows, columns))
    ]
    return along[0] * along[1]


@functools.cache
def lay_out(maze: Maze, resolution: int) -> Layout:
    """Place the nodes of a grid.

    Args:
        maze: The maze.
        resolution: Nodes per unit length, at least 2.
    """
    centres = (np.arange(resolution) + 0.5) / resolution
    axes = tuple(
        np.array(
            [*[WALL_DISTANCE] * (kind & 1), *centres, *[1 - WALL_DISTANCE] * (kind >> 1)],
        )
        for kind in range(4)
    )
    kinds = _sides_with_walls(maze)
    shape = np.array(maze.walls.shape)
    first = np.full(shape, -1)
    lattice = np.full(shape * resolution, -1, dtype=np.int32)
    count = 0
    nodes, lower, upper = [], [], []
    for cell in np.argwhere(~maze.walls):
        own = [axes[kind] for kind in kinds[tuple(cell)]]
        first[tuple(cell)] = count
        numbers = count + np.arange(own[0].size * own[1].size).reshape(own[0].size, own[1].size)
        count += numbers.size
        inner = tuple(slice(kind & 1, (kind & 1) + resolution) for kind in kinds[tuple(cell)])
        block = tuple(slice(k * resolution, (k + 1) * resolution) for k in cell)
        lattice[block] = numbers[inner]
        edges = [np.concatenate([[0.0], (axis[1:] + axis[:-1]) / 2, [1.0]]) for axis in own]
        nodes.append(cell + _product(*own))
        lower.append(cell + _product(*(edge[:-1] for edge in edges)))
        upper.append(cell + _product(*(edge[1:] for edge in edges)))
    return Layout(
        maze=maze,
        resolution=resolution,
        nodes=np.concatenate(nodes),
        lower=np.concatenate(lower),
        upper=np.concatenate(upper),
        lattice=lattice,
        first=first,
        kinds=kinds,
        axes=axes,
    )


def _product(rows: FloatArray, columns: FloatArray) -> FloatArray:
    """Return all pairs of two sets of coordinates `(n * m, 2)`, row by row."""
    return np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2)


def _sides_with_walls(maze: Maze) -> Indices:
    """Return 1 for cells with a wall on the lower side, 2 upper, 3 both, per axis `(H, W, 2)`.

    Walls that only touch a corner of the cell count, too: a point slides along them.
    """
    walls = np.pad(maze.walls, 1, constant_values=True)
    beside = walls[:, :-2] | walls[:, 1:-1] | walls[:, 2:]  # in the three cells of a row
    below = walls[:-2] | walls[1:-1] | walls[2:]  # in the three cells of a column
    along_rows = beside[:-2] + 2 * beside[2:]
    along_columns = below[:, :-2] + 2 * below[:, 2:]
    return np.stack([along_rows, along_columns], axis=-1).astype(np.intp)


@dataclass(frozen=True, eq=False)
class Grid:
    """Transition probabilities between the nodes of a layout.

    Attributes:
        layout: The nodes.
        transitions: Probability of continuing at each node, sparse float32 `(N * 5, N)` with one
            row per node and action.
        arrivals: Probability of arriving in the goal, float32 `(N, 5)`.
    """

    layout: Layout
    transitions: csr_array
    arrivals: npt.NDArray[np.float32]

    def interpolation(self, positions: FloatArray) -> csr_array:
        """Return the weights `(M, N)` of the nodes in values at positions `(M, 2)`."""
        from scipy import sparse

        nodes, weights = self.layout.interpolate(positions)
        rows = np.arange(0, weights.size + 1, 4)
        return sparse.csr_array(
            (weights.ravel(), nodes.ravel(), rows), shape=(len(nodes), len(self.layout.nodes))
        )


@functools.cache
def grid(maze: Maze, resolution: int) -> Grid:
    """Return a grid of a maze, which is kept in memory and in the user's cache folder.

    Args:
        maze: The maze.
        resolution: Nodes per unit length, at least 2.
    """
    layout = lay_out(maze, resolution)
    name = _cache_name(maze, resolution)
    known = _load(name, len(layout.nodes))
    if known is None:
        known = transition_probabilities(layout)
        _save(name, *known)
    return Grid(layout, *known)


def transition_probabilities(layout: Layout) -> tuple[csr_array, npt.NDArray[np.float32]]:
    """Simulate noisy moves from every node.

    Returns:
        `transitions` and `arrivals` of the grid.
    """
    from scipy import sparse

    maze, resolution = layout.maze, layout.resolution
    reach = int(np.ceil((1 + NOISE_REACH * NOISE_STD) * resolution))
    steps = np.arange(-reach, reach + 1)
    # The square in which a node is, and those that it can reach.
    squares = np.floor(layout.nodes * resolution).astype(np.intp)
    targets = squares[:, :, None] + steps
    displacements = (targets + 0.5) / resolution - layout.nodes[:, :, None]
    # (N, 3, 2, K): by mean displacement (-1, 0 or 1) and axis
    standardised = (displacements[:, None] - np.array([-1, 0, 1])[:, None, None]) / NOISE_STD
    density = np.exp(-0.5 * standardised**2) * (np.abs(standardised) <= NOISE_REACH)
    density /= density.sum(axis=-1, keepdims=True)

    blocks, arrivals = [], []
    pairs = len(steps) ** 2
    for chunk in np.array_split(np.arange(len(squares)), -(-len(squares) * pairs // MOVES_AT_ONCE)):
        shape = (len(chunk), len(steps), len(steps))
        chances = [
            density[chunk, a + 1, 0][:, :, None] * density[chunk, b + 1, 1][:, None, :]
            for a, b in MOVES.astype(int)
        ]
        used = np.flatnonzero(np.any(chances, axis=0).ravel())
        node, row, column = (index[used] for index in map(np.ravel, np.indices(shape)))
        starts = layout.nodes[chunk][node]
        target = np.stack([targets[chunk][node, 0, row], targets[chunk][node, 1, column]], axis=1)
        wanted = (target + 0.5) / resolution
        ends = move(maze.walls, starts, wanted - starts)
        # An endpoint represents a square as wide as the spacing; the goal may cover part of it.
        inside = maze.goal_radius - distance_to_goal(maze, ends)
        arrived = np.clip(0.5 + inside * resolution, 0.0, 1.0)

        # Most moves meet no wall, and end in the centre of a square.
        stopped = (np.abs(ends - wanted) > ROUNDING).any(axis=1)
        free = np.flatnonzero(~stopped)
        around, weights = layout.interpolate(ends[stopped])
        moves = np.concatenate([free, np.flatnonzero(stopped).repeat(4)])
        columns = np.concatenate([layout.lattice[tuple(target[free].T)], around.ravel()])
        weights = np.concatenate([np.ones(len(free)), weights.ravel()]) * (1 - arrived[moves])
        moves, columns, weights = (x[weights != 0] for x in (moves, columns, weights))

        size = len(chunk) * len(squares)
        flat = node[moves] * len(squares) + columns
        by_action = [chance.ravel()[used] for chance in chances]
        dense = np.stack([np.bincount(flat, weights * p[moves], size) for p in by_action], axis=1)
        rows = dense.reshape(len(chunk), len(squares), NUM_ACTIONS).transpose(0, 2, 1)
        blocks.append(sparse.csr_array(rows.reshape(-1, len(squares)).astype(np.float32)))
        arrivals.append(
            np.stack([np.bincount(node, arrived * p, len(chunk)) for p in by_action], axis=1)
        )
    transitions = sparse.vstack(blocks, format="csr")
    return _with_short_indices(transitions), np.concatenate(arrivals).astype(np.float32)


def _with_short_indices(matrix: csr_array) -> csr_array:
    """Return a matrix with indices of 32 bits, which multiplies faster."""
    from scipy import sparse

    parts = (matrix.data, matrix.indices.astype(np.int32), matrix.indptr.astype(np.int32))
    return sparse.csr_array(parts, shape=matrix.shape)


def _cache_name(maze: Maze, resolution: int) -> str:
    """Return the name of the cached file, made from everything that a grid depends on."""
    task = (maze.walls.shape, maze.goal, maze.goal_radius)
    world = (MOVES.tolist(), NOISE_STD, SUBSTEPS)
    method = (ALGORITHM_VERSION, resolution, NOISE_REACH, WALL_DISTANCE)
    key = hashlib.sha256(repr((task, world, method)).encode() + maze.walls.tobytes()).hexdigest()
    return f"grid-{maze.name}-{resolution}-{key[:16]}.npz"


def _load(name: str, size: int) -> tuple[csr_array, npt.NDArray[np.float32]] | None:
    """Read a cached grid of `size` nodes; None if it is missing or unusable."""
    from scipy import sparse

    arrays = read_arrays(name, ("data", "indices", "indptr", "arrivals"))
    if arrays is None or arrays["arrivals"].shape != (size, NUM_ACTIONS):
        return None
    try:
        transitions = sparse.csr_array(
            (arrays["data"], arrays["indices"], arrays["indptr"]), shape=(size * NUM_ACTIONS, size)
        )
        transitions.check_format()
    except ValueError:
        return None
    return _with_short_indices(transitions), arrays["arrivals"]


def _save(name: str, transitions: csr_array, arrivals: npt.NDArray[np.float32]) -> None:
    """Write a grid to the cache; compressing it would take longer than computing it again."""
    arrays = {part: getattr(transitions, part) for part in ("data", "indices", "indptr")}
    write_arrays(name, arrays | {"arrivals": arrivals}, compressed=False)
