"""Grades one hand-in in its own process and keeps the result."""

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
"""Lines of a traceback that are kept: enough to find the place."""


class Task(NamedTuple):
    """One hand-in to grade."""

    key: str
    path: Path
    """The hand-in."""
    target: Path
    """Where its record is to be."""
    settings: str
    stamp: str
    rubrics: Sequence[Rubric]
    check_code: bool
    limits: Limits
    scratch: Path
    """A folder for temporary files, which the caller removes."""
    fingerprint: Path | None = None
    """Where its fingerprint is to be, if there is to be one."""
    starters: tuple[Path, ...] = ()
    """Folders with code that students were given."""


def work(task: Task) -> None:
    """Grade a hand-in and write its record; the whole of this process."""
    os.setsid()  # so that the caller can end all that this process starts
    _end_with_the_caller(task.scratch)
    os.environ["TMPDIR"] = tempfile.tempdir = str(task.scratch)
    started = time.perf_counter()
    record = grade(task)
    if task.fingerprint is not None:
        write_fingerprint(task.fingerprint, fingerprint_of(task))
    seconds, used = time.perf_counter() - started, _processor_seconds()
    # Last: with its record, a hand-in is done.
    write_record(task.target, replace(record, seconds=seconds, processor_seconds=used))
    leftovers.remove(task.scratch)


def grade(task: Task) -> Record:
    """Return the record of a hand-in, whatever happens in grading it."""
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
    except Exception:  # noqa: BLE001 - it costs this hand-in alone, and the record says what it was
        grades, outcome = (), Outcome.CRASHED
        reason = "".join(traceback.format_exc().splitlines(keepends=True)[-_LINES:])
    seconds = time.perf_counter() - started
    return Record(
        task.key, task.settings, task.stamp, outcome, seconds, grades=grades, reason=reason
    )


def _processor_seconds() -> float:
    """Return the processor time of this process and of all that it waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def fingerprint_of(task: Task) -> Fingerprint:
    """Return what copies are found by; whatever happens, the grade is not lost."""
    try:
        with processor_time(task.limits.files):
            return fingerprint(task.path, task.starters)
    except OutOfTimeError:
        return Fingerprint(problems=(f"took longer than {task.limits.files:g} s",))
    except Exception as error:  # noqa: BLE001 - it costs this fingerprint alone
        return Fingerprint(problems=(printable(repr(error)),))


def _end_with_the_caller(scratch: Path) -> None:
    """End this process and its children when the caller ends, however it does."""
    caller = multiprocessing.parent_process()

    def wait() -> None:
        if caller is not None:
            caller.join()
            leftovers.remove(scratch)
            with suppress(OSError):
                scratch.parent.rmdir()  # the last worker removes the folder of them all
            with suppress(ProcessLookupError):
                os.killpg(0, signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()
