"""Grades one hand-in in a separate process and writes its record."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import threading
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from cs285.grading.archives import printable
from cs285.grading.copies import Fingerprint, fingerprint
from cs285.grading.course.records import Outcome, Record, write_fingerprint, write_record
from cs285.grading.hand_ins.hand_in import Limits, OutOfTimeError, grade_by, processor_time
from cs285.grading.hand_ins.rubric import Rubric
from cs285.grading.sandbox import leftovers

_LINES = 12
"""Number of lines of a traceback to keep: enough to find the place."""


class Task(NamedTuple):
    """One hand-in to grade."""

    key: str
    path: Path
    """The hand-in."""
    target: Path
    """Where to write its record."""
    settings: str
    stamp: str
    rubrics: Sequence[Rubric]
    check_code: bool
    limits: Limits
    scratch: Path
    """A folder for temporary files; the caller removes it."""
    fingerprint: Path | None = None
    """Where to write its fingerprint; None for no fingerprint."""
    starters: tuple[Path, ...] = ()
    """Folders with code that was given to students."""


def work(task: Task) -> None:
    """Grade a hand-in and write its record; this is all that the process does."""
    os.setsid()  # so that the caller can kill this process together with all that it starts
    _end_with_caller(task.scratch)
    os.environ["TMPDIR"] = tempfile.tempdir = str(task.scratch)
    started = time.perf_counter()
    record = grade(task)
    if task.fingerprint is not None:
        write_fingerprint(task.fingerprint, fingerprint_of(task))
    seconds, used = time.perf_counter() - started, _processor_seconds()
    # The record comes last: once it exists, the hand-in counts as done.
    write_record(task.target, replace(record, seconds=seconds, processor_seconds=used))
    leftovers.remove(task.scratch)


def grade(task: Task) -> Record:
    """Grade a hand-in and return its record; if the grader fails, the record says why."""
    started = time.perf_counter()
    try:
        grades = tuple(
            grade_by(
                task.path,
                task.rubrics,
                check_code=task.check_code,
                limits=task.limits,
                in_fork="fork" in multiprocessing.get_all_start_methods(),
            )
        )
        outcome, reason = Outcome.GRADED, ""
    except Exception:  # noqa: BLE001 - it affects only this hand-in, and the record shows it
        grades, outcome = (), Outcome.CRASHED
        reason = "".join(traceback.format_exc().splitlines(keepends=True)[-_LINES:])
    seconds = time.perf_counter() - started
    return Record(
        task.key, task.settings, task.stamp, outcome, seconds, grades=grades, reason=reason
    )


def _processor_seconds() -> float:
    """Return the processor time of this process and of all children it waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def fingerprint_of(task: Task) -> Fingerprint:
    """Return the fingerprint for the search for copies; a failure must not cost the grade."""
    try:
        with processor_time(task.limits.files):
            return fingerprint(task.path, task.starters)
    except OutOfTimeError:
        return Fingerprint(problems=(f"took longer than {task.limits.files:g} s",))
    except Exception as error:  # noqa: BLE001 - it affects only this fingerprint
        return Fingerprint(problems=(printable(repr(error)),))


def _end_with_caller(scratch: Path) -> None:
    """Kill this process and its children when the caller ends, in whatever way."""
    caller = multiprocessing.parent_process()

    def wait() -> None:
        if caller is not None:
            caller.join()
            leftovers.remove(scratch)
            with suppress(OSError):
                scratch.parent.rmdir()  # the last worker removes the common folder
            with suppress(ProcessLookupError):
                os.killpg(0, signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()
