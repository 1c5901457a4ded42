"""Limits the files that a process may read and write, with the kernel's Landlock.

A rule set lists what is allowed; all other access that the kernel's version of Landlock covers is
refused, whatever the user's rights. See Documentation/userspace-api/landlock.rst in Linux.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import stat
import struct
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from cs285.grading.sandbox import kernel

_CREATE, _ADD, _RESTRICT = 444, 445, 446
_VERSION = 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REMOVE_DIR, _REMOVE_FILE, _MAKE_DIR, _MAKE_REG = 1 << 4, 1 << 5, 1 << 7, 1 << 8
_REFER, _TRUNCATE, _IOCTL_DEVICE = 1 << 13, 1 << 14, 1 << 15
_FIRST = (1 << 13) - 1
"""Access that version 1 covers: executing, reading, writing, removing and making any files."""
_LATER = {2: _REFER, 3: _TRUNCATE, 5: _IOCTL_DEVICE}
"""Access that later versions cover, by the version that added it."""
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEVICE
_NETWORK_VERSION, _BIND_AND_CONNECT = 4, 3
_SCOPE_VERSION, _SOCKETS_AND_SIGNALS = 6, 3

READ = _READ_FILE | _READ_DIR
LIST = _READ_DIR
USE = _READ_FILE | _WRITE_FILE
"""Access to devices."""
CHANGE = (
    READ | _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _REFER | _TRUNCATE
)
"""Access to a job's own folder: plain files and folders, no links, sockets, pipes or devices."""


def version() -> int:
    """Return the version of Landlock that the kernel offers; 0 if it has none."""
    if platform.system() != "Linux":
        return 0
    with suppress(OSError):
        return kernel.call(_CREATE, None, ctypes.c_size_t(0), _VERSION)
    return 0


def scopes_signals() -> bool:
    """Return whether Landlock keeps signals and abstract sockets within the confined process."""
    return version() >= _SCOPE_VERSION


class Rules:
    """A rule set under construction."""

    def __init__(self) -> None:
        found = version()
        self._handled = _FIRST | sum(bit for since, bit in _LATER.items() if found >= since)
        fields = [self._handled]
        if found >= _NETWORK_VERSION:
            fields.append(_BIND_AND_CONNECT)
        if found >= _SCOPE_VERSION:
            fields.append(_SOCKETS_AND_SIGNALS)
        attributes = struct.pack(f"<{len(fields)}Q", *fields)
        self._file = kernel.call(_CREATE, attributes, ctypes.c_size_t(len(attributes)), 0)

    def allow(self, path: Path | str, access: int) -> None:
        """Allow access to a file, or to a folder and everything in it, if it exists."""
        try:
            place = os.open(path, os.O_PATH)
        except OSError as error:
            if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.EACCES}:
                return
            raise
        try:
            if not stat.S_ISDIR(os.fstat(place).st_mode):
                access &= _OF_FILES
            if access := access & self._handled:
                kernel.call(_ADD, self._file, 1, struct.pack("<Qi", access, place), 0)
        finally:
            os.close(place)

    def allow_reading(self, paths: Iterable[Path], hidden: Path) -> None:
        """Allow reading files and folders, except for one folder inside them."""
        for path in paths:
            if path == hidden:
                continue
            if not hidden.is_relative_to(path):
                self.allow(path, READ)
                continue
            # Rules can only add, so for a folder around the hidden one, allow its other contents.
            self.allow(path, LIST)
            self.allow_reading(sorted(path.iterdir()), hidden)

    def enforce(self) -> None:
        """Permanently restrict this process to what is allowed."""
        kernel.call(_RESTRICT, self._file, 0)
        os.close(self._file)
