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
    """

    def __init__(self, num_runs: int, capacity: int, observation_shape: tuple[int, ...]) -> None:
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
        # Views of `storage` in which all rings follow each other. On the CPU NumPy looks rows up
        # in a fifth of the time that PyTorch takes.
        self._flat = [field.flatten(0, 1) for field in self.storage]
        self._on_cpu = ptu.device.type == "cpu"
        self._arrays = [field.numpy() for field in self._flat] if self._on_cpu else []

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
        transitions = (observations, actions, rewards, next_observations, terminated)
        if self._on_cpu:
            for array, values in zip(self._arrays, transitions, strict=True):
                array[rows] = values
        else:
            index = torch.from_numpy(rows).to(ptu.device)
            for field, values in zip(self._flat, transitions, strict=True):
                field[index] = torch.as_tensor(values, dtype=field.dtype, device=field.device)
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
        self.inserted[run] = count

    def sample(self, uniforms: np.ndarray) -> Batch:
        """Look up transitions at uniform numbers `(S, batch)` in [0, 1).

        Drawing numbers rather than indices lets a run draw far ahead while its ring still grows.
        """
        rows = (uniforms * self.sizes[:, None]).astype(np.int64)
        rows += self._starts[:, None]
        if self._on_cpu:
            return Batch(*(torch.from_numpy(array.take(rows, axis=0)) for array in self._arrays))
        index = torch.from_numpy(rows).to(ptu.device)
        return Batch(*(field[index] for field in self._flat))

    def contents(self, run: int) -> Batch:
        """Return what one ring holds, fields `(size, ...)`, in the order of storage."""
        size = int(self.sizes[run])
        return Batch(*(field[run, :size] for field in self.storage))
