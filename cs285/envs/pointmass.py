"""The Pointmass tasks as a Gymnasium environment and as a vector environment.

A point moves through a maze towards a goal disc. Each step moves it by one of five unit moves plus
Gaussian noise and costs 1. Reaching the goal terminates the episode; the step limit truncates it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from cs285.envs.dynamics import MOVES, NOISE_STD, NUM_ACTIONS, move, outcome
from cs285.envs.mazes import FloatArray, get_maze, observe
from cs285.envs.rendering import draw

if TYPE_CHECKING:
    from collections.abc import Sequence

BoolArray = npt.NDArray[np.bool_]
Observations = npt.NDArray[np.float32]
Picture = npt.NDArray[np.uint8]

NOISE_BLOCK = 256
"""Number of steps for which a lane of the vector environment draws noise at once."""


def make_observation_space() -> gym.spaces.Box[np.float32]:
    """Return the space of `(row / H, column / W)`."""
    return gym.spaces.Box(0.0, 1.0, (2,), np.float32)


class PointmassEnv(gym.Env[Observations, np.int64]):
    """One point in a maze.

    Observations are `(row / H, column / W)`, float32; actions are stay, left, right, up, down.
    `info["position"]` holds the exact position (row, column). Randomness comes from the
    environment's generator, which `reset` seeds.

    Args:
        env_id: One of the ids in `cs285.envs.mazes.MAZES`.
        dense_reward: Whether the reward is minus the distance to the goal instead of 0 or -1.
        render_mode: None or `"rgb_array"`.
        max_episode_steps: The step limit; None for that of the maze.

    Raises:
        ValueError: If the id or the render mode is unknown.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 (gym.Env declares it so)
        "render_modes": ["rgb_array"],
        "render_fps": 10,
    }

    def __init__(
        self,
        env_id: str,
        dense_reward: bool = False,  # noqa: FBT001, FBT002 (Gymnasium passes keywords, people too)
        render_mode: str | None = None,
        max_episode_steps: int | None = None,
    ) -> None:
        self.maze = get_maze(env_id)
        self.dense_reward = dense_reward
        self.render_mode = _checked_render_mode(render_mode)
        self.max_episode_steps = max_episode_steps or self.maze.max_episode_steps
        self.observation_space = make_observation_space()
        self.action_space = gym.spaces.Discrete(NUM_ACTIONS)
        self._positions = np.array([self.maze.start])
        self._steps = 0
        self._needs_reset = True

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """Put the point at the start; a seed restarts the noise as well."""
        super().reset(seed=seed, options=options)
        self._positions = np.array([self.maze.start])
        self._steps = 0
        self._needs_reset = False
        return self._observation(), self._info()

    def step(self, action: np.int64) -> tuple[Observations, float, bool, bool, dict[str, Any]]:
        """Move the point.

        Returns:
            Observation, reward, whether the goal and whether the step limit was reached, info.

        Raises:
            ResetNeeded: If the episode has ended or has not begun.
            ValueError: If the action is not one of the five.
        """
        if self._needs_reset:
            raise ResetNeeded("the episode has ended or not begun: call reset() before step()")
        if not self.action_space.contains(action):
            raise ValueError(f"action {action!r} is not an integer from 0 to {NUM_ACTIONS - 1}")
        noise = self.np_random.standard_normal((1, 2))
        self._positions = move(self.maze.walls, self._positions, MOVES[action] + NOISE_STD * noise)
        self._steps += 1
        rewards, reached = outcome(self.maze, self._positions, dense=self.dense_reward)
        terminated = bool(reached[0])
        truncated = self._steps >= self.max_episode_steps
        self._needs_reset = terminated or truncated
        return self._observation(), float(rewards[0]), terminated, truncated, self._info()

    def render(self) -> Picture | None:
        """Return a picture `(height, width, 3)` of the maze, or None without a render mode."""
        return None if self.render_mode is None else draw(self.maze, self._positions[0])

    def _observation(self) -> Observations:
        observation: Observations = observe(self.maze, self._positions)[0]
        return observation

    def _info(self) -> dict[str, Any]:
        return {"position": self._positions[0].copy()}


