"""How unlikely it is that chance alone leads samples so far from what they should be.

For a mean of n independent samples of X, Chernoff's bound is, for every t of the sign of m - E X,

    P(mean beyond m) <= exp(-n (t m - log E exp(t X)))

It is computed from the exact distribution of X, so that it holds for few samples and skewed values,
where a number of standard deviations would not. It holds as well if every sample is itself an
average of independent draws (Jensen's inequality).
"""

from __future__ import annotations

import math

import numpy as np

from cs285.grading.solutions.world import Array

FALSE_ALARM = 1e-7
"""How often, at most, a right quantity is taken for a wrong one; a file has fewer than ten."""
_TILTS = np.geomspace(1e-2, 1e3, 120)
"""Any t gives a valid bound, and a grid the best one nearly."""


def is_chance(means: Array, values: Array, policy: Array, draws: int, slack: float = 0.0) -> bool:
    """Tell whether means `(rows,)` of that many draws may be of values under a policy.

    Args:
        means: What was seen.
        values: What a draw of a row may give, `(rows, outcomes)`.
        policy: How likely it does, `(rows, outcomes)`.
        draws: Number of samples in a mean; within a row they are independent.
        slack: How far rounding may move a mean.
    """
    exponents = draws * _exponents(means, values, policy, slack).max(axis=0)
    return bool((exponents < math.log(2 * len(means) / FALSE_ALARM)).all())


def is_chance_share(share: float, probability: float, draws: int) -> bool:
    """Tell whether an event of this probability may have had that share of independent draws."""
    outcomes, policy = np.array([[0.0, 1.0]]), np.array([[1 - probability, probability]])
    return is_chance(np.array([share]), outcomes, policy, draws)


def are_samples(outcomes: Array, policy: Array) -> bool:
    """Tell whether rows of outcomes `(rows, draws)` may be samples of a policy.

    Args:
        outcomes: Numbers of what was drawn.
        policy: How likely each is, `(rows, outcomes)`.
    """
    draws, count = outcomes.shape[1], policy.shape[1]
    shares = np.stack([(outcomes == outcome).mean(1) for outcome in range(count)], 1)
    # One row for every outcome of every row: it came or not.
    chances = np.stack([1 - policy, policy], 2).reshape(-1, 2)
    came = np.broadcast_to([0.0, 1.0], chances.shape)
    # What is rare surprises; deviations of all rows add up in the sum of that.
    surprise = -np.log(np.maximum(policy, 1e-12))
    means = np.take_along_axis(surprise, outcomes, 1).mean(1)
    together = draws * _exponents(means, surprise, policy, 0.0).sum(axis=1).max()
    likely_together = bool(together < math.log(2 / FALSE_ALARM))
    return likely_together and is_chance(shares.ravel(), came, chances, draws)


def _exponents(means: Array, values: Array, policy: Array, slack: float) -> Array:
    """Return t m - log E exp(t X) for every t and row, `(2 tilts, rows)`."""
    expected = (policy * values).sum(1)
    apart = means - expected
    apart = np.sign(apart) * np.maximum(np.abs(apart) - slack, 0.0)
    centred = values - expected[:, None]
    tilts = np.concatenate([_TILTS, -_TILTS]) / max(float(np.abs(centred).max()), 1e-12)
    powers = tilts[:, None, None] * centred
    largest = powers.max(axis=2, keepdims=True)
    moments = np.log((policy * np.exp(powers - largest)).sum(axis=2)) + largest[:, :, 0]
    exponents: Array = tilts[:, None] * apart - moments
    return exponents
