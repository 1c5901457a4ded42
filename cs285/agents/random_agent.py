"""Random exploration: every action is equally likely, whatever the observation.

    pi(a|s) = 1 / |A|

The agent learns nothing; its data are the baseline for other exploration.
"""

from __future__ import annotations

import numpy as np
import torch

from cs285.agents.acting import private_generator
from cs285.learning.agent import Agent


class RandomAgent(Agent):
    """Uniform over `num_actions` actions, from its own generator."""

    def __init__(self, observation_shape: tuple[int, ...], num_actions: int) -> None:
        super().__init__()
        self.observation_shape = observation_shape
        self.num_actions = num_actions
        self.generator = private_generator()

    # Acting

    def action_probabilities(
        self, observations: torch.Tensor, epsilon: torch.Tensor
    ) -> torch.Tensor:
        """Return `1 / num_actions` for each action `(batch, num_actions)`."""
        return torch.full((len(observations), self.num_actions), 1.0 / self.num_actions)

    def get_action(self, observation: np.ndarray, epsilon: float = 0.0) -> int:
        """Draw an action; the observation and `epsilon` are ignored."""
        return int(torch.randint(self.num_actions, (), generator=self.generator))
