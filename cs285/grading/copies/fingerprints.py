"""The fingerprint of a hand-in: its code and its runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from cs285.grading.archives import open_zip, printable
from cs285.grading.copies.code import PYTHON, CodeFile, digest, given_text, read_code
from cs285.grading.copies.runs import RunPrint, read_run
from cs285.grading.hand_ins.submitted_runs import find_runs
from cs285.grading.hand_ins.unpacking import HandIn, is_junk, open_hand_in
from cs285.grading.solutions.assignment import AGENT_FILES
from cs285.infrastructure.errors import UserError
from cs285.results.run_folders import ANY_EVENTS, is_event_file

MAX_FILE = 256_000
"""Maximum size in bytes of a Python file that is read."""
MAX_FILES = 200
"""Maximum number of Python files that are read from one hand-in."""
MAX_CODE = 2_000_000
"""Maximum size in bytes of all Python files that are read from one hand-in."""
MAX_RUNS = 100
"""Maximum number of runs that are compared."""
_LIBRARY_FOLDERS = {"site-packages", "node_modules", "gym", "gymnasium", "torch"}
"""Folders of libraries that students include by mistake."""


@dataclass(frozen=True)
class Fingerprint:
    """The parts of one hand-in that are compared with others."""

    files: tuple[CodeFile, ...] = ()
    runs: tuple[RunPrint, ...] = ()
    problems: tuple[str, ...] = ()
    """What was not read, and why."""

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "files": [one.as_json() for one in self.files],
            "runs": [one.as_json() for one in self.runs],
            "problems": list(self.problems),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Fingerprint:
        """Return the fingerprint that `as_json` turned into plain data."""
        return cls(
            tuple(map(CodeFile.from_json, data["files"])),
            tuple(map(RunPrint.from_json, data["runs"])),
            tuple(data["problems"]),
        )


def fingerprint(hand_in: Path, starters: tuple[Path, ...] = ()) -> Fingerprint:
    """Return the fingerprint of a hand-in, without running any of its code.

    Args:
        hand_in: The hand-in, a zip or a folder.
        starters: Folders with code that was given to students, besides this project's starter.

    Returns:
        The fingerprint. Whatever cannot be read is left out and listed in `problems`.
    """
    try:
        with open_hand_in(hand_in) as opened:
            return _of_opened(hand_in, opened, starters)
    except UserError as error:
        return Fingerprint(problems=(printable(error, 400),))


def _of_opened(path: Path, hand_in: HandIn, starters: tuple[Path, ...]) -> Fingerprint:
    problems: list[str] = []
    texts = list(_texts(path, hand_in, problems))
    given = given_text(frozenset({*AGENT_FILES, *(name.name for name, _ in texts)}), starters)
    files: dict[bytes, CodeFile | None] = {}
    for name, text in texts:
        key = digest(text)
        if key not in files:
            files[key] = read_code(str(name), text, given)
    events = [name for name in hand_in.find(ANY_EVENTS) if is_event_file(name.name)]
    read = find_runs(hand_in).read
    runs = []
    for run in read[:MAX_RUNS]:
        own = [hand_in.root / name for name in events if name.parent == run.folder]
        runs.append(read_run(run, own))
    if len(read) > MAX_RUNS:
        problems.append(f"only {MAX_RUNS} of {len(read)} runs are compared")
    return Fingerprint(
        tuple(one for one in files.values() if one is not None),
        tuple(one for one in runs if one is not None),
        tuple(problems),
    )


def _texts(path: Path, hand_in: HandIn, problems: list[str]) -> Iterator[tuple[PurePosixPath, str]]:
    """Yield the Python files of a hand-in, agent files first."""
    names = [
        name
        for name in hand_in.files
        if name.match(PYTHON) and not is_junk(name) and not _LIBRARY_FOLDERS & set(name.parts)
    ]
    names.sort(key=lambda name: (name.parent.name != "agents", name))
    left = MAX_CODE
    with _reader(path, hand_in) as read:
        for number, name in enumerate(names):
            size = hand_in.files[name]
            if number >= MAX_FILES or size > left:
                problems.append(f"{len(names) - number} Python files are not compared: too many")
                return
            if size > MAX_FILE:
                problems.append(f"{printable(name)}: {size / 1e6:.1f} MB is too large to compare")
                continue
            left -= size
            with suppress(OSError):
                yield name, read(name).decode("utf-8", "replace")


@contextmanager
def _reader(path: Path, hand_in: HandIn) -> Iterator[Callable[[PurePosixPath], bytes]]:
    """Yield a function that reads any file of a hand-in that is checked and open."""
    if path.is_dir():
        yield lambda name: (hand_in.root / name).read_bytes()
        return
    with open_zip(path) as archive:
        members = {
            PurePosixPath(one.filename.replace("\\", "/")): one for one in archive.infolist()
        }
        yield lambda name: archive.read(members[name])
