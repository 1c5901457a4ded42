"""Advantage-weighted regression."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from cs285.env_configs.base_config import (
    Fraction,
    LearningRate,
    PolicyConfig,
    Positive,
    Size,
    adam,
)
from cs285.homework import Stage, register

if TYPE_CHECKING:
    from torch import nn


@register(
    "awr",
    title="AWR",
    colour="#17A2A2",
    stages={Stage.OFFLINE, Stage.FINETUNE},
    tags=("v_loss", "actor_loss"),
    order=12,
)
class AWRConfig(PolicyConfig):
    """An actor and a state-value critic."""

    per_run: ClassVar[frozenset[str]] = PolicyConfig.per_run | {
        "discount",
        "temperature",
        "value_learning_rate",
    }

    base_config: Literal["awr"]

    discount: Fraction = 0.98
    """Discount factor of the returns. At 1 they are the notes' plain sums, and a time limit makes
    every action of an unsuccessful episode look the better the later it comes."""
    temperature: Positive = 1.0
    """Lambda in exp(A / lambda), with A the return minus V. Returns scatter by several steps, so 1
    is already selective; with 0.1, the lucky tenth of the data decides alone."""
    value_hidden_size: Size = 64
    """Width of V's hidden layers."""
    value_num_layers: Annotated[int, Field(ge=1, le=16)] = 2
    """Number of V's hidden layers."""
    value_learning_rate: LearningRate = 1e-3
    """Adam's learning rate for V."""

    def make_agent(self, observation_shape: tuple[int, ...], num_actions: int) -> Any:
        """Build an `AWRAgent`."""
        from cs285.agents.awr_agent import AWRAgent
        from cs285.networks.critics import ValueCritic

        def make_value_critic(observation_shape: tuple[int, ...]) -> nn.Module:
            return ValueCritic(
                observation_shape,
                self.value_num_layers,
                self.value_hidden_size,
                self.input_scale,
                self.input_bounds,
            )

        return AWRAgent(
            observation_shape,
            num_actions,
            make_value_critic=make_value_critic,
            make_value_critic_optimizer=adam(self.value_learning_rate),
            discount=self.discount,
            temperature=self.temperature,
            clip_grad_norm=self.clip_grad_norm,
            **self.policy_arguments(),
        )
