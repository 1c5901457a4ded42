"""What exact analysis needs to know of a task: a finite Markov decision process that stands for it.

A task whose transition probabilities are known has models of several resolutions; the finer one is
the more exact, and the dearer.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from cs285.envs.dynamics import MOVES, NOISE_STD, move, outcome
from cs285.envs.grids import Grid, grid
from cs285.envs.mazes import FloatArray, Maze, cell_of, observe, positions_of

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Observations = npt.NDArray[np.float32]

RESOLUTIONS = (2, 3, 4, 6)
FEWEST_NODES, MOST_NODES = 80, 7_000
"""On coarser grids the return of a good policy is off by more than 0.05; a finer one takes longer
to make than to train an agent."""

SAMPLES_PER_UNIT = 6
"""A policy is averaged over about so many points along each axis of a unit cell, or over two of
each square if these are more."""


class Outcome(NamedTuple):
    """What one step of M simulated points led to."""

    positions: FloatArray
    """`(M, 2)`."""
    rewards: FloatArray
    """`(M,)`."""
    terminated: npt.NDArray[np.bool_]
    """`(M,)`."""


@dataclass(frozen=True, eq=False)
class Model(ABC):
    """A Markov decision process with N states and A actions.

    Episodes end where `transitions` say so, by probabilities that sum to less than 1, and after
    `horizon` steps.

    Attributes:
        transitions: Probability of continuing in each state, sparse float32 `(N * A, N)` with one
            row per state and action.
        rewards: Expected reward, float32 `(N, A)`.
        start: Probability of each first state `(N,)`.
        horizon: Steps after which an episode is truncated, H.
        observations: One observation in each state, float32 `(N, *observation_shape)`.
        samples: Observations within the states, one state after the other, float32
            `(K, *observation_shape)`; the probabilities of a policy in a state are the mean over
            its own.
        first_samples: Number of the first sample of each state `(N,)`.
        regions: Number of the region of each state `(N,)`. Data and policies are compared by how
            often they take each action in each region.
        num_regions: Number of regions.
        spacing: Distance of neighbouring states, in the task's own unit.
    """

    transitions: csr_array
    rewards: npt.NDArray[np.float32]
    start: FloatArray
    horizon: int
    observations: Observations
    samples: Observations
    first_samples: npt.NDArray[np.intp]
    regions: npt.NDArray[np.intp]
    num_regions: int
    spacing: float

    @property
    def num_states(self) -> int:
        """N."""
        return len(self.rewards)

    @property
    def num_actions(self) -> int:
        """A."""
        return int(self.rewards.shape[1])

    def mean_of_samples(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the means `(N, ...)` over each state of values at its samples `(K, ...)`."""
        counts = np.diff(self.first_samples, append=len(self.samples))
        sums = np.add.reduceat(values, self.first_samples, axis=0)
        return np.asarray(sums / counts.astype(np.float32)[:, None], dtype=np.float32)

    @abstractmethod
    def interpolation(self, observations: Observations) -> csr_array:
        """Return the weights `(M, N)` of the states in values at M observations."""

    @abstractmethod
    def regions_of(self, observations: Observations) -> npt.NDArray[np.intp]:
        """Return the numbers of the regions of M observations `(M,)`."""

    # Simulation, which is free of the errors of a grid

    @abstractmethod
    def first_positions(self, count: int) -> FloatArray:
        """Return the exact states `(count, 2)` in which episodes begin."""

    @abstractmethod
    def observe(self, positions: FloatArray) -> Observations:
        """Return the observations of exact states."""

    @abstractmethod
    def draw_noise(self, rng: np.random.Generator, count: int) -> FloatArray:
        """Draw noise `(count, 2)` whose distribution is symmetric about 0."""

    @abstractmethod
    def step(
        self, positions: FloatArray, actions: npt.NDArray[np.intp], noise: FloatArray
    ) -> Outcome:
        """Simulate one step with the actions `(M,)` and the noise `(M, 2)`."""


