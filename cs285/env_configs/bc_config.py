"""Behaviour cloning."""

from __future__ import annotations

from typing import Any, Literal

from cs285.env_configs.base_config import PolicyConfig
from cs285.homework import Stage, register


@register(
    "bc",
    title="BC",
    colour="#7F7F7F",
    stages={Stage.OFFLINE, Stage.FINETUNE},
    tags=("actor_loss",),
    order=10,
)
class BCConfig(PolicyConfig):
    """An actor and no other keys."""

    base_config: Literal["bc"]

    def make_agent(self, observation_shape: tuple[int, ...], num_actions: int) -> Any:
        """Build a `BCAgent`."""
        from cs285.agents.bc_agent import BCAgent

        return BCAgent(
            observation_shape,
            num_actions,
            clip_grad_norm=self.clip_grad_norm,
            **self.policy_arguments(),
        )
