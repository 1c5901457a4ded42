"""The phases of each stage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from cs285.env_configs import BaseConfig
from cs285.homework import Stage
from cs285.infrastructure.errors import UserError


@dataclass(frozen=True)
class Phase:
    """A part of training in which every step is of the same kind."""

    name: str
    steps: int
    interacts: bool
    """Every step begins with an environment step, whose transition joins the buffer."""


class FineTuning:
    """Notes the steps of a fine-tuning run, in the order in which they are asked for.

    The training loop takes them afterwards; it evaluates, logs and saves in between.
    """

    def __init__(self) -> None:
        self.offline = 0
        """Updates before the first step in the environment."""
        self.online = 0
        """Updates that follow a step in the environment."""
        self._holds_data = False
        self._has_acted = False

    def load_dataset(self) -> None:
        """Put all transitions of the dataset into the replay buffer, which is empty before.

        Raises:
            UserError: If it is not empty: the data so far would be lost.
        """
        if self._holds_data or self._has_acted:
            raise UserError("finetune: load_dataset() comes first and once; the buffer has data")
        self._holds_data = True

    def act(self) -> None:
        """Take one step in the environment and add its transition to the replay buffer.

        Raises:
            UserError: If no update has followed the last one.
        """
        if self._has_acted:
            raise UserError("finetune: one learn() has to follow each act()")
        self._has_acted = True

    def learn(self) -> None:
        """Update the agent once, on a batch from the replay buffer.

        Raises:
            UserError: If the dataset was not loaded, or this update lacks a step before it.
        """
        if not self._holds_data:
            raise UserError("finetune: learn() needs data; load_dataset() comes first")
        if self._has_acted:
            self.online += 1
        elif self.online:
            raise UserError("finetune: after the first act(), each learn() needs an act() before")
        else:
            self.offline += 1
        self._has_acted = False

    def phases(self) -> list[Phase]:
        """Return the phases that the steps form.

        Raises:
            UserError: If they form none.
        """
        if self._has_acted:
            raise UserError("finetune: one learn() has to follow each act()")
        phases = [
            Phase("offline", self.offline, interacts=False),
            Phase("online", self.online, interacts=True),
        ]
        if not any(phase.steps for phase in phases):
            raise UserError("finetune: it takes no steps")
        return phases


Plan: TypeAlias = Callable[[FineTuning, int, int], None]
"""Asks for the steps of a fine-tuning run, given the numbers of offline and online steps."""


def phases_of(stage: Stage, config: BaseConfig, plan: Plan | None = None) -> list[Phase]:
    """Return the phases that a run of a stage goes through.

    - Exploration takes environment steps only; the agent learns from what it collects.
    - Offline learning takes gradient steps only; the environment serves evaluation alone.
    - Fine-tuning follows the plan. By default it takes gradient steps first, then an environment
      step before every update.

    Raises:
        UserError: If a plan asks for steps that cannot be taken.
    """
    match stage:
        case Stage.EXPLORE:
            phases = config.exploration_phases.items()
            return [Phase(name, steps, interacts=True) for name, steps in phases]
        case Stage.OFFLINE:
            return [Phase("offline", config.training_steps, interacts=False)]
        case Stage.FINETUNE:
            if plan is not None:
                run = FineTuning()
                plan(run, config.offline_steps, config.online_steps)
                return run.phases()
            return [
                Phase("offline", config.offline_steps, interacts=False),
                Phase("online", config.online_steps, interacts=True),
            ]
