"""Reads TensorBoard's event files in blocks, as columns of numbers.

Nearly every event of a log is a single scalar written by `SummaryWriter`. These are decoded many at
a time; all others go through TensorBoard's own decoder.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cs285.results.tfrecords import (
    RECORD_OVERHEAD,
    CutRecordError,
    DamagedRecordError,
    Record,
    RecordBlock,
    read_blocks,
)

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

_LONGEST = 127
"""In an event of up to this many bytes, each stored length takes one byte."""
_STEP_BYTES = 5
"""The most bytes of a step's varint that are decoded here."""
_MORE = 0x80
"""The bit of a varint's byte that says another byte of the number follows."""
_FEW = 8
"""With fewer events of equal length than this, arrays cost more than they save."""


class DamagedFileError(Exception):
    """An event file that cannot be read to its end; the message says up to where."""


class CutFileError(DamagedFileError):
    """An event file that is cut off at its end; everything before that is intact."""


class StoredEvent(NamedTuple):
    """One event of a file."""

    record: Record
    """Its bytes."""
    event: Any
    """The `Event` message of TensorBoard."""


class Points(NamedTuple):
    """The scalars of one tag in a block of events."""

    events: Indices
    """Index of each point's event, not decreasing, shape (N,)."""
    values: Floats
    """Shape (N,); may not be finite."""


class Picture(NamedTuple):
    """A picture in a block of events."""

    event: int
    tag: str
    encoded: bytes


@dataclass(frozen=True, eq=False)
class EventBlock:
    """Consecutive events of a file, as columns; their numbers are not checked."""

    wall_times: Floats
    """Seconds since 1970, shape (N,)."""
    steps: Indices
    """Shape (N,)."""
    begins: Indices
    """Offset of each event in the file, in bytes, shape (N,)."""
    scalars: Mapping[str, Points]
    pictures: Sequence[Picture]
    has_summaries: bool
    """Whether any event contains a summary value of any kind."""

    def __len__(self) -> int:
        return len(self.steps)


def decode_events(path: Path) -> Iterator[StoredEvent]:
    """Yield the events of a file with their bytes, in bounded memory.

    The checksums of the data are not checked here; `Record.is_valid` does that.

    Raises:
        DamagedFileError: Where the file is cut off or altered.
        OSError: If the file cannot be read.
    """
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # has no stubs

    event_type = _event_type()
    at = 0
    size = path.stat().st_size
    try:
        for block in read_blocks(path):
            for index, length in enumerate(block.lengths.tolist()):
                record = block.record(index)
                yield StoredEvent(record, event_type.FromString(record.data))
                at += RECORD_OVERHEAD + length
    except (DamagedRecordError, DecodeError, MemoryError, OverflowError) as error:
        raise _described(error, at, size) from error


def read_event_blocks(path: Path) -> Iterator[EventBlock]:
    """Yield the scalars and pictures of a file in blocks, in bounded memory.

    Raises:
        DamagedFileError: Where the file is cut off or altered; what comes before is yielded first.
        OSError: If the file cannot be read.
    """
    at = 0
    size = path.stat().st_size
    try:
        for records in read_blocks(path):
            block = _Decoder(records).block()
            if len(block):
                yield block
                at += int(records.lengths[: len(block)].sum()) + RECORD_OVERHEAD * len(block)
            if len(block) < len(records):
                raise DamagedRecordError  # noqa: TRY301 - handled like damage that the reader finds
    except (DamagedRecordError, MemoryError, OverflowError) as error:
        raise _described(error, at, size) from error


def _described(error: Exception, at: int, size: int) -> DamagedFileError:
    is_cut = isinstance(error, CutRecordError) and at > 0
    return (CutFileError if is_cut else DamagedFileError)(f"after {at:,} of {size:,} bytes")


def _event_type() -> Any:
    from tensorboard.compat.proto.event_pb2 import Event  # type: ignore[import-untyped]  # no stubs

    return Event


