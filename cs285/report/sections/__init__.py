"""The sections of the report: those for the handout's questions, and more.

A section is made by a function that takes the collection of all runs and returns a `Section`. The
function is registered with its place in the report; `answer` imports every module of this package.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable, Sequence

from cs285.report.collection import Collection
from cs285.report.parts import Section, Table

__all__ = ["Section", "Table", "answer", "register", "tags_read"]

Answer = Callable[[Collection], Section | Sequence[Section]]
"""Returns one section, or any number of them."""

_registered: list[tuple[int, str, Answer, tuple[str, ...]]] = []


def register(order: int, tags: tuple[str, ...] = ()) -> Callable[[Answer], Answer]:
    """Register a function as a section.

    Args:
        order: Its place in the report; the handout's questions have 10 to 70.
        tags: Scalars that it needs from the logs, besides those that every report reads.
    """

    def decorate(answer: Answer) -> Answer:
        _registered.append((order, answer.__module__, answer, tags))
        return answer

    return decorate


@functools.cache
def _answers() -> tuple[Answer, ...]:
    for module in pkgutil.iter_modules(__path__, f"{__name__}."):
        importlib.import_module(module.name)
    return tuple(answer for *_, answer, _ in sorted(_registered, key=lambda one: one[:2]))


def tags_read() -> set[str]:
    """Return the scalars that the sections need from the logs."""
    _answers()
    return {tag for *_, tags in _registered for tag in tags}


def answer(collection: Collection) -> list[Section]:
    """Return all sections in order: the handout's, those on other algorithms, and any others."""
    sections: list[Section] = []
    for question in _answers():
        found = question(collection)
        sections += [found] if isinstance(found, Section) else found
    return sections
