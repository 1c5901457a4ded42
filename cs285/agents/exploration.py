"""What pure exploration hides from the critic: rewards and terminations.

All rewards are 0 and no transition is terminal, so that novelty remains reachable after a goal
(Burda 2019, section 2.3). The state in which an episode terminated becomes an absorbing state
(Sutton and Barto 2018, section 3.4): a transition from it to itself replaces the first transition
of the next episode. The buffer and the saved dataset keep the original transitions.

This is a separate file because `rnd_agent.py` may be a student's, which must not see the task
either.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from cs285.learning.columns import Array, Column, Transitions


def _after_termination(transitions: Transitions) -> npt.NDArray[np.bool_]:
    """Return which transitions follow a terminated one `(N,)`."""
    return np.append(np.zeros(1, np.bool_), transitions.dones[:-1])


def _absorbed(name: str) -> Callable[[Transitions], Array]:
    """Return a function from transitions to observations, with absorbing states."""

    def compute(transitions: Transitions) -> Array:
        values: Array = getattr(transitions, name)
        absorbed = _after_termination(transitions)
        if absorbed.any():
            values = values.copy()
            values[absorbed] = transitions.next_observations[np.flatnonzero(absorbed) - 1]
        return values

    return compute


NO_REWARDS = Column("rewards", lambda transitions: np.zeros(len(transitions), np.float32), reach=0)
NO_TERMINATIONS = Column("dones", lambda transitions: np.zeros(len(transitions), np.bool_), reach=0)
ABSORBING_STATES = (
    Column("observations", _absorbed("observations"), reach=1),
    Column("next_observations", _absorbed("next_observations"), reach=1),
)


def hidden_task() -> tuple[Column, ...]:
    """Return the columns that replace the stored fields."""
    return (NO_REWARDS, NO_TERMINATIONS, *ABSORBING_STATES)
