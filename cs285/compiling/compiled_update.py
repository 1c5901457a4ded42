"""The compiled update that a learner calls."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.fx import GraphModule

from cs285.compiling.building import build
from cs285.compiling.codegen import ALIGNMENT, generate
from cs285.compiling.lowering import lower
from cs285.compiling.target import Target


class CompiledUpdate:
    """The update of one run in C++, for any number of runs and updates.

    Args:
        graph: One run's update as `tracing.trace` returns it with `decomposes`: it takes the run's
            state and the fields of a batch, and returns new values for some of the state, then
            metrics.
        num_state: Number of inputs that are state.
        changed: Indices of the state inputs that the first results replace.
        target: The compiler.
        cache: Folder for compiled libraries, created if it does not exist.

    Raises:
        UnsupportedOperationError: If there is no rule for an operation of the graph.
        CompilerError: If the compiler fails, or the folder cannot be used.
    """

    def __init__(
        self,
        graph: GraphModule,
        num_state: int,
        changed: Sequence[int],
        target: Target,
        cache: Path,
    ) -> None:
        program = lower(graph.graph, target.lanes, target.widest_tile)
        source = generate(program, num_state, changed, target)
        self.flops = program.flops
        """Floating-point operations in the matrix products of one update of one run."""
        self._metrics = len(program.outputs) - len(changed)
        self._train = build(source.text, target, cache).train
        self._train.restype = None
        self._train.argtypes = [ctypes.c_int64, ctypes.c_int64, *[ctypes.c_void_p] * 5]
        self._scratch = torch.empty(source.scratch_bytes, dtype=torch.uint8)
        self._scratch_start = -(-self._scratch.data_ptr() // ALIGNMENT) * ALIGNMENT

    def __call__(
        self, state: Iterable[torch.Tensor], transitions: Iterable[torch.Tensor], rows: np.ndarray
    ) -> torch.Tensor:
        """Take K updates of S runs, changing the state in place.

        Args:
            state: Contiguous tensors `(S, ...)`.
            transitions: Contiguous tensors `(N, ...)`.
            rows: Indices of the transitions that each update reads `(K, S, batch)`, in [0, N);
                this is not checked.

        Returns:
            Metrics of the last update `(metrics, S)`.

        Raises:
            ValueError: If a tensor is not contiguous.
        """
        updates, runs, _ = rows.shape
        rows = np.ascontiguousarray(rows, np.int64)
        metrics = torch.empty(self._metrics, runs)
        self._train(
            runs,
            updates,
            _pointers(state),
            _pointers(transitions),
            rows.ctypes.data,
            _pointers(metrics),
            self._scratch_start,
        )
        return metrics


def _pointers(tensors: Iterable[torch.Tensor]) -> ctypes.Array[ctypes.c_void_p]:
    addresses = []
    for tensor in tensors:
        if not tensor.is_contiguous():
            raise ValueError(f"a tensor {tuple(tensor.shape)} is not contiguous")
        addresses.append(tensor.data_ptr())
    return (ctypes.c_void_p * len(addresses))(*addresses)
