"""Random transitions and weights for the checks, and the derivatives behind a gradient.

Every network is linear in F fixed random features, f(s) = W phi(s) + b. A loss over a batch then
has the weight gradient  dL/dW = sum_i delta_i phi(s_i)^T  with  delta_i = dL/df(s_i);  with more
features than states, this can be solved for every delta_i.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cs285.probing.networks import LEARNING_RATE, NUM_ACTIONS, RND_SIZE

NUM_FEATURES = 64
MAX_UNEXPLAINED = 2e-3
"""Fraction of a gradient that may be rounding error."""

OUTPUTS = {"critic": NUM_ACTIONS, "actor": NUM_ACTIONS, "value": 1, "rnd": RND_SIZE}
_SCALES = {"critic": 0.25, "actor": 0.2, "value": 0.25, "rnd": 0.3}
COPIES = {"critic": 4, "actor": 2, "value": 2, "rnd": 2}
"""Number of networks per role for which weights are drawn: more than any solution makes."""

Weights = dict[str, list[tuple[np.ndarray, np.ndarray]]]
Array = np.ndarray


@dataclass(frozen=True)
class Transitions:
    """A batch with terminated transitions and an odd number of rows."""

    observations: Array
    actions: Array
    rewards: Array
    next_observations: Array
    dones: Array

    @property
    def states(self) -> Array:
        """Observations, then next observations, `(2 batch, 2)`."""
        return np.concatenate([self.observations, self.next_observations])

    def __len__(self) -> int:
        return len(self.actions)


class Inputs:
    """Draws the features, the weights and the batches of one check.

    Args:
        rng: Source of all randomness.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.frequencies = rng.normal(0.0, 12.0, (2, NUM_FEATURES)).astype(np.float32)
        self.phases = rng.uniform(0.0, 2 * math.pi, NUM_FEATURES).astype(np.float32)

    def features(self, states: Array) -> Array:
        """Return phi with a column of ones for the bias, `(states, features + 1)`."""
        angles = states.astype(np.float64) @ self.frequencies + self.phases
        return np.concatenate([np.cos(angles), np.ones((len(states), 1))], axis=1)

    def draw_batch(self, size: int = 7) -> Transitions:
        """Draw a batch whose states the features separate well; a third of it is terminated."""
        rng = self.rng
        while True:
            states = rng.random((2 * size, 2)).astype(np.float32)
            if np.linalg.cond(self.features(states)) < 30:  # noqa: PLR2004 - keeps five digits
                break
        dones = rng.permutation(np.arange(size) < size // 3)
        # Every action at least once, if there are enough rows.
        actions = rng.permutation(np.arange(size) % NUM_ACTIONS).astype(np.int64)
        rewards = rng.uniform(-1.5, 0.5, size).astype(np.float32)
        return Transitions(states[:size], actions, rewards, states[size:], dones)

    def draw_weights(self) -> Weights:
        """Draw weights for every role; no two networks are equal."""
        weights: Weights = {}
        for kind, outputs in OUTPUTS.items():
            for role in ("online", "target"):
                scale = _SCALES[kind]
                weights[f"{kind}/{role}"] = [
                    (
                        self.rng.normal(0.0, scale, (outputs, NUM_FEATURES)).astype(np.float32),
                        self.rng.normal(0.0, scale, outputs).astype(np.float32),
                    )
                    for _ in range(COPIES[kind])
                ]
        return weights


def network_outputs(features: Array, member: tuple[Array, Array]) -> Array:
    """Return the outputs of a network with these weights at states with these features.

    Args:
        features: `(states, features + 1)`, as `Inputs.features` returns them.
        member: Weight and bias.

    Returns:
        The outputs, `(states, outputs)`.
    """
    weight, bias = member
    outputs: Array = features @ np.concatenate([weight, bias[:, None]], 1).astype(np.float64).T
    return outputs


def derivatives(
    inputs: Inputs, batch: Transitions, gradient: tuple[Array, Array]
) -> tuple[Array, float]:
    """Solve a weight gradient for the derivative with respect to every output.

    Returns:
        The derivatives `(2 batch, outputs)`, and the fraction of the gradient that no loss on this
        batch can produce.
    """
    phi = inputs.features(batch.states)
    weight, bias = gradient
    stacked = np.concatenate([weight, bias[:, None]], axis=1).astype(np.float64)
    solution, *_ = np.linalg.lstsq(phi.T, stacked.T, rcond=None)
    size = float(np.linalg.norm(stacked))
    rest = float(np.linalg.norm(phi.T @ solution - stacked.T))
    return solution, rest / size if size > 0 else 0.0


def close(found: Any, expected: Any, tolerance: float = 1e-3) -> bool:
    """Return whether two arrays agree up to float32 rounding, relative to the largest value."""
    a, b = np.asarray(found, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    if a.shape != b.shape or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return False
    scale = max(float(np.abs(b).max(initial=0.0)), 1e-3)
    return bool(np.abs(a - b).max(initial=0.0) <= tolerance * scale)


def same_weights(
    first: Sequence[tuple[Array, Array]],
    second: Sequence[tuple[Array, Array]],
    tolerance: float = 1e-4,
) -> bool:
    """Return whether networks have the same weights."""
    return len(first) == len(second) and all(
        close(a, b, tolerance)
        for one, other in zip(first, second, strict=True)
        for a, b in zip(one, other, strict=True)
    )


def step_between(
    before: Sequence[Array], after: Sequence[Array], learning_rate: float = LEARNING_RATE
) -> tuple[Array, Array]:
    """Return the gradient that a step of plain gradient descent followed."""
    weight, bias = (
        (np.asarray(b, np.float64) - np.asarray(a, np.float64)) / learning_rate
        for b, a in zip(before, after, strict=True)
    )
    return weight, bias
