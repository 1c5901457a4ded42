"""Replay buffers of several runs side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from cs285.infrastructure import pytorch_util as ptu
from cs285.learning.arrays import fill
from cs285.learning.columns import DRAWN, Column, Transitions, first_changed, recompute
from cs285.learning.objective import Batch, Tensors


class ReplayBuffer:
    """One ring buffer per run, all of one capacity, resident on the device.

    A full ring overwrites its oldest transition. Runs may hold different numbers of transitions.

    Args:
        num_runs: Number of rings, S.
        capacity: Number of transitions that each ring can hold.
        observation_shape: Shape of one observation.
        derived: Per run, the columns that its agent learns from in addition to the stored fields,
            or in place of them, and perhaps the column `drawn`; see `columns_of`. The rings store
            the original fields.
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
        """Number of transitions ever inserted into each ring `(S,)`."""
        self.truncated = np.zeros(shape, dtype=np.bool_)
        """Where a time limit truncated an episode `(S, capacity)`; not part of a batch."""
        self.filled = np.zeros(num_runs, dtype=np.int64)
        """Number of transitions that `fill` put into each ring `(S,)`."""
        self._starts = np.arange(num_runs) * capacity
        # Views of `storage` with all rings one after the other.
        self._flat = Batch(*(field.flatten(0, 1) for field in self.storage))
        self._derived = _complete(derived)
        self._columns = {
            column.name: _allocate(column, shape, observation_shape)
            for column in (self._derived[0] if self._derived else ())
        }
        self._shown = self._flat._asdict() | {
            name: column.flatten(0, 1) for name, column in self._columns.items()
        }
        self._drawn = [np.empty(0, np.int64)] * num_runs if DRAWN in self._columns else None
        """Rows within each ring that batches are drawn from; None for all."""
        self._followed = np.zeros(num_runs, dtype=np.int64)
        """Number of transitions of each ring that the derived columns include `(S,)`."""
        # Columns are computed with NumPy; on the CPU these are views.
        self._kept = [field.cpu().numpy() for field in self.storage] if self._columns else []

    @property
    def columns(self) -> Tensors:
        """The stored fields and the derived columns by name, each `(S * capacity, ...)`.

        The rings follow each other. The derived columns are brought up to date first.
        """
        self._follow_all()
        return self._shown

    def _follow_all(self) -> None:
        if self._columns and not np.array_equal(self._followed, self.inserted):
            for run in range(len(self.inserted)):
                self._follow(run)

    def _follow(self, run: int) -> None:
        """Recompute the rows that new transitions may have changed."""
        since, size = int(self._followed[run]), int(self.inserted[run])
        if since == size:
            return
        cut = np.zeros(size, np.bool_)
        if filled := self.filled[run]:
            cut[filled - 1] = True  # transitions after a dataset belong to another episode
        arrays = [*(values[run, :size] for values in self._kept), self.truncated[run, :size], cut]
        transitions = Transitions(*arrays)
        for column in self._derived[run]:
            first = first_changed(column, transitions, since)
            values = recompute(column, transitions, first)
            self._columns[column.name][run, first:size] = torch.from_numpy(
                np.ascontiguousarray(values)
            )
        self._followed[run] = size
        if self._drawn is not None:
            self._drawn[run] = np.flatnonzero(self._columns[DRAWN][run, :size].cpu().numpy())

    @property
    def sizes(self) -> np.ndarray:
        """Number of transitions in each ring `(S,)`."""
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

        Only `terminated` becomes `dones` of a batch: a time limit is not a termination.

        Raises:
            ValueError: If a ring with derived columns is full.
        """
        if self._columns and self.inserted.max() >= self.capacity:
            raise ValueError(
                f"a ring of {self.capacity} is full; one with derived columns overwrites nothing, "
                "because these need all transitions in order"
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
            run: Index of the ring.
            transitions: Five arrays `(N, ...)` in the order of `Batch`.
            truncated: Where a time limit truncated an episode `(N,)`; nowhere by default.

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
        """Return the contents of the rings, without free space.

        Derived columns are left out, since they can be recomputed.
        """
        held = slice(int(self.sizes.max()))
        return {
            "inserted": self.inserted,
            "filled": self.filled,
            "truncated": self.truncated[:, held],
            "transitions": [field[:, held] for field in self.storage],
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore a state of the same number of rings, whose capacity may have differed.

        None of those rings may have overwritten a transition.
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
        """Convert uniform numbers `(..., S, batch)` in [0, 1) to rows of `columns`.

        Drawing numbers rather than indices lets a run draw far ahead while its ring is growing.

        Raises:
            ValueError: If the column `drawn` excludes all transitions of a ring.
        """
        if self._drawn is not None:
            self._follow_all()
            sizes = np.array([len(drawn) for drawn in self._drawn])
            if not sizes.all():
                raise ValueError("no transition may be drawn")
        else:
            sizes = self.sizes
        rows: np.ndarray = (uniforms * sizes[:, None]).astype(np.int64)
        if self._drawn is not None:
            for run, drawn in enumerate(self._drawn):
                rows[..., run, :] = drawn[rows[..., run, :]]
        rows += self._starts[:, None]
        return rows

    def contents(self, run: int) -> Batch:
        """Return the contents of one ring, fields `(size, ...)`, in the order of storage."""
        size = int(self.sizes[run])
        return Batch(*(field[run, :size] for field in self.storage))


def _complete(derived: Sequence[Sequence[Column]]) -> list[list[Column]]:
    """Give every run the same columns; where a run lacks one, the stored field is used."""
    names = dict.fromkeys(column.name for own in derived for column in own)
    return [
        [known.get(name) or _stored(name) for name in names]
        for own in derived
        for known in [{column.name: column for column in own}]
    ]


def _stored(name: str) -> Column:
    if name == DRAWN:
        return Column(name, lambda transitions: np.ones(len(transitions), np.bool_), reach=0)
    if name not in Batch._fields:
        raise ValueError(f"only some of the runs have the column {name!r}")

    def compute(transitions: Transitions) -> np.ndarray:
        values: np.ndarray = getattr(transitions, name)
        return values

    return Column(name, compute, reach=0)


def _allocate(
    column: Column, shape: tuple[int, int], observation_shape: tuple[int, ...]
) -> torch.Tensor:
    """Allocate a column with the shape and type that it has for one transition."""
    observations, flag = np.zeros((1, *observation_shape), np.float32), np.ones(1, np.bool_)
    one = Transitions(
        observations, np.zeros(1, np.int64), np.zeros(1, np.float32), observations, flag, flag
    )
    row = torch.from_numpy(np.ascontiguousarray(column.compute(one)))[0]
    kind = torch.float32 if row.dtype.is_floating_point else row.dtype
    return torch.zeros((*shape, *row.shape), dtype=kind, device=ptu.device)


def _write(fields: Iterable[torch.Tensor], rows: np.ndarray, values: Iterable[np.ndarray]) -> None:
    """Write values `(n, ...)` to fields at `rows (n,)`."""
    for field, new in zip(fields, values, strict=True):
        if field.device.type == "cpu":
            field.numpy()[rows] = new
        else:
            index = torch.from_numpy(rows).to(field.device)
            field[index] = torch.as_tensor(new, dtype=field.dtype, device=field.device)


def look_up(columns: Mapping[str, torch.Tensor], rows: np.ndarray) -> Tensors:
    """Return a batch `(S, batch, ...)` with the rows `(S, batch)` of columns `(N, ...)`."""
    if all(column.device.type == "cpu" for column in columns.values()):
        # NumPy takes a fifth of PyTorch's time.
        return {
            name: torch.from_numpy(column.numpy().take(rows, axis=0))
            for name, column in columns.items()
        }
    index = torch.from_numpy(rows).to(ptu.device)
    return {name: column[index] for name, column in columns.items()}
