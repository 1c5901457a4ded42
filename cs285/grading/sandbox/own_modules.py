"""Lets a hand-in's agents import what they could import at home.

Three kinds of names need help: the hand-in's own helper modules; the package under the folders
above it, as in `from hw5.cs285.agents...`; and names that a student has added to a module of which
the sandbox holds its own copy, such as `pytorch_util`.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.util
import re
import sys
from collections.abc import Iterable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

_PACKAGE = "cs285"
_ABOVE = re.compile(r"^[ \t]*(?:from|import)[ \t]+(\w[\w.]*)\.cs285\b", re.MULTILINE)
_INSIDE = ("agents", "infrastructure", "networks")
"""Packages that files which were run from inside the package import without its name."""
_RENAMED = {"gym": "gymnasium"}


class Aliases(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports a module under another name as the module itself, so that classes stay the same.

    Args:
        folder: Where the hand-in's files lie.
        texts: These files: the folders above the package are read from their imports.
    """

    def __init__(self, folder: Path, texts: Iterable[str]) -> None:
        above = {found for text in texts for found in _ABOVE.findall(text)}
        self._folder = folder
        self._roots = sorted(above, key=len, reverse=True)
        self._folders = {
            ".".join(parts[:count])
            for parts in (root.split(".") for root in above)
            for count in range(1, len(parts) + 1)
        }

    def find_spec(
        self, fullname: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find the names that stand for others."""
        if fullname in self._folders:
            return ModuleSpec(fullname, self, is_package=True)
        return ModuleSpec(fullname, self) if self._real_name(fullname) else None

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Return the module that the name stands for; None for an empty folder."""
        name = self._real_name(spec.name)
        if not name:
            return None
        module = importlib.import_module(name)
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Give the module its own spec back: it has been run under its own name."""
        spec = module.__spec__
        if spec is not None and spec.loader_state is not None:
            module.__spec__ = spec.loader_state

    def _real_name(self, name: str) -> str:
        for root in self._roots:
            if f"{name}.".startswith(f"{root}.{_PACKAGE}."):
                return name.removeprefix(f"{root}.")
        first, dot, rest = name.partition(".")
        if first in _INSIDE and not (self._folder / first).exists():
            return f"{_PACKAGE}.{name}"
        if first in _RENAMED and PathFinder.find_spec(first) is None:
            return f"{_RENAMED[first]}{dot}{rest}"
        beside = self._folder / _PACKAGE / "agents" / f"{name}.py"
        if beside.exists() and PathFinder.find_spec(first) is None:
            return f"{_PACKAGE}.agents.{name}"
        return ""


def make_importable(folder: Path, files: dict[str, str]) -> None:
    """Let this process import a job's files, below what the sandbox itself provides.

    Args:
        folder: Where the files lie.
        files: Their texts by path.
    """
    own = folder / _PACKAGE
    package = importlib.import_module(_PACKAGE)
    package.__path__ = [*package.__path__, str(own)]
    for entry in sorted(own.iterdir()):
        name = f"{_PACKAGE}.{entry.name}"
        if entry.is_dir() and importlib.util.find_spec(name) is not None:
            module = importlib.import_module(name)
            paths = [one for one in module.__path__ if one != str(entry)]
            # Only the job's own agents can be imported; in other packages its files come last.
            module.__path__ = [str(entry)] if entry.name == "agents" else [*paths, str(entry)]
    sys.path += [str(folder), str(own)]
    # First: a parent under an alias has the real path, where others would find a second copy.
    sys.meta_path.insert(0, Aliases(folder, files.values()))
    for path in files:
        _complete(folder, path)


def _complete(folder: Path, path: str) -> None:
    """Let a provided module have the names that the hand-in's module of the same path adds."""
    parts = Path(path).with_suffix("").parts
    if parts[0] != _PACKAGE or parts[1] == "agents" or parts[-1] == "__init__":
        return
    name = ".".join(parts)
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin == str(folder / path):
        return
    provided, other = importlib.import_module(name), f"{name}__of_the_hand_in"

    def find(wanted: str) -> Any:
        if other not in sys.modules:
            own = importlib.util.spec_from_file_location(other, folder / path)
            if own is None or own.loader is None:
                raise AttributeError(wanted)
            sys.modules[other] = module = importlib.util.module_from_spec(own)
            own.loader.exec_module(module)
        return getattr(sys.modules[other], wanted)

    if not hasattr(provided, "__getattr__"):
        provided.__getattr__ = find  # type: ignore[method-assign]
