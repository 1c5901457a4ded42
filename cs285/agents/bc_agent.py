"""Behaviour cloning (Pomerleau 1991): imitation of all data, good or bad.

    actor loss = -mean log pi(a|s)

Rewards play no part, so the policy is at best as good as the one that collected the data. At
`epsilon` 0 it takes the most frequent action of the data, not a random one.
"""

from __future__ import annotations

import torch

from cs285.agents.imitation import ImitationAgent, imitation_loss
from cs285.learning.objective import Metrics


class BCAgent(ImitationAgent):
    """An actor that imitates the data; see `ImitationAgent`."""

    stackable = True

    # Losses

    def compute_actor_loss(
        self, observations: torch.Tensor, actions: torch.Tensor
    ) -> tuple[torch.Tensor, Metrics]:
        """Return the negative log-likelihood of the data's actions; nothing else to log."""
        return imitation_loss(self.actor, observations, actions), {}
