"""The system calls that a confined process may make: an allow-list for the kernel's seccomp filter.

A filter sees the number and the arguments of a call, but not what pointers point to. Calls that
open or change a path are therefore allowed here if Landlock governs them and refused if it does
not: changing modes, owners, times and extended attributes. Calls that act on a process may act
only on the process itself.

`tests/test_sandbox.py` compares the numbers with the kernel's headers, runs the filter, and tries
ordinary programs.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from cs285.grading.sandbox import kernel

CALLS: Mapping[str, tuple[int | None, int | None]] = {
    # Open files
    "close": (3, 57),
    "close_range": (436, 436),
    "dup": (32, 23),
    "dup2": (33, None),
    "dup3": (292, 24),
    "fadvise64": (221, 223),
    "fallocate": (285, 47),
    "fdatasync": (75, 83),
    "fstat": (5, 80),
    "fstatfs": (138, 44),
    "ftruncate": (77, 46),
    "lseek": (8, 62),
    "pipe": (22, None),
    "pipe2": (293, 59),
    "poll": (7, None),
    "ppoll": (271, 73),
    "pread64": (17, 67),
    "preadv": (295, 69),
    "pselect6": (270, 72),
    "pwrite64": (18, 68),
    "pwritev": (296, 70),
    "read": (0, 63),
    "readv": (19, 65),
    "select": (23, None),
    "sendfile": (40, 71),
    "write": (1, 64),
    "writev": (20, 66),
    # Paths, where Landlock decides
    "access": (21, None),
    "chdir": (80, 49),
    "faccessat": (269, 48),
    "faccessat2": (439, 439),
    "fchdir": (81, 50),
    "getcwd": (79, 17),
    "getdents64": (217, 61),
    "lstat": (6, None),
    "mkdir": (83, None),
    "mkdirat": (258, 34),
    "newfstatat": (262, 79),
    "open": (2, None),
    "openat": (257, 56),
    "readlink": (89, None),
    "readlinkat": (267, 78),
    "rename": (82, None),
    "renameat": (264, 38),
    "renameat2": (316, 276),
    "rmdir": (84, None),
    "stat": (4, None),
    "statfs": (137, 43),
    "statx": (332, 291),
    "umask": (95, 166),
    "unlink": (87, None),
    "unlinkat": (263, 35),
    # Memory and threads
    "brk": (12, 214),
    "futex": (202, 98),
    "get_mempolicy": (239, 236),
    "getcpu": (309, 168),
    "madvise": (28, 233),
    "membarrier": (324, 283),
    "mincore": (27, 232),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "mremap": (25, 216),
    "msync": (26, 227),
    "munmap": (11, 215),
    "restart_syscall": (219, 128),
    "rseq": (334, 293),
    "sched_get_priority_max": (146, 125),
    "sched_get_priority_min": (147, 126),
    "sched_getaffinity": (204, 123),
    "sched_getparam": (143, 121),
    "sched_getscheduler": (145, 120),
    "sched_yield": (24, 124),
    "set_robust_list": (273, 99),
    "set_tid_address": (218, 96),
    # Time, and what a process may know about itself
    "alarm": (37, None),
    "clock_getres": (229, 114),
    "clock_gettime": (228, 113),
    "clock_nanosleep": (230, 115),
    "exit": (60, 93),
    "exit_group": (231, 94),
    "getegid": (108, 177),
    "geteuid": (107, 175),
    "getgid": (104, 176),
    "getgroups": (115, 158),
    "getitimer": (36, 102),
    "getpgrp": (111, None),
    "getpid": (39, 172),
    "getppid": (110, 173),
    "getrandom": (318, 278),
    "getresgid": (120, 150),
    "getresuid": (118, 148),
    "getrlimit": (97, 163),
    "getrusage": (98, 165),
    "gettid": (186, 178),
    "gettimeofday": (96, 169),
    "getuid": (102, 174),
    "nanosleep": (35, 101),
    "setitimer": (38, 103),
    "sysinfo": (99, 179),
    "time": (201, None),
    "times": (100, 153),
    "uname": (63, 160),
    # Its own signals
    "rt_sigaction": (13, 134),
    "rt_sigpending": (127, 136),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "rt_sigsuspend": (130, 133),
    "rt_sigtimedwait": (128, 137),
    "sigaltstack": (131, 132),
}
"""The calls that are allowed with any arguments, with their numbers on x86-64 and arm64 from the
kernel's `asm/unistd.h`."""


class Condition(NamedTuple):
    """The values that an argument of a call may have."""

    argument: int
    values: tuple[int, ...]
    whole: bool = False
    """Whether to compare all 64 bits instead of the lower half, which is all that an `int` has."""


