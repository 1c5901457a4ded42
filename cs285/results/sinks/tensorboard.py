"""TensorBoard: one event file in the run's folder, or several after interruptions."""

from __future__ import annotations

import io
import itertools
import os
import platform
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cs285.infrastructure.errors import UserError
from cs285.infrastructure.files import check_name
from cs285.results.run_folders import EVENTS, RunFolder
from cs285.results.sinks import register
from cs285.results.sinks.appended_file import AppendedFile

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_numbers = itertools.count()


@register("tensorboard")
class TensorBoardSink:
    """Writes TensorBoard events.

    Args:
        folder: The run's folder.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._file: AppendedFile | None = None

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Write all values of a step into one event, which is faster than one event each."""
        from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]  # has no stubs

        entries = [
            Summary.Value(tag=tag, simple_value=float(value)) for tag, value in values.items()
        ]
        self._write(step=step, summary=Summary(value=entries))

    def figure(self, figure: Figure, tag: str, step: int) -> None:
        """Write a picture of the figure."""
        from torch.utils.tensorboard._utils import figure_to_image
        from torch.utils.tensorboard.summary import image

        pixels = figure_to_image(figure, close=False)  # type: ignore[no-untyped-call]  # all of it is
        picture = image(tag, pixels, dataformats="CHW")  # type: ignore[no-untyped-call]  # likewise
        self._write(step=step, summary=picture)

    def _write(self, **content: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event  # type: ignore[import-untyped]  # has no stubs
        from tensorboard.summary.writer.record_writer import (  # type: ignore[import-untyped]  # has no stubs
            RecordWriter,
        )

        events = [Event(wall_time=time.time(), **content)]
        if self._file is None:
            name = f"{EVENTS}{int(time.time()):010d}.{platform.node()}.{os.getpid()}"
            self._file = AppendedFile(self._folder.path / f"{name}.{next(_numbers)}")
            events.insert(0, Event(wall_time=time.time(), file_version="brain.Event:2"))
        records = io.BytesIO()
        writer = RecordWriter(records)
        for event in events:
            writer.write(event.SerializeToString())
        self._file.append(records.getvalue())

    def flush(self) -> dict[str, Any]:
        """Write all events to the disk; return the name and the size of the file."""
        if self._file is None:
            return {"name": None, "size": 0}
        return {"name": self._file.path.name, "size": self._file.sync()}

    def rewind(self, position: Mapping[str, Any]) -> None:
        """Truncate the file to this position, and delete all other event files of the run.

        Raises:
            UserError: If the file is shorter than that, or a file cannot be changed.
        """
        self.close()
        self._file = None
        name, size = position["name"], position["size"]
        try:
            for path in self._folder.path.glob(f"{EVENTS}*"):
                if path.name != name:
                    path.unlink()
        except OSError as error:
            raise UserError(f"cannot rewind the log of {self._folder}: {error}") from error
        if name is not None:
            if not name.startswith(EVENTS):
                raise UserError(f"{name[:80]!r} is not an event file")
            path = self._folder.path / check_name(name, "event file")
            self._file = AppendedFile(path, keep=size)

    def close(self) -> None:
        """Close the event file."""
        if self._file is not None:
            self._file.close()
