"""Deep Q-learning with a target network, optionally double (Mnih 2015; van Hasselt 2016, eq. 4).

    y      = r + discount (1 - d) Qt(s', a*)
    a*     = argmax_a Q(s', a)  if double, else  argmax_a Qt(s', a)
    loss   = mean (Q(s, a) - y)^2

`d` is 1 where the episode terminated, not where a time limit truncated it: a truncated episode
would have continued, so its last state still has a future.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from cs285.agents.acting import epsilon_greedy, private_generator, sample_action
from cs285.learning.agent import Agent
from cs285.learning.objective import (
    Batch,
    HardCopy,
    MakeOptimizer,
    MakeSchedule,
    Metrics,
    Objective,
    TargetRule,
    TrainingStep,
    hyperparameter,
)


class DQNAgent(Agent):
    """Q-learning on action values; acts epsilon-greedily.

    Args:
        observation_shape: Shape of one observation.
        num_actions: Number of actions.
        make_critic: `(observation_shape, num_actions) -> Q`, called twice.
        make_optimizer: `(parameters) -> optimiser`.
        make_lr_schedule: `(optimiser) -> schedule`.
        discount: Discount factor in [0, 1].
        target_update_period: Number of updates between copies of the critic to the target critic.
        use_double_q: Whether the online critic chooses the next action.
        clip_grad_norm: Maximum norm of each gradient, or None.
    """

    stackable = True

    discount: torch.Tensor

    def __init__(
        self,
        observation_shape: tuple[int, ...],
        num_actions: int,
        make_critic: Callable[[tuple[int, ...], int], nn.Module],
        make_optimizer: MakeOptimizer,
        make_lr_schedule: MakeSchedule,
        discount: float,
        target_update_period: int,
        use_double_q: bool = False,  # noqa: FBT001, FBT002 - the homework's signature
        clip_grad_norm: float | None = None,
    ) -> None:
        super().__init__()
        self.observation_shape = observation_shape
        self.num_actions = num_actions
        self.target_update_period = target_update_period
        self.use_double_q = use_double_q
        self.clip_grad_norm = clip_grad_norm
        self.critic_loss = nn.MSELoss()
        self.register_buffer("discount", hyperparameter(discount))
        self.generator = private_generator()

        self.critic = make_critic(observation_shape, num_actions)
        self.critic_optimizer = make_optimizer(self.critic.parameters())
        self.lr_scheduler = make_lr_schedule(self.critic_optimizer)
        self.target_critic = make_critic(observation_shape, num_actions)
        self.update_target_critic()

    # Acting

    def action_probabilities(
        self, observations: torch.Tensor, epsilon: torch.Tensor
    ) -> torch.Tensor:
        """Return pi(. | s) `(batch, num_actions)` for observations `(batch, ...)`."""
        return epsilon_greedy(self.critic(observations), epsilon)

    def get_action(self, observation: np.ndarray, epsilon: float = 0.0) -> int:
        """Choose an action for one observation; greedy at `epsilon` 0."""
        return sample_action(self, observation, epsilon)

    def action_values(self, observations: torch.Tensor) -> torch.Tensor:
        """Return the estimates of Q `(batch, num_actions)` for observations `(batch, ...)`.

        These are the values by which the critic is trained: of the rewards that it learns from,
        under its discount. In RND these include the bonus, and by default nothing else.
        """
        values: torch.Tensor = self.critic(observations)
        return values

    # Losses

    def compute_critic_loss(
        self,
        obs: torch.Tensor,
        action: torch.Tensor,
        reward: torch.Tensor,
        next_obs: torch.Tensor,
        done: torch.Tensor,
    ) -> tuple[torch.Tensor, Metrics, dict[str, torch.Tensor]]:
        """Return the temporal-difference loss, what to log, and the values it was computed from.

        Shapes are those of `Batch`. The last dict contains `qa_values (batch, num_actions)` and
        `q_values (batch,)`.
        """
        with torch.no_grad():
            next_qa_values = self.target_critic(next_obs)
            chooser = self.critic(next_obs) if self.use_double_q else next_qa_values
            next_actions = chooser.argmax(dim=-1, keepdim=True)
            next_q_values = next_qa_values.gather(-1, next_actions).squeeze(-1)
            target_values = reward + self.discount * (~done) * next_q_values

        qa_values = self.critic(obs)
        q_values = qa_values.gather(-1, action.unsqueeze(-1)).squeeze(-1)
        assert q_values.shape == target_values.shape == reward.shape == done.shape
        loss = self.critic_loss(q_values, target_values)

        metrics = {"q_values": q_values.mean(), "target_values": target_values.mean()}
        return loss, metrics, {"qa_values": qa_values, "q_values": q_values}

    # Objectives

    @property
    def objectives(self) -> tuple[TrainingStep, ...]:
        """The critic's temporal-difference loss."""
        return (self.critic_objective,)

    @property
    def critic_objective(self) -> Objective:
        """The critic's objective."""
        return Objective(
            method="update_critic",
            loss_tag="critic_loss",
            grad_norm_tag="grad_norm",
            loss=self.compute_critic_loss,
            inputs=Batch._fields,
            network=self.critic,
            optimizer=self.critic_optimizer,
            lr_scheduler=self.lr_scheduler,
            clip_grad_norm=self.clip_grad_norm,
        )

    @property
    def target_rules(self) -> tuple[TargetRule, ...]:
        """The target critic becomes a copy of the critic every `target_update_period` updates."""
        period = self.target_update_period
        return (HardCopy("critic", "target_critic", period, method="update_target_critic"),)

    def update_critic(
        self,
        obs: torch.Tensor,
        action: torch.Tensor,
        reward: torch.Tensor,
        next_obs: torch.Tensor,
        done: torch.Tensor,
    ) -> dict[str, Any]:
        """Take one gradient step on the critic."""
        return self.critic_objective.minimise(obs, action, reward, next_obs, done)

    def update_target_critic(self) -> None:
        """Copy the critic to the target critic."""
        self.target_critic.load_state_dict(self.critic.state_dict())

    update = Agent.update
