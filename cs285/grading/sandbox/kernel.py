"""Functions of the C library and the kernel that Python does not provide."""

from __future__ import annotations

import ctypes
import os
import platform
import signal
from functools import cache

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_DROP = 1, 4, 22, 24
PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 38, 47, 4


@cache
def libc() -> ctypes.CDLL:
    """Return the C library."""
    return ctypes.CDLL(None, use_errno=True)


def prctl(option: int, second: object = 0, third: object = 0) -> int:
    """Set an attribute of this process.

    Raises:
        OSError: If the kernel refuses.
    """
    # The kernel compares all 64 bits of numbers that ctypes would pass as 32.
    whole = [ctypes.c_ulong(one) if isinstance(one, int) else one for one in (second, third, 0, 0)]
    return _checked(libc().prctl(option, *whole))


def end_with_parent() -> None:
    """Let the system kill this process when its parent ends, on Linux.

    A parent that has ended already is the caller's to notice. A change of user or of capabilities
    cancels this.

    Raises:
        OSError: If the kernel refuses.
    """
    if platform.system() == "Linux":
        prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))


def call(number: int, *arguments: object) -> int:
    """Make a system call by its number.

    Raises:
        OSError: If it fails.
    """
    return _checked(libc().syscall(ctypes.c_long(number), *arguments))


def unshare(namespaces: int) -> None:
    """Move this process into new namespaces; raise `OSError` if the kernel refuses."""
    _checked(libc().unshare(namespaces))


def mount(
    source: str, target: os.PathLike[str] | str, kind: str, flags: int, data: str = ""
) -> None:
    """Mount a file system or a folder; raise `OSError` if the kernel refuses."""
    texts = [text.encode() for text in (source, os.fspath(target), kind, data)]
    _checked(libc().mount(*texts[:3], ctypes.c_ulong(flags), texts[3]))


def unmount(target: os.PathLike[str] | str) -> None:
    """Remove a mount, even one in use; raise `OSError` if the kernel refuses."""
    detach = 2
    _checked(libc().umount2(os.fspath(target).encode(), detach))


def _checked(result: int) -> int:
    if result == -1:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result
