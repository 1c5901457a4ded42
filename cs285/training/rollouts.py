"""Environments of several runs in lock-step, and evaluation in environments of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from gymnasium.vector import AutoresetMode

from cs285.envs.pointmass import PointmassVectorEnv
from cs285.infrastructure.arrays import fill
from cs285.learning.learner import Learner
from cs285.learning.random_streams import UniformStreams, derive_seed


class Steps(NamedTuple):
    """One environment step of every lane; `next_observations` are those before any reset."""

    rewards: np.ndarray
    next_observations: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray


class LockstepEnvs:
    """L lanes, each in the environment it names, stepped together; lanes restart by themselves.

    Args:
        env_ids: One id per lane; lanes of one id share a vector environment.
        seeds: One seed per lane.
    """

    def __init__(self, env_ids: Sequence[str], seeds: Sequence[int]) -> None:
        lane_seeds = np.asarray(seeds)
        names = np.asarray(env_ids)
        self._groups = [
            (lanes, PointmassVectorEnv(str(name), len(lanes), AutoresetMode.SAME_STEP))
            for name in dict.fromkeys(env_ids)
            for lanes in [np.flatnonzero(names == name)]
        ]
        self.observations = np.empty((len(names), 2), dtype=np.float32)
        """What each lane observes now `(L, 2)`."""
        for lanes, env in self._groups:
            self.observations[lanes] = env.reset(seed=lane_seeds[lanes].tolist())[0]

    def step(self, actions: np.ndarray) -> Steps:
        """Move every lane by its action `(L,)`."""
        count = len(actions)
        steps = Steps(
            rewards=np.empty(count, dtype=np.float32),
            next_observations=np.empty((count, 2), dtype=np.float32),
            terminated=np.empty(count, dtype=np.bool_),
            truncated=np.empty(count, dtype=np.bool_),
        )
        for lanes, env in self._groups:
            observations, rewards, terminated, truncated, infos = env.step(actions[lanes])
            self.observations[lanes] = observations
            steps.next_observations[lanes] = observations
            steps.rewards[lanes] = rewards
            steps.terminated[lanes] = terminated
            steps.truncated[lanes] = truncated
            for lane in np.flatnonzero(infos.get("_final_obs", ())):
                steps.next_observations[lanes[lane]] = infos["final_obs"][lane]
        return steps

    def get_state(self) -> dict[str, Any]:
        """Return everything that the future of the lanes depends on."""
        environments = [env.get_state() for _, env in self._groups]
        return {"observations": self.observations, "environments": environments}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore what `get_state` of the same lanes returned."""
        fill(self.observations, state["observations"])
        for (_, env), own in zip(self._groups, state["environments"], strict=True):
            env.set_state(own)


@dataclass(frozen=True)
class Evaluation:
    """Episodes of one run's agent at one moment."""

    returns: np.ndarray
    """Undiscounted return of each episode `(n,)`."""
    lengths: np.ndarray
    """Steps of each episode `(n,)`."""
    paths: list[np.ndarray]
    """Observations of each episode `(length + 1, 2)`, the first one included."""


def evaluate(
    learner: Learner, env_ids: Sequence[str], seeds: Sequence[int], episodes: int, step: int
) -> list[Evaluation]:
    """Let every run's agent act greedily for exactly `episodes` episodes.

    Every episode has a lane of its own and counts once: a lane that ends early idles rather than
    starting again, so short episodes are not over-counted. The environments are made for this
    evaluation, so training never notices it.

    Args:
        learner: S agents.
        env_ids: The environment of each run `(S,)`.
        seeds: The seed of each run `(S,)`; with `step` it decides the noise.
        episodes: Episodes per run.
        step: The training step of this evaluation.
    """
    runs = len(seeds)
    lane_seeds = [
        derive_seed(seed, "evaluation", step, lane) for seed in seeds for lane in range(episodes)
    ]
    envs = LockstepEnvs(np.repeat(env_ids, episodes).tolist(), lane_seeds)
    chance = UniformStreams(
        [derive_seed(seed, "evaluation", step) for seed in seeds], width=episodes
    )
    greedy = np.zeros(runs)
    observations = [envs.observations.copy()]
    rewards = []
    lengths = np.zeros(runs * episodes, dtype=np.int64)
    running = np.ones(runs * episodes, dtype=np.bool_)
    while running.any():
        # Lanes that idle still move, in episodes that nobody looks at.
        shaped = envs.observations.reshape(runs, episodes, -1)
        result = envs.step(learner.act(shaped, greedy, chance.next()).reshape(-1))
        observations.append(result.next_observations)
        rewards.append(result.rewards * running)
        lengths += running
        running &= ~(result.terminated | result.truncated)

    returns = np.sum(rewards, axis=0)
    paths = np.stack(observations, axis=1)
    return [
        Evaluation(
            returns=returns[lanes],
            lengths=lengths[lanes],
            paths=[paths[lane, : lengths[lane] + 1] for lane in range(lanes.start, lanes.stop)],
        )
        for lanes in (slice(k * episodes, (k + 1) * episodes) for k in range(runs))
    ]
