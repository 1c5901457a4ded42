"""Reads the logs of a hand-in, with what shows whether they are complete and come from one run.

The report only needs the curves; a grader also needs the times, the order and the damage.
"""

from __future__ import annotations

import hashlib
import math
import struct
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cs285.results.event_files import Curve, DamagedFileError, decode_events
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
    pictures: frozenset[str] = frozenset()
    """Tags of pictures."""
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
        return frozenset(self.series) | self.pictures

    @property
    def last_step(self) -> int:
        """The last step of any tag; 0 without tags."""
        return max((int(series.steps[-1]) for series in self.series.values()), default=0)


def read_log(files: Sequence[Path]) -> RunLog:
    """Read the event files of one run, oldest first; of two values at one step the later counts."""
    reader = _Reader()
    for path in files:
        reader.read(path)
    return reader.log()


class _Reader:
    def __init__(self) -> None:
        self.steps: dict[str, array[int]] = {}
        self.values: dict[str, array[float]] = {}
        self.pictures: set[str] = set()
        self.begins, self.ends = math.inf, -math.inf
        self.setbacks: list[float] = []
        self.named_times: list[tuple[int, float]] = []
        self.hash = hashlib.blake2b(digest_size=16)
        self.hashed = 0
        self.damage: list[str] = []

    def read(self, path: Path) -> None:
        latest = previous = -math.inf
        try:
            size = path.stat().st_size
            for _, event, begin in decode_events(path):
                named = EVENT_FILE_TIME.search(path.name)
                if begin == 0 and named and len(named[1]) == _TIME_DIGITS:
                    self.named_times.append((int(named[1]), event.wall_time))
                if not (math.isfinite(event.wall_time) and 0 <= event.step <= MAX_STEP):
                    # No writer writes such a record.
                    raise DamagedFileError(f"after {begin:,} of {size:,} bytes")  # noqa: TRY301 - handled like other damage
                if previous - event.wall_time > SETBACK and len(self.setbacks) < MAX_SETBACKS:
                    self.setbacks.append(previous - event.wall_time)
                previous = event.wall_time
                latest = max(latest, event.wall_time)
                if not math.isfinite(self.begins):
                    self.begins = event.wall_time
                self._take(event)
            if not size:
                self.damage.append("an event file is empty")
        except OSError as error:
            self.damage.append(f"an event file cannot be read: {error.strerror or error}")
        except DamagedFileError as error:
            self.damage.append(f"cut off or altered {error}")
        self.ends = max(self.ends, latest)

    def _take(self, event: Any) -> None:
        if self.hashed < _FINGERPRINTED:
            self.hashed += 1
            self.hash.update(struct.pack("<dq", event.wall_time, event.step))
        for entry in event.summary.value:
            kind = entry.WhichOneof("value")
            if len(self.values) + len(self.pictures) >= MAX_TAGS and entry.tag not in self.values:
                continue
            if kind == "simple_value" and math.isfinite(entry.simple_value):
                self.steps.setdefault(entry.tag, array("q")).append(event.step)
                self.values.setdefault(entry.tag, array("d")).append(entry.simple_value)
            elif kind == "image":
                self.pictures.add(entry.tag)

    def log(self) -> RunLog:
        series = {}
        for tag, values in self.values.items():
            # Reversed: `unique` keeps the first of equal steps, and the later value should stay.
            steps, chosen = np.unique(np.array(self.steps[tag])[::-1], return_index=True)
            series[tag] = Curve(steps, np.array(values)[::-1][chosen])
        return RunLog(
            series,
            frozenset(self.pictures),
            float(self.begins),
            float(self.ends),
            tuple(self.setbacks),
            tuple(self.named_times),
            self.hash.digest(),
            tuple(self.damage),
        )
