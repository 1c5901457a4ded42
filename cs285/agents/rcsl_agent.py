"""Return-conditioned supervised learning (Emmons 2022; Kumar 2019, "Reward-conditioned policies").

    R(s, a)    = sum of the rewards from this step to the end of the episode
    actor loss = -mean log pi(a | s, R(s, a))

It acts with a target in place of R: the first one is `target_return`, and each reward received is
subtracted from it, so that the target is always the return still to come. The policy depends on
the rewards so far and so is not Markov in the observation; see `learning/contexts.py`.

It imitates what the data did where they had the target's return ahead. It cannot join parts of
different episodes, and a target that no data had is extrapolation. Where a time limit cut an
episode, R is small in absolute value because little time was left, not because the goal was near.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from cs285.agents.acting import sample_action
from cs285.agents.imitation import ImitationAgent, imitation_loss
from cs285.learning.arrays import fill
from cs285.learning.columns import FINISHED, RETURNS_TO_GO, Array, Column, Transitions
from cs285.learning.objective import Metrics


class RCSLAgent(ImitationAgent):
    """An actor whose last input is the return that it should get.

    Args:
        observation_shape: Shape of one observation, flat.
        num_actions: Number of actions.
        target_return: The return of an episode to ask for.
        **kwargs: Arguments of `ImitationAgent`; `make_actor` gets the shape of an observation with
            the return as a further coordinate.
    """

    stackable = True

    actor_inputs = ("conditioned_observations", "actions")

    def __init__(
        self,
        observation_shape: tuple[int, ...],
        num_actions: int,
        *,
        target_return: float,
        **kwargs: Any,
    ) -> None:
        (size,) = observation_shape
        super().__init__((size + 1,), num_actions, **kwargs)
        self.target_return = target_return

    def derived_columns(self) -> tuple[Column, ...]:
        """Return the column of (s, R), and that of the episodes in which R is known."""
        conditioned = Column("conditioned_observations", _with_returns, needs_ends=True)
        return (conditioned, FINISHED)

    # Acting

    def make_context(self, episodes: int) -> RemainingReturn:
        """Return the targets of so many episodes; see `Agent.make_context`."""
        return RemainingReturn(self.target_return, episodes)

    def action_probabilities(
        self, observations: torch.Tensor, epsilon: torch.Tensor
    ) -> torch.Tensor:
        """Return pi(. | s, R) `(batch, num_actions)`; see `ImitationAgent`.

        Args:
            observations: With the target as a further coordinate `(batch, size + 1)`.
            epsilon: At 0 the mode.
        """
        return super().action_probabilities(observations, epsilon)

    def get_action(self, observation: np.ndarray, epsilon: float = 0.0) -> int:
        """Choose an action for one observation with a target; without, at the start of an episode.

        Args:
            observation: `(size + 1,)`, or `(size,)` for the first step.
            epsilon: At 0 the most probable action; otherwise a sample.
        """
        if len(observation) + 1 == self.observation_shape[0]:
            observation = np.append(observation, self.target_return)
        return sample_action(self, observation, epsilon)

    # Losses

    def compute_actor_loss(
        self, observations: torch.Tensor, actions: torch.Tensor
    ) -> tuple[torch.Tensor, Metrics]:
        """Return the imitation loss at observations with returns; nothing else to log."""
        return imitation_loss(self.actor, observations, actions), {}


def _with_returns(transitions: Transitions) -> Array:
    """Return observations with the return that follows as a further coordinate `(N, size + 1)`."""
    returns = RETURNS_TO_GO.compute(transitions)
    return np.concatenate([transitions.observations, returns[:, None]], axis=1)


class RemainingReturn:
    """The return still to come in each of n episodes, if the target is met; a `Context`."""

    follows_rewards_alone = True

    def __init__(self, target_return: float, episodes: int) -> None:
        self.target_return = target_return
        self.remaining = np.full(episodes, target_return)
        """`(n,)`."""

    def inputs(self, observations: Array) -> Array:
        """Return observations `(n, size)` with the target as a further coordinate."""
        return np.concatenate([observations, self.remaining[:, None]], axis=1, dtype=np.float32)

    def record(self, observations: Array, actions: Array, rewards: Array, ended: Array) -> None:
        """Subtract rewards `(n,)` from the targets; where `ended`, begin anew."""
        del observations, actions
        self.remaining = np.where(ended, self.target_return, self.remaining - rewards)

    def get_state(self) -> dict[str, Any]:
        """Return the targets."""
        return {"remaining": self.remaining}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore the targets."""
        fill(self.remaining, state["remaining"])
