"""Replay buffers of several runs side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from cs285.infrastructure import pytorch_util as ptu
from cs285.learning.arrays import fill
from cs285.learning.columns import Column, Transitions, first_changed, recompute
from cs285.learning.objective import Batch, Tensors


class ReplayBuffer:
    """One ring buffer per run, all of one capacity, resident on the device.

    A full ring overwrites its oldest transition. Runs may hold different numbers of transitions.

    Args:
        num_runs: Number of rings, S.
        capacity: Transitions that each ring can hold.
        observation_shape: Shape of one observation.
        derived: Per run, the columns that its agent learns from beyond the stored fields, or in
            place of some; see `columns_of`. The rings keep what happened.
    """

    def __init__(
        self,
        num_runs: int,
        capacity: int,
        observation_shape: tuple[int, ...],
        derived: Sequence[Sequence[Column]] = (),
    ) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, not {capacity}")
        shape = (num_runs, capacity)
        self.capacity = capacity
        self.storage = Batch(
            observations=torch.zeros((*shape, *observation_shape), device=ptu.device),
            actions=torch.zeros(shape, dtype=torch.int64, device=ptu.device),
            rewards=torch.zeros(shape, device=ptu.device),
            next_observations=torch.zeros((*shape, *observation_shape), device=ptu.device),
            dones=torch.zeros(shape, dtype=torch.bool, device=ptu.device),
        )
        self.inserted = np.zeros(num_runs, dtype=np.int64)
        """Transitions that each ring was ever given `(S,)`."""
        self.truncated = np.zeros(shape, dtype=np.bool_)
        """Where a time limit cut an episode `(S, capacity)`; no part of a batch."""
        self.filled = np.zeros(num_runs, dtype=np.int64)
        """Transitions that each ring was given at once, by `fill` `(S,)`."""
        self._starts = np.arange(num_runs) * capacity
        # Views of `storage` in which all rings follow each other.
        self._flat = Batch(*(field.flatten(0, 1) for field in self.storage))
        self._derived = _complete(derived)
        self._columns = {
            column.name: _allocate(column, shape, observation_shape)
            for column in (self._derived[0] if self._derived else ())
        }
        self._shown = self._flat._asdict() | {
            name: column.flatten(0, 1) for name, column in self._columns.items()
        }
        self._followed = np.zeros(num_runs, dtype=np.int64)
        """Transitions of each ring that the derived columns have taken in `(S,)`."""
        # Columns are computed by NumPy; on the CPU these are views.
        self._kept = [field.cpu().numpy() for field in self.storage] if self._columns else []

    @property
    def columns(self) -> Tensors:
        """What the runs learn from, by name, one ring after the other `(S * capacity, ...)`.

        The stored fields and the derived columns, which are brought up to date first.
        """
        if self._columns and not np.array_equal(self._followed, self.inserted):
            for run in range(len(self.inserted)):
                self._follow(run)
        return self._shown

    def _follow(self, run: int) -> None:
        """Recompute what the transitions since the last time can have changed."""
        since, size = int(self._followed[run]), int(self.inserted[run])
        if since == size:
            return
        truncated = self.truncated[run, :size].copy()
        if filled := self.filled[run]:
            truncated[filled - 1] = True  # what follows a dataset belongs to another episode
        arrays = [*(values[run, :size] for values in self._kept), truncated]
        transitions = Transitions(*arrays)
        for column in self._derived[run]:
            first = first_changed(column, transitions, since)
            values = recompute(column, transitions, first)
            self._columns[column.name][run, first:size] = torch.from_numpy(
                np.ascontiguousarray(values)
            )
        self._followed[run] = size

    @property
    def sizes(self) -> np.ndarray:
        """Transitions that each ring holds `(S,)`."""
        return np.minimum(self.inserted, self.capacity)

    def insert(
        self,
        observations: np.ndarray,
        actions: np.ndarray,
        rewards: np.ndarray,
        next_observations: np.ndarray,
        terminated: np.ndarray,
        truncated: np.ndarray,
    ) -> None:
        """Append one transition to every ring; each argument is `(S, ...)`.

        Only `terminated` becomes `dones` of a batch: a time limit does not end the future.

        Raises:
            ValueError: If a ring with derived columns is full.
        """
        if self._columns and self.inserted.max() >= self.capacity:
            raise ValueError(
                f"a ring of {self.capacity} is full; one with derived columns overwrites nothing, "
                "for these need all transitions in order"
            )
        rows = self._starts + self.inserted % self.capacity
        transitions = (observations, actions, rewards, next_observations, terminated)
        _write(self._flat, rows, transitions)
        if self._columns and ptu.device.type != "cpu":
            for kept, values in zip(self._kept, transitions, strict=True):
                kept.reshape(-1, *kept.shape[2:])[rows] = values
        self.truncated.reshape(-1)[rows] = truncated
        self.inserted += 1

    def fill(
        self, run: int, transitions: Sequence[np.ndarray], truncated: np.ndarray | None = None
    ) -> None:
        """Put N transitions into an empty ring; later ones belong to new episodes.

        Args:
            run: Whose ring.
            transitions: Five arrays `(N, ...)` in the order of `Batch`.
            truncated: Where a time limit cut an episode `(N,)`; nowhere by default.

        Raises:
            ValueError: If the ring is not empty or cannot hold all of them.
        """
        count = len(transitions[0])
        if self.inserted[run] or count > self.capacity:
            raise ValueError(
                f"ring {run} of capacity {self.capacity} holds {self.inserted[run]} transitions "
                f"and cannot take {count} more"
            )
        for field, values in zip(self.storage, transitions, strict=True):
            field[run, :count] = torch.as_tensor(values, dtype=field.dtype)
        if truncated is not None:
            self.truncated[run, :count] = truncated
        self.inserted[run] = self.filled[run] = count
        self._keep()

    def get_state(self) -> dict[str, Any]:
        """Return what the rings hold, without the room that is still free.

        Derived columns are not part of it: they are computed again.
        """
        held = slice(int(self.sizes.max()))
        return {
            "inserted": self.inserted,
            "filled": self.filled,
            "truncated": self.truncated[:, held],
            "transitions": [field[:, held] for field in self.storage],
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore what `get_state` of as many rings returned, of any capacity that suffices.

        None of them may have overwritten anything.
        """
        held = slice(state["truncated"].shape[1])
        fill(self.inserted, state["inserted"])
        fill(self.filled, state["filled"])
        if not 0 <= int(self.inserted.min()) <= int(self.sizes.max()) == held.stop:
            raise ValueError(f"rings of {self.capacity} cannot hold {held.stop} transitions")
        fill(self.truncated[:, held], state["truncated"])
        for field, values in zip(self.storage, state["transitions"], strict=True):
            fill(field[:, held], values)
        self._followed[:] = 0
        self._keep()

    def _keep(self) -> None:
        """Bring NumPy's copies up to date; on the CPU they are views."""
        if self._columns and ptu.device.type != "cpu":
            self._kept = [field.cpu().numpy() for field in self.storage]

    def rows(self, uniforms: np.ndarray) -> np.ndarray:
        """Turn uniform numbers `(..., S, batch)` in [0, 1) into rows of `columns`.

        Drawing numbers rather than indices lets a run draw far ahead while its ring still grows.
        """
        rows: np.ndarray = (uniforms * self.sizes[:, None]).astype(np.int64)
        rows += self._starts[:, None]
        return rows

    def contents(self, run: int) -> Batch:
        """Return what one ring holds, fields `(size, ...)`, in the order of storage."""
        size = int(self.sizes[run])
        return Batch(*(field[run, :size] for field in self.storage))


