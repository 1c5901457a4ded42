"""Agents: the protocol that stacked agents follow, and the base class that implements `update`.

The training loop needs two methods of an agent: `get_action(observation, epsilon) -> int` and
`update(observations, actions, rewards, next_observations, dones, step) -> dict`. An agent that
also declares its objectives, as below, can be stacked: many runs then train as one program.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

import torch
from torch import nn

from cs285.learning.columns import Column, Transitions
from cs285.learning.contexts import Context
from cs285.learning.objective import Batch, Objective, TargetRule, TrainingStep, split_rules


class StackableAgent(Protocol):
    """The interface that `Ensemble` needs of an agent, which must also be an `nn.Module`.

    Everything that training changes or that may differ between stacked runs is a parameter or a
    buffer. Losses and `action_probabilities` are pure functions of these and of their arguments:
    they change nothing, draw no random numbers and read no value back into Python.
    """

    stackable: ClassVar[bool]
    """Every class of the agent must set this itself; see `is_stackable`."""
    num_actions: int

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """The losses that each update minimises, in this order; each optimiser is plain Adam."""
        ...

    @property
    def target_rules(self) -> tuple[TargetRule, ...]:
        """How target networks are updated after the objectives; see `Agent.update`."""
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
    """Base class of agents: its `update` carries out their objectives and target rules.

    A class may override `update` to train itself. It may also override a method that an objective
    or a target rule names, such as `update_critic`, because `update` calls these by name.
    """

    stackable: ClassVar[bool] = True

    @property
    def objectives(self) -> tuple[TrainingStep, ...]:
        """The losses that each update minimises, in this order; none by default."""
        return ()

    @property
    def target_rules(self) -> tuple[TargetRule, ...]:
        """How target networks are updated; there are none by default."""
        return ()

    def derived_columns(self) -> tuple[Column, ...]:
        """Return the columns that this agent defines besides the built-in ones; none by default."""
        return ()

    def check_data(self, transitions: Transitions, what: str) -> None:
        """Check that the agent can learn from the dataset of a run; by default it can.

        Args:
            transitions: The dataset.
            what: A description of the dataset and its reader, for the error message.

        Raises:
            UserError: If it cannot, with what would work.
        """

    def make_context(self, episodes: int) -> Context | None:
        """Return what the agent carries through so many episodes; None if it needs no context.

        With one, `action_probabilities` and `get_action` take its inputs for observations.
        """
        del episodes
        return None

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

        First every objective that is due takes its step, in order, each on the result of those
        before it. Then target networks are updated: first the averages, then the copies.

        Args:
            observations: See `Batch`, also for the next four.
            actions: See above.
            rewards: See above.
            next_observations: See above.
            dones: See above.
            step: Number of this update, counted from 1.
        """
        fields = Batch(observations, actions, rewards, next_observations, dones)
        return self._take_steps(fields._asdict(), step)

    def learn_from(self, batch: Mapping[str, torch.Tensor], step: int) -> dict[str, Any]:
        """Do the same as `update`, on a batch that may include derived columns.

        Args:
            batch: The columns that the objectives name; see `columns`.
            step: Number of this update, counted from 1.
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
