"""Standard output and error that never end a run: what cannot be written there is lost.

A disk that fills up may hold the log as well, and Ctrl-C ends the `tee` that a script writes to
before the script.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any, TextIO, cast


class _Forgiving:
    """A stream that writes straight away, as a buffer would keep what failed for the next time."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write all of a text, as far as that is possible."""
        left = text.encode(self._stream.encoding, "backslashreplace")
        with contextlib.suppress(OSError):
            while left:
                left = left[os.write(self._stream.fileno(), left) :]
        return len(text)

    def flush(self) -> None:
        """There is nothing to flush."""


def forgive() -> None:
    """Let this process outlive its terminal, its log file and the programs that read from it."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and stream is getattr(sys, f"__{name}__"):  # not replaced already
            stream.flush()
            setattr(sys, name, cast("TextIO", _Forgiving(stream)))
