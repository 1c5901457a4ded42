"""Behaviour-regularised actor-critic."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from cs285.env_configs.base_config import ActorCriticConfig, LearningRate, Positive, adam
from cs285.homework import Stage, register


@register(
    "brac",
    title="BRAC",
    colour="#9C755F",
    stages={Stage.OFFLINE, Stage.FINETUNE},
    tags=("behaviour_loss", "critic_loss", "actor_loss"),
    order=15,
)
class BRACConfig(ActorCriticConfig):
    """A critic, an actor, an imitation of the data, and how near to it the actor stays."""

    per_run: ClassVar[frozenset[str]] = ActorCriticConfig.per_run | {
        "divergence_weight",
        "target_divergence",
        "multiplier_learning_rate",
    }

    base_config: Literal["brac"]

    divergence: Literal["kl", "tvd", "jsd", "chi2"] = "kl"
    """Divergence from the imitation of the data: Kullback-Leibler, total variation, Jensen-Shannon
    or chi-square."""
    placement: Literal["actor", "reward"] = "actor"
    """Whether the divergence is a penalty on the actor or a bonus of the reward."""
    divergence_weight: Positive = 0.1
    """Lambda, or its first value if it is learned. Values in a state differ by a step or less, so
    at 0.1 the actor still prefers the better action to the usual one."""
    target_divergence: Annotated[float, Field(ge=0)] | None = None
    """Largest mean divergence, for a lambda that is learned; null: lambda is fixed."""
    multiplier_learning_rate: LearningRate = 1e-3
    """Adam's learning rate for the logarithm of a lambda that is learned."""

    @property
    def program_key(self) -> tuple[Any, ...]:
        """A fixed and a learned lambda need different programs."""
        return (*super().program_key, self.target_divergence is None)

    def make_agent(self, observation_shape: tuple[int, ...], num_actions: int) -> Any:
        """Build a `BRACAgent`."""
        from cs285.agents.brac_agent import BRACAgent

        return BRACAgent(
            observation_shape,
            num_actions,
            make_behaviour=self.make_policy,
            make_behaviour_optimizer=adam(self.actor_learning_rate),
            divergence=self.divergence,
            placement=self.placement,
            divergence_weight=self.divergence_weight,
            target_divergence=self.target_divergence,
            make_multiplier_optimizer=adam(self.multiplier_learning_rate),
            **self.actor_critic_arguments(),
        )
