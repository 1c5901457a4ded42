"""Tracing the update of an ensemble, and compiling it where that pays."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch._functorch.compile_utils import fx_graph_cse
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx

PAYS_FROM_UPDATES = 10_000
"""Compiling takes ten to twenty seconds cold and saves about a millisecond an update."""

CHOICES = ("auto", "on", "off")


def trace(function: Callable[..., Any], inputs: Sequence[torch.Tensor]) -> GraphModule:
    """Run a function of tensors once and return the operations it did, each only once.

    Changes in place are moved to the end, where they copy results into the inputs. That leaves
    pure operations before them, of which equal ones on equal operands are merged: RND's loss
    and bonus share one pass through its networks.
    """
    graph_module = make_fx(torch.func.functionalize(function))(*inputs)
    graph = fx_graph_cse(graph_module.graph)
    graph.eliminate_dead_code()
    return GraphModule(graph_module, graph)


def compile_graph(graph: GraphModule) -> Callable[..., Any]:
    """Compile a traced function for the shapes it was traced with."""
    compiled: Callable[..., Any] = torch.compile(
        graph,
        fullgraph=True,
        dynamic=False,
        # libm's tanh costs five times what the same function written with exp does.
        options={"cpp.use_decompose_tanh": True},
    )
    return compiled


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
