"""The replay buffer that the homework's files import: one run, one transition at a time.

Training here uses `cs285.learning.replay_buffer`, which holds many runs at once.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FIELDS = ("observations", "actions", "rewards", "next_observations", "dones")


class ReplayBuffer:
    """Keeps the latest transitions.

    Args:
        capacity: Number of transitions it keeps; later ones replace the oldest.
    """

    observations: npt.NDArray[np.generic]
    actions: npt.NDArray[np.generic]
    rewards: npt.NDArray[np.generic]
    next_observations: npt.NDArray[np.generic]
    dones: npt.NDArray[np.generic]

    def __init__(self, capacity: int = 1_000_000) -> None:
        self.max_size = capacity
        self.size = 0
        """Number of transitions ever inserted, as in the homework's pickled buffers."""

    def __len__(self) -> int:
        return min(self.size, self.max_size)

    def insert(
        self,
        observation: npt.ArrayLike,
        action: npt.ArrayLike,
        reward: npt.ArrayLike,
        next_observation: npt.ArrayLike,
        done: npt.ArrayLike,
    ) -> None:
        """Append one transition, whose values must have the same shapes every time.

        Args:
            observation: `(*observation_shape)`.
            action: A number, or an array.
            reward: A number.
            next_observation: `(*observation_shape)`.
            done: Whether the episode terminated; a time limit is not a termination.
        """
        given = (observation, action, reward, next_observation, done)
        values = [np.asarray(value) for value in given]
        if not hasattr(self, "dones"):
            for name, value in zip(FIELDS, values, strict=True):
                dtype = value.dtype
                if name == "rewards":
                    dtype = np.dtype(np.float32)  # `-1` would make a buffer of integers
                setattr(self, name, np.empty((self.max_size, *value.shape), dtype))
        for name, value in zip(FIELDS, values, strict=True):
            column = getattr(self, name)
            if value.shape != column.shape[1:]:
                raise ValueError(
                    f"{name} have the shape {column.shape[1:]} in this buffer, not {value.shape}"
                )
            column[self.size % self.max_size] = value
        self.size += 1

    def sample(self, batch_size: int) -> dict[str, npt.NDArray[np.generic]]:
        """Draw transitions with replacement, from NumPy's global generator.

        Returns:
            `observations`, `actions`, `rewards`, `next_observations` and `dones`, each with
            `batch_size` rows.

        Raises:
            ValueError: If the buffer is empty.
        """
        if not self.size:
            raise ValueError("an empty replay buffer cannot be sampled; insert transitions first")
        rows = np.random.randint(0, len(self), size=batch_size)  # noqa: NPY002 - the generator that the homework's files draw from
        return {name: getattr(self, name)[rows] for name in FIELDS}
