"""The multi-layer perceptron of every agent, on inputs of the size that it wants."""

from __future__ import annotations

import math

import torch
from torch import nn

from cs285.infrastructure import pytorch_util as ptu


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


def build_network(
    observation_shape: tuple[int, ...],
    num_outputs: int,
    num_layers: int,
    hidden_size: int,
    input_scale: float | None = None,
) -> nn.Sequential:
    """Build a network from observations `(..., size)` to `(..., num_outputs)`.

    Args:
        observation_shape: Shape of one observation; `size` is its product.
        num_outputs: Size of the last axis of the output.
        num_layers: Number of hidden layers.
        hidden_size: Width of every hidden layer.
        input_scale: That of a `Rescale` in front, or None for none.
    """
    network = ptu.build_mlp(
        math.prod(observation_shape), num_outputs, n_layers=num_layers, size=hidden_size
    )
    return network if input_scale is None else nn.Sequential(Rescale(input_scale), *network)
