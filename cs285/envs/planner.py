"""The best possible policy of every maze, by finite-horizon dynamic programming.

With `V[T] = 0` at the step limit `T`, the values of the best policy satisfy Bellman's equation

    V[t](p) = max_a E[ 1{p' not in the goal} (V[t+1](p') - 1) ],    p' = move(p, a + noise),

and those of the uniformly random policy satisfy the same equation with a mean over actions in place
of the maximum. Positions are on a grid of `n x n` nodes per free cell. The Gaussian noise is summed
over the same spacing, so a point that meets no wall moves from node to node. Only the endpoints of
stopped moves are interpolated, linearly and inside their own cell, so nothing leaks through a wall.
Values inside the goal are those of a point that starts there; interpolation needs them smooth.
"""

from __future__ import annotations

import functools
import hashlib
import tempfile
import zipfile
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cs285.envs.dynamics import MOVES, NOISE_STD, NUM_ACTIONS, SUBSTEPS, distance_to_goal, move
from cs285.envs.mazes import FloatArray, Maze, cell_of, get_maze
from cs285.infrastructure.caches import cache_folder

if TYPE_CHECKING:
    from scipy.sparse import csr_array

ALGORITHM_VERSION = 1
"""Raise this with every change that alters plans: it is part of the names of cached files."""

MOVE_BUDGET = 35_000
"""Bound on (free cells) x n^4, which is proportional to the number of simulated moves.

It gives n = 5, 6, 3, 4 nodes per unit on Easy, Medium, Hard, VeryHard. Finer grids, up to twice as
fine on VeryHard, change the optimal returns by less than 0.1.
"""

NOISE_REACH = 3.5
"""Standard deviations at which the noise is cut off; 0.0005 of its mass per axis is beyond."""

MOVES_AT_ONCE = 4096
"""Moves simulated in one call, few enough to fit into the processor's cache."""


@dataclass(frozen=True, eq=False)
class Plan:
    """The best policy of a maze and its expected returns.

    Attributes:
        maze: The maze.
        optimal_return: Expected return of the best policy from the start.
        random_return: Expected return of the uniformly random policy from the start.
        policy: Best action by step and node, uint8 `(T, H * n, W * n)`, for n nodes per unit
            length.
        values: Expected return from each step and node to the end of the episode, float32
            `(T + 1, H * n, W * n)`; NaN in walls.
    """

    maze: Maze
    optimal_return: float
    random_return: float
    policy: npt.NDArray[np.uint8]
    values: npt.NDArray[np.float32]

    def actions(
        self, positions: FloatArray, step: int | npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int64]:
        """Return the best actions `(N,)` at positions `(N, 2)` after `step` steps of an episode.

        Raises:
            IndexError: If a step is at or beyond the step limit.
        """
        resolution = self.policy.shape[1] // self.maze.height
        # Look for the node within the cell: rounding must not move a point into a wall.
        cells = cell_of(self.maze, positions)
        within = ((positions - cells) * resolution).astype(np.intp)
        rows, columns = (cells * resolution + np.clip(within, 0, resolution - 1)).T
        best: npt.NDArray[np.int64] = self.policy[step, rows, columns].astype(np.int64)
        return best


@functools.cache
def plan(env_id: str) -> Plan:
    """Return the plan of an environment, which is kept in memory and in the user's cache folder.

    Raises:
        ValueError: If the id is unknown.
    """
    maze = get_maze(env_id)
    cached = _load(maze)
    if cached is not None:
        return cached
    computed = solve(maze)
    _save(computed)
    return computed


def solve(maze: Maze) -> Plan:
    """Compute the plan of a maze by one pass backwards through time over all nodes."""
    resolution = max(2, int((MOVE_BUDGET / maze.free_cells) ** 0.25))
    nodes, index = _grid(maze, resolution)
    transitions, arrivals = _transitions(maze, resolution)
    horizon = maze.max_episode_steps
    policy = np.zeros((horizon, *index.shape), dtype=np.uint8)
    values = np.full((horizon + 1, *index.shape), np.nan, dtype=np.float32)

    # Column 0 holds the values of the best policy, column 1 those of the random policy.
    current = np.zeros((len(nodes), 2), dtype=np.float32)
    free = index >= 0
    values[horizon, free] = 0.0
    for step in reversed(range(horizon)):
        q = (transitions @ current).reshape(len(nodes), NUM_ACTIONS, 2) + (arrivals - 1)[..., None]
        current = np.stack([q[..., 0].max(axis=1), q[..., 1].mean(axis=1)], axis=1)
        # Rounding must not push a return below the worst possible one.
        current = np.clip(current, step - horizon, 0.0)
        policy[step, free] = q[..., 0].argmax(axis=1)
        values[step, free] = current[:, 0]

    around, weights = _interpolation(maze, resolution, np.array([maze.start]))
    optimal, uniform = (current[index[tuple(around[0].T)]] * weights[0, :, None]).sum(axis=0)
    return Plan(maze, float(optimal), float(uniform), policy, values)


def _grid(maze: Maze, resolution: int) -> tuple[FloatArray, npt.NDArray[np.int32]]:
    """Return the positions `(N, 2)` of the nodes and their indices `(H * n, W * n)`; -1: wall."""
    walls = maze.walls.repeat(resolution, axis=0).repeat(resolution, axis=1)
    index = np.full(walls.shape, -1, dtype=np.int32)
    index[~walls] = np.arange((~walls).sum())
    return (np.argwhere(~walls) + 0.5) / resolution, index


