"""Filtered behaviour cloning, %BC: imitation of the best episodes (Chen 2021, section 5.1).

    D~         = the episodes of D with the highest returns, a fraction `keep_fraction` of them
    actor loss = -mean over D~ of log pi(a|s)

The notes write `|D~| = k% |D|` and mean episodes, as here. Of several episodes with the return at
the border, the later ones are kept: online, a policy should imitate what it does now. An episode
that has not ended has no return yet, so it is never kept.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from cs285.agents.bc_agent import BCAgent
from cs285.infrastructure.errors import UserError
from cs285.learning.columns import DRAWN, Column, Transitions


class FilteredBCAgent(BCAgent):
    """Behaviour cloning whose batches come from the best episodes alone.

    Args:
        *args: Arguments of `BCAgent`.
        keep_fraction: Fraction of the episodes to keep, in (0, 1].
        **kwargs: Arguments of `BCAgent`.
    """

    stackable = True

    def __init__(self, *args: Any, keep_fraction: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.keep_fraction = keep_fraction

    def derived_columns(self) -> tuple[Column, ...]:
        """Return the column that says which transitions batches are drawn from."""
        return (Column(DRAWN, self._in_best_episodes, reach="all", needs_ends=True),)

    def _in_best_episodes(self, transitions: Transitions) -> npt.NDArray[np.bool_]:
        """Return which transitions belong to the best episodes `(N,)`."""
        finished = transitions.finished
        stops = np.flatnonzero(transitions.ends & finished) + 1
        if len(stops):
            # Transitions of unfinished episodes are left out first.
            rewards = transitions.rewards[finished].astype(np.float64)
            lengths = np.diff(np.cumsum(finished)[stops - 1], prepend=0)
            returns = np.add.reduceat(rewards, np.cumsum(lengths) - lengths)
            kept = np.zeros(len(stops), np.bool_)
            kept[np.argsort(returns, kind="stable")[len(stops) - self._count(len(stops)) :]] = True
            finished[finished] = np.repeat(kept, lengths)
        return finished

    def _count(self, episodes: int) -> int:
        """Return how many of the episodes to keep."""
        # A product such as 0.07 * 100 may be a rounding error below a whole number.
        return int(self.keep_fraction * episodes + 1e-9)

    def check_data(self, transitions: Transitions, what: str) -> None:
        """Check that some episode is kept; see `Agent.check_data`."""
        episodes = int((transitions.ends & transitions.finished).sum())
        if self._count(episodes) == 0:
            enough = math.ceil(1e4 / episodes) / 1e4
            raise UserError(
                f"{what}: `keep_fraction: {self.keep_fraction:g}` keeps none of the {episodes} "
                f"episodes that end in this dataset; {enough:g} keeps the best one"
            )
