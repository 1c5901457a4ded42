"""Keeps PyTorch from importing its compiler where nothing is compiled, which takes seconds.

The first step of any optimiser imports `torch._dynamo` for two functions that mean something only
while code is being compiled. Here that module is left unexecuted: those two do nothing, and
whatever else is asked of it executes it first. So nothing that works with it fails without it.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import torch

_NAME = "torch._dynamo"


class _Unexecuted(ModuleType):
    """A module that is executed, in place, when an attribute is wanted that it does not have."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or self.__spec__ is None or self.__spec__.loader is None:
            raise AttributeError(name)
        self.__class__ = ModuleType  # type: ignore[assignment]
        self.__spec__.loader.exec_module(self)
        return getattr(self, name)


class _PackageFirst(MetaPathFinder, Loader):
    """Executes the package before one of its modules is imported, as Python does otherwise."""

    def __init__(self) -> None:
        self._own: dict[str, Any] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See `importlib.abc.MetaPathFinder`."""
        del path, target
        is_inside = fullname.startswith(f"{_NAME}.") and not is_executed()
        return ModuleSpec(fullname, self) if is_inside else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """See `importlib.abc.Loader`."""
        execute_the_compiler()
        module = importlib.import_module(spec.name)
        self._own = {key: getattr(module, key) for key in ("__spec__", "__loader__")}
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Undo what the import system has changed in the module."""
        vars(module).update(self._own)


def postpone_the_compiler() -> None:
    """Leave `torch._dynamo` unexecuted until it is needed, unless it has been imported already."""
    spec = None if _NAME in sys.modules else importlib.util.find_spec(_NAME)
    if spec is None:
        return
    module = importlib.util.module_from_spec(spec)
    module.__class__ = _Unexecuted

    def disable(function: Callable[..., Any], *settings: Any, **named: Any) -> Callable[..., Any]:
        """Return the function, not to be compiled; PyTorch keeps what this returns."""
        disabled: Callable[..., Any] | None = None

        def call(*values: Any, **named_values: Any) -> Any:
            nonlocal disabled
            if not is_executed():
                return function(*values, **named_values)
            if disabled is None:
                disabled = module.disable(function, *settings, **named)
            return disabled(*values, **named_values)

        return call

    vars(module).update(graph_break=lambda *_: None, disable=disable)
    sys.modules[_NAME] = module
    setattr(torch, _NAME.rpartition(".")[2], module)
    sys.meta_path.insert(0, _PackageFirst())


def execute_the_compiler() -> None:
    """Execute `torch._dynamo`, as any use of it would."""
    if isinstance(module := importlib.import_module(_NAME), _Unexecuted):
        _ = module.config


def is_executed() -> bool:
    """Return whether this process has executed `torch._dynamo`."""
    return _NAME in sys.modules and not isinstance(sys.modules[_NAME], _Unexecuted)
