"""Reads TensorBoard event files that may be empty, cut off, damaged or somebody else's.

What is sound is kept and the rest is told: a reader of logs must never fail because of one of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cs285.results.run_folders import is_event_file
from cs285.results.statistics import final_return
from cs285.results.tfrecords import RECORD_OVERHEAD, DamagedRecordError, read_records

MAX_POINTS = 5_000
"""Points kept of one tag: beyond, every second one goes. No evaluation curve comes near."""
MAX_FILE_BYTES = 500_000_000
"""A larger file is no log of this homework."""
MAX_PICTURE_BYTES = 5_000_000


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
    """Return the final return of the run with these curves; None if nothing was evaluated."""
    returns, episodes = curves.get("eval_return"), curves.get("eval/episodes")
    if returns is None:
        return None
    if (
        episodes is None  # public versions of the homework do not log it
        or not np.array_equal(episodes.steps, returns.steps)
        or episodes.values.min() < 1
    ):
        return final_return(returns.values)
    return final_return(returns.values, episodes.values)


@dataclass(frozen=True)
class EventLog:
    """What the event files of one folder hold."""

    curves: dict[str, Curve] = field(default_factory=dict)
    pictures: dict[str, bytes] = field(default_factory=dict)
    """The last picture of each tag, encoded."""
    problems: list[str] = field(default_factory=list)
    """A phrase for everything that was left out."""


def read_events(
    folder: Path, scalar_tags: Collection[str], picture_tags: Collection[str] = ()
) -> EventLog:
    """Read the wanted tags of all event files of a folder, in bounded memory.

    Files count in the order of their names, which begin with their time; where two values have the
    same tag and step, as after a restart, the later one stays.
    """
    values: dict[str, dict[int, float]] = {}
    not_finite: Counter[str] = Counter()
    log = EventLog()
    files = sorted(path for path in folder.iterdir() if is_event_file(path.name))
    if not files:
        log.problems.append("there is no event file")
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
    """Yield the step and the summary value of everything readable in a file."""
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # has no stubs
    from tensorboard.compat.proto.event_pb2 import Event  # type: ignore[import-untyped]  # likewise

    consumed = size = 0
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            problems.append(f"{path.name} is larger than {MAX_FILE_BYTES:,} bytes")
            return
        for record in read_records(path):
            if not record.is_sound:
                raise DamagedRecordError  # noqa: TRY301 - as the reader does
            consumed += len(record.data) + RECORD_OVERHEAD
            event = Event.FromString(record.data)
            for entry in event.summary.value:
                yield event.step, entry
    except (OSError, DecodeError, MemoryError, OverflowError) as error:
        problems.append(f"{path.name} cannot be read on: {type(error).__name__}")
        return
    except DamagedRecordError:
        problems.append(f"{path.name} is cut off or damaged after {consumed:,} of {size:,} bytes")
    if size == 0:
        problems.append(f"{path.name} is empty")


def _insert(points: dict[int, float], step: int, value: float) -> None:
    points[step] = value
    if len(points) > MAX_POINTS:
        kept = dict(sorted(points.items())[::-2])
        points.clear()
        points.update(kept)
