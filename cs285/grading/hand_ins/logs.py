"""Reads the logs of a hand-in, with what shows whether they are complete and come from one run.

The report only needs the curves; a grader also needs the times, the order and the damage.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cs285.results.event_blocks import DamagedFileError, EventBlock, read_event_blocks
from cs285.results.event_files import NO_EVENTS, Curve, why_not_a_log
from cs285.results.run_folders import EVENT_FILE_TIME

MAX_TAGS = 200
MAX_SETBACKS = 100
MAX_STEP = 10**9
SETBACK = 120.0
"""Seconds by which a clock must jump back to be noticed; threads log slightly out of order."""
_FINGERPRINTED = 1_000
"""Events that go into a fingerprint."""
_TIME_DIGITS = 10
"""Digits of the time in the name that TensorBoard gives a file."""


@dataclass(frozen=True, eq=False)
class RunLog:
    """What the event files of one run hold."""

    series: Mapping[str, Curve] = field(default_factory=dict)
    pictures: Mapping[str, int] = field(default_factory=dict)
    """The last step of the pictures of each tag."""
    begins: float = 0.0
    """Time of the first event, in seconds since 1970."""
    ends: float = 0.0
    """Time of the last event."""
    setbacks: tuple[float, ...] = ()
    """Seconds by which the clock jumps back within a file, each time."""
    named_times: tuple[tuple[int, float], ...] = ()
    """The time in each file's name, and the time of its first event."""
    fingerprint: bytes = b""
    """Equal for copies of one log, and practically never for two logs."""
    damage: tuple[str, ...] = ()
    """What could not be read, and why."""

    @property
    def tags(self) -> frozenset[str]:
        """All tags that hold anything."""
        return frozenset(self.series) | frozenset(self.pictures)

    @property
    def last_step(self) -> int:
        """The last step of any tag; 0 without tags."""
        steps = [int(series.steps[-1]) for series in self.series.values()]
        return max((*steps, *self.pictures.values()), default=0)


def read_log(files: Sequence[Path]) -> RunLog:
    """Read the event files of one run, oldest first; of two values at one step the later counts."""
    reader = _Reader()
    for path in files:
        reader.read(path)
    return reader.log()


class _Reader:
    def __init__(self) -> None:
        self.steps: dict[str, list[npt.NDArray[np.int64]]] = {}
        self.values: dict[str, list[npt.NDArray[np.float64]]] = {}
        self.pictures: dict[str, int] = {}
        self.begins, self.ends = math.inf, -math.inf
        self.setbacks: list[float] = []
        self.named_times: list[tuple[int, float]] = []
        self.hash = hashlib.blake2b(digest_size=16)
        self.hashed = 0
        self.damage: list[str] = []

    def read(self, path: Path) -> None:
        try:
            reason = why_not_a_log(path)
            if reason is None:
                has_summaries = self._read_blocks(path)
                reason = None if has_summaries else NO_EVENTS
            if reason:
                self.damage.append(f"an event file {reason}")
        except OSError as error:
            self.damage.append(f"an event file cannot be read: {error.strerror or error}")
        except DamagedFileError as error:
            self.damage.append(f"cut off or altered {error}")

    def _read_blocks(self, path: Path) -> bool:
        """Read a file; return whether it holds anything."""
        has_summaries = False
        previous = -math.inf
        named = EVENT_FILE_TIME.search(path.name)
        for block in read_event_blocks(path):
            # No writer writes such times and steps.
            absurd = ~np.isfinite(block.wall_times) | (block.steps < 0) | (block.steps > MAX_STEP)
            count = int(absurd.argmax()) if absurd.any() else len(block)
            if count:
                if block.begins[0] == 0 and named and len(named[1]) == _TIME_DIGITS:
                    self.named_times.append((int(named[1]), float(block.wall_times[0])))
                previous = self._follow_clock(block.wall_times[:count], previous)
                self._take(block, count)
                has_summaries |= block.has_summaries
            if count < len(block):
                size = path.stat().st_size
                raise DamagedFileError(f"after {block.begins[count]:,} of {size:,} bytes")
        return has_summaries

    def _follow_clock(self, times: npt.NDArray[np.float64], previous: float) -> float:
        if not math.isfinite(self.begins):
            self.begins = float(times[0])
        self.ends = max(self.ends, float(times.max()))
        back = np.concatenate([[previous], times[:-1]]) - times
        self.setbacks += back[back > SETBACK].tolist()
        del self.setbacks[MAX_SETBACKS:]
        return float(times[-1])

    def _take(self, block: EventBlock, count: int) -> None:
        new = min(count, _FINGERPRINTED - self.hashed)
        self.hashed += new
        self.hash.update(block.wall_times[:new].astype("<f8").tobytes())
        self.hash.update(block.steps[:new].astype("<i8").tobytes())
        for tag, points in block.scalars.items():
            is_full = len(self.values) + len(self.pictures) >= MAX_TAGS
            kept = np.isfinite(points.values) & (points.events < count)
            if kept.any() and (tag in self.values or not is_full):
                self.steps.setdefault(tag, []).append(block.steps[points.events[kept]])
                self.values.setdefault(tag, []).append(points.values[kept])
        for picture in block.pictures:
            is_full = len(self.values) + len(self.pictures) >= MAX_TAGS
            if picture.event < count and (picture.tag in self.pictures or not is_full):
                step = int(block.steps[picture.event])
                self.pictures[picture.tag] = max(step, self.pictures.get(picture.tag, 0))

    def log(self) -> RunLog:
        series = {}
        for tag, parts in self.values.items():
            # Reversed: `unique` keeps the first of equal steps, and the later value should stay.
            steps, chosen = np.unique(np.concatenate(self.steps[tag])[::-1], return_index=True)
            series[tag] = Curve(steps, np.concatenate(parts)[::-1][chosen])
        return RunLog(
            series,
            self.pictures,
            float(self.begins),
            float(self.ends),
            tuple(self.setbacks),
            tuple(self.named_times),
            self.hash.digest(),
            tuple(self.damage),
        )
