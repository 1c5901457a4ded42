"""Random network distillation."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from torch import nn

from cs285.env_configs.base_config import CriticConfig, Fraction, LearningRate, Size, adam


class RNDConfig(CriticConfig):
    """An exploration critic and the two networks of its bonus."""

    per_run: ClassVar[frozenset[str]] = CriticConfig.per_run | {
        "rnd_weight",
        "use_reward",
    }

    base_config: Literal["rnd"]

    discount: Fraction = 0.98
    """Longer than elsewhere: novelty must be worth a walk of fifty steps through known rooms."""
    rnd_weight: Annotated[float, Field(ge=0)] = 1.0
    """Factor of the normalised bonus."""
    rnd_dim: Size = 5
    """Outputs of the random target and of its predictor."""
    rnd_hidden_size: Size = 400
    """Width of the hidden layers of both."""
    rnd_num_layers: Annotated[int, Field(ge=1, le=16)] = 2
    """Number of hidden layers of both."""
    rnd_learning_rate: LearningRate = 1e-3
    """Adam's step size for the predictor."""
    use_reward: bool = False
    """Add the environment's reward to the bonus; the flag `--use_reward` says the same."""

    @property
    def reward_weight(self) -> float:
        """Pure exploration ignores the environment's reward."""
        return 1.0 if self.use_reward else 0.0

    def make_agent(self, observation_shape: tuple[int, ...], num_actions: int) -> Any:
        """Build an `RNDAgent`."""
        from cs285.agents.rnd_agent import RNDAgent
        from cs285.infrastructure.pytorch_util import build_mlp

        def make_network(observation_shape: tuple[int, ...]) -> nn.Module:
            return build_mlp(
                math.prod(observation_shape),
                self.rnd_dim,
                n_layers=self.rnd_num_layers,
                size=self.rnd_hidden_size,
            )

        return RNDAgent(
            observation_shape,
            num_actions,
            make_rnd_network=make_network,
            make_rnd_network_optimizer=adam(self.rnd_learning_rate),
            make_target_rnd_network=make_network,
            rnd_weight=self.rnd_weight,
            **self.critic_arguments(),
        )
