"""Advantage-weighted regression with Monte Carlo returns (Peng 2019, algorithm 1, offline).

    R(s, a)    = sum_k discount^k r_{t+k}, to the end of the episode
    v loss     = mean (V(s) - R(s, a))^2
    A(s, a)    = R(s, a) - V(s)                      (no gradient)
    actor loss = -mean( log pi(a|s) min(exp(A(s, a) / temperature), MAX_WEIGHT) )

In the notes R is the plain sum, `discount: 1`, and the temperature is called alpha. Nothing is
bootstrapped: V is the value of the policy that collected the data, and an action looks good if luck
followed it. Where a time limit cut an episode, R lacks what would have come, so its last actions
look better than they are; a discount below 1 limits how far back that reaches. Episodes that have
not ended have no R yet, so batches leave them out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from cs285.agents.imitation import ImitationAgent, advantage_weights, imitation_loss
from cs285.learning.columns import FINISHED, Column, discounted_returns_to_go
from cs285.learning.objective import (
    MakeOptimizer,
    Metrics,
    Objective,
    TrainingStep,
    hyperparameter,
)


class AWRAgent(ImitationAgent):
    """Weighted imitation with the returns of the data as advantages.

    Args:
        observation_shape: Shape of one observation.
        num_actions: Number of actions.
        make_value_critic: `(observation_shape) -> V`, which returns `(batch, 1)`.
        make_value_critic_optimizer: `(parameters) -> optimiser`.
        discount: Discount factor of the returns, in [0, 1].
        temperature: Positive: small is greedy, large clones the data.
        **kwargs: Arguments of `ImitationAgent`.
    """

    stackable = True

    temperature: torch.Tensor

    actor_inputs = ("observations", "actions", "discounted_returns_to_go")

    def __init__(
        self,
        observation_shape: tuple[int, ...],
        num_actions: int,
        *,
        make_value_critic: Callable[[tuple[int, ...]], nn.Module],
        make_value_critic_optimizer: MakeOptimizer,
        discount: float,
        temperature: float,
        **kwargs: Any,
    ) -> None:
        super().__init__(observation_shape, num_actions, **kwargs)
        self.discount = discount
        self.register_buffer("temperature", hyperparameter(temperature))
        self.value_critic = make_value_critic(observation_shape)
        self.value_critic_optimizer = make_value_critic_optimizer(self.value_critic.parameters())

    def derived_columns(self) -> tuple[Column, ...]:
        """Return the column of R, and that of the episodes in which it is known."""
        return (discounted_returns_to_go(self.discount), FINISHED)

    # Losses

    def compute_value_loss(
        self, observations: torch.Tensor, returns: torch.Tensor
    ) -> tuple[torch.Tensor, Metrics]:
        """Return the squared error of V against the returns, and what to log."""
        vs = self.value_critic(observations).squeeze(-1)
        assert vs.shape == returns.shape
        return (vs - returns).square().mean(), {"vs": vs.mean()}

    def compute_actor_loss(
        self, observations: torch.Tensor, actions: torch.Tensor, returns: torch.Tensor
    ) -> tuple[torch.Tensor, Metrics]:
        """Return the weighted imitation loss, and what to log."""
        with torch.no_grad():
            advantages = returns - self.value_critic(observations).squeeze(-1)
        weights = advantage_weights(advantages, self.temperature)
        loss = imitation_loss(self.actor, observations, actions, weights)
        return loss, {"actor_weight": weights.mean()}

    # Objectives

    @property
    def objectives(self) -> tuple[TrainingStep, ...]:
        """First V, then the actor on its new advantages."""
        return (self.value_objective, self.actor_objective)

    @property
    def value_objective(self) -> Objective:
        """V's objective."""
        return Objective(
            loss_tag="v_loss",
            grad_norm_tag="v_grad_norm",
            loss=self.compute_value_loss,
            inputs=("observations", "discounted_returns_to_go"),
            network=self.value_critic,
            optimizer=self.value_critic_optimizer,
            clip_grad_norm=self.clip_grad_norm,
        )
