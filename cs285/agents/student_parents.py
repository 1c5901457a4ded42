"""Fallbacks for an agent file whose parent class comes from a student's file.

`iql_agent.py` builds on `awac_agent.py`, which builds on `dqn_agent.py`, as does `rnd_agent.py`.
A student's file, which declares no objectives, may replace any of them. What such a parent trains
is known only from the names of its methods, which the homework fixes.
"""

from __future__ import annotations

from cs285.learning.agent import Agent
from cs285.learning.objective import Batch, HardCopy, TargetRule, TrainingStep


class AnyParent(Agent):
    """Base class of agents whose parent may be a student's; the parent's definitions come first."""

    stackable = True

    target_update_period: int

    @property
    def critic_objective(self) -> TrainingStep:
        """The critic's training step."""
        return TrainingStep(method="update_critic", loss_tag="critic_loss", inputs=Batch._fields)

    @property
    def actor_objective(self) -> TrainingStep:
        """The actor's training step."""
        inputs = ("observations", "actions")
        return TrainingStep(method="update_actor", loss_tag="actor_loss", inputs=inputs)

    @property
    def target_rules(self) -> tuple[TargetRule, ...]:
        """How the target critic is updated."""
        period = self.target_update_period
        return (HardCopy("critic", "target_critic", period, method="update_target_critic"),)