def _interpolation(
    maze: Maze, resolution: int, positions: FloatArray
) -> tuple[npt.NDArray[np.intp], FloatArray]:
    """Find the nodes to interpolate between, all of them in the cell of the position.

    Within half a spacing of the border of a cell this extrapolates.

    Returns:
        The grid coordinates `(M, 4, 2)` of four nodes per position `(M, 2)`, and their weights
        `(M, 4)`.
    """
    cells = cell_of(maze, positions)
    # Rounding puts a point that started on a node and met no wall exactly on a node again.
    within = np.round((positions - cells) * resolution - 0.5, 9)
    lower = np.clip(within.astype(np.intp), 0, resolution - 2)
    fraction = within - lower
    corners = np.array([(0, 0), (0, 1), (1, 0), (1, 1)])
    around = (cells * resolution + lower)[:, None, :] + corners
    weights = np.where(corners, fraction[:, None, :], 1 - fraction[:, None, :]).prod(axis=-1)
    return around, weights


def _noisy_moves(resolution: int) -> tuple[FloatArray, FloatArray]:
    """Return displacements `(K, 2)`, one node spacing apart, and their probabilities `(5, K)`."""
    reach = int(NOISE_REACH * NOISE_STD * resolution)
    axis = np.arange(-resolution - reach, resolution + reach + 1) / resolution
    displacements = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    standardised = (displacements - MOVES[:, None]) / NOISE_STD
    density = np.exp(-0.5 * (standardised**2).sum(axis=-1))
    density[(np.abs(standardised) > NOISE_REACH).any(axis=-1)] = 0.0
    used = density.any(axis=0)
    return displacements[used], density[:, used] / density.sum(axis=1, keepdims=True)


def _transitions(maze: Maze, resolution: int) -> tuple[csr_array, npt.NDArray[np.float32]]:
    """Simulate every noisy move from every node.

    Returns:
        The probabilities of continuing from each node, sparse `(N * 5, N)` with one row per node
        and action, and those of arriving in the goal, `(N, 5)`.
    """
    from scipy import sparse

    nodes, index = _grid(maze, resolution)
    displacements, probabilities = _noisy_moves(resolution)
    blocks, arrivals = [], []
    for start in np.array_split(nodes, -(-len(nodes) * len(displacements) // MOVES_AT_ONCE)):
        ends = move(
            maze.walls,
            start.repeat(len(displacements), axis=0),
            np.tile(displacements, (len(start), 1)),
        )
        # An endpoint represents a square as wide as the spacing; the goal may cover part of it.
        inside = maze.goal_radius - distance_to_goal(maze, ends)
        arrived = np.clip(0.5 + inside * resolution, 0.0, 1.0)
        around, weights = _interpolation(maze, resolution, ends)
        weights *= 1 - arrived[:, None]
        columns = index[around[..., 0], around[..., 1]]
        rows = np.arange(0, weights.size + 1, 4)
        endpoints = sparse.csr_array(
            (weights.ravel(), columns.ravel(), rows), shape=(len(ends), len(nodes))
        )
        endpoints.eliminate_zeros()
        expectation = sparse.kron(sparse.eye_array(len(start)), probabilities, format="csr")
        blocks.append((expectation @ endpoints).astype(np.float32))
        arrivals.append(expectation @ arrived)
    chances = np.concatenate(arrivals).reshape(len(nodes), NUM_ACTIONS).astype(np.float32)
    return sparse.vstack(blocks, format="csr"), chances


def _cache_path(maze: Maze) -> Path:
    """Return the path of the cached file, named after everything that a plan depends on."""
    task = (maze.walls.shape, maze.start, maze.goal, maze.goal_radius, maze.max_episode_steps)
    world = (MOVES.tolist(), NOISE_STD, SUBSTEPS)
    method = (ALGORITHM_VERSION, MOVE_BUDGET, NOISE_REACH)
    key = hashlib.sha256(repr((task, world, method)).encode() + maze.walls.tobytes()).hexdigest()
    return cache_folder() / f"plan-{maze.name}-{key[:16]}.npz"


def _load(maze: Maze) -> Plan | None:
    """Read the cached plan of a maze; None if it is missing or unusable."""
    try:
        with np.load(_cache_path(maze), allow_pickle=False) as file:
            cached = Plan(
                maze,
                float(file["optimal_return"]),
                float(file["random_return"]),
                file["policy"],
                file["values"],
            )
    # RuntimeError: the user has no home folder. The others: the file is missing or damaged.
    except (OSError, RuntimeError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    horizon = maze.max_episode_steps
    whole = len(cached.policy) == horizon and len(cached.values) == horizon + 1
    return cached if whole else None


def _save(computed: Plan) -> None:
    """Write a plan to the cache, complete or not at all; failing to do so is harmless."""
    arrays: dict[str, Any] = {
        "optimal_return": computed.optimal_return,
        "random_return": computed.random_return,
        "policy": computed.policy,
        "values": computed.values,
    }
    with suppress(OSError, RuntimeError):
        path = _cache_path(computed.maze)
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            unfinished = Path(folder) / path.name
            np.savez_compressed(unfinished, **arrays)
            unfinished.replace(path)