def _complete(derived: Sequence[Sequence[Column]]) -> list[list[Column]]:
    """Give every run the same columns: those that stand in for a field, or the field itself."""
    names = dict.fromkeys(column.name for own in derived for column in own)
    return [
        [known.get(name) or _stored(name) for name in names]
        for own in derived
        for known in [{column.name: column for column in own}]
    ]


def _stored(name: str) -> Column:
    if name not in Batch._fields:
        raise ValueError(f"only some of the runs have the column {name!r}")

    def compute(transitions: Transitions) -> np.ndarray:
        values: np.ndarray = getattr(transitions, name)
        return values

    return Column(name, compute, reach=0)


def _allocate(
    column: Column, shape: tuple[int, int], observation_shape: tuple[int, ...]
) -> torch.Tensor:
    """Make room for a column, of the shape and type that it gives for one transition."""
    observations, flag = np.zeros((1, *observation_shape), np.float32), np.ones(1, np.bool_)
    one = Transitions(
        observations, np.zeros(1, np.int64), np.zeros(1, np.float32), observations, flag, flag
    )
    row = torch.from_numpy(np.ascontiguousarray(column.compute(one)))[0]
    kind = torch.float32 if row.dtype.is_floating_point else row.dtype
    return torch.zeros((*shape, *row.shape), dtype=kind, device=ptu.device)


def _write(fields: Iterable[torch.Tensor], rows: np.ndarray, values: Iterable[np.ndarray]) -> None:
    """Put values `(n, ...)` into fields at `rows (n,)`."""
    for field, new in zip(fields, values, strict=True):
        if field.device.type == "cpu":
            field.numpy()[rows] = new
        else:
            index = torch.from_numpy(rows).to(field.device)
            field[index] = torch.as_tensor(new, dtype=field.dtype, device=field.device)


def look_up(columns: Mapping[str, torch.Tensor], rows: np.ndarray) -> Tensors:
    """Return a batch, each column `(S, batch, ...)`, of columns `(N, ...)` at `rows (S, batch)`."""
    if all(column.device.type == "cpu" for column in columns.values()):
        # NumPy takes a fifth of the time that PyTorch does.
        return {
            name: torch.from_numpy(column.numpy().take(rows, axis=0))
            for name, column in columns.items()
        }
    index = torch.from_numpy(rows).to(ptu.device)
    return {name: column[index] for name, column in columns.items()}
