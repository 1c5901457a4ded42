"""How the process of a job ended."""

from __future__ import annotations

import signal
from enum import StrEnum
from typing import NamedTuple

from cs285.grading.sandbox.confinement import CPU_SECONDS, EXTRA_MEMORY, FILE_BYTES

ANSWER_BYTES = 16_000_000
"""Maximum number of bytes that a job may send back."""
DISK_BYTES, DISK_ENTRIES = 50_000_000, 2_000
"""Maximum number of bytes, and of files and folders, that a job may have on the disk."""
NOT_CONFINED = 119
"""Exit status of a process that could not be confined and has run nothing."""
IDLE_SECONDS = 3.0
"""Maximum time that a job may sleep; time spent waiting for a processor does not count."""


class End(StrEnum):
    """How the process of a job ended; the values are sent as JSON."""

    DONE = "done"
    PROCESSOR_TIME = "processor time"
    KILLED = "killed"
    INTERPRETER = "interpreter"
    FILE_SIZE = "file size"
    DISK = "disk"
    UNCONFINED = "unconfined"
    SIGNAL = "signal"
    STATUS = "status"
    FLOODED = "flooded"
    IDLE = "idle"
    TIME = "time"
    BROUGHT_DOWN = "brought down"
    UNFINISHED = "unfinished"
    NOT_AN_ANSWER = "not an answer"

    @property
    def would_recur(self) -> bool:
        """Whether another try would end in the same way, perhaps after an equally long wait."""
        return self in _RECURRING


_RECURRING = {
    End.PROCESSOR_TIME, End.KILLED, End.SIGNAL, End.STATUS, End.FLOODED, End.IDLE, End.TIME,
    End.BROUGHT_DOWN, End.UNFINISHED, End.DISK, End.UNCONFINED,
}  # fmt: skip
BY_SIGNAL: dict[int, End] = {
    signal.SIGXCPU: End.PROCESSOR_TIME,
    signal.SIGKILL: End.KILLED,
    signal.SIGSEGV: End.INTERPRETER,
    signal.SIGXFSZ: End.FILE_SIZE,
}
"""The signals that indicate a limit or a crash; any other is `End.SIGNAL`."""


class Ending(NamedTuple):
    """An end and a number that describes it."""

    end: End
    number: int = 0
    """The signal or exit status; for `End.TIME`, the seconds that the job was given."""

    @property
    def text(self) -> str:
        """The end as a message for the student."""
        return _TEXTS[self.end].format(number=self.number, signal=_signal_name(self.number))


_TEXTS = {
    End.DONE: "its process sent no numbers",
    End.PROCESSOR_TIME: f"it used more than {CPU_SECONDS} s of processor time; look for a loop "
    "that never ends",
    End.KILLED: f"its process was killed: it used more than {CPU_SECONDS} s of processor time or "
    f"{EXTRA_MEMORY / 1e9:g} GB of memory; look for a loop that never ends",
    End.INTERPRETER: "it crashed the Python interpreter",
    End.FILE_SIZE: f"it wrote a file larger than {FILE_BYTES / 1e6:g} MB",
    End.DISK: f"it left more than {DISK_BYTES / 1e6:g} MB or {DISK_ENTRIES:,} files",
    End.UNCONFINED: "it was not run: its process could not be confined on this system",
    End.SIGNAL: "its process was ended by signal {signal}",
    End.STATUS: "its process exited with status {number}",
    End.FLOODED: f"it sent more than {ANSWER_BYTES / 1e6:g} MB of output",
    End.IDLE: f"it did not finish: it slept for more than {IDLE_SECONDS:g} s",
    End.TIME: "it did not finish within {number} s",
    End.BROUGHT_DOWN: "it stopped the process that runs the checks",
    End.UNFINISHED: "its process exited before it had finished",
    End.NOT_AN_ANSWER: "its process sent something other than the numbers asked for",
}


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)
