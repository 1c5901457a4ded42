"""CRC-32C, the checksum of event files, for many records at a time.

The checksum of bytes is a linear function of them, so those of many pieces can be computed side by
side and then joined (Rocksoft model of CRC with the reflected Castagnoli polynomial; RFC 3720,
appendix B.4, has examples). TensorBoard's own function takes one byte at a time, in Python.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint32]
Bytes = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.int64]

_POLYNOMIAL = 0x82F63B78
_MASK_DELTA = 0xA282EAD8
_ALL = np.uint32(0xFFFFFFFF)
_EIGHT = np.uint32(8)
_LOW = np.uint32(0xFF)
SHORT = 128
"""Bytes up to which records are compared column by column; longer ones are cut into pieces."""
PIECE = 64
"""Bytes of a piece of a long record."""
FEW = 24
"""Below this number of equally long records, arrays cost more than they save."""


def _make_table() -> Words:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        odd = (table & 1).astype(bool)
        table = np.where(odd, (table >> 1) ^ np.uint32(_POLYNOMIAL), table >> 1).astype(np.uint32)
    return table


_TABLE = _make_table()
_TABLE_LIST = [int(word) for word in _TABLE]


def masked(checksums: Words) -> Words:
    """Return checksums as event files store them: rotated, and with a number added."""
    rotated = (checksums >> np.uint32(15)) | (checksums << np.uint32(17))
    return (rotated + np.uint32(_MASK_DELTA)).astype(np.uint32)


def masked_crc32c(data: bytes) -> int:
    """Return the checksum of some bytes as event files store it."""
    if len(data) > SHORT:
        whole = np.frombuffer(data, np.uint8)
        return int(masked_crc32c_of(whole, np.array([0]), np.array([len(data)]))[0])
    checksum = 0xFFFFFFFF
    for byte in data:
        checksum = _TABLE_LIST[(checksum ^ byte) & 0xFF] ^ (checksum >> 8)
    checksum ^= 0xFFFFFFFF
    return (((checksum >> 15) | (checksum << 17)) + _MASK_DELTA) & 0xFFFFFFFF


def masked_crc32c_of(data: Bytes, starts: Indices, lengths: Indices) -> Words:
    """Return the checksums (N,) of parts of some bytes as event files store them.

    Args:
        data: The bytes.
        starts: Where each part begins, shape (N,).
        lengths: How many bytes each has, shape (N,).
    """
    checksums = np.empty(len(starts), dtype=np.uint32)
    for length in np.unique(lengths[lengths <= SHORT]).tolist():
        rows = np.flatnonzero(lengths == length)
        if len(rows) < FEW:
            for row in rows.tolist():
                part = data[starts[row] : starts[row] + length]
                checksums[row] = masked_crc32c(part.tobytes())
        else:
            columns = columns_of(data, starts[rows], length)
            checksums[rows] = masked(_through(columns, _ALL) ^ _ALL)
    long = np.flatnonzero(lengths > SHORT)
    if len(long):
        checksums[long] = masked(_long(data, starts[long], lengths[long]) ^ _ALL)
    return checksums


def columns_of(data: Bytes, starts: Indices, length: int) -> Bytes:
    """Return equally long parts of some bytes as the columns of an array (length, N)."""
    columns: Bytes = data[np.arange(length)[:, None] + starts[None, :]]
    return columns


def _through(columns: Bytes, state: Words | np.uint32) -> Words:
    """Return the states (N,) of the register after the columns (L, N), from a given state."""
    states = np.full(columns.shape[1], state, dtype=np.uint32)
    for column in columns:
        states = _TABLE[(states ^ column) & _LOW] ^ (states >> _EIGHT)
    return states


def _long(data: Bytes, starts: Indices, lengths: Indices) -> Words:
    """Return the states after records that are longer than `SHORT`.

    Zeros in front of a record leave a register of zero as it is, so that records are filled up in
    front to whole pieces; and to begin with ones is to flip the first four bytes.
    """
    counts = -(-lengths // PIECE)
    offsets = np.concatenate([[0], counts.cumsum()])
    pieces = np.zeros(int(offsets[-1]) * PIECE, dtype=np.uint8)
    for number, (start, length) in enumerate(zip(starts.tolist(), lengths.tolist(), strict=True)):
        end = int(offsets[number + 1]) * PIECE
        pieces[end - length : end] = data[start : start + length]
        pieces[end - length : end - length + 4] ^= np.uint8(0xFF)
    columns = np.ascontiguousarray(pieces.reshape(-1, PIECE).T)
    states = _through(columns, np.uint32(0))
    return np.array(
        [_join(states[offsets[number] : offsets[number + 1]]) for number in range(len(starts))],
        dtype=np.uint32,
    )


def _join(states: Words) -> int:
    """Return the state after all pieces, from the states (K,) that each leaves, starting at 0."""
    level = 0
    while len(states) > 1:
        if len(states) % 2:
            states = np.concatenate([np.zeros(1, np.uint32), states])
        states = _shift(states[::2], level) ^ states[1::2]
        level += 1
    return int(states[0])


def _shift(states: Words, level: int) -> Words:
    """Return the states after `PIECE * 2**level` further zeros."""
    first, second, third, fourth = _shift_tables(level)
    shifted: Words = (
        first[states & _LOW]
        ^ second[(states >> _EIGHT) & _LOW]
        ^ third[(states >> np.uint32(16)) & _LOW]
        ^ fourth[states >> np.uint32(24)]
    )
    return shifted


@lru_cache(maxsize=32)
def _shift_tables(level: int) -> Words:
    """Return what `_shift` does to each byte of a state, shape (4, 256)."""
    bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
    if level:
        images = _shift(_shift(bits, level - 1), level - 1)
    else:
        images = bits
        for _ in range(PIECE):
            images = _TABLE[images & _LOW] ^ (images >> _EIGHT)
    numbers = np.arange(256, dtype=np.uint32)
    tables = np.zeros((4, 256), dtype=np.uint32)
    for byte in range(4):
        for bit in range(8):
            chosen = ((numbers >> np.uint32(bit)) & np.uint32(1)).astype(bool)
            tables[byte][chosen] ^= images[8 * byte + bit]
    return tables
