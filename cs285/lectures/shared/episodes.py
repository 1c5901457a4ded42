"""Data of simulated episodes, with any starts and any time limit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cs285.analysis.markov import Chain
from cs285.analysis.rollouts import Policy
from cs285.datasets.dataset_files import FIELDS, Dataset, make_manifest
from cs285.envs.models import Model, Observations

FloatArray = npt.NDArray[np.float64]


def simulate(
    env_id: str,
    model: Model,
    policy: Policy,
    starts: FloatArray,
    limit: int,
    seed: int,
) -> Dataset:
    """Return the transitions of one episode from each start, episode after episode.

    Args:
        env_id: The environment that the model stands for.
        model: Simulates steps.
        policy: Probabilities of the actions at observations.
        starts: Exact first states `(E, 2)`.
        limit: Steps after which episodes are truncated.
        seed: Determines all chance.
    """
    rng = np.random.default_rng(seed)
    parts: list[tuple[Any, ...]] = []
    positions, running = starts, np.arange(len(starts))
    for step in range(limit):
        if not len(running):
            break
        observations = model.observe(positions)
        chances = np.cumsum(policy(observations), axis=1)
        draws = rng.random((len(running), 1)) * chances[:, -1:]
        actions = (draws >= chances).sum(axis=1)
        after = model.step(positions, actions, model.draw_noise(rng, len(running)))
        truncated = ~after.terminated & (step == limit - 1)
        following = model.observe(after.positions)
        parts.append(
            (running, observations, actions, after.rewards, following, after.terminated, truncated)
        )
        running, positions = running[~after.terminated], after.positions[~after.terminated]
    episodes, *columns = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(episodes, kind="stable")
    arrays = {
        name: values[order].astype(dtype)
        for (name, dtype), values in zip(FIELDS.items(), columns, strict=True)
    }
    return Dataset(**arrays, manifest=make_manifest(env_id, {}, seed, arrays))


def joined(first: Dataset, second: Dataset) -> Dataset:
    """Return the transitions of one dataset followed by those of another of the same task."""
    arrays = {
        name: np.concatenate([values, second.arrays()[name]])
        for name, values in first.arrays().items()
    }
    return Dataset(**arrays, manifest=first.manifest)


def chain_of(model: Model, policy: Policy) -> Chain:
    """Return a policy in a model; its probabilities in a state are the mean over the samples."""
    found = model.mean_of_samples(policy(model.samples))
    return Chain(model, found.astype(np.float64))


def return_in(models: Sequence[Model], policy: Policy) -> tuple[float, float]:
    """Return the expected return in the last of two models, and how far the first one's is off."""
    coarse, fine = (chain_of(model, policy).expected_return for model in models)
    return fine, abs(fine - coarse)


def greedy(model: Model, values: npt.NDArray[Any], randomness: float) -> Policy:
    """Return the policy that takes the best action, but any action with some probability.

    Args:
        model: Interpolates values.
        values: Values of the actions in each state `(N, A)`.
        randomness: Probability of an action that is drawn at random.
    """

    def chances(observations: Observations) -> npt.NDArray[np.float32]:
        best = (model.interpolation(observations) @ values).argmax(axis=1)
        return mixed(best, model.num_actions, randomness)

    return chances


def mixed(chosen: npt.NDArray[np.intp], actions: int, randomness: float) -> npt.NDArray[np.float32]:
    """Return probabilities `(n, A)` of chosen actions `(n,)` and, at times, any other."""
    found: npt.NDArray[np.float32] = (
        randomness / actions + (1 - randomness) * np.eye(actions)[chosen]
    ).astype(np.float32)
    return found
