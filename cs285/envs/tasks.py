"""What an environment is to the rest of the package: a `Task`.

Every task has a shape of observations, a number of actions and a way to make environments. Only
some have an exact planner, statistics of data or drawings; nothing above this module needs them.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cs285.envs.mazes import MAZES, Maze, coverage, get_maze, positions_of

if TYPE_CHECKING:
    from gymnasium.vector import VectorEnv

FloatArray = npt.NDArray[np.float64]


class Reference(NamedTuple):
    """Expected returns that others are measured against."""

    optimal_return: float
    random_return: float


@dataclass(frozen=True, eq=False)
class Task:
    """One environment."""

    env_id: str
    """Its id in Gymnasium."""
    name: str
    """Short name in files: `medium`."""
    title: str
    """Name in print: `Medium`."""
    dataset_stem: str
    """Its explored datasets are called `{dataset_stem}_{algorithm}` by default."""
    observation_shape: tuple[int, ...]
    num_actions: int
    rank: int
    """Place in tables, easiest first; environments without a place come last."""

    def make_vector_env(self, num_envs: int) -> VectorEnv[Any, Any, Any]:
        """Make `num_envs` environments that step together and restart in the same step."""
        raise NotImplementedError

    def reference(self) -> Reference | None:
        """Return the expected returns of the best and the random policy, if they are known."""
        return None

    def normalised_score(self, returns: npt.ArrayLike) -> FloatArray | None:
        """Return returns on the scale from 0, the random policy, to 1, the best one, if known."""
        reference = self.reference()
        if reference is None:
            return None
        span = reference.optimal_return - reference.random_return
        scores: FloatArray = (np.asarray(returns) - reference.random_return) / span
        return scores

    def statistics(
        self,
        observations: npt.NDArray[np.float32],
        next_observations: npt.NDArray[np.float32],
        terminated: npt.NDArray[np.bool_],
    ) -> dict[str, float]:
        """Return what there is to say about data `(N, ...)`, as scalars to log."""
        del observations, next_observations, terminated
        return {}


@dataclass(frozen=True, eq=False)
class MazeTask(Task):
    """A Pointmass maze."""

    maze: Maze

    def make_vector_env(self, num_envs: int) -> VectorEnv[Any, Any, Any]:
        """Make points in one maze."""
        from gymnasium.vector import AutoresetMode

        from cs285.envs.pointmass import PointmassVectorEnv

        return PointmassVectorEnv(self.env_id, num_envs, AutoresetMode.SAME_STEP)

    def reference(self) -> Reference:
        """Return what the exact planner computed."""
        from cs285.envs.planner import plan

        planned = plan(self.env_id)
        return Reference(planned.optimal_return, planned.random_return)

    def statistics(
        self,
        observations: npt.NDArray[np.float32],
        next_observations: npt.NDArray[np.float32],
        terminated: npt.NDArray[np.bool_],
    ) -> dict[str, float]:
        """Return `coverage`, the fraction of free cells visited, and `goals_reached`."""
        visited = np.concatenate([observations, next_observations])
        return {
            "coverage": coverage(self.maze, positions_of(self.maze, visited)),
            "goals_reached": int(terminated.sum()),
        }


@functools.cache
def get_task(env_id: str) -> Task:
    """Return the task of a Gymnasium id.

    Raises:
        ValueError: If the id is unknown, or its spaces are none that agents here can use.
    """
    maze = get_maze(env_id)
    title = {"veryhard": "VeryHard"}.get(maze.name, maze.name.capitalize())
    return MazeTask(
        env_id=env_id,
        name=maze.name,
        title=title,
        dataset_stem=f"pointmass_{maze.name}",
        observation_shape=(2,),
        num_actions=5,
        rank=list(MAZES).index(env_id),
        maze=maze,
    )
