"""Random network distillation (Burda 2019, section 2.2): explore where a predictor is still wrong.

    e(s')     = || f(s') - f*(s') ||^2            f* frozen and random, f trained to match it
    bonus     = (e(s') - m) / sigma               m, sigma: mean and deviation of e in the batch
    r_explore = r + rnd_weight * bonus            then DQN on r_explore
    rnd loss  = mean e(s')

Without `use_reward` in the config, exploration is pure: `r` is 0 and no transition is terminal, as
`exploration.py` defines. The error shrinks by orders of magnitude while the predictor learns, and
the statistics of the newest batch follow it at once. Slower averages were tried and covered less of
the four rooms.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from cs285.agents.dqn_agent import DQNAgent
from cs285.agents.student_parents import AnyParent
from cs285.infrastructure import pytorch_util as ptu
from cs285.learning.agent import Agent
from cs285.learning.objective import (
    MakeOptimizer,
    Metrics,
    Objective,
    TrainingStep,
    hyperparameter,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class RNDAgent(DQNAgent, AnyParent):
    """DQN on a novelty bonus.

    Args:
        observation_shape: Shape of one observation.
        num_actions: Number of actions.
        make_rnd_network: `(observation_shape) -> f`, outputs `(batch, features)`.
        make_rnd_network_optimizer: `(parameters) -> optimiser`.
        make_target_rnd_network: `(observation_shape) -> f*`, outputs `(batch, features)`.
        rnd_weight: Factor of the normalised bonus.
        **kwargs: Arguments of `DQNAgent`.
    """

    stackable = True

    rnd_weight: torch.Tensor

    def __init__(
        self,
        observation_shape: tuple[int, ...],
        num_actions: int,
        make_rnd_network: Callable[[tuple[int, ...]], nn.Module],
        make_rnd_network_optimizer: MakeOptimizer,
        make_target_rnd_network: Callable[[tuple[int, ...]], nn.Module],
        rnd_weight: float,
        **kwargs: Any,
    ) -> None:
        super().__init__(observation_shape, num_actions, **kwargs)
        self.register_buffer("rnd_weight", hyperparameter(rnd_weight))
        self.rnd_net = make_rnd_network(observation_shape)
        self.rnd_optimizer = make_rnd_network_optimizer(self.rnd_net.parameters())
        self.rnd_target_net = make_target_rnd_network(observation_shape)
        for parameter in self.rnd_target_net.parameters():
            parameter.requires_grad_(False)  # noqa: FBT003 - PyTorch's positional flag

    # Bonus

    def compute_errors(self, observations: torch.Tensor) -> torch.Tensor:
        """Return the squared prediction error `(batch,)` of observations `(batch, ...)`."""
        differences: torch.Tensor = self.rnd_net(observations) - self.rnd_target_net(observations)
        return differences.square().sum(-1)

    @torch.no_grad()
    def compute_bonus(self, next_observations: torch.Tensor) -> torch.Tensor:
        """Return the normalised error `(batch,)` of the states that were entered."""
        errors = self.compute_errors(next_observations)
        deviation, mean = torch.std_mean(errors, correction=0)
        return (errors - mean) / (deviation + 1e-8)

    def add_bonus(self, rewards: torch.Tensor, next_observations: torch.Tensor) -> torch.Tensor:
        """Return the rewards plus the weighted bonus `(batch,)`."""
        bonus = self.compute_bonus(next_observations)
        assert bonus.shape == rewards.shape
        return rewards + self.rnd_weight * bonus

    # Losses

    def compute_exploration_loss(
        self,
        obs: torch.Tensor,
        action: torch.Tensor,
        reward: torch.Tensor,
        next_obs: torch.Tensor,
        done: torch.Tensor,
    ) -> tuple[torch.Tensor, Metrics, dict[str, torch.Tensor]]:
        """Return DQN's loss on the reward plus the weighted bonus."""
        reward = self.add_bonus(reward, next_obs)
        return self.compute_critic_loss(obs, action, reward, next_obs, done)

    def compute_rnd_loss(self, obs: torch.Tensor) -> tuple[torch.Tensor, Metrics]:
        """Return the mean squared error of the predictor, summed over features."""
        return self.compute_errors(obs).mean(), {}

    # Objectives

    @property
    def objectives(self) -> tuple[TrainingStep, ...]:
        """First the critic on the current bonus, then the predictor."""
        return (self.exploration_objective, self.rnd_objective)

    @property
    def exploration_objective(self) -> TrainingStep:
        """The exploration critic's objective: DQN's, but on the bonus."""
        return self.critic_objective.variant("update_explorer", self.compute_exploration_loss)

    @property
    def rnd_objective(self) -> Objective:
        """The predictor's objective."""
        return Objective(
            method="update_rnd",
            loss_tag="rnd_loss",
            grad_norm_tag="rnd_grad_norm",
            loss=self.compute_rnd_loss,
            inputs=("next_observations",),
            network=self.rnd_net,
            optimizer=self.rnd_optimizer,
            clip_grad_norm=self.clip_grad_norm,
        )

    def update_explorer(
        self,
        obs: torch.Tensor,
        action: torch.Tensor,
        reward: torch.Tensor,
        next_obs: torch.Tensor,
        done: torch.Tensor,
    ) -> dict[str, Any]:
        """Take one gradient step on the critic, on the reward plus the weighted bonus."""
        reward = self.add_bonus(reward, next_obs)
        return self.update_critic(obs, action, reward, next_obs, done)

    def update_rnd(self, obs: torch.Tensor) -> torch.Tensor:
        """Take one gradient step on the predictor and return its loss."""
        return self.rnd_objective.minimise(obs)["rnd_loss"]

    update = Agent.update

    # Pictures

    def num_aux_plots(self) -> int:
        """Return 1, for the map of the prediction error, if observations are points in a plane."""
        return int(list(self.observation_shape) == [2])

    @torch.no_grad()
    def plot_aux(self, axes: list[Axes]) -> None:
        """Draw the prediction error over observations in the unit square on `axes[0]`.

        Row 0 is on top: observation[0] runs down, observation[1] to the right.
        """
        centres = (np.arange(100) + 0.5) / 100
        rows, columns = np.meshgrid(centres, centres, indexing="ij")
        grid = ptu.from_numpy(np.stack([rows.ravel(), columns.ravel()], axis=-1))
        errors = ptu.to_numpy(self.compute_errors(grid)).reshape(rows.shape)
        assert np.isfinite(errors).all(), "the prediction error is not finite"
        image = axes[0].imshow(errors, norm="log", extent=(0.0, 1.0, 1.0, 0.0), origin="upper")
        axes[0].set_title("RND prediction error")
        axes[0].figure.colorbar(image, ax=axes[0], fraction=0.046, pad=0.04)
