"""Figures for lectures, each with the numbers behind it. A module of this package is a lecture.

Its `make(out)` writes files into a folder and returns their numbers as lines of text. Those on the
page `docs/lectures.md` also have `Row`, the type of the rows of their table, and `claims(rows)`,
what the page says of such rows. What lectures share is in the package `shared`.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType


def lectures() -> list[str]:
    """Return the names of all lectures."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.ispkg)


def load(name: str) -> ModuleType:
    """Import a lecture by its name."""
    return importlib.import_module(f"{__name__}.{name}")