class PointmassVectorEnv(VectorEnv[Observations, npt.NDArray[np.int64], npt.NDArray[Any]]):
    """Many points in one maze that move together, each with its own generator.

    Lane k behaves bit for bit like a `PointmassEnv` that was reset with the k-th seed: noise is
    drawn in blocks, which consumes a generator exactly as drawing step by step does.

    Args:
        env_id: One of the ids in `cs285.envs.mazes.MAZES`.
        num_envs: Number of lanes.
        autoreset_mode: What happens when the episode of a lane ends; one of Gymnasium's modes.
        dense_reward: Whether the reward is minus the distance to the goal instead of 0 or -1.
        render_mode: None or `"rgb_array"`.
        max_episode_steps: The step limit; None for that of the maze.

    Raises:
        ValueError: If the id, the autoreset mode or the render mode is unknown.
    """

    def __init__(
        self,
        env_id: str,
        num_envs: int = 1,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        dense_reward: bool = False,  # noqa: FBT001, FBT002 (Gymnasium passes keywords, people too)
        render_mode: str | None = None,
        max_episode_steps: int | None = None,
    ) -> None:
        self.maze = get_maze(env_id)
        self.num_envs = num_envs
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = PointmassEnv.metadata | {"autoreset_mode": self.autoreset_mode}
        self.dense_reward = dense_reward
        self.render_mode = _checked_render_mode(render_mode)
        self.max_episode_steps = max_episode_steps or self.maze.max_episode_steps
        self.single_observation_space = make_observation_space()
        self.single_action_space = gym.spaces.Discrete(NUM_ACTIONS)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

        self._lanes = np.arange(num_envs)
        self._generators = [seeding.np_random()[0] for _ in range(num_envs)]
        self._noise = np.zeros((num_envs, NOISE_BLOCK, 2))
        self._noise_used = np.full(num_envs, NOISE_BLOCK)
        self._positions = np.tile(self.maze.start, (num_envs, 1))
        self._steps = np.zeros(num_envs, dtype=np.int64)
        self._needs_reset = np.ones(num_envs, dtype=np.bool_)
        self._begun = False

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Observations, dict[str, Any]]:
        """Put points at the start; seeds restart their noise as well.

        Args:
            seed: One seed per lane, or an int that stands for `seed, seed + 1, ...`; None keeps
                a generator's state.
            options: `{"reset_mask": mask}` resets only the lanes in the boolean mask `(num_envs,)`.

        Raises:
            ValueError: If the number of seeds or the shape or type of the mask is wrong.
        """
        mask = np.asarray((options or {}).get("reset_mask", np.ones(self.num_envs, np.bool_)))
        if mask.shape != (self.num_envs,) or mask.dtype != np.bool_ or not mask.any():
            raise ValueError(
                f"reset_mask must be a boolean array ({self.num_envs},) with a true element"
            )
        seeds = lane_seeds(seed, self.num_envs)
        for lane in np.flatnonzero(mask):
            if seeds[lane] is not None:
                self._generators[lane] = seeding.np_random(seeds[lane])[0]
                self._noise_used[lane] = NOISE_BLOCK
        self._begun = True
        self._restart(mask)
        return observe(self.maze, self._positions), self._infos(mask)

    def step(
        self, actions: npt.NDArray[np.int64]
    ) -> tuple[Observations, FloatArray, BoolArray, BoolArray, dict[str, Any]]:
        """Move all points by their actions `(num_envs,)`.

        In next-step mode a lane whose episode has ended ignores its action, returns to the start
        and gets reward 0.

        Returns:
            Observations `(num_envs, 2)`, rewards, terminations and truncations `(num_envs,)`,
            infos.

        Raises:
            ResetNeeded: Before the first reset, and after the end of an episode that neither the
                autoreset mode nor the caller has restarted.
            ValueError: If the actions are not `num_envs` integers from 0 to 4.
        """
        next_step = self.autoreset_mode is AutoresetMode.NEXT_STEP
        if not self._begun or (not next_step and self._needs_reset.any()):
            raise ResetNeeded("an episode has ended or not begun: call reset() before step()")
        actions = np.asarray(actions)
        if actions.shape != (self.num_envs,) or actions.min() < 0 or actions.max() >= NUM_ACTIONS:
            raise ValueError(
                f"actions must be {self.num_envs} integers from 0 to {NUM_ACTIONS - 1}: {actions}"
            )
        # Only next-step mode gets here with episodes to restart; those lanes use no noise.
        restarting = self._needs_reset
        displacements = MOVES[actions] + NOISE_STD * self._next_noise()
        self._noise_used += ~restarting
        self._positions = move(self.maze.walls, self._positions, displacements)
        self._steps += 1
        rewards, terminations = outcome(self.maze, self._positions, dense=self.dense_reward)
        truncations = self._steps >= self.max_episode_steps
        if restarting.any():
            rewards[restarting] = 0.0
            terminations &= ~restarting
            truncations &= ~restarting
            self._restart(restarting)

        self._needs_reset = ended = terminations | truncations
        infos: dict[str, Any] = {}
        if self.autoreset_mode is AutoresetMode.SAME_STEP and ended.any():
            final_observations = np.full(self.num_envs, None, dtype=object)
            for lane in np.flatnonzero(ended):
                final_observations[lane] = observe(self.maze, self._positions[lane])
            infos = {
                "final_obs": final_observations,
                "_final_obs": ended.copy(),
                "final_info": self._infos(ended),
                "_final_info": ended.copy(),
            }
            self._restart(ended)
        infos["position"] = self._positions.copy()
        infos["_position"] = np.ones(self.num_envs, np.bool_)
        return observe(self.maze, self._positions), rewards, terminations, truncations, infos

    def render(self) -> tuple[Picture, ...] | None:
        """Return one picture per lane, or None without a render mode."""
        if self.render_mode is None:
            return None
        return tuple(draw(self.maze, position) for position in self._positions)

    def get_state(self) -> dict[str, Any]:
        """Return everything that the future depends on: arrays and the generators' states."""
        return {
            "positions": self._positions.copy(),
            "steps": self._steps.copy(),
            "needs_reset": self._needs_reset.copy(),
            "begun": self._begun,
            "noise": self._noise.copy(),
            "noise_used": self._noise_used.copy(),
            "generators": [generator.bit_generator.state for generator in self._generators],
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore a state that `get_state` returned for the same number of lanes.

        Raises:
            ValueError: If the number of lanes differs.
        """
        lanes = len(state["generators"])
        if lanes != self.num_envs:
            raise ValueError(f"the state has {lanes} lanes, this environment {self.num_envs}")
        self._positions = np.array(state["positions"], dtype=np.float64)
        self._steps = np.array(state["steps"], dtype=np.int64)
        self._needs_reset = np.array(state["needs_reset"], dtype=np.bool_)
        self._begun = bool(state["begun"])
        self._noise = np.array(state["noise"], dtype=np.float64)
        self._noise_used = np.array(state["noise_used"], dtype=np.int64)
        for generator, bits in zip(self._generators, state["generators"], strict=True):
            generator.bit_generator.state = bits

    def _next_noise(self) -> FloatArray:
        """Return the next unit noise `(num_envs, 2)` of every lane without marking it as used."""
        if self._noise_used.max() >= NOISE_BLOCK:
            for lane in np.flatnonzero(self._noise_used >= NOISE_BLOCK):
                self._noise[lane] = self._generators[lane].standard_normal((NOISE_BLOCK, 2))
                self._noise_used[lane] = 0
        noise: FloatArray = self._noise[self._lanes, self._noise_used]
        return noise

    def _restart(self, mask: BoolArray) -> None:
        self._positions[mask] = self.maze.start
        self._steps[mask] = 0
        self._needs_reset[mask] = False

    def _infos(self, mask: BoolArray) -> dict[str, Any]:
        """Return the positions of the lanes in the mask, batched as Gymnasium batches infos."""
        return {
            "position": np.where(mask[:, None], self._positions, 0.0),
            "_position": mask.copy(),
        }


def _checked_render_mode(render_mode: str | None) -> str | None:
    modes = PointmassEnv.metadata["render_modes"]
    if render_mode is not None and render_mode not in modes:
        raise ValueError(f"render_mode {render_mode!r} is not supported: use one of {modes}")
    return render_mode


def lane_seeds(seed: int | Sequence[int | None] | None, num_envs: int) -> list[int | None]:
    """Return one seed per lane for the `seed` argument of `reset`."""
    if seed is None:
        return [None] * num_envs
    if isinstance(seed, int | np.integer):
        return [int(seed) + lane for lane in range(num_envs)]
    if len(seed) != num_envs:
        raise ValueError(f"{num_envs} lanes need {num_envs} seeds, not {len(seed)}")
    return [None if each is None else int(each) for each in seed]
