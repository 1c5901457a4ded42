"""Opens a hand-in, a zip or a folder, trusts neither and harms nothing."""

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

from cs285.grading.archives import MAX_ENTRIES, UnsafeHandInError, open_zip, printable
from cs285.infrastructure.errors import UserError
from cs285.results.run_folders import ANY_EVENTS, CONFIG, SUMMARY

MAX_LOG = 64_000_000
"""Bytes of one event file that is read; with `--log_interval 1000` it has under one."""
MAX_DATASET = 4_000_000
MAX_NOTE = 5_000
"""Bytes of one `config.yaml` or `summary.json`; they have under one thousand."""
MAX_UNPACKED = 256_000_000
"""Bytes of all that is unpacked."""
_LIMITS = {
    ANY_EVENTS: MAX_LOG,
    "*.npz": MAX_DATASET,
    CONFIG: MAX_NOTE,
    SUMMARY: MAX_NOTE,
}
_SKIPPED = {".git", ".venv", "venv", "node_modules"}
JUNK = ("__MACOSX", ".DS_Store", "__pycache__", "*.pyc", ".git", ".venv", "venv", ".*_cache")
_TO_MEASURE = 64_000_000


@dataclass(frozen=True)
class HandIn:
    """The files of a hand-in, those that matter in reach."""

    root: Path
    """Where they can be read."""
    files: Mapping[PurePosixPath, int]
    """Bytes of every file, by its path."""
    packed: int
    """Bytes of the zip, or nearly those that a zip of the folder would have."""
    problems: tuple[str, ...]
    """What is not read, and why."""

    def has(self, path: PurePosixPath) -> bool:
        """Tell whether a file is there and may be read."""
        return (
            path in self.files
            and self.files[path] <= _limit(path)
            and not is_junk(path)
            and (self.root / path).exists()
        )

    def find(self, pattern: str) -> list[PurePosixPath]:
        """Return the paths of all files that may be read, by a pattern of their name."""
        names = (path for path in self.files if fnmatch.fnmatchcase(path.name, pattern))
        return sorted(path for path in names if self.has(path))


def is_junk(path: PurePosixPath) -> bool:
    """Tell whether a file is one that computers leave behind."""
    return any(fnmatch.fnmatchcase(part, pattern) for part in path.parts for pattern in JUNK)


@contextmanager
def open_hand_in(path: Path) -> Iterator[HandIn]:
    """Make the files of a hand-in readable for as long as the context lasts.

    Raises:
        UnsafeHandInError: If a zip is not safe to unpack, or broken, or a folder has no end.
        UserError: If there is no such path.
    """
    if path.is_dir():
        yield _look_into(path)
    elif path.is_file():
        with tempfile.TemporaryDirectory(prefix="cs285-hand-in-") as folder:
            yield _unpack(path, Path(folder))
    else:
        raise UserError(f"{path}: there is no such folder or zip file")


def _unpack(path: Path, root: Path) -> HandIn:
    files: dict[PurePosixPath, int] = {}
    problems: list[str] = []
    total = 0
    with open_zip(path) as archive:
        for member in archive.infolist():
            if member.is_dir():
                continue
            name = PurePosixPath(member.filename.replace("\\", "/"))
            if name in files:
                raise UnsafeHandInError(f"the name {printable(name)!r} comes twice")
            files[name] = member.file_size
            limit = _limit(name)
            if not limit or is_junk(name):
                continue
            total += member.file_size
            if member.file_size > limit or total > MAX_UNPACKED:
                problems.append(_too_large(name, member.file_size))
                continue
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as packed, (root / name).open("xb") as file:
                shutil.copyfileobj(packed, file)
    return HandIn(root, files, path.stat().st_size, tuple(problems))


def _look_into(root: Path) -> HandIn:
    files: dict[PurePosixPath, int] = {}
    problems: list[str] = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(set(folders) - _SKIPPED)
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
            elif not stat.S_ISDIR(status.st_mode):
                problems.append(f"{printable(relative)}: a link or device, not a file; not read")
    return HandIn(root, files, _measure(root, files), tuple(problems))


def _measure(root: Path, files: Mapping[PurePosixPath, int]) -> int:
    """Return about how many bytes the files would have in a zip."""
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
    """Return how large a file may be to be read; 0 for one that nothing is read from."""
    return next(
        (limit for pattern, limit in _LIMITS.items() if fnmatch.fnmatchcase(path.name, pattern)), 0
    )


def _too_large(path: PurePosixPath, size: int) -> str:
    return f"{printable(path)}: {size / 1e6:,.3f} MB are too much to read"
