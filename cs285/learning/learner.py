"""S runs that act and learn in lockstep: as one program, or one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from cs285.learning.agent_loop import AgentLoop
from cs285.learning.backends import Backend
from cs285.learning.ensemble import Ensemble
from cs285.learning.objective import Objective, Tensors


class Learner(Protocol):
    """S runs that act and learn in lockstep."""

    agents: list[Any]

    def act(
        self, observations: np.ndarray, epsilon: np.ndarray, uniforms: np.ndarray
    ) -> np.ndarray:
        """Choose actions `(S, n)` for observations `(S, n, ...)` with epsilon `(S,)`.

        `uniforms (S, n)` in [0, 1) decide random choices.
        """
        ...

    def learn(self, columns: Mapping[str, torch.Tensor], rows: np.ndarray, step: int) -> Tensors:
        """Take K updates on batches that are looked up in `columns`.

        Args:
            columns: Columns by name, each with the rows of all runs one after the other `(N, ...)`.
            rows: The rows that each update reads `(K, S, batch)`.
            step: Number of the first update.

        Returns:
            The latest metrics of each objective, each `(S,)`.
        """
        ...

    def sync_agents(self) -> None:
        """Write the learned state back into `agents`."""
        ...

    def begin_phase(self, name: str) -> None:
        """Tell the agents that a phase of training begins; see `Agent.begin_phase`."""
        ...

    def get_state(self) -> dict[str, Any]:
        """Return everything that the future depends on.

        Raises:
            TypeError: If an agent's state contains something that a checkpoint cannot store.
        """
        ...

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore a state that `get_state` returned for agents with the same configs."""
        ...

    def state_of(self, run: int) -> dict[str, Any]:
        """Return the part of `get_state` that belongs to one run."""
        ...


def make_learner(agents: Sequence[Any], backend: Backend | None = None) -> Learner:
    """Stack the agents if their classes allow it, else loop over them.

    Args:
        agents: S agents.
        backend: Carries out the updates of stacked agents; see `choose_backend`.
    """
    if all(map(is_stackable, agents)):
        return Ensemble(agents, backend)
    return AgentLoop(agents)


def is_stackable(agent: Any) -> bool:
    """Return whether an agent follows `StackableAgent`, by its classes and its optimisers."""
    objectives = _stackable_objectives(agent)
    return objectives is not None and all(_is_plain_adam(x.optimizer) for x in objectives)


def stacking_obstacle(agent: Any) -> str | None:
    """Return a sentence that says why a stackable class cannot be stacked, or None."""
    for objective in _stackable_objectives(agent) or ():
        if not _is_plain_adam(objective.optimizer):
            return (
                f"{type(agent).__name__}: the optimiser of {objective.loss_tag} is "
                f"{_describe(objective.optimizer)}, and only plain Adam can be stacked, so its "
                "runs train one by one, uncompiled"
            )
    return None


def _stackable_objectives(agent: Any) -> tuple[Objective, ...] | None:
    """Return the objectives of an agent if all its classes set `stackable`, else None.

    Each class must set it itself: a student's subclass of a stackable agent may override `update`,
    which an ensemble would never call.
    """
    own = [c for c in type(agent).__mro__ if c not in nn.Module.__mro__]
    if not all(vars(c).get("stackable", False) for c in own):
        return None
    try:
        objectives: tuple[Objective, ...] = agent.objectives
    except NotImplementedError:  # not written yet, in a starter: `update` trains the agent
        return None
    return objectives if all(isinstance(x, Objective) for x in objectives) else None


def _is_plain_adam(optimizer: torch.optim.Optimizer) -> bool:
    is_adam = type(optimizer) is torch.optim.Adam
    return is_adam and len(optimizer.param_groups) == 1 and not _extras(optimizer)


def _extras(optimizer: torch.optim.Optimizer) -> list[str]:
    """Return the options that are set in an optimiser but that a stacked Adam does not support."""
    options = ("weight_decay", "amsgrad", "maximize")
    return [name for name in options if any(group.get(name) for group in optimizer.param_groups)]


def _describe(optimizer: torch.optim.Optimizer) -> str:
    options = _extras(optimizer)
    if len(optimizer.param_groups) > 1:
        options.append(f"{len(optimizer.param_groups)} parameter groups")
    name = type(optimizer).__name__
    return f"{name} with {' and '.join(options)}" if options else name