_ITSELF = -1
"""Stands for the process's own ID."""

LIMITED: Mapping[str, tuple[tuple[int, int], tuple[Condition, ...]]] = {
    # The flags with which glibc and musl create threads; others would create processes.
    "clone": ((56, 220), (Condition(0, (0x3D0F00, 0x7D0F00)),)),
    # F_DUPFD F_GETFD F_SETFD F_GETFL F_SETFL F_DUPFD_CLOEXEC F_GETPIPE_SZ: no owners, no signals,
    # no locks and no leases.
    "fcntl": ((72, 25), (Condition(1, (0, 1, 2, 3, 4, 1030, 1032)),)),
    # TCGETS TIOCGWINSZ FIONREAD FIONBIO FIONCLEX FIOCLEX
    "ioctl": ((16, 29), (Condition(1, (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)),)),
    "kill": ((62, 129), (Condition(0, (_ITSELF,)),)),
    # PR_SET_NAME PR_GET_NAME PR_SET_VMA: names of threads and of memory.
    "prctl": ((157, 167), (Condition(0, (15, 16, 0x53564D41)),)),
    # Only reading the process's own limits.
    "prlimit64": ((302, 261), (Condition(0, (0, _ITSELF)), Condition(2, (0,), whole=True))),
    "tgkill": ((234, 131), (Condition(0, (_ITSELF,)),)),
}
"""The calls that are allowed only with some arguments; numbers as in `CALLS`."""

ABSENT: Mapping[str, tuple[int, int]] = {
    # Their arguments are in memory, where no filter sees them; the C library can use older calls.
    "clone3": (435, 435),
    "openat2": (437, 437),
}
"""The calls that fail as if the kernel did not have them."""

_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""The column of the tables, and the kernel's number for the architecture."""
_X32_CALLS = 0x40000000
_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _ANSWER = 0x7FFF0000, 0x00050000
_SECCOMP_MODE_FILTER = 2


def are_filtered() -> bool:
    """Return whether this system can filter system calls, on an architecture known here."""
    if platform.system() != "Linux" or platform.machine() not in _MACHINES:
        return False
    try:
        kernel.prctl(kernel.PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, None)
    except OSError as error:
        return error.errno == errno.EFAULT  # it knows the mode and notices the missing filter
    return False


def filter_calls() -> None:
    """Permanently restrict this process to the system calls on the list.

    Raises:
        OSError: If the kernel refuses the filter.
    """
    code = b"".join(_program(*_MACHINES[platform.machine()], os.getpid()))
    text = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("@HP", len(code) // 8, ctypes.addressof(text))
    kernel.prctl(kernel.PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, header)


def _program(column: int, architecture: int, itself: int) -> Iterable[bytes]:
    """Yield the filter's instructions, 8 bytes each."""
    # struct seccomp_data: call number at 0, architecture at 4, arguments of 8 bytes from 16.
    yield from (
        _operation(_LOAD, 4),
        _operation(_JUMP_EQUAL, architecture, 1, 0),
        _operation(_RETURN, _ANSWER | errno.EPERM),
        _operation(_LOAD, 0),
        _operation(_JUMP_AT_LEAST, _X32_CALLS, 0, 1),
        _operation(_RETURN, _ANSWER | errno.EPERM),
    )
    for numbers in CALLS.values():
        if (number := numbers[column]) is not None:
            yield _operation(_JUMP_EQUAL, number, 0, 1)
            yield _operation(_RETURN, _ALLOW)
    for absent in ABSENT.values():
        yield _operation(_JUMP_EQUAL, absent[column], 0, 1)
        yield _operation(_RETURN, _ANSWER | errno.ENOSYS)
    for limited, conditions in LIMITED.values():
        block = [step for one in conditions for step in _condition(one, itself)]
        block.append(_operation(_RETURN, _ALLOW))
        yield _operation(_JUMP_EQUAL, limited[column], 0, len(block))
        yield from block
    yield _operation(_RETURN, _ANSWER | errno.EPERM)


def _condition(condition: Condition, itself: int) -> Iterable[bytes]:
    """Yield instructions that refuse the call unless the condition holds."""
    values = [itself if value == _ITSELF else value for value in condition.values]
    halves = [values, [0]] if condition.whole else [values]
    for half, allowed in enumerate(halves):
        yield _operation(_LOAD, 16 + 8 * condition.argument + 4 * half)
        for index, value in enumerate(allowed):
            yield _operation(_JUMP_EQUAL, value, len(allowed) - index, 0)
        yield _operation(_RETURN, _ANSWER | errno.EPERM)


def _operation(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, if_true, if_false, value)
