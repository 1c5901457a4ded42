"""Runs in the grader's child process: forks one confined process per job and answers each job.

Reads two lines per job from standard input, the modules that it needs and the job, and writes one
answer per line to standard output, all JSON. Importing PyTorch takes seconds; it happens once,
before any student code runs.

A fork inherits all memory. The child itself therefore never reads a job: a fork does, and ends with
it, so no job can find the code of another hand-in, or a stand-in, in its memory.
"""

from __future__ import annotations

import base64
import json
import os
import select
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from cs285.grading.sandbox import (
    confinement,
    kernel,
    layers,
    leftovers,
    postponed,
    privileges,
    probe,
    reading,
    views,
)
from cs285.grading.sandbox.ends import (
    ANSWER_BYTES,
    BY_SIGNAL,
    DISK_BYTES,
    DISK_ENTRIES,
    IDLE_SECONDS,
    NOT_CONFINED,
    End,
    Ending,
)
from cs285.grading.sandbox.needs import Needs

_DISK_SECONDS = 0.25
"""Time between checks of what a job has written."""


def main(hidden: str, staged: str) -> None:
    """Answer jobs until the grader closes the pipe.

    Args:
        hidden: The reference's package, which no job may read.
        staged: The copies that a job may import.
    """
    folder = Path(staged).parent
    user = privileges.transient_user(folder.stat().st_ino)
    libraries = [path for path in reading.libraries(Path(hidden)) if path != folder.resolve()]
    paths = (*libraries, Path(staged))
    if user is not None:
        os.chown(folder, -1, user)
        folder.chmod(0o710)
        if not views.open_up(paths, user):
            user = None
    permissions = confinement.Permissions(paths, Path(hidden), user)
    postponed.postpone_the_compiler()
    _import_lazy_torch_modules()
    found = set(layers.of_the_kernel())
    if user is not None or os.geteuid() != 0:
        found.add(layers.Layer.USER)
    print(json.dumps(sorted(found)), flush=True)
    # Without a buffer: of the pipe, this process reads only the lines that name modules.
    with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as requests:
        while needed := requests.readline():
            _import(map(Needs, json.loads(needed)))
            if not _answer_in_a_fork(permissions):
                return


def _import_lazy_torch_modules() -> None:
    """Take one step of an optimiser: the first step imports modules, which takes seconds."""
    weights = torch.nn.Linear(1, 1)
    optimizer = torch.optim.Adam(weights.parameters())
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)
    weights(torch.ones(1, 1)).sum().backward()
    optimizer.step()
    schedule.step()


def _import(needed: Iterable[Needs]) -> None:
    """Import modules for a job, which has neither the time nor the disk space to do so."""
    for one in needed:
        if one is Needs.COMPILER:
            postponed.execute_the_compiler()  # in a job it would take half of the processor time
        else:
            from matplotlib import pyplot as plt

            plt.close("all")  # the import builds the font cache


def _answer_in_a_fork(permissions: confinement.Permissions) -> bool:
    """Read, run and answer the next job in a fork; return whether that succeeded."""
    parent = os.getpid()
    process = os.fork()
    if process == 0:
        status = 1
        try:
            kernel.end_with_parent()
            if os.getppid() != parent:
                return False
            with open(sys.stdin.fileno(), "rb", closefd=False) as requests:
                answer = run(json.loads(requests.readline()), permissions)
            print(json.dumps(answer), flush=True)
            status = 0
        finally:
            os._exit(status)
    return os.waitpid(process, 0)[1] == 0


