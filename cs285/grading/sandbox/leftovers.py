"""Measures and removes what untrusted code left in a folder, however deep or inaccessible."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from secrets import token_hex


def exceed(folder: Path, size: int, entries: int) -> bool:
    """Return whether a folder holds more than `size` bytes or more than `entries` entries.

    The folder may change meanwhile; what cannot be read does not count.
    """
    waiting = [str(folder)]
    while waiting:
        with suppress(OSError), os.scandir(waiting.pop()) as found:
            for entry in found:
                entries -= 1
                with suppress(OSError):
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    else:
                        size -= entry.stat(follow_symlinks=False).st_blocks * 512
                if size < 0 or entries < 0:
                    return True
    return False


def remove(folder: Path) -> None:
    """Remove a folder and everything in it; no process may be changing it.

    `shutil.rmtree` fails on a folder without permissions, and on one so deep that its recursion or
    its paths become too long. Here inner folders move up before they are emptied.
    """
    # Untrusted code cannot have guessed these names.
    prefix, numbers = token_hex(), count()
    waiting = [folder]
    while waiting:
        place = waiting.pop()
        with suppress(OSError):
            place.chmod(0o700)
            entries = list(place.iterdir())
            for path in entries:
                with suppress(OSError):
                    if path.is_dir() and not path.is_symlink():
                        path.chmod(0o700)
                        waiting.append(path.rename(folder / f"{prefix}-{next(numbers)}"))
                    else:
                        path.unlink()
            if place != folder:
                place.rmdir()
    with suppress(OSError):
        folder.rmdir()


@contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """Create a folder and remove it at the end, whatever is in it then."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    try:
        yield folder
    finally:
        remove(folder)
