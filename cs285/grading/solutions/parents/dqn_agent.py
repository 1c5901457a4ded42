"""Deep Q-learning with double-Q targets: the parent of every other agent."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn


class DQNAgent(nn.Module):
    """Q-learning with a target network, as the assignment describes it."""

    def __init__(
        self,
        observation_shape: tuple[int, ...],
        num_actions: int,
        make_critic: Any,
        make_optimizer: Any,
        make_lr_schedule: Any,
        discount: float,
        target_update_period: int,
        use_double_q: bool = False,  # noqa: FBT001, FBT002 - the assignment's signature
        clip_grad_norm: float | None = None,
    ) -> None:
        super().__init__()
        self.critic = make_critic(observation_shape, num_actions)
        self.target_critic = make_critic(observation_shape, num_actions)
        self.critic_optimizer = make_optimizer(self.critic.parameters())
        self.lr_scheduler = make_lr_schedule(self.critic_optimizer)
        self.observation_shape = observation_shape
        self.num_actions = num_actions
        self.discount = discount
        self.target_update_period = target_update_period
        self.clip_grad_norm = clip_grad_norm
        self.use_double_q = use_double_q
        self.critic_loss = nn.MSELoss()
        self.update_target_critic()

    def get_action(self, observation: np.ndarray, epsilon: float = 0.02) -> int:
        """Act epsilon-greedily on the critic's values."""
        if np.random.random() < epsilon:  # noqa: NPY002 - the generator that students use
            return int(np.random.randint(self.num_actions))  # noqa: NPY002
        values = self.critic(torch.as_tensor(observation, dtype=torch.float32)[None])
        return int(values.argmax(dim=-1).item())

    def compute_critic_loss(
        self,
        obs: torch.Tensor,
        action: torch.Tensor,
        reward: torch.Tensor,
        next_obs: torch.Tensor,
        done: torch.Tensor,
    ) -> tuple[Any, dict[str, Any], dict[str, torch.Tensor]]:
        """Return the squared temporal-difference error, metrics and the critic's values."""
        with torch.no_grad():
            next_qa_values = self.target_critic(next_obs)
            chooser = self.critic(next_obs) if self.use_double_q else next_qa_values
            next_action = chooser.argmax(dim=-1)
            next_q_values = next_qa_values.gather(-1, next_action.unsqueeze(-1)).squeeze(-1)
            target_values = reward + self.discount * (1.0 - done.float()) * next_q_values
        qa_values = self.critic(obs)
        q_values = qa_values.gather(-1, action.unsqueeze(-1)).squeeze(-1)
        loss = self.critic_loss(q_values, target_values)
        metrics = {
            "critic_loss": loss.item(),
            "q_values": q_values.mean().item(),
            "target_values": target_values.mean().item(),
        }
        return loss, metrics, {"qa_values": qa_values, "q_values": q_values}

    def update_critic(
        self,
        obs: torch.Tensor,
        action: torch.Tensor,
        reward: torch.Tensor,
        next_obs: torch.Tensor,
        done: torch.Tensor,
    ) -> dict[str, Any]:
        """Take one gradient step on the critic."""
        loss, metrics, _ = self.compute_critic_loss(obs, action, reward, next_obs, done)
        self.critic_optimizer.zero_grad()
        loss.backward()
        grad_norm = nn.utils.clip_grad_norm_(
            self.critic.parameters(), self.clip_grad_norm or float("inf")
        )
        self.critic_optimizer.step()
        self.lr_scheduler.step()
        return {**metrics, "grad_norm": grad_norm.item()}

    def update_target_critic(self) -> None:
        """Copy the critic to the target critic."""
        self.target_critic.load_state_dict(self.critic.state_dict())

    def update(
        self,
        observations: torch.Tensor,
        actions: torch.Tensor,
        rewards: torch.Tensor,
        next_observations: torch.Tensor,
        dones: torch.Tensor,
        step: int,
    ) -> dict[str, Any]:
        """Train the critic, and copy it once a period."""
        metrics = self.update_critic(observations, actions, rewards, next_observations, dones)
        if step % self.target_update_period == 0:
            self.update_target_critic()
        return metrics
