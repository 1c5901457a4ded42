"""The records of event files: a length, its checksum, the data, and their checksum.

TensorBoard's own reader allocates as much memory as a record claims to need, and stops silently at
a damaged record.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from cs285.results.checksums import masked_crc32c, masked_crc32c_of

MAX_RECORD_BYTES = 10_000_000
"""No record of this homework is larger; the largest ones hold a picture."""
RECORD_OVERHEAD = 16
"""Bytes of a record in addition to its data."""
BLOCK_BYTES = 4_000_000
"""Bytes read at a time."""
_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")


class DamagedRecordError(Exception):
    """A record is cut off, altered or too long."""


class CutRecordError(DamagedRecordError):
    """The file ends within a record, or zeros follow its last one, as after a loss of power."""


class Record(NamedTuple):
    """The bytes of one record."""

    header: bytes
    data: bytes
    footer: bytes

    @property
    def is_valid(self) -> bool:
        """Whether the data match their checksum."""
        return self.footer == _FOOTER.pack(masked_crc32c(self.data))

    @property
    def packed(self) -> bytes:
        """The whole record."""
        return self.header + self.data + self.footer


@dataclass(frozen=True, eq=False)
class RecordBlock:
    """Consecutive records of a file."""

    content: bytes
    """The bytes of the file that contain the records."""
    starts: npt.NDArray[np.int64]
    """Where the data of each record begin in `content`, shape (N,)."""
    lengths: npt.NDArray[np.int64]
    """Bytes of the data of each record, shape (N,)."""
    before: int
    """Offset of `content` in the file, in bytes."""

    def __len__(self) -> int:
        return len(self.starts)

    @cached_property
    def as_bytes(self) -> npt.NDArray[np.uint8]:
        """The content as an array."""
        return np.frombuffer(self.content, np.uint8)

    @property
    def begins(self) -> npt.NDArray[np.int64]:
        """Offset of each record in the file, in bytes, shape (N,)."""
        return self.starts + (self.before - _HEADER.size)

    def data(self, index: int) -> bytes:
        """Return the data of one record."""
        start = int(self.starts[index])
        return self.content[start : start + int(self.lengths[index])]

    def record(self, index: int) -> Record:
        """Return the bytes of one record."""
        start = int(self.starts[index])
        end = start + int(self.lengths[index])
        return Record(
            self.content[start - _HEADER.size : start],
            self.content[start:end],
            self.content[end : end + _FOOTER.size],
        )

    def valid_records(self) -> int:
        """Return the number of records before the first whose data do not match their checksum."""
        ends = (self.starts + self.lengths)[:, None] + np.arange(_FOOTER.size)
        stored = self.as_bytes[ends].view("<u4").ravel()
        computed = masked_crc32c_of(self.content, self.starts, self.lengths)
        wrong = np.flatnonzero(stored != computed)
        return int(wrong[0]) if len(wrong) else len(self)


def read_blocks(path: Path) -> Iterator[RecordBlock]:
    """Yield the records of a file in blocks, in bounded memory, without checking their data.

    Raises:
        DamagedRecordError: At a record that is cut off, too long or has an invalid length, after
            the block of those before it. It is a `CutRecordError` if nothing follows.
        OSError: If the file cannot be read.
    """
    # Most records have one of a few lengths.
    check_of = lru_cache(1_000)(lambda length: masked_crc32c(struct.pack("<Q", length)))
    rest = b""
    before = 0
    with path.open("rb") as file:
        while chunk := file.read(BLOCK_BYTES):
            content = rest + chunk
            starts, lengths = [], []
            at, size = 0, len(content)
            is_damaged = False
            while size - at >= _HEADER.size:
                length, checksum = _HEADER.unpack_from(content, at)
                if length > MAX_RECORD_BYTES or check_of(length) != checksum:
                    is_damaged = True
                    break
                end = at + RECORD_OVERHEAD + length
                if end > size:
                    break
                starts.append(at + _HEADER.size)
                lengths.append(length)
                at = end
            if starts:
                yield RecordBlock(
                    content,
                    np.array(starts, dtype=np.int64),
                    np.array(lengths, dtype=np.int64),
                    before,
                )
            if is_damaged:
                is_zero = not any(content[at:]) and _is_zero_to_the_end(file)
                raise CutRecordError if is_zero else DamagedRecordError
            before += at
            rest = content[at:]
    if rest:
        raise CutRecordError


def _is_zero_to_the_end(file: BinaryIO) -> bool:
    while chunk := file.read(BLOCK_BYTES):
        if any(chunk):
            return False
    return True


def pack_record(data: bytes) -> bytes:
    """Return the record that contains these data."""
    length = struct.pack("<Q", len(data))
    checksums = (_FOOTER.pack(masked_crc32c(part)) for part in (length, data))
    return length + next(checksums) + data + next(checksums)
