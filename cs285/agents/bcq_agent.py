"""Discrete batch-constrained Q-learning (Fujimoto 2019, "Benchmarking Batch Deep RL").

    pb         = actor, which imitates the data: actor loss = -mean log pb(a|s)
    allowed(s) = {a : pb(a|s) >= threshold max_a' pb(a'|s)}
    y          = r + discount (1 - d) Qt(s', a*)
    a*         = argmax of Q(s', .) over allowed(s')  if double, else  argmax of Qt(s', .)
    loss       = mean (Q(s, a) - y)^2

This is DQN whose maximum, in targets and when acting, is over actions that the data take. The notes
(9.1, "absolute continuity") ask for `pb(a|s) >= epsilon`; relative to the largest, the bound always
leaves an action, however many there are. At threshold 0 this is DQN, at 1 it is `bc`.
"""

from __future__ import annotations

from typing import Any

import torch

from cs285.agents.acting import epsilon_greedy
from cs285.agents.actor_critic import ActorCriticAgent, taken
from cs285.agents.imitation import imitation_loss
from cs285.learning.objective import Metrics, hyperparameter

EXCLUDED = -1e30
"""Value of an action that is not allowed; a finite one, so that sums with it stay numbers."""


class BCQAgent(ActorCriticAgent):
    """Q-learning among the actions that an imitation of the data finds likely.

    Args:
        *args: Arguments of `ActorCriticAgent`.
        threshold: Smallest probability of an allowed action relative to the largest, in [0, 1].
        use_double_q: Whether the online critic chooses the next action.
        **kwargs: Arguments of `ActorCriticAgent`.
    """

    stackable = True

    threshold: torch.Tensor

    def __init__(
        self, *args: Any, threshold: float, use_double_q: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.use_double_q = use_double_q
        self.register_buffer("threshold", hyperparameter(threshold))

    # Acting

    def action_probabilities(
        self, observations: torch.Tensor, epsilon: torch.Tensor
    ) -> torch.Tensor:
        """Return pi(. | s) `(batch, num_actions)`: epsilon-greedy among the allowed actions."""
        return epsilon_greedy(self.among_allowed(self.critic(observations), observations), epsilon)

    def among_allowed(
        self, action_values: torch.Tensor, observations: torch.Tensor
    ) -> torch.Tensor:
        """Return values `(batch, num_actions)` with `EXCLUDED` for actions that are not allowed."""
        probabilities = self.actor(observations).probs
        largest = probabilities.amax(-1, keepdim=True)
        return torch.where(probabilities >= self.threshold * largest, action_values, EXCLUDED)

    # Losses

    def compute_critic_loss(
        self,
        observations: torch.Tensor,
        actions: torch.Tensor,
        rewards: torch.Tensor,
        next_observations: torch.Tensor,
        dones: torch.Tensor,
    ) -> tuple[torch.Tensor, Metrics]:
        """Return the temporal-difference loss over allowed actions, and what to log."""
        with torch.no_grad():
            next_qa_values = self.target_critic(next_observations)
            chooser = self.critic(next_observations) if self.use_double_q else next_qa_values
            next_actions = self.among_allowed(chooser, next_observations).argmax(-1)
            next_values = taken(next_qa_values, next_actions)
            target_values = rewards + self.discount * (~dones) * next_values
        return self.squared_error(observations, actions, target_values)

    def compute_actor_loss(
        self, observations: torch.Tensor, actions: torch.Tensor
    ) -> tuple[torch.Tensor, Metrics]:
        """Return the imitation loss of pb; nothing else to log."""
        return imitation_loss(self.actor, observations, actions), {}
