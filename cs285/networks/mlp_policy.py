"""Stochastic policy over discrete actions."""

from __future__ import annotations

import torch
from torch import nn
from torch.distributions import Categorical

from cs285.networks.mlp import Bounds, build_network


class MLPPolicy(nn.Module):
    """pi(. | s): observations `(batch, *observation_shape)` to distributions `(batch,)`."""

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
        self.logits_net = build_network(
            observation_shape, num_actions, num_layers, hidden_size, input_scale, input_bounds
        )

    def forward(self, observations: torch.Tensor) -> Categorical:
        """Return the distribution over actions at every observation."""
        # Validation reads values back into Python, which a batch of stacked runs cannot do.
        return Categorical(logits=self.logits_net(observations), validate_args=False)
