"""Finds the hand-ins of a course and their students, in folders or in an export from Gradescope.

An export has a folder `submission_NUMBER` for each hand-in, and a file `submission_metadata.yml`
that names its students. A group has one hand-in, and a row for each of its students.
"""

from __future__ import annotations

import hashlib
import os
import re
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

import yaml

from cs285.grading.hand_ins.unpacking import is_junk
from cs285.grading.solutions.assignment import AGENT_FILES
from cs285.infrastructure.errors import UserError, printable
from cs285.infrastructure.yaml_text import InvalidYamlError, compose_yaml
from cs285.results.run_folders import is_event_file

METADATA = "submission_metadata.yml"
MAX_METADATA = 200_000_000
"""Maximum size of an export's metadata in bytes: it repeats the results of every submission."""
_FOLDERS = {"data", "cs285"}
_DEPTH = 2
"""Maximum number of outer folders that zip tools have put around a hand-in."""
_LONGEST_KEY = 80
_TIME = re.compile(r"(\S+)[ T](\d\d:\d\d:\d\d)(?:\.\d+)? ?(Z|UTC|[+-]\d\d:?\d\d)?")


@dataclass(frozen=True)
class Student:
    """A student who handed in; unknown fields are empty."""

    name: str = ""
    sid: str = ""
    email: str = ""


@dataclass(frozen=True)
class CourseHandIn:
    """One hand-in of a course."""

    path: Path
    """A zip or a folder."""
    name: str
    """Its name for people: that of its file, or of its folder in the export."""
    key: str = ""
    """Its name in a form fit for file names, different for every hand-in."""
    students: tuple[Student, ...] = (Student(),)
    handed_in: str = ""
    """Time of the hand-in in UTC, such as `2026-11-30 16:13`; empty if unknown."""
    earlier_score: float | None = None
    """The points that Gradescope shows."""

    @property
    def title(self) -> str:
        """The names of its students, or else the name of the hand-in."""
        names = [student.name for student in self.students if student.name]
        return ", ".join(names) or re.sub(r"(?i)\.zip$", "", self.name)


@dataclass(frozen=True)
class Roster:
    """All hand-ins, in the order of their names."""

    hand_ins: tuple[CourseHandIn, ...]
    problems: tuple[str, ...] = ()
    """What was unclear, and how it was handled."""


@dataclass
class _Found:
    hand_ins: list[CourseHandIn] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def is_course(path: Path) -> bool:
    """Return whether a path holds several hand-ins rather than one."""
    if not path.is_dir():
        return False
    if (path / METADATA).is_file():
        return True
    return not is_hand_in(path) and sum(map(is_hand_in, _entries(path))) > 1


def is_hand_in(path: Path) -> bool:
    """Return whether a path is a zip, or a folder with the contents of a hand-in."""
    if path.is_file():
        return _is_zip(path)
    return path.is_dir() and _has_homework(path, _DEPTH)


def find_hand_ins(paths: Sequence[Path], out: Path | None = None) -> Roster:
    """Return the hand-ins at some paths, each of them a hand-in, a folder of hand-ins or an export.

    Args:
        paths: Where to look.
        out: The output folder; it is skipped if it is inside one of the paths.

    Raises:
        UserError: If a path does not exist, no hand-in is found, or metadata cannot be used.
    """
    found = _Found()
    for path in paths:
        if not path.exists():
            raise UserError(f"{path}: no such folder or zip file")
        if path.is_file() or (not is_course(path) and is_hand_in(path)):
            found.hand_ins.append(CourseHandIn(path, printable(path.resolve().name)))
        elif (path / METADATA).is_file():
            _add_export(path, found)
        else:
            _add_folder(path, found)
    if out is not None:
        own = out.resolve()
        found.hand_ins = [one for one in found.hand_ins if one.path.resolve() != own]
    if not found.hand_ins:
        raise UserError(f"{', '.join(map(str, paths))}: no hand-ins, neither zips nor folders")
    found.hand_ins.sort(key=lambda one: (one.title.casefold(), one.name))
    return Roster(tuple(_with_keys(found.hand_ins)), tuple(found.problems))


def _add_folder(path: Path, found: _Found) -> None:
    for entry in _entries(path):
        if entry.is_dir() or _is_zip(entry):
            found.hand_ins.append(CourseHandIn(_inner(entry), printable(entry.name)))
        else:
            found.problems.append(f"{printable(entry.name)}: neither a zip nor a folder; left out")


def _add_export(path: Path, found: _Found) -> None:
    submissions = read_metadata(path / METADATA)
    for name, submission in submissions.items():
        folder = path / name
        if folder.parent == path and name != ".." and folder.is_dir():
            found.hand_ins.append(replace(submission, path=_inner(folder)))
        else:
            found.problems.append(
                f"{printable(submission.title)}: {METADATA} names {printable(name)}, "
                "but there is no such folder"
            )
    for entry in _entries(path):
        if entry.name not in submissions and entry.name != METADATA and entry.is_dir():
            found.hand_ins.append(CourseHandIn(_inner(entry), printable(entry.name)))
            found.problems.append(f"{printable(entry.name)}: {METADATA} does not say whose it is")


