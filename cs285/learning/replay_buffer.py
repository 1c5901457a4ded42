"""Replay buffers of several runs side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from cs285.infrastructure import pytorch_util as ptu
from cs285.infrastructure.arrays import fill
from cs285.learning.objective import Batch, Tensors


class ReplayBuffer:
    """One ring buffer per run, all of one capacity, resident on the device.

    A full ring overwrites its oldest transition. Runs may hold different numbers of transitions.

    Args:
        num_runs: Number of rings, S.
        capacity: Transitions that each ring can hold.
        observation_shape: Shape of one observation.
        hides_task: Per run, whether what it learns from shows neither rewards, which are all 0,
            nor terminations: where an episode ended becomes an absorbing state (Sutton and Barto
            2018, section 3.4), with one transition from it to itself in place of the first one of
            the next episode. The rings keep everything as it was.
    """

    def __init__(
        self,
        num_runs: int,
        capacity: int,
        observation_shape: tuple[int, ...],
        hides_task: Sequence[bool] = (),
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
        self._starts = np.arange(num_runs) * capacity
        # Views of `storage` in which all rings follow each other.
        self._flat = Batch(*(field.flatten(0, 1) for field in self.storage))
        self._hides_task = np.array(hides_task or [False] * num_runs)
        self._shown = self.storage
        if self._hides_task.any():
            self._shown = Batch(*map(torch.zeros_like, self.storage))
        self.transitions = Batch(*(field.flatten(0, 1) for field in self._shown))
        """What the runs learn from, one ring after the other `(S * capacity, ...)`."""
        self._absorbs = np.zeros(num_runs, dtype=np.bool_)
        """Whether the last transition of a run that hides its task ended an episode `(S,)`."""
        self._ends = np.zeros((num_runs, *observation_shape), dtype=np.float32)
        """Where the last transition led."""

    @property
    def columns(self) -> dict[str, torch.Tensor]:
        """What the runs learn from, by name, one ring after the other `(S * capacity, ...)`."""
        return self.transitions._asdict()

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

        Only `terminated` becomes `dones` of a batch: after a timeout the future goes on.
        """
        rows = self._starts + self.inserted % self.capacity
        _write(self._flat, rows, (observations, actions, rewards, next_observations, terminated))
        if self._shown is not self.storage:
            absorbs = self._absorbs.reshape(-1, *[1] * (observations.ndim - 1))
            shown = (
                np.where(absorbs, self._ends, observations),
                actions,
                np.where(self._hides_task, 0.0, rewards),
                np.where(absorbs, self._ends, next_observations),
                terminated & ~self._hides_task,
            )
            _write(self.transitions, rows, shown)
            self._absorbs[:] = terminated & self._hides_task
            self._ends[:] = next_observations
        self.truncated.reshape(-1)[rows] = truncated
        self.inserted += 1

    def fill(self, run: int, transitions: Sequence[np.ndarray]) -> None:
        """Put N transitions, five arrays `(N, ...)` in the order of `Batch`, into an empty ring.

        Raises:
            ValueError: If the ring is not empty or cannot hold all of them, or hides its task.
        """
        count = len(transitions[0])
        if self._hides_task[run]:
            raise ValueError(f"run {run} hides its task, of which given transitions tell")
        if self.inserted[run] or count > self.capacity:
            raise ValueError(
                f"ring {run} of capacity {self.capacity} holds {self.inserted[run]} transitions "
                f"and cannot take {count} more"
            )
        for field, values in zip(self.storage, transitions, strict=True):
            field[run, :count] = torch.as_tensor(values, dtype=field.dtype)
        if self._shown is not self.storage:
            for shown, own in zip(self._shown, self.storage, strict=True):
                shown[run] = own[run]
        self.inserted[run] = count

    def get_state(self) -> dict[str, Any]:
        """Return what the rings hold, without the room that is still free."""
        held = slice(int(self.sizes.max()))
        return {
            "inserted": self.inserted,
            "truncated": self.truncated[:, held],
            "transitions": [[field[:, held] for field in view] for view in self._views()],
            "absorbs": self._absorbs,
            "ends": self._ends,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore what `get_state` of as many rings returned, of any capacity that suffices.

        None of them may have overwritten anything.
        """
        held = slice(state["truncated"].shape[1])
        fill(self.inserted, state["inserted"])
        if not 0 <= int(self.inserted.min()) <= int(self.sizes.max()) == held.stop:
            raise ValueError(f"rings of {self.capacity} cannot hold {held.stop} transitions")
        fill(self.truncated[:, held], state["truncated"])
        for view, saved in zip(self._views(), state["transitions"], strict=True):
            for field, values in zip(view, saved, strict=True):
                fill(field[:, held], values)
        fill(self._absorbs, state["absorbs"])
        fill(self._ends, state["ends"])

    def _views(self) -> list[Batch]:
        return [self.storage] if self._shown is self.storage else [self.storage, self._shown]

    def rows(self, uniforms: np.ndarray) -> np.ndarray:
        """Turn uniform numbers `(..., S, batch)` in [0, 1) into rows of `transitions`.

        Drawing numbers rather than indices lets a run draw far ahead while its ring still grows.
        """
        rows: np.ndarray = (uniforms * self.sizes[:, None]).astype(np.int64)
        rows += self._starts[:, None]
        return rows

    def contents(self, run: int) -> Batch:
        """Return what one ring holds, fields `(size, ...)`, in the order of storage."""
        size = int(self.sizes[run])
        return Batch(*(field[run, :size] for field in self.storage))


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
    index = torch.from_numpy(rows)
    return {name: column[index.to(column.device)] for name, column in columns.items()}
