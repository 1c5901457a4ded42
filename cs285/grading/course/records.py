"""Records of graded hand-ins: one file each, written atomically as soon as grading ends."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from cs285.grading.copies import Fingerprint
from cs285.grading.course.roster import CourseHandIn
from cs285.grading.hand_ins.hand_in import GradeResult, Limits
from cs285.grading.hand_ins.rubric import Rubric
from cs285.infrastructure.files import write_atomically

RESULTS = "results"
"""The folder of the records, inside the output folder."""
FINGERPRINTS = "fingerprints"
_VERSION = 1
"""Increased when older records can no longer be used."""


class Outcome(StrEnum):
    """How the grading of a hand-in ended."""

    GRADED = "graded"
    CRASHED = "the grader failed"
    KILLED = "the grader was killed"
    TIMED_OUT = "took too long"


@dataclass(frozen=True)
class Record:
    """The grades of one hand-in, or why it has none."""

    key: str
    settings: str
    """A digest of everything that decides a grade except the hand-in itself."""
    stamp: str
    """A digest of the names, sizes and times of the hand-in's files."""
    outcome: Outcome
    seconds: float
    """Wall time from the start of its process to the end."""
    processor_seconds: float = 0.0
    """Processor time of that process and its children; 0 if it did not finish."""
    grades: tuple[GradeResult, ...] = ()
    """One for each rubric."""
    reason: str = ""
    """Why the grader did not finish."""


_ADAPTER = TypeAdapter(Record)


def settings_of(
    rubrics: Sequence[Rubric], *, check_code: bool, limits: Limits, starters: Sequence[Path]
) -> str:
    """Return a digest of everything that decides a record except the hand-in."""
    parts = [str(_VERSION), *(rubric.model_dump_json() for rubric in rubrics), str(check_code)]
    return _digest([*parts, repr(limits), *map(str, starters)])


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
    """Return the path of a hand-in's record."""
    return out / RESULTS / f"{hand_in.key}.json"


def fingerprint_path_of(out: Path, hand_in: CourseHandIn) -> Path:
    """Return the path of a hand-in's fingerprint."""
    return out / FINGERPRINTS / f"{hand_in.key}.json"


def write_record(path: Path, record: Record) -> None:
    """Write a record.

    Raises:
        UserError: If it cannot be written.
    """
    content = _ADAPTER.dump_json(record, indent=1)
    write_atomically(path, lambda file: file.write(content))


def read_record(path: Path) -> Record | None:
    """Return a record, or None if it is missing or unusable."""
    try:
        return _ADAPTER.validate_json(path.read_bytes())
    except (OSError, ValidationError, ValueError):
        return None


def write_fingerprint(path: Path, found: Fingerprint) -> None:
    """Write a fingerprint for the search for copies.

    Raises:
        UserError: If it cannot be written.
    """
    content = json.dumps(found.as_json()).encode()
    write_atomically(path, lambda file: file.write(content))


def read_fingerprint(path: Path) -> Fingerprint | None:
    """Return a fingerprint, or None if it is missing or unusable."""
    try:
        return Fingerprint.from_json(json.loads(path.read_bytes()))
    except (OSError, ValueError, LookupError, TypeError):
        return None
