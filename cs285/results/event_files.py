"""Reads TensorBoard event files, which may be empty, cut off, damaged or written by other programs.

Valid records are kept; the rest is reported. One bad file must never stop the reading of logs.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cs285.results.event_blocks import (
    CutFileError,
    DamagedFileError,
    EventBlock,
    read_event_blocks,
)
from cs285.results.statistics import counted_evaluations, final_error, final_return

MAX_POINTS = 5_000
"""Points kept per tag, spread evenly over all of its points. No evaluation curve has that many."""
MAX_FILE_BYTES = 500_000_000
"""A larger file is not a log of this homework."""
MAX_PICTURE_BYTES = 5_000_000
MAX_EXTENTS = 1_000
"""Most tags whose last steps are kept; no log of this homework has that many tags."""

GIT_LFS_POINTER = "is a Git LFS pointer, not the log: `git lfs pull` fetches the log"
PACKED = "is packed, so it cannot be read: unpack it"
NO_EVENTS = "contains no events: the run was stopped before its first log"
EMPTY = "is empty"
_POINTER_BEGINS = (
    b"version https://git-lfs.github.com/spec/",
    b"version https://hawser.github.com/spec/",
)
_MAX_POINTER_BYTES = 1_024
_PACKED_BEGINS = (b"\x1f\x8b", b"PK\x03\x04", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf")
"""First bytes of the files that gzip, zip, bzip2, xz and 7-Zip write."""
PAUSE_S = 1_800
"""A gap this long between events, in seconds, is a pause, such as of a laptop that slept."""


def why_not_a_log(path: Path) -> str | None:
    """Return why a file cannot contain events, or None: it is empty, packed or a Git LFS pointer.

    Raises:
        OSError: If the file cannot be read.
    """
    size = path.stat().st_size
    if size == 0:
        return EMPTY
    with path.open("rb") as file:
        begins = file.read(_MAX_POINTER_BYTES)
    if begins.startswith(_PACKED_BEGINS):
        return PACKED
    if size <= _MAX_POINTER_BYTES and begins.startswith(_POINTER_BEGINS):
        return GIT_LFS_POINTER
    return None


def separate_runs(files: Sequence[Path]) -> list[list[Path]]:
    """Group the event files of a folder by the runs that wrote them, oldest first.

    A file that continues a run begins after the run's first step; one that begins at that step
    again belongs to another run. Copies of a file within the folder are left out.
    """
    runs: list[list[Path]] = []
    begun: set[tuple[str, int]] = set()
    seen: set[bytes] = set()
    for path in files:
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").digest()
            first = _first_points(path)
        except OSError:
            first, digest = set(), b""
        if first and digest in seen:
            continue
        seen.add(digest)
        if not runs or first & begun:
            runs.append([])
            begun = set()
        runs[-1].append(path)
        begun |= first
    return runs


def _first_points(path: Path) -> set[tuple[str, int]]:
    """Return the tags logged at a file's first step, each with that step."""
    try:
        block = next(read_event_blocks(path), None)
    except DamagedFileError:
        return set()
    if block is None or not block.scalars:
        return set()
    steps = {tag: int(block.steps[points.events[0]]) for tag, points in block.scalars.items()}
    return {(tag, step) for tag, step in steps.items() if step == min(steps.values())}


@dataclass(frozen=True, eq=False)
class Curve:
    """The finite values (N,) of one tag at their steps (N,), which increase."""

    steps: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]

    @property
    def last(self) -> float:
        """The last value."""
        return float(self.values[-1])


def final_return_of(curves: Mapping[str, Curve]) -> float | None:
    """Return the final return of the run with these curves; None if it was never evaluated."""
    returns = curves.get("eval_return")
    if returns is None:
        return None
    return final_return(returns.values, _episodes_of(curves))


