"""Tracing the update of an ensemble, and compiling it where that pays.

PyTorch's tools for this take seconds to import, so each is imported where it is used.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.fx import GraphModule

PAYS_FROM_UPDATES = 10_000
"""Compiling takes ten to twenty seconds cold and saves about a millisecond an update."""

CHOICES = ("auto", "on", "off")


def trace(function: Callable[..., Any], inputs: Sequence[torch.Tensor]) -> GraphModule:
    """Run a function of tensors once and return the operations it did, each only once.

    Changes in place are moved to the end, where they copy results into the inputs. That leaves
    pure operations before them, of which equal ones on equal operands are merged: RND's loss
    and bonus share one pass through its networks.
    """
    from torch._functorch.compile_utils import fx_graph_cse
    from torch.fx.experimental.proxy_tensor import make_fx

    graph_module = make_fx(torch.func.functionalize(function))(*inputs)
    graph = fx_graph_cse(graph_module.graph)
    graph.eliminate_dead_code()
    return GraphModule(graph_module, graph)


def compile_graph(graph: GraphModule) -> Callable[..., Any]:
    """Compile a traced function for the shapes it was traced with.

    The compiler works at the first call. If it fails, that call says so, and the operations run
    as they were traced.
    """
    from torch._dynamo.exc import TorchDynamoException

    _quote_library_folder()
    function: Callable[..., Any] = torch.compile(
        graph,
        fullgraph=True,
        dynamic=False,
        # libm's tanh costs five times what the same function written with exp does.
        options={"cpp.use_decompose_tanh": True},
    )

    def run(*tensors: torch.Tensor) -> Any:
        nonlocal function
        try:
            return function(*tensors)
        except TorchDynamoException as error:
            reason = str(error).strip().partition("\n")[0]
            print(f"Updates run uncompiled, which is slower: the C++ compiler failed ({reason})")
            function = graph
            return function(*tensors)

    return run


def _quote_library_folder() -> None:
    """Let PyTorch live in a folder with a space: it hands that folder to the linker unquoted."""
    from torch.utils import cpp_extension

    folder = cpp_extension.TORCH_LIB_PATH
    if Path(folder).is_dir():
        cpp_extension.TORCH_LIB_PATH = shlex.quote(folder)


def has_compiler() -> bool:
    """Tell whether there is a C++ compiler, which PyTorch needs to compile for the CPU."""
    return any(shutil.which(name) for name in ("g++", "clang++", "c++"))


def pays(choice: str, updates: int) -> bool:
    """Decide whether to compile.

    Args:
        choice: `auto`, `on` or `off`.
        updates: Updates that the program will take.
    """
    if choice == "off" or (choice == "auto" and updates < PAYS_FROM_UPDATES):
        return False
    if not has_compiler():
        print("No C++ compiler found: updates run uncompiled, which is slower.")
        return False
    return True
