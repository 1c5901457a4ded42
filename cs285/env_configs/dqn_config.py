"""Deep Q-learning."""

from __future__ import annotations

from typing import Any, Literal

from cs285.env_configs.base_config import CriticConfig


class DQNConfig(CriticConfig):
    """Nothing beyond the critic."""

    base_config: Literal["dqn"]

    def make_agent(self, observation_shape: tuple[int, ...], num_actions: int) -> Any:
        """Build a `DQNAgent`."""
        from cs285.agents.dqn_agent import DQNAgent

        return DQNAgent(observation_shape, num_actions, **self.critic_arguments())
