"""Finds the agent files of a solution in a folder or a zip, and trusts neither."""

from __future__ import annotations

import lzma
import os
import stat
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cs285.infrastructure.errors import UserError

AGENT_FILES = tuple(f"{name}_agent.py" for name in ("random", "rnd", "dqn", "cql", "awac", "iql"))
MAX_ENTRIES = 20_000
MAX_TOTAL = 1 << 30
"""Bytes that a whole archive may unpack to."""
MAX_RATIO = 200
"""How much smaller than its content a member may be packed; text and logs reach about 30."""
MAX_SOURCE = 256 << 10
"""Bytes of one source file."""
_RATIO_COUNTS_FROM = 1 << 20
_IGNORED = {"__MACOSX", "__pycache__", ".git", ".venv", "venv", "node_modules"}


class UnsafeHandInError(UserError):
    """A hand-in that no tool should unpack; the message says why."""


@dataclass(frozen=True)
class Solution:
    """The Python files beside one solution's agents."""

    name: str
    files: Mapping[str, str]
    """File name to text: the agents, and modules in the same folder."""
    problems: tuple[str, ...] = ()
    """Files that were not read, and why."""


def read_solution(path: Path) -> Solution:
    """Read a folder with some of the six files, a `cs285` tree, or a zip of either.

    Raises:
        UnsafeHandInError: If an archive is not safe to unpack, or broken.
        UserError: If there is no such path, or no agent file in it.
    """
    if path.is_dir():
        readers, problems = _list_folder(path)
    elif path.is_file():
        readers, problems = _list_zip(path)
    else:
        raise UserError(f"{path}: there is no such folder or zip file")
    agents = _agents_folder(readers)
    if agents is None:
        if problems:
            raise UnsafeHandInError(f"{path}: {problems[0]}")
        raise UserError(f"{path}: holds none of {', '.join(AGENT_FILES)}")
    files = {}
    for name, read in readers.items():
        if name.parent == agents and name.suffix == ".py":
            try:
                files[name.name] = read()
            except (UnsafeHandInError, OSError) as error:
                problems.append(f"{name}: {error}")
    return Solution(path.name, files, tuple(problems))


def _agents_folder(names: Mapping[PurePosixPath, object]) -> PurePosixPath | None:
    """Return the folder with the most agent files; of equals the one nearest to the root."""
    counts: dict[PurePosixPath, int] = {}
    for name in names:
        if name.name in AGENT_FILES:
            counts[name.parent] = counts.get(name.parent, 0) + 1
    return min(counts, key=lambda folder: (-counts[folder], len(folder.parts)), default=None)


def _decode(data: bytes) -> str:
    if len(data) > MAX_SOURCE:
        raise UnsafeHandInError(f"longer than {MAX_SOURCE >> 10} kB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UnsafeHandInError("not text in UTF-8") from None


def _list_folder(root: Path) -> tuple[dict[PurePosixPath, Callable[[], str]], list[str]]:
    readers: dict[PurePosixPath, Callable[[], str]] = {}
    problems: list[str] = []
    entries = 0
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(set(folders) - _IGNORED)
        entries += len(names) + len(folders)
        if entries > MAX_ENTRIES:
            raise UnsafeHandInError(f"{root}: more than {MAX_ENTRIES} files")
        for name in sorted(names):
            path = Path(folder) / name
            if path.suffix != ".py":
                continue
            if not stat.S_ISREG(path.lstat().st_mode):
                problems.append(f"{path.relative_to(root)}: a link or device, not a file; not read")
                continue
            relative = PurePosixPath(path.relative_to(root).as_posix())
            readers[relative] = _file_reader(path)
    return readers, problems


def _file_reader(path: Path) -> Callable[[], str]:
    def read() -> str:
        with path.open("rb") as file:
            return _decode(file.read(MAX_SOURCE + 1))

    return read


def _list_zip(path: Path) -> tuple[dict[PurePosixPath, Callable[[], str]], list[str]]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            check_members(members)
            sources: dict[PurePosixPath, bytes] = {}
            for member in members:
                name = PurePosixPath(member.filename)
                if name.suffix != ".py" or _IGNORED & set(name.parts) or member.is_dir():
                    continue
                with archive.open(member) as file:
                    sources[name] = file.read(MAX_SOURCE + 1)
    except UnsafeHandInError as error:
        raise UnsafeHandInError(f"{path}: {error}") from None
    except (
        zipfile.BadZipFile,
        zipfile.LargeZipFile,
        NotImplementedError,
        RuntimeError,
        ValueError,
        EOFError,
        OSError,
        zlib.error,
        lzma.LZMAError,
    ) as error:
        raise UnsafeHandInError(f"{path}: not a zip that can be read ({error})") from None
    return {name: _bytes_reader(data) for name, data in sources.items()}, []


def _bytes_reader(data: bytes) -> Callable[[], str]:
    return lambda: _decode(data)


def check_members(members: list[zipfile.ZipInfo]) -> None:
    """Look at an archive's table of contents before anything is unpacked.

    Raises:
        UnsafeHandInError: If a name leads elsewhere or comes twice, if a member is encrypted or
            anything but a file or a folder, or if the whole would unpack to too much.
    """
    if len(members) > MAX_ENTRIES:
        raise UnsafeHandInError(f"a zip bomb: {len(members)} members, at most {MAX_ENTRIES}")
    total = sum(member.file_size for member in members)
    if total > MAX_TOTAL:
        raise UnsafeHandInError(f"a zip bomb: it would unpack to {total >> 20} MB")
    counts = Counter(member.orig_filename for member in members)
    for name, count in counts.most_common(1):
        if count > 1:
            raise UnsafeHandInError(f"the name {name!r} comes twice")
    for member in members:
        if problem := _problem(member):
            raise UnsafeHandInError(problem)


def _problem(member: zipfile.ZipInfo) -> str:
    """Say what makes one member unsafe, if anything."""
    # The name as it is packed: zipfile cuts it at a zero byte.
    name = member.orig_filename
    parts = name.replace("\\", "/").split("/")
    kind = stat.S_IFMT(member.external_attr >> 16)
    checks = {
        f"the absolute or malformed name {name!r}": (
            name.startswith(("/", "\\")) or ":" in parts[0] or "\0" in name
        ),
        f"the name {name!r} leads out of the archive": ".." in parts,
        f"{name!r} is a symbolic link": kind == stat.S_IFLNK,
        f"{name!r} is a device, not a file": kind
        not in {0, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK},
        f"{name!r} is encrypted": bool(member.flag_bits & 1),
        f"a zip bomb: {name!r} unpacks to {member.file_size >> 20} MB from "
        f"{member.compress_size >> 10} kB": member.file_size
        > max(_RATIO_COUNTS_FROM, MAX_RATIO * member.compress_size),
    }
    return next((text for text, unsafe in checks.items() if unsafe), "")
