"""Finds out what has to be imported before a job starts; the grader asks, the child imports."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum


class Needs(StrEnum):
    """What a job lacks the processor time or the disk space to import; sent as JSON."""

    MATPLOTLIB = "matplotlib"
    COMPILER = "compiler"


_SIGNS = {
    Needs.MATPLOTLIB: re.compile(r"^(?:import|from) matplotlib\b", re.MULTILINE),
    Needs.COMPILER: re.compile(
        r"\b(?:func|cond)\b|functorch|compile|dynamo|export|checkpoint|deterministic|profile"
    ),
}
"""Words in code that may need it: for the compiler also what PyTorch imports together with it."""


def needed_by(texts: Iterable[str]) -> list[Needs]:
    """Return what code with these texts may need."""
    texts = list(texts)
    return [one for one, sign in _SIGNS.items() if any(map(sign.search, texts))]
