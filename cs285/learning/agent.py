"""What an agent is: the protocol that stacked agents follow, and the base class that updates.

The training loop needs two methods of an agent: `get_action(observation, epsilon) -> int` and
`update(observations, actions, rewards, next_observations, dones, step) -> dict`. An agent that
also states what it trains, as below, can be stacked: many runs then train as one program.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

import torch
from torch import nn

from cs285.learning.columns import Column
from cs285.learning.objective import Batch, Objective, TargetRule, TrainingStep, split_rules


class StackableAgent(Protocol):
    """What `Ensemble` needs of an agent, which must be an `nn.Module` as well.

    Everything that training changes or that may differ between stacked runs is a parameter or a
    buffer. Losses and `action_probabilities` are pure functions of these and of their arguments:
    they change nothing, draw no random numbers and read no value back into Python.
    """

    stackable: ClassVar[bool]
    """Every class of the agent says so itself; see `is_stackable`."""
    num_actions: int

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """What each update minimises, in this order; each optimiser is plain Adam."""
        ...

    @property
    def target_rules(self) -> tuple[TargetRule, ...]:
        """How the target networks follow, after the objectives: see `Agent.update`."""
        ...

    def derived_columns(self) -> tuple[Column, ...]:
        """Return columns that this agent defines; see `Agent.derived_columns`."""
        ...

    def begin_phase(self, name: str) -> None:
        """Prepare for a phase of training; see `Agent.begin_phase`."""
        ...

    def action_probabilities(
        self, observations: torch.Tensor, epsilon: torch.Tensor
    ) -> torch.Tensor:
        """Return pi(. | s) `(batch, num_actions)` for observations `(batch, ...)`."""
        ...


class Agent(nn.Module):
    """Base class of agents: its `update` does what they state.

    A class that overrides `update` is left to train itself. So is one that overrides a method that
    an objective or a target rule names, such as `update_critic`: `update` calls these by name.
    """

    stackable: ClassVar[bool] = True

    @property
    def objectives(self) -> tuple[TrainingStep, ...]:
        """What each update minimises, in this order; nothing by default."""
        return ()

    @property
    def target_rules(self) -> tuple[TargetRule, ...]:
        """How target networks follow; there are none by default."""
        return ()

    def derived_columns(self) -> tuple[Column, ...]:
        """Return columns that this agent defines, beyond the built-in ones; none by default."""
        return ()

    def begin_phase(self, name: str) -> None:
        """Prepare for a phase of training, such as `exploration`; by default do nothing.

        It may change parameters and buffers in place.
        """

    def update(
        self,
        observations: torch.Tensor,
        actions: torch.Tensor,
        rewards: torch.Tensor,
        next_observations: torch.Tensor,
        dones: torch.Tensor,
        step: int,
    ) -> dict[str, Any]:
        """Take one step on a batch and return what to log.

        First every objective that is due takes its step, in order, each on what those before it
        have learned. Then target networks follow: those that average, then those that are copied.

        Args:
            observations: As in `Batch`, and the next four as well.
            actions: See above.
            rewards: See above.
            next_observations: See above.
            dones: See above.
            step: Number of this update, from 1 on.
        """
        fields = Batch(observations, actions, rewards, next_observations, dones)
        return self._take_steps(fields._asdict(), step)

    def learn_from(self, batch: Mapping[str, torch.Tensor], step: int) -> dict[str, Any]:
        """Do what `update` does, on a batch with derived columns as well.

        Args:
            batch: The columns that the objectives name; see `columns`.
            step: Number of this update, from 1 on.
        """
        return self._take_steps(batch, step)

    def _take_steps(self, batch: Mapping[str, torch.Tensor], step: int) -> dict[str, Any]:
        metrics: dict[str, Any] = {}
        for objective in self.objectives:
            if objective.is_due(step):
                metrics |= objective.take(self, batch)
        averages, copies = split_rules(self.target_rules)
        for average in averages:
            average.apply(self)
        for copy in copies:
            if copy.is_due(step):
                copy.apply(self)
        return metrics
