"""Finds the agent files of an untrusted solution in a folder or a zip."""

from __future__ import annotations

import os
import stat
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from cs285.grading.archives import MAX_ENTRIES, UnsafeHandInError, open_zip
from cs285.grading.solutions.assignment import AGENT_FILES
from cs285.infrastructure.errors import UserError

MAX_SOURCE = 256_000
"""Maximum size of one source file, in bytes."""
MAX_SOURCES = 64
"""Maximum number of Python files that are read from one solution."""
_IGNORED = {"__MACOSX", "__pycache__", ".git", ".venv", "venv", "node_modules"}
_Readers = dict[PurePosixPath, Callable[[], str]]
"""A function that reads each Python file, by its path."""


@dataclass(frozen=True)
class Solution:
    """The Python files of one solution."""

    name: str
    files: Mapping[str, str]
    """Text by file name: the agents, and other modules in the same folder."""
    problems: tuple[str, ...] = ()
    """Files that were not read, and why."""


def read_solution(path: Path) -> Solution:
    """Read a folder with some of the six files, a `cs285` tree, or a zip of either.

    Raises:
        UnsafeHandInError: If an archive is broken or not safe to unpack.
        UserError: If the path does not exist, or has no agent file in it.
        The messages do not repeat the path: they are shown next to it.
    """
    with _open(path) as (readers, problems):
        return _read(path, readers, problems)


def _read(path: Path, readers: _Readers, problems: list[str]) -> Solution:
    agents = _agents_folder(readers)
    if agents is None:
        if problems:
            raise UnsafeHandInError(problems[0])
        raise UserError(f"contains none of {', '.join(AGENT_FILES)}")
    # Agents first: they are read even if there are too many other modules.
    names = sorted(
        (name for name in readers if name.parent == agents),
        key=lambda name: (name.name not in AGENT_FILES, name.name),
    )
    if len(names) > MAX_SOURCES:
        problems.append(f"{agents}: {len(names)} Python files; only {MAX_SOURCES} of them are read")
    files = {}
    for name in names[:MAX_SOURCES]:
        try:
            files[name.name] = readers[name]()
        except UnsafeHandInError as error:
            problems.append(f"{name}: {error}")
    return Solution(path.name, files, tuple(problems))


def _agents_folder(names: Mapping[PurePosixPath, object]) -> PurePosixPath | None:
    """Return the folder with the most agent files; among equals, the one nearest to the root."""
    counts: dict[PurePosixPath, int] = {}
    for name in names:
        if name.name in AGENT_FILES:
            counts[name.parent] = counts.get(name.parent, 0) + 1
    return min(counts, key=lambda folder: (-counts[folder], len(folder.parts)), default=None)


@contextmanager
def _open(path: Path) -> Iterator[tuple[_Readers, list[str]]]:
    """Make the Python files of a folder or a zip readable inside the context."""
    if path.is_dir():
        yield _list_folder(path)
    elif path.is_file():
        with open_zip(path) as archive:
            yield _list_zip(archive), []
    else:
        raise UserError("no such folder or zip file")


def _list_folder(root: Path) -> tuple[_Readers, list[str]]:
    readers: _Readers = {}
    problems: list[str] = []
    entries = 0
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(set(folders) - _IGNORED)
        entries += len(names) + len(folders)
        if entries > MAX_ENTRIES:
            raise UnsafeHandInError(f"more than {MAX_ENTRIES} files")
        for name in sorted(names):
            path = Path(folder) / name
            if path.suffix != ".py":
                continue
            if not stat.S_ISREG(path.lstat().st_mode):
                problems.append(f"{path.relative_to(root)}: not read: it is a link or a device")
                continue
            relative = PurePosixPath(path.relative_to(root).as_posix())
            readers[relative] = partial(_read_text, partial(_open_file, path))
    return readers, problems


def _open_file(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as error:
        raise UnsafeHandInError(f"cannot be read ({error.strerror})") from None


def _list_zip(archive: zipfile.ZipFile) -> _Readers:
    readers: _Readers = {}
    for member in archive.infolist():
        name = PurePosixPath(member.filename.replace("\\", "/"))  # as some zip tools write it
        if name.suffix == ".py" and not _IGNORED & set(name.parts) and not member.is_dir():
            readers[name] = partial(_read_text, partial(archive.open, member))
    return readers


def _read_text(open_file: Callable[[], IO[bytes]]) -> str:
    with open_file() as file:
        data = file.read(MAX_SOURCE + 1)
    if len(data) > MAX_SOURCE:
        raise UnsafeHandInError(f"longer than {MAX_SOURCE // 1_000} kB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UnsafeHandInError("not text in UTF-8") from None
