"""One-step improvement with SARSA (Brandfonbrener 2021; Rummery and Niranjan 1994 for SARSA).

    y           = r + discount (1 - d) Qt(s', a')             with a' the data's next action
    critic loss = mean (Q(s, a) - y)^2
    A(s, a)     = Q(s, a) - sum_a' pi(a'|s) Q(s, a')          (no gradient)
    actor loss  = -mean( log pi(a|s) min(exp(A(s, a) / temperature), MAX_WEIGHT) )

Q is the value of the policy that collected the data; no action outside the data is ever evaluated
in a target, and the policy improves on that value once. The notes (10.1) ascribe this critic to
AWAC, whose own target is the expectation under its actor, and print the weight of the actor with
temporal differences as `E(A / alpha)` in place of `exp(A / alpha)`.

Where a time limit or the end of the data cut an episode, the next action is not known, so batches
leave those transitions out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from cs285.agents.actor_critic import ActorCriticAgent, taken
from cs285.agents.imitation import advantage_weights, imitation_loss
from cs285.learning.columns import DRAWN, Column, Transitions
from cs285.learning.objective import Batch, Metrics, hyperparameter


class SARSAAgent(ActorCriticAgent):
    """The critic of the data's policy, and weighted imitation on its advantages.

    Args:
        *args: Arguments of `ActorCriticAgent`.
        temperature: Positive: small is greedy, large clones the data.
        **kwargs: Arguments of `ActorCriticAgent`.
    """

    stackable = True

    temperature: torch.Tensor

    critic_inputs = (*Batch._fields, "next_actions")

    def __init__(self, *args: Any, temperature: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.register_buffer("temperature", hyperparameter(temperature))

    def derived_columns(self) -> tuple[Column, ...]:
        """Return the column that says where the target is known."""
        return (Column(DRAWN, _has_target),)

    # Losses

    def compute_critic_loss(
        self,
        observations: torch.Tensor,
        actions: torch.Tensor,
        rewards: torch.Tensor,
        next_observations: torch.Tensor,
        dones: torch.Tensor,
        next_actions: torch.Tensor,
    ) -> tuple[torch.Tensor, Metrics]:
        """Return the temporal-difference loss under the data's policy, and what to log."""
        with torch.no_grad():
            next_values = taken(self.target_critic(next_observations), next_actions)
            target_values = rewards + self.discount * (~dones) * next_values
        return self.squared_error(observations, actions, target_values)

    def compute_actor_loss(
        self, observations: torch.Tensor, actions: torch.Tensor
    ) -> tuple[torch.Tensor, Metrics]:
        """Return the weighted imitation loss, and what to log."""
        with torch.no_grad():
            qa_values = self.critic(observations)
            values = (self.actor(observations).probs * qa_values).sum(-1)
            advantages = taken(qa_values, actions) - values
        weights = advantage_weights(advantages, self.temperature)
        loss = imitation_loss(self.actor, observations, actions, weights)
        return loss, {"actor_weight": weights.mean()}


def _has_target(transitions: Transitions) -> npt.NDArray[np.bool_]:
    """Return which transitions terminate or are followed by another of their episode `(N,)`."""
    followed = ~transitions.ends
    followed[-1:] = False
    known: npt.NDArray[np.bool_] = followed | transitions.dones
    return known