def final_error_of(curves: Mapping[str, Curve]) -> float | None:
    """Return the standard error of `final_return_of`; None if the curves do not show it."""
    returns, spreads = curves.get("eval_return"), curves.get("eval/return_std")
    if returns is None or spreads is None or not np.array_equal(spreads.steps, returns.steps):
        return None
    return final_error(spreads.values, _episodes_of(curves))


def final_episodes_of(curves: Mapping[str, Curve]) -> int | None:
    """Return how many episodes `final_return_of` averages over; None if it was not logged."""
    if "eval_return" not in curves or (episodes := _episodes_of(curves)) is None:
        return None
    return int(episodes[counted_evaluations(episodes)].sum())


def _episodes_of(curves: Mapping[str, Curve]) -> npt.NDArray[np.float64] | None:
    """Return the number of episodes of every evaluation, if it was logged."""
    returns, episodes = curves["eval_return"], curves.get("eval/episodes")
    if (
        episodes is None  # public versions of the homework do not log it
        or not np.array_equal(episodes.steps, returns.steps)
        or episodes.values.min() < 1
    ):
        return None
    return episodes.values


class Extent(NamedTuple):
    """Where the values of one tag end, including values that are not finite."""

    last: int
    """The last step."""
    gap: int
    """Steps between the last two; 0 if there is only one."""

    def joined(self, steps: npt.NDArray[np.int64]) -> Extent:
        """Return the extent of these steps, shape (N,), together with the known ones."""
        distinct = np.unique(np.append(steps, [self.last - self.gap, self.last]))
        return Extent(int(distinct[-1]), int(distinct[-1] - distinct[-2:][0]))


@dataclass(frozen=True)
class EventLog:
    """The contents of one run's event files."""

    curves: dict[str, Curve] = field(default_factory=dict)
    pictures: dict[str, bytes] = field(default_factory=dict)
    """The last picture of each tag, encoded."""
    problems: list[str] = field(default_factory=list)
    """A phrase for everything that was left out."""
    last_step: int = 0
    """The last step of any scalar or picture, requested or not."""
    begins: float | None = None
    """Time of the first event, in seconds since 1970; None without events."""
    ends: float | None = None
    """Time of the last event."""
    took_s: float = 0.0
    """Seconds from the first event to the last, without pauses of half an hour or more."""
    picture_steps: dict[str, int] = field(default_factory=dict)
    """The step of the last picture of each tag."""
    extents: dict[str, Extent] = field(default_factory=dict)
    """Where each scalar ends, requested or not."""
    stubs: int = 0
    """Number of files without events."""


def read_events(
    files: Sequence[Path], scalar_tags: Collection[str], picture_tags: Collection[str] = ()
) -> EventLog:
    """Read the given tags from the event files of one run, oldest first, in bounded memory.

    If two values have the same tag and step, as after a restart, the later one counts.
    """
    reader = _Reader(scalar_tags, picture_tags)
    if not files:
        reader.problems.append("it has no event file")
    for path in files:
        reader.read(path)
    return reader.log()


