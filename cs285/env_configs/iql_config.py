"""Implicit Q-learning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from cs285.env_configs.awac_config import ActorConfig
from cs285.env_configs.base_config import LearningRate, Size, adam
from cs285.homework import Question, Stage, register
from cs285.infrastructure.palette import PURPLE

if TYPE_CHECKING:
    from torch import nn


@register(
    "iql",
    title="IQL",
    colour=PURPLE,
    stages={Stage.OFFLINE, Stage.FINETUNE},
    tags=("q_loss", "v_loss", "actor_loss"),
    question=Question.ACTORS,
    order=6,
)
class IQLConfig(ActorConfig):
    """A critic, an actor and a state-value critic."""

    per_run: ClassVar[frozenset[str]] = ActorConfig.per_run | {"expectile", "value_learning_rate"}

    base_config: Literal["iql"]

    expectile: Annotated[float, Field(gt=0, lt=1)] = 0.9
    """Tau: 0.5 evaluates the policy that collected the data; values near 1 evaluate its best
    actions. Exploration data consist mostly of poor actions, so tau is high here."""

    value_hidden_size: Size | None = None
    """Width of V's hidden layers; null: `hidden_size`, as for Q."""
    value_num_layers: Annotated[int, Field(ge=1, le=16)] | None = None
    """Number of V's hidden layers; null: `num_layers`."""
    value_learning_rate: LearningRate | None = None
    """Adam's learning rate for V; null: `learning_rate`."""

    def make_agent(self, observation_shape: tuple[int, ...], num_actions: int) -> Any:
        """Build an `IQLAgent`."""
        from cs285.agents.iql_agent import IQLAgent
        from cs285.learning.student_code import construct
        from cs285.networks.critics import ValueCritic

        def make_value_critic(observation_shape: tuple[int, ...]) -> nn.Module:
            return ValueCritic(
                observation_shape,
                self.value_num_layers or self.num_layers,
                self.value_hidden_size or self.hidden_size,
                self.input_scale,
                self.input_bounds,
            )

        return construct(
            IQLAgent,
            observation_shape,
            num_actions,
            make_value_critic=make_value_critic,
            make_value_critic_optimizer=adam(self.value_learning_rate or self.learning_rate),
            expectile=self.expectile,
            **self.actor_arguments(),
        )
