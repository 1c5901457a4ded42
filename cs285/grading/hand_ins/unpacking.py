"""Opens untrusted hand-ins, zips or folders, and writes only to a temporary folder."""

from __future__ import annotations

import fnmatch
import os
import shutil
import stat
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cs285.grading.archives import MAX_DEPTH, MAX_ENTRIES, UnsafeHandInError, open_zip, printable
from cs285.infrastructure.errors import UserError
from cs285.results.run_folders import ANY_EVENTS, CONFIG, SUMMARY

MAX_LOG = 64_000_000
"""Maximum size of an event file in bytes; with `--log_interval 1000` it has less than a million."""
MAX_DATASET = 4_000_000
MAX_NOTE = 5_000
"""Maximum size of a `config.yaml` or `summary.json` in bytes; they have less than a thousand."""
MAX_UNPACKED = 300_000_000
"""Maximum number of bytes that are unpacked in total."""
MAX_FILES = 2_000
"""Maximum number of files that are unpacked; a hand-in has a few hundred. Creating a file takes
longer than storing one in a zip."""
MAX_PROBLEMS = 20
"""Maximum number of unread files that are listed."""
_LIMITS = {
    ANY_EVENTS: MAX_LOG,
    "*.npz": MAX_DATASET,
    CONFIG: MAX_NOTE,
    SUMMARY: MAX_NOTE,
}
_SKIPPED = {".git", ".venv", "venv", "node_modules"}
JUNK = (
    "__MACOSX",
    ".DS_Store",
    "._*",
    "*Zone.Identifier",
    "__pycache__",
    "*.pyc",
    ".git",
    ".venv",
    "venv",
    ".*_cache",
)
_TO_MEASURE = 64_000_000


@dataclass(frozen=True)
class HandIn:
    """The files of a hand-in; those that the grader reads can be opened."""

    root: Path
    """The folder that contains the files to read."""
    files: Mapping[PurePosixPath, int]
    """Size of every file in bytes, by its path."""
    packed: int
    """Size of the zip in bytes, or approximately that of a zip of the folder."""
    problems: tuple[str, ...]
    """What was not read, and why."""
    folders: frozenset[PurePosixPath] = frozenset()
    """Every listed folder, even an empty one."""

    def has(self, path: PurePosixPath) -> bool:
        """Return whether a file exists and may be read."""
        return (
            path in self.files
            and self.files[path] <= _limit(path)
            and not is_junk(path)
            and (self.root / path).exists()
        )

    def find(self, pattern: str) -> list[PurePosixPath]:
        """Return the paths of all files that may be read and whose names match a pattern."""
        names = (path for path in self.files if fnmatch.fnmatchcase(path.name, pattern))
        return sorted(path for path in names if self.has(path))

    def unreadable(self, pattern: str) -> list[PurePosixPath]:
        """Return the paths of all files that may not be read and whose names match a pattern."""
        names = (path for path in self.files if fnmatch.fnmatchcase(path.name, pattern))
        return sorted(path for path in names if not is_junk(path) and not self.has(path))


def is_junk(path: PurePosixPath) -> bool:
    """Return whether a file is a by-product of the operating system, Python or another tool."""
    return any(fnmatch.fnmatchcase(part, pattern) for part in path.parts for pattern in JUNK)


@contextmanager
def open_hand_in(path: Path) -> Iterator[HandIn]:
    """Make the files of a hand-in readable inside the context.

    Raises:
        UnsafeHandInError: If a zip is broken or not safe to unpack, or a folder has too many files.
        UserError: If the path does not exist.
    """
    if path.is_dir():
        yield _look_into(path)
    elif path.is_file():
        with tempfile.TemporaryDirectory(prefix="cs285-hand-in-") as folder:
            yield _unpack(path, Path(folder))
    else:
        raise UserError(f"{path}: no such folder or zip file")


def _unpack(path: Path, root: Path) -> HandIn:
    files: dict[PurePosixPath, int] = {}
    problems: list[str] = []
    listed: set[PurePosixPath] = set()
    total = unpacked = 0
    with open_zip(path) as archive:
        for member in archive.infolist():
            name = PurePosixPath(member.filename.replace("\\", "/"))
            if member.is_dir():
                listed.add(name)
                continue
            if name in files:
                raise UnsafeHandInError(f"the name {printable(name)!r} appears twice")
            files[name] = member.file_size
            limit = _limit(name)
            if not limit or is_junk(name):
                continue
            total += member.file_size
            if member.file_size > limit or total > MAX_UNPACKED:
                problems.append(_too_large(name, member.file_size))
                continue
            unpacked += 1
            if unpacked > MAX_FILES:
                continue
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as packed, (root / name).open("xb") as file:
                shutil.copyfileobj(packed, file)
    if unpacked > MAX_FILES:
        problems.append(
            f"{unpacked:,} logs, configs and datasets; only the first {MAX_FILES:,} are read"
        )
    return HandIn(root, files, path.stat().st_size, _few(problems), frozenset(listed))


def _few(problems: list[str]) -> tuple[str, ...]:
    """Return at most `MAX_PROBLEMS` of the problems, and a line on the others."""
    left_out = len(problems) - MAX_PROBLEMS
    if left_out <= 0:
        return tuple(problems)
    return (*problems[-MAX_PROBLEMS:], f"and {left_out:,} more files are not read")


def _look_into(root: Path) -> HandIn:
    files: dict[PurePosixPath, int] = {}
    problems: list[str] = []
    listed: set[PurePosixPath] = set()
    for folder, folders, names in os.walk(root):
        too_deep = len(Path(folder).relative_to(root).parts) >= MAX_DEPTH
        folders[:] = [] if too_deep else sorted(set(folders) - _SKIPPED)
        if len(files) + len(folders) + len(names) > MAX_ENTRIES:
            raise UnsafeHandInError(f"more than {MAX_ENTRIES:,} files")
        for name in (*folders, *sorted(names)):
            path = Path(folder) / name
            relative = PurePosixPath(path.relative_to(root).as_posix())
            status = path.lstat()
            if stat.S_ISREG(status.st_mode):
                files[relative] = status.st_size
                if 0 < _limit(relative) < status.st_size:
                    problems.append(_too_large(relative, status.st_size))
            elif stat.S_ISDIR(status.st_mode):
                listed.add(relative)
            else:
                problems.append(f"{printable(relative)}: not read because it is a link or a device")
    return HandIn(root, files, _measure(root, files), _few(problems), frozenset(listed))


def _measure(root: Path, files: Mapping[PurePosixPath, int]) -> int:
    """Return the approximate size in bytes of a zip of the files."""
    total = read = 0
    for name, size in files.items():
        read += size
        packed = size
        if read <= _TO_MEASURE:
            with suppress(OSError):
                packed = len(zlib.compress((root / name).read_bytes()))
        total += packed
    return total


def _limit(path: PurePosixPath) -> int:
    """Return the maximum size of a file to be read; 0 for a file that is never read."""
    return next(
        (limit for pattern, limit in _LIMITS.items() if fnmatch.fnmatchcase(path.name, pattern)), 0
    )


def _too_large(path: PurePosixPath, size: int) -> str:
    return f"{printable(path)}: {size / 1e6:,.3f} MB is too large to read"
