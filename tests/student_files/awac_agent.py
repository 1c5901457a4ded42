"""Advantage weighted actor-critic, as a student may hand it in."""

import torch

import cs285.infrastructure.pytorch_util as ptu
from cs285.agents.dqn_agent import DQNAgent


class AWACAgent(DQNAgent):
    def __init__(
        self,
        observation_shape,
        num_actions,
        make_actor,
        make_actor_optimizer,
        temperature,
        **kwargs,
    ):
        super().__init__(observation_shape=observation_shape, num_actions=num_actions, **kwargs)
        self.actor = make_actor(observation_shape, num_actions)
        self.actor_optimizer = make_actor_optimizer(self.actor.parameters())
        self.temperature = temperature

    def get_action(self, observation, epsilon=0.0):
        distribution = self.actor(ptu.from_numpy(observation)[None])
        action = distribution.sample() if epsilon > 0 else distribution.probs.argmax(dim=-1)
        return action.item()

    def compute_critic_loss(self, observations, actions, rewards, next_observations, dones):
        with torch.no_grad():
            distribution = self.actor(next_observations)
            next_values = (distribution.probs * self.target_critic(next_observations)).sum(dim=-1)
            targets = rewards + self.discount * (1 - dones.float()) * next_values
        qa_values = self.critic(observations)
        q_values = qa_values.gather(1, actions[:, None]).squeeze(1)
        assert q_values.shape == targets.shape
        loss = self.critic_loss(q_values, targets)
        metrics = {
            "critic_loss": loss.item(),
            "q_values": q_values.mean().item(),
            "target_values": targets.mean().item(),
        }
        return loss, metrics, {"qa_values": qa_values, "q_values": q_values}

    def compute_advantage(self, observations, actions, action_dist=None):
        action_dist = action_dist or self.actor(observations)
        qa_values = self.critic(observations)
        q_values = qa_values.gather(1, actions[:, None]).squeeze(1)
        return q_values - (action_dist.probs * qa_values).sum(dim=-1)

    def update_actor(self, observations, actions):
        distribution = self.actor(observations)
        with torch.no_grad():
            advantages = self.compute_advantage(observations, actions)
            weights = torch.exp(advantages / self.temperature)
        loss = -(distribution.log_prob(actions) * weights).mean()
        self.actor_optimizer.zero_grad()
        loss.backward()
        self.actor_optimizer.step()
        return loss.item()

    def update(self, observations, actions, rewards, next_observations, dones, step):
        metrics = self.update_critic(observations, actions, rewards, next_observations, dones)
        metrics["actor_loss"] = self.update_actor(observations, actions)
        if step % self.target_update_period == 0:
            self.update_target_critic()
        return metrics
