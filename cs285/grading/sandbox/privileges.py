"""Gives up all privileges that an ordinary user's process does not have."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from contextlib import suppress
from pathlib import Path

from cs285.grading.sandbox import kernel

_CAPSET = {"x86_64": 126, "aarch64": 91}
_CAPABILITY_VERSION_3 = 0x20080522
_LAST_CAPABILITY = Path("/proc/sys/kernel/cap_last_cap")
_FIRST_USER, _USERS = 61184, 4336
"""The range that systemd reserves for users that exist only while a service runs. It contains no
accounts and is mapped in ordinary containers."""
_SET_GROUPS, _SET_USER, _ADMINISTER = 6, 7, 21
"""CAP_SETGID, CAP_SETUID and CAP_SYS_ADMIN."""


def transient_user(seed: int) -> int | None:
    """Return an unprivileged user for jobs, or None if this process may not change users.

    Args:
        seed: Seed of the choice, so that graders who work at the same time choose different users.
    """
    if platform.system() != "Linux" or os.geteuid() != 0:
        return None
    held = _effective_capabilities()
    if not (held >> _SET_GROUPS & 1 and held >> _SET_USER & 1):
        return None
    user = _FIRST_USER + seed % _USERS
    for number in (user, 65534):
        if _is_mapped(number, "uid_map") and _is_mapped(number, "gid_map"):
            return number
    return None


def may_mount() -> bool:
    """Return whether this process may create its own view of the file system."""
    return platform.system() == "Linux" and bool(_effective_capabilities() >> _ADMINISTER & 1)


def _effective_capabilities() -> int:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    lines = (line.split() for line in status.splitlines())
    return next((int(line[1], 16) for line in lines if line[0] == "CapEff:"), 0)


def _is_mapped(number: int, table: str) -> bool:
    """Return whether a user or group exists in the namespace of this process."""
    rows = Path(f"/proc/self/{table}").read_text(encoding="ascii").splitlines()
    spans = (map(int, row.split()) for row in rows)
    return any(first <= number < first + count for first, _outside, count in spans)


def drop(user: int | None) -> None:
    """Give up all capabilities and, if a user is given, switch to that user and only its group.

    Raises:
        OSError: If the process cannot switch to the user.
    """
    if platform.system() == "Linux":
        with suppress(OSError):
            kernel.prctl(kernel.PR_CAP_AMBIENT, kernel.PR_CAP_AMBIENT_CLEAR_ALL)
        last = int(_LAST_CAPABILITY.read_text()) if _LAST_CAPABILITY.exists() else 40
        for capability in range(last + 1):
            with suppress(OSError):  # only root may, and nobody else has any
                kernel.prctl(kernel.PR_CAPBSET_DROP, capability)
    if user is not None:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    elif os.geteuid() == 0:
        with suppress(OSError):
            os.setgroups([])
    if platform.system() == "Linux" and platform.machine() in _CAPSET:
        header = ctypes.create_string_buffer(struct.pack("<Ii", _CAPABILITY_VERSION_3, 0))
        none = ctypes.create_string_buffer(struct.pack("<6I", *[0] * 6))
        kernel.call(_CAPSET[platform.machine()], header, none)
