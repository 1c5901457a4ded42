"""What an agent file needs when the file that it builds on is a student's.

`iql_agent.py` builds on `awac_agent.py`, and this one and `rnd_agent.py` build on `dqn_agent.py`.
Each of them may be replaced by a student's, which states no objectives. What such a parent trains
is known by the names of its methods alone, which the homework fixes.
"""

from __future__ import annotations

from cs285.learning.agent import Agent
from cs285.learning.objective import Batch, HardCopy, TargetRule, TrainingStep


class AnyParent(Agent):
    """Base class of agents whose parent may be a student's; what the parent states comes first."""

    stackable = True

    target_update_period: int

    @property
    def critic_objective(self) -> TrainingStep:
        """What trains the critic."""
        return TrainingStep(method="update_critic", loss_tag="critic_loss", inputs=Batch._fields)

    @property
    def actor_objective(self) -> TrainingStep:
        """What trains the actor."""
        inputs = ("observations", "actions")
        return TrainingStep(method="update_actor", loss_tag="actor_loss", inputs=inputs)

    @property
    def target_rules(self) -> tuple[TargetRule, ...]:
        """How the target critic follows."""
        period = self.target_update_period
        return (HardCopy("critic", "target_critic", period, method="update_target_critic"),)
