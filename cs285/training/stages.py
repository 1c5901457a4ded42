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
    """A part of training in which all steps are of the same kind."""

    name: str
    steps: int
    interacts: bool
    """Whether every step begins with an environment step, whose transition joins the buffer."""


class FineTuning:
    """Records the requested steps of a fine-tuning run, in order.

    The training loop takes them afterwards, and evaluates, logs and saves in between.
    """

    def __init__(self) -> None:
        self.offline = 0
        """Updates before the first step in the environment."""
        self.online = 0
        """Updates that follow a step in the environment."""
        self._holds_data = False
        self._has_acted = False

    def load_dataset(self) -> None:
        """Put all transitions of the dataset into the empty replay buffer.

        Raises:
            UserError: If the buffer is not empty, because its data would be lost.
        """
        if self._holds_data or self._has_acted:
            raise UserError(
                "finetune: call load_dataset() once, before all else; the buffer already has data"
            )
        self._holds_data = True

    def act(self) -> None:
        """Take one step in the environment and add its transition to the replay buffer.

        Raises:
            UserError: If no update has followed the last step.
        """
        if self._has_acted:
            raise UserError("finetune: one learn() must follow each act()")
        self._has_acted = True

    def learn(self) -> None:
        """Update the agent once, on a batch from the replay buffer.

        Raises:
            UserError: If the dataset was not loaded, or an online update has no step before it.
        """
        if not self._holds_data:
            raise UserError("finetune: learn() needs data; call load_dataset() first")
        if self._has_acted:
            self.online += 1
        elif self.online:
            raise UserError("finetune: after the first act(), an act() must precede each learn()")
        else:
            self.offline += 1
        self._has_acted = False

    def phases(self) -> list[Phase]:
        """Return the phases that the steps form.

        Raises:
            UserError: If there are no steps, or the last one is not followed by an update.
        """
        if self._has_acted:
            raise UserError("finetune: one learn() must follow each act()")
        phases = [
            Phase("offline", self.offline, interacts=False),
            Phase("online", self.online, interacts=True),
        ]
        if not any(phase.steps for phase in phases):
            raise UserError("finetune: no steps were requested")
        return phases


Plan: TypeAlias = Callable[[FineTuning, int, int], None]
"""Requests the steps of a fine-tuning run, given the numbers of offline and online steps."""


def phases_of(stage: Stage, config: BaseConfig, plan: Plan | None = None) -> list[Phase]:
    """Return the phases that a run of a stage goes through.

    - Exploration takes only environment steps; the agent learns from the data it collects.
    - Offline learning takes only gradient steps; the environment is used only for evaluation.
    - Fine-tuning follows the plan. By default it first takes gradient steps, then an environment
      step before every update.

    Raises:
        UserError: If a plan requests steps that cannot be taken.
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
