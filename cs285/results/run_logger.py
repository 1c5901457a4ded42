"""What a run leaves in its folder: a TensorBoard event file, its config and its summary."""

import contextlib
import itertools
import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from cs285.infrastructure.errors import UserError
from cs285.infrastructure.files import check_name
from cs285.results.run_folders import EVENTS

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_numbers = itertools.count()


class RunLogger:
    """Writes everything of one run into one folder; closes its event file as a context manager.

    Every event is handed to the system at once, so that nothing logged dies with the process.

    Args:
        folder: An existing folder that belongs to this run alone.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path: Path | None = None
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def log_scalars(self, values: Mapping[str, float], step: int) -> None:
        """Add scalars under their tags; all values of a step share one event, which is cheaper.

        Raises:
            UserError: If the event file cannot be written, as of `log_figure`.
        """
        from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]  # has no stubs

        entries = [
            Summary.Value(tag=tag, simple_value=float(value)) for tag, value in values.items()
        ]
        self._write(step=step, summary=Summary(value=entries))

    def log_figure(self, figure: "Figure", tag: str, step: int) -> None:
        """Add a picture of the figure under its tag, and close the figure."""
        from torch.utils.tensorboard._utils import figure_to_image
        from torch.utils.tensorboard.summary import image

        pixels = figure_to_image(figure, close=True)  # type: ignore[no-untyped-call]  # as all of it
        picture = image(tag, pixels, dataformats="CHW")  # type: ignore[no-untyped-call]  # likewise
        self._write(step=step, summary=picture)

    def _write(self, **content: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event  # type: ignore[import-untyped]  # has no stubs
        from tensorboard.summary.writer.record_writer import (  # type: ignore[import-untyped]  # has no stubs
            RecordWriter,
        )

        events = [Event(wall_time=time.time(), **content)]
        try:
            if self._file is None:
                name = f"{EVENTS}{int(time.time()):010d}.{platform.node()}.{os.getpid()}"
                self._path = self.folder / f"{name}.{next(_numbers)}"
                self._file = self._path.open("xb")
                events.insert(0, Event(wall_time=time.time(), file_version="brain.Event:2"))
            writer = RecordWriter(self._file)
            for event in events:
                writer.write(event.SerializeToString())
            self._file.flush()
        except OSError as error:
            raise UserError(f"cannot write to {self._path}: {error.strerror or error}") from error

    def flush(self) -> dict[str, Any]:
        """Bring everything logged so far to the disk; return where that is for `rewind`.

        Raises:
            UserError: If the disk does not take it.
        """
        if self._path is None:
            return {"name": None, "size": 0}
        try:
            if self._file is not None:
                os.fsync(self._file.fileno())
            return {"name": self._path.name, "size": self._path.stat().st_size}
        except OSError as error:
            raise UserError(f"cannot write to {self._path}: {error.strerror or error}") from error

    def rewind(self, position: Mapping[str, Any]) -> None:
        """Go back to what `flush` returned: forget all that was logged later, and go on there.

        Raises:
            UserError: If that much is not there, or cannot be changed.
        """
        self.close()
        name, size = position["name"], position["size"]
        try:
            for path in self.folder.glob(f"{EVENTS}*"):
                if path.name != name:
                    path.unlink()
            if name is not None:
                if not name.startswith(EVENTS):
                    raise UserError(f"{name[:80]!r} is no event file")
                self._path = self.folder / check_name(name, "event file")
                self._file = self._path.open("r+b")
                if self._file.seek(0, os.SEEK_END) < size:
                    raise UserError(f"{self._path} has lost its end, so its run cannot go on")
                self._file.truncate(size)
                self._file.seek(size)
        except OSError as error:
            raise UserError(f"cannot go on with the log of {self.folder}: {error}") from error

    def close(self) -> None:
        """Close the event file."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # told when it was written to
                self._file.close()
            self._file = None
