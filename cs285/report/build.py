"""Builds a whole report: reads data folders and writes the report's folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cs285.infrastructure.files import prepare_folder, write_atomically
from cs285.report import document, page, plots
from cs285.report.collection import Collection, collect
from cs285.report.sections import Section, answer, tags_read
from cs285.report.words import front_matter

PLOT_FORMATS = ("png", "pdf")


def build(data_dirs: Path | Sequence[Path], out: Path) -> tuple[Collection, list[Section]]:
    """Write `index.html`, `report.pdf` and `figures/`; return the runs and the sections.

    Args:
        data_dirs: The folders with the runs, or one.
        out: The folder to write to.

    Raises:
        UserError: If a data folder does not exist, or the report cannot be written.
    """
    data_dirs = [data_dirs] if isinstance(data_dirs, Path) else list(data_dirs)
    collection = collect(data_dirs, tags_read())
    sections = answer(collection)
    front = front_matter(collection, sections, data_dirs)
    prepare_folder(out)
    folder = prepare_folder(out / "figures")
    with plots.style():
        for plot in filter(None, (section.plot for section in sections)):
            for file_format in PLOT_FORMATS:
                _write(folder / f"{plot.name}.{file_format}", plot.bytes(file_format))
        _write(out / "report.pdf", document.render(front, sections, collection))
        _write(out / "index.html", page.render(front, sections, collection).encode())
    return collection, sections


def _write(path: Path, content: bytes) -> None:
    write_atomically(path, lambda file: file.write(content))
