"""Imports that begin with the folder above: `from hw5.cs285.agents.dqn_agent import DQNAgent`.

Some editors write imports like this. Python would import a second copy of the package if it found
one; with this module, both names refer to the same modules.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

PACKAGE = "cs285"
USUAL = frozenset({"hw5", "homework5", "homework_fall2023.hw5"})
"""Usual names of the folder above, which are accepted whatever its name is here."""


def names_above(root: Path) -> frozenset[str]:
    """Return the dotted names that may precede `cs285`, given the folder that contains it.

    For `/home/me/homework/hw5`, these are `hw5`, `homework.hw5` and the usual ones.
    """
    parts = root.parts[1:]
    names = {".".join(parts[-k:]) for k in (1, 2)}
    return USUAL | {name for name in names if all(map(str.isidentifier, name.split(".")))}


def below(names: Iterable[str]) -> Callable[[str], str]:
    """Return a function from a module's longer name to its real name; "" for all other names.

    Args:
        names: See `names_above`.
    """
    above_of_all = frozenset(names)

    def real_name(name: str) -> str:
        above, found, _ = f"{name}.".partition(f".{PACKAGE}.")
        return name[len(above) + 1 :] if found and above in above_of_all else ""

    return real_name


class SameModules(MetaPathFinder):
    """Imports modules under other names as the same modules, so that classes stay the same.

    Args:
        real_name: Function from another name to the module's real name; "" if there is none.
    """

    def __init__(self, real_name: Callable[[str], str]) -> None:
        self._real_name = real_name

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See `importlib.abc.MetaPathFinder`."""
        del path, target
        name = self._real_name(fullname)
        return ModuleSpec(fullname, _SameModule(name)) if name else None


class EmptyPackages(MetaPathFinder):
    """Provides empty packages for the folders above.

    Args:
        names: See `names_above`.
    """

    def __init__(self, names: Iterable[str]) -> None:
        parts = [name.split(".") for name in names]
        self._names = {".".join(own[: k + 1]) for own in parts for k in range(len(own))}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See `importlib.abc.MetaPathFinder`."""
        del path, target
        return ModuleSpec(fullname, None, is_package=True) if fullname in self._names else None


class _SameModule(Loader):
    """Loads a module by importing it under its real name."""

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
        """Undo the changes that the import system made to the module."""
        vars(module).update(self._own)


def install(root: Path) -> None:
    """Let imports begin with the names of the folders above `cs285`, for this process.

    Args:
        root: The folder that contains `cs285`.
    """
    if not any(isinstance(finder, SameModules) for finder in sys.meta_path):
        names = names_above(root)
        # The first must precede finders that would find a second copy; the second comes last,
        # because empty packages would hide real ones.
        sys.meta_path.insert(0, SameModules(below(names)))
        sys.meta_path.append(EmptyPackages(names))
