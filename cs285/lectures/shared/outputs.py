"""The files of a lecture: a table of its numbers, and a figure; and what is said of them."""

from __future__ import annotations

import csv
import functools
import io
from collections.abc import Sequence
from dataclasses import astuple, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, get_type_hints

import numpy as np
import numpy.typing as npt

from cs285.infrastructure.files import write_atomically
from cs285.infrastructure.palette import thousands
from cs285.report.plots import Plot, style

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from matplotlib.axes import Axes

    Row = TypeVar("Row", bound=DataclassInstance)

DIGITS = 6
"""Significant digits of numbers in tables."""
COLOURS = 64
"""Colours of a picture."""


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
        files = {"png": _small(plot.bytes("png")), "pdf": plot.bytes("pdf")}
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


def _small(png: bytes) -> bytes:
    """Return a picture with few colours, which plots do not miss, at a third of the size."""
    from PIL import Image

    found = io.BytesIO()
    with Image.open(io.BytesIO(png)) as image:
        image.convert("RGB").quantize(COLOURS).save(found, format="png", optimize=True)
    return found.getvalue()


def _fill(content: bytes, file: BinaryIO) -> None:
    file.write(content)


# What is said of rows


def select(rows: Sequence[Row], **wanted: object) -> list[Row]:
    """Return the rows whose fields have these values."""
    return [
        row for row in rows if all(getattr(row, name) == value for name, value in wanted.items())
    ]


def column(rows: Sequence[DataclassInstance], name: str) -> npt.NDArray[np.float64]:
    """Return one field of all rows `(n,)`.

    Raises:
        ValueError: If there are no rows.
    """
    if not rows:
        raise ValueError(f"there are no rows to take `{name}` from")
    return np.array([getattr(row, name) for row in rows], dtype=np.float64)


def spread(values: npt.NDArray[np.float64], form: str = ".1f") -> str:
    """Return the mean and the standard deviation, as of several seeds.

    Args:
        values: `(n,)`.
        form: `.1f` gives `-20.9 ± 0.3`, and `.0%` gives `62 ± 3 %`.
    """
    number, unit = form.replace("%", "f"), " %" if form.endswith("%") else ""
    scaled = 100 * values if unit else values
    return f"{scaled.mean():z{number}} ± {scaled.std(ddof=1):z{number}}{unit}"


def percent(share: float) -> str:
    """Return a share as `62 %`."""
    return f"{100 * share:.0f} %"


def draw_range(
    ax: Axes,
    rows: Sequence[DataclassInstance],
    x: str,
    y: str,
    colour: str,
    label: str,
    line: str = "solid",
) -> None:
    """Draw the mean of one field over another as a line, and its smallest to largest as a band."""
    at = np.unique(column(rows, x))
    groups = [column(select(rows, **{x: value}), y) for value in at]
    low, mean, high = np.array([[own.min(), own.mean(), own.max()] for own in groups]).T
    ax.plot(at, mean, color=colour, linewidth=1.8, linestyle=line, label=label)
    ax.plot(at, mean, "o", color=colour, markersize=3.5)
    ax.fill_between(at, low, high, color=colour, alpha=0.18, linewidth=0)


def use_logarithm(ax: Axes, axis: str) -> None:
    """Make the axis `x` or `y` logarithmic, with numbers at 1, 2 and 5 times powers of ten."""
    from matplotlib.ticker import LogLocator, NullFormatter

    ax.set(**{f"{axis}scale": "log"})
    own = ax.xaxis if axis == "x" else ax.yaxis
    own.set_major_locator(LogLocator(subs=(1, 2, 5)))
    # Formulas, which the ticks would be, are not set in the report's style.
    own.set_major_formatter(lambda value, _: thousands(value))
    own.set_minor_formatter(NullFormatter())
