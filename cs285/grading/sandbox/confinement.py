"""Confine a process before it runs untrusted code.

Three layers, each applied where the system supports it. Child processes inherit all of them, and
none can be undone:

- resource limits (POSIX): processor time, memory, file size, processes, open files;
- Landlock (Linux 5.13 and newer): no writing, creating or removing files outside one folder;
- seccomp (Linux on x86-64 and arm64): no new processes, no sockets, no signals to other processes.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import struct
from pathlib import Path

CPU_SECONDS = 5
EXTRA_MEMORY = 2_000_000_000
"""Bytes of address space beyond those in use when the process is confined."""
FILE_BYTES = 1_000_000
OPEN_FILES = 64

_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 4, 38, 22, 2

# From asm/unistd.h: (audit id, clone, refused calls).
_CALLS = {
    "x86_64": (
        0xC000003E,
        56,
        # socket socketpair fork vfork kill ptrace tkill mount umount2 unshare setns bpf
        # process_vm_readv process_vm_writev pidfd_send_signal io_uring_setup pidfd_open
        (41, 53, 57, 58, 62, 101, 200, 165, 166, 272, 308, 321, 310, 311, 424, 425, 434),
    ),
    "aarch64": (
        0xC00000B7,
        220,
        # socket socketpair kill ptrace tkill mount umount2 unshare setns bpf
        # process_vm_readv process_vm_writev pidfd_send_signal io_uring_setup pidfd_open
        (198, 199, 129, 117, 130, 40, 39, 97, 268, 280, 270, 271, 424, 425, 434),
    ),
}
_CLONE3 = 435
_CLONE_THREAD = 0x10000
_X32_CALLS = 0x40000000
_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_SET, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _REFUSE, _NO_SUCH_CALL = 0x7FFF0000, 0x00050001, 0x00050026  # EPERM, ENOSYS

_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_LANDLOCK_WRITES = (1 << 1) | sum(1 << bit for bit in range(4, 13))
"""write_file, remove_dir, remove_file and every make_*: access bits of Landlock's first version."""
_LANDLOCK_TRUNCATE = 1 << 14
_LANDLOCK_TRUNCATE_VERSION = 3


def confine(folder: Path) -> None:
    """Give up, for this process and permanently, every right that an agent does not need.

    Args:
        folder: The only place where the process may still write files.
    """
    _limit_resources()
    if platform.system() == "Linux":
        libc = ctypes.CDLL(None, use_errno=True)
        # Not dumpable: no process of this user can attach, and /proc/self/mem belongs to root.
        libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        _forbid_writing(libc, folder)
        _forbid_calls(libc)


def _limit_resources() -> None:
    limits = {
        resource.RLIMIT_CPU: CPU_SECONDS,
        resource.RLIMIT_FSIZE: FILE_BYTES,
        resource.RLIMIT_NOFILE: OPEN_FILES,
        resource.RLIMIT_NPROC: 0,
        resource.RLIMIT_CORE: 0,
    }
    status = Path("/proc/self/statm")
    if status.exists():
        pages = int(status.read_text(encoding="ascii").split()[0])
        limits[resource.RLIMIT_AS] = pages * resource.getpagesize() + EXTRA_MEMORY
    for limit, value in limits.items():
        # Equal soft and hard limits: no warning signal comes first that the process could ignore.
        resource.setrlimit(limit, (value, value))


def _forbid_writing(libc: ctypes.CDLL, folder: Path) -> None:
    version = libc.syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), 1)
    if version < 1:
        return
    writes = _LANDLOCK_WRITES
    if version >= _LANDLOCK_TRUNCATE_VERSION:
        writes |= _LANDLOCK_TRUNCATE
    handled = struct.pack("<Q", writes)
    rules = libc.syscall(_LANDLOCK_CREATE, handled, ctypes.c_size_t(len(handled)), 0)
    place = os.open(folder, os.O_PATH)
    beneath = struct.pack("<Qi", writes, place)
    libc.syscall(_LANDLOCK_ADD, rules, 1, beneath, 0)
    libc.syscall(_LANDLOCK_RESTRICT, rules, 0)
    os.close(place)
    os.close(rules)


def _forbid_calls(libc: ctypes.CDLL) -> None:
    if platform.machine() not in _CALLS:
        return
    audit_id, clone, refused = _CALLS[platform.machine()]

    def operation(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
        return struct.pack("<HBBI", code, if_true, if_false, value)

    # struct seccomp_data: call number at 0, architecture at 4, first argument at 16.
    program = [
        operation(_LOAD, 4),
        operation(_JUMP_EQUAL, audit_id, 1, 0),
        operation(_RETURN, _REFUSE),
        operation(_LOAD, 0),
        operation(_JUMP_AT_LEAST, _X32_CALLS, 0, 1),
        operation(_RETURN, _REFUSE),
        # glibc falls back from clone3, whose flags no filter can see, to clone.
        operation(_JUMP_EQUAL, _CLONE3, 0, 1),
        operation(_RETURN, _NO_SUCH_CALL),
    ]
    for call in refused:
        program += [operation(_JUMP_EQUAL, call, 0, 1), operation(_RETURN, _REFUSE)]
    program += [
        operation(_JUMP_EQUAL, clone, 0, 3),
        operation(_LOAD, 16),
        operation(_JUMP_SET, _CLONE_THREAD, 1, 0),
        operation(_RETURN, _REFUSE),
        operation(_RETURN, _ALLOW),
    ]
    code = b"".join(program)
    text = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("@HP", len(program), ctypes.addressof(text))
    libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, header, 0, 0)
