"""Behaviour-regularised actor-critic (Wu 2019) for discrete actions.

    behaviour loss  = -mean log pb(a|s)                     an imitation of the data
    D(s)            = D(pi(.|s), pb(.|s))                   `kl`, `tvd`, `jsd` or `chi2`

With `placement: actor`, the divergence is a penalty on the actor:

    y               = r + discount (1 - d) sum_a' pi(a'|s') Qt(s', a')
    actor loss      = mean( lambda D(s) - sum_a pi(a|s) Q(s, a) )

With `placement: reward`, it is a bonus, and the actor maximises Q alone:

    y               = r + lambda b(s, a) + discount (1 - d) sum_a' pi(a'|s') Qt(s', a')

`critic loss = mean (Q(s, a) - y)^2` in both. The mean of b under pi is -D, and b is the bonus that
has the right gradient when it counts as a reward: `marginal_bonus` of `learning/divergences.py`.
The notes (9.1) print the second form as `r - D`, with neither lambda nor the action. Q then
contains the bonus, so it does not estimate the task's values.

lambda is fixed, or the multiplier of the constraint `mean D(s) <= target_divergence`:

    multiplier loss = mean lambda (target_divergence - D(s)),  minimised over log lambda
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from cs285.agents.actor_critic import ActorCriticAgent, taken
from cs285.agents.imitation import MakeActor, imitation_loss
from cs285.infrastructure.errors import UserError
from cs285.learning.columns import Transitions
from cs285.learning.divergences import DIVERGENCES
from cs285.learning.objective import (
    MakeOptimizer,
    Metrics,
    Objective,
    TrainingStep,
    hyperparameter,
)

SMALLEST = 1e-6
"""Probabilities count as at least this in divergences, whose ratios and logarithms would otherwise
overflow."""

BOUNDED = ("tvd", "jsd")
"""Divergences that stay finite where the policy takes actions that the data never take."""


class Multiplier(nn.Module):
    """Lambda, positive because its logarithm is learned."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.logarithm = nn.Parameter(hyperparameter(value).log())

    def forward(self) -> torch.Tensor:
        """Return lambda."""
        return self.logarithm.exp()


