"""One-step improvement with SARSA."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from cs285.env_configs.base_config import ActorCriticConfig, Positive
from cs285.homework import Stage, register


@register(
    "sarsa",
    title="SARSA",
    colour="#B07AA1",
    stages={Stage.OFFLINE, Stage.FINETUNE},
    tags=("critic_loss", "actor_loss"),
    order=13,
)
class SARSAConfig(ActorCriticConfig):
    """A critic and an actor."""

    per_run: ClassVar[frozenset[str]] = ActorCriticConfig.per_run | {"temperature"}

    base_config: Literal["sarsa"]

    temperature: Positive = 0.1
    """Lambda in exp(A / lambda), as for AWAC."""

    def make_agent(self, observation_shape: tuple[int, ...], num_actions: int) -> Any:
        """Build a `SARSAAgent`."""
        from cs285.agents.sarsa_agent import SARSAAgent

        return SARSAAgent(
            observation_shape,
            num_actions,
            temperature=self.temperature,
            **self.actor_critic_arguments(),
        )
