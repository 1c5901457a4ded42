"""The checker's finding on one method: a verdict and the reason for it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from cs285.grading.sandbox.ends import End


class Verdict(StrEnum):
    """A verdict on a method or a file, the most serious one first; the values appear in JSON."""

    CRASHES = "crashes"
    WRONG = "wrong"
    UNSOLVED = "unsolved"
    MISSING = "missing"
    VARIANT = "accepted variant"
    CORRECT = "correct"
    UNJUDGED = "not judged"

    @property
    def is_right(self) -> bool:
        """Whether the numbers are those of an accepted formula."""
        return self in {Verdict.CORRECT, Verdict.VARIANT}

    @property
    def is_bad(self) -> bool:
        """Whether it counts against the student."""
        return not self.is_right and self is not Verdict.UNJUDGED

    @property
    def has_no_numbers(self) -> bool:
        """Whether the method returned nothing to judge."""
        return self.is_bad and self is not Verdict.WRONG

    @property
    def short(self) -> str:
        """The verdict in the cell of a table."""
        return {Verdict.VARIANT: "variant", Verdict.UNJUDGED: "?"}.get(self, str(self))


def most_serious(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the most serious verdict; `UNJUDGED` if there are none."""
    return min(verdicts, key=list(Verdict).index, default=Verdict.UNJUDGED)


class Reading(StrEnum):
    """How numbers, usually an advantage, differ from the assignment's; the value is the message."""

    SAMPLED = "is sampled from the actor, not summed exactly"
    AVERAGED = "is an average of samples from the actor, not summed exactly"
    DIVIDED = "it returns A / temperature"
    COLUMN = "shape (batch, 1)"
    PAIRS = "(batch, 1) against (batch,)"


@dataclass(frozen=True)
class Finding:
    """The verdict on one method."""

    method: str
    """Empty for a finding about the whole file."""
    verdict: Verdict
    text: str = ""
    end: End = End.DONE
    """How the student's process ended, if that is the reason."""
    readings: frozenset[Reading] = frozenset()
    """How to interpret its numbers in the methods that use them."""
    of_parent: bool = False
    """Whether a wrong parent alone may explain it."""
    of_child: bool = False
    """Whether no wrong parent can explain it."""
    of_copying: bool = False
    """Whether it is only about the copying of target networks."""
    raised: str = ""
    """The type of the error that was raised, if that is the reason."""

    def as_json(self) -> dict[str, str]:
        """Return plain data."""
        return {"method": self.method, "verdict": str(self.verdict), "text": self.text}
