"""Atomic writes, locks, and checks of names and folders."""

import contextlib
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import filelock

from cs285.infrastructure.errors import UserError

MAX_NAME_BYTES = 200
"""File systems allow 255 bytes; this leaves room for a prefix, a seed and a timestamp."""
LOCK_FILE = ".lock"
"""A process that is killed leaves it behind, unlocked."""
LOCK_PATIENCE_S = 5.0
"""A worker whose parent was killed ends within a step."""


def check_name(name: str, what: str) -> str:
    """Return `name` if it can be part of a file name, in any folder.

    Args:
        name: The name to check.
        what: A description for the error message, such as `"dataset_name"`.

    Raises:
        UserError: If the name is empty or too long, starts with a dot, or contains path separators
            or unprintable characters.
    """
    if not name.strip():
        reason = "is empty"
    elif not name.isprintable():
        reason = "contains characters that cannot be printed"
    elif "/" in name or "\\" in name:
        reason = "contains a path separator"
    elif name.startswith("."):
        reason = "starts with a dot"
    elif len(name.encode()) > MAX_NAME_BYTES:
        reason = f"is longer than {MAX_NAME_BYTES} bytes"
    else:
        return name
    raise UserError(f"{what} {name[:80]!r} {reason}; it must be a plain name like 'easy_rnd'")


def prepare_folder(path: Path) -> Path:
    """Create a folder and its parents if needed, and check that files can be written there.

    Raises:
        UserError: If it cannot be created or written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        # Permission bits do not show read-only or full disks, so try to write a file.
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise UserError(
            f"cannot write to the folder {path}: {reason_of(error)}; choose a writable folder"
        ) from error
    return path


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let `write` fill a temporary file in the same folder, then rename it to `path` in one step.

    Readers of `path` see either the old contents or the new, never a part of them.

    Raises:
        UserError: If the file cannot be written, as when the folder is missing or the disk is full.
    """
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        try:
            with temporary.open("xb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {path}: {reason_of(error)}") from error
    _sync_folder(path.parent)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock a folder against other processes that call this; the lock ends with the process.

    On a file system that is read-only or does not support locks, nothing is locked.

    Raises:
        UserError: If there is no such folder, or another process still locks it after a few
            seconds.
    """
    if not folder.is_dir():
        raise UserError(f"cannot open the folder {folder}: no such directory")
    # A file rather than the folder itself, because NFS locks only files that are open for writing.
    path = folder / LOCK_FILE
    lock = filelock.FileLock(path, timeout=LOCK_PATIENCE_S, fallback_to_soft=False)
    with contextlib.suppress(OSError, NotImplementedError):
        try:
            lock.acquire()
        except filelock.Timeout:
            raise UserError(f"{folder} is in use by another process; wait until it ends") from None
    try:
        yield
    finally:
        if lock.is_locked:
            # Before the release: a process that waits for the removed file notices and makes a new
            # one.
            with contextlib.suppress(OSError):
                path.unlink()
            lock.release()


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut, on systems that can open folders."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def reason_of(error: OSError) -> str:
    """Return the system's reason for an error, for use within a sentence."""
    return (error.strerror or str(error)).lower()
