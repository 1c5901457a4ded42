"""Advantage weighted actor-critic."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from cs285.env_configs.base_config import CriticConfig, LearningRate, Positive, Size, adam
from cs285.homework import Question, Stage, register
from cs285.infrastructure.palette import VERMILION


class ActorConfig(CriticConfig):
    """The keys of all agents with an actor."""

    per_run: ClassVar[frozenset[str]] = CriticConfig.per_run | {
        "temperature",
        "actor_learning_rate",
    }

    temperature: Positive = 0.1
    """Lambda in exp(A / lambda). Advantages here are fractions of one step's reward, so 0.1
    separates good actions from bad ones. Public files set 10.0, the inverse temperature of the IQL
    paper: in this formula it makes every weight about 1, so the actor merely clones the data."""
    actor_hidden_size: Size = 128
    """Width of the actor's hidden layers."""
    actor_num_layers: Annotated[int, Field(ge=1, le=16)] = 2
    """Number of the actor's hidden layers."""
    actor_learning_rate: LearningRate = 3e-4
    """Adam's learning rate for the actor."""

    def actor_arguments(self) -> dict[str, Any]:
        """Return the arguments of `AWACAgent` and its subclasses, except the shapes."""
        from cs285.networks.mlp_policy import MLPPolicy

        def make_actor(observation_shape: tuple[int, ...], num_actions: int) -> MLPPolicy:
            return MLPPolicy(
                num_actions,
                math.prod(observation_shape),
                discrete=True,
                n_layers=self.actor_num_layers,
                layer_size=self.actor_hidden_size,
                input_scale=self.input_scale,
                input_bounds=self.input_bounds,
            )

        return {
            "make_actor": make_actor,
            "make_actor_optimizer": adam(self.actor_learning_rate),
            "temperature": self.temperature,
            **self.critic_arguments(),
        }


@register(
    "awac",
    title="AWAC",
    colour=VERMILION,
    stages={Stage.OFFLINE, Stage.FINETUNE},
    tags=("critic_loss", "actor_loss"),
    question=Question.ACTORS,
    order=5,
)
class AWACConfig(ActorConfig):
    """A critic and an actor."""

    base_config: Literal["awac"]

    def make_agent(self, observation_shape: tuple[int, ...], num_actions: int) -> Any:
        """Build an `AWACAgent`."""
        from cs285.agents.awac_agent import AWACAgent
        from cs285.learning.student_code import construct

        return construct(AWACAgent, observation_shape, num_actions, **self.actor_arguments())
