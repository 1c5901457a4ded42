"""Output streams that never end a run: text that cannot be written is dropped.

The disk that a log is redirected to may be full, and Ctrl-C may end the `tee` that reads a script's
output before it ends the script.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any, TextIO, cast


class _Forgiving:
    """An unbuffered stream, because a buffer would keep failed text and write it again."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write as much of a text as possible; return its length."""
        left = text.encode(self._stream.encoding, "backslashreplace")
        with contextlib.suppress(OSError):
            while left:
                left = left[os.write(self._stream.fileno(), left) :]
        return len(text)

    def flush(self) -> None:
        """Do nothing, since nothing is buffered."""


def forgive() -> None:
    """Let this process outlive its terminal, its log file and the programs that read its output."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and stream is getattr(sys, f"__{name}__"):  # not replaced yet
            stream.flush()
            setattr(sys, name, cast("TextIO", _Forgiving(stream)))
