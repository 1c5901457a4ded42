"""Random network distillation with two critics, as the homework's handout describes it.

    exploration critic     DQN on the bonus of `RNDAgent`, blind to the task
    exploitation critic    DQN on the environment's reward, from the same batches

The exploration critic collects the data. The exploitation critic learns from them off-policy; it
acts in evaluation, and in the phase `exploitation` it also collects the data. The fields of a batch
are those of the exploration critic, without rewards and terminations unless it uses them;
`task_rewards` and `task_dones` are the true ones. Unlike in plain RND, the end of an episode is not
an absorbing state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from cs285.agents.acting import epsilon_greedy
from cs285.agents.dqn_agent import DQNAgent
from cs285.agents.exploration import NO_REWARDS, NO_TERMINATIONS
from cs285.agents.rnd_agent import RNDAgent
from cs285.learning.agent import Agent
from cs285.learning.columns import Column
from cs285.learning.objective import (
    Batch,
    HardCopy,
    Metrics,
    TargetRule,
    TrainingStep,
    hyperparameter,
)

TASK = ("observations", "actions", "task_rewards", "next_observations", "task_dones")
"""The columns that the exploitation critic learns from."""


class TwoCriticRNDAgent(RNDAgent):
    """RND with a second critic that learns the task.

    `action_values` are those of the exploration critic. What the agent knows of the task are the
    `action_values` of its `exploiter`.

    Args:
        *args: Arguments of `RNDAgent`.
        exploiter: Learns the task; its critic is the exploitation critic.
        use_reward: Whether the exploration critic also sees rewards and terminations.
        **kwargs: Arguments of `RNDAgent`.
    """

    stackable = True

    further_columns = TASK
    """Columns that `update` reads even if the objectives do not name them."""
    exploits: torch.Tensor
    """0 while the exploration critic collects data, then 1."""

    def __init__(
        self, *args: Any, exploiter: DQNAgent, use_reward: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.exploiter = exploiter
        self.use_reward = use_reward
        self.register_buffer("exploits", hyperparameter(0))

    # Phases and columns

    def begin_phase(self, name: str) -> None:
        """Let the exploitation critic act from the phase `exploitation` on."""
        self.exploits.fill_(name == "exploitation")

    def derived_columns(self) -> tuple[Column, ...]:
        """Return the columns that hide the task from the exploration critic, and the true ones."""
        hidden = () if self.use_reward else (NO_REWARDS, NO_TERMINATIONS)
        return (
            *hidden,
            Column("task_rewards", lambda transitions: transitions.rewards, reach=0),
            Column("task_dones", lambda transitions: transitions.dones, reach=0),
        )

    # Acting

    def action_probabilities(
        self, observations: torch.Tensor, epsilon: torch.Tensor
    ) -> torch.Tensor:
        """Return pi(. | s) `(batch, num_actions)`; in evaluation, at `epsilon` 0, the task's."""
        return torch.where(
            torch.where(epsilon > 0, self.exploits, 1.0) > 0,
            epsilon_greedy(self.exploiter.critic(observations), epsilon),
            epsilon_greedy(self.critic(observations), epsilon),
        )

    def get_action(self, observation: np.ndarray, epsilon: float = 0.0) -> int:
        """Choose an action for one observation, by the critic that currently acts."""
        if epsilon == 0 or self.exploits > 0:
            return self.exploiter.get_action(observation, epsilon)
        return super().get_action(observation, epsilon)

    # Losses

    def compute_exploitation_loss(
        self, *batch: torch.Tensor
    ) -> tuple[torch.Tensor, Metrics, dict[str, torch.Tensor]]:
        """Return DQN's loss on the environment's reward."""
        loss, metrics, variables = self.exploiter.compute_critic_loss(*batch)
        return loss, _prefixed(metrics), variables

    # Objectives

    @property
    def objectives(self) -> tuple[TrainingStep, ...]:
        """First the exploration critic, then the predictor, then the exploitation critic."""
        if RNDAgent.update is not Agent.update:
            return super().objectives  # a student's, whose `update` may walk through these
        return (*super().objectives, self.exploitation_objective)

    @property
    def exploitation_objective(self) -> TrainingStep:
        """The exploitation critic's objective."""
        method, loss_tag = "update_exploiter", "exploitation_critic_loss"
        if not isinstance(self.exploiter, Agent):  # a student's
            return TrainingStep(method=method, loss_tag=loss_tag, inputs=TASK)
        return replace(
            self.exploiter.critic_objective,
            method=method,
            loss_tag=loss_tag,
            inputs=TASK,
            grad_norm_tag="exploitation_grad_norm",
            loss=self.compute_exploitation_loss,
        )

    @property
    def target_rules(self) -> tuple[TargetRule, ...]:
        """Both critics are copied to their target networks."""
        names, period = ("exploiter.critic", "exploiter.target_critic"), self.target_update_period
        return (*super().target_rules, HardCopy(*names, period, method="update_target_exploiter"))

    def update_exploiter(
        self,
        obs: torch.Tensor,
        action: torch.Tensor,
        reward: torch.Tensor,
        next_obs: torch.Tensor,
        done: torch.Tensor,
    ) -> dict[str, Any]:
        """Take one gradient step on the exploitation critic."""
        return _prefixed(self.exploiter.update_critic(obs, action, reward, next_obs, done))

    def update_target_exploiter(self) -> None:
        """Copy the exploitation critic to its target."""
        self.exploiter.update_target_critic()

    def learn_from(self, batch: Mapping[str, torch.Tensor], step: int) -> dict[str, Any]:
        """Take one step on a batch: exploration critic, predictor, exploitation critic."""
        if RNDAgent.update is Agent.update:
            return super().learn_from(batch, step)
        # A student's `RNDAgent` has its own `update`, which trains the exploration part.
        observations, actions, rewards, next_observations, dones = (
            batch[name] for name in Batch._fields
        )
        metrics = super().update(observations, actions, rewards, next_observations, dones, step)
        task = (batch["task_rewards"], next_observations, batch["task_dones"])
        return metrics | _prefixed(self.exploiter.update(observations, actions, *task, step))


def _prefixed(metrics: dict[str, Any]) -> dict[str, Any]:
    return {f"exploitation_{tag}": value for tag, value in metrics.items()}