def run(job: dict[str, Any], permissions: confinement.Permissions) -> dict[str, Any]:
    """Run one job in a separate process.

    Args:
        job: What to run, as `probe.run` takes it.
        permissions: What the process may read, and its user.

    Returns:
        `records`, the lines that came back, unparsed; `end` and `number`, the `Ending`.
    """
    folder = Path(tempfile.mkdtemp(prefix="cs285-check-"))
    try:
        for name, text in job["files"].items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        for name, code in job.get("compiled", {}).items():
            path = (folder / name).with_suffix(".pyc")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(base64.b64decode(code))
        (folder / "cwd").mkdir()
        _give(folder, permissions.user)
        reader, writer = os.pipe()
        parent = os.getpid()
        process = os.fork()
        if process == 0:
            os.close(reader)
            _become_job(job, folder, writer, permissions, parent)
        os.close(writer)
        chunks, ending = _listen(process, reader, folder / "cwd", job["seconds"])
        os.close(reader)
    finally:
        leftovers.remove(folder)
    text = b"".join(chunks).decode("utf-8", errors="replace")
    return {"records": text, "end": ending.end, "number": ending.number}


def _give(folder: Path, user: int | None) -> None:
    """Make a user the only one who can read a folder and its contents."""
    if user is not None:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, user, user)


def _become_job(
    job: dict[str, Any],
    folder: Path,
    writer: int,
    permissions: confinement.Permissions,
    parent: int,
) -> None:
    """Give up all rights, run the job and exit."""
    cwd = folder / "cwd"
    status = NOT_CONFINED
    try:
        os.setsid()
        os.chdir(cwd)
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        confinement.close_files(writer)
        tempfile.tempdir = str(cwd)
        permissions = replace(permissions, readable=(*permissions.readable, folder))
        confinement.confine(cwd, permissions)
        if os.getppid() != parent:  # it ended before this process was set to end with it
            return
        status = 0
        probe.run(job, folder, writer)
    finally:
        os._exit(status)


def _listen(process: int, reader: int, cwd: Path, seconds: float) -> tuple[list[bytes], Ending]:
    """Collect what a job writes until it ends, and kill it if it exceeds its limits."""
    chunks: list[bytes] = []
    size = 0
    idle = 0.0
    fills = False
    started = last = looked = time.monotonic()
    while True:
        ended, status = os.waitpid(process, os.WNOHANG)
        for chunk in _available(reader, 0.0 if ended else 0.02):
            chunks.append(chunk)
            size += len(chunk)
            if size > ANSWER_BYTES:
                break
        if ended:
            return chunks, _ending(status)
        now = time.monotonic()
        if not _runnable(process):
            idle += now - last
        last = now
        if now - looked > _DISK_SECONDS:
            fills = leftovers.exceed(cwd, DISK_BYTES, DISK_ENTRIES)
            looked = time.monotonic()
        exceeded = {
            Ending(End.FLOODED): size > ANSWER_BYTES,
            Ending(End.DISK): fills,
            Ending(End.IDLE): idle > IDLE_SECONDS,
            Ending(End.TIME, round(seconds)): now - started > seconds,
        }
        for ending, is_exceeded in exceeded.items():
            if is_exceeded:
                os.killpg(process, signal.SIGKILL)
                os.waitpid(process, 0)
                return chunks, ending


def _ending(status: int) -> Ending:
    """Return how a process ended, from its wait status."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return Ending(BY_SIGNAL.get(number, End.SIGNAL), number)
    if os.WEXITSTATUS(status) == NOT_CONFINED:
        return Ending(End.UNCONFINED)
    if os.WEXITSTATUS(status):
        return Ending(End.STATUS, os.WEXITSTATUS(status))
    return Ending(End.DONE)


def _runnable(process: int) -> bool:
    """Return whether a process is ready to run, even if it is still waiting for a core."""
    try:
        status = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return True
    return status.rpartition(")")[2].split()[0] == "R"


def _available(reader: int, wait: float) -> Iterator[bytes]:
    while select.select([reader], [], [], wait)[0]:
        chunk = os.read(reader, 1 << 16)
        if not chunk:
            # The pipe was closed early; without a sleep, waiting for the process would spin.
            time.sleep(wait)
            return
        yield chunk
        wait = 0.0
