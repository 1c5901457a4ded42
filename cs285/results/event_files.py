"""Reads TensorBoard event files, which may be empty, cut off, damaged or written by anyone.

Valid records are kept; the rest is reported. A reader of logs must never fail because of one file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cs285.results.statistics import final_error, final_return
from cs285.results.tfrecords import RECORD_OVERHEAD, DamagedRecordError, Record, read_records

MAX_POINTS = 5_000
"""Points kept of one tag: beyond that, every second one is dropped. No evaluation curve has that
many."""
MAX_FILE_BYTES = 500_000_000
"""A larger file is not a log of this homework."""
MAX_PICTURE_BYTES = 5_000_000


class DamagedFileError(Exception):
    """An event file that cannot be read to its end; the message says up to where."""


class StoredEvent(NamedTuple):
    """One event of a file."""

    record: Record
    """Its bytes."""
    event: Any
    """The `Event` message of TensorBoard."""
    begin: int
    """Bytes of the file before it."""


def decode_events(path: Path, *, verify: bool = True) -> Iterator[StoredEvent]:
    """Yield the events of a file, in bounded memory.

    Args:
        path: The event file.
        verify: Compare the checksums of the data. This takes time; without it, a caller can check
            the records that matter to it by `Record.is_valid`.

    Raises:
        DamagedFileError: Where the file is cut off or altered.
        OSError: If the file cannot be read.
    """
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # has no stubs
    from tensorboard.compat.proto.event_pb2 import Event  # type: ignore[import-untyped]  # likewise

    consumed = 0
    size = path.stat().st_size
    try:
        for record in read_records(path):
            if verify and not record.is_valid:
                raise DamagedRecordError  # noqa: TRY301 - handled like damage that the reader finds
            yield StoredEvent(record, Event.FromString(record.data), consumed)
            consumed += len(record.data) + RECORD_OVERHEAD
    except (DamagedRecordError, DecodeError, MemoryError, OverflowError) as error:
        raise DamagedFileError(f"after {consumed:,} of {size:,} bytes") from error


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


@dataclass(frozen=True)
class EventLog:
    """What the event files of one run hold."""

    curves: dict[str, Curve] = field(default_factory=dict)
    pictures: dict[str, bytes] = field(default_factory=dict)
    """The last picture of each tag, encoded."""
    problems: list[str] = field(default_factory=list)
    """A phrase for everything that was left out."""


def read_events(
    files: Sequence[Path], scalar_tags: Collection[str], picture_tags: Collection[str] = ()
) -> EventLog:
    """Read the wanted tags of the event files of one run, oldest first, in bounded memory.

    Where two values have the same tag and step, as after a restart, the later one counts.
    """
    values: dict[str, dict[int, float]] = {}
    not_finite: Counter[str] = Counter()
    log = EventLog()
    if not files:
        log.problems.append("it has no event file")
    for path in files:
        for step, entry in _entries(path, log.problems):
            kind = entry.WhichOneof("value")
            if kind == "simple_value" and entry.tag in scalar_tags:
                if np.isfinite(entry.simple_value):
                    _insert(values.setdefault(entry.tag, {}), step, entry.simple_value)
                else:
                    not_finite[entry.tag] += 1
            elif kind == "image" and entry.tag in picture_tags:
                picture = entry.image.encoded_image_string
                if len(picture) <= MAX_PICTURE_BYTES:
                    log.pictures[entry.tag] = picture
    for tag, points in values.items():
        steps, numbers = zip(*sorted(points.items()), strict=True)
        log.curves[tag] = Curve(np.array(steps, dtype=np.int64), np.array(numbers))
    log.problems.extend(
        f"{count:,} value{'s' * (count > 1)} of {tag} not finite"
        for tag, count in sorted(not_finite.items())
    )
    return log


def _entries(path: Path, problems: list[str]) -> Iterator[tuple[int, Any]]:
    """Yield the step and the summary value of everything that can be read from a file."""
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            problems.append(f"{path.name} is larger than {MAX_FILE_BYTES:,} bytes")
            return
        if size == 0:
            problems.append(f"{path.name} is empty")
        for _, event, _ in decode_events(path):
            for entry in event.summary.value:
                yield event.step, entry
    except OSError as error:
        problems.append(f"{path.name} cannot be read: {error.strerror or type(error).__name__}")
    except DamagedFileError as error:
        problems.append(f"{path.name} is cut off or damaged {error}")


def _insert(points: dict[int, float], step: int, value: float) -> None:
    points[step] = value
    if len(points) > MAX_POINTS:
        kept = dict(sorted(points.items())[::-2])
        points.clear()
        points.update(kept)
