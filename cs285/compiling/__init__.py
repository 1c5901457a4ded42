"""Compiling the update of one run to C++ that trains any number of runs.

`tracing` records what an update does, `lowering` turns that into loops and matrix products,
`codegen` writes them in C++, `building` calls the compiler and keeps what it made. The package
imports nothing else of `cs285`, so that it can be deleted once `torch.compile` is fast enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cs285.compiling.errors import CompilationError, CompilerError, UnsupportedOperationError
from cs285.compiling.tracing import trace

if TYPE_CHECKING:
    from torch.fx import GraphModule

    from cs285.compiling.compiled_update import CompiledUpdate

__all__ = [
    "CompilationError",
    "CompilerError",
    "UnsupportedOperationError",
    "compile_update",
    "trace",
]


def compile_update(
    graph: GraphModule, num_state: int, changed: Sequence[int], cache: Path
) -> CompiledUpdate:
    """Compile an update; see `CompiledUpdate`.

    Args:
        graph: One run's update, as `trace` returns it with `decomposes`.
        num_state: How many of its inputs are state.
        changed: Which of these the first results replace.
        cache: Folder of compiled libraries, made if it does not exist.

    Raises:
        UnsupportedOperationError: If there is no rule for an operation of the graph.
        CompilerError: If there is no compiler, or it fails, or the folder cannot be used.
    """
    from cs285.compiling.compiled_update import CompiledUpdate
    from cs285.compiling.target import find_target

    target = find_target()
    if target is None:
        raise CompilerError("no C++ compiler found")
    return CompiledUpdate(graph, num_state, changed, target, cache)
