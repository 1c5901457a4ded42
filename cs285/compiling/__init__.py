"""Compiling the update of one run to C++ that trains any number of runs.

`tracing` records what an update does, `lowering` turns that into loops and matrix products,
`codegen` writes them in C++, `building` calls the compiler and keeps what it made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cs285.compiling.tracing import trace

if TYPE_CHECKING:
    from torch.fx import GraphModule

    from cs285.compiling.compiled_update import CompiledUpdate

PAYS_FROM_UPDATES = 5_000
"""Compiling takes two to four seconds once and saves about a millisecond an update."""

CHOICES = ("auto", "on", "off")

__all__ = ["CHOICES", "compile_update", "pays", "trace"]


def pays(choice: str, updates: int) -> bool:
    """Decide whether to compile.

    Args:
        choice: `auto`, `on` or `off`.
        updates: Updates that the program will take.
    """
    return choice == "on" or (choice == "auto" and updates >= PAYS_FROM_UPDATES)


def compile_update(
    graph: GraphModule, num_state: int, changed: Sequence[int]
) -> CompiledUpdate | None:
    """Compile an update, see `CompiledUpdate`; where that fails, say so and return None."""
    from cs285.compiling.building import CompilerError
    from cs285.compiling.compiled_update import CompiledUpdate
    from cs285.compiling.lowering import UnsupportedOperationError
    from cs285.compiling.target import find_target

    target = find_target()
    try:
        if target is None:
            raise CompilerError("no C++ compiler found")  # noqa: TRY301 - one place reports all
        return CompiledUpdate(graph, num_state, changed, target)
    except (CompilerError, UnsupportedOperationError) as error:
        print(f"Updates run uncompiled, which is slower: {error}")
        return None
