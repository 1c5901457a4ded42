"""The records of event files: TFRecords, each its length, a checksum of that, data and theirs.

TensorBoard's own reader allocates what a record claims to have, and ends without a word at one that
is damaged.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

MAX_RECORD_BYTES = 10_000_000
"""No record of this homework is larger: the largest hold a picture."""
RECORD_OVERHEAD = 16
"""Bytes of a record beside its data."""
_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")


class DamagedRecordError(Exception):
    """A record that is cut off, altered or over-long."""


class Record(NamedTuple):
    """One record as it lies in the file."""

    header: bytes
    data: bytes
    footer: bytes

    @property
    def is_sound(self) -> bool:
        """Whether the data are those that were written; takes time."""
        return self.footer == _FOOTER.pack(_masked_crc32c(self.data))

    @property
    def packed(self) -> bytes:
        """All its bytes."""
        return self.header + self.data + self.footer


def read_records(path: Path) -> Iterator[Record]:
    """Yield the records of a file, in memory that its author does not decide.

    Raises:
        DamagedRecordError: At a record that is cut off, claims too much or has no sound length.
            Its data are for the caller to check.
    """
    # Most records are of a few lengths.
    check_of = lru_cache(1_000)(_masked_crc32c)
    with path.open("rb") as file:
        while header := file.read(_HEADER.size):
            if len(header) < _HEADER.size:
                raise DamagedRecordError
            length, checksum = _HEADER.unpack(header)
            if check_of(header[:8]) != checksum or length > MAX_RECORD_BYTES:
                raise DamagedRecordError
            data, footer = file.read(length), file.read(_FOOTER.size)
            if len(footer) < _FOOTER.size:
                raise DamagedRecordError
            yield Record(header, data, footer)


def pack_record(data: bytes) -> bytes:
    """Return data as a record."""
    length = struct.pack("<Q", len(data))
    checksums = (_FOOTER.pack(_masked_crc32c(part)) for part in (length, data))
    return length + next(checksums) + data + next(checksums)


def _masked_crc32c(data: bytes) -> int:
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import (  # type: ignore[import-untyped]  # has no stubs
        masked_crc32c,
    )

    checksum: int = masked_crc32c(data)
    return checksum
