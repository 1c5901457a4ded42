"""Filtered behaviour cloning."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from cs285.env_configs.base_config import PolicyConfig
from cs285.homework import Stage, register


@register(
    "filtered_bc",
    title="Filtered BC",
    colour="#8C6D31",
    stages={Stage.OFFLINE, Stage.FINETUNE},
    tags=("actor_loss",),
    order=11,
)
class FilteredBCConfig(PolicyConfig):
    """An actor, and how many episodes it imitates."""

    per_run: ClassVar[frozenset[str]] = PolicyConfig.per_run | {"keep_fraction"}

    base_config: Literal["filtered_bc"]

    keep_fraction: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Fraction of the episodes to imitate, those with the highest returns. A tenth of exploration's
    episodes is about as many as reach the goal; 1 is `bc` on the episodes that have ended."""

    def make_agent(self, observation_shape: tuple[int, ...], num_actions: int) -> Any:
        """Build a `FilteredBCAgent`."""
        from cs285.agents.filtered_bc_agent import FilteredBCAgent

        return FilteredBCAgent(
            observation_shape,
            num_actions,
            clip_grad_norm=self.clip_grad_norm,
            keep_fraction=self.keep_fraction,
            **self.policy_arguments(),
        )