class _Reader:
    def __init__(self, scalar_tags: Collection[str], picture_tags: Collection[str]) -> None:
        self.scalar_tags, self.picture_tags = scalar_tags, picture_tags
        self.curves: dict[str, _GrowingCurve] = {}
        self.not_finite: Counter[str] = Counter()
        self.pictures: dict[str, bytes] = {}
        self.picture_steps: dict[str, int] = {}
        self.problems: list[str] = []
        self.stubs = 0
        self.last_step = 0
        self.times: list[float] = []
        self.seconds: list[npt.NDArray[np.float64]] = []
        self.extents: dict[str, Extent] = {}

    def read(self, path: Path) -> None:
        try:
            if path.stat().st_size > MAX_FILE_BYTES:
                self.problems.append(f"{path.name} is larger than {MAX_FILE_BYTES:,} bytes")
                return
            reason = why_not_a_log(path)
            if reason is None:
                has_summaries = False
                for block in read_event_blocks(path):
                    self._take(block)
                    has_summaries |= block.has_summaries
                if not has_summaries:
                    reason = NO_EVENTS
                    self.stubs += 1
            if reason:
                self.problems.append(f"{path.name} {reason}")
        except OSError as error:
            reason = error.strerror or type(error).__name__
            self.problems.append(f"{path.name} cannot be read: {reason}")
        except CutFileError as error:
            self.problems.append(f"{path.name} is cut off {error}")
        except DamagedFileError as error:
            self.problems.append(f"{path.name} is damaged {error}")

    def _take(self, block: EventBlock) -> None:
        times = block.wall_times[np.isfinite(block.wall_times)]
        if len(times):
            self.times += [float(times[0]), float(times.max())]
            self.seconds.append(np.unique(np.floor(times)))
        for tag, points in block.scalars.items():
            steps = block.steps[points.events]
            self.last_step = max(self.last_step, int(steps.max()))
            if tag in self.extents or len(self.extents) < MAX_EXTENTS:
                known = self.extents.get(tag, Extent(int(steps[0]), 0))
                self.extents[tag] = known.joined(steps)
            if tag not in self.scalar_tags:
                continue
            finite = np.isfinite(points.values)
            if not finite.all():
                self.not_finite[tag] += int((~finite).sum())
            if finite.any():
                curve = self.curves.setdefault(tag, _GrowingCurve())
                curve.append(steps[finite], points.values[finite])
        for picture in block.pictures:
            step = int(block.steps[picture.event])
            self.last_step = max(self.last_step, step)
            if picture.tag in self.picture_tags and len(picture.encoded) <= MAX_PICTURE_BYTES:
                self.pictures[picture.tag] = picture.encoded
                self.picture_steps[picture.tag] = step

    def log(self) -> EventLog:
        problems = [
            f"{count:,} value{'s' * (count > 1)} of {tag} not finite"
            for tag, count in sorted(self.not_finite.items())
        ]
        return EventLog(
            {tag: curve.thinned() for tag, curve in self.curves.items()},
            self.pictures,
            self.problems + problems,
            self.last_step,
            self.times[0] if self.times else None,
            max(self.times, default=None),
            _without_pauses(self.seconds),
            self.picture_steps,
            self.extents,
            self.stubs,
        )


def _without_pauses(seconds: Sequence[npt.NDArray[np.float64]]) -> float:
    """Return the seconds between the first and the last time, minus the pauses."""
    if not seconds:
        return 0.0
    between = np.diff(np.unique(np.concatenate(seconds)))
    return float(between[between < PAUSE_S].sum())


class _GrowingCurve:
    """Collects points in bounded memory."""

    _LIMIT = 200
    """Points held at most, as a multiple of those kept in the end."""

    def __init__(self) -> None:
        self.parts: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]] = []
        self.count = 0

    def append(self, steps: npt.NDArray[np.int64], values: npt.NDArray[np.float64]) -> None:
        self.parts.append((steps, values))
        self.count += len(steps)
        if self.count > self._LIMIT * MAX_POINTS:
            curve = self._joined()
            self.parts = [(curve.steps[::-2][::-1], curve.values[::-2][::-1])]
            self.count = len(self.parts[0][0])

    def _joined(self) -> Curve:
        steps = np.concatenate([steps for steps, _ in self.parts])
        values = np.concatenate([values for _, values in self.parts])
        # Reversed: `unique` keeps the first of equal steps, and the later value should stay.
        distinct, chosen = np.unique(steps[::-1], return_index=True)
        return Curve(distinct, values[::-1][chosen])

    def thinned(self) -> Curve:
        """Return at most `MAX_POINTS` points, including the last one."""
        curve = self._joined()
        stride = -(-len(curve.steps) // MAX_POINTS)
        return Curve(curve.steps[::-stride][::-1], curve.values[::-stride][::-1])
