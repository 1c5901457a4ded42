"""Encodes arrays as text for JSON."""

from __future__ import annotations

import base64
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt


def pack(array: npt.NDArray[Any]) -> str:
    """Return an array (N,) of numbers as text."""
    little = array.astype(array.dtype.newbyteorder("<"))
    return base64.b64encode(zlib.compress(little.tobytes())).decode()


def unpack(text: str, kind: str) -> npt.NDArray[Any]:
    """Return the array (N,) that `pack` encoded.

    Args:
        text: The text.
        kind: The type of the numbers, such as `<f4`.
    """
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype=kind).copy()
