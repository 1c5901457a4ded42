"""The best possible policy of every maze, by finite-horizon dynamic programming.

With `V[T] = 0` at the step limit `T`, the values of the best policy satisfy Bellman's equation

    V[t](p) = max_a E[ 1{p' not in the goal} (V[t+1](p') - 1) ],    p' = move(p, a + noise),

and those of the uniformly random policy satisfy the same equation with a mean over actions in place
of the maximum. Positions are on a grid; see `grids`.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cs285.envs import grids
from cs285.envs.dynamics import MOVES, NOISE_STD, NUM_ACTIONS, SUBSTEPS
from cs285.envs.mazes import FloatArray, Maze, cell_of, get_maze
from cs285.infrastructure.caches import read_arrays, write_arrays

ALGORITHM_VERSION = 1
"""Increase this with every change that alters plans; it is part of the names of cached files."""

MOVE_BUDGET = 35_000
"""Bound on (free cells) x n^4, which is proportional to the number of simulated moves.

It gives n = 5, 6, 3, 4 nodes per unit on Easy, Medium, Hard, VeryHard. Finer grids, up to twice as
fine on VeryHard, change the optimal returns by less than 0.1.
"""


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
    """Compute the plan of a maze in one backward pass through time over all nodes."""
    resolution = max(2, int((MOVE_BUDGET / maze.free_cells) ** 0.25))
    layout = grids.lay_out(maze, resolution)
    transitions, arrivals = grids.transition_probabilities(layout)
    nodes, lattice = len(layout.nodes), layout.lattice
    horizon = maze.max_episode_steps
    policy = np.zeros((horizon, *lattice.shape), dtype=np.uint8)
    values = np.full((horizon + 1, *lattice.shape), np.nan, dtype=np.float32)

    # Column 0 holds the values of the best policy, column 1 those of the random policy.
    current = np.zeros((nodes, 2), dtype=np.float32)
    free = lattice >= 0
    values[horizon, free] = 0.0
    for step in reversed(range(horizon)):
        q = (transitions @ current).reshape(nodes, NUM_ACTIONS, 2) + (arrivals - 1)[..., None]
        current = np.stack([q[..., 0].max(axis=1), q[..., 1].mean(axis=1)], axis=1)
        # Rounding must not push a return below the worst possible one.
        current = np.clip(current, step - horizon, 0.0)
        policy[step, free] = q[..., 0].argmax(axis=1)[lattice[free]]
        values[step, free] = current[lattice[free], 0]

    around, weights = layout.interpolate(np.array([maze.start]))
    optimal, uniform = (current[around[0]] * weights[0, :, None]).sum(axis=0)
    return Plan(maze, float(optimal), float(uniform), policy, values)


def _cache_name(maze: Maze) -> str:
    """Return the name of the cached file, made from everything that a plan depends on."""
    task = (maze.walls.shape, maze.start, maze.goal, maze.goal_radius, maze.max_episode_steps)
    world = (MOVES.tolist(), NOISE_STD, SUBSTEPS)
    method = (ALGORITHM_VERSION, MOVE_BUDGET, grids.ALGORITHM_VERSION, grids.NOISE_REACH)
    key = hashlib.sha256(repr((task, world, method)).encode() + maze.walls.tobytes()).hexdigest()
    return f"plan-{maze.name}-{key[:16]}.npz"


def _load(maze: Maze) -> Plan | None:
    """Read the cached plan of a maze; None if it is missing or unusable."""
    names = ("optimal_return", "random_return", "policy", "values")
    arrays = read_arrays(_cache_name(maze), names)
    if arrays is None:
        return None
    policy, values = arrays["policy"], arrays["values"]
    horizon = maze.max_episode_steps
    if len(policy) != horizon or len(values) != horizon + 1:
        return None
    returns = (float(arrays["optimal_return"]), float(arrays["random_return"]))
    return Plan(maze, *returns, policy, values)


def _save(computed: Plan) -> None:
    """Write a plan to the cache."""
    arrays = {
        "optimal_return": np.array(computed.optimal_return),
        "random_return": np.array(computed.random_return),
        "policy": computed.policy,
        "values": computed.values,
    }
    write_arrays(_cache_name(computed.maze), arrays)
