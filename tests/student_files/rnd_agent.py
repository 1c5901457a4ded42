"""Random network distillation, as a student may hand it in: bonus normalised per batch."""

import numpy as np
import torch
from torch import nn

import cs285.infrastructure.pytorch_util as ptu
from cs285.agents.dqn_agent import DQNAgent


def init_target(module):
    if isinstance(module, nn.Linear):
        module.weight.data.normal_()
        module.bias.data.normal_()


class RNDAgent(DQNAgent):
    def __init__(
        self,
        observation_shape,
        num_actions,
        make_rnd_network,
        make_rnd_network_optimizer,
        make_target_rnd_network,
        rnd_weight,
        **kwargs,
    ):
        super().__init__(observation_shape=observation_shape, num_actions=num_actions, **kwargs)
        self.rnd_weight = rnd_weight
        self.rnd_net = make_rnd_network(observation_shape)
        self.rnd_target_net = make_target_rnd_network(observation_shape)
        self.rnd_target_net.apply(init_target)
        for parameter in self.rnd_target_net.parameters():
            parameter.requires_grad_(False)
        self.rnd_optimizer = make_rnd_network_optimizer(self.rnd_net.parameters())

    def errors(self, obs):
        return (self.rnd_net(obs) - self.rnd_target_net(obs)).norm(dim=-1)

    def update_rnd(self, obs):
        loss = self.errors(obs).square().mean()
        self.rnd_optimizer.zero_grad()
        loss.backward()
        self.rnd_optimizer.step()
        return loss.item()

    def update(self, observations, actions, rewards, next_observations, dones, step):
        with torch.no_grad():
            bonus = self.errors(next_observations)
            bonus = (bonus - bonus.mean()) / (bonus.std() + 1e-6)
            assert bonus.shape == rewards.shape
            rewards = rewards + self.rnd_weight * bonus
        metrics = super().update(observations, actions, rewards, next_observations, dones, step)
        metrics["rnd_loss"] = self.update_rnd(observations)
        return metrics

    def num_aux_plots(self):
        return 1

    def plot_aux(self, axes):
        import matplotlib.pyplot as plt

        (ax,) = axes
        x, y = np.meshgrid(np.linspace(0, 1, 20), np.linspace(0, 1, 20))
        with torch.no_grad():
            grid = ptu.from_numpy(np.stack([x.ravel(), y.ravel()], axis=1))
            errors = ptu.to_numpy(self.errors(grid)).reshape(x.shape)
        ax.imshow(errors.T, extent=(0, 1, 0, 1), origin="lower", cmap="hot")
        plt.colorbar(ax.images[0], ax=ax)
