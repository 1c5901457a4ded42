"""Grades one hand-in in a process of its own and keeps the result."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import tempfile
import threading
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from cs285.grading.course.records import Outcome, Record, write_record
from cs285.grading.hand_ins.hand_in import Limits, grade_by
from cs285.grading.hand_ins.rubric import Rubric

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


def work(task: Task) -> None:
    """Grade a hand-in and write its record; the whole of this process."""
    os.setsid()  # so that the caller can end all that this process starts
    _end_with_the_caller(task.scratch)
    os.environ["TMPDIR"] = tempfile.tempdir = str(task.scratch)
    write_record(task.target, grade(task))


def grade(task: Task) -> Record:
    """Return the record of a hand-in, whatever happens in grading it."""
    started = time.perf_counter()
    try:
        grades = tuple(
            grade_by(task.path, task.rubrics, check_code=task.check_code, limits=task.limits)
        )
        outcome, reason = Outcome.GRADED, ""
    except Exception:  # noqa: BLE001 - it costs this hand-in alone, and the record says what it was
        grades, outcome = (), Outcome.CRASHED
        reason = "".join(traceback.format_exc().splitlines(keepends=True)[-_LINES:])
    seconds = time.perf_counter() - started
    return Record(task.key, task.settings, task.stamp, outcome, seconds, grades, reason)


def _end_with_the_caller(scratch: Path) -> None:
    """End this process and its children when the caller ends, however it does."""
    caller = multiprocessing.parent_process()

    def wait() -> None:
        if caller is not None:
            caller.join()
            shutil.rmtree(scratch, ignore_errors=True)
            with suppress(ProcessLookupError):
                os.killpg(0, signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()
