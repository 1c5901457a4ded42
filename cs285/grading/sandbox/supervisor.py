"""Runs in the grader's child process: forks one confined process per job and answers each job.

Reads one job per line from standard input and writes one answer per line to standard output, both
JSON. Importing PyTorch takes seconds; it happens once, before any student code runs.
"""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from cs285.grading.sandbox import confinement, probe
from cs285.grading.sandbox.ends import ANSWER_BYTES, BY_SIGNAL, IDLE_SECONDS, End, Ending

_IMPORTS_MATPLOTLIB = re.compile(r"^(?:import|from) matplotlib\b", re.MULTILINE)


def main() -> None:
    """Answer jobs until the grader closes the pipe."""
    _import_what_torch_postpones()
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), flush=True)


def _import_what_torch_postpones() -> None:
    """Take the first step of an optimiser: that imports modules, which takes seconds."""
    weights = torch.nn.Linear(1, 1)
    optimizer = torch.optim.Adam(weights.parameters())
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)
    weights(torch.ones(1, 1)).sum().backward()
    optimizer.step()
    schedule.step()


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Run one job in a separate process.

    Returns:
        `records`, the lines that came back, unparsed; `end` and `number`, the `Ending`.
    """
    folder = Path(tempfile.mkdtemp(prefix="cs285-check-"))
    if any(map(_IMPORTS_MATPLOTLIB.search, job["files"].values())):
        from matplotlib import pyplot as plt

        # This builds the font cache; a job has neither the time nor the disk space to do so.
        plt.close("all")
    try:
        for name, text in job["files"].items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        (folder / "cwd").mkdir()
        reader, writer = os.pipe()
        process = os.fork()
        if process == 0:
            os.close(reader)
            _become_job(job, folder, writer)
        os.close(writer)
        chunks, ending = _listen(process, reader, job["seconds"])
        os.close(reader)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    text = b"".join(chunks).decode("utf-8", errors="replace")
    return {"records": text, "end": ending.end, "number": ending.number}


def _become_job(job: dict[str, Any], folder: Path, writer: int) -> None:
    """Give up all rights, run the job and exit."""
    try:
        os.setsid()
        os.chdir(folder / "cwd")
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        confinement.confine(folder / "cwd")
        probe.run(job, folder, writer)
    finally:
        os._exit(0)


def _listen(process: int, reader: int, seconds: float) -> tuple[list[bytes], Ending]:
    """Collect what a job writes until it ends, and end it if it exceeds its limits."""
    chunks: list[bytes] = []
    size = 0
    idle = 0.0
    started = last = time.monotonic()
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
        exceeded = {
            Ending(End.FLOODED): size > ANSWER_BYTES,
            Ending(End.IDLE): idle > IDLE_SECONDS,
            Ending(End.TIME, round(seconds)): now - started > seconds,
        }
        for ending, is_exceeded in exceeded.items():
            if is_exceeded:
                os.killpg(process, signal.SIGKILL)
                os.waitpid(process, 0)
                return chunks, ending


def _ending(status: int) -> Ending:
    """Return how a process ended by itself, from its wait status."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return Ending(BY_SIGNAL.get(number, End.SIGNAL), number)
    if os.WEXITSTATUS(status):
        return Ending(End.STATUS, os.WEXITSTATUS(status))
    return Ending(End.DONE)


def _runnable(process: int) -> bool:
    """Return whether a process is ready to run; on a busy machine it may wait long for a core."""
    try:
        status = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return True
    return status.rpartition(")")[2].split()[0] == "R"


def _available(reader: int, wait: float) -> Iterator[bytes]:
    while select.select([reader], [], [], wait)[0]:
        chunk = os.read(reader, 1 << 16)
        if not chunk:
            # Closed early: without this, waiting for the end would spin.
            time.sleep(wait)
            return
        yield chunk
        wait = 0.0