@dataclass(frozen=True, eq=False)
class MazeModel(Model):
    """A maze on a grid: a state is a square around a node, a region is a unit cell."""

    grid: Grid

    @property
    def maze(self) -> Maze:
        """The maze."""
        return self.grid.layout.maze

    def interpolation(self, observations: Observations) -> csr_array:
        """Interpolate linearly between the nodes around the positions."""
        return self.grid.interpolation(positions_of(self.maze, observations))

    def regions_of(self, observations: Observations) -> npt.NDArray[np.intp]:
        """Return the cells, numbered row by row."""
        return _cell_numbers(self.maze, positions_of(self.maze, observations))

    def first_positions(self, count: int) -> FloatArray:
        """All episodes begin at the start."""
        return np.tile(np.array(self.maze.start), (count, 1))

    def observe(self, positions: FloatArray) -> Observations:
        """Row and column as fractions of the maze."""
        return observe(self.maze, positions)

    def draw_noise(self, rng: np.random.Generator, count: int) -> FloatArray:
        """Gaussian noise of each step."""
        return rng.normal(0.0, NOISE_STD, (count, 2))

    def step(
        self, positions: FloatArray, actions: npt.NDArray[np.intp], noise: FloatArray
    ) -> Outcome:
        """Move the points."""
        moved = move(self.maze.walls, positions, MOVES[actions] + noise)
        return Outcome(moved, *outcome(self.maze, moved))


@functools.cache
def maze_model(maze: Maze, resolution: int) -> MazeModel:
    """Return the model of a maze with `resolution` nodes per unit length."""
    own = grid(maze, resolution)
    layout = own.layout
    start = own.interpolation(np.array([maze.start])).toarray()[0]
    spread, first_samples = _evenly_spread(
        layout.lower, layout.upper, max(SAMPLES_PER_UNIT, 2 * resolution)
    )
    return MazeModel(
        transitions=own.transitions,
        rewards=own.arrivals - 1,
        start=start,
        horizon=maze.max_episode_steps,
        observations=observe(maze, layout.nodes),
        samples=observe(maze, spread),
        first_samples=first_samples,
        regions=_cell_numbers(maze, layout.nodes),
        num_regions=maze.walls.size,
        spacing=1 / resolution,
        grid=own,
    )


def _evenly_spread(
    lower: FloatArray, upper: FloatArray, per_unit: int
) -> tuple[FloatArray, npt.NDArray[np.intp]]:
    """Spread points evenly over rectangles, at least one over each.

    Args:
        lower: Lower corners of the rectangles `(N, 2)`.
        upper: Upper corners `(N, 2)`.
        per_unit: Points along a unit of length, rounded to a whole number for each side.

    Returns:
        The points `(K, 2)`, one rectangle after the other, and the number of each rectangle's first
        point `(N,)`.
    """
    # Sides of half a point must all be rounded in the same direction.
    sides = np.maximum(1, np.floor((upper - lower) * per_unit + 0.5 + 1e-6).astype(np.intp))
    counts = sides.prod(axis=1)
    first = np.cumsum(counts) - counts
    own = np.repeat(np.arange(len(counts)), counts)
    number = np.arange(len(own)) - first[own]
    steps = np.stack([number // sides[own, 1], number % sides[own, 1]], axis=1)
    return lower[own] + (upper - lower)[own] * (steps + 0.5) / sides[own], first


def _cell_numbers(maze: Maze, positions: FloatArray) -> npt.NDArray[np.intp]:
    cells = cell_of(maze, positions)
    numbers: npt.NDArray[np.intp] = cells[..., 0] * maze.width + cells[..., 1]
    return numbers


def resolutions_of(maze: Maze) -> tuple[int, ...]:
    """Return the resolutions of the models of a maze, coarsest first."""
    return tuple(n for n in RESOLUTIONS if FEWEST_NODES <= maze.free_cells * n * n <= MOST_NODES)
