"""Random numbers: every run has its own streams, whatever else trains with it."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from cs285.infrastructure import pytorch_util as ptu
from cs285.learning.arrays import fill

PURPOSES = ("weights", "environment", "exploration", "batches", "evaluation", "exact")
"""Each purpose has a separate stream, so that drawing more for one never shifts another."""


def derive_seed(seed: int, purpose: str, *parts: int) -> int:
    """Derive a 32-bit seed from a run's seed for one purpose, and possibly one step."""
    sequence = np.random.SeedSequence(seed, spawn_key=(PURPOSES.index(purpose), *parts))
    return int(sequence.generate_state(1)[0])


@contextmanager
def separate_generators(agents: Iterable[object], seeds: Iterable[int]) -> Iterator[None]:
    """Reseed the generators that agents draw from, and restore them at the end.

    These are the global generators, and the agent's `generator` if it has one. An agent that draws
    its own actions also draws in evaluation. That must not change training, and two evaluations
    must not draw the same numbers.

    Args:
        agents: S agents.
        seeds: One seed per agent; the first also seeds the global generators.
    """
    agents, seeds = list(agents), list(seeds)
    found = [(getattr(agent, "generator", None), k) for agent, k in zip(agents, seeds, strict=True)]
    own = [(x, k) for x, k in found if isinstance(x, torch.Generator)]
    states = [generator.get_state() for generator, _ in own]
    python_state = random.getstate()
    numpy_state = np.random.get_state()  # noqa: NPY002 - the generator that such agents draw from
    devices = [ptu.device] if ptu.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        try:
            torch.manual_seed(seeds[0])
            for generator, k in own:
                generator.manual_seed(k)
            random.seed(seeds[0])
            np.random.seed(seeds[0])  # noqa: NPY002 - as above
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)  # noqa: NPY002 - as above
            for (generator, _), state in zip(own, states, strict=True):
                generator.set_state(state)


def get_global_generators() -> dict[str, Any]:
    """Return the states of the generators that agents of any kind may draw from."""
    state = {
        "python": random.getstate(),
        "numpy": pack_legacy(np.random.get_state()),  # noqa: NPY002 - as above
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # torch declares no types
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_global_generators(state: dict[str, Any]) -> None:
    """Restore what `get_global_generators` returned."""
    random.setstate(state["python"])
    np.random.set_state(unpack_legacy(state["numpy"]))  # noqa: NPY002 - as above
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.device_count() == len(state["cuda"]):
        torch.cuda.set_rng_state_all(state["cuda"])


def pack_legacy(state: Any) -> tuple[Any, ...]:
    """Convert the state of NumPy's legacy generator to types that PyTorch supports."""
    kind, keys, *position = state
    return (kind, np.asarray(keys).astype(np.int64), *position)


def unpack_legacy(state: Sequence[Any]) -> tuple[Any, ...]:
    """Undo `pack_legacy`."""
    kind, keys, *position = state
    return (kind, np.asarray(keys).astype(np.uint32), *position)


class UniformStreams:
    """Uniform numbers in [0, 1), one stream per run, drawn many steps ahead.

    A block is consumed exactly as single steps would be, so its length affects only the speed.

    Args:
        seeds: One seed per run, S of them.
        width: Number of random numbers that a run uses per step.
        block: Number of steps drawn at once.
    """

    def __init__(self, seeds: Sequence[int], width: int, block: int = 64) -> None:
        self._generators = [np.random.default_rng(seed) for seed in seeds]
        self._numbers = np.empty((block, len(seeds), width))
        self._used = block

    def next(self) -> np.ndarray:
        """Return the next numbers of every run `(S, width)`; valid until the next block."""
        numbers: np.ndarray = self.take(1)[0]
        return numbers

    def take(self, most: int) -> np.ndarray:
        """Return the numbers of the next k steps `(k, S, width)`, with k from 1 to `most`.

        They are valid until the next block.
        """
        block, _, width = self._numbers.shape
        if self._used == block:
            for run, generator in enumerate(self._generators):
                self._numbers[:, run] = generator.random((block, width))
            self._used = 0
        start, self._used = self._used, min(self._used + most, block)
        return self._numbers[start : self._used]

    def get_state(self) -> dict[str, Any]:
        """Return everything that the next numbers depend on."""
        return {
            "generators": [generator.bit_generator.state for generator in self._generators],
            "numbers": self._numbers,
            "used": self._used,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore a state that `get_state` returned for the same number of streams."""
        fill(self._numbers, state["numbers"])
        for generator, bits in zip(self._generators, state["generators"], strict=True):
            generator.bit_generator.state = bits
        self._used = int(state["used"])
