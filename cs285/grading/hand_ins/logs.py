"""Reads the logs of a hand-in, and signs of whether they are complete and come from one run.

The report needs only the curves; a grader also needs the times, the order and the damage.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cs285.results.event_blocks import (
    CutFileError,
    DamagedFileError,
    EventBlock,
    read_event_blocks,
)
from cs285.results.event_files import (
    GIT_LFS_POINTER,
    NO_EVENTS,
    PACKED,
    Curve,
    why_not_a_log,
)
from cs285.results.run_folders import EVENT_FILE_TIME

Floats = npt.NDArray[np.float64]

EPISODE_TAGS = frozenset({"train_return", "train_ep_len"})
"""Tags that are logged at the end of an episode."""
MAX_TAGS = 200
MAX_SETBACKS = 100
MAX_STEP = 10**9
MAX_TIME = 1e11
"""Seconds since 1970."""
SETBACK = 120.0
"""Seconds that a jump back of the clock must exceed to count; threads log slightly out of order."""
_FINGERPRINTED = 1_000
"""Number of events that go into a fingerprint."""
_MANY_STEPS = 1_000
_AT_ONCE = 1.0
"""Seconds; no run takes and logs that many steps in less."""
_TIME_DIGITS = 10
"""Number of digits of the time in a file name given by TensorBoard."""


@dataclass(frozen=True, eq=False)
class RunLog:
    """The contents of the event files of one run."""

    series: Mapping[str, Curve] = field(default_factory=dict)
    times: Mapping[str, Floats] = field(default_factory=dict)
    """The time of each point of a series, in seconds since 1970."""
    pictures: Mapping[str, int] = field(default_factory=dict)
    """The last step with a picture, for each tag."""
    begins: float = 0.0
    """The time of the first event, in seconds since 1970."""
    ends: float = 0.0
    """The latest time of an event, in seconds since 1970."""
    setbacks: tuple[float, ...] = ()
    """The length in seconds of every jump back of the clock within a file. In a log that was
    written again, one tag after the other, only jumps within a tag count."""
    named_times: tuple[tuple[int, float], ...] = ()
    """The time in each file's name, and the time of its first event."""
    times_and_steps: bytes = b""
    """A hash of the times and steps of the first events."""
    values: bytes = b""
    """A hash of the values of the first events."""
    damage: tuple[str, ...] = ()
    """What could not be read, and why."""
    stubs: tuple[str, ...] = ()
    """Why files contain no events."""
    cuts: tuple[str, ...] = ()
    """Where files end within an entry, as when a program is killed; all before that is intact."""

    @property
    def tags(self) -> frozenset[str]:
        """All tags with data."""
        return frozenset(self.series) | frozenset(self.pictures)

    @property
    def is_stub(self) -> bool:
        """Whether its files are intact but empty: the run was stopped at once."""
        return not self.tags and not self.damage and not self.cuts

    @property
    def was_written_at_once(self) -> bool:
        """Whether its times are those of a program that wrote the log again."""
        return self.last_step >= _MANY_STEPS and self.ends - self.begins < _AT_ONCE

    @property
    def fingerprint(self) -> bytes:
        """A hash that is equal for copies of one log, and practically never for different logs."""
        # The times in logs that were written again may be all the same, so values count too.
        return self.times_and_steps + (self.values if self.was_written_at_once else b"")

    @property
    def reached(self) -> int:
        """The number of steps taken, judging by the log's last entries and their interval.

        A loop of 1,000 steps that logs every 250 logs last at step 750.
        """
        last = self.last_step
        ends = [
            int(2 * series.steps[-1] - series.steps[-2])
            for tag, series in self.series.items()
            if len(series.steps) > 1 and tag not in EPISODE_TAGS
        ]
        return min((end for end in ends if end >= last), default=last)

    @property
    def last_step(self) -> int:
        """The last step of any tag; 0 without tags."""
        steps = [int(series.steps[-1]) for series in self.series.values()]
        return max((*steps, *self.pictures.values()), default=0)


def read_log(files: Sequence[Path]) -> RunLog:
    """Read the event files of one run, oldest first; the last value at a step counts."""
    reader = _Reader()
    for path in files:
        reader.read(path)
    return reader.log()


def _setbacks(times: Floats) -> list[float]:
    back = -np.diff(times)
    found: list[float] = back[back > SETBACK].tolist()
    return found


