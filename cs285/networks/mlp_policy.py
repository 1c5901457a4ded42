"""Stochastic policies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import torch
from torch import nn
from torch.distributions import Categorical, Distribution

from cs285.infrastructure import pytorch_util as ptu
from cs285.infrastructure.distributions import make_multi_normal, make_tanh_transformed
from cs285.networks.mlp import Bounds, build_network

MIN_STD = 1e-2
"""Least standard deviation of a continuous policy."""


class MLPPolicy(nn.Module):
    """pi(. | s): observations `(batch, *observation_shape)` to distributions `(batch,)`.

    It is made with either of two lists of arguments. The configs here give the shape of an
    observation first:

        MLPPolicy(observation_shape, num_actions, num_layers, hidden_size, input_scale,
            input_bounds)

    The homework's files give two sizes and the kind of actions. Continuous actions are normal:
    their standard deviations are `softplus` of parameters, or of further outputs with
    `state_dependent_std`, and at least `MIN_STD`; `use_tanh` squashes the actions into (-1, 1).

        MLPPolicy(ac_dim, ob_dim, discrete, n_layers, layer_size, use_tanh=False,
            state_dependent_std=False, fixed_std=None)
    """

    discrete = True

    @overload
    def __init__(
        self,
        observation_shape: tuple[int, ...],
        num_actions: int,
        num_layers: int,
        hidden_size: int,
        input_scale: float | None = None,
        input_bounds: Bounds | None = None,
    ) -> None: ...
    @overload
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
    ) -> None: ...
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        has_shape = isinstance(args[0], Sequence) if args else "observation_shape" in kwargs
        (self._build_for_shape if has_shape else self._build)(*args, **kwargs)

    def _build_for_shape(
        self,
        observation_shape: tuple[int, ...],
        num_actions: int,
        num_layers: int,
        hidden_size: int,
        input_scale: float | None = None,
        input_bounds: Bounds | None = None,
    ) -> None:
        self.logits_net = build_network(
            observation_shape, num_actions, num_layers, hidden_size, input_scale, input_bounds
        )

    def _build(
        self,
        ac_dim: int,
        ob_dim: int,
        discrete: bool,  # noqa: FBT001 - the homework's signature
        n_layers: int,
        layer_size: int,
        use_tanh: bool = False,  # noqa: FBT001, FBT002
        state_dependent_std: bool = False,  # noqa: FBT001, FBT002
        fixed_std: float | None = None,
    ) -> None:
        self.discrete = discrete
        self.use_tanh = use_tanh
        self.state_dependent_std = state_dependent_std
        self.fixed_std = fixed_std
        if discrete:
            self.logits_net = ptu.build_mlp(ob_dim, ac_dim, n_layers, layer_size)
            return
        if state_dependent_std and fixed_std is not None:
            raise ValueError("a standard deviation that depends on the state cannot be fixed")
        outputs = 2 * ac_dim if state_dependent_std else ac_dim
        self.net = ptu.build_mlp(ob_dim, outputs, n_layers, layer_size)
        if not (state_dependent_std or fixed_std is not None):
            self.std = nn.Parameter(torch.zeros(ac_dim, device=ptu.device))

    def forward(self, obs: torch.Tensor) -> Distribution:
        """Return the distribution over actions at every observation."""
        if self.discrete:
            # Validation reads values back into Python, which a batch of stacked runs cannot do.
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
