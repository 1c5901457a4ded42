"""Tasks: the environments as the rest of the package sees them.

Every task has spaces and can make environments. Only some have reference returns, statistics of
data or drawings; the packages above this one ask for them and do without if they are missing. The
mazes are the homework's tasks, `known_tasks`. Any other Gymnasium environment with a flat `Box` of
observations and `Discrete` actions is also a task, by its id.
"""

from __future__ import annotations

import functools
import re
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from cs285.envs.mazes import MAZES, Maze, coverage, positions_of
from cs285.infrastructure.errors import printable, suggestion

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from cs285.envs.models import Model

FloatArray = npt.NDArray[np.float64]
Observations = npt.NDArray[np.float32]

LARGEST_BOUND = 1e4
"""Larger bounds count as infinite, because scaling by them would flatten observations."""

DEFAULT_STEP_LIMIT = 10_000
"""Step limit of environments that declare none; without a limit an evaluation might never end."""


MAX_ID_LENGTH = 80


class Reference(NamedTuple):
    """Expected returns that others are measured against."""

    optimal_return: float
    random_return: float

    def score(self, returns: npt.ArrayLike) -> FloatArray:
        """Return returns on the scale from 0, the random policy, to 1, the best one."""
        span = self.optimal_return - self.random_return
        scores: FloatArray = (np.asarray(returns) - self.random_return) / span
        return scores


class InputBounds(NamedTuple):
    """Bounds of observations, each of the shape of one observation; infinite if unbounded."""

    low: FloatArray
    high: FloatArray


