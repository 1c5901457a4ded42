"""Finds the agent files of an untrusted solution in a folder or a zip."""

from __future__ import annotations

import io
import os
import re
import stat
import tokenize
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from cs285.grading.archives import MAX_DEPTH, MAX_ENTRIES, UnsafeHandInError, open_zip
from cs285.grading.solutions.agent_source import AgentSource, with_line_feeds
from cs285.grading.solutions.assignment import AGENT_FILES, AGENTS
from cs285.grading.solutions.editions import homework_of_file, homework_of_tree
from cs285.infrastructure.errors import UserError

MAX_SOURCE = 256_000
"""Maximum size of one source file, in bytes."""
MAX_SOURCES = 512
"""Maximum number of Python files that are read from one solution; this package has some 300, and
what its agents import may lead to most of them."""
_IGNORED = {"__MACOSX", "__pycache__", ".git", ".venv", "venv", "node_modules"}
PACKAGE_NAME = "cs285"
_FOLDERS = {"infrastructure", "networks", "envs", "scripts", "env_configs"}
"""Folders of the package that a hand-in may have next to its agent files."""
_IMPORT = re.compile(r"^[ \t]*((?:from|import)\b(?:[^\n(\\]|\\\n|\([^)]*\))*)", re.MULTILINE)
_WORD = re.compile(r"\w+")
_Readers = dict[PurePosixPath, Callable[[], str]]
"""A function that reads each Python file, by its path."""


@dataclass(frozen=True)
class Solution:
    """The Python files of one solution."""

    name: str
    files: Mapping[str, str]
    """Text by file name: the agents, and other modules in the same folder."""
    modules: Mapping[str, str] = field(default_factory=dict)
    """Text by path of the modules in other folders that the agents may import, such as
    `cs285/infrastructure/helper.py`, or `helper.py` for one beside the package."""
    problems: tuple[str, ...] = ()
    """Files that were not read, and why."""


def read_solution(path: Path) -> Solution:
    """Read a folder with some of the six files, a `cs285` tree, or a zip of either.

    Raises:
        UnsafeHandInError: If an archive is broken or not safe to unpack.
        UserError: If the path does not exist, has no agent file in it, or is another homework.
            The messages do not repeat the path, since they are shown next to it.
    """
    with _open(path) as (readers, problems):
        return _read(path, readers, problems)


def _read(path: Path, readers: _Readers, problems: list[str]) -> Solution:
    agents = _agents_folder(readers)
    if agents is None:
        if problems:
            raise UnsafeHandInError(problems[0])
        raise UserError(
            homework_of_tree(readers.keys()) or f"contains none of {', '.join(AGENT_FILES)}"
        )
    root = _root(agents)
    if other := homework_of_tree([name for name in readers if name.is_relative_to(root)]):
        raise UserError(other)
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
    _refuse_other_editions(files)
    modules = _modules(readers, agents, files, problems)
    return Solution(path.name, files, modules, tuple(problems))


def _refuse_other_editions(files: Mapping[str, str]) -> None:
    """Raise a `UserError` if all agent files belong to another edition of the homework."""
    others = []
    for agent in AGENTS.values():
        if agent.file in files and agent.makers:
            try:
                source = AgentSource(files[agent.file], agent.class_name)
                others.append(homework_of_file(source, agent))
            except (SyntaxError, ValueError, RecursionError, MemoryError):
                return
    if others and all(others):
        raise UserError(others[0])


def _root(agents: PurePosixPath) -> PurePosixPath:
    """Return the folder that holds the package of an agents folder, or that folder itself."""
    if agents.name != "agents":
        return agents
    return agents.parent.parent if agents.parent.name == PACKAGE_NAME else agents.parent


def _modules(
    readers: _Readers, agents: PurePosixPath, files: Mapping[str, str], problems: list[str]
) -> dict[str, str]:
    """Read the modules outside the agents folder that the files may import, by path."""
    root = _root(agents)
    waiting = {
        name: _place(name, agents)
        for name in readers
        if name.is_relative_to(root) and name.parent != agents
    }
    found: dict[str, str] = {}
    imported = _imported_names(files.values())
    while fresh := [name for name, place in waiting.items() if _stem(place) in imported]:
        for name in fresh:
            place = waiting.pop(name)
            if len(found) + len(files) >= MAX_SOURCES:
                problems.append(f"{name}: not read: more than {MAX_SOURCES} Python files")
                return found
            try:
                found[str(place)] = readers[name]()
            except UnsafeHandInError as error:
                problems.append(f"{name}: {error}")
        imported |= _imported_names(found.values())
    return found


def _place(name: PurePosixPath, agents: PurePosixPath) -> PurePosixPath:
    """Return a module's path as the agents import it, relative to the package's parent folder."""
    place = name.relative_to(_root(agents))
    if agents.name == "agents" and agents.parent.name == PACKAGE_NAME:
        return place
    if agents.name == "agents" or place.parts[0] in _FOLDERS:
        return PACKAGE_NAME / place
    return place


def _stem(place: PurePosixPath) -> str:
    return place.parent.name if place.name == "__init__.py" else place.stem


def _imported_names(texts: Iterable[str]) -> set[str]:
    """Return every word in the import statements of files, which includes all module names."""
    return {
        word
        for text in texts
        for statement in _IMPORT.findall(text)
        for word in _WORD.findall(statement)
    }


def _agents_folder(names: Mapping[PurePosixPath, object]) -> PurePosixPath | None:
    """Return the folder with the most agent files; in a tie, the one nearest to the root."""
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
        too_deep = len(Path(folder).relative_to(root).parts) >= MAX_DEPTH
        folders[:] = [] if too_deep else sorted(set(folders) - _IGNORED)
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
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        return with_line_feeds(data.decode(encoding))
    except (UnicodeDecodeError, SyntaxError, LookupError):
        raise UnsafeHandInError("not text in UTF-8") from None
