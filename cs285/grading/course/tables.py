"""The grades of a course as `grades.csv` and `grades.json`."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cs285.grading.copies import Pair
from cs285.grading.course.course import Course, Entry
from cs285.grading.course.overview import changes, flags_of, maxima_of, points_of
from cs285.infrastructure.errors import printable
from cs285.infrastructure.files import write_atomically

_FORMULA = set("=+-@\N{FULLWIDTH EQUALS SIGN}\N{FULLWIDTH PLUS SIGN}"
               "\N{FULLWIDTH HYPHEN-MINUS}\N{FULLWIDTH COMMERCIAL AT}")  # fmt: skip
"""Spreadsheets evaluate a cell that begins with one of these."""


def cell(value: object) -> object:
    """Return a value in a form that no spreadsheet takes for a formula; numbers stay numbers."""
    if value is None or isinstance(value, int | float):
        return value
    text = printable(value)
    return f"'{text}" if text.lstrip()[:1] in _FORMULA and text.strip() else text


def write_csv(out: Path, course: Course) -> None:
    """Write a row for every student: points by part and flags.

    Raises:
        UserError: If the file cannot be written.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    parts = list(maxima_of(course))
    writer.writerow(_headings(course, parts))
    for entry in course.entries:
        for row in _rows(entry, course, parts):
            writer.writerow(list(map(cell, row)))
    # With a byte order mark, spreadsheets read names in any alphabet.
    content = text.getvalue().encode("utf-8-sig")
    write_atomically(out / "grades.csv", lambda file: file.write(content))


def _headings(course: Course, parts: Sequence[str]) -> list[str]:
    compared = ["total_before", "difference"] if len(course.rubrics) > 1 else []
    return [
        "name", "sid", "email", "hand_in", "handed_in", "flags", "total", "maximum", *compared,
        *parts, "score_in_export", "seconds", "page",
    ]  # fmt: skip


def _rows(entry: Entry, course: Course, parts: Sequence[str]) -> Iterator[list[object]]:
    hand_in, grade = entry.hand_in, entry.grade
    points = points_of(grade, course.rubric) if grade else {}
    total: list[object] = [grade.total, grade.maximum] if grade else [None, None]
    if len(course.rubrics) > 1:
        before = entry.before
        total += [None, None]
        if grade and before:
            total[-2:] = [before.total, round(grade.total - before.total, 2)]
    seconds = round(entry.record.seconds, 1) if entry.record else None
    page = f"students/{hand_in.key}.html"
    for student in hand_in.students:
        yield [
            student.name, student.sid, student.email, hand_in.name, hand_in.handed_in,
            "; ".join(flags_of(entry)), *total, *map(points.get, parts),
            hand_in.earlier_score, seconds, page,
        ]  # fmt: skip


def write_json(out: Path, course: Course) -> None:
    """Write all grades with their items.

    Raises:
        UserError: If the file cannot be written.
    """
    content = json.dumps(as_json(course), indent=1).encode()
    write_atomically(out / "grades.json", lambda file: file.write(content))


def write_pairs(out: Path, pairs: Sequence[Pair]) -> None:
    """Write the pairs of similar hand-ins to `copies.json`.

    Raises:
        UserError: If the file cannot be written.
    """
    content = json.dumps([pair.as_json() for pair in pairs], indent=1).encode()
    write_atomically(out / "copies.json", lambda file: file.write(content))


def as_json(course: Course) -> dict[str, Any]:
    """Return a course as plain data."""
    compared = {change.entry.hand_in.key: change.difference for change in changes(course)}
    return {
        "is_complete": course.is_complete,
        "parts": course.rubric.parts,
        "maxima": maxima_of(course),
        "problems": list(course.problems),
        "hand_ins": [
            {
                "key": entry.hand_in.key,
                "name": entry.hand_in.name,
                "students": [asdict(student) for student in entry.hand_in.students],
                "handed_in": entry.hand_in.handed_in,
                "score_in_export": entry.hand_in.earlier_score,
                "outcome": entry.record and str(entry.record.outcome),
                "reason": entry.record.reason if entry.record else "",
                "seconds": entry.record and round(entry.record.seconds, 1),
                "processor_seconds": entry.record and round(entry.record.processor_seconds, 1),
                "flags": flags_of(entry),
                "grade": entry.grade and entry.grade.as_json(),
                **(
                    {
                        "before": entry.before and entry.before.as_json(),
                        "difference": compared.get(entry.hand_in.key, 0.0),
                    }
                    if len(course.rubrics) > 1
                    else {}
                ),
            }
            for entry in course.entries
        ],
    }
