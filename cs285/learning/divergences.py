r"""Divergences between a policy and a behaviour policy, and the reward bonuses that stand for them.

With `x = p / q`, where `p` are the policy's probabilities and `q` those of the behaviour policy,

    D = sum_a q f(x)            b = -f(x) / x            b* = -f'(x) + sum_a p f'(x) - D

`D` is an f-divergence (Csiszar 1967), `b` the bonus whose mean under the policy is `-D`, and `b*`
the one with the same mean whose gradient is right as well, even where it is treated as a reward
that does not depend on the policy. Only for `kl` are they the same. `docs/theory.md` derives both.

Arrays are NumPy's or tensors of PyTorch, with actions along the last axis. All `q` are positive.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

Array = Any
"""An array of NumPy or a tensor of PyTorch; the result is of the same kind."""


def _log(x: Array) -> Array:
    return torch.log(x) if isinstance(x, torch.Tensor) else np.log(x)


def _sign(x: Array) -> Array:
    return torch.sign(x) if isinstance(x, torch.Tensor) else np.sign(x)


def _x_log_x(x: Array) -> Array:
    """Return `x log x`, which is 0 at 0."""
    return x * _log(x + (x == 0))


@dataclass(frozen=True)
class Divergence:
    """An f-divergence.

    Attributes:
        name: Its key in `DIVERGENCES`.
        title: Its name in figures.
        f: A convex function of the ratio with `f(1) = 0`.
        slope: Its derivative; at a kink, the middle of the subgradients.
        f_at_zero: `f(0)`. An action that the policy never takes costs `q f(0)`.
    """

    name: str
    title: str
    f: Callable[[Array], Array]
    slope: Callable[[Array], Array]
    f_at_zero: float

    def between(self, p: Array, q: Array) -> Array:
        """Return `D` of distributions `(..., A)`, with the shape `(...)`."""
        return (q * self.f(p / q)).sum(-1)

    def bonus(self, p: Array, q: Array) -> Array:
        """Return `b` of every action `(..., A)`; all `p` must be positive.

        Source: the handout, section 1, questions 1 and 2.
        """
        x = p / q
        return -self.f(x) / x

    def bounded_bonus(self, p: Array, q: Array) -> Array:
        """Return `b` made from `f(x) + f(0) (x - 1)`, the same divergence, `(..., A)`.

        Its mean is `-D` also where the policy never takes some actions; all `p` must be positive
        here, but it stays moderate where they are tiny.
        """
        return self.bonus(p, q) - self.f_at_zero * (1 - q / p)

    def marginal_bonus(self, p: Array, q: Array) -> Array:
        """Return `b*` of every action `(..., A)`; for `kl` and `jsd`, all `p` must be positive."""
        slopes = self.slope(p / q)
        at_policy = (p * slopes).sum(-1) - self.between(p, q)
        return at_policy[..., None] - slopes


KL = Divergence("kl", "KL", _x_log_x, lambda x: _log(x) + 1, 0.0)
"""`sum p log(p/q)` (Kullback and Leibler 1951)."""

TVD = Divergence(
    "tvd", "total variation", lambda x: abs(x - 1) / 2, lambda x: _sign(x - 1) / 2, 0.5
)
"""`sum |p - q| / 2`."""

JSD = Divergence(
    "jsd",
    "Jensen-Shannon",
    lambda x: _x_log_x(x) - (x + 1) * _log((x + 1) / 2),
    lambda x: _log(2 * x / (x + 1)),
    float(np.log(2)),
)
"""`KL(p, m) + KL(q, m)` with `m = (p + q)/2`, as in the handout: twice what Lin (1991) defines."""

CHI2 = Divergence("chi2", "chi-square", lambda x: (x - 1) ** 2, lambda x: 2 * (x - 1), 1.0)
"""`sum (p - q)^2 / q` (Pearson 1900)."""

DIVERGENCES: Mapping[str, Divergence] = {d.name: d for d in (KL, TVD, JSD, CHI2)}
