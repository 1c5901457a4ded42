"""Lets another user read Python even if it is in a folder closed to others, such as root's home.

Only root can do this: the process gets its own view of the file system, in which the closed folder
contains only what is needed. Other processes see no difference.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from cs285.grading.sandbox import kernel, reading

_CLONE_NEWNS = 0x20000
_MS_BIND, _MS_REC, _MS_PRIVATE = 1 << 12, 1 << 14, 1 << 18
_MS_NOSUID, _MS_NODEV = 1 << 1, 1 << 2


def open_up(paths: Sequence[Path], user: int) -> bool:
    """Make paths readable for a user, in this process and those that it starts.

    Returns:
        Whether all of them are readable now. In no case does anything change for other processes.
    """
    closed = {path: folder for path in paths if (folder := reading.closed_folder(path, user))}
    if not closed:
        return True
    covered: list[Path] = []
    try:
        kernel.unshare(_CLONE_NEWNS)
        kernel.mount("none", "/", "", _MS_REC | _MS_PRIVATE)
        # Opened in the new view, so that they can be mounted there again once they are covered.
        places = {path: os.open(path, os.O_PATH) for path in closed}
        for folder in set(closed.values()):
            kernel.mount("none", folder, "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=755,size=1m")
            covered.append(folder)
        for path, place in places.items():
            _show(path, place)
            os.close(place)
    except OSError:
        for folder in covered:
            kernel.unmount(folder)
        return False
    return not any(reading.closed_folder(path, user) for path in paths)


def _show(path: Path, place: int) -> None:
    """Mount the file or folder behind an open descriptor at a path."""
    source = Path(f"/proc/self/fd/{place}")
    path.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        path.mkdir(exist_ok=True)
    else:
        path.touch()
    kernel.mount(str(source), path, "", _MS_BIND | _MS_REC)
