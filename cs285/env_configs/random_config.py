"""Random exploration."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from cs285.env_configs.base_config import BaseConfig
from cs285.homework import Question, Stage, register
from cs285.infrastructure.palette import GREY


@register(
    "random",
    title="Random",
    colour=GREY,
    stages={Stage.EXPLORE},
    question=Question.EXPLORATION,
    order=1,
)
class RandomConfig(BaseConfig):
    """No settings: every action is equally likely."""

    base_config: Literal["random"]

    # The training loop needs these, but they do not affect an agent that never learns.
    batch_size: ClassVar[int] = 128
    epsilon: ClassVar[float] = 0.3
    updates_per_step: ClassVar[int] = 1

    def make_agent(self, observation_shape: tuple[int, ...], num_actions: int) -> Any:
        """Build a `RandomAgent`."""
        from cs285.agents.random_agent import RandomAgent
        from cs285.learning.student_code import construct

        return construct(RandomAgent, observation_shape, num_actions)
