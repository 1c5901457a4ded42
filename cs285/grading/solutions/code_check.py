"""Checks the agent files of one hand-in in a process of its own, one line of JSON a file.

The checker reads student code with Python's parser, whose time and memory that code decides: a
grader of many hand-ins gives it a process and an end.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cs285.grading.archives import printable
from cs285.grading.sandbox.sandbox import PACKAGE
from cs285.grading.solutions.sources import AGENT_FILES, read_solution
from cs285.infrastructure.errors import UserError

SECONDS = 45.0
"""Time for all six files, less that of waiting for a processor; without endless loops they take
under ten."""
LONGEST = 600.0
"""Wall time, however busy the machine is."""
_POLL_SECONDS = 0.25
_CLEAN_UP_SECONDS = 5.0
_TEXT = 400
_RIGHT = ("correct", "accepted variant")
_FAILS = ("crashes", "unsolved", "missing")


@dataclass(frozen=True)
class CodeVerdict:
    """What is said about one agent file."""

    file: str
    verdict: str
    share: float
    """The part of its methods that is right, from 0 to 1."""
    lines: tuple[str, ...]
    """A line for every method that is not plainly correct."""


def check_code(path: Path, seconds: float = SECONDS) -> list[CodeVerdict]:
    """Return the verdicts on the six agent files of a hand-in, in at most so many seconds.

    Seconds in which the check waits for a processor that others use do not count.
    """
    with tempfile.TemporaryDirectory(prefix="cs285-code-", ignore_cleanup_errors=True) as scratch:
        process = subprocess.Popen(  # noqa: S603 - this interpreter on our own module
            [sys.executable, "-B", "-m", "cs285.grading.solutions.code_check", str(path.resolve())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=PACKAGE.parent,
            env=os.environ | {"TMPDIR": scratch, "OMP_NUM_THREADS": "1"},
        )
        output = _wait(process, seconds)
        reason = "not judged: the checker ended before it"
        if output is None:
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(_CLEAN_UP_SECONDS)
            process.kill()
            output, _ = process.communicate()
            reason = f"not judged: checking the code took longer than {seconds:.0f} s"
    lines = [json.loads(line) for line in output.splitlines() if line.endswith(b"}")]
    if lines and "error" in lines[0]:
        reason = printable(lines[0]["error"].removeprefix(f"{path.resolve()}: "), _TEXT)
    found = {line["file"]: _verdict(line) for line in lines if "file" in line}
    return [found.get(file, CodeVerdict(file, reason, 0.0, ())) for file in AGENT_FILES]


def _wait(process: subprocess.Popen[bytes], seconds: float) -> bytes | None:
    """Return what a process prints until it ends; None if it takes longer."""
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
    """Return how much of a time counts: not that in which a process only waits its turn."""
    waits = any(state in "RD" for state in states)
    return processor_time if waits else max(elapsed, processor_time)


def family_of(pid: int) -> tuple[str, float]:
    """Return the states of a process and its descendants, and their processor time in seconds.

    Where there is no `/proc`, no state is known, and none is "running".
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
    lines: list[str] = []
    for finding in report["findings"]:
        if finding["verdict"] != "correct":
            parts = (finding["method"], finding["verdict"], finding["text"])
            lines.append(": ".join(printable(part, _TEXT) for part in parts if part))
    return CodeVerdict(
        report["file"], report["verdict"], share_right(report["findings"]), tuple(lines)
    )


def share_right(findings: Sequence[Mapping[str, str]]) -> float:
    """Return the part of a file's methods that is right.

    Methods that could not be judged because another one of the file fails are not shown to work,
    so they count as it does: leaving a method unwritten gains nothing. Those that could not be
    judged because another one is wrong are left out: a mistake costs once.
    """
    # A finding on no method is a remark on the file, or what keeps all of it from being judged.
    verdicts = [one["verdict"] for one in findings if one["method"] or one["verdict"] not in _RIGHT]
    fails = any(verdict in _FAILS for verdict in verdicts)
    counted = [verdict for verdict in verdicts if fails or verdict != "not judged"]
    right = sum(verdict in _RIGHT for verdict in counted)
    return right / len(counted) if counted else 0.0


def main() -> None:
    """Check the hand-in that the command line names."""
    try:
        solution = read_solution(Path(sys.argv[1]))
    except UserError as error:
        print(json.dumps({"error": str(error)}))
        return
    # PyTorch takes seconds to import, which a hand-in without code and its grader can do without.
    import numpy as np
    import torch

    from cs285.grading.sandbox.sandbox import Sandbox
    from cs285.grading.solutions.checking import ALGORITHMS, FileReport, check_file

    torch.set_num_threads(1)
    rng = np.random.default_rng()
    with Sandbox() as sandbox:
        for name in ALGORITHMS:
            findings = check_file(sandbox, name, solution.files, rng)
            report = FileReport(f"{name}_agent.py", tuple(findings))
            print(json.dumps(report.as_json()), flush=True)


if __name__ == "__main__":
    main()
