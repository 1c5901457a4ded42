"""Replay buffers of several runs side by side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from cs285.infrastructure import pytorch_util as ptu
from cs285.infrastructure.checkpoints import fill
from cs285.infrastructure.objective import Batch


class ReplayBuffer:
    """One ring buffer per run, all of one capacity, resident on the device.

    A full ring overwrites its oldest transition. Runs may hold different numbers of transitions.

    Args:
        num_runs: Number of rings, S.
        capacity: Transitions that each ring can hold.
        observation_shape: Shape of one observation.
        hides_task: Per run, whether what it learns from shows no rewards (all 0) and no
            terminations. The rings keep both as they were.
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
        self.transitions = self._flat
        """What the runs learn from, one ring after the other `(S * capacity, ...)`."""
        self._shows_task = ~np.array(hides_task or [False] * num_runs)
        if not self._shows_task.all():
            self.transitions = self._flat._replace(
                rewards=torch.zeros_like(self._flat.rewards),
                dones=torch.zeros_like(self._flat.dones),
            )

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
        if self.transitions is not self._flat:
            shown = self._shows_task
            task = (self.transitions.rewards, self.transitions.dones)
            _write(task, rows[shown], (rewards[shown], terminated[shown]))
        self.truncated.reshape(-1)[rows] = truncated
        self.inserted += 1

    def fill(self, run: int, transitions: Sequence[np.ndarray]) -> None:
        """Put N transitions, five arrays `(N, ...)` in the order of `Batch`, into an empty ring.

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
        if self._shows_task[run]:
            start = int(self._starts[run])
            for shown, own in zip(self.transitions, self._flat, strict=True):
                shown[start : start + count] = own[start : start + count]
        self.inserted[run] = count

    def get_state(self) -> dict[str, Any]:
        """Return what the rings hold, without the room that is still free."""
        held = slice(int(self.sizes.max()))
        return {
            "inserted": self.inserted,
            "truncated": self.truncated[:, held],
            "transitions": [field[:, held] for field in self.storage],
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore what `get_state` of as many rings returned, of any capacity that suffices."""
        held = slice(state["truncated"].shape[1])
        fill(self.inserted, state["inserted"])
        if not 0 <= int(self.inserted.min()) <= int(self.sizes.max()) == held.stop:
            raise ValueError(f"rings of {self.capacity} cannot hold {held.stop} transitions")
        fill(self.truncated[:, held], state["truncated"])
        for field, saved in zip(self.storage, state["transitions"], strict=True):
            fill(field[:, held], saved)
        if self.transitions is not self._flat:
            shown = np.repeat(self._shows_task, self.capacity)
            for task, own in ((self.transitions[k], self._flat[k]) for k in (2, 4)):
                task[shown] = own[shown]

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


def look_up(transitions: Batch, rows: np.ndarray) -> Batch:
    """Return a batch `(S, batch, ...)` of the transitions at `rows (S, batch)`."""
    if transitions.rewards.device.type == "cpu":
        # NumPy takes a fifth of the time that PyTorch does.
        return Batch(*(torch.from_numpy(field.numpy().take(rows, axis=0)) for field in transitions))
    index = torch.from_numpy(rows).to(transitions.rewards.device)
    return Batch(*(field[index] for field in transitions))