class TaskVectorEnv(Protocol):
    """Environments that step together; after an episode ends, the next begins in the same step."""

    def reset(self, *, seed: Any = None) -> tuple[Observations, dict[str, Any]]:
        """Begin all episodes; `seed` is a list of one seed per environment."""
        ...

    def step(
        self, actions: npt.NDArray[np.int64]
    ) -> tuple[Any, Any, npt.NDArray[np.bool_], npt.NDArray[np.bool_], dict[str, Any]]:
        """Return observations, rewards, terminations, truncations and infos.

        `infos["final_obs"]` holds the last observations of the episodes that ended, where
        `infos["_final_obs"]` is true; the observations are then the first ones of the next.
        """
        ...

    def get_state(self) -> dict[str, Any]:
        """Return everything that the future depends on."""
        ...

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore a state that `get_state` returned for the same number of environments."""
        ...

    def close(self) -> None:
        """Free the resources of the environments."""
        ...


class Drawing(Protocol):
    """Pictures for one task."""

    def exploration(
        self, observations: Observations, agent: object = None, title: str | None = None
    ) -> Figure:
        """Show the visited states `(N, *observation_shape)`, in order, and the agent's own plots.

        Observations of a task with a drawing fill the unit square, so an agent's `plot_aux` can
        map it.
        """
        ...

    def trajectories(
        self,
        trajectories: Sequence[Observations],
        returns: Sequence[float],
        *,
        title: str | None = None,
        online_start: int | None = None,
    ) -> Figure:
        """Show the observations `(T_i, *observation_shape)` of episodes with these returns.

        Args:
            trajectories: One array per episode, including the first observation.
            returns: The return of each episode.
            title: Text above the picture.
            online_start: The step at which online training began, if any.
        """
        ...


@dataclass(frozen=True, eq=False)
class Task(ABC):
    """One environment; `get_task` returns it."""

    env_id: str
    """Its id in Gymnasium."""
    name: str
    """Short name in file names: `medium`."""
    title: str
    """Name in figures and tables: `Medium`."""
    dataset_stem: str
    """Its datasets are called `{dataset_stem}_{algorithm}` by default."""
    rank: int
    """Position in tables, easiest first; all unknown tasks share the last position."""

    @property
    @abstractmethod
    def observation_space(self) -> gym.spaces.Box:
        """The space of one observation, a flat box."""

    @property
    @abstractmethod
    def num_actions(self) -> int:
        """Number of actions; they are numbered from 0."""

    @property
    @abstractmethod
    def max_episode_steps(self) -> int:
        """Steps after which an episode is truncated."""

    @property
    def observation_shape(self) -> tuple[int, ...]:
        """Shape of one observation."""
        shape: tuple[int, ...] = self.observation_space.shape
        return shape

    @property
    def layout(self) -> Hashable:
        """A key that is equal for two tasks exactly if the same networks fit both."""
        box = self.observation_space
        return box.shape, box.low.tobytes(), box.high.tobytes(), self.num_actions

    @property
    def input_bounds(self) -> InputBounds | None:
        """The bounds by which networks rescale observations; None if all are exactly [0, 1].

        A coordinate counts as unbounded if a bound is infinite or larger than `LARGEST_BOUND` in
        absolute value, or if both are equal.
        """
        box = self.observation_space
        if (box.low == 0).all() and (box.high == 1).all():
            return None
        low, high = box.low.astype(np.float64), box.high.astype(np.float64)
        usable = (np.maximum(np.abs(low), np.abs(high)) <= LARGEST_BOUND) & (low < high)
        return InputBounds(np.where(usable, low, -np.inf), np.where(usable, high, np.inf))

    @property
    def return_bounds(self) -> tuple[float, float] | None:
        """The lowest and the highest return that an episode can have, if they are known."""
        return None

    @property
    def step_reward(self) -> float | None:
        """The reward of every step that does not end an episode, if it is always the same."""
        return None

    @property
    def keeps_bounds(self) -> bool:
        """Whether no observation can be outside `observation_space`."""
        return False

    @property
    def comes_with_gymnasium(self) -> bool:
        """Whether every process knows the environment, because no other package registers it."""
        return False

    @property
    def drawing(self) -> Drawing | None:
        """Pictures of this task, if it has any; only tasks in the unit square may have them."""
        return None

    @abstractmethod
    def make_env(self) -> gym.Env[Any, Any]:
        """Make one environment."""

    @abstractmethod
    def make_vector_env(self, num_envs: int) -> TaskVectorEnv:
        """Make `num_envs` environments that step together and restart in the same step."""

    def models(self) -> Sequence[Callable[[], Model]]:
        """Return what makes the exact models of this task, coarsest first; empty if none exist."""
        return ()

    def reference(self) -> Reference | None:
        """Return the expected returns of the best and the random policy, if they are known."""
        return None

    def normalised_score(self, returns: npt.ArrayLike) -> FloatArray | None:
        """Return returns on the scale from 0, the random policy, to 1, the best one, if known."""
        reference = self.reference()
        return None if reference is None else reference.score(returns)

    def statistics(
        self,
        observations: Observations,
        next_observations: Observations,
        terminated: npt.NDArray[np.bool_],
    ) -> dict[str, float]:
        """Return statistics of data `(N, ...)` to log, by their tags."""
        del observations, next_observations, terminated
        return {}

    def describe_statistics(self, statistics: Mapping[str, float]) -> str:
        """Describe the result of `statistics` in words; empty if there is nothing to say."""
        del statistics
        return ""


@dataclass(frozen=True, eq=False)
class MazeTask(Task):
    """A Pointmass maze."""

    maze: Maze

    @functools.cached_property
    def observation_space(self) -> gym.spaces.Box:
        """Row and column as fractions of the maze."""
        from cs285.envs.pointmass import make_observation_space

        return make_observation_space()

    @property
    def num_actions(self) -> int:
        """Stay, left, right, up and down."""
        from cs285.envs.dynamics import NUM_ACTIONS

        return NUM_ACTIONS

    @property
    def max_episode_steps(self) -> int:
        """The maze's step limit."""
        return self.maze.max_episode_steps

    @property
    def return_bounds(self) -> tuple[float, float]:
        """Every step may cost 1."""
        return (-float(self.max_episode_steps), 0.0)

    @property
    def step_reward(self) -> float:
        """Every step costs 1 until the goal."""
        return -1.0

    @property
    def keeps_bounds(self) -> bool:
        """The maze's walls keep the point inside."""
        return True

    @property
    def comes_with_gymnasium(self) -> bool:
        """Mazes are made without Gymnasium's registry."""
        return True

    @property
    def drawing(self) -> Drawing:
        """Pictures on top of the maze's map."""
        from cs285.envs.maze_figures import MazeDrawing

        return MazeDrawing(self.maze)

    def make_env(self) -> gym.Env[Any, Any]:
        """Make one point in the maze."""
        from cs285.envs.pointmass import PointmassEnv

        return PointmassEnv(self.env_id)

    def make_vector_env(self, num_envs: int) -> TaskVectorEnv:
        """Make points that move together in the maze."""
        from gymnasium.vector import AutoresetMode

        from cs285.envs.pointmass import PointmassVectorEnv

        return PointmassVectorEnv(self.env_id, num_envs, AutoresetMode.SAME_STEP)

    def models(self) -> Sequence[Callable[[], Model]]:
        """Return grids of the maze."""
        from cs285.envs.models import maze_model, resolutions_of

        return [functools.partial(maze_model, self.maze, n) for n in resolutions_of(self.maze)]

    def reference(self) -> Reference:
        """Return the results of the exact planner."""
        from cs285.envs.planner import plan

        planned = plan(self.env_id)
        return Reference(planned.optimal_return, planned.random_return)

    def statistics(
        self,
        observations: Observations,
        next_observations: Observations,
        terminated: npt.NDArray[np.bool_],
    ) -> dict[str, float]:
        """Return `coverage`, the fraction of free cells visited, and `goals_reached`."""
        visited = np.concatenate([observations, next_observations])
        return {
            "coverage": coverage(self.maze, positions_of(self.maze, visited)),
            "goals_reached": int(terminated.sum()),
        }

    def describe_statistics(self, statistics: Mapping[str, float]) -> str:
        """Describe coverage and goals in words."""
        return (
            f"{statistics['coverage']:.1%} of the free cells visited, the goal reached "
            f"{statistics['goals_reached']:,} times"
        )


