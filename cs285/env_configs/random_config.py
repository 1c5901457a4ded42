"""Random exploration."""

from __future__ import annotations

from typing import Any, Literal

import gymnasium as gym

from cs285.env_configs.base_config import BaseConfig


class RandomConfig(BaseConfig):
    """Every action equally likely; nothing to tune."""

    base_config: Literal["random"]

    def make_agent(self, observation_space: gym.Space[Any], action_space: gym.Space[Any]) -> Any:
        """Build a `RandomAgent`."""
        from cs285.agents.random_agent import RandomAgent

        return RandomAgent(observation_space.shape, action_space.n)
