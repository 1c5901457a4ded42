"""Random exploration: every action is equally likely, whatever the observation.

    pi(a|s) = 1 / |A|

The agent learns nothing; its data is what the other exploration is compared with.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from cs285.agents.acting import private_generator, sample_action
from cs285.infrastructure.objective import Objective


class RandomAgent(nn.Module):
    """Uniform over `num_actions` actions, from its own generator."""

    stackable = True

    def __init__(self, observation_shape: tuple[int, ...], num_actions: int) -> None:
        super().__init__()
        self.observation_shape = observation_shape
        self.num_actions = num_actions
        self.target_update_period = 1
        self.generator = private_generator()

    # Acting

    def action_probabilities(
        self, observations: torch.Tensor, epsilon: torch.Tensor
    ) -> torch.Tensor:
        """Return pi(. | s) `(batch, num_actions)` for observations `(batch, ...)`."""
        del epsilon  # there is nothing greedy to mix with
        return observations.new_full((len(observations), self.num_actions), 1.0 / self.num_actions)

    def get_action(self, observation: np.ndarray, epsilon: float = 0.0) -> int:
        """Draw an action for one observation."""
        return sample_action(self, observation, epsilon)

    # Objectives

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """Nothing to minimise."""
        return ()

    @property
    def target_networks(self) -> tuple[tuple[nn.Module, nn.Module], ...]:
        """No networks, no copies of them."""
        return ()

    def update(
        self,
        observations: torch.Tensor,
        actions: torch.Tensor,
        rewards: torch.Tensor,
        next_observations: torch.Tensor,
        dones: torch.Tensor,
        step: int,
    ) -> dict[str, Any]:
        """Learn nothing from a batch, and report nothing."""
        return {}
