"""Compiles the update of one run to C++ that trains any number of runs.

`tracing` records the operations of an update, `lowering` turns them into loops and matrix products,
`codegen` writes these in C++, and `building` calls the compiler and caches the library. The package
imports nothing else from `cs285`, so it can be deleted once `torch.compile` is fast enough.
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
        num_state: Number of its inputs that are state.
        changed: Indices of the state inputs that the first results replace.
        cache: Folder for compiled libraries, created if it does not exist.

    Raises:
        UnsupportedOperationError: If there is no rule for an operation of the graph.
        CompilerError: If there is no compiler, it fails, or the folder cannot be used.
    """
    from cs285.compiling.compiled_update import CompiledUpdate
    from cs285.compiling.target import find_target

    target = find_target()
    if target is None:
        raise CompilerError("no C++ compiler found")
    return CompiledUpdate(graph, num_state, changed, target, cache)
