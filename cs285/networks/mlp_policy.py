"""Stochastic policies."""

from __future__ import annotations

import torch
from torch import nn
from torch.distributions import Categorical, Distribution

from cs285.infrastructure import pytorch_util as ptu
from cs285.infrastructure.distributions import make_multi_normal, make_tanh_transformed
from cs285.networks.mlp import Bounds, build_network

MIN_STD = 1e-2
"""Minimum standard deviation of a continuous policy."""


class MLPPolicy(nn.Module):
    """pi(. | s): observations `(batch, ob_dim)` to distributions `(batch,)`.

    Continuous actions are normal. Their standard deviations are `softplus` of parameters, or of
    further outputs with `state_dependent_std`, and at least `MIN_STD`.

    Args:
        ac_dim: Number of discrete actions, or size of a continuous action.
        ob_dim: Size of an observation.
        discrete: Whether actions are discrete.
        n_layers: Number of hidden layers.
        layer_size: Width of every hidden layer.
        use_tanh: Whether to squash continuous actions into (-1, 1).
        state_dependent_std: Whether to compute the standard deviations from the observation.
        fixed_std: The standard deviation, if it is not learned.
        input_scale: Scale of a first layer that rescales observations; None for no such layer.
        input_bounds: Bounds of the observations for that layer; None for [0, 1].

    Raises:
        ValueError: If the standard deviation is both fixed and dependent on the state.
    """

    def __init__(
        self,
        ac_dim: int,
        ob_dim: int,
        discrete: bool,  # noqa: FBT001 - the homework's signature
        n_layers: int,
        layer_size: int,
        use_tanh: bool = False,  # noqa: FBT001, FBT002
        state_dependent_std: bool = False,  # noqa: FBT001, FBT002
        fixed_std: float | None = None,
        *,
        input_scale: float | None = None,
        input_bounds: Bounds | None = None,
    ) -> None:
        super().__init__()
        self.discrete = discrete
        self.use_tanh = use_tanh
        self.state_dependent_std = state_dependent_std
        self.fixed_std = fixed_std

        def build(outputs: int) -> nn.Sequential:
            return build_network(
                (ob_dim,), outputs, n_layers, layer_size, input_scale, input_bounds
            )

        if discrete:
            self.logits_net = build(ac_dim)
            return
        if state_dependent_std and fixed_std is not None:
            raise ValueError("a standard deviation that depends on the state cannot be fixed")
        self.net = build(2 * ac_dim if state_dependent_std else ac_dim)
        if not (state_dependent_std or fixed_std is not None):
            self.std = nn.Parameter(torch.zeros(ac_dim, device=ptu.device))

    def forward(self, obs: torch.Tensor) -> Distribution:
        """Return the distribution over actions at every observation."""
        if self.discrete:
            # Validation reads values back into Python, which is impossible for stacked runs.
            return Categorical(logits=self.logits_net(obs), validate_args=False)
        mean, std = self._moments(obs)
        make = make_tanh_transformed if self.use_tanh else make_multi_normal
        return make(mean, std)

    def _moments(self, obs: torch.Tensor) -> tuple[torch.Tensor, float | torch.Tensor]:
        """Return mean and standard deviation before any squashing, each `(..., ac_dim)`."""
        outputs = self.net(obs)
        if self.fixed_std is not None:
            return outputs, self.fixed_std
        mean, raw = outputs.chunk(2, dim=-1) if self.state_dependent_std else (outputs, self.std)
        return mean, nn.functional.softplus(raw) + MIN_STD
