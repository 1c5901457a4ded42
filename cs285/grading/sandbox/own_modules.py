"""Lets a hand-in's agents import what they could import at home.

Three kinds of names need help: the hand-in's own helper modules; the package as seen from the
folders above it, as in `from hw5.cs285.agents...`; and names that a student has added to a module
that the sandbox provides, such as `pytorch_util`.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from collections.abc import Callable, Iterable
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from cs285.infrastructure.import_names import PACKAGE, EmptyPackages, SameModules, below

_ABOVE = re.compile(r"^[ \t]*(?:from|import)[ \t]+(\w[\w.]*)\.cs285\b", re.MULTILINE)
_INSIDE = ("agents", "infrastructure", "networks")
"""Packages that files run from inside `cs285` import without that prefix."""
_RENAMED = {"gym": "gymnasium"}


def _real_names(folder: Path, roots: Iterable[str]) -> Callable[[str], str]:
    """Return a function from the names in a hand-in's imports to the modules they stand for.

    Args:
        folder: The folder with the hand-in's files.
        roots: Dotted names of the folders above the package.
    """
    without_root = below(roots)

    def real_name(name: str) -> str:
        if short := without_root(name):
            return short
        first, dot, rest = name.partition(".")
        if first in _INSIDE and not (folder / first).exists():
            return f"{PACKAGE}.{name}"
        if first in _RENAMED and PathFinder.find_spec(first) is None:
            return f"{_RENAMED[first]}{dot}{rest}"
        beside = folder / PACKAGE / "agents"
        if PathFinder.find_spec(name, [str(beside)]) and PathFinder.find_spec(first) is None:
            return f"{PACKAGE}.agents.{name}"
        return ""

    return real_name


def make_importable(folder: Path, files: dict[str, str]) -> None:
    """Let this process import a job's files, after those that the sandbox itself provides.

    Args:
        folder: The folder with the files.
        files: Their texts by path.
    """
    own = folder / PACKAGE
    package = importlib.import_module(PACKAGE)
    package.__path__ = [*package.__path__, str(own)]
    for entry in sorted(own.iterdir()):
        name = f"{PACKAGE}.{entry.name}"
        if entry.is_dir() and importlib.util.find_spec(name) is not None:
            module = importlib.import_module(name)
            paths = [one for one in module.__path__ if one != str(entry)]
            # Only the job's own agents can be imported; in other packages its files come last.
            module.__path__ = [str(entry)] if entry.name == "agents" else [*paths, str(entry)]
    sys.path += [str(folder), str(own)]
    roots = {found for text in files.values() for found in _ABOVE.findall(text)}
    # These come first: a package imported under an alias has the real path, on which the other
    # finders would find a second copy of its modules.
    sys.meta_path[:0] = [EmptyPackages(roots), SameModules(_real_names(folder, roots))]
    for path in files:
        _complete(folder, path)


def _complete(folder: Path, path: str) -> None:
    """Add to a provided module the names that the hand-in's module of the same path adds."""
    parts = Path(path).with_suffix("").parts
    if parts[0] != PACKAGE or parts[1] == "agents" or parts[-1] == "__init__":
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
