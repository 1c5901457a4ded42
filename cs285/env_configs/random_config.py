"""Random exploration."""

from __future__ import annotations

from typing import Any, Literal

from cs285.env_configs.base_config import BaseConfig


class RandomConfig(BaseConfig):
    """Every action equally likely; nothing to tune."""

    base_config: Literal["random"]

    def make_agent(self, observation_shape: tuple[int, ...], num_actions: int) -> Any:
        """Build a `RandomAgent`."""
        from cs285.agents.random_agent import RandomAgent

        return RandomAgent(observation_shape, num_actions)
