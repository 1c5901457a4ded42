"""Environments of several runs in lockstep, and evaluation in separate environments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from cs285.envs.tasks import get_task
from cs285.learning.arrays import fill
from cs285.learning.contexts import Contexts
from cs285.learning.learner import Learner
from cs285.learning.random_streams import UniformStreams, derive_seed


class Steps(NamedTuple):
    """One environment step of every lane; `next_observations` are from before any reset."""

    rewards: np.ndarray
    next_observations: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray


class LockstepEnvs:
    """L lanes, each in its own environment, stepped together; ended episodes restart at once.

    Args:
        env_ids: One id per lane, of tasks with observations of one shape; lanes with the same id
            share a vector environment.
        seeds: One seed per lane.
    """

    def __init__(self, env_ids: Sequence[str], seeds: Sequence[int]) -> None:
        lane_seeds = np.asarray(seeds)
        names = np.asarray(env_ids)
        self._groups = [
            (lanes, get_task(name).make_vector_env(len(lanes)))
            for name in dict.fromkeys(env_ids)
            for lanes in [np.flatnonzero(names == name)]
        ]
        shape = get_task(env_ids[0]).observation_shape
        self.observations = np.empty((len(names), *shape), dtype=np.float32)
        """The current observation of each lane `(L, *observation_shape)`."""
        for lanes, env in self._groups:
            self.observations[lanes] = env.reset(seed=lane_seeds[lanes].tolist())[0]

    def step(self, actions: np.ndarray) -> Steps:
        """Move every lane by its action `(L,)`."""
        count = len(actions)
        steps = Steps(
            rewards=np.empty(count, dtype=np.float32),
            next_observations=np.empty_like(self.observations),
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

    def close(self) -> None:
        """Free the resources of the environments."""
        for _, env in self._groups:
            env.close()

    def get_state(self) -> dict[str, Any]:
        """Return everything that the future of the lanes depends on."""
        environments = [env.get_state() for _, env in self._groups]
        return {"observations": self.observations, "environments": environments}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore a state that `get_state` returned for these lanes.

        Raises:
            UserError: If the state of an environment cannot be restored.
        """
        fill(self.observations, state["observations"])
        for (_, env), own in zip(self._groups, state["environments"], strict=True):
            env.set_state(own)


@dataclass(frozen=True)
class Evaluation:
    """The evaluation episodes of one run's agent at one step."""

    returns: np.ndarray
    """Undiscounted return of each episode `(n,)`."""
    lengths: np.ndarray
    """Number of steps of each episode `(n,)`."""
    paths: list[np.ndarray]
    """Observations of each episode `(length + 1, *observation_shape)`, including the first one."""


def evaluate(
    learner: Learner, env_ids: Sequence[str], seeds: Sequence[int], episodes: int, step: int
) -> list[Evaluation]:
    """Run every agent greedily for exactly `episodes` episodes.

    Every episode has its own lane and counts once: a lane whose episode ends early idles instead of
    starting another, so short episodes are not overcounted. The environments are created for this
    evaluation only, so it does not affect training.

    Args:
        learner: S agents.
        env_ids: The environment of each run `(S,)`.
        seeds: The seed of each run `(S,)`; with `step` it determines the noise.
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
    contexts = Contexts(learner.agents, episodes)
    greedy = np.zeros(runs)
    observations = [envs.observations.copy()]
    rewards = []
    lengths = np.zeros(runs * episodes, dtype=np.int64)
    running = np.ones(runs * episodes, dtype=np.bool_)
    while running.any():
        # Idle lanes still take steps, in episodes that do not count.
        shaped = envs.observations.reshape(runs, episodes, -1)
        actions = learner.act(contexts.inputs(shaped), greedy, chance.next())
        result = envs.step(actions.reshape(-1))
        ended = result.terminated | result.truncated
        both = (part.reshape(runs, episodes) for part in (result.rewards, ended))
        contexts.record(shaped, actions, *both)
        observations.append(result.next_observations)
        rewards.append(result.rewards * running)
        lengths += running
        running &= ~ended

    envs.close()
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