class _Decoder:
    """Decodes the records before the first that is altered or not an event."""

    def __init__(self, records: RecordBlock) -> None:
        self.records = records
        self.count = records.valid_records()
        self.wall_times = np.zeros(self.count)
        self.steps = np.zeros(self.count, dtype=np.int64)
        self.is_decoded = np.zeros(self.count, dtype=bool)
        self.parts: defaultdict[str, list[tuple[Indices, Floats]]] = defaultdict(list)
        self.pictures: list[Picture] = []
        self.has_summaries = False

    def block(self) -> EventBlock:
        """Decode all of these records."""
        lengths = self.records.lengths[: self.count]
        for length in np.unique(lengths[lengths <= _LONGEST]).tolist():
            rows = np.flatnonzero(lengths == length)
            if len(rows) >= _FEW:
                starts = self.records.starts[rows]
                columns = self.records.as_bytes[np.arange(length)[:, None] + starts]
                self._take_scalars(rows, columns)
        self.has_summaries |= bool(self.is_decoded.any())
        self._take_others()
        return EventBlock(
            self.wall_times[: self.count],
            self.steps[: self.count],
            self.records.begins[: self.count],
            {tag: points for tag in self.parts if len((points := self._points(tag)).events)},
            self.pictures,
            self.has_summaries,
        )

    def _points(self, tag: str) -> Points:
        parts = self.parts[tag]
        events = np.concatenate([events for events, _ in parts])
        order = np.argsort(events, kind="stable")
        order = order[events[order] < self.count]
        return Points(events[order], np.concatenate([values for _, values in parts])[order])

    def _take_scalars(self, rows: Indices, columns: Bytes) -> None:
        """Decode the events, among these (L, N), that are one scalar as `SummaryWriter` writes it.

        Its fields are 1, the time in 8 bytes; 2, the step as a varint, absent if it is 0; and 5, a
        summary of one value, with the fields 1, the tag, and 2, the number in 4 bytes.
        """
        length = len(columns)
        for width in range(_STEP_BYTES + 1):
            at = 10 + width if width else 9
            tag_length = length - at - 11
            if tag_length < 1:
                break
            # All bytes that are not part of a number or of the tag.
            skeleton = {
                0: 0x09,
                at: 0x2A,
                at + 1: length - at - 2,
                at + 2: 0x0A,
                at + 3: length - at - 4,
                at + 4: 0x0A,
                at + 5: tag_length,
                length - 5: 0x15,
            } | ({9: 0x10} if width else {})
            fits = np.logical_and.reduce(
                [columns[place] == byte for place, byte in skeleton.items()]
            )
            for place in range(10, at):
                fits &= (columns[place] >= _MORE) == (place < at - 1)
            chosen = np.flatnonzero(fits)
            if len(chosen):
                self._take_fields(rows[chosen], columns[:, chosen], at)

    def _take_fields(self, rows: Indices, columns: Bytes, summary: int) -> None:
        """Decode events (L, N) of one scalar each, whose summary begins at byte `summary`."""
        texts = _joined(columns[summary + 6 : -5], f"V{len(columns) - summary - 11}")
        times = _joined(columns[1:9], "<f8")
        values = _joined(columns[-4:], "<f4").astype(np.float64)
        steps = np.zeros(len(rows), dtype=np.int64)
        for place in range(10, summary):
            steps |= (columns[place].astype(np.int64) & ~_MORE) << (7 * (place - 10))
        tags, numbers = np.unique(texts, return_inverse=True)
        for number, text in enumerate(tags):
            try:
                tag = text.tobytes().decode()
            except UnicodeDecodeError:
                continue  # left to TensorBoard's decoder, which rejects it
            own = np.flatnonzero(numbers == number)
            self.wall_times[rows[own]], self.steps[rows[own]] = times[own], steps[own]
            self.is_decoded[rows[own]] = True
            self.parts[tag].append((rows[own], values[own]))

    def _take_others(self) -> None:
        from google.protobuf.message import DecodeError

        event_type = _event_type()
        found: defaultdict[str, tuple[list[int], list[float]]] = defaultdict(lambda: ([], []))
        for row in np.flatnonzero(~self.is_decoded).tolist():
            try:
                event = event_type.FromString(self.records.data(row))
            except DecodeError:
                self.count = row
                break
            self.wall_times[row], self.steps[row] = event.wall_time, event.step
            for entry in event.summary.value:
                self.has_summaries = True
                kind = entry.WhichOneof("value")
                if kind == "simple_value":
                    events, values = found[entry.tag]
                    events.append(row)
                    values.append(entry.simple_value)
                elif kind == "image":
                    self.pictures.append(Picture(row, entry.tag, entry.image.encoded_image_string))
        for tag, (events, values) in found.items():
            self.parts[tag].append((np.array(events), np.array(values, dtype=np.float64)))


def _joined(columns: Bytes, kind: str) -> npt.NDArray[Any]:
    """Return the numbers (N,) of type `kind` whose bytes are the columns (L, N)."""
    return np.ascontiguousarray(columns.T).view(kind).ravel()
