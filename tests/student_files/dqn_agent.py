"""Deep Q-learning, as a student may hand it in: everything in `update`, metrics as floats."""

import numpy as np
import torch
from torch import nn

import cs285.infrastructure.pytorch_util as ptu


class DQNAgent(nn.Module):
    def __init__(
        self,
        observation_shape,
        num_actions,
        make_critic,
        make_optimizer,
        make_lr_schedule,
        discount,
        target_update_period,
        use_double_q=False,
        clip_grad_norm=None,
    ):
        super().__init__()
        self.critic = make_critic(observation_shape, num_actions)
        self.target_critic = make_critic(observation_shape, num_actions)
        self.critic_optimizer = make_optimizer(self.critic.parameters())
        self.lr_scheduler = make_lr_schedule(self.critic_optimizer)
        self.observation_shape = observation_shape
        self.num_actions = num_actions
        self.discount = discount
        self.target_update_period = target_update_period
        self.use_double_q = use_double_q
        self.clip_grad_norm = clip_grad_norm
        self.critic_loss = nn.MSELoss()
        self.update_target_critic()

    def get_action(self, observation, epsilon=0.0):
        if np.random.random() < epsilon:  # noqa: NPY002 - what students write
            return int(torch.randint(self.num_actions, (1,)).item())
        values = self.critic(ptu.from_numpy(np.asarray(observation))[None])
        return ptu.to_numpy(values.argmax(dim=1)).squeeze(0).item()

    def compute_critic_loss(self, obs, action, reward, next_obs, done):
        (batch_size,) = reward.shape
        with torch.no_grad():
            next_qa_values = self.target_critic(next_obs)
            if self.use_double_q:
                next_action = self.critic(next_obs).argmax(dim=1)
            else:
                next_action = next_qa_values.argmax(dim=1)
            next_q_values = next_qa_values.gather(1, next_action.unsqueeze(1)).squeeze(1)
            target_values = reward + self.discount * ~done * next_q_values
            assert target_values.shape == (batch_size,)
        qa_values = self.critic(obs)
        q_values = qa_values.gather(1, action.unsqueeze(1)).squeeze(1)
        loss = self.critic_loss(q_values, target_values)
        return (
            loss,
            {
                "critic_loss": loss.item(),
                "q_values": q_values.mean().item(),
                "target_values": target_values.mean().item(),
            },
            {"qa_values": qa_values, "q_values": q_values},
        )

    def update_critic(self, obs, action, reward, next_obs, done):
        loss, metrics, _ = self.compute_critic_loss(obs, action, reward, next_obs, done)
        self.critic_optimizer.zero_grad()
        loss.backward()
        grad_norm = nn.utils.clip_grad_norm_(
            self.critic.parameters(), self.clip_grad_norm or float("inf")
        )
        metrics["grad_norm"] = grad_norm.item()
        self.critic_optimizer.step()
        self.lr_scheduler.step()
        return metrics

    def update_target_critic(self):
        self.target_critic.load_state_dict(self.critic.state_dict())

    def update(self, observations, actions, rewards, next_observations, dones, step):
        metrics = self.update_critic(observations, actions, rewards, next_observations, dones)
        if step % self.target_update_period == 0:
            self.update_target_critic()
        return metrics
