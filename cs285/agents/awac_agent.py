"""Advantage weighted actor-critic (Nair 2020, eqs. 4 and 10) for discrete actions.

    y           = r + discount (1 - d) sum_a' pi(a'|s') Qt(s', a')
    critic loss = mean (Q(s, a) - y)^2
    A(s, a)     = Q(s, a) - sum_a' pi(a'|s) Q(s, a')                     (no gradient)
    actor loss  = -mean( log pi(a|s) min(exp(A(s, a) / temperature), MAX_WEIGHT) )

The expectations over pi are exact sums, not samples. The agent acts with its actor, never with the
argmax of Q. `temperature` is the lambda of the formula; some papers use its inverse.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.distributions import Categorical

from cs285.agents.acting import greedy, private_generator, sample_action
from cs285.agents.dqn_agent import DQNAgent
from cs285.agents.student_parents import AnyParent
from cs285.learning.agent import Agent
from cs285.learning.objective import (
    MakeOptimizer,
    Metrics,
    Objective,
    TrainingStep,
    hyperparameter,
)
from cs285.networks.mlp_policy import MLPPolicy

MAX_WEIGHT = 100.0
"""Cap on exp(A / temperature), as in the IQL authors' code. It keeps single transitions from
overflowing the loss while advantages are still noise; later it affects only a few."""


class AWACAgent(DQNAgent, AnyParent):
    """Weighted behaviour cloning on the advantages of a critic.

    Args:
        observation_shape: Shape of one observation.
        num_actions: Number of actions.
        make_actor: `(observation_shape, num_actions) -> policy`.
        make_actor_optimizer: `(parameters) -> optimiser`.
        temperature: Lambda, positive: small is greedy, large clones the data.
        **kwargs: Arguments of `DQNAgent`.
    """

    stackable = True

    temperature: torch.Tensor

    def __init__(
        self,
        observation_shape: tuple[int, ...],
        num_actions: int,
        make_actor: Callable[[tuple[int, ...], int], MLPPolicy],
        make_actor_optimizer: MakeOptimizer,
        temperature: float,
        **kwargs: Any,
    ) -> None:
        super().__init__(observation_shape, num_actions, **kwargs)
        self.register_buffer("temperature", hyperparameter(temperature))
        self.generator = private_generator()
        self.actor = make_actor(observation_shape, num_actions)
        self.actor_optimizer = make_actor_optimizer(self.actor.parameters())

    # Acting

    def action_probabilities(
        self, observations: torch.Tensor, epsilon: torch.Tensor
    ) -> torch.Tensor:
        """Return pi(. | s) `(batch, num_actions)` while exploring, and its mode at `epsilon` 0."""
        probabilities: torch.Tensor = self.actor(observations).probs
        return torch.where(epsilon > 0, probabilities, greedy(probabilities))

    def get_action(self, observation: np.ndarray, epsilon: float = 0.0) -> int:
        """Choose an action for one observation: the actor's mode, or a sample if exploring."""
        return sample_action(self, observation, epsilon)

    # Losses

    def compute_critic_loss(
        self,
        obs: torch.Tensor,
        action: torch.Tensor,
        reward: torch.Tensor,
        next_obs: torch.Tensor,
        done: torch.Tensor,
    ) -> tuple[torch.Tensor, Metrics, dict[str, torch.Tensor]]:
        """Return the temporal-difference loss under the actor; see `DQNAgent`."""
        with torch.no_grad():
            next_probabilities = self.actor(next_obs).probs
            next_values = (next_probabilities * self.target_critic(next_obs)).sum(-1)
            target_values = reward + self.discount * (~done) * next_values

        qa_values = self.critic(obs)
        q_values = qa_values.gather(-1, action.unsqueeze(-1)).squeeze(-1)
        assert q_values.shape == target_values.shape == reward.shape == done.shape
        loss = self.critic_loss(q_values, target_values)

        metrics = {"q_values": q_values.mean(), "target_values": target_values.mean()}
        return loss, metrics, {"qa_values": qa_values, "q_values": q_values}

    @torch.no_grad()
    def compute_advantage(
        self,
        observations: torch.Tensor,
        actions: torch.Tensor,
        action_dist: Categorical | None = None,
    ) -> torch.Tensor:
        """Return A(s, a) `(batch,)` under `action_dist`, by default the actor's distribution."""
        if action_dist is None:
            action_dist = self.actor(observations)
        qa_values = self.critic(observations)
        q_values = qa_values.gather(-1, actions.unsqueeze(-1)).squeeze(-1)
        values = (action_dist.probs * qa_values).sum(-1)
        advantages: torch.Tensor = q_values - values
        assert advantages.shape == q_values.shape == values.shape == actions.shape
        return advantages

    def compute_actor_loss(
        self, observations: torch.Tensor, actions: torch.Tensor
    ) -> tuple[torch.Tensor, Metrics]:
        """Return the weighted cloning loss and what to log."""
        action_dist = self.actor(observations)
        advantages = self.compute_advantage(observations, actions, action_dist)
        weights = torch.exp(advantages / self.temperature).clamp(max=MAX_WEIGHT)
        log_probabilities = action_dist.log_prob(actions)
        assert log_probabilities.shape == weights.shape == actions.shape
        return -(log_probabilities * weights).mean(), {"actor_weight": weights.mean()}

    # Objectives

    @property
    def objectives(self) -> tuple[TrainingStep, ...]:
        """First the critic, then the actor on its new advantages."""
        return (self.critic_objective, self.actor_objective)

    @property
    def actor_objective(self) -> Objective:
        """The actor's objective."""
        return Objective(
            method="update_actor",
            loss_tag="actor_loss",
            grad_norm_tag="actor_grad_norm",
            loss=self.compute_actor_loss,
            inputs=("observations", "actions"),
            network=self.actor,
            optimizer=self.actor_optimizer,
            clip_grad_norm=self.clip_grad_norm,
        )

    def update_actor(self, observations: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """Take one gradient step on the actor and return its loss."""
        return self.actor_objective.minimise(observations, actions)["actor_loss"]

    update = Agent.update
