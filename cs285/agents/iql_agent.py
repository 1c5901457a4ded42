"""Implicit Q-learning (Kostrikov 2021, eqs. 5 to 7) for discrete actions.

    v loss      = mean |tau - 1{u < 0}| u^2            with u = Q(s, a) - V(s)   (no gradient in Q)
    q loss      = mean (Q(s, a) - y)^2                 with y = r + discount (1 - d) Vt(s')
    A(s, a)     = Q(s, a) - V(s)                       (no gradient)
    actor loss  = -mean( log pi(a|s) min(exp(A(s, a) / temperature), MAX_WEIGHT) )

With tau above 1/2 the expectile V leans towards the better actions in the data, so Q improves on
the data's policy without evaluating any action outside the data. `temperature` is the lambda of the
formula, the inverse of the paper's beta.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.distributions import Categorical

from cs285.agents.awac_agent import AWACAgent
from cs285.agents.student_parents import AnyParent
from cs285.learning.agent import Agent
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


class IQLAgent(AWACAgent, AnyParent):
    """AWAC's actor with the advantages of an expectile critic.

    Args:
        observation_shape: Shape of one observation.
        num_actions: Number of actions.
        make_value_critic: `(observation_shape) -> V`, called twice; V returns `(batch, 1)`.
        make_value_critic_optimizer: `(parameters) -> optimiser`.
        expectile: Tau, in (0, 1): above 1/2 is optimistic.
        **kwargs: Arguments of `AWACAgent`.
    """

    stackable = True

    expectile: torch.Tensor

    def __init__(
        self,
        observation_shape: tuple[int, ...],
        num_actions: int,
        make_value_critic: Callable[[tuple[int, ...]], nn.Module],
        make_value_critic_optimizer: MakeOptimizer,
        expectile: float,
        **kwargs: Any,
    ) -> None:
        super().__init__(observation_shape, num_actions, **kwargs)
        # Q regresses on the target V, so nothing reads a target Q. `DQNAgent` draws its initial
        # weights nevertheless: without that draw, the same seed would give other weights here.
        if hasattr(self, "target_critic"):
            del self.target_critic
        self.register_buffer("expectile", hyperparameter(expectile))
        self.value_critic = make_value_critic(observation_shape)
        self.value_critic_optimizer = make_value_critic_optimizer(self.value_critic.parameters())
        self.target_value_critic = make_value_critic(observation_shape)
        self.update_target_value_critic()

    # Losses

    @staticmethod
    def state_values(value_critic: nn.Module, observations: torch.Tensor) -> torch.Tensor:
        """Return V(s) `(batch,)` of a network that returns `(batch, 1)`.

        The axis is squeezed only here: `(batch, 1)` against `(batch,)` would broadcast to
        `(batch, batch)` in a loss, and PyTorch would not raise an error.
        """
        values: torch.Tensor = value_critic(observations)
        return values.squeeze(-1)

    def compute_critic_loss(
        self,
        obs: torch.Tensor,
        action: torch.Tensor,
        reward: torch.Tensor,
        next_obs: torch.Tensor,
        done: torch.Tensor,
    ) -> tuple[torch.Tensor, Metrics, dict[str, torch.Tensor]]:
        """Return Q's regression loss on the target V of the next state; see `DQNAgent`."""
        with torch.no_grad():
            next_values = self.state_values(self.target_value_critic, next_obs)
            target_values = reward + self.discount * (~done) * next_values

        qa_values = self.critic(obs)
        q_values = qa_values.gather(-1, action.unsqueeze(-1)).squeeze(-1)
        assert q_values.shape == target_values.shape == reward.shape == done.shape
        loss = self.critic_loss(q_values, target_values)

        metrics = {"q_values": q_values.mean(), "target_values": target_values.mean()}
        return loss, metrics, {"qa_values": qa_values, "q_values": q_values}

    @staticmethod
    def iql_expectile_loss(
        expectile: float | torch.Tensor, vs: torch.Tensor, target_qs: torch.Tensor
    ) -> torch.Tensor:
        """Return the mean expectile loss of values `(batch,)` against targets `(batch,)`."""
        assert vs.shape == target_qs.shape
        errors = target_qs - vs
        weights = torch.where(errors < 0, 1.0 - expectile, expectile)
        return (weights * errors.square()).mean()

    def compute_value_loss(
        self, observations: torch.Tensor, actions: torch.Tensor
    ) -> tuple[torch.Tensor, Metrics]:
        """Return the expectile loss of V against Q(s, a), and what to log."""
        with torch.no_grad():
            q_values = self.critic(observations).gather(-1, actions.unsqueeze(-1)).squeeze(-1)
        vs = self.state_values(self.value_critic, observations)
        assert vs.shape == q_values.shape == actions.shape
        loss = self.iql_expectile_loss(self.expectile, vs, q_values)
        return loss, {"vs": vs.mean(), "vs_adv": (vs - q_values).mean()}

    @torch.no_grad()
    def compute_advantage(
        self,
        observations: torch.Tensor,
        actions: torch.Tensor,
        action_dist: Categorical | None = None,
    ) -> torch.Tensor:
        """Return A(s, a) `(batch,)`, with V as the baseline; the actor is not used."""
        del action_dist
        q_values = self.critic(observations).gather(-1, actions.unsqueeze(-1)).squeeze(-1)
        values = self.state_values(self.value_critic, observations)
        advantages: torch.Tensor = q_values - values
        assert advantages.shape == q_values.shape == values.shape == actions.shape
        return advantages

    # Objectives

    @property
    def objectives(self) -> tuple[TrainingStep, ...]:
        """First Q on the target V, then V on the new Q, then the actor on both."""
        return (self.critic_objective, self.value_objective, self.actor_objective)

    @property
    def critic_objective(self) -> Objective:
        """Q's objective."""
        return Objective(
            method="update_q",
            loss_tag="q_loss",
            grad_norm_tag="q_grad_norm",
            loss=self.compute_critic_loss,
            inputs=Batch._fields,
            network=self.critic,
            optimizer=self.critic_optimizer,
            lr_scheduler=self.lr_scheduler,
            clip_grad_norm=self.clip_grad_norm,
        )

    @property
    def value_objective(self) -> Objective:
        """V's objective."""
        return Objective(
            method="update_v",
            loss_tag="v_loss",
            grad_norm_tag="v_grad_norm",
            loss=self.compute_value_loss,
            inputs=("observations", "actions"),
            network=self.value_critic,
            optimizer=self.value_critic_optimizer,
            clip_grad_norm=self.clip_grad_norm,
        )

    @property
    def target_rules(self) -> tuple[TargetRule, ...]:
        """The target V becomes a copy of V every `target_update_period` updates."""
        method, period = "update_target_value_critic", self.target_update_period
        return (HardCopy("value_critic", "target_value_critic", period, method=method),)

    def update_q(
        self,
        observations: torch.Tensor,
        actions: torch.Tensor,
        rewards: torch.Tensor,
        next_observations: torch.Tensor,
        dones: torch.Tensor,
    ) -> dict[str, Any]:
        """Take one gradient step on Q."""
        return self.critic_objective.minimise(
            observations, actions, rewards, next_observations, dones
        )

    def update_v(self, observations: torch.Tensor, actions: torch.Tensor) -> dict[str, Any]:
        """Take one gradient step on V."""
        return self.value_objective.minimise(observations, actions)

    def update_target_critic(self) -> None:
        """Do nothing: Q has no target network."""

    def update_target_value_critic(self) -> None:
        """Copy V to the target V."""
        self.target_value_critic.load_state_dict(self.value_critic.state_dict())

    update = Agent.update
