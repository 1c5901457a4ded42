"""Confines a process before it runs untrusted code.

The layers below are applied where the system supports them (`layers.py` finds out). None can be
undone:

- resource limits (POSIX): processor time, memory, file size, threads, open files;
- Landlock (Linux 5.13 and newer): no files except those of Python and of one folder, and no signals
  or sockets to other processes;
- no privileges: no capabilities, and another user in place of root;
- seccomp (Linux on x86-64 and arm64): only the system calls on a list.
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
"""Bytes of address space beyond those in use at the time of confinement."""
FILE_BYTES = 1_000_000
OPEN_FILES = 64
MAX_DESCRIPTOR = 4096
"""Greater than any file descriptor that a process has open before it is confined."""
THREADS = 64
"""Maximum number of threads if the job runs as a separate user. The system counts all threads of a
user, so under the grader's own user only the memory for their stacks limits a job's threads."""
KEPT_VARIABLES = frozenset({
    "HOME", "LANG", "MKL_NUM_THREADS", "MPLBACKEND", "MPLCONFIGDIR", "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS", "PATH", "PYTHONHASHSEED",
})  # fmt: skip


@dataclass(frozen=True)
class Permissions:
    """What a confined process may read, and the user it runs as."""

    readable: tuple[Path, ...] = ()
    hidden: Path = Path("/nowhere")
    """A folder that cannot be read, even inside a readable one."""
    user: int | None = None
    """The user to switch to; None keeps the current one."""


def confine(folder: Path, permissions: Permissions | None = None) -> None:
    """Permanently give up every right of this process that an agent does not need.

    Args:
        folder: The only place where the process may still write files.
        permissions: What else it may read, and its user; by default Python's libraries and the
            current user.

    Raises:
        OSError: If a layer that the system offers cannot be applied.
    """
    permissions = permissions or Permissions(tuple(reading.libraries(Permissions.hidden)))
    filtered = system_calls.are_filtered()
    _clear_environment(folder)
    _limit_resources(permissions.user, filtered=filtered)
    if platform.system() == "Linux":
        rules = _rules(folder, permissions)
        kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
        privileges.drop(permissions.user)
        # Not dumpable: no process of this user can attach, and /proc/self/mem belongs to root.
        kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
        # Nobody else would end a job that sleeps after its parent was killed.
        kernel.end_with_parent()
        if rules is not None:
            rules.enforce()
        if filtered:
            system_calls.filter_calls()


def close_files(kept: int) -> None:
    """Close all open files of this process except the standard streams and one descriptor."""
    os.closerange(3, kept)
    os.closerange(max(3, kept + 1), MAX_DESCRIPTOR)


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
        # Soft and hard limits are equal, so no signal comes first that the process could ignore.
        resource.setrlimit(limit, (lowest, lowest))


def _rules(folder: Path, permissions: Permissions) -> landlock.Rules | None:
    if not landlock.version():
        return None
    rules = landlock.Rules()
    rules.allow_reading(permissions.readable, permissions.hidden)
    rules.allow_reading(reading.facts(), permissions.hidden)
    for device in reading.DEVICES:
        rules.allow(device, landlock.USE)
    itself = Path("/proc/self").resolve()
    rules.allow(itself, landlock.READ)
    rules.allow(folder, landlock.CHANGE)
    # The kernel drops the rule for /proc/PID unless something keeps that folder open.
    with suppress(OSError):
        os.open(itself, os.O_PATH)
    return rules
