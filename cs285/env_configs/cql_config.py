"""Conservative Q-learning."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from cs285.env_configs.base_config import Positive, QLearningConfig
from cs285.homework import Question, Stage, register
from cs285.infrastructure.palette import BLUE


@register(
    "cql",
    title="CQL",
    colour=BLUE,
    stages={Stage.OFFLINE, Stage.FINETUNE},
    tags=("critic_loss", "cql_term"),
    question=Question.CQL,
    order=4,
)
class CQLConfig(QLearningConfig):
    """A critic, and how conservative it is."""

    per_run: ClassVar[frozenset[str]] = QLearningConfig.per_run | {"cql_alpha", "cql_temperature"}

    base_config: Literal["cql"]

    cql_alpha: Annotated[float, Field(ge=0)] = 0.1
    """Weight of the conservative term; at 0 this is DQN. Since each step costs 1, a weight of 0.1
    is enough to rank the actions but too small to distort the values."""
    cql_temperature: Positive = 1.0
    """Temperature of the soft maximum; the handout's formula has 1. The values in a state differ by
    one or two here, so the softmax at 1 is broad: the term raises the actions in the data more than
    it lowers the best action, and values rise with alpha. At 0.1 they fall."""

    def make_agent(self, observation_shape: tuple[int, ...], num_actions: int) -> Any:
        """Build a `CQLAgent`."""
        from cs285.agents.cql_agent import CQLAgent
        from cs285.learning.student_code import construct

        return construct(
            CQLAgent,
            observation_shape,
            num_actions,
            cql_alpha=self.cql_alpha,
            cql_temperature=self.cql_temperature,
            **self.critic_arguments(),
        )
