"""Runs in the grader's child: one forked, confined process for each job, and an answer for each.

Reads one job a line from its standard input and writes one answer a line to its standard output,
both JSON. Importing PyTorch takes seconds and happens once, before any student code is near.
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

ANSWER_BYTES = 16_000_000
IDLE_SECONDS = 3.0
"""How long a job may sleep; waiting for a processor does not count."""
_KILLED_FOR = {
    signal.SIGXCPU: "ran past its processor time",
    signal.SIGKILL: "was killed: past its processor time or its memory",
    signal.SIGSEGV: "crashed the interpreter",
    signal.SIGXFSZ: "wrote a file past its limit",
}
_IMPORTS_MATPLOTLIB = re.compile(r"^(?:import|from) matplotlib\b", re.MULTILINE)


def main() -> None:
    """Answer jobs until the grader closes the pipe."""
    _import_what_torch_postpones()
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), flush=True)


def _import_what_torch_postpones() -> None:
    """Take the first step of an optimiser, which imports seconds' worth of modules."""
    weights = torch.nn.Linear(1, 1)
    optimizer = torch.optim.Adam(weights.parameters())
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)
    weights(torch.ones(1, 1)).sum().backward()
    optimizer.step()
    schedule.step()


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Run one job in a process of its own.

    Returns:
        `records`, the lines of numbers that came back, unread, and `end`: how the process ended,
        empty if as it should.
    """
    folder = Path(tempfile.mkdtemp(prefix="cs285-check-"))
    if any(map(_IMPORTS_MATPLOTLIB.search, job["files"].values())):
        from matplotlib import pyplot as plt

        # It has made a cache of fonts now, for which a job has neither the time nor the place.
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
        chunks, end = _listen(process, reader, job["seconds"])
        os.close(reader)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    text = b"".join(chunks).decode("utf-8", errors="replace")
    return {"records": text, "end": end}


def _become_job(job: dict[str, Any], folder: Path, writer: int) -> None:
    """Give everything up, run the job and never come back."""
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


def _listen(process: int, reader: int, seconds: float) -> tuple[list[bytes], str]:
    """Collect what a job writes until it ends, and end it if it goes past its limits."""
    chunks: list[bytes] = []
    size = 0
    end = ""
    ended, status = 0, 0
    idle = 0.0
    started = last = time.monotonic()
    while not ended:
        ended, status = os.waitpid(process, os.WNOHANG)
        for chunk in _available(reader, 0.0 if ended else 0.02):
            chunks.append(chunk)
            size += len(chunk)
            if size > ANSWER_BYTES:
                break
        now = time.monotonic()
        if not _runnable(process):
            idle += now - last
        last = now
        late = idle > IDLE_SECONDS or now - started > seconds
        if not ended and (size > ANSWER_BYTES or late):
            end = "flooded its answer" if size > ANSWER_BYTES else "did not come to an end"
            os.killpg(process, signal.SIGKILL)
            ended, status = os.waitpid(process, 0)
    if not end and os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        name = signal.Signals(number).name
        end = _KILLED_FOR.get(signal.Signals(number), f"was ended by the signal {name}")
    elif not end and os.WEXITSTATUS(status):
        end = f"ended itself with status {os.WEXITSTATUS(status)}"
    return chunks, end


def _runnable(process: int) -> bool:
    """Tell whether a process wants to run; on a busy machine it waits long to be let."""
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
