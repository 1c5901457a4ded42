"""Inputs of the size that a network wants."""

from __future__ import annotations

import torch
from torch import nn


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


def rescaled(network: nn.Sequential, scale: float | None) -> nn.Sequential:
    """Return the network behind a `Rescale`, or as it is where there is no scale."""
    return network if scale is None else nn.Sequential(Rescale(scale), *network)
