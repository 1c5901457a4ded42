"""Discrete batch-constrained Q-learning."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from cs285.env_configs.base_config import ActorCriticConfig, Fraction
from cs285.homework import Stage, register


@register(
    "bcq",
    title="BCQ",
    colour="#59A14F",
    stages={Stage.OFFLINE, Stage.FINETUNE},
    tags=("critic_loss", "actor_loss"),
    order=14,
)
class BCQConfig(ActorCriticConfig):
    """A critic, an imitation of the data, and how likely an action must be."""

    per_run: ClassVar[frozenset[str]] = ActorCriticConfig.per_run | {"threshold"}

    base_config: Literal["bcq"]

    threshold: Fraction = 0.3
    """Smallest probability of an allowed action in the data, relative to the likeliest one: the
    paper's value. At 0 all actions are allowed, as in DQN; at 1 only the likeliest."""
    use_double_q: bool = True
    """Let the online critic choose the action that the target critic evaluates: less bias."""

    def make_agent(self, observation_shape: tuple[int, ...], num_actions: int) -> Any:
        """Build a `BCQAgent`."""
        from cs285.agents.bcq_agent import BCQAgent

        return BCQAgent(
            observation_shape,
            num_actions,
            threshold=self.threshold,
            use_double_q=self.use_double_q,
            **self.actor_critic_arguments(),
        )
