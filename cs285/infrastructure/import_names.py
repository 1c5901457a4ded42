"""Imports that begin with the folder above: `from hw5.cs285.agents.dqn_agent import DQNAgent`.

Some editors write imports like this. Python would import a second copy of the package, if it found
one; here, both names give the same modules.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

PACKAGE = "cs285"
USUAL = frozenset({"hw5", "homework5", "homework_fall2023.hw5"})
"""What the folder above is usually called, whatever its name is here."""


def names_above(root: Path) -> frozenset[str]:
    """Return the dotted names that `cs285` may have in front, given the folder that contains it.

    In `/home/me/homework/hw5`, these are `hw5`, `homework.hw5` and the usual ones.
    """
    parts = root.parts[1:]
    names = {".".join(parts[-k:]) for k in (1, 2)}
    return USUAL | {name for name in names if all(map(str.isidentifier, name.split(".")))}


class _Above:
    """Finds the modules of this package under their longer names, before any other finder does.

    Args:
        names: See `names_above`.
    """

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See `importlib.abc.MetaPathFinder`."""
        del path, target
        above, here, _ = f"{name}.".partition(f".{PACKAGE}.")
        if not here or above not in self._names:
            return None
        return ModuleSpec(name, _SameModule(name[len(above) + 1 :]))


class _Folders:
    """Makes empty packages for the names above, where no other finder knows a package.

    Args:
        names: See `names_above`.
    """

    def __init__(self, names: frozenset[str]) -> None:
        parts = (name.split(".") for name in names)
        self._names = {".".join(own[: k + 1]) for own in parts for k in range(len(own))}

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See `importlib.abc.MetaPathFinder`."""
        del path, target
        return ModuleSpec(name, None, is_package=True) if name in self._names else None


class _SameModule(Loader):
    """Gives a module that has been imported under its own name."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._own: dict[str, Any] = {}

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """See `importlib.abc.Loader`."""
        del spec
        module = importlib.import_module(self._name)
        self._own = {key: getattr(module, key) for key in ("__spec__", "__loader__")}
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Undo what the import system has changed in the module."""
        vars(module).update(self._own)


def install(root: Path) -> None:
    """Let imports begin with the names of the folders above `cs285`, for this process.

    Args:
        root: The folder that contains `cs285`.
    """
    if not any(isinstance(finder, _Above) for finder in sys.meta_path):
        names = names_above(root)
        sys.meta_path.insert(0, _Above(names))
        sys.meta_path.append(_Folders(names))
