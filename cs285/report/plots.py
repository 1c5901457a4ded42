"""The style of the report's figures, on paper and on screens, and the parts of their panels.

A plot is a list of panels, laid out in rows for paper and in one column for phones.
"""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cs285.infrastructure.palette import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    thousands,
)

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

    from cs285.results.statistics import CurveEstimate, Estimate

GRID = "#e4e4e4"
PAPER = "#fefefe"
"""Background of figures; also the outline of text that curves cross."""
SEQUENTIAL = ("#16108a", "#6200a7", "#9c179e", "#c83e73", "#e4695e", "#ee8434", "#d09f10")
"""Colours of ordered values: Matplotlib's plasma map with a darker end."""
COLOURS_OF_TASKS = (BLUE, VERMILION, PURPLE, ORANGE)

ON_DARK = {
    INK: "#e8e8ea",
    GRID: "#34363c",
    PAPER: "#1c1e22",
    GREY: "#a2a5ad",
    BLUE: "#4aa8e8",
    ORANGE: "#efb13a",
    GREEN: "#2cc495",
    VERMILION: "#f58549",
    PURPLE: "#dc98bd",
    SKY: "#7cc8f2",
} | dict(
    zip(
        SEQUENTIAL,
        ("#8f8bff", "#b07af0", "#d077dd", "#ee82aa", "#f69b8a", "#f9b56a", "#f3d768"),
        strict=True,
    )
)
"""The replacement for each colour on a dark screen."""

PANEL_INCHES = (4.1, 3.3)
LEGEND_INCHES = 0.42
SMALL = 9
FAR_APART = 20.0
"""Above this ratio of values, the smaller one cannot be read on a linear scale."""
DPI = 160

Panel = Callable[["Axes"], None]


@dataclass(frozen=True)
class Plot:
    """One figure of the report."""

    name: str
    """Its file name without suffix."""
    title: str
    """Alternative text, for readers who cannot see the figure."""
    panels: tuple[Panel, ...]
    columns: int
    """Panels per row, if there is space."""
    panel_inches: tuple[float, float] = PANEL_INCHES
    has_legend: bool = True
    is_picture: bool = False
    """Whether it contains pictures on white, so that it stays light on a dark screen."""

    def size(self, columns: int) -> tuple[float, float]:
        """Return width and height in inches."""
        width, height = self.panel_inches
        rows = math.ceil(len(self.panels) / columns)
        return columns * width, rows * height + LEGEND_INCHES * self.has_legend

    def draw(self, canvas: Figure | SubFigure, columns: int) -> None:
        """Draw all panels and a common legend."""
        rows = math.ceil(len(self.panels) / columns)
        axes = canvas.subplots(rows, columns, squeeze=False).ravel()
        for ax in axes[len(self.panels) :]:
            ax.set_axis_off()
        named: dict[str, Any] = {}
        for panel, ax in zip(self.panels, axes, strict=False):
            panel(ax)
            handles, labels = ax.get_legend_handles_labels()
            named |= dict(zip(labels, handles, strict=True))
        if self.has_legend and named:
            ncols = min(len(named), 2 + 2 * columns)
            # Matplotlib fills a legend by columns; people read it by rows.
            labels = [label for start in range(ncols) for label in list(named)[start::ncols]]
            canvas.legend(
                [named[label] for label in labels], labels, loc="outside upper center",
                frameon=False, ncols=ncols, fontsize=SMALL, handlelength=1.6, columnspacing=1.2,
            )  # fmt: skip

    def figure(self, columns: int | None = None) -> Figure:
        """Return the plot as a figure; call within `style`."""
        from matplotlib.figure import Figure

        columns = columns or self.columns
        figure = Figure(figsize=self.size(columns), layout="constrained")
        self.draw(figure, columns)
        return figure

    def bytes(self, file_format: str, columns: int | None = None) -> bytes:
        """Return the plot as the bytes of a file; call within `style`."""
        from matplotlib import rc_context

        metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(file_format)
        transparent = file_format == "svg" and not self.is_picture
        # Vector formats embed pictures unchanged; PNGs resample them, smoothly.
        interpolation = "auto" if file_format == "png" else "none"
        file = io.BytesIO()
        with rc_context({"image.interpolation": interpolation}):
            self.figure(columns).savefig(
                file, format=file_format, dpi=DPI, metadata=metadata, transparent=transparent
            )
        return file.getvalue()


@contextmanager
def style() -> Iterator[None]:
    """Use the report's style within the context; names of runs are never parsed as formulas."""
    from matplotlib import rc_context

    settings: Any = {  # Matplotlib has a type for every key
        "text.parse_math": False,
        "text.color": INK,
        "axes.edgecolor": INK,
        "axes.labelcolor": INK,
        "axes.titlesize": 11,
        "axes.titleweight": "bold",
        "axes.titlepad": 8,
        "axes.labelsize": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.formatter.use_mathtext": False,
        "grid.color": GRID,
        "grid.linewidth": 0.8,
        "xtick.color": INK,
        "ytick.color": INK,
        "xtick.labelsize": SMALL,
        "ytick.labelsize": SMALL,
        "font.size": 10,
        "font.family": "DejaVu Sans",
        "figure.constrained_layout.w_pad": 0.07,
        "figure.constrained_layout.h_pad": 0.06,
        "pdf.fonttype": 42,
        "svg.hashsalt": "cs285",
    }
    with rc_context(settings):
        yield


