"""S runs that act and learn in lock-step: as one program, or one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from cs285.learning.agent_loop import AgentLoop
from cs285.learning.ensemble import Ensemble
from cs285.learning.objective import Batch, Tensors


class Learner(Protocol):
    """S runs that act and learn in lock-step."""

    agents: list[Any]

    def act(
        self, observations: np.ndarray, epsilon: np.ndarray, uniforms: np.ndarray
    ) -> np.ndarray:
        """Choose actions `(S, n)` for observations `(S, n, ...)` with epsilon `(S,)`.

        `uniforms (S, n)` in [0, 1) decide what the agents leave to chance.
        """
        ...

    def learn(self, transitions: Batch, rows: np.ndarray, step: int) -> Tensors:
        """Take K updates on transitions `(N, ...)` looked up at `rows (K, S, batch)`.

        Args:
            transitions: Of all runs, one after the other.
            rows: In which of them each update looks.
            step: Number of the first update.

        Returns:
            Metrics of the last update, each `(S,)`.
        """
        ...

    def sync_agents(self) -> None:
        """Write what was learned back into `agents`."""
        ...

    def exploit(self) -> None:
        """From now on, the second critic of agents with two collects the data."""
        ...

    def get_state(self) -> dict[str, Any]:
        """Return everything that the future depends on.

        Raises:
            TypeError: If an agent keeps something that no checkpoint can.
        """
        ...

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore what `get_state` of agents of the same configs returned."""
        ...

    def state_of(self, run: int) -> dict[str, Any]:
        """Return what `get_state` tells of one run."""
        ...


def make_learner(agents: Sequence[Any], *, compiles: bool = False) -> Learner:
    """Stack the agents where their classes allow it, else loop over them.

    Args:
        agents: S agents.
        compiles: Whether the update of stacked agents is compiled.
    """
    if all(map(is_stackable, agents)):
        return Ensemble(agents, compiles=compiles)
    return AgentLoop(agents)


def is_stackable(agent: Any) -> bool:
    """Tell whether every class of the agent's own says that it may be stacked.

    Each must say so itself: a student's subclass of a stackable agent may override `update`, which
    an ensemble would never call.
    """
    own = [c for c in type(agent).__mro__ if c not in nn.Module.__mro__]
    if not all(vars(c).get("stackable", False) for c in own):
        return False
    try:
        objectives = agent.objectives
    except NotImplementedError:  # not written yet, in a starter: `update` trains the agent
        return False
    return all(_is_plain_adam(objective.optimizer) for objective in objectives)


def _is_plain_adam(optimizer: torch.optim.Optimizer) -> bool:
    groups = optimizer.param_groups
    extras = ("weight_decay", "amsgrad", "maximize")
    return (
        type(optimizer) is torch.optim.Adam
        and len(groups) == 1
        and not any(groups[0][name] for name in extras)
    )
