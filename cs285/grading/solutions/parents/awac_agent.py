"""Advantage weighted actor-critic: the parent of IQL."""

from __future__ import annotations

import inspect
from typing import Any

import torch

from cs285.agents.dqn_agent import DQNAgent


class AWACAgent(DQNAgent):
    """A critic of the actor's policy, and an actor weighted by exp(A / temperature)."""

    def __init__(
        self,
        observation_shape: tuple[int, ...],
        num_actions: int,
        make_actor: Any,
        make_actor_optimizer: Any,
        temperature: float,
        **kwargs: Any,
    ) -> None:
        super().__init__(observation_shape=observation_shape, num_actions=num_actions, **kwargs)
        self.actor = make_actor(observation_shape, num_actions)
        self.actor_optimizer = make_actor_optimizer(self.actor.parameters())
        self.temperature = temperature

    def compute_critic_loss(
        self,
        obs: torch.Tensor,
        action: torch.Tensor,
        reward: torch.Tensor,
        next_obs: torch.Tensor,
        done: torch.Tensor,
    ) -> tuple[Any, dict[str, Any], dict[str, torch.Tensor]]:
        """Return the squared temporal-difference error under the actor, and the rest as in DQN."""
        with torch.no_grad():
            next_probabilities = self.actor(next_obs).probs
            next_qs = (next_probabilities * self.target_critic(next_obs)).sum(dim=-1)
            target_values = reward + self.discount * (1.0 - done.float()) * next_qs
        qa_values = self.critic(obs)
        q_values = qa_values.gather(-1, action.unsqueeze(-1)).squeeze(-1)
        loss = self.critic_loss(q_values, target_values)
        metrics = {
            "critic_loss": loss.item(),
            "q_values": q_values.mean().item(),
            "target_values": target_values.mean().item(),
        }
        return loss, metrics, {"qa_values": qa_values, "q_values": q_values}

    def compute_advantage(
        self, observations: torch.Tensor, actions: torch.Tensor, action_dist: Any = None
    ) -> torch.Tensor:
        """Return Q(s, a) minus its expectation under the actor, `(batch,)`."""
        action_dist = self.actor(observations) if action_dist is None else action_dist
        qa_values = self.critic(observations)
        q_values = qa_values.gather(-1, actions.unsqueeze(-1)).squeeze(-1)
        advantages: torch.Tensor = q_values - (action_dist.probs * qa_values).sum(dim=-1)
        return advantages

    def update_actor(self, observations: torch.Tensor, actions: torch.Tensor) -> Any:
        """Take one gradient step on the actor."""
        action_dist = self.actor(observations)
        # A child's method may lack the last argument, or rely on getting it.
        takes = inspect.signature(self.compute_advantage).parameters
        extra = (action_dist,) if "action_dist" in takes else ()
        with torch.no_grad():
            advantages = self.compute_advantage(observations, actions, *extra)
            weights = torch.exp(advantages / self.temperature)
        log_probabilities = action_dist.log_prob(actions)
        loss = -(log_probabilities * weights).mean()
        self.actor_optimizer.zero_grad()
        loss.backward()
        self.actor_optimizer.step()
        return loss.item()

    def update(
        self,
        observations: torch.Tensor,
        actions: torch.Tensor,
        rewards: torch.Tensor,
        next_observations: torch.Tensor,
        dones: torch.Tensor,
        step: int,
    ) -> dict[str, Any]:
        """Train the critic and the actor, and copy the critic once a period."""
        metrics = self.update_critic(observations, actions, rewards, next_observations, dones)
        metrics["actor_loss"] = self.update_actor(observations, actions)
        if step % self.target_update_period == 0:
            self.update_target_critic()
        return metrics
