"""Evaluations of agents in mazes as arrays over evenly spaced squares, for pictures and pages."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from cs285.analysis.exact import Data, ExactEvaluation, Values
from cs285.analysis.markov import action_values, best_values
from cs285.analysis.rollouts import Policy
from cs285.envs.dynamics import NUM_ACTIONS
from cs285.envs.mazes import FloatArray, Maze, cell_of, observe, positions_of
from cs285.envs.models import MazeModel, Model

MOST_CELLS = 200
"""Mazes of at most so many cells are shown with 8 squares per unit length, larger ones with 4."""


def squares_per_unit(maze: Maze) -> int:
    """Return the number of squares per unit length, n; it is even."""
    return 8 if maze.walls.size <= MOST_CELLS else 4


@dataclass(frozen=True, eq=False)
class Squares:
    """The squares of a maze, n along each unit of length: H * n rows of W * n."""

    maze: Maze
    per_unit: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.maze.height * self.per_unit, self.maze.width * self.per_unit

    @cached_property
    def free(self) -> npt.NDArray[np.bool_]:
        """Which squares are not in a wall, bool `(H * n, W * n)`."""
        return ~self.maze.walls.repeat(self.per_unit, axis=0).repeat(self.per_unit, axis=1)

    @cached_property
    def centres(self) -> FloatArray:
        """Positions of the centres of the free squares `(F, 2)`, row by row."""
        centres: FloatArray = (np.argwhere(self.free) + 0.5) / self.per_unit
        return centres

    def spread(self, values: npt.ArrayLike) -> FloatArray:
        """Lay the values of the free squares `(F, ...)` out `(H * n, W * n, ...)`; NaN in walls."""
        given = np.asarray(values, dtype=np.float64)
        laid = np.full((*self.shape, *given.shape[1:]), np.nan)
        laid[self.free] = given
        return laid

    def count(self, positions: FloatArray) -> FloatArray:
        """Count the positions `(N, 2)` in each square; NaN in walls."""
        counts = np.zeros(self.shape)
        at = np.clip(np.floor(positions * self.per_unit), 0, np.subtract(self.shape, 1))
        np.add.at(counts, tuple(at.astype(np.intp).T), 1.0)
        return np.where(self.free, counts, np.nan)

    def distribute(self, lower: FloatArray, upper: FloatArray, amounts: FloatArray) -> FloatArray:
        """Spread each amount evenly over a rectangle, and sum over each square; NaN in walls.

        Args:
            lower: Lower corners of the rectangles `(N, 2)`.
            upper: Upper corners `(N, 2)`.
            amounts: Amounts `(N,)`.
        """
        low, high = lower * self.per_unit, upper * self.per_unit
        first = np.floor(low).astype(np.intp)
        reach = int(np.ceil((high - first).max()))
        places = first[..., None] + np.arange(reach)
        overlap = np.clip(
            np.minimum(high[..., None], places + 1) - np.maximum(low[..., None], places), 0, None
        )
        shares = overlap / (high - low)[..., None]
        places = np.minimum(places, np.subtract(self.shape, 1)[:, None])
        sums = np.zeros(self.shape)
        parts = amounts[:, None, None] * shares[:, 0, :, None] * shares[:, 1, None, :]
        np.add.at(sums, (places[:, 0, :, None], places[:, 1, None, :]), parts)
        return np.where(self.free, sums, np.nan)


@dataclass(frozen=True, eq=False)
class Maps:
    """One agent at one moment.

    All arrays over squares are `(H * n, W * n)` or `(H * n, W * n, 5)`, with NaN in walls.

    Attributes:
        step: Updates that the agent had taken.
        learned: Its own estimates of the actions' values; None if it has none.
        exact: Values of the actions under the learner's discount, followed by its policy.
        policy: Probabilities of the actions.
        occupancy: Expected number of steps of an episode from each square.
        numbers: Results by name: `expected_return`, `return_error`, `expected_length`, `regret`
            and, as far as they are known, `overestimation`, `q_error`, `q_error_occupancy`,
            `unseen` and `shift`, as in `ExactEvaluation`.
    """

    step: int
    learned: FloatArray | None
    exact: FloatArray
    policy: FloatArray
    occupancy: FloatArray
    numbers: dict[str, float]

    @property
    def largest_learned(self) -> FloatArray | None:
        """`max_a Qhat`."""
        return None if self.learned is None else self.learned.max(axis=-1)

    @property
    def values(self) -> FloatArray:
        """Values of the policy, `V = sum_a pi Q`."""
        values: FloatArray = (self.policy * self.exact).sum(axis=-1)
        return values

    @property
    def difference(self) -> FloatArray | None:
        """`max_a Qhat - V`."""
        largest = self.largest_learned
        return None if largest is None else largest - self.values


@dataclass(frozen=True, eq=False)
class RunMaps:
    """One run.

    Attributes:
        name: What to call it.
        maze: Where it was trained.
        discount: The learner's.
        best: Values of the actions, followed by the best policy under this discount, over squares.
        density: Number of transitions of the dataset from each square; None without a dataset.
        counts: Number of transitions by unit cell and action, int64 `(H, W, 5)`; None likewise.
        moments: Its agent during training, in order; the last one is the result.
        curves: What the run logged itself, as steps and values `(2, E)`, by the names of `numbers`.
    """

    name: str
    maze: Maze
    discount: float
    best: FloatArray
    density: FloatArray | None
    counts: npt.NDArray[np.int64] | None
    moments: tuple[Maps, ...]
    curves: Mapping[str, FloatArray]

    @property
    def last(self) -> Maps:
        """The agent that the run ended with."""
        return self.moments[-1]

    def loss(self, maps: Maps) -> FloatArray:
        """Return how much is lost in each square if the policy acts once, then the best one."""
        lost: FloatArray = self.best.max(axis=-1) - (maps.policy * self.best).sum(axis=-1)
        return lost

    def errors(self, maps: Maps) -> FloatArray | None:
        """Return the root mean square of `Qhat - Q` by unit cell and action `(H, W, 5)`.

        It is NaN in walls, and None if the agent has no estimates.
        """
        if maps.learned is None:
            return None
        squares = (maps.learned - maps.exact) ** 2
        n = len(squares) // self.maze.height
        blocks = squares.reshape(self.maze.height, n, self.maze.width, n, NUM_ACTIONS)
        means: FloatArray = np.sqrt(blocks.mean(axis=(1, 3)))
        return means

    def visits(self, maps: Maps) -> FloatArray:
        """Return the expected number of steps from each unit cell in an episode `(H, W)`."""
        n = len(maps.occupancy) // self.maze.height
        blocks = maps.occupancy.reshape(self.maze.height, n, self.maze.width, n)
        return np.asarray(blocks.sum(axis=(1, 3)))


def maps_of(step: int, evaluation: ExactEvaluation, policy: Policy, values: Values | None) -> Maps:
    """Lay the evaluation of an agent in a maze out over squares.

    Args:
        step: Updates that the agent had taken.
        evaluation: Its evaluation, in a `MazeModel`.
        policy: The policy that was evaluated.
        values: The agent's own estimates, if it has any.
    """
    model = _in_maze(evaluation.chain.model)
    squares = Squares(model.maze, squares_per_unit(model.maze))
    observations = observe(model.maze, squares.centres)
    weights = model.interpolation(observations)
    layout = model.grid.layout
    found = {
        name: getattr(evaluation, name)
        for name in ("expected_return", "return_error", "regret", "overestimation", "q_error",
                     "q_error_occupancy", "unseen", "shift")
    }  # fmt: skip
    found["expected_length"] = evaluation.chain.expected_length
    return Maps(
        step=step,
        learned=None if values is None else squares.spread(values(observations)),
        exact=squares.spread(weights @ evaluation.action_values),
        policy=squares.spread(policy(observations)),
        occupancy=squares.distribute(layout.lower, layout.upper, evaluation.chain.occupancy),
        numbers={name: float(number) for name, number in found.items() if number is not None},
    )


@functools.cache
def best_of(model: Model, discount: float) -> FloatArray:
    """Return the values of the actions, followed by the best policy, over squares."""
    maze = _in_maze(model).maze
    squares = Squares(maze, squares_per_unit(maze))
    weights = model.interpolation(observe(maze, squares.centres))
    values = action_values(model, best_values(model, discount), discount)
    return squares.spread(weights @ values)


def density_of(maze: Maze, data: Data) -> FloatArray:
    """Return how many transitions of a dataset begin in each square."""
    squares = Squares(maze, squares_per_unit(maze))
    return squares.count(positions_of(maze, data.observations))


def counts_of(maze: Maze, data: Data) -> npt.NDArray[np.int64]:
    """Return how many transitions of a dataset take each action in each unit cell `(H, W, 5)`."""
    counts = np.zeros((maze.height, maze.width, NUM_ACTIONS), dtype=np.int64)
    cells = cell_of(maze, positions_of(maze, data.observations))
    np.add.at(counts, (cells[:, 0], cells[:, 1], data.actions), 1)
    return counts


def _in_maze(model: Model) -> MazeModel:
    if not isinstance(model, MazeModel):
        raise TypeError("only agents in mazes can be laid out over squares")
    return model
