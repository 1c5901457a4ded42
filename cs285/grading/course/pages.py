"""The pages of a course: an index with the statistics, and one page for each hand-in."""

from __future__ import annotations

import base64
import hashlib
import statistics
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from cs285.grading.course.course import Comparison, Course, Entry
from cs285.grading.course.overview import (
    changes,
    distributions,
    flags_of,
    maxima_of,
    mistakes,
    points_of,
    quartiles,
    slowest,
)
from cs285.grading.hand_ins.hand_in import Flag
from cs285.grading.hand_ins.rubric import Rubric
from cs285.infrastructure.files import prepare_folder, write_atomically

STUDENTS = "students"
EVIDENCE = 4
"""Pieces of evidence shown for each pair; `copies.json` has all of them."""
FOOTER = "This page loads nothing from any server."
_TEMPLATES = Path(__file__).with_name("templates")


class Pages:
    """Writes pages into an output folder."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._environment = Environment(
            loader=ChoiceLoader(
                [
                    PackageLoader("cs285.grading.course"),
                    PackageLoader("cs285.report", package_path="."),  # for the shared style sheet
                ]
            ),
            autoescape=True,  # names and messages may contain anything
            undefined=StrictUndefined,
            keep_trailing_newline=True,
        )
        script = (_TEMPLATES / "course.js").read_bytes()
        digest = base64.b64encode(hashlib.sha256(script).digest()).decode("ascii")
        self._script_hash = f"sha256-{digest}"

    def write(self, course: Course, comparison: Comparison | None = None) -> None:
        """Write all pages.

        Args:
            course: The course.
            comparison: What hand-ins have in common; None if they were not compared.

        Raises:
            UserError: If a file cannot be written.
        """
        prepare_folder(self._out / STUDENTS)
        for entry in course.entries:
            self._render(
                f"{STUDENTS}/{entry.hand_in.key}.html",
                "student.html.j2",
                student_page(entry, course.rubric),
            )
        self._render(
            "index.html",
            "index.html.j2",
            {**index_page(course), "has_copies": comparison is not None},
            script_hash=self._script_hash,
        )
        if comparison is not None:
            self._render("copies.html", "copies.html.j2", copies_page(course, comparison))

    def _render(
        self, name: str, template: str, values: dict[str, Any], script_hash: str = ""
    ) -> None:
        text = self._environment.get_template(template).render(**values, script_hash=script_hash)
        content = text.encode("utf-8", "replace")
        write_atomically(self._out / name, lambda file: file.write(content))


def copies_page(course: Course, comparison: Comparison) -> dict[str, Any]:
    """Return the template values of the page of similar hand-ins."""
    titles = {entry.hand_in.key: entry.hand_in.title for entry in course.entries}
    return {
        "pairs": [
            {
                "first": {"key": pair.first, "title": titles[pair.first]},
                "second": {"key": pair.second, "title": titles[pair.second]},
                "kind": str(pair.kind),
                "strength": pair.strength,
                "evidence": pair.evidence[:EVIDENCE],
                "more": max(0, len(pair.evidence) - EVIDENCE),
            }
            for pair in comparison.pairs
        ],
        "problems": comparison.problems,
        "footer": FOOTER,
    }


def index_page(course: Course) -> dict[str, Any]:
    """Return the template values of the index."""
    grades = [entry.grade for entry in course.entries if entry.grade]
    compared = changes(course) if len(course.rubrics) > 1 else None
    graded = sum(entry.record is not None for entry in course.entries)
    count = len(course.entries)
    missing = "" if graded == count else f", {count - graded} of them not graded yet"
    return {
        "title": "Grades",
        "subtitle": f"{count} hand-ins{missing}.",
        "cards": _cards(course),
        "maxima": maxima_of(course),
        "parts": course.rubric.parts,
        "rows": [_row(entry, course.rubric) for entry in course.entries],
        "distributions": distributions(course),
        "mistakes": mistakes(course),
        "changes": compared,
        "mean_change": (
            sum(change.difference for change in compared or ()) / len(grades) if grades else 0.0
        ),
        "failed": [
            {
                "key": entry.hand_in.key,
                "title": entry.hand_in.title,
                "outcome": str(entry.record.outcome) if entry.record else "",
                "reason": entry.record.reason if entry.record else "",
            }
            for entry in course.failed
        ],
        "refused": [
            {
                "key": entry.hand_in.key,
                "title": entry.hand_in.title,
                "reason": entry.grade.items[0].message,
            }
            for entry in course.entries
            if entry.grade and Flag.REFUSED in entry.grade.flags
        ],
        "problems": course.problems,
        "slowest": slowest(course),
        "footer": f"docs/autograder.md explains how hand-ins are graded. {FOOTER}",
    }


def _cards(course: Course) -> list[tuple[str, str]]:
    totals = [entry.grade.total for entry in course.entries if entry.grade]
    cards = [(str(len(totals)), "hand-ins with a grade")]
    if totals:
        low, high = quartiles(totals)
        cards += [
            (f"{statistics.fmean(totals):.1f}", "points on average"),
            (f"{statistics.median(totals):.1f}", "median"),
            (f"{low:.1f} to {high:.1f}", "middle half"),
        ]
    flagged = sum(bool(flags_of(entry)) for entry in course.entries)
    cards += [
        (str(flagged), "with a flag"),
        (str(len(course.failed)), "where the grader failed"),
        (_duration(course.seconds), "to grade them"),
    ]
    return cards


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"  # noqa: PLR2004


def _row(entry: Entry, rubric: Rubric) -> dict[str, Any]:
    hand_in, grade = entry.hand_in, entry.grade
    known = [text for one in hand_in.students for text in (one.sid, one.email) if text]
    return {
        "key": hand_in.key,
        "title": hand_in.title,
        "words": " ".join([hand_in.name, *known]),
        "flags": flags_of(entry),
        "handed_in": hand_in.handed_in,
        "total": grade.total if grade else None,
        "points": points_of(grade, rubric) if grade else {},
        "seconds": round(entry.record.seconds, 1) if entry.record else None,
    }


def student_page(entry: Entry, rubric: Rubric) -> dict[str, Any]:
    """Return the template values of one hand-in's page.

    The page names no other student and hides the details of a grader failure, so that it can be
    sent to the student.
    """
    grade, before = entry.grade, entry.before
    points = points_of(grade, rubric) if grade else {}
    old = points_of(before, rubric) if before else {}
    maxima: dict[str, float] = {}
    for item in grade.items if grade else ():
        maxima[item.part] = maxima.get(item.part, 0.0) + item.maximum
    no_grade = "It has not been graded yet."
    if entry.record is not None:
        no_grade = (
            "The grader did not finish; that is not the student's fault. The staff can see why."
        )
    return {
        "hand_in": entry.hand_in,
        "grade": grade and {"total": grade.total, "maximum": grade.maximum, "items": grade.items},
        "before": before,
        "flag_names": flags_of(entry),
        "summary": [
            {
                "title": title,
                "score": points[part],
                "maximum": maxima[part],
                "before": old.get(part),
            }
            for part, title in rubric.parts.items()
            if part in points
        ],
        "no_grade": no_grade,
        "footer": FOOTER,
    }
