"""How agents choose actions from action probabilities."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch

from cs285.infrastructure import pytorch_util as ptu


class Actor(Protocol):
    """An agent with action probabilities and a generator."""

    generator: torch.Generator

    def action_probabilities(
        self, observations: torch.Tensor, epsilon: torch.Tensor
    ) -> torch.Tensor:
        """Return pi(. | s) `(batch, num_actions)` for observations `(batch, ...)`."""
        ...


def private_generator() -> torch.Generator:
    """Return a new generator, seeded from the current state of PyTorch's global one."""
    generator = torch.Generator()
    generator.manual_seed(int(torch.randint(2**62, ())))
    return generator


@torch.no_grad()
def sample_action(agent: Actor, observation: np.ndarray, epsilon: float) -> int:
    """Draw one action for one observation `(*observation_shape)` from the agent's distribution."""
    observations = ptu.from_numpy(np.asarray(observation, dtype=np.float32))[None]
    probabilities = agent.action_probabilities(observations, torch.tensor(epsilon))[0]
    return int(torch.multinomial(probabilities.cpu(), 1, generator=agent.generator))


def epsilon_greedy(action_values: torch.Tensor, epsilon: torch.Tensor) -> torch.Tensor:
    """Return the epsilon-greedy distribution of action values, both `(batch, num_actions)`.

    The greedy action has probability `1 - epsilon + epsilon / num_actions`, the others
    `epsilon / num_actions` (Sutton and Barto 2018, section 5.4).
    """
    return (1.0 - epsilon) * greedy(action_values) + epsilon / action_values.shape[-1]


def greedy(action_values: torch.Tensor) -> torch.Tensor:
    """Return the distribution `(batch, num_actions)` that always takes the best action."""
    best = action_values.argmax(-1, keepdim=True)
    return torch.zeros_like(action_values).scatter(-1, best, 1.0)
