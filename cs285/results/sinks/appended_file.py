"""A file that is only appended to, and can be truncated to return to an earlier state."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import BinaryIO

from cs285.infrastructure.errors import UserError
from cs285.infrastructure.files import reason_of


class AppendedFile:
    """An open file to which bytes are appended.

    Each write goes to the operating system at once, so nothing is lost if the process dies.

    Args:
        path: The file.
        keep: Bytes of an existing file to continue after; None creates or empties the file.

    Raises:
        UserError: If the file cannot be opened, or has fewer bytes than `keep`.
    """

    def __init__(self, path: Path, keep: int | None = None) -> None:
        self.path = path
        try:
            self._file: BinaryIO = path.open("wb" if keep is None else "r+b")
            if keep is not None:
                if self._file.seek(0, os.SEEK_END) < keep:
                    raise UserError(
                        f"{path} is shorter than at the last checkpoint, so its run cannot resume"
                    )
                self._file.truncate(keep)
                self._file.seek(keep)
        except OSError as error:
            what = "write to" if keep is None else "continue the log"
            raise UserError(f"cannot {what} {path}: {reason_of(error)}") from error

    def append(self, content: bytes) -> None:
        """Write at the end.

        Raises:
            UserError: If the file cannot be written.
        """
        try:
            self._file.write(content)
            self._file.flush()
        except OSError as error:
            raise UserError(f"cannot write to {self.path}: {reason_of(error)}") from error

    def sync(self) -> int:
        """Write everything to the disk; return the size in bytes, also after `close`.

        Raises:
            UserError: If the file cannot be written.
        """
        try:
            if not self._file.closed:
                os.fsync(self._file.fileno())
            return self.path.stat().st_size
        except OSError as error:
            raise UserError(f"cannot write to {self.path}: {reason_of(error)}") from error

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(OSError):  # reported when it was written
            self._file.close()
