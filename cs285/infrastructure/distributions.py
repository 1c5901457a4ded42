"""Distributions over continuous actions, with the names that the homework's files import."""

from __future__ import annotations

import torch
from torch.distributions import Distribution, Independent, Normal, TransformedDistribution
from torch.distributions.transforms import TanhTransform


def make_multi_normal(mean: torch.Tensor, std: float | torch.Tensor) -> Distribution:
    """Return independent normals over the last axis.

    Args:
        mean: Means `(..., size)`.
        std: Standard deviations, broadcast to the shape of `mean`.

    Returns:
        A distribution over vectors `(size,)` with the batch shape `(...)`.
    """
    return Independent(_normal(mean, std), reinterpreted_batch_ndims=1)


def make_tanh_transformed(mean: torch.Tensor, std: float | torch.Tensor) -> Distribution:
    """Return the distribution of `tanh(x)`, in (-1, 1), for `x` from `make_multi_normal`."""
    squashed = TransformedDistribution(_normal(mean, std), TanhTransform(cache_size=1))
    return Independent(squashed, reinterpreted_batch_ndims=1)


def _normal(mean: torch.Tensor, std: float | torch.Tensor) -> Normal:
    return Normal(mean, torch.as_tensor(std, dtype=mean.dtype, device=mean.device).expand_as(mean))
