"""The multi-layer perceptron that every agent uses, with optional rescaling of its inputs."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from cs285.infrastructure import pytorch_util as ptu

Bounds = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]
"""The lower and upper bounds of observations, infinite in unbounded coordinates."""


class Rescale(nn.Module):
    """Maps observations in [0, 1] to [-scale, scale].

    With PyTorch's initial weights, a large scale makes a random network vary over short distances.
    """

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """Centre and stretch."""
        return (2.0 * observations - 1.0) * self.scale


class RescaleBounds(nn.Module):
    """Maps coordinates from their bounds to [-scale, scale]; those without bounds stay unchanged.

    Args:
        scale: Absolute value of a rescaled bound.
        bounds: Lower and upper bounds, each with the shape of one observation.
    """

    centre: torch.Tensor
    stretch: torch.Tensor

    def __init__(self, scale: float, bounds: Bounds) -> None:
        super().__init__()
        low, high = (bound.ravel() for bound in bounds)
        bounded = np.isfinite(low) & np.isfinite(high)
        with np.errstate(invalid="ignore"):  # inf - inf, which is not used
            centre = np.where(bounded, (low + high) / 2, 0.0)
            stretch = np.where(bounded, 2 * scale / (high - low), 1.0)
        # Not saved with the weights, because the environment determines them.
        for name, values in (("centre", centre), ("stretch", stretch)):
            tensor = torch.tensor(values, dtype=torch.float32)
            self.register_buffer(name, tensor, persistent=False)

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """Centre and stretch."""
        return (observations - self.centre) * self.stretch


def build_network(
    observation_shape: tuple[int, ...],
    num_outputs: int,
    num_layers: int,
    hidden_size: int,
    input_scale: float | None = None,
    input_bounds: Bounds | None = None,
) -> nn.Sequential:
    """Build a network from observations `(..., size)` to `(..., num_outputs)`.

    Args:
        observation_shape: Shape of one observation; `size` is its product.
        num_outputs: Size of the last axis of the output.
        num_layers: Number of hidden layers.
        hidden_size: Width of every hidden layer.
        input_scale: Scale of a first layer that rescales observations; None for no such layer.
        input_bounds: Bounds of the observations; None for [0, 1].
    """
    network = ptu.build_mlp(
        math.prod(observation_shape), num_outputs, n_layers=num_layers, size=hidden_size
    )
    if input_scale is None:
        return network
    rescale = (
        Rescale(input_scale) if input_bounds is None else RescaleBounds(input_scale, input_bounds)
    )
    return nn.Sequential(rescale, *network)
