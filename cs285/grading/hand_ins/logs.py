"""Reads the logs of a hand-in, with what shows whether they are complete and come from one run.

The report only needs the curves; a grader also needs the times, the order and the damage.
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
"""Seconds by which a clock must jump back to be noticed; threads log slightly out of order."""
_FINGERPRINTED = 1_000
"""Events that go into a fingerprint."""
_MANY_STEPS = 1_000
_AT_ONCE = 1.0
"""Seconds within which no run takes and logs that many steps."""
_TIME_DIGITS = 10
"""Digits of the time in the name that TensorBoard gives a file."""


@dataclass(frozen=True, eq=False)
class RunLog:
    """What the event files of one run hold."""

    series: Mapping[str, Curve] = field(default_factory=dict)
    times: Mapping[str, Floats] = field(default_factory=dict)
    """When each point of a series was logged, in seconds since 1970."""
    pictures: Mapping[str, int] = field(default_factory=dict)
    """The last step of the pictures of each tag."""
    begins: float = 0.0
    """Time of the first event, in seconds since 1970."""
    ends: float = 0.0
    """The latest time of an event."""
    setbacks: tuple[float, ...] = ()
    """Seconds by which the clock jumps back within a file, each time. In a log that was written
    again, with one tag after the other, only jumps within a tag count."""
    named_times: tuple[tuple[int, float], ...] = ()
    """The time in each file's name, and the time of its first event."""
    times_and_steps: bytes = b""
    """A hash of the times and steps of the first events."""
    values: bytes = b""
    """A hash of the values of the first events."""
    damage: tuple[str, ...] = ()
    """What could not be read, and why."""
    stubs: tuple[str, ...] = ()
    """Why files hold no events."""
    cuts: tuple[str, ...] = ()
    """Where files end within an entry, as when a program is killed; all before that is whole."""

    @property
    def tags(self) -> frozenset[str]:
        """All tags that hold anything."""
        return frozenset(self.series) | frozenset(self.pictures)

    @property
    def is_stub(self) -> bool:
        """Whether its files are whole and hold nothing: the run was stopped at once."""
        return not self.tags and not self.damage and not self.cuts

    @property
    def was_written_at_once(self) -> bool:
        """Whether its times are those of a program that wrote the log again."""
        return self.last_step >= _MANY_STEPS and self.ends - self.begins < _AT_ONCE

    @property
    def fingerprint(self) -> bytes:
        """Equal for copies of one log, and practically never for two logs."""
        # Two logs that were written again may have the same steps at no time at all.
        return self.times_and_steps + (self.values if self.was_written_at_once else b"")

    @property
    def reached(self) -> int:
        """The steps that were taken as far as the log shows: its last entries and their interval.

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
    """Read the event files of one run, oldest first; of two values at one step the later counts."""
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
        """Read a file; return whether it holds anything."""
        has_summaries = False
        clock: list[Floats] = []
        clocks: defaultdict[str, list[Floats]] = defaultdict(list)
        named = EVENT_FILE_TIME.search(path.name)
        try:
            for block in read_event_blocks(path):
                # No writer writes such times and steps.
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
        """Look for jumps of the clock in a file."""
        joined = [own for parts in times_of_tags if len(own := np.concatenate(parts))]
        # A program that wrote the log again begins its file with its own time.
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
            # Reversed: `unique` keeps the first of equal steps, and the later value should stay.
            steps, chosen = np.unique(np.concatenate(self.steps[tag])[::-1], return_index=True)
            series[tag] = Curve(steps, np.concatenate(parts)[::-1][chosen])
            times[tag] = np.concatenate(self.times[tag])[::-1][chosen]
        # Beside a whole log, a file that was not fetched or unpacked does no harm.
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