class BRACAgent(ActorCriticAgent):
    """An actor and a critic that stay near an imitation of the data.

    Args:
        observation_shape: Shape of one observation.
        num_actions: Number of actions.
        make_behaviour: `(observation_shape, num_actions) -> pb`.
        make_behaviour_optimizer: `(parameters) -> optimiser`.
        divergence: Key in `DIVERGENCES`.
        placement: `actor` or `reward`.
        divergence_weight: Lambda, or its first value if it is learned.
        target_divergence: Largest mean divergence; None if lambda is fixed.
        make_multiplier_optimizer: `(parameters) -> optimiser` of a lambda that is learned.
        **kwargs: Arguments of `ActorCriticAgent`.
    """

    stackable = True

    target_divergence: torch.Tensor

    def __init__(
        self,
        observation_shape: tuple[int, ...],
        num_actions: int,
        *,
        make_behaviour: MakeActor,
        make_behaviour_optimizer: MakeOptimizer,
        divergence: str,
        placement: str,
        divergence_weight: float,
        target_divergence: float | None,
        make_multiplier_optimizer: MakeOptimizer,
        **kwargs: Any,
    ) -> None:
        super().__init__(observation_shape, num_actions, **kwargs)
        self.divergence = DIVERGENCES[divergence]
        self.is_penalty = placement == "actor"
        self.is_constrained = target_divergence is not None
        self.behaviour = make_behaviour(observation_shape, num_actions)
        self.behaviour_optimizer = make_behaviour_optimizer(self.behaviour.parameters())
        self.multiplier = Multiplier(divergence_weight)
        self.multiplier_optimizer = make_multiplier_optimizer(self.multiplier.parameters())
        self.register_buffer("target_divergence", hyperparameter(target_divergence or 0.0))

    def check_data(self, transitions: Transitions, what: str) -> None:
        """Check that the divergence is finite; see `Agent.check_data`."""
        counts = np.bincount(transitions.actions, minlength=self.num_actions)
        if self.divergence.name not in BOUNDED and not counts.all():
            raise UserError(
                f"{what}: this dataset never takes action {int(counts.argmin())}, so "
                f"`divergence: {self.divergence.name}` from its policy has no support there and is "
                f"infinite; use {' or '.join(BOUNDED)}, or data with every action"
            )

    def action_values(self, observations: torch.Tensor) -> torch.Tensor:
        """Return the estimates of Q `(batch, num_actions)` for observations `(batch, ...)`.

        Raises:
            ValueError: If Q contains the bonus.
        """
        if not self.is_penalty:
            raise ValueError("with the bonus in the reward, Q does not estimate the task's values")
        return super().action_values(observations)

    # Losses

    def compute_behaviour_loss(
        self, observations: torch.Tensor, actions: torch.Tensor
    ) -> tuple[torch.Tensor, Metrics]:
        """Return the imitation loss of pb; nothing else to log."""
        return imitation_loss(self.behaviour, observations, actions), {}

    def compute_critic_loss(
        self,
        observations: torch.Tensor,
        actions: torch.Tensor,
        rewards: torch.Tensor,
        next_observations: torch.Tensor,
        dones: torch.Tensor,
    ) -> tuple[torch.Tensor, Metrics]:
        """Return the temporal-difference loss under the actor, and what to log."""
        with torch.no_grad():
            next_probabilities = self.actor(next_observations).probs
            next_values = (next_probabilities * self.target_critic(next_observations)).sum(-1)
            if not self.is_penalty:
                bonus = self.divergence.marginal_bonus(*self.policies(observations))
                rewards = rewards + self.multiplier() * taken(bonus, actions)
            target_values = rewards + self.discount * (~dones) * next_values
        return self.squared_error(observations, actions, target_values)

    def compute_actor_loss(self, observations: torch.Tensor) -> tuple[torch.Tensor, Metrics]:
        """Return minus the expected Q, plus the penalty if there is one, and what to log."""
        probabilities, behaviour = self.policies(observations)
        divergences = self.divergence.between(probabilities, behaviour)
        values = (probabilities * self.critic(observations).detach()).sum(-1)
        assert values.shape == divergences.shape == observations.shape[:1]
        weight = self.multiplier().detach() if self.is_penalty else 0.0
        metrics = {"divergence": divergences.mean(), "multiplier": self.multiplier()}
        return (weight * divergences - values).mean(), metrics

    def compute_multiplier_loss(self, observations: torch.Tensor) -> tuple[torch.Tensor, Metrics]:
        """Return the loss of a lambda that is learned; nothing else to log."""
        with torch.no_grad():
            divergence = self.divergence.between(*self.policies(observations)).mean()
        return self.multiplier() * (self.target_divergence - divergence), {}

    def policies(self, observations: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return pi and pb `(batch, num_actions)`, at least `SMALLEST`, pb without gradient."""
        pi = self.actor(observations).probs
        pb = self.behaviour(observations).probs.detach()
        return pi.clamp(min=SMALLEST), pb.clamp(min=SMALLEST)

    # Objectives

    actor_inputs = ("observations",)

    @property
    def objectives(self) -> tuple[TrainingStep, ...]:
        """First pb, then the critic, then the actor, then lambda if it is learned."""
        first = (self.behaviour_objective, self.critic_objective, self.actor_objective)
        return (*first, self.multiplier_objective) if self.is_constrained else first

    @property
    def behaviour_objective(self) -> Objective:
        """The objective of pb."""
        return Objective(
            loss_tag="behaviour_loss",
            grad_norm_tag="behaviour_grad_norm",
            loss=self.compute_behaviour_loss,
            inputs=("observations", "actions"),
            network=self.behaviour,
            optimizer=self.behaviour_optimizer,
            clip_grad_norm=self.clip_grad_norm,
        )

    @property
    def multiplier_objective(self) -> Objective:
        """Lambda's objective."""
        return Objective(
            loss_tag="multiplier_loss",
            grad_norm_tag="multiplier_grad_norm",
            loss=self.compute_multiplier_loss,
            inputs=("observations",),
            network=self.multiplier,
            optimizer=self.multiplier_optimizer,
        )
