"""Checks the agent files of one hand-in in a separate process: one line of JSON per file.

The checker reads student code with Python's parser, which such code can make slow or
memory-hungry. A grader of many hand-ins therefore gives each check its own process and time limit.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from cs285.grading.archives import printable
from cs285.grading.sandbox import leftovers
from cs285.grading.sandbox.sandbox import PACKAGE
from cs285.grading.solutions.assignment import AGENT_FILES, AGENTS
from cs285.grading.solutions.sources import read_solution
from cs285.grading.solutions.verdicts import Finding, Verdict
from cs285.infrastructure.errors import UserError

SECONDS = 45.0
"""Time limit for all six files, not counting time spent waiting for a processor. Without endless
loops they need less than ten seconds."""
LONGEST = 600.0
"""Limit on wall time, however busy the machine is."""
_POLL_SECONDS = 0.25
_CLEAN_UP_SECONDS = 5.0
_TEXT = 400
"""Maximum length of one message, in characters."""


@dataclass(frozen=True)
class CodeVerdict:
    """The verdict on one agent file."""

    file: str
    verdict: Verdict
    share: float = 0.0
    """The fraction of its methods that is right."""
    lines: tuple[str, ...] = ()
    """A line for every method that is not plainly correct."""
    faults: tuple[str, ...] = ()
    """Those of the lines that count against the student."""
    reason: str = ""
    """Why the file was not judged."""

    @property
    def summary(self) -> str:
        """The verdict, with its reason if there is one."""
        return f"{self.verdict}: {self.reason}" if self.reason else str(self.verdict)


def check_code(path: Path, seconds: float = SECONDS, *, in_fork: bool = False) -> list[CodeVerdict]:
    """Return the verdicts on the six agent files of a hand-in.

    Args:
        path: The hand-in, a zip or a folder.
        seconds: Time limit for all files. Time spent waiting for a processor does not count.
        in_fork: Whether the checker is a fork of this process instead of a new interpreter. That
            saves seconds if `preload` was called before, and needs a process without threads that
            compute.
    """
    start = _forked if in_fork else _separate
    with leftovers.temporary_folder("cs285-code-") as scratch:
        # If the grader is root, jobs run as another user, who must be able to enter this folder.
        scratch.chmod(0o711)
        with start(path.resolve(), scratch) as (checker, reader):
            output, ended = _listen(checker, reader, seconds)
            reason = "the checker stopped before it reached this file"
            if not ended:
                os.kill(checker, signal.SIGINT)
                output += _rest(reader, _CLEAN_UP_SECONDS)
                reason = f"checking the code took longer than {seconds:.0f} s"
    lines = [json.loads(line) for line in output.splitlines() if line.endswith(b"}")]
    if lines and "error" in lines[0]:
        reason = printable(lines[0]["error"], _TEXT)
    found = {line["file"]: _verdict(line) for line in lines if "file" in line}
    return [
        found.get(file, CodeVerdict(file, Verdict.UNJUDGED, reason=reason)) for file in AGENT_FILES
    ]


@contextmanager
def _separate(path: Path, scratch: Path) -> Iterator[tuple[int, int]]:
    """Run the checker in a new interpreter; yield its process and where its output can be read."""
    reader, writer = os.pipe()
    process = subprocess.Popen(  # noqa: S603 - this interpreter on our own module
        [sys.executable, "-B", "-m", "cs285.grading.solutions.code_check", str(path)],
        stdin=subprocess.DEVNULL,
        stdout=writer,
        stderr=subprocess.DEVNULL,
        cwd=PACKAGE.parent,
        env=os.environ | {"TMPDIR": str(scratch), "OMP_NUM_THREADS": "1"},
    )
    os.close(writer)
    try:
        yield process.pid, reader
    finally:
        process.kill()
        process.wait()
        os.close(reader)


@contextmanager
def _forked(path: Path, scratch: Path) -> Iterator[tuple[int, int]]:
    """Do the same with a fork of this process."""
    reader, writer = os.pipe()
    context: Any = multiprocessing.get_context("fork")
    process = context.Process(target=_become_checker, args=(path, scratch, writer))
    process.start()
    os.close(writer)
    try:
        yield process.pid, reader
    finally:
        process.kill()
        process.join()
        os.close(reader)


def _become_checker(path: Path, scratch: Path, writer: int) -> None:
    """Check a hand-in in a forked process, which has nothing else to do."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    os.chdir(PACKAGE.parent)
    os.environ["TMPDIR"] = tempfile.tempdir = str(scratch)
    # Only the end of the process closes this: until then, the reader knows, it is at work.
    _check(path, os.fdopen(writer, "w", encoding="utf-8", closefd=False))


