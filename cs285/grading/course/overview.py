"""Statistics of a course: points by part, distributions, and the most frequent mistakes."""

from __future__ import annotations

import re
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from cs285.grading.course.course import Course, Entry
from cs285.grading.hand_ins.hand_in import GradeResult
from cs285.grading.hand_ins.rubric import Rubric

BINS = 10
MISTAKES = 40
"""How many of the most frequent mistakes are listed."""
SLOWEST = 10
_NUMBER = re.compile(r"(?<![A-Za-z_\d])[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?(?![A-Za-z_\d])")


def points_of(grade: GradeResult, rubric: Rubric) -> dict[str, float]:
    """Return a grade's points by part; empty if the hand-in was refused."""
    points: dict[str, float] = {}
    for item in grade.items:
        if item.part in rubric.parts:
            points[item.part] = round(points.get(item.part, 0.0) + item.score, 2)
    return points


def maxima_of(course: Course) -> dict[str, float]:
    """Return the maximum points of each part, in the rubric's order."""
    found: dict[str, float] = {}
    for entry in course.entries:
        by_part: dict[str, float] = {}
        for item in entry.grade.items if entry.grade else ():
            if item.part in course.rubric.parts:
                by_part[item.part] = round(by_part.get(item.part, 0.0) + item.maximum, 2)
        # A hand-in whose files took too long has one item instead of several.
        found |= {part: max(number, found.get(part, 0.0)) for part, number in by_part.items()}
    return {part: found[part] for part in course.rubric.parts if part in found}


@dataclass(frozen=True)
class Distribution:
    """How the points for one part, or the totals, are distributed."""

    key: str
    title: str
    maximum: float
    points: tuple[float, ...]

    @property
    def counts(self) -> list[int]:
        """The number of hand-ins in each of `BINS` equal intervals from zero to the maximum."""
        counts = [0] * BINS
        for number in self.points:
            share = number / self.maximum if self.maximum else 1.0
            # A share of 0.3 may be computed as 0.299...; it belongs to the interval from 0.3 up.
            counts[min(BINS - 1, max(0, int(share * BINS + 1e-9)))] += 1
        return counts

    @property
    def mean(self) -> float:
        """The mean of the points."""
        return statistics.fmean(self.points) if self.points else 0.0

    @property
    def median(self) -> float:
        """The median of the points."""
        return statistics.median(self.points) if self.points else 0.0

    @property
    def full(self) -> int:
        """The number of hand-ins with full points."""
        return sum(number >= self.maximum for number in self.points)

    @property
    def none(self) -> int:
        """The number of hand-ins with no points."""
        return sum(number <= 0 for number in self.points)


def distributions(course: Course) -> list[Distribution]:
    """Return the distribution of the totals, then of each part that is worth points."""
    maxima = maxima_of(course)
    grades = [entry.grade for entry in course.entries if entry.grade]
    if not grades:
        return []
    totals = tuple(grade.total for grade in grades)
    found = [Distribution("total", "Total", max(grade.maximum for grade in grades), totals)]
    points = [points_of(grade, course.rubric) for grade in grades]
    for part, maximum in maxima.items():
        if maximum > 0:
            having = tuple(one[part] for one in points if part in one)
            found.append(Distribution(part, course.rubric.parts[part], maximum, having))
    return found


@dataclass(frozen=True)
class Mistake:
    """Something that costs points in several hand-ins."""

    where: str
    what: str
    entries: tuple[Entry, ...]
    lost: float
    """Total points missing from the items where it occurs, possibly due to other mistakes too."""


def mistakes(course: Course) -> list[Mistake]:
    """Return the most frequent mistakes; texts that differ only in numbers count as the same."""
    found: defaultdict[tuple[str, str], dict[str, Entry]] = defaultdict(dict)
    lost: defaultdict[tuple[str, str], float] = defaultdict(float)
    example: dict[tuple[str, str], str] = {}
    for entry in course.entries:
        for item in entry.grade.items if entry.grade else ():
            for loss in item.losses:
                key = (item.name, _NUMBER.sub("0", loss))
                example.setdefault(key, loss)
                if entry.hand_in.key not in found[key]:
                    lost[key] += item.maximum - item.score
                found[key][entry.hand_in.key] = entry
    ranked = sorted(found, key=lambda key: (-len(found[key]), -lost[key], key))
    return [
        Mistake(key[0], example[key], tuple(found[key].values()), round(lost[key], 2))
        for key in ranked[:MISTAKES]
    ]


def slowest(course: Course) -> list[Entry]:
    """Return the hand-ins that took longest to grade."""
    graded = [entry for entry in course.entries if entry.record]
    graded.sort(key=lambda entry: -(entry.record.seconds if entry.record else 0.0))
    return graded[:SLOWEST]


def flags_of(entry: Entry) -> list[str]:
    """Return what deserves a look in a hand-in, in a few words each."""
    if entry.record is None:
        return ["not graded yet"]
    if entry.grade is None:
        return [str(entry.record.outcome)]
    return [str(flag) for flag in entry.grade.flags]


@dataclass(frozen=True)
class Change:
    """How a hand-in's points differ between two rubrics."""

    entry: Entry
    before: float
    after: float
    parts: tuple[tuple[str, float], ...]
    """The parts that changed, with the difference."""

    @property
    def difference(self) -> float:
        """Points gained."""
        return round(self.after - self.before, 2)


def changes(course: Course) -> list[Change]:
    """Return the hand-ins whose grades differ between two rubrics, the largest changes first."""
    found = []
    for entry in course.entries:
        if entry.grade is None or entry.before is None:
            continue
        old = points_of(entry.before, course.rubrics[0])
        new = points_of(entry.grade, course.rubric)
        names = {**course.rubrics[0].parts, **course.rubric.parts}
        parts = tuple(
            (part, round(new.get(part, 0.0) - old.get(part, 0.0), 2))
            for part in names
            if new.get(part, 0.0) != old.get(part, 0.0)
        )
        change = Change(entry, entry.before.total, entry.grade.total, parts)
        if parts or change.difference:
            found.append(change)
    return sorted(found, key=lambda change: (-abs(change.difference), change.entry.hand_in.title))


def quartiles(numbers: Sequence[float]) -> tuple[float, float]:
    """Return the lower and upper quartile; a single number is both."""
    if len(numbers) < 2:  # noqa: PLR2004 - quantiles need two
        return (numbers[0], numbers[0]) if numbers else (0.0, 0.0)
    low, _, high = statistics.quantiles(numbers, n=4, method="inclusive")
    return low, high
