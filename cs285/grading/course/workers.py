"""Runs workers in parallel; a worker that fails affects only its own hand-in."""

from __future__ import annotations

import multiprocessing
import os
import signal
import stat
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from cs285.grading.course.records import Outcome, Record, read_record, write_record
from cs285.grading.course.worker import Task, work
from cs285.grading.sandbox import leftovers

SECONDS = 1_200.0
"""Maximum wall time for one hand-in, even on a busy machine; each part also has its own limit."""
MEMORY_OF_ONE = 700_000_000
"""Maximum memory in bytes for grading one hand-in, including the processes that run its code."""
_POLL_SECONDS = 1.0


@dataclass
class _Running:
    task: Task
    process: BaseProcess
    started: float


def usable_workers() -> int:
    """Return how many workers fit on this machine, given its cores and free memory."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(line for line in lines if line.startswith("MemAvailable:"))
        return max(1, min(cores, int(free.split()[1]) * 1_024 // MEMORY_OF_ONE))
    return cores


def grade_all(
    tasks: Iterable[Task],
    workers: int,
    seconds: float = SECONDS,
    target: Callable[[Task], None] = work,
) -> Iterator[Record]:
    """Grade hand-ins, each in a new process, and yield their records once they are written.

    If a worker is killed, its record says so, and its hand-in is tried once more at the end, alone:
    another hand-in may have filled the memory. If the caller stops early, no process is left.

    Args:
        tasks: What to grade.
        workers: How many processes may grade at the same time.
        seconds: Wall time for one hand-in.
        target: Called in each process with its task; writes the record.
    """
    again: list[Task] = []
    for task, record in _grade(tasks, workers, seconds, target):
        if record.outcome is Outcome.KILLED:
            again.append(task)
        else:
            yield record
    for _, record in _grade(again, 1, seconds, target):
        yield record


def _grade(
    tasks: Iterable[Task], workers: int, seconds: float, target: Callable[[Task], None]
) -> Iterator[tuple[Task, Record]]:
    waiting = deque(tasks)
    context = _context(check_code=any(task.check_code for task in waiting))
    running: list[_Running] = []
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                task = waiting.popleft()
                task.scratch.mkdir(mode=0o711, parents=True, exist_ok=True)
                process = context.Process(target=target, args=(task,), name=task.key)
                running.append(_Running(task, process, time.monotonic()))
                process.start()
                running[-1].started = time.monotonic()
            wait([one.process.sentinel for one in running], _POLL_SECONDS)
            now = time.monotonic()
            for one in list(running):
                if not one.process.is_alive() or now - one.started > seconds:
                    record = _finish(one, seconds)
                    running.remove(one)
                    yield one.task, record
    finally:
        for one in running:
            _end(one)


def _context(*, check_code: bool) -> Any:
    """Return the multiprocessing context."""
    available = multiprocessing.get_all_start_methods()
    if "forkserver" not in available:
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    # Every worker is forked from a process that has imported everything and seen no hand-in.
    module = "worker_with_checker" if check_code else "worker"
    context.set_forkserver_preload([f"cs285.grading.course.{module}"])
    return context


def _finish(one: _Running, seconds: float) -> Record:
    """Kill a worker and its children; return its record, or one that says what happened to it."""
    taken = time.monotonic() - one.started
    in_time = not one.process.is_alive()
    _end(one)
    task = one.task
    record = read_record(task.target)
    if record and (record.settings, record.stamp) == (task.settings, task.stamp):
        return record
    if in_time:
        outcome, reason = Outcome.KILLED, _how_it_ended(one.process.exitcode)
    else:
        outcome, reason = Outcome.TIMED_OUT, f"it took longer than {seconds:,.0f} s"
    record = Record(task.key, task.settings, task.stamp, outcome, taken, reason=reason)
    write_record(task.target, record)
    return record


def _end(one: _Running) -> None:
    """Kill a worker and all that it started, and remove its temporary files."""
    if one.process.pid is not None:  # it was started
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(one.process.pid, signal.SIGKILL)
        one.process.kill()  # it may not have its process group yet
        one.process.join()
    leftovers.remove(one.task.scratch)


def _how_it_ended(exit_code: int | None) -> str:
    if exit_code == -signal.SIGKILL:
        return (
            "its process was killed twice, the second time while no other was running; the system "
            "does that when memory runs out"
        )
    if exit_code is not None and exit_code < 0:
        try:
            return f"its process was ended by {signal.Signals(-exit_code).name}"
        except ValueError:
            return f"its process was ended by signal {-exit_code}"
    return f"its process exited with status {exit_code} and left no result"


@contextmanager
def scratch_folder(out: Path) -> Iterator[Path]:
    """Create a folder for the temporary files of all workers, and remove it at the end.

    First, folders left by a killed grading of the same output folder are removed. The caller holds
    the lock of the output folder, so no process needs them any more.

    Args:
        out: The output folder.
    """
    status = out.stat()
    prefix = f"cs285-course-{status.st_dev:x}-{status.st_ino:x}-"
    for left in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        with suppress(OSError):
            found = left.lstat()
            if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid():
                leftovers.remove(left)
    with leftovers.temporary_folder(prefix) as folder:
        # Student code may run as another user, who has to reach a folder inside this one.
        folder.chmod(0o711)
        yield folder
