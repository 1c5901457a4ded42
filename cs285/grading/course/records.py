"""What is kept of every hand-in as soon as it is graded: one file for each, written in one step."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from cs285.grading.course.roster import CourseHandIn
from cs285.grading.hand_ins.hand_in import GradeResult, Limits
from cs285.grading.hand_ins.rubric import Rubric
from cs285.infrastructure.files import write_atomically

RESULTS = "results"
"""The folder of these files, in the output folder."""
_VERSION = 1
"""Changes when old files can no longer be used."""


class Outcome(StrEnum):
    """What became of a hand-in."""

    GRADED = "graded"
    CRASHED = "the grader failed"
    KILLED = "the grader was killed"
    TIMED_OUT = "took too long"


@dataclass(frozen=True)
class Record:
    """The grades of one hand-in, or why it has none."""

    key: str
    settings: str
    """A digest of all that decides a grade except the hand-in itself."""
    stamp: str
    """A digest of the names, sizes and times of the hand-in's files."""
    outcome: Outcome
    seconds: float
    """Wall time from the start of its process to the end."""
    grades: tuple[GradeResult, ...] = ()
    """One for each rubric."""
    reason: str = ""
    """Why the grader did not finish."""
    fingerprint: Any = None
    """What copies are found by, as JSON."""


_ADAPTER = TypeAdapter(Record)


def settings_of(rubrics: list[Rubric], *, check_code: bool, limits: Limits) -> str:
    """Return a digest of all that decides a grade except the hand-in."""
    parts = [str(_VERSION), *(rubric.model_dump_json() for rubric in rubrics), str(check_code)]
    return _digest([*parts, repr(limits)])


def stamp_of(path: Path) -> str:
    """Return a digest of the names, sizes and times of a hand-in's files."""
    paths = [path]
    if path.is_dir():
        paths = [Path(folder, name) for folder, _, names in os.walk(path) for name in sorted(names)]
    parts = []
    for one in sorted(paths):
        try:
            status = one.lstat()
        except OSError:
            continue
        parts.append(f"{one} {status.st_size} {status.st_mtime_ns}")
    return _digest(parts)


def _digest(parts: list[str]) -> str:
    text = "\0".join(parts).encode("utf-8", "surrogateescape")
    return hashlib.sha256(text).hexdigest()[:16]


def path_of(out: Path, hand_in: CourseHandIn) -> Path:
    """Return where the record of a hand-in is kept."""
    return out / RESULTS / f"{hand_in.key}.json"


def write_record(path: Path, record: Record) -> None:
    """Write a record.

    Raises:
        UserError: If it cannot be written.
    """
    content = _ADAPTER.dump_json(record, indent=1)
    write_atomically(path, lambda file: file.write(content))


def read_record(path: Path) -> Record | None:
    """Return a record, or None if there is none that can be used."""
    try:
        return _ADAPTER.validate_json(path.read_bytes())
    except (OSError, ValidationError, ValueError):
        return None


def without_fingerprint(record: Record) -> Record:
    """Return a record without what only the search for copies needs."""
    return replace(record, fingerprint=None)
