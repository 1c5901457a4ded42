"""The return of a policy from simulated episodes whose luck is removed.

Every step of an episode adds `c(s') = r + v_{t+1}(s')` for the state `s'` that chance chose; fresh
draws of the same chance say what it adds on average. Subtracting the difference leaves the mean of
the return as it is, whatever `v` is, and removes nearly all of its variance if `v` is nearly the
value of the policy:

    G - sum_t (c_t(s_{t+1}) - mean over K fresh draws of c_t)

The idea is known from poker (AIVAT; Burch 2018).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cs285.envs.models import Model, Observations

FRESH_DRAWS = 16
"""Fresh draws of the noise at each step, K; they come in pairs of opposite sign."""

EPISODES_AT_ONCE = 250

Policy = Callable[[Observations], npt.NDArray[np.float32]]
"""Probabilities of the actions `(n, A)` at observations `(n, *observation_shape)`."""


@dataclass(frozen=True)
class Estimate:
    """A mean and its standard error."""

    mean: float
    standard_error: float
    episodes: int


def corrected_return(
    model: Model,
    policy: Callable[[int], Policy],
    values: npt.NDArray[np.float32],
    rng: np.random.Generator,
    *,
    standard_error: float,
    most: int,
) -> Estimate:
    """Estimate the expected return of a policy without bias.

    Args:
        model: Simulates episodes, and interpolates values.
        policy: The policy at each step of an episode.
        values: Approximate values of the policy from each step and state on `(H + 1, N)`.
        rng: Draws everything.
        standard_error: Stop once the estimate's is below this.
        most: Largest number of episodes.
    """
    returns = np.empty(0)
    while True:
        episodes = min(EPISODES_AT_ONCE, most - len(returns))
        returns = np.concatenate([returns, _episodes(model, policy, values, rng, episodes)])
        error = float(returns.std(ddof=1)) / len(returns) ** 0.5
        if error < standard_error or len(returns) >= most:
            return Estimate(float(returns.mean()), error, len(returns))


def _episodes(
    model: Model,
    policy: Callable[[int], Policy],
    values: npt.NDArray[np.float32],
    rng: np.random.Generator,
    count: int,
) -> npt.NDArray[np.float64]:
    """Return the corrected returns of episodes `(count,)`."""
    corrected = np.zeros(count)
    positions = model.first_positions(count)
    running = np.arange(count)
    for step in range(model.horizon):
        if not len(running):
            break
        chances = np.cumsum(policy(step)(model.observe(positions)), axis=1)
        actions = (rng.random((len(running), 1)) * chances[:, -1:] >= chances).sum(axis=1)
        noise = model.draw_noise(rng, len(running))
        outcome = model.step(positions, actions, noise)
        pairs = model.draw_noise(rng, FRESH_DRAWS // 2 * len(running))
        fresh = model.step(
            np.tile(positions, (FRESH_DRAWS, 1)),
            np.tile(actions, FRESH_DRAWS),
            np.concatenate([pairs, -pairs]),
        )
        ahead = _worth(model, outcome.positions, outcome.terminated, values[step + 1])
        expected = fresh.rewards + _worth(
            model, fresh.positions, fresh.terminated, values[step + 1]
        )
        # The reward of the step itself cancels: it is part of both the return and the correction.
        corrected[running] += expected.reshape(FRESH_DRAWS, -1).mean(axis=0) - ahead
        going_on = ~outcome.terminated
        running, positions = running[going_on], outcome.positions[going_on]
    return corrected


def _worth(
    model: Model,
    positions: npt.NDArray[np.float64],
    terminated: npt.NDArray[np.bool_],
    values: npt.NDArray[np.float32],
) -> npt.NDArray[np.float64]:
    """Return the values at positions, 0 where the episode has ended."""
    worth: npt.NDArray[np.float64] = model.interpolation(model.observe(positions)) @ values
    return np.where(terminated, 0.0, worth)
