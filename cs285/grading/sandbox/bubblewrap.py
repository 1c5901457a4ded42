"""An outer layer around all jobs, where bubblewrap is installed: separate namespaces.

In these there are no other processes, no network, and no files except those that Python needs. The
child confines its jobs in the same way with and without bubblewrap.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from enum import Enum
from functools import cache
from pathlib import Path

from cs285.grading.sandbox import reading

_TRIAL_SECONDS = 60.0
_ROOT_LINKS = ("/bin", "/sbin", "/lib", "/lib32", "/lib64")
"""Links in the root folder of many systems, through which programs find their loader."""
_CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "SETGID", "SETPCAP", "SETUID")
"""What a child that runs as root needs to run its jobs as another user and to clean up."""


class State(Enum):
    """Whether bubblewrap can be used."""

    ABSENT = "absent"
    FAILS = "fails"
    WORKS = "works"


def command(folder: Path, hidden: Path) -> list[str]:
    """Return the command that starts Python in bubblewrap when put before its own; else empty.

    Args:
        folder: The only folder that can be written to.
        hidden: A package that must not be readable.
    """
    return _command(folder, hidden) if state() is State.WORKS else []


@cache
def state() -> State:
    """Return whether bubblewrap is installed and starts Python here; systems may forbid that."""
    if shutil.which("bwrap") is None:
        return State.ABSENT
    nothing = Path(__file__).parent
    try:
        done = subprocess.run(  # noqa: S603 - this interpreter on our own text
            [*_command(nothing, nothing), sys.executable, "-I", "-B", "-c", "import json, ctypes"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_TRIAL_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return State.FAILS
    return State.FAILS if done.returncode else State.WORKS


def _command(folder: Path, hidden: Path) -> list[str]:
    parts = [
        shutil.which("bwrap") or "bwrap",
        *("--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"),
        *("--unshare-cgroup-try", "--proc", "/proc", "--dev", "/dev"),
    ]
    if os.geteuid() == 0:
        for name in _CAPABILITIES:
            parts += ["--cap-add", f"CAP_{name}"]
    else:
        parts.append("--unshare-user")
    for link in _ROOT_LINKS:
        if os.path.islink(link):  # noqa: PTH114
            parts += ["--symlink", os.readlink(link), link]  # noqa: PTH115
    for source, target in sorted(set(_readable(hidden)), key=lambda pair: len(str(pair[1]))):
        parts += ["--ro-bind", str(source), str(target)]
    if any(hidden.is_relative_to(path) for path in reading.libraries(hidden)):
        parts += ["--tmpfs", str(hidden)]
    return [*parts, "--bind", str(folder), str(folder), "--chdir", str(folder), "--"]


def _readable(hidden: Path) -> Iterator[tuple[Path, Path]]:
    """Yield the real path of everything that can be read, and the path where it is to appear."""
    for path in reading.libraries(hidden):
        yield path, path
    for name in sys.path:
        entry = Path(name)
        if name and entry.exists() and not reading.is_code_of_the_repository(name, hidden):
            yield entry.resolve(), entry.absolute()
    program = Path(sys.executable)
    while True:  # a chain of links, from the virtual environment to the real interpreter
        yield program.parent.resolve(), program.parent
        if not program.is_symlink():
            break
        program = program.parent / program.readlink()
    if (settings := Path(sys.prefix) / "pyvenv.cfg").exists():
        yield settings.resolve(), settings
    for path in reading.facts():
        if path.exists() and not path.is_relative_to("/proc"):
            yield path, path