@dataclass(frozen=True, eq=False)
class GymnasiumTask(Task):
    """An environment that is known only by its id; its spaces are read on first use."""

    @functools.cached_property
    def _limits(self) -> tuple[gym.spaces.Box, int, int]:
        """The observation space, the number of actions and the step limit.

        Raises:
            ValueError: If the environment cannot be made, or has unsupported spaces.
        """
        env = self._make()
        try:
            observations, actions = env.observation_space, env.action_space
            limit = env.spec.max_episode_steps if env.spec else None
        finally:
            env.close()
        if not isinstance(observations, gym.spaces.Box) or len(observations.shape) != 1:
            raise ValueError(
                f"{self.env_id} observes {_short(observations)}, but agents here need a flat Box "
                "of numbers"
            )
        if not isinstance(actions, gym.spaces.Discrete) or actions.start != 0:
            raise ValueError(
                f"{self.env_id} takes actions in {_short(actions)}, but agents here need Discrete "
                "actions numbered from 0"
            )
        return observations, int(actions.n), limit or DEFAULT_STEP_LIMIT

    @functools.cached_property
    def observation_space(self) -> gym.spaces.Box:
        """The environment's space, in float32."""
        box = self._limits[0]
        low, high = box.low.astype(np.float32), box.high.astype(np.float32)
        return gym.spaces.Box(low, high, dtype=np.float32)

    @property
    def num_actions(self) -> int:
        """The environment's number of actions."""
        return self._limits[1]

    @property
    def max_episode_steps(self) -> int:
        """The limit that the environment is registered with, else `DEFAULT_STEP_LIMIT`."""
        return self._limits[2]

    @property
    def comes_with_gymnasium(self) -> bool:
        """Whether Gymnasium itself registers the environment."""
        spec = gym.registry.get(self.env_id)
        return spec is not None and str(spec.entry_point).startswith("gymnasium.envs.")

    def make_env(self) -> gym.Env[Any, Any]:
        """Make one environment with its step limit."""
        return self._make(max_episode_steps=self.max_episode_steps)

    def make_vector_env(self, num_envs: int) -> TaskVectorEnv:
        """Make environments that step one after the other."""
        from cs285.envs.replayed import ReplayedVectorEnv

        return ReplayedVectorEnv(self.env_id, self.make_env, num_envs, self.observation_space)

    def _make(self, **options: Any) -> gym.Env[Any, Any]:
        """Make the environment.

        Raises:
            ValueError: If that is impossible; the message says why.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as about a newer version
            try:
                env: gym.Env[Any, Any] = gym.make(self.env_id, disable_env_checker=True, **options)
            except (gym.error.DependencyNotInstalled, ImportError) as error:
                raise ValueError(
                    f"{_short(self.env_id)} needs a package that is not installed: "
                    f"{_one_line(error)}"
                ) from error
            except gym.error.NamespaceNotFound as error:
                raise ValueError(
                    f"{_short(self.env_id)} needs a package that is not installed: no installed "
                    "package registers environments called "
                    f"{_short(self.env_id.rpartition('/')[0])}/..."
                ) from error
            except gym.error.Error as error:
                raise ValueError(
                    f"unknown environment {_short(self.env_id)}"
                    f"{suggestion(self.env_id, [*MAZES, *gym.registry])}; it may be "
                    f"{', '.join(MAZES)} or a Gymnasium environment with a flat Box of "
                    "observations and Discrete actions"
                ) from error
            except Exception as error:
                raise ValueError(
                    f"{_short(self.env_id)} cannot be made: {_one_line(error)}"
                ) from error
        if env.spec is not None and env.spec.id != self.env_id.rpartition(":")[2]:
            env.close()
            raise ValueError(
                f"{_short(self.env_id)} names no version, but results differ between versions; "
                f"write {env.spec.id}"
            )
        return env


def _short(value: object) -> str:
    """Return a user's text on one line of bounded length."""
    return printable(" ".join(str(value).split()))[:80]


