"""Confine a process before it runs untrusted code.

Layers, each applied where the system supports it (`layers.py` says which it does). None can be
undone:

- resource limits (POSIX): processor time, memory, file size, threads, open files;
- Landlock (Linux 5.13 and newer): no files but those of Python and of one folder, and no signals
  or sockets to other processes;
- no privileges: no capabilities, and for root another user;
- seccomp (Linux on x86-64 and arm64): only the system calls of a list.
"""

from __future__ import annotations

import os
import platform
import resource
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cs285.grading.sandbox import kernel, landlock, privileges, reading, system_calls

CPU_SECONDS = 5
EXTRA_MEMORY = 2_000_000_000
"""Bytes of address space beyond those in use when the process is confined."""
FILE_BYTES = 1_000_000
OPEN_FILES = 64
MOST_OPEN = 4096
"""Above every descriptor that a process has open before it is confined."""
THREADS = 64
"""Threads of a user that has been made for the job. The system counts all of a user's, so
those of the grader's own user are bounded only by the memory that their stacks take."""
KEPT_VARIABLES = frozenset({
    "HOME", "LANG", "MKL_NUM_THREADS", "MPLBACKEND", "MPLCONFIGDIR", "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS", "PATH", "PYTHONHASHSEED",
})  # fmt: skip


@dataclass(frozen=True)
class Ground:
    """What a confined process may read, and who it is."""

    readable: tuple[Path, ...] = ()
    hidden: Path = Path("/nowhere")
    """A folder that cannot be read, even inside a readable one."""
    user: int | None = None
    """The user to become; None keeps the present one."""


def confine(folder: Path, ground: Ground | None = None) -> None:
    """Give up, for this process and permanently, every right that an agent does not need.

    Args:
        folder: The only place where the process may still write files.
        ground: What it may read besides, and its user; by default only Python's libraries.

    Raises:
        OSError: If a layer that the system offers cannot be applied.
    """
    ground = ground or Ground(tuple(reading.libraries(Ground.hidden)))
    filtered = system_calls.are_filtered()
    _clear_environment(folder)
    _limit_resources(ground.user, filtered=filtered)
    if platform.system() == "Linux":
        rules = _rules(folder, ground)
        kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
        privileges.drop(ground.user)
        # Not dumpable: no process of this user can attach, and /proc/self/mem belongs to root.
        kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
        if rules is not None:
            rules.enforce()
        if filtered:
            system_calls.filter_calls()


def close_files(kept: int) -> None:
    """Close all files that this process has open, except for standard streams and one more."""
    os.closerange(3, kept)
    os.closerange(max(3, kept + 1), MOST_OPEN)


def _clear_environment(folder: Path) -> None:
    for name in set(os.environ) - KEPT_VARIABLES:
        del os.environ[name]
    os.environ["TMPDIR"] = str(folder)


def _limit_resources(user: int | None, *, filtered: bool) -> None:
    limits = {
        resource.RLIMIT_CPU: CPU_SECONDS,
        resource.RLIMIT_FSIZE: FILE_BYTES,
        resource.RLIMIT_NOFILE: OPEN_FILES,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
    }
    if user is not None:
        limits[resource.RLIMIT_NPROC] = THREADS
    elif not filtered:
        limits[resource.RLIMIT_NPROC] = 0
    for name in ("RLIMIT_MSGQUEUE", "RLIMIT_RTPRIO", "RLIMIT_SIGPENDING"):
        if hasattr(resource, name):
            limits[getattr(resource, name)] = 16 if name == "RLIMIT_SIGPENDING" else 0
    status = Path("/proc/self/statm")
    if status.exists():
        pages = int(status.read_text(encoding="ascii").split()[0])
        limits[resource.RLIMIT_AS] = pages * resource.getpagesize() + EXTRA_MEMORY
    for limit, value in limits.items():
        hard = resource.getrlimit(limit)[1]
        lowest = value if hard == resource.RLIM_INFINITY else min(value, hard)
        # Equal soft and hard limits: no warning signal comes first that the process could ignore.
        resource.setrlimit(limit, (lowest, lowest))


def _rules(folder: Path, ground: Ground) -> landlock.Rules | None:
    if not landlock.version():
        return None
    rules = landlock.Rules()
    rules.allow_reading(ground.readable, ground.hidden)
    rules.allow_reading(reading.facts(), ground.hidden)
    for device in reading.DEVICES:
        rules.allow(device, landlock.USE)
    itself = Path("/proc/self").resolve()
    rules.allow(itself, landlock.READ)
    rules.allow(folder, landlock.CHANGE)
    # The kernel forgets what it was told of /proc/PID when nothing holds that folder.
    with suppress(OSError):
        os.open(itself, os.O_PATH)
    return rules
