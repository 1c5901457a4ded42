"""Advantage weighted actor-critic."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from cs285.env_configs.base_config import ActorCriticConfig, Positive
from cs285.homework import Question, Stage, register
from cs285.infrastructure.palette import VERMILION


class ActorConfig(ActorCriticConfig):
    """The keys of AWAC and IQL."""

    per_run: ClassVar[frozenset[str]] = ActorCriticConfig.per_run | {"temperature"}

    temperature: Positive = 0.1
    """Lambda in exp(A / lambda). Advantages here are fractions of one step's reward, so 0.1
    separates good actions from bad ones. Public files set 10.0, the inverse temperature of the IQL
    paper: in this formula it makes every weight about 1, so the actor merely clones the data."""

    def actor_arguments(self) -> dict[str, Any]:
        """Return the arguments of `AWACAgent` and its subclasses, except the shapes."""
        return {
            **self.policy_arguments(),
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
