"""Compiling the update of an ensemble, where that pays."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import torch
from torch.fx import GraphModule

PAYS_FROM_UPDATES = 10_000
"""Compiling takes ten to twenty seconds cold and saves about a millisecond an update."""

CHOICES = ("auto", "on", "off")


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
