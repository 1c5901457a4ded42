"""Derived columns: what a batch can contain beyond the stored fields of its transitions.

A column is a pure function of one run's transitions in the order in which they were collected. The
buffer computes it once for a dataset, and online only where a new transition can have changed it.
Only objectives that name a column in their `inputs` see it. These are built in:

    returns_to_go         sum of the rewards from this transition to the end of its episode
    next_actions          action of the next transition; at the end of an episode, its own action
    episode_steps         number of transitions in the episode before this one
    episode_returns       sum of the rewards of the whole episode

Agents may also define `discounted_returns_to_go` and windows of the last K steps in their
`derived_columns`. An episode ends where it terminated or was truncated by a time limit. The last
episode of a dataset may be unfinished; then it ends with the data, so its returns-to-go lack the
rewards that would have followed, unless batches are drawn from `FINISHED` episodes alone.
Transitions collected after a dataset begin a new episode.

A column with the name `drawn` is not part of batches: it says from which transitions they are
drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from cs285.infrastructure.errors import UserError
from cs285.learning.objective import Batch

Array = npt.NDArray[Any]

DRAWN = "drawn"
"""Name of the column of bools `(N,)` to whose true rows batches are confined; all by default."""


@dataclass(frozen=True)
class Transitions:
    """N transitions of one run, in order."""

    observations: Array
    """`(N, *observation_shape)` float32."""
    actions: Array
    """`(N,)` int64."""
    rewards: Array
    """`(N,)` float32."""
    next_observations: Array
    """`(N, *observation_shape)` float32."""
    dones: Array
    """`(N,)` bool: the episode terminated here."""
    truncated: Array
    """`(N,)` bool: a time limit truncated the episode here."""
    cut: Array | None = None
    """`(N,)` bool: an unfinished episode is not continued after this; None: none is."""

    def __len__(self) -> int:
        return len(self.actions)

    def __getitem__(self, rows: slice) -> Transitions:
        values: list[Any] = [None if own is None else own[rows] for own in vars(self).values()]
        return Transitions(*values)

    @property
    def ends(self) -> Array:
        """Return where episodes end, or are cut `(N,)`."""
        ends: Array = self.dones | self.truncated
        return ends if self.cut is None else ends | self.cut

    @property
    def finished(self) -> Array:
        """Return which transitions belong to episodes that have ended, not merely been cut `(N,)`.

        Only of these are the returns known.
        """
        stops = np.flatnonzero(self.ends) + 1
        really = (self.dones | self.truncated)[stops - 1]
        unfinished = len(self) - (stops[-1] if len(stops) else 0)
        lengths = np.diff(stops, prepend=0)
        return np.append(np.repeat(really, lengths), np.zeros(unfinished, np.bool_))

    def episodes(self) -> list[slice]:
        """Return the rows of each episode, including an unfinished one at the end."""
        stops = [*(np.flatnonzero(self.ends) + 1).tolist(), len(self)]
        return [slice(*edges) for edges in pairwise([0, *dict.fromkeys(stops)]) if len(self)]


@dataclass(frozen=True)
class Column:
    """A column that is derived from transitions.

    If its name is that of a stored field, such as `rewards`, the agent sees it in place of that
    field; the buffer still stores the original.
    """

    name: str
    compute: Callable[[Transitions], Array]
    """From N transitions to N rows: a pure function of the rows that `reach` allows."""
    reach: int | Literal["episode", "all"] = "episode"
    """What a row depends on: itself and this many transitions before it, its episode, or all."""
    needs_ends: bool = False
    """Whether it cannot be computed from data in which no episode ends."""


def _by_episode(compute: Callable[[Transitions], Array]) -> Callable[[Transitions], Array]:
    """Apply a function to each episode separately, so that others cannot change its rounding."""

    def compute_all(transitions: Transitions) -> Array:
        return np.concatenate([compute(transitions[rows]) for rows in transitions.episodes()])

    return compute_all


def _sums_to_come(rewards: Array, discount: float = 1.0) -> Array:
    sums = np.empty(len(rewards))
    total = 0.0
    for row in range(len(rewards) - 1, -1, -1):
        total = float(rewards[row]) + discount * total
        sums[row] = total
    return sums.astype(np.float32)


def _next_actions(episode: Transitions) -> Array:
    return np.append(episode.actions[1:], episode.actions[-1:])


def _episode_returns(episode: Transitions) -> Array:
    return np.full(len(episode), episode.rewards.sum(dtype=np.float64), np.float32)


RETURNS_TO_GO = Column(
    "returns_to_go", _by_episode(lambda episode: _sums_to_come(episode.rewards)), needs_ends=True
)
NEXT_ACTIONS = Column("next_actions", _by_episode(_next_actions))
EPISODE_STEPS = Column("episode_steps", _by_episode(lambda episode: np.arange(len(episode))))
EPISODE_RETURNS = Column("episode_returns", _by_episode(_episode_returns), needs_ends=True)

FINISHED = Column(DRAWN, lambda transitions: transitions.finished, needs_ends=True)
"""Draws batches from episodes that have ended, whose returns are known."""

BUILT_IN = {
    column.name: column for column in (RETURNS_TO_GO, NEXT_ACTIONS, EPISODE_STEPS, EPISODE_RETURNS)
}
"""Columns that any objective may name."""


def discounted_returns_to_go(discount: float) -> Column:
    """Return the column `discounted_returns_to_go`: `sum_k discount^k r_{t+k}` over the episode."""

    def compute(episode: Transitions) -> Array:
        return _sums_to_come(episode.rewards, discount)

    return Column("discounted_returns_to_go", _by_episode(compute), needs_ends=True)


def windows(length: int) -> tuple[Column, ...]:
    """Return columns with the last K steps of the episode, this step last.

    They are `window_observations (N, K, ...)`, `window_actions (N, K)`, `window_returns_to_go
    (N, K)` and `window_mask (N, K)`, which is False where the window reaches back beyond the start
    of the episode; the others are 0 there.

    Args:
        length: K, at least 1.
    """

    def window(values: Callable[[Transitions], Array]) -> Callable[[Transitions], Array]:
        def compute(episode: Transitions) -> Array:
            own = values(episode)
            empty = np.zeros((length - 1, *own.shape[1:]), own.dtype)
            seen = np.lib.stride_tricks.sliding_window_view(
                np.concatenate([empty, own]), length, axis=0
            )
            return np.moveaxis(seen, -1, 1)

        return _by_episode(compute)

    return (
        Column("window_observations", window(lambda episode: episode.observations)),
        Column("window_actions", window(lambda episode: episode.actions)),
        Column(
            "window_returns_to_go",
            window(lambda episode: _sums_to_come(episode.rewards)),
            needs_ends=True,
        ),
        Column("window_mask", window(lambda episode: np.ones(len(episode), np.bool_))),
    )


def columns_of(agent: Any) -> tuple[Column, ...]:
    """Return the derived columns that an agent learns from.

    These are the columns that its objectives name, and those of its `derived_columns` that replace
    a stored field or are called `drawn`; all `derived_columns` if it declares no objectives, like a
    student's.

    Raises:
        ValueError: If an objective names a column that does not exist.
    """
    derive = getattr(agent, "derived_columns", None)
    own = {column.name: column for column in derive()} if callable(derive) else {}
    known = BUILT_IN | own
    named = _named(agent)
    asked = [name for name in own if named is None or name in (*Batch._fields, DRAWN)]
    for name in named or ():
        if name not in known and name not in Batch._fields:
            raise ValueError(
                f"{type(agent).__name__}: an objective names the column {name!r}; "
                f"the known columns are {', '.join([*Batch._fields, *known])}"
            )
        asked += [name] if name in known else []
    return tuple(known[name] for name in dict.fromkeys(asked))


def _named(agent: Any) -> list[str] | None:
    """Return the columns that an agent's objectives name; None if it declares no objectives."""
    try:
        objectives = getattr(agent, "objectives", None)
    except NotImplementedError:  # not written yet, in a starter
        return None
    if objectives is None:
        return None
    named = [name for objective in objectives for name in objective.inputs]
    return [*named, *getattr(agent, "further_columns", ())]


def check_columns(columns: Iterable[Column], data: Mapping[str, Array], what: str) -> None:
    """Check that columns can be derived from a dataset.

    Args:
        columns: The columns that an agent learns from.
        data: At least `terminated` and `truncated`, each `(N,)`.
        what: A description of the dataset and its reader, for the error message.

    Raises:
        UserError: If no episode ends in the data, but a column needs that.
    """
    for column in columns:
        if column.needs_ends and not (data["terminated"] | data["truncated"]).any():
            raise UserError(
                f"{what}: no episode ends in this dataset, so it has no `{column.name}` to learn "
                "from; explore for more steps, or use an algorithm that does not need them"
            )


def first_changed(column: Column, transitions: Transitions, since: int) -> int:
    """Return the first row of a column that the transitions from row `since` on may change."""
    if column.reach == "all":
        return 0
    if column.reach == "episode":
        before = np.flatnonzero(transitions.ends[:since])
        return int(before[-1]) + 1 if len(before) else 0
    return since


def recompute(column: Column, transitions: Transitions, first: int) -> Array:
    """Return the rows of a column from `first` on, which begins an episode if `reach` is one."""
    start = max(0, first - column.reach) if isinstance(column.reach, int) else first
    return column.compute(transitions[start:])[first - start :]
