"""A course: its hand-ins, their grades, and the output folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from cs285.grading.copies import Fingerprint, Pair, compare
from cs285.grading.course.records import (
    FINGERPRINTS,
    RESULTS,
    Outcome,
    Record,
    fingerprint_path_of,
    path_of,
    read_fingerprint,
    read_record,
    settings_of,
    stamp_of,
)
from cs285.grading.course.roster import CourseHandIn, Roster
from cs285.grading.course.worker import Task
from cs285.grading.course.workers import grade_all, scratch_folder
from cs285.grading.hand_ins.hand_in import DEFAULT_LIMITS, GradeResult, Limits
from cs285.grading.hand_ins.rubric import Rubric
from cs285.infrastructure.errors import UserError
from cs285.infrastructure.files import locked, prepare_folder


@dataclass(frozen=True)
class Entry:
    """One hand-in and the outcome of grading it."""

    hand_in: CourseHandIn
    record: Record | None
    """None if it has not been graded yet."""

    @property
    def grade(self) -> GradeResult | None:
        """The grade, if there is one; with two rubrics, the grade by the second."""
        return self.record.grades[-1] if self.record and self.record.grades else None

    @property
    def before(self) -> GradeResult | None:
        """With two rubrics, the grade by the first."""
        has_two = self.record is not None and len(self.record.grades) > 1
        return self.record.grades[0] if self.record and has_two else None


@dataclass(frozen=True)
class Course:
    """All hand-ins, in the order of their names."""

    entries: tuple[Entry, ...]
    rubrics: tuple[Rubric, ...]
    """One rubric, or two: the older, then the newer."""
    problems: tuple[str, ...]
    seconds: float = 0.0
    """Wall time of this grading, without that of any earlier one it resumes."""

    @property
    def rubric(self) -> Rubric:
        """The rubric that the grades follow."""
        return self.rubrics[-1]

    @property
    def is_complete(self) -> bool:
        """Whether every hand-in has a record."""
        return all(entry.record for entry in self.entries)

    @property
    def failed(self) -> list[Entry]:
        """The hand-ins that the grader did not finish."""
        return [
            entry
            for entry in self.entries
            if entry.record and entry.record.outcome is not Outcome.GRADED
        ]


@dataclass(frozen=True)
class Choices:
    """The options of a grading."""

    out: Path
    """The output folder."""
    rubrics: tuple[Rubric, ...]
    """One rubric, or two: the older, then the newer."""
    workers: int
    check_code: bool = True
    resume: bool = False
    limits: Limits = DEFAULT_LIMITS
    find_copies: bool = True
    starters: tuple[Path, ...] = ()
    """Folders with code that was given to students and does not count as copied."""


@contextmanager
def output_folder(choices: Choices) -> Iterator[None]:
    """Create the output folder and lock it against other graders.

    Raises:
        UserError: If it cannot be written to, is in use, or holds results and `resume` is not set.
    """
    results = choices.out / RESULTS
    if not choices.resume and any(results.glob("*.json")):
        raise UserError(
            f"{choices.out} holds results of an earlier grading; pass --resume to keep those that "
            "are still valid and grade the others, or choose another folder with --out"
        )
    prepare_folder(results)
    prepare_folder(choices.out / FINGERPRINTS)
    with locked(choices.out):
        yield


def grade_course(
    roster: Roster, choices: Choices, progress: Callable[[int, int], object] = lambda *_: None
) -> Generator[Course, None, None]:
    """Grade all hand-ins of a roster; yield the course at the start and after each hand-in.

    Call this inside `output_folder`. Every result is on disk before the next course is yielded.

    Args:
        roster: The hand-ins.
        choices: The options.
        progress: Called with the number of hand-ins done and the number of all.

    Raises:
        UserError: If the folder holds results of another rubric or other flags.
    """
    started = time.monotonic()
    settings = settings_of(
        choices.rubrics,
        check_code=choices.check_code,
        limits=choices.limits,
        starters=choices.starters,
    )
    stamps = {hand_in.key: stamp_of(hand_in.path) for hand_in in roster.hand_ins}
    records = {
        hand_in.key: _valid_record(hand_in, choices, settings, stamps[hand_in.key])
        for hand_in in roster.hand_ins
    }

    def course() -> Course:
        entries = tuple(Entry(one, records[one.key]) for one in roster.hand_ins)
        return Course(entries, choices.rubrics, roster.problems, time.monotonic() - started)

    done = sum(record is not None for record in records.values())
    progress(done, len(records))
    yield course()
    with scratch_folder(choices.out) as scratch:
        tasks = [
            Task(
                key=hand_in.key,
                path=hand_in.path,
                target=path_of(choices.out, hand_in),
                settings=settings,
                stamp=stamps[hand_in.key],
                rubrics=choices.rubrics,
                check_code=choices.check_code,
                limits=choices.limits,
                scratch=scratch / hand_in.key,
                fingerprint=_fingerprint_path(hand_in, choices),
                starters=choices.starters,
            )
            for hand_in in roster.hand_ins
            if records[hand_in.key] is None
        ]
        for record in grade_all(tasks, choices.workers):
            records[record.key] = record
            done += 1
            progress(done, len(records))
            yield course()


def _valid_record(
    hand_in: CourseHandIn, choices: Choices, settings: str, stamp: str
) -> Record | None:
    """Return the record of an earlier grading if it is still valid."""
    record = read_record(path_of(choices.out, hand_in))
    if record is None:
        return None
    if record.settings != settings:
        raise UserError(
            f"{choices.out} holds results of another rubric or other flags; repeat the command "
            "with the same ones, or choose another folder with --out"
        )
    fingerprint = _fingerprint_path(hand_in, choices)
    is_whole = fingerprint is None or fingerprint.is_file()
    # What kept the grader from finishing may be over, so hand-ins without a grade are tried again.
    is_valid = is_whole and record.outcome is Outcome.GRADED and record.stamp == stamp
    return record if is_valid else None


def _fingerprint_path(hand_in: CourseHandIn, choices: Choices) -> Path | None:
    return fingerprint_path_of(choices.out, hand_in) if choices.find_copies else None


class Comparison(NamedTuple):
    """What the hand-ins of a course have in common."""

    pairs: list[Pair]
    """Pairs of hand-ins that have something in common, identified by their keys."""
    problems: list[str]
    """What was not compared, and why."""


def compare_hand_ins(course: Course, out: Path) -> Comparison:
    """Compare the hand-ins of a course by the fingerprints in its output folder."""
    prints: dict[str, Fingerprint] = {}
    problems: list[str] = []
    for hand_in in (entry.hand_in for entry in course.entries):
        found = read_fingerprint(fingerprint_path_of(out, hand_in))
        if found is None:
            problems.append(f"{hand_in.title}: the grader did not finish")
        else:
            prints[hand_in.key] = found
            problems += [f"{hand_in.title}: {problem}" for problem in found.problems]
    return Comparison(compare(prints), problems)
