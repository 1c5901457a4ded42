"""Many copies of any Gymnasium environment, whose state can be saved and restored.

Gymnasium has no way to read the state of an environment. But if an environment draws all its
randomness from `np_random`, its state follows from that generator's state at the last reset and
the actions since then. These are saved, and restoring replays the episode up to this point.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from tqdm import tqdm

from cs285.envs.pointmass import lane_seeds
from cs285.infrastructure.errors import UserError

Observations = npt.NDArray[np.float32]

_reported: set[str] = set()
"""Environments for which this process has reported an observation outside their space."""


class ReplayedVectorEnv(VectorEnv[Observations, npt.NDArray[np.int64], npt.NDArray[Any]]):
    """Environments stepped one after the other; an episode that ends restarts in the same step.

    Args:
        env_id: Its id, for messages.
        make_env: Makes one environment, with its step limit.
        num_envs: Number of environments.
        observation_space: A flat box of float32, to which observations are converted.
    """

    def __init__(
        self,
        env_id: str,
        make_env: Callable[[], gym.Env[Any, Any]],
        num_envs: int,
        observation_space: gym.spaces.Box,
    ) -> None:
        self.env_id = env_id
        self.num_envs = num_envs
        self._lanes = [_Lane(make_env()) for _ in range(num_envs)]
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
        self._box = observation_space
        self.single_observation_space = observation_space
        self.single_action_space = self._lanes[0].env.action_space
        self.observation_space = batch_space(observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._observations = np.zeros((num_envs, *observation_space.shape), dtype=np.float32)
        self._begun = False

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Observations, dict[str, Any]]:
        """Begin all episodes.

        Args:
            seed: One seed per environment, or an int that stands for `seed, seed + 1, ...`; None
                keeps a generator.
            options: Passed on to every environment; not saved with the state.
        """
        seeds = lane_seeds(seed, self.num_envs)
        for index, (lane, own) in enumerate(zip(self._lanes, seeds, strict=True)):
            self._observations[index] = lane.reset(own, options)
        self._check(self._observations)
        self._begun = True
        return self._observations.copy(), {}

    def step(
        self, actions: npt.NDArray[np.int64]
    ) -> tuple[
        Observations,
        npt.NDArray[np.float64],
        npt.NDArray[np.bool_],
        npt.NDArray[np.bool_],
        dict[str, Any],
    ]:
        """Step every environment by its action `(num_envs,)`.

        Returns:
            Observations `(num_envs, size)`, rewards, terminations and truncations `(num_envs,)`,
            infos with `final_obs`.

        Raises:
            ResetNeeded: Before the first reset.
            UserError: If an environment returns numbers that are not finite.
        """
        if not self._begun:
            raise ResetNeeded("no episode has begun: call reset() before step()")
        rewards = np.empty(self.num_envs)
        terminated = np.empty(self.num_envs, dtype=np.bool_)
        truncated = np.empty(self.num_envs, dtype=np.bool_)
        for index, (lane, action) in enumerate(zip(self._lanes, actions.tolist(), strict=True)):
            result = lane.step(action)
            self._observations[index], rewards[index], terminated[index], truncated[index] = result
        self._check(self._observations)
        if not np.isfinite(rewards).all():
            raise UserError(f"{self.env_id} returned a reward that is not a finite number")
        infos: dict[str, Any] = {}
        ended = terminated | truncated
        if ended.any():
            final_observations = np.full(self.num_envs, None, dtype=object)
            for index in np.flatnonzero(ended).tolist():
                final_observations[index] = self._observations[index].copy()
                self._observations[index] = self._lanes[index].reset()
            self._check(self._observations)
            infos = {"final_obs": final_observations, "_final_obs": ended}
        return self._observations.copy(), rewards, terminated, truncated, infos

    def get_state(self) -> dict[str, Any]:
        """Return how each episode began, the actions since then, and the current observations."""
        return {
            "begun": self._begun,
            "observations": self._observations.copy(),
            "lanes": [lane.get_state() for lane in self._lanes],
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Replay the episodes up to the point where `get_state` was called.

        Raises:
            ValueError: If the number of environments differs.
            UserError: If the replay leads to another state, because the environment has changed or
                has randomness that does not come from `np_random`.
        """
        lanes, expected = state["lanes"], state["observations"]
        if len(lanes) != self.num_envs:
            raise ValueError(f"the state has {len(lanes)} lanes, this environment {self.num_envs}")
        self._begun = bool(state["begun"])
        for index, (lane, own) in enumerate(zip(self._lanes, lanes, strict=True)):
            if not self._begun:
                continue
            observation = lane.set_state(own)
            if observation is None or not np.array_equal(
                np.asarray(observation, dtype=np.float32), expected[index]
            ):
                raise UserError(
                    f"{self.env_id} cannot be resumed: replaying its last episode led to another "
                    "state, so the environment has changed or does not draw all its randomness "
                    "from `np_random`; undo the change, or delete the checkpoint to start over"
                )
            self._observations[index] = observation

    def close_extras(self, **kwargs: Any) -> None:
        """Close every environment."""
        del kwargs
        for lane in self._lanes:
            lane.env.close()

    def _check(self, observations: Observations) -> None:
        """Refuse numbers that are not finite; report the first observation outside the space.

        Declared spaces are often slightly too small, and agents do not rely on them: they only
        rescale their inputs by the bounds.
        """
        finite = np.isfinite(observations).all(axis=1)
        if not finite.all():
            row = observations[~finite][0]
            raise UserError(
                f"{self.env_id} returned the observation {row.tolist()}, which is not finite"
            )
        box = self._box
        inside = ((observations >= box.low) & (observations <= box.high)).all(axis=1)
        if not inside.all() and self.env_id not in _reported:
            _reported.add(self.env_id)
            row = observations[~inside][0]
            tqdm.write(
                f"{self.env_id} returned the observation {row.tolist()}, which is outside its own "
                "observation space; training continues"
            )


class _Lane:
    """One environment, with the history from which its state can be restored."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        self.env = env
        self.seed: int | None = None
        """The seed with which the episode began, if any."""
        self.generator: dict[str, Any] | None = None
        """Without a seed, the generator's state when the episode began."""
        self.actions: list[int] = []

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.seed = seed
        self.generator = self._generator_state() if seed is None else None
        self.actions = []
        return self.env.reset(seed=seed, options=options)[0]

    def step(self, action: int) -> tuple[Any, float, bool, bool]:
        self.actions.append(action)
        observation, reward, terminated, truncated, _ = self.env.step(action)
        return observation, float(reward), bool(terminated), bool(truncated)

    def get_state(self) -> dict[str, Any]:
        return {
            "seed": self.seed,
            "generator": self.generator,
            "actions": np.array(self.actions, dtype=np.int64),
            "generator_now": self._generator_state(),
        }

    def set_state(self, state: dict[str, Any]) -> Any:
        """Replay an episode; return its last observation, or None if it led to another state."""
        if state["generator"] is not None:
            self.env.unwrapped.np_random.bit_generator.state = state["generator"]
        observation = self.reset(state["seed"])
        for action in state["actions"].tolist():
            observation, _, terminated, truncated = self.step(action)
            if terminated or truncated:
                return None
        return observation if self._generator_state() == state["generator_now"] else None

    def _generator_state(self) -> dict[str, Any] | None:
        """Return the generator's state; None unless the generator is Gymnasium's default one."""
        bits = getattr(self.env.unwrapped.np_random, "bit_generator", None)
        return dict(bits.state) if isinstance(bits, np.random.PCG64) else None
