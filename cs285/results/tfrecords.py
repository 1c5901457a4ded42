"""The records of event files: a length, its checksum, data, their checksum.

TensorBoard's own reader allocates as much memory as a record claims to need, and stops silently at
a damaged record.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

MAX_RECORD_BYTES = 10_000_000
"""No record of this homework is larger; the largest ones hold a picture."""
RECORD_OVERHEAD = 16
"""Bytes of a record in addition to its data."""
_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")


class DamagedRecordError(Exception):
    """A record is cut off, altered or too long."""


class Record(NamedTuple):
    """The bytes of one record."""

    header: bytes
    data: bytes
    footer: bytes

    @property
    def is_valid(self) -> bool:
        """Whether the data match their checksum; slow to compute."""
        return self.footer == _FOOTER.pack(_masked_crc32c(self.data))

    @property
    def packed(self) -> bytes:
        """The whole record."""
        return self.header + self.data + self.footer


def read_records(path: Path) -> Iterator[Record]:
    """Yield the records of a file, in bounded memory, without checking their data.

    Raises:
        DamagedRecordError: At a record that is cut off, too long or has an invalid length.
        OSError: If the file cannot be read.
    """
    # Most records have one of a few lengths.
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
    """Return the record that holds these data."""
    length = struct.pack("<Q", len(data))
    checksums = (_FOOTER.pack(_masked_crc32c(part)) for part in (length, data))
    return length + next(checksums) + data + next(checksums)


def _masked_crc32c(data: bytes) -> int:
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import (  # type: ignore[import-untyped]  # has no stubs
        masked_crc32c,
    )

    checksum: int = masked_crc32c(data)
    return checksum
