"""Conservative Q-learning, as a student may hand it in: one loss over the parent's."""

import torch

from cs285.agents.dqn_agent import DQNAgent


class CQLAgent(DQNAgent):
    def __init__(
        self,
        observation_shape,
        num_actions,
        make_critic,
        make_optimizer,
        make_lr_schedule,
        discount,
        target_update_period,
        cql_alpha,
        cql_temperature=1.0,
        use_double_q=False,
        clip_grad_norm=None,
    ):
        super().__init__(
            observation_shape,
            num_actions,
            make_critic,
            make_optimizer,
            make_lr_schedule,
            discount,
            target_update_period,
            use_double_q,
            clip_grad_norm,
        )
        self.cql_alpha = cql_alpha
        self.cql_temperature = cql_temperature

    def compute_critic_loss(self, obs, action, reward, next_obs, done):
        loss, metrics, variables = super().compute_critic_loss(obs, action, reward, next_obs, done)
        t = self.cql_temperature
        soft_maximum = t * torch.logsumexp(variables["qa_values"] / t, dim=1)
        loss = loss + self.cql_alpha * (soft_maximum - variables["q_values"]).mean()
        metrics["critic_loss"] = loss.item()
        return loss, metrics, variables
