"""Deep Q-learning."""

from __future__ import annotations

from typing import Any, Literal

import gymnasium as gym

from cs285.env_configs.base_config import CriticConfig


class DQNConfig(CriticConfig):
    """Nothing beyond the critic."""

    base_config: Literal["dqn"]

    def make_agent(self, observation_space: gym.Space[Any], action_space: gym.Space[Any]) -> Any:
        """Build a `DQNAgent`."""
        from cs285.agents.dqn_agent import DQNAgent

        return DQNAgent(observation_space.shape, action_space.n, **self.critic_arguments())
