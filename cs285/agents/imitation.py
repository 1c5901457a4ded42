"""What agents that imitate actions of the data share: an actor, and how it acts and is trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from cs285.agents.acting import greedy, private_generator, sample_action
from cs285.learning.agent import Agent
from cs285.learning.objective import MakeOptimizer, Metrics, Objective, TrainingStep
from cs285.networks.mlp_policy import MLPPolicy

MAX_WEIGHT = 100.0
"""Cap on exp(A / temperature), as for AWAC: it keeps single transitions from overflowing the loss
while advantages are still noise."""

MakeActor = Callable[[tuple[int, ...], int], MLPPolicy]


class ImitationAgent(Agent):
    """An actor, and nothing else that acts; subclasses define `compute_actor_loss`.

    It samples its actions while exploring, and takes the most probable one at `epsilon` 0.

    Args:
        observation_shape: Shape of one observation.
        num_actions: Number of actions.
        make_actor: `(observation_shape, num_actions) -> policy`.
        make_actor_optimizer: `(parameters) -> optimiser`.
        clip_grad_norm: Maximum norm of each gradient, or None.
    """

    stackable = True

    actor_inputs: tuple[str, ...] = ("observations", "actions")
    """Columns of a batch that `compute_actor_loss` takes, in order."""

    def __init__(
        self,
        observation_shape: tuple[int, ...],
        num_actions: int,
        make_actor: MakeActor,
        make_actor_optimizer: MakeOptimizer,
        clip_grad_norm: float | None = None,
    ) -> None:
        super().__init__()
        self.observation_shape = observation_shape
        self.num_actions = num_actions
        self.clip_grad_norm = clip_grad_norm
        self.generator = private_generator()
        self.actor = make_actor(observation_shape, num_actions)
        self.actor_optimizer = make_actor_optimizer(self.actor.parameters())

    # Acting

    def action_probabilities(
        self, observations: torch.Tensor, epsilon: torch.Tensor
    ) -> torch.Tensor:
        """Return pi(. | s) `(batch, num_actions)` while exploring, and its mode at `epsilon` 0."""
        return sampled_or_mode(self.actor(observations).probs, epsilon)

    def get_action(self, observation: np.ndarray, epsilon: float = 0.0) -> int:
        """Choose an action for one observation: the actor's mode, or a sample if exploring."""
        return sample_action(self, observation, epsilon)

    # Losses

    def compute_actor_loss(self, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, Metrics]:
        """Return the actor's loss on the columns `actor_inputs`, and what to log."""
        raise NotImplementedError

    # Objectives

    @property
    def objectives(self) -> tuple[TrainingStep, ...]:
        """The actor's loss."""
        return (self.actor_objective,)

    @property
    def actor_objective(self) -> Objective:
        """The actor's objective."""
        return Objective(
            loss_tag="actor_loss",
            grad_norm_tag="actor_grad_norm",
            loss=self.compute_actor_loss,
            inputs=self.actor_inputs,
            network=self.actor,
            optimizer=self.actor_optimizer,
            clip_grad_norm=self.clip_grad_norm,
        )


def sampled_or_mode(probabilities: torch.Tensor, epsilon: torch.Tensor) -> torch.Tensor:
    """Return probabilities `(batch, num_actions)` unchanged, or their mode at `epsilon` 0."""
    return torch.where(epsilon > 0, probabilities, greedy(probabilities))


def imitation_loss(
    policy: MLPPolicy,
    observations: torch.Tensor,
    actions: torch.Tensor,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return `-mean( w log pi(a|s) )`, with weights `(batch,)` or without."""
    log_probabilities: torch.Tensor = policy(observations).log_prob(actions)
    assert log_probabilities.shape == actions.shape
    if weights is None:
        return -log_probabilities.mean()
    assert weights.shape == actions.shape
    return -(weights * log_probabilities).mean()


def advantage_weights(advantages: torch.Tensor, temperature: torch.Tensor) -> torch.Tensor:
    """Return `min(exp(A / temperature), MAX_WEIGHT)` `(batch,)`."""
    return torch.exp(advantages / temperature).clamp(max=MAX_WEIGHT)
