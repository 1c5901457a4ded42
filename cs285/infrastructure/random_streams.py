"""Random numbers of the runs: every run has its own streams, whatever trains beside it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

PURPOSES = ("weights", "environment", "exploration", "batches", "evaluation")
"""Each purpose is a stream of its own, so that drawing more for one never shifts another."""


def derive_seed(seed: int, purpose: str, *parts: int) -> int:
    """Derive a 32-bit seed from a run's seed for one purpose, and possibly one step."""
    sequence = np.random.SeedSequence(seed, spawn_key=(PURPOSES.index(purpose), *parts))
    return int(sequence.generate_state(1)[0])


class UniformStreams:
    """Uniform numbers in [0, 1), one stream per run, drawn many steps ahead.

    A block is consumed exactly as single steps would be, so its length changes nothing but speed.

    Args:
        seeds: One seed per run, S of them.
        width: Numbers that a run uses in one step.
        block: Steps drawn at once.
    """

    def __init__(self, seeds: Sequence[int], width: int, block: int = 64) -> None:
        self._generators = [np.random.default_rng(seed) for seed in seeds]
        self._numbers = np.empty((block, len(seeds), width))
        self._used = block

    def next(self) -> np.ndarray:
        """Return the next numbers of every run `(S, width)`; valid until the next block."""
        block, _, width = self._numbers.shape
        if self._used == block:
            for run, generator in enumerate(self._generators):
                self._numbers[:, run] = generator.random((block, width))
            self._used = 0
        self._used += 1
        numbers: np.ndarray = self._numbers[self._used - 1]
        return numbers