def svg_uri(plot: Plot, columns: int) -> str:
    """Return the plot as an SVG in a data URI that follows the reader's dark mode."""
    # Browsers would scale pictures pixel by pixel, which makes them unreadable.
    svg = re.sub(r"image-rendering:[\w-]+;?", "", plot.bytes("svg", columns).decode())
    if not plot.is_picture:
        names = {colour.lower(): f"--c{index}" for index, colour in enumerate(ON_DARK)}
        light = ";".join(f"{names[colour.lower()]}:{colour}" for colour in ON_DARK)
        dark = ";".join(f"{names[colour.lower()]}:{shade}" for colour, shade in ON_DARK.items())
        svg = re.sub(
            "|".join(names),
            lambda match: f"var({names[match[0].lower()]})",
            svg,
            flags=re.IGNORECASE,
        )
        rules = f":root{{{light}}}@media(prefers-color-scheme:dark){{:root{{{dark}}}}}"
        svg = re.sub(r"(<svg [^>]*>)", rf"\1<style>{rules}</style>", svg, count=1)
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"


def colours_in_order(count: int) -> list[str]:
    """Return colours for ordered values, spread over the whole range."""
    last = len(SEQUENTIAL) - 1
    return [SEQUENTIAL[round(index * last / max(1, count - 1))] for index in range(count)]


# Parts of panels


def draw_curve(ax: Axes, curve: CurveEstimate | None, label: str, colour: str) -> None:
    """Draw an interquartile mean and its interval as a band."""
    if curve is None:
        return
    marker = "o" if len(curve.steps) == 1 else None
    ax.plot(curve.steps, curve.iqm, color=colour, linewidth=1.8, label=label, marker=marker, ms=4)
    ax.fill_between(curve.steps, curve.low, curve.high, color=colour, alpha=0.2, linewidth=0)


def draw_points(
    ax: Axes, estimates: Sequence[Estimate | None], labels: Sequence[str], colours: Sequence[str]
) -> None:
    """Draw estimates side by side, connected by a line, with bars for intervals, spans or errors.

    A bar for an error extends two standard errors up and down.
    """
    found = [(at, value) for at, value in enumerate(estimates) if value is not None]
    ax.plot([at for at, _ in found], [value.iqm for _, value in found], color=GREY, linewidth=1)
    for at, value in found:
        if value.has_interval:
            ax.vlines(at, value.low, value.high, color=colours[at], linewidth=2.2)
        elif value.span:
            ax.vlines(at, *value.span, color=colours[at], linewidth=1)
        elif value.error is not None:
            low, high = value.iqm - 2 * value.error, value.iqm + 2 * value.error
            ax.vlines(at, low, high, color=colours[at], linewidth=1)
        ax.plot(at, value.iqm, "o", color=colours[at], markersize=6.5)
    ax.set_xticks(range(len(labels)), labels)
    ax.set_xlim(-0.5, len(labels) - 0.5)


def draw_bounds(ax: Axes, optimum: float, random: float) -> None:
    """Draw the return of the best policy, and of the random one if the data come near it."""
    space = 0.12 * (optimum - random)
    lower, upper = ax.get_ylim()
    if lower - random < 3 * space:
        _draw_level(ax, random, f"random policy {random:.1f}", "dotted", "top")
        lower = min(lower, random - space)
    # If luck lifts data above the best policy's line, the line must not end up at the edge.
    lower = min(lower, optimum - 0.08 * (upper - optimum))
    _draw_level(ax, optimum, f"best policy {optimum:.1f}", "dashed", "bottom")
    ax.set_ylim(lower, max(upper, optimum + 0.12 * (optimum - lower)))


def _draw_level(ax: Axes, value: float, name: str, line: str, side: str) -> None:
    from matplotlib.patheffects import withStroke

    ax.axhline(value, color=INK, linestyle=line, linewidth=1.2, zorder=1.5)
    ax.annotate(
        name.replace("-", "\N{MINUS SIGN}"), (0.01, value),
        xycoords=("axes fraction", "data"), va=side, fontsize=SMALL - 1,
        xytext=(0, 2 if side == "bottom" else -2.5), textcoords="offset points",
        path_effects=[withStroke(linewidth=2.5, foreground=PAPER)], zorder=6,
    )  # fmt: skip


def spread_out(ax: Axes, values: Sequence[float]) -> None:
    """Use a logarithmic scale if a linear one would hide the small values."""
    from matplotlib.ticker import FuncFormatter

    sizes = [abs(value) for value in values if math.isfinite(value) and value]
    if not sizes or max(sizes) <= FAR_APART * min(sizes):
        return
    ax.set_yscale("symlog", linthresh=10.0 ** math.floor(math.log10(min(sizes))))
    ax.set_ylabel(f"{ax.get_ylabel()}, logarithmic")
    ax.yaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value:g}".replace("-", "\N{MINUS SIGN}"))
    )
    (low, below), (high, above) = sorted((value, abs(value)) for value in ax.dataLim.intervaly)
    ax.set_ylim(low - 0.6 * below, high + 0.6 * above)


def draw_online_start(ax: Axes, step: int) -> None:
    """Mark where fine-tuning goes online."""
    ax.axvline(step, color=GREEN, linewidth=1.6, linestyle=(0, (4, 1.5)), label="online from here")


def label_steps(ax: Axes, label: str) -> None:
    """Label the axis of steps, with large numbers in thousands."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    ax.set_xlabel(label)
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda step, _: thousands(step)))


def decode(picture: bytes) -> npt.NDArray[Any] | None:
    """Return the pixels of a picture; None if it is damaged or too large to be one of ours."""
    from matplotlib.image import imread
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(picture), formats=["PNG"]) as image:
            if math.prod(image.size) > 10_000_000:  # noqa: PLR2004 - ours have half a million
                return None
        pixels: npt.NDArray[Any] = imread(io.BytesIO(picture), format="png")
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError):
        return None
    return pixels


def draw_picture(ax: Axes, pixels: npt.NDArray[Any]) -> None:
    """Show a picture from a run's log."""
    ax.imshow(pixels)
    ax.set_axis_off()
