"""Deep Q-learning."""

from __future__ import annotations

from typing import Any, Literal

from cs285.env_configs.base_config import QLearningConfig
from cs285.homework import Question, Stage, register
from cs285.infrastructure.palette import ORANGE


@register(
    "dqn",
    title="DQN",
    colour=ORANGE,
    stages=set(Stage),
    tags=("critic_loss",),
    question=Question.CQL,
    order=3,
)
class DQNConfig(QLearningConfig):
    """A critic and no other keys."""

    base_config: Literal["dqn"]

    def make_agent(self, observation_shape: tuple[int, ...], num_actions: int) -> Any:
        """Build a `DQNAgent`."""
        from cs285.agents.dqn_agent import DQNAgent
        from cs285.learning.student_code import construct

        return construct(DQNAgent, observation_shape, num_actions, **self.critic_arguments())