def _listen(checker: int, reader: int, seconds: float) -> tuple[bytes, bool]:
    """Return what a checker prints, and whether it ended before it exceeded its time."""
    output = b""
    taken, used = 0.0, 0.0
    started = last = looked = time.monotonic()
    while taken < seconds and last - started < LONGEST:
        if select.select([reader], [], [], _POLL_SECONDS)[0]:
            chunk = os.read(reader, 1 << 16)
            if not chunk:
                return output, True
            output += chunk
        last = time.monotonic()
        if last - looked >= _POLL_SECONDS:
            states, processor_time = family_of(checker)
            taken += charged(last - looked, processor_time - used, states)
            looked, used = last, processor_time
    return output, False


def _rest(reader: int, seconds: float) -> bytes:
    """Return what is printed until the end or for so long."""
    output = b""
    until = time.monotonic() + seconds
    while select.select([reader], [], [], max(0.0, until - time.monotonic()))[0]:
        chunk = os.read(reader, 1 << 16)
        if not chunk:
            break
        output += chunk
    return output


def charged(elapsed: float, processor_time: float, states: str) -> float:
    """Return how much of a time span counts, leaving out time spent waiting for a processor."""
    waits = any(state in "RD" for state in states)
    return processor_time if waits else max(elapsed, processor_time)


def family_of(pid: int) -> tuple[str, float]:
    """Return the states of a process and its descendants, and their processor time in seconds.

    Without `/proc` there are no states.
    """
    found = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = status.read_text(errors="replace").rpartition(")")[2].split()
            found[int(status.parent.name)] = fields
    family = {pid}
    while (
        grown := {one for one, (_, parent, *_) in found.items() if int(parent) in family} - family
    ):
        family |= grown
    members = [found[one] for one in family if one in found]
    ticks = sum(int(number) for fields in members for number in fields[11:15])
    return "".join(fields[0] for fields in members), ticks / os.sysconf("SC_CLK_TCK")


def _verdict(report: Mapping[str, Any]) -> CodeVerdict:
    findings = [
        Finding(one["method"], Verdict(one["verdict"]), one["text"]) for one in report["findings"]
    ]
    lines: list[str] = []
    faults: list[str] = []
    for finding in findings:
        if finding.verdict is not Verdict.CORRECT:
            parts = (finding.method, finding.verdict, finding.text)
            lines.append(": ".join(printable(part, _TEXT) for part in parts if part))
            faults += lines[-1:] if finding.verdict.is_bad else []
    return CodeVerdict(
        report["file"],
        Verdict(report["verdict"]),
        share_right(findings),
        tuple(lines),
        tuple(faults),
    )


def share_right(findings: Sequence[Finding]) -> float:
    """Return the fraction of a file's methods that is right.

    A method that could not be judged because another one in the file fails has not been shown to
    work, so it counts as failing too: leaving a method unwritten gains nothing. A method that could
    not be judged because another one is wrong is left out: each mistake costs points only once.
    """
    # A finding without a method is a remark on the file, or the reason why it was not judged.
    verdicts = [one.verdict for one in findings if one.method or not one.verdict.is_right]
    fails = any(verdict.has_no_numbers for verdict in verdicts)
    counted = [verdict for verdict in verdicts if fails or verdict is not Verdict.UNJUDGED]
    right = sum(verdict.is_right for verdict in counted)
    return right / len(counted) if counted else 0.0


def preload() -> None:
    """Import what a check needs, for the forks of this process; PyTorch takes seconds."""
    from cs285.grading.solutions import checking

    checking.import_judges()


def _check(path: Path, output: TextIO) -> None:
    """Check a hand-in, and write a line for each of its files or for what is wrong with it."""
    try:
        solution = read_solution(path)
    except UserError as error:
        print(json.dumps({"error": str(error)}), file=output, flush=True)
        return
    # Importing PyTorch takes seconds, so it comes after hand-ins without code have been refused.
    import numpy as np
    import torch

    from cs285.grading.sandbox.sandbox import Sandbox
    from cs285.grading.solutions.checking import SolutionChecker

    torch.set_num_threads(1)
    rng = np.random.default_rng()
    with Sandbox() as sandbox:
        checker = SolutionChecker(sandbox, solution.files, solution.modules, rng)
        for name in AGENTS:
            print(json.dumps(checker.report(name).as_json()), file=output, flush=True)


if __name__ == "__main__":
    _check(Path(sys.argv[1]), sys.stdout)