def _inner(path: Path) -> Path:
    """Return the given path, or the zip in that folder if it is all that was handed in."""
    if not path.is_dir() or is_hand_in(path):
        return path
    zips = [entry for entry in _entries(path) if entry.is_file() and _is_zip(entry)]
    return zips[0] if len(zips) == 1 else path


def _entries(path: Path) -> list[Path]:
    try:
        entries = sorted(path.iterdir())
    except OSError as error:
        raise UserError(f"cannot list the folder {path}: {error.strerror}") from error
    return [
        entry
        for entry in entries
        if not entry.is_symlink()
        and not entry.name.startswith(".")
        and not is_junk(PurePosixPath(entry.name))
    ]


def _is_zip(path: Path) -> bool:
    # A broken file called .zip counts: it is a hand-in that cannot be opened.
    return path.suffix.lower() == ".zip" or zipfile.is_zipfile(path)


def _has_homework(folder: Path, depth: int) -> bool:
    try:
        with os.scandir(folder) as scan:
            entries = [entry for entry in scan if not entry.is_symlink()]
    except OSError:
        return False
    folders = [entry for entry in entries if entry.is_dir()]
    files = [entry.name for entry in entries if not entry.is_dir()]
    if any(name in AGENT_FILES or is_event_file(name) for name in files):
        return True
    if any(entry.name in _FOLDERS for entry in folders):
        return True
    # A single folder may enclose one hand-in; several folders or zips are several hand-ins.
    inner = [entry for entry in folders if not is_junk(PurePosixPath(entry.name))]
    zips = [name for name in files if name.lower().endswith(".zip")]
    return (
        depth > 0 and len(inner) == 1 and not zips and _has_homework(Path(inner[0].path), depth - 1)
    )


def _with_keys(hand_ins: Sequence[CourseHandIn]) -> Iterator[CourseHandIn]:
    slugs = [re.sub(r"[^A-Za-z0-9._-]+", "_", one.name).strip("._") for one in hand_ins]
    slugs = [slug[:_LONGEST_KEY] or "hand-in" for slug in slugs]
    # Some file systems do not distinguish capital letters.
    counts = Counter(slug.lower() for slug in slugs)
    for hand_in, slug in zip(hand_ins, slugs, strict=True):
        if counts[slug.lower()] > 1:
            place = os.fsencode(hand_in.path.absolute())
            slug += f"-{hashlib.sha256(place).hexdigest()[:8]}"  # noqa: PLW2901 - only here
        yield replace(hand_in, key=slug)


def read_metadata(path: Path) -> dict[str, CourseHandIn]:
    """Return the hand-ins that an export's metadata describes, by folder name.

    Only the structure of the YAML is read; its tags, which name Ruby classes, are ignored. Keys
    begin with a colon, such as `:submitters:`.

    Raises:
        UserError: If the file cannot be read or is not such metadata.
    """
    try:
        if path.stat().st_size > MAX_METADATA:
            raise UserError(f"{path} is too large to be the metadata of an export")
        root = compose_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (InvalidYamlError, ValueError) as error:
        line = f" ({error})" if isinstance(error, InvalidYamlError) and str(error) else ""
        raise UserError(f"{path} is not YAML{line}; export the submissions again") from error
    submissions = _mapping(root)
    if not submissions:
        raise UserError(f"{path} names no submissions; export them again")
    return {name: _submission(path, name, node) for name, node in submissions.items()}


def _submission(path: Path, name: str, node: yaml.Node) -> CourseHandIn:
    fields = _mapping(node)
    submitters = fields.get("submitters")
    nodes = submitters.value if isinstance(submitters, yaml.SequenceNode) else []
    people = [_mapping(one) for one in nodes]
    students = tuple(
        Student(_text(one, "name"), _text(one, "sid"), _text(one, "email")) for one in people
    )
    try:
        score = float(_text(fields, "score"))
    except ValueError:
        score = None
    return CourseHandIn(
        path.parent / name,
        printable(name),
        students=students or (Student(),),
        handed_in=_time(_text(fields, "created_at")),
        earlier_score=score,
    )


def _mapping(node: yaml.Node | None) -> dict[str, yaml.Node]:
    """Return a mapping's values by key, without the colons; empty for any other node."""
    if not isinstance(node, yaml.MappingNode):
        return {}
    return {
        key.value.strip(":"): value for key, value in node.value if isinstance(key, yaml.ScalarNode)
    }


def _text(fields: Mapping[str, yaml.Node], key: str) -> str:
    node = fields.get(key)
    if not isinstance(node, yaml.ScalarNode) or node.tag == "tag:yaml.org,2002:null":
        return ""
    return printable(node.value)


def _time(text: str) -> str:
    """Return a time such as `2026-11-30 08:13:04.123456789 -08:00` in UTC, to the minute."""
    found = _TIME.fullmatch(text)
    if not found:
        return text
    zone = "+00:00" if found[3] in {None, "Z", "UTC"} else found[3]
    try:
        when = datetime.fromisoformat(f"{found[1]}T{found[2]}{zone}")
    except ValueError:
        return text
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M}"
