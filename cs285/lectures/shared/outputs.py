"""The files of a lecture: a table of its numbers, and a figure."""

from __future__ import annotations

import csv
import functools
import io
from collections.abc import Sequence
from dataclasses import astuple, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, get_type_hints

from cs285.infrastructure.files import write_atomically
from cs285.report.plots import Plot, style

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Row = TypeVar("Row", bound=DataclassInstance)

DIGITS = 6
"""Significant digits of numbers in tables."""


def write(out: Path, rows: Sequence[DataclassInstance], plot: Plot) -> None:
    """Write `NAME.csv`, `NAME.png` and `NAME.pdf`, where NAME is that of the plot.

    Args:
        out: The folder.
        rows: Instances of one dataclass, whose fields are the columns.
        plot: The figure.

    Raises:
        UserError: If a file cannot be written.
    """
    with style():
        files = {suffix: plot.bytes(suffix) for suffix in ("png", "pdf")}
    for suffix, content in {"csv": table(rows).encode(), **files}.items():
        write_atomically(out / f"{plot.name}.{suffix}", functools.partial(_fill, content))


def table(rows: Sequence[DataclassInstance]) -> str:
    """Return rows as comma-separated values below the names of their fields."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(field.name for field in fields(rows[0]))
    writer.writerows([_cell(value) for value in astuple(row)] for row in rows)
    return text.getvalue()


def read(text: str, kind: type[Row]) -> list[Row]:
    """Return the rows of a table that `table` wrote; their fields are int, float or str."""
    types = get_type_hints(kind)
    return [
        kind(**{name: types[name](value) for name, value in line.items()})
        for line in csv.DictReader(io.StringIO(text))
    ]


def rounded(rows: Sequence[Row]) -> list[Row]:
    """Return rows as their table has them, so that what is computed from both is equal."""
    return read(table(rows), type(rows[0]))


def _cell(value: Any) -> Any:
    return f"{value:.{DIGITS}g}" if isinstance(value, float) else value


def _fill(content: bytes, file: BinaryIO) -> None:
    file.write(content)
