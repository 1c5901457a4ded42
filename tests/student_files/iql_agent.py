"""Implicit Q-learning, as a student may hand it in: squeezes V itself."""

import torch
from torch import nn

from cs285.agents.awac_agent import AWACAgent


class IQLAgent(AWACAgent):
    def __init__(
        self,
        observation_shape,
        num_actions,
        make_value_critic,
        make_value_critic_optimizer,
        expectile,
        **kwargs,
    ):
        super().__init__(observation_shape=observation_shape, num_actions=num_actions, **kwargs)
        self.value_critic = make_value_critic(observation_shape)
        self.target_value_critic = make_value_critic(observation_shape)
        self.target_value_critic.load_state_dict(self.value_critic.state_dict())
        self.value_critic_optimizer = make_value_critic_optimizer(self.value_critic.parameters())
        self.expectile = expectile

    def compute_advantage(self, observations, actions, action_dist=None):
        q_values = self.critic(observations).gather(1, actions.unsqueeze(1)).squeeze(-1)
        return q_values - self.value_critic(observations).squeeze(-1)

    def update_q(self, observations, actions, rewards, next_observations, dones):
        with torch.no_grad():
            next_values = self.target_value_critic(next_observations).squeeze(-1)
            targets = rewards + self.discount * ~dones * next_values
        q_values = self.critic(observations).gather(1, actions.unsqueeze(1)).squeeze(-1)
        loss = self.critic_loss(q_values, targets)
        self.critic_optimizer.zero_grad()
        loss.backward()
        grad_norm = nn.utils.clip_grad_norm_(
            self.critic.parameters(), self.clip_grad_norm or float("inf")
        )
        self.critic_optimizer.step()
        return {
            "q_loss": loss.item(),
            "q_values": q_values.mean().item(),
            "target_values": targets.mean().item(),
            "q_grad_norm": grad_norm.item(),
        }

    @staticmethod
    def iql_expectile_loss(expectile, vs, target_qs):
        u = target_qs - vs
        return (torch.abs(expectile - (u < 0).float()) * u**2).mean()

    def update_v(self, observations, actions):
        with torch.no_grad():
            q_values = self.critic(observations).gather(1, actions.unsqueeze(1)).squeeze(-1)
        vs = self.value_critic(observations).squeeze(-1)
        loss = self.iql_expectile_loss(self.expectile, vs, q_values)
        self.value_critic_optimizer.zero_grad()
        loss.backward()
        grad_norm = nn.utils.clip_grad_norm_(
            self.value_critic.parameters(), self.clip_grad_norm or float("inf")
        )
        self.value_critic_optimizer.step()
        return {
            "v_loss": loss.item(),
            "vs": vs.mean().item(),
            "vs_adv": (vs - q_values).mean().item(),
            "v_grad_norm": grad_norm.item(),
        }

    def update_critic(self, observations, actions, rewards, next_observations, dones):
        return {
            **self.update_q(observations, actions, rewards, next_observations, dones),
            **self.update_v(observations, actions),
        }

    def update_target_value_critic(self):
        self.target_value_critic.load_state_dict(self.value_critic.state_dict())

    def update(self, observations, actions, rewards, next_observations, dones, step):
        metrics = self.update_critic(observations, actions, rewards, next_observations, dones)
        metrics["actor_loss"] = self.update_actor(observations, actions)
        if step % self.target_update_period == 0:
            self.update_target_critic()
            self.update_target_value_critic()
        return metrics
