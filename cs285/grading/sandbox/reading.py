"""Lists what confined code needs to read: Python, its libraries, and facts about the machine."""

from __future__ import annotations

import os
import site
import stat
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_SYSTEM = (
    "/lib",
    "/lib32",
    "/lib64",
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/local/lib",
    "/usr/share/fonts",
    "/usr/local/share/fonts",
    "/usr/share/zoneinfo",
    "/etc/fonts",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/nix/store",
)
_FACTS = (
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/filesystems",
    "/proc/stat",
    "/proc/sys/kernel/ngroups_max",
    "/proc/sys/vm/overcommit_memory",
    "/sys/devices/system/cpu",
    "/sys/devices/system/node",
    "/sys/kernel/mm/transparent_hugepage",
)
"""What the C library and PyTorch look up about processors and memory."""


def is_code_of_the_repository(entry: str, package: Path) -> bool:
    """Return whether an entry of `sys.path` is the folder of a package that is not installed."""
    folder = Path(entry).resolve()
    installed = {Path(path).resolve() for path in _package_folders()}
    return folder == package.parent and folder not in installed


def libraries(hidden: Path) -> list[Path]:
    """Return the folders and files of Python and of the system's libraries.

    Args:
        hidden: A package that must not be readable; unless it is installed, its parent folder must
            not be readable either.
    """
    python = [
        *(path for path in sys.path if not is_code_of_the_repository(path, hidden)),
        *_package_folders(),
        sysconfig.get_path("stdlib"),
        os.path.join(sys.base_prefix, "lib"),  # noqa: PTH118 - shared libraries, as in conda
        os.path.join(sys.prefix, "pyvenv.cfg"),  # noqa: PTH118
        sys.executable,
    ]
    found = {Path(path).resolve() for path in (*python, *_SYSTEM) if path}
    return sorted(_outermost(path for path in found if path.exists()))


def facts() -> list[Path]:
    """Return the files with facts about the machine."""
    return [Path(path) for path in _FACTS]


def _package_folders() -> Iterator[str]:
    yield from site.getsitepackages()
    yield sysconfig.get_path("purelib")
    yield sysconfig.get_path("platlib")


def _outermost(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield the paths that are not inside another of them."""
    known = set(paths)
    for path in known:
        if not known & set(path.parents):
            yield path


def closed_folder(path: Path, user: int) -> Path | None:
    """Return the outermost folder that keeps a user and the group of that number from a path."""
    for folder in (*reversed(path.parents), path):
        status = folder.stat()
        shift = 3 if status.st_gid == user else 0  # to the bits of the group
        needed = stat.S_IXOTH if folder != path or folder.is_dir() else 0
        needed |= stat.S_IROTH if folder == path else 0
        if status.st_mode >> shift & needed != needed:
            return folder
    return None
