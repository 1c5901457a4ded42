"""Pairs of hand-ins and the evidence of what they have in common."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any


class Kind(StrEnum):
    """What two hand-ins have in common."""

    RUN_RENAMED = "run renamed"
    """The log of the same run, unchanged, possibly in a folder that claims another run."""
    RUN_RETIMED = "run re-timed"
    """The log of the same run, with its times shifted or stretched."""
    RUN_EDITED = "run edited"
    """The log of the same run, with a few values changed."""
    RUN_THINNED = "run re-thinned"
    """The log of the same run, with only some of its points."""
    CODE = "same code"
    """The same code, though names, comments and the order of methods may differ."""
    CODE_PART = "same part of code"
    """The same code in a part of the files."""
    RUN_EQUAL = "equal runs"
    """Runs with equal values and nothing else in common. They prove nothing: a deterministic
    program gives them to everyone who runs it with the same seed."""


@dataclass(frozen=True)
class Excerpt:
    """The matching place in one of the two hand-ins."""

    place: str
    """The file or folder in the hand-in, and the lines."""
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Evidence:
    """One thing that both hand-ins contain."""

    kind: Kind
    strength: float
    """From 0 to 1: how hard it is to explain if both worked alone; not a probability."""
    fact: str
    """What was compared and found, in a few sentences; nothing about causes."""
    first: Excerpt
    second: Excerpt


@dataclass(frozen=True)
class Pair:
    """Two hand-ins and what they have in common, the strongest evidence first."""

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
        """The sort key of pairs: the strongest evidence, then the sum of all of it."""
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
    """Return a pair with its evidence sorted by strength."""
    ordered = sorted(evidence, key=lambda one: one.strength, reverse=True)
    return Pair(first, second, tuple(ordered))
