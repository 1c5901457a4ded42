"""Files and folders that are written whole or not at all."""

import contextlib
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import filelock

from cs285.infrastructure.errors import UserError

# File systems allow 255 bytes; a prefix, a timestamp or a seed still has to fit beside the name.
MAX_NAME_BYTES = 200
LOCK_FILE = ".lock"
"""A killed process leaves it behind, unlocked."""
LOCK_PATIENCE_S = 5.0
"""A worker whose parent was killed notices it within a step."""


def check_name(name: str, what: str) -> str:
    """Return `name` if it can be part of a file name, wherever the file is to stand.

    Args:
        name: The name to check.
        what: What it names, for the message, e.g. `"dataset_name"`.

    Raises:
        UserError: The name is empty, over-long, starts with a dot, or holds path separators or
            characters that don't print.
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
    """Create the folder with its parents if need be, and make sure that files can be written there.

    Raises:
        UserError: It cannot be created or written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        # Permission bits tell neither of read-only disks nor of full ones; a file that opens does.
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise UserError(
            f"cannot write to the folder {path}: {reason_of(error)}; choose a writable folder"
        ) from error
    return path


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it to `path` in one step.

    Whoever opens `path` finds the old contents or the new, never a part of them.

    Raises:
        UserError: The file cannot be written: the folder is missing or unwritable, the disk full.
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
    """Keep other processes that call this out of a folder; the lock ends with the process.

    On a file system that is read-only or knows no locks, nothing is locked.

    Raises:
        UserError: If there is no such folder, or another process still has it after a few seconds.
    """
    if not folder.is_dir():
        raise UserError(f"cannot open the folder {folder}: no such directory")
    # A file rather than the folder itself, because NFS locks only what is open for writing.
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
            # Before the release: whoever waits for the removed file notices and makes a new one.
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
    """Return the system's reason for an error, to stand within a sentence."""
    return (error.strerror or str(error)).lower()
