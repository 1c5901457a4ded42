"""Checks the agent files of one hand-in in a separate process: one line of JSON per file.

The checker reads student code with Python's parser, which such code can make slow or
memory-hungry. A grader of many hand-ins therefore gives each check its own process and time limit.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


def check_code(path: Path, seconds: float = SECONDS) -> list[CodeVerdict]:
    """Return the verdicts on the six agent files of a hand-in.

    Args:
        path: The hand-in, a zip or a folder.
        seconds: Time limit for all files. Time spent waiting for a processor does not count.
    """
    with leftovers.temporary_folder("cs285-code-") as scratch:
        # If the grader is root, jobs run as another user, who must be able to enter this folder.
        scratch.chmod(0o711)
        process = subprocess.Popen(  # noqa: S603 - this interpreter on our own module
            [sys.executable, "-B", "-m", "cs285.grading.solutions.code_check", str(path.resolve())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=PACKAGE.parent,
            env=os.environ | {"TMPDIR": str(scratch), "OMP_NUM_THREADS": "1"},
        )
        output = _wait(process, seconds)
        reason = "the checker stopped before it reached this file"
        if output is None:
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(_CLEAN_UP_SECONDS)
            process.kill()
            output, _ = process.communicate()
            reason = f"checking the code took longer than {seconds:.0f} s"
    lines = [json.loads(line) for line in output.splitlines() if line.endswith(b"}")]
    if lines and "error" in lines[0]:
        reason = printable(lines[0]["error"], _TEXT)
    found = {line["file"]: _verdict(line) for line in lines if "file" in line}
    return [
        found.get(file, CodeVerdict(file, Verdict.UNJUDGED, reason=reason)) for file in AGENT_FILES
    ]


def _wait(process: subprocess.Popen[bytes], seconds: float) -> bytes | None:
    """Return the output of a process when it has ended, or None if it exceeds its time limit."""
    taken, used = 0.0, 0.0
    started = last = time.monotonic()
    while taken < seconds and last - started < LONGEST:
        with suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=_POLL_SECONDS)[0]
        now = time.monotonic()
        states, processor_time = family_of(process.pid)
        taken += charged(now - last, processor_time - used, states)
        last, used = now, processor_time
    return None


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


def main() -> None:
    """Check the hand-in named on the command line."""
    try:
        solution = read_solution(Path(sys.argv[1]))
    except UserError as error:
        print(json.dumps({"error": str(error)}))
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
            print(json.dumps(checker.report(name).as_json()), flush=True)


if __name__ == "__main__":
    main()
