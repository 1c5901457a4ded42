"""What was found in two hand-ins."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any


class Kind(StrEnum):
    """What two hand-ins have in common."""

    RUN_RENAMED = "run renamed"
    """A log of one run, in folders that say that they are different runs, or as it was."""
    RUN_RETIMED = "run re-timed"
    """A log of one run, with its times moved or stretched."""
    RUN_EDITED = "run edited"
    """A log of one run, with a few values changed."""
    RUN_THINNED = "run re-thinned"
    """A log of one run, with a part of its points."""
    CODE = "same code"
    """The same text, though names, comments and the order of methods may differ."""
    CODE_PART = "same part of code"
    """The same text in a part of the files."""
    RUN_EQUAL = "equal runs"
    """Runs with equal values and nothing else in common: a program that is deterministic gives
    them to all who run it with one seed, so they show nothing."""


@dataclass(frozen=True)
class Excerpt:
    """What one of the two hand-ins holds."""

    place: str
    """The file or folder in the hand-in, and the lines."""
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Evidence:
    """One thing that both hand-ins hold."""

    kind: Kind
    strength: float
    """From 0 to 1: how hard it is to explain if both worked alone. Not a probability."""
    fact: str
    """A sentence that states what was compared and found; nothing about causes."""
    first: Excerpt
    second: Excerpt


@dataclass(frozen=True)
class Pair:
    """Two hand-ins and what they have in common, strongest first."""

    first: str
    second: str
    evidence: tuple[Evidence, ...]

    @property
    def kind(self) -> Kind:
        """The kind of the strongest evidence."""
        return self.evidence[0].kind

    @property
    def strength(self) -> float:
        """The strength of the strongest evidence."""
        return self.evidence[0].strength

    @cached_property
    def rank(self) -> tuple[float, float]:
        """What orders pairs: the strongest evidence, then all of it."""
        return self.strength, sum(one.strength for one in self.evidence)

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "first": self.first,
            "second": self.second,
            "kind": self.kind.value,
            "strength": round(self.strength, 4),
            "evidence": [asdict(one) for one in self.evidence],
        }


def make_pair(first: str, second: str, evidence: Iterable[Evidence]) -> Pair:
    """Return a pair with its evidence in order."""
    ordered = sorted(evidence, key=lambda one: one.strength, reverse=True)
    return Pair(first, second, tuple(ordered))