class _Reader:
    def __init__(self) -> None:
        self.steps: dict[str, list[npt.NDArray[np.int64]]] = {}
        self.values: dict[str, list[Floats]] = {}
        self.times: dict[str, list[Floats]] = {}
        self.pictures: dict[str, int] = {}
        self.begins, self.ends = math.inf, -math.inf
        self.setbacks: list[float] = []
        self.named_times: list[tuple[int, float]] = []
        self.hash = hashlib.blake2b(digest_size=16)
        self.hash_of_values = hashlib.blake2b(digest_size=16)
        self.hashed = 0
        self.damage: list[str] = []
        self.stubs: list[str] = []
        self.cuts: list[str] = []
        self.unfetched: list[str] = []

    def read(self, path: Path) -> None:
        try:
            reason = why_not_a_log(path)
            if reason is None:
                has_summaries = self._read_blocks(path)
                reason = None if has_summaries else NO_EVENTS
            if reason in {GIT_LFS_POINTER, PACKED}:
                self.unfetched.append(f"an event file {reason}")
            elif reason:
                self.stubs.append(f"an event file {reason}")
        except OSError as error:
            self.damage.append(f"an event file cannot be read: {error.strerror or error}")
        except CutFileError as error:
            self.cuts.append(f"cut off {error}")
        except DamagedFileError as error:
            self.damage.append(f"damaged {error}")

    def _read_blocks(self, path: Path) -> bool:
        """Read a file; return whether it contains any summaries."""
        has_summaries = False
        clock: list[Floats] = []
        clocks: defaultdict[str, list[Floats]] = defaultdict(list)
        named = EVENT_FILE_TIME.search(path.name)
        try:
            for block in read_event_blocks(path):
                # No program writes times and steps outside these ranges.
                possible = (block.wall_times >= 0) & (block.wall_times <= MAX_TIME)
                absurd = ~possible | (block.steps < 0) | (block.steps > MAX_STEP)
                count = int(absurd.argmax()) if absurd.any() else len(block)
                if count:
                    times = block.wall_times[:count]
                    if block.begins[0] == 0 and named and len(named[1]) == _TIME_DIGITS:
                        self.named_times.append((int(named[1]), float(times[0])))
                    clock.append(times)
                    for tag, points in block.scalars.items():
                        clocks[tag].append(times[points.events[points.events < count]])
                    self._take(block, count)
                    has_summaries |= block.has_summaries
                if count < len(block):
                    size = path.stat().st_size
                    raise DamagedFileError(f"after {block.begins[count]:,} of {size:,} bytes")
        finally:  # the times before the damage count as well
            if clock:
                self._compare_times(np.concatenate(clock), clocks.values())
        return has_summaries

    def _compare_times(self, times: Floats, times_of_tags: Iterable[Sequence[Floats]]) -> None:
        """Look for jumps back of the clock in a file."""
        joined = [own for parts in times_of_tags if len(own := np.concatenate(parts))]
        # If a program wrote the log again, the first event has the time of that.
        if not math.isfinite(self.begins):
            self.begins = float(times[:2].min())
        self.ends = max(self.ends, *(float(own.max()) for own in joined or [times]))
        worst = max((_setbacks(own) for own in joined), key=len, default=[])
        every = _setbacks(times)
        self.setbacks += worst if len(worst) < len(every) else every
        del self.setbacks[MAX_SETBACKS:]

    def _take(self, block: EventBlock, count: int) -> None:
        new = min(count, _FINGERPRINTED - self.hashed)
        self.hashed += new
        self.hash.update(block.wall_times[:new].astype("<f8").tobytes())
        self.hash.update(block.steps[:new].astype("<i8").tobytes())
        for tag, points in sorted(block.scalars.items()):
            first = points.values[points.events < new]
            if len(first):
                self.hash_of_values.update(tag.encode() + first.astype("<f8").tobytes())
            is_full = len(self.values) + len(self.pictures) >= MAX_TAGS
            kept = np.isfinite(points.values) & (points.events < count)
            if kept.any() and (tag in self.values or not is_full):
                self.steps.setdefault(tag, []).append(block.steps[points.events[kept]])
                self.values.setdefault(tag, []).append(points.values[kept])
                self.times.setdefault(tag, []).append(block.wall_times[points.events[kept]])
        for picture in block.pictures:
            is_full = len(self.values) + len(self.pictures) >= MAX_TAGS
            if picture.event < count and (picture.tag in self.pictures or not is_full):
                step = int(block.steps[picture.event])
                self.pictures[picture.tag] = max(step, self.pictures.get(picture.tag, 0))

    def log(self) -> RunLog:
        series, times = {}, {}
        for tag, parts in self.values.items():
            # Reversed because `unique` keeps the first of equal steps, and the last should stay.
            steps, chosen = np.unique(np.concatenate(self.steps[tag])[::-1], return_index=True)
            series[tag] = Curve(steps, np.concatenate(parts)[::-1][chosen])
            times[tag] = np.concatenate(self.times[tag])[::-1][chosen]
        # Next to a usable log, a file that was not fetched or unpacked does no harm.
        (self.stubs if series or self.pictures else self.damage).extend(self.unfetched)
        return RunLog(
            series,
            times,
            self.pictures,
            float(self.begins),
            float(self.ends),
            tuple(self.setbacks),
            tuple(self.named_times),
            self.hash.digest(),
            self.hash_of_values.digest(),
            tuple(self.damage),
            tuple(self.stubs),
            tuple(self.cuts),
        )
