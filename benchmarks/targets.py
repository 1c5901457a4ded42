"""Targets for the project's speed, and how measurements compare with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sections import Row


class Results:
    """Rows that can be looked up by section and the beginning of their name."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows

    def median(self, section: str, name: str) -> float:
        """Return the measured median, in seconds or bytes.

        Raises:
            LookupError: If it was not measured.
        """
        for row in self.rows:
            if row.section == section and row.name.startswith(name) and not row.timing.problem:
                return row.timing.median
        raise LookupError(f"{section}: {name}")

    def ratio(self, section: str, slow: str, fast: str) -> float:
        """Return how many times faster one row of a section is than another."""
        return self.median(section, slow) / self.median(section, fast)


@dataclass(frozen=True)
class Target:
    """One target."""

    text: str
    bound: float
    measure: Callable[[Results], float]
    at_most: bool = False
    """Whether the bound is an upper bound."""

    def row(self, results: Results) -> dict[str, object]:
        """Return the target and the measured value, as plain values."""
        try:
            measured: float | None = self.measure(results)
        except LookupError:
            measured = None
        is_met = measured is not None and (measured <= self.bound) is self.at_most
        return {
            "target": self.text,
            "measured": measured,
            "bound": f"{'at most' if self.at_most else 'at least'} {self.bound:g}",
            "met": None if measured is None else is_met or measured == self.bound,
        }


def _starter(section: str, ours: str = "ours") -> Callable[[Results], float]:
    return lambda results: results.ratio(section, "starter", ours)


def _scaled(section: str, name: str, factor: float) -> Callable[[Results], float]:
    return lambda results: factor * results.median(section, name)


def _ratio(section: str, slow: str, fast: str) -> Callable[[Results], float]:
    return lambda results: results.ratio(section, slow, fast)


ALONE, TOGETHER = "ours, S=1", "ours, S=35"

TARGETS = (
    Target("CQL run, warm cache: times starter", 5, _starter("scripts-single", "ours, warm")),
    Target("CQL run, cold cache: times starter", 3, _starter("scripts-single", "ours, cold")),
    Target("CQL sweep: times starter", 10, _starter("scripts-sweep-cql")),
    Target("AWAC sweep: times starter", 6, _starter("scripts-sweep-awac")),
    Target("IQL sweep: times starter", 6, _starter("scripts-sweep-iql")),
    Target("CQL, S=35: arithmetic efficiency", 0.5, _ratio("updates-cql", "limit", TOGETHER)),
    Target("IQL, S=35: arithmetic efficiency", 0.5, _ratio("updates-iql", "limit", TOGETHER)),
    Target("RND exploration, 5 seeds: times starter", 5, _starter("scripts-explore-rnd")),
    *(
        Target(
            f"{name.upper()}, S=35: time over that of jax.lax.scan",
            2,
            _ratio(f"updates-{name}", TOGETHER, "jax.lax.scan, S=35"),
            at_most=True,
        )
        for name in ("cql", "iql", "rnd")
    ),
    Target("CQL, S=35: times d3rlpy", 15, _ratio("updates-cql", "d3rlpy", TOGETHER)),
    Target("CQL, S=1: times d3rlpy", 6, _ratio("updates-cql", "d3rlpy", ALONE)),
    Target("./run_hw5.sh, minutes", 12, _scaled("homework", 'SEEDS="1"', 1 / 60), at_most=True),
    Target(
        'SEEDS="1 2 3" ./run_hw5.sh, minutes',
        40,
        _scaled("homework", 'SEEDS="1 2 3"', 1 / 60),
        at_most=True,
    ),
    Target("memory of 100 CQL runs, GB", 2, _scaled("memory", "peak, S=100", 1e-9), at_most=True),
    Target("growth over a long run, MB", 50, _scaled("memory", "growth", 1e-6), at_most=True),
)
