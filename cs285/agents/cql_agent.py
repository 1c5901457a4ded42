"""Conservative Q-learning (Kumar 2020, eq. 4 with the entropy regulariser).

    loss = DQN loss + alpha mean( T logsumexp(Q(s, .) / T) - Q(s, a) )

The added term is never negative at T = 1. It pushes down the soft maximum over all actions and
pushes up the dataset's action, so the values of actions outside the data stay low. At alpha = 0
this is DQN.
"""

from __future__ import annotations

from typing import Any

import torch

from cs285.agents.dqn_agent import DQNAgent
from cs285.learning.objective import Metrics, hyperparameter


class CQLAgent(DQNAgent):
    """DQN with a conservative critic.

    Args:
        *args: Arguments of `DQNAgent`.
        cql_alpha: Weight of the conservative term, at least 0.
        cql_temperature: Temperature T of the soft maximum, positive.
        **kwargs: Arguments of `DQNAgent`.
    """

    stackable = True

    cql_alpha: torch.Tensor
    cql_temperature: torch.Tensor

    def __init__(
        self, *args: Any, cql_alpha: float, cql_temperature: float = 1.0, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.register_buffer("cql_alpha", hyperparameter(cql_alpha))
        self.register_buffer("cql_temperature", hyperparameter(cql_temperature))

    # Losses

    def compute_critic_loss(
        self,
        obs: torch.Tensor,
        action: torch.Tensor,
        reward: torch.Tensor,
        next_obs: torch.Tensor,
        done: torch.Tensor,
    ) -> tuple[torch.Tensor, Metrics, dict[str, torch.Tensor]]:
        """Return the temporal-difference loss plus the conservative term; see `DQNAgent`."""
        loss, metrics, variables = super().compute_critic_loss(obs, action, reward, next_obs, done)

        soft_maximum = self.cql_temperature * torch.logsumexp(
            variables["qa_values"] / self.cql_temperature, dim=-1
        )
        assert soft_maximum.shape == variables["q_values"].shape
        conservative_term = (soft_maximum - variables["q_values"]).mean()

        metrics = {**metrics, "cql_term": conservative_term}
        return loss + self.cql_alpha * conservative_term, metrics, variables
