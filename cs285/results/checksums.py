"""CRC-32C, the checksum of event files (RFC 3720, appendix B.4), masked as they store it."""

from __future__ import annotations

import google_crc32c
import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint32]
Indices = npt.NDArray[np.int64]

_MASK_DELTA = 0xA282EAD8


def masked_crc32c(data: bytes) -> int:
    """Return the checksum of bytes as event files store it: rotated, plus a constant."""
    checksum: int = google_crc32c.value(data)
    return (((checksum >> 15) | (checksum << 17)) + _MASK_DELTA) & 0xFFFFFFFF


def masked_crc32c_of(data: bytes, starts: Indices, lengths: Indices) -> Words:
    """Return the checksums (N,) of slices of the bytes as event files store them.

    Args:
        data: The bytes.
        starts: Where each slice begins, shape (N,).
        lengths: The number of bytes in each slice, shape (N,).
    """
    parts = zip(starts.tolist(), (starts + lengths).tolist(), strict=True)
    checksums: Words = np.fromiter(
        (google_crc32c.value(data[start:end]) for start, end in parts), np.uint32, len(starts)
    )
    rotated = (checksums >> np.uint32(15)) | (checksums << np.uint32(17))
    return (rotated + np.uint32(_MASK_DELTA)).astype(np.uint32)
