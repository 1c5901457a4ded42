"""Figures for lectures, each with the numbers behind it. A module of this package is a lecture.

Its `make(out)` writes files into a folder and returns their numbers as lines of text. What
lectures share is in the package `shared`.
"""

from __future__ import annotations

import pkgutil


def lectures() -> list[str]:
    """Return the names of all lectures."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.ispkg)
