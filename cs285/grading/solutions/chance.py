"""Bounds the probability that samples deviate this far from their expectation by chance.

For a mean of n independent samples of X, Chernoff's bound is, for every t of the sign of m - E X,

    P(mean beyond m) <= exp(-n (t m - log E exp(t X)))

It uses the exact distribution of X, so unlike a limit in standard deviations it also holds
for few samples and skewed values. It also holds if every sample is itself an average of independent
draws (Jensen's inequality).
"""

from __future__ import annotations

import math

import numpy as np

from cs285.probing.inputs import Array

FALSE_ALARM = 1e-7
"""Maximum probability that a right quantity is called wrong; a file has fewer than ten of them."""
_ROUNDING = 1e-9
"""Values that differ by less count as equal."""
_TILTS = np.geomspace(1e-2, 1e3, 120)
"""Every t gives a valid bound; this grid comes close to the best one."""


def is_chance(means: Array, values: Array, policy: Array, draws: int, slack: float = 0.0) -> bool:
    """Return whether means `(rows,)` may be means of values drawn from a policy.

    Args:
        means: The observed means.
        values: The possible values of a draw in each row, `(rows, outcomes)`.
        policy: Their probabilities, `(rows, outcomes)`.
        draws: Number of samples in a mean, which are independent within a row.
        slack: Upper bound on the rounding error of a mean.
    """
    exponents = draws * _exponents(means, values, policy, slack).max(axis=0)
    return bool((exponents < math.log(2 * len(means) / FALSE_ALARM)).all())


def is_chance_share(share: float, probability: float, draws: int) -> bool:
    """Return whether an event of this probability may occur in this share of independent draws."""
    outcomes, policy = np.array([[0.0, 1.0]]), np.array([[1 - probability, probability]])
    return is_chance(np.array([share]), outcomes, policy, draws)


def are_samples(outcomes: Array, policy: Array) -> bool:
    """Return whether rows of outcomes `(rows, draws)` may be samples from a policy.

    Args:
        outcomes: The indices drawn.
        policy: The probability of each outcome, `(rows, outcomes)`.
    """
    draws, count = outcomes.shape[1], policy.shape[1]
    shares = np.stack([(outcomes == outcome).mean(1) for outcome in range(count)], 1)
    # Every outcome of every row is a row here, with two values: drawn or not.
    chances = np.stack([1 - policy, policy], 2).reshape(-1, 2)
    came = np.broadcast_to([0.0, 1.0], chances.shape)
    # The surprisal of an outcome; its sum accumulates the deviations of all rows.
    surprise = -np.log(np.maximum(policy, 1e-12))
    means = np.take_along_axis(surprise, outcomes, 1).mean(1)
    # Equal outcomes are equally surprising, up to rounding.
    together = draws * _exponents(means, surprise, policy, _ROUNDING).sum(axis=1).max()
    likely_together = bool(together < math.log(2 / FALSE_ALARM))
    return likely_together and is_chance(shares.ravel(), came, chances, draws)


def _exponents(means: Array, values: Array, policy: Array, slack: float) -> Array:
    """Return t m - log E exp(t X) for every t and row, `(2 tilts, rows)`."""
    expected = (policy * values).sum(1)
    apart = means - expected
    apart = np.sign(apart) * np.maximum(np.abs(apart) - slack, 0.0)
    centred = values - expected[:, None]
    tilts = np.concatenate([_TILTS, -_TILTS]) / max(float(np.abs(centred).max()), _ROUNDING)
    powers = tilts[:, None, None] * centred
    largest = powers.max(axis=2, keepdims=True)
    moments = np.log((policy * np.exp(powers - largest)).sum(axis=2)) + largest[:, :, 0]
    exponents: Array = tilts[:, None] * apart - moments
    return exponents
