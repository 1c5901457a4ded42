"""Random network distillation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from cs285.env_configs.base_config import (
    LearningRate,
    Positive,
    QLearningConfig,
    Size,
    Steps,
    adam,
)
from cs285.homework import Question, Stage, register
from cs285.infrastructure.palette import GREEN

if TYPE_CHECKING:
    from torch import nn


@register(
    "rnd",
    title="RND",
    colour=GREEN,
    stages={Stage.EXPLORE},
    tags=("critic_loss", "rnd_loss"),
    question=Question.EXPLORATION,
    order=2,
)
class RNDConfig(QLearningConfig):
    """An exploration critic and the two networks of its bonus."""

    per_run: ClassVar[frozenset[str]] = QLearningConfig.per_run | {
        "rnd_weight",
        "rnd_learning_rate",
        "use_reward",
    }

    base_config: Literal["rnd"]

    rnd_weight: Annotated[float, Field(ge=0)] = 1.0
    """Factor of the normalised bonus."""
    learning_starts: Annotated[int, Field(ge=1)] = 150
    """Earlier than for other algorithms, because random steps rarely leave the first room."""
    updates_per_step: Annotated[int, Field(ge=1, le=100)] = 4
    """More than for other algorithms, because the critic must keep up with a changing bonus."""
    rnd_dim: Size = 32
    """Number of outputs of the random target and of its predictor."""
    rnd_hidden_size: Size = 64
    """Width of the hidden layers of both."""
    rnd_num_layers: Annotated[int, Field(ge=1, le=16)] = 2
    """Number of hidden layers of both."""
    rnd_input_scale: Positive = 8.0
    """Both see observations rescaled to [-scale, scale]. The larger the scale, the more local the
    effect of a visit on the predictor; at 1, one visit teaches it half the maze."""
    rnd_learning_rate: LearningRate = 5e-5
    """Adam's learning rate for the predictor. Small, so that its error reflects how often a state
    was visited, not just whether it was."""
    use_reward: bool = False
    """Whether to add the environment's reward to the bonus, as the flag `--use_reward` does."""
    num_exploration_steps: Steps | None = None
    """Train a second critic on the environment's reward alone, and let it collect the data after
    this many steps. Default: no second critic; the whole run explores."""

    @model_validator(mode="after")
    def _explores_by_chance(self) -> Self:
        if self.num_exploration_steps is not None and self.epsilon == 0:
            raise ValueError("`num_exploration_steps` needs an `epsilon` above 0")
        return self

    @property
    def exploration_phases(self) -> dict[str, int]:
        """Exploration, then exploitation if there is a second critic and steps remain for it."""
        exploring = min(self.num_exploration_steps or self.total_steps, self.total_steps)
        rest = self.total_steps - exploring
        return {"exploration": exploring} | ({"exploitation": rest} if rest else {})

    def make_agent(self, observation_shape: tuple[int, ...], num_actions: int) -> Any:
        """Build an `RNDAgent`, with a second critic if `num_exploration_steps` is set."""
        from cs285.agents.dqn_agent import DQNAgent
        from cs285.agents.exploration import hidden_task
        from cs285.agents.rnd_agent import RNDAgent
        from cs285.learning.student_code import construct
        from cs285.networks.mlp import build_network

        def make_network(observation_shape: tuple[int, ...]) -> nn.Module:
            return build_network(
                observation_shape,
                self.rnd_dim,
                self.rnd_num_layers,
                self.rnd_hidden_size,
                self.rnd_input_scale,
                self.input_bounds,
            )

        arguments: dict[str, Any] = {
            "make_rnd_network": make_network,
            "make_rnd_network_optimizer": adam(self.rnd_learning_rate),
            "make_target_rnd_network": make_network,
            "rnd_weight": self.rnd_weight,
            **self.critic_arguments(),
        }
        if self.num_exploration_steps is None:
            agent = construct(RNDAgent, observation_shape, num_actions, **arguments)
            if not self.use_reward:
                # Not in the class, which may be a student's that does not know about columns.
                agent.derived_columns = hidden_task
            return agent

        from cs285.agents.two_critic_rnd_agent import TwoCriticRNDAgent

        return TwoCriticRNDAgent(
            observation_shape,
            num_actions,
            exploiter=construct(
                DQNAgent, observation_shape, num_actions, **self.critic_arguments()
            ),
            use_reward=self.use_reward,
            **arguments,
        )