def _one_line(error: Exception) -> str:
    """Return another library's message on one line, without a full stop."""
    return printable(" ".join(str(error).split()))[:200].rstrip(".")


@functools.cache
def known_tasks() -> Mapping[str, MazeTask]:
    """Return the homework's tasks by id, easiest first."""
    tasks = [
        MazeTask(
            env_id=env_id,
            name=maze.name,
            title=maze.title,
            dataset_stem=f"pointmass_{maze.name}",
            rank=rank,
            maze=maze,
        )
        for rank, (env_id, maze) in enumerate(MAZES.items())
    ]
    return MappingProxyType({task.env_id: task for task in tasks})


def task_named_in(text: str) -> Task | None:
    """Return the known task whose name comes first in a text such as `pointmass_medium_cql`."""
    # `veryhard` before `hard`; public versions write `very_hard`.
    tasks = sorted(known_tasks().values(), key=lambda task: len(task.name), reverse=True)
    pattern = "|".join(f"({task.name.replace('very', 'very_?')})" for task in tasks)
    found = re.search(pattern, text, re.IGNORECASE)
    return tasks[found.lastindex - 1] if found and found.lastindex else None


def is_env_id(text: str) -> bool:
    """Whether a text could be the id of an environment: one word of bounded length."""
    return len(text) <= MAX_ID_LENGTH and re.fullmatch(r"[\w.:/-]+", text, re.ASCII) is not None


@functools.cache
def describe_task(env_id: str) -> Task:
    """Return the task of any id without making an environment.

    Its names, rank and reference are safe to use even if the id comes from an untrusted file. Its
    spaces raise a ValueError if `get_task` would.
    """
    if env_id in known_tasks():
        return known_tasks()[env_id]
    bare = re.sub(r"-v\d+$", "", env_id.rpartition(":")[2])
    name = re.sub(r"[^a-z0-9]+", "_", bare.lower()).strip("_") or "environment"
    return GymnasiumTask(
        env_id=env_id, name=name, title=env_id, dataset_stem=name, rank=len(known_tasks())
    )


def unavailable(env_ids: Iterable[str]) -> list[str]:
    """Return the ids that `get_task` refuses in this process."""
    refused = []
    for env_id in env_ids:
        try:
            get_task(env_id)
        except ValueError:
            refused.append(env_id)
    return refused


@functools.cache
def get_task(env_id: str) -> Task:
    """Return the task of a Gymnasium id, which may name a module to import first: `module:Id-v0`.

    Raises:
        ValueError: If the id is unknown, a package of the environment is missing, or its spaces
            are not a flat `Box` and `Discrete` numbered from 0.
    """
    task = describe_task(env_id)
    task.observation_space  # noqa: B018 - reads and checks the spaces
    return task
