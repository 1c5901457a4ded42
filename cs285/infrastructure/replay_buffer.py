"""Replay buffers of several runs side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from cs285.infrastructure import pytorch_util as ptu
from cs285.infrastructure.objective import Batch


class ReplayBuffer:
    """One ring buffer per run, all of one capacity, resident on the device.

    A full ring overwrites its oldest transition. Runs may hold different numbers of transitions.

    Args:
        num_runs: Number of rings, S.
        capacity: Transitions that each ring can hold.
        observation_shape: Shape of one observation.
        reward_weights: Factor of each run's rewards in what it learns from; 1 by default. The rings
            keep the rewards as they were.
    """

    def __init__(
        self,
        num_runs: int,
        capacity: int,
        observation_shape: tuple[int, ...],
        reward_weights: Sequence[float] | None = None,
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
        self._reward_weights = np.ones(num_runs, np.float32)
        # Views of `storage` in which all rings follow each other.
        self._flat = [field.flatten(0, 1) for field in self.storage]
        self.transitions = Batch(*self._flat)
        """What the runs learn from, one ring after the other `(S * capacity, ...)`."""
        if reward_weights is not None and any(weight != 1 for weight in reward_weights):
            self._reward_weights[:] = reward_weights
            self.transitions = self.transitions._replace(rewards=self._flat[2].clone())

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
        stored = (observations, actions, rewards, next_observations, terminated)
        self._write(self._flat, rows, stored)
        if self.transitions.rewards is not self._flat[2]:
            self._write([self.transitions.rewards], rows, [rewards * self._reward_weights])
        self.truncated.reshape(-1)[rows] = truncated
        self.inserted += 1

    @staticmethod
    def _write(
        fields: Sequence[torch.Tensor], rows: np.ndarray, values: Sequence[np.ndarray]
    ) -> None:
        """Put values `(n, ...)` into fields at `rows (n,)`."""
        for field, new in zip(fields, values, strict=True):
            if field.device.type == "cpu":
                field.numpy()[rows] = new
            else:
                index = torch.from_numpy(rows).to(field.device)
                field[index] = torch.as_tensor(new, dtype=field.dtype, device=field.device)

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
        if self.transitions.rewards is not self._flat[2]:
            learned = self.transitions.rewards.view(self.storage.rewards.shape)
            learned[run] = self.storage.rewards[run] * float(self._reward_weights[run])
        self.inserted[run] = count

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


def look_up(transitions: Batch, rows: np.ndarray) -> Batch:
    """Return a batch `(S, batch, ...)` of the transitions at `rows (S, batch)`."""
    if transitions.rewards.device.type == "cpu":
        # NumPy takes a fifth of the time that PyTorch does.
        return Batch(*(torch.from_numpy(field.numpy().take(rows, axis=0)) for field in transitions))
    index = torch.from_numpy(rows).to(transitions.rewards.device)
    return Batch(*(field[index] for field in transitions))
