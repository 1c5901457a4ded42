"""What agents with an actor and a critic share: the critic, its target network, how it is trained.

It is for the methods of the course notes. The homework's agents keep their own text, which students
write.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from cs285.agents.imitation import ImitationAgent
from cs285.learning.objective import (
    Batch,
    HardCopy,
    MakeOptimizer,
    Metrics,
    Objective,
    TargetRule,
    TrainingStep,
    hyperparameter,
)


class ActorCriticAgent(ImitationAgent):
    """An actor and a critic; subclasses define the losses of both.

    Args:
        observation_shape: Shape of one observation.
        num_actions: Number of actions.
        make_critic: `(observation_shape, num_actions) -> Q`, called twice.
        make_critic_optimizer: `(parameters) -> optimiser`.
        discount: Discount factor in [0, 1].
        target_update_period: Number of updates between copies of the critic to the target critic.
        **kwargs: Arguments of `ImitationAgent`.
    """

    stackable = True

    discount: torch.Tensor

    critic_inputs: tuple[str, ...] = Batch._fields
    """Columns of a batch that `compute_critic_loss` takes, in order."""

    def __init__(
        self,
        observation_shape: tuple[int, ...],
        num_actions: int,
        *,
        make_critic: Callable[[tuple[int, ...], int], nn.Module],
        make_critic_optimizer: MakeOptimizer,
        discount: float,
        target_update_period: int,
        **kwargs: Any,
    ) -> None:
        super().__init__(observation_shape, num_actions, **kwargs)
        self.target_update_period = target_update_period
        self.register_buffer("discount", hyperparameter(discount))
        self.critic = make_critic(observation_shape, num_actions)
        self.critic_optimizer = make_critic_optimizer(self.critic.parameters())
        self.target_critic = make_critic(observation_shape, num_actions)
        self.target_critic.load_state_dict(self.critic.state_dict())

    def action_values(self, observations: torch.Tensor) -> torch.Tensor:
        """Return the estimates of Q `(batch, num_actions)` for observations `(batch, ...)`."""
        values: torch.Tensor = self.critic(observations)
        return values

    # Losses

    def compute_critic_loss(self, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, Metrics]:
        """Return the critic's loss on the columns `critic_inputs`, and what to log."""
        raise NotImplementedError

    def squared_error(
        self, observations: torch.Tensor, actions: torch.Tensor, target_values: torch.Tensor
    ) -> tuple[torch.Tensor, Metrics]:
        """Return `mean (Q(s, a) - y)^2` for targets y `(batch,)`, and what to log."""
        q_values = taken(self.critic(observations), actions)
        assert q_values.shape == target_values.shape == actions.shape
        metrics = {"q_values": q_values.mean(), "target_values": target_values.mean()}
        return (q_values - target_values).square().mean(), metrics

    # Objectives

    @property
    def objectives(self) -> tuple[TrainingStep, ...]:
        """First the critic, then the actor."""
        return (self.critic_objective, self.actor_objective)

    @property
    def critic_objective(self) -> Objective:
        """The critic's objective."""
        return Objective(
            loss_tag="critic_loss",
            grad_norm_tag="grad_norm",
            loss=self.compute_critic_loss,
            inputs=self.critic_inputs,
            network=self.critic,
            optimizer=self.critic_optimizer,
            clip_grad_norm=self.clip_grad_norm,
        )

    @property
    def target_rules(self) -> tuple[TargetRule, ...]:
        """The target critic becomes a copy of the critic every `target_update_period` updates."""
        return (HardCopy("critic", "target_critic", self.target_update_period),)


def taken(action_values: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
    """Return the values `(batch,)` of actions `(batch,)` among those of all `(batch, actions)`."""
    return action_values.gather(-1, actions.unsqueeze(-1)).squeeze(-1)
