"""Which final return a run has: the exact one where it is known, else the measured one.

Everything that shows final returns asks here, and says which kind it shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from cs285.results.event_files import Curve, final_error_of, final_return_of

EXACT_TAGS = ("exact/return", "exact/return_error")


class Kind(StrEnum):
    """What a final return is."""

    EXACT = "exact"
    MEASURED = "measured"


@dataclass(frozen=True)
class FinalReturn:
    """The final return of one run, as far as it is known.

    Attributes:
        measured: Mean over the last evaluation episodes.
        measured_error: Its standard error.
        exact: Expected return of the last policy; None if the run did not compute it.
        exact_error: How far off that may be.
    """

    measured: float | None
    measured_error: float | None = None
    exact: float | None = None
    exact_error: float | None = None

    @property
    def is_exact(self) -> bool:
        """Whether `value` is the exact return."""
        return self.exact is not None

    @property
    def value(self) -> float | None:
        """The exact return where it is known, else the measured one, if any."""
        return self.measured if self.exact is None else self.exact

    @property
    def error(self) -> float | None:
        """The error of `value`, if it is known."""
        return self.measured_error if self.exact is None else self.exact_error

    @property
    def kind(self) -> Kind:
        """What `value` is."""
        return Kind.EXACT if self.is_exact else Kind.MEASURED


def comparable(returns: Sequence[FinalReturn]) -> list[FinalReturn]:
    """Return the final returns of runs that share a line: the measured ones unless all are exact.

    A mean over both kinds would be neither.
    """
    if all(one.is_exact for one in returns):
        return list(returns)
    return [replace(one, exact=None, exact_error=None) for one in returns]


def final_return_in(curves: Mapping[str, Curve]) -> FinalReturn:
    """Return the final return of the run with these curves.

    The exact one counts if it belongs to the last evaluation.
    """
    measured = curves.get("eval_return")
    exact, error = (curves.get(tag) for tag in EXACT_TAGS)
    found = FinalReturn(final_return_of(curves), final_error_of(curves))
    if measured is None or exact is None or exact.steps[-1] != measured.steps[-1]:
        return found
    is_known = error is not None and error.steps[-1] == exact.steps[-1]
    return replace(found, exact=exact.last, exact_error=error.last if error and is_known else None)
