"""CSV: `scalars.csv` in the run's folder, one line per value; figures are left out."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cs285.infrastructure.errors import UserError
from cs285.infrastructure.files import reason_of
from cs285.results.event_files import Curve
from cs285.results.run_folders import RunFolder
from cs285.results.sinks import register
from cs285.results.sinks.appended_file import AppendedFile

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEADER = ("step", "tag", "value")


@register("csv")
class CsvSink:
    """Writes scalars in long form with all digits, so that they are read back exactly.

    Args:
        folder: The run's folder.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._path = folder.scalars
        self._file: AppendedFile | None = None

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Add a line for each value; NaN and infinities are `nan`, `inf` and `-inf`."""
        rows: list[tuple[object, ...]] = [(step, tag, float(x)) for tag, x in values.items()]
        if self._file is None:
            self._file = AppendedFile(self._path)
            rows.insert(0, HEADER)
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        self._file.append(text.getvalue().encode())

    def figure(self, figure: Figure, tag: str, step: int) -> None:
        """Ignore the figure."""

    def flush(self) -> dict[str, Any]:
        """Write all lines to the disk; return the size of the file."""
        return {"size": 0 if self._file is None else self._file.sync()}

    def rewind(self, position: Mapping[str, Any]) -> None:
        """Truncate the file to this position.

        Raises:
            UserError: If the file is shorter than that, or cannot be changed.
        """
        self.close()
        self._file = None
        if position["size"]:
            self._file = AppendedFile(self._path, keep=position["size"])

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


def read_curves(path: Path) -> dict[str, Curve]:
    """Return the finite values of a file that `CsvSink` wrote, by tag.

    An incomplete last line, as in the file of a run that is still training, is left out.

    Raises:
        UserError: If the file cannot be read, or `CsvSink` did not write it.
    """
    found: dict[str, dict[int, float]] = {}
    try:
        text = path.read_text(encoding="utf-8")
        rows = csv.reader(io.StringIO(text[: text.rfind("\n") + 1]), strict=True)
        header = next(rows, None)
        if header is not None and tuple(header) != HEADER:
            expected = ",".join(HEADER)
            raise UserError(f"{path} is not a table of scalars: its first line is not {expected}")
        for step, tag, value in rows:
            if math.isfinite(number := float(value)):
                found.setdefault(tag, {})[int(step)] = number
    except OSError as error:
        raise UserError(f"cannot read {path}: {reason_of(error)}") from error
    except (ValueError, csv.Error) as error:
        raise UserError(f"{path} is not a table of scalars: {error}") from error
    return {
        tag: Curve(np.array(list(points), dtype=np.int64), np.array(list(points.values())))
        for tag, points in found.items()
    }
