"""Derived columns: what a batch can show beyond the stored fields of its transitions.

A column is a pure function of one run's transitions in the order in which they were collected. The
buffer computes it once for a dataset, and online only where a new transition can have changed it.
Only objectives that name a column in their `inputs` see it. Built in, by name:

    returns_to_go         sum of the rewards from this transition to its episode's end
    next_actions          action of the next transition; at an episode's end, this one's own
    episode_steps         transitions of the episode before this one
    episode_returns       sum of the rewards of the whole episode

and, for agents that put them among their `derived_columns`, `discounted_returns_to_go` and the
windows of the last K steps. An episode ends where it terminated or a time limit cut it. The last
episode of a dataset may be unfinished; then it ends where the data do, so its returns-to-go lack
what it would still have earned. What is collected after a dataset begins a new episode.
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


@dataclass(frozen=True)
class Transitions:
    """Transitions of one run, in order; N of them."""

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
    """`(N,)` bool: a time limit cut the episode here."""

    def __len__(self) -> int:
        return len(self.actions)

    def __getitem__(self, rows: slice) -> Transitions:
        return Transitions(*(values[rows] for values in vars(self).values()))

    @property
    def ends(self) -> Array:
        """Return where episodes end `(N,)`."""
        ends: Array = self.dones | self.truncated
        return ends

    def episodes(self) -> list[slice]:
        """Return the rows of each episode, the unfinished one at the end included."""
        stops = [*(np.flatnonzero(self.ends) + 1).tolist(), len(self)]
        return [slice(*edges) for edges in pairwise([0, *dict.fromkeys(stops)]) if len(self)]


@dataclass(frozen=True)
class Column:
    """A column that is derived from transitions.

    If its name is that of a stored field, such as `rewards`, this agent sees it in that field's
    place; the buffer still keeps what happened.
    """

    name: str
    compute: Callable[[Transitions], Array]
    """From N transitions to N rows. A pure function of the rows that `reach` allows."""
    reach: int | Literal["episode", "all"] = "episode"
    """What decides a row: this many transitions before it and itself, its episode, or all."""
    needs_ends: bool = False
    """Whether data in which no episode ends cannot give it."""


def _by_episode(compute: Callable[[Transitions], Array]) -> Callable[[Transitions], Array]:
    """Apply a function to each episode on its own, so that no other one can change its rounding."""

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

BUILT_IN = {
    column.name: column for column in (RETURNS_TO_GO, NEXT_ACTIONS, EPISODE_STEPS, EPISODE_RETURNS)
}
"""Columns that any objective may name."""


def discounted_returns_to_go(discount: float) -> Column:
    """Return the column of that name: `sum_k discount^k r_{t+k}` to the episode's end."""

    def compute(episode: Transitions) -> Array:
        return _sums_to_come(episode.rewards, discount)

    return Column("discounted_returns_to_go", _by_episode(compute), needs_ends=True)


def windows(length: int) -> tuple[Column, ...]:
    """Return columns of the last K steps of the episode, this one last.

    `window_observations (N, K, ...)`, `window_actions (N, K)`, `window_returns_to_go (N, K)`, and
    `window_mask (N, K)`, which is False where an episode is younger than the window; there the
    others are 0.

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

    These are the ones that its objectives name, and those of its `derived_columns` that stand in
    for a stored field; all of these if it states no objectives, as a student's.

    Raises:
        ValueError: If an objective names a column that does not exist.
    """
    derive = getattr(agent, "derived_columns", None)
    own = {column.name: column for column in derive()} if callable(derive) else {}
    known = BUILT_IN | own
    named = _named(agent)
    asked = [name for name in own if named is None or name in Batch._fields]
    for name in named or ():
        if name not in known and name not in Batch._fields:
            raise ValueError(
                f"{type(agent).__name__}: an objective names the column {name!r}; "
                f"the known columns are {', '.join([*Batch._fields, *known])}"
            )
        asked += [name] if name in known else []
    return tuple(known[name] for name in dict.fromkeys(asked))


def _named(agent: Any) -> list[str] | None:
    """Return the columns that an agent's objectives name; None for one that states nothing."""
    try:
        objectives = getattr(agent, "objectives", None)
    except NotImplementedError:  # not written yet, in a starter
        return None
    if objectives is None:
        return None
    named = [name for objective in objectives for name in objective.inputs]
    return [*named, *getattr(agent, "further_columns", ())]


def check_columns(columns: Iterable[Column], data: Mapping[str, Array], what: str) -> None:
    """Check that a dataset can give some columns.

    Args:
        columns: What an agent learns from.
        data: Has at least `terminated` and `truncated`, each `(N,)`.
        what: Names the dataset and who learns from it.

    Raises:
        UserError: If no episode ends in it, but a column needs that.
    """
    for column in columns:
        if column.needs_ends and not (data["terminated"] | data["truncated"]).any():
            raise UserError(
                f"{what}: no episode ends in this dataset, so it has no `{column.name}` to learn "
                "from; explore for more steps, or learn with an algorithm that needs none"
            )


def first_changed(column: Column, transitions: Transitions, since: int) -> int:
    """Return the first row of a column that transitions from row `since` on can have changed."""
    if column.reach == "all":
        return 0
    if column.reach == "episode":
        before = np.flatnonzero(transitions.ends[:since])
        return int(before[-1]) + 1 if len(before) else 0
    return since


def recompute(column: Column, transitions: Transitions, first: int) -> Array:
    """Return the rows of a column from row `first` on, which begins an episode if that matters."""
    start = max(0, first - column.reach) if isinstance(column.reach, int) else first
    return column.compute(transitions[start:])[first - start :]
