"""The report as a PDF to hand in; every question starts on a new page."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cs285.infrastructure.palette import GREY, INK, VERMILION
from cs285.report.collection import Collection
from cs285.report.plots import Plot
from cs285.report.sections import Section, Table
from cs285.report.words import Front

if TYPE_CHECKING:
    from matplotlib.backends.backend_pdf import PdfPages
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 8.27, 11.69
"""A4 in inches, the unit of all lengths here."""
MARGIN = 0.75
FOOT = 0.45
TEXT_SIZE = 9.5
TABLE_SIZE = 7.5
CHARACTERS = 100
"""Characters per line of text; a monospaced font needs a sixth more space."""
LETTER = 0.062
"""Average width of a letter in a table's cells."""
MAX_PLOT_HEIGHT = 5.7
"""It leaves room for the caption and a table of eight rows."""
MAX_PANELS = 8
"""A plot with more panels gets its own page, and its caption comes on the next."""
HEADING = 0.6
"""Height of a heading."""


def render(front: Front, sections: Sequence[Section], collection: Collection) -> bytes:
    """Return the document; call within `plots.style`."""
    from matplotlib.backends.backend_pdf import PdfPages

    file = io.BytesIO()
    with PdfPages(file, metadata={"Title": front.title, "CreationDate": None}) as pages:
        document = _Document(pages)
        document.new_page()
        document.heading(front.title, size=18)
        document.text(front.subtitle, color=GREY)
        if front.results:
            document.table(front.results)
        document.text(front.explanation, color=GREY)
        for section in sections:
            document.new_page()
            _add_section(document, section)
        if collection.left_out:
            document.new_page()
            document.heading("Left out")
            for name, reason in collection.left_out:
                document.text(f"{name}: {reason}", size=8)
        document.finish()
    return file.getvalue()


def _add_section(document: _Document, section: Section) -> None:
    document.heading(f"{section.number}  {section.title}")
    if section.plot:
        document.plot(section.plot)
        document.text(" ".join(section.caption))
        for finding in section.findings:
            document.text(f"\N{BULLET} {finding}", gap=0.04)
    if section.table:
        document.table(section.table)
    for what, command in section.missing:
        document.text(f"No finished runs yet: {what}. To create them, run:", color=VERMILION)
        document.text(command, size=8, family="DejaVu Sans Mono", indent=0.15)


class _Document:
    """Pages that fill from top to bottom; content that does not fit continues on the next one."""

    def __init__(self, pages: PdfPages) -> None:
        self._pages = pages
        self._page: Figure | None = None
        self._number = 0
        self._y = 0.0

    def new_page(self) -> None:
        """Finish the page and start another."""
        from matplotlib.figure import Figure

        self.finish()
        self._page = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        self._number += 1
        self._y = FOOT
        self._put(WIDTH / 2, str(self._number), size=8, color=GREY, ha="center")
        self._y = HEIGHT - MARGIN

    def finish(self) -> None:
        """Write the page, if there is one."""
        if self._page is not None:
            self._pages.savefig(self._page)  # type: ignore[no-untyped-call]  # Matplotlib does not annotate it
            self._page = None

    def heading(self, text: str, size: float = 14) -> None:
        """Add a title."""
        self._y -= size / 72
        self._put(MARGIN, text, size=size, weight="bold")
        self._y -= 0.25

    def text(
        self,
        text: str,
        *,
        size: float = TEXT_SIZE,
        indent: float = 0.0,
        gap: float = 0.13,
        **looks: Any,
    ) -> None:
        """Add a paragraph."""
        stretch = 1.0 if "family" not in looks else 1.16
        columns = int(CHARACTERS * TEXT_SIZE / size / stretch)
        for line in textwrap.wrap(text, columns):
            self._advance(1.5 * size / 72)
            self._put(MARGIN + indent, line, size=size, **looks)
        self._y -= gap

    def table(self, table: Table) -> None:
        """Add a table; its headings are repeated on every page."""
        texts = [table.headings, *table.rows]
        widths = [LETTER * max(map(len, column)) + 0.18 for column in zip(*texts, strict=True)]
        # Experiments with long names must not push the numbers off the page.
        scale = min(1.0, (WIDTH - 2 * MARGIN) / sum(widths))
        self._y -= 0.05
        self._row(table.headings, widths, scale, table.first_number, weight="bold", color=GREY)
        for row in table.rows:
            if self._advance(0.0, keep=0.2):
                self._row(table.headings, widths, scale, table.first_number, color=GREY)
            self._row(row, widths, scale, table.first_number)
        self._y -= 0.2

    def plot(self, plot: Plot) -> None:
        """Draw a plot across the page, below the existing content."""
        columns, scale = min(2, plot.columns), 0.74
        if plot.is_picture:
            columns = max((1, 2), key=lambda count: _picture_scale(plot, count))
            scale = _picture_scale(plot, columns)
        is_tall = len(plot.panels) > MAX_PANELS
        limit = HEIGHT - 2 * MARGIN - HEADING if is_tall else MAX_PLOT_HEIGHT
        height = min(plot.size(columns)[1] * scale, limit)
        page = self._sheet()
        ratios = [HEIGHT - self._y, height, self._y - height]
        side = 0.6 * MARGIN
        grid = page.add_gridspec(
            3, 3, height_ratios=ratios, width_ratios=[side, WIDTH - 2 * side, side]
        )
        plot.draw(page.add_subfigure(grid[1, 1]), columns)
        self._y -= height + 0.1

    def _row(
        self,
        row: Sequence[str],
        widths: Sequence[float],
        scale: float,
        first_number: int,
        **looks: Any,
    ) -> None:
        self._y -= 0.185
        x = MARGIN
        for at, (text, width) in enumerate(zip(row, widths, strict=True)):
            is_number = at >= first_number
            at_x = x + width * scale if is_number else x
            size = TABLE_SIZE * scale
            self._put(at_x, text, size=size, ha="right" if is_number else "left", **looks)
            x += width * scale

    def _advance(self, distance: float, keep: float = 0.0) -> bool:
        """Move down; return whether this started a new page."""
        needs_page = self._y - distance - keep < MARGIN
        if needs_page:
            self.new_page()
        self._y -= distance
        return needs_page

    def _put(self, x: float, text: str, **looks: Any) -> None:
        self._sheet().text(x / WIDTH, self._y / HEIGHT, text, **({"color": INK} | looks))

    def _sheet(self) -> Figure:
        if self._page is None:
            self.new_page()
        assert self._page is not None  # noqa: S101 - new_page made it
        return self._page


def _picture_scale(plot: Plot, columns: int) -> float:
    """Return the scale at which pictures fit between the margins."""
    width, height = plot.size(columns)
    return min(1.0, (WIDTH - 2 * MARGIN) / width, MAX_PLOT_HEIGHT / height)
