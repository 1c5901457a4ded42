"""Value networks."""

from __future__ import annotations

import torch
from torch import nn

from cs285.networks.mlp import Bounds, build_network


class StateActionCritic(nn.Module):
    """Q(s, .): observations `(batch, *observation_shape)` to `(batch, num_actions)`."""

    def __init__(
        self,
        observation_shape: tuple[int, ...],
        num_actions: int,
        num_layers: int,
        hidden_size: int,
        input_scale: float | None = None,
        input_bounds: Bounds | None = None,
    ) -> None:
        super().__init__()
        self.net = build_network(
            observation_shape, num_actions, num_layers, hidden_size, input_scale, input_bounds
        )

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """Return the value of every action."""
        values: torch.Tensor = self.net(observations)
        return values


class ValueCritic(nn.Module):
    """V(s): observations `(batch, *observation_shape)` to values `(batch, 1)`."""

    def __init__(
        self,
        observation_shape: tuple[int, ...],
        num_layers: int,
        hidden_size: int,
        input_scale: float | None = None,
        input_bounds: Bounds | None = None,
    ) -> None:
        super().__init__()
        self.net = build_network(
            observation_shape, 1, num_layers, hidden_size, input_scale, input_bounds
        )

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """Return the value of every state."""
        values: torch.Tensor = self.net(observations)
        return values
