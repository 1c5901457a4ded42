"""Packs runs and code into the zip that the last section of the handout asks for."""

from __future__ import annotations

import io
import stat
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cs285.homework import Question, title_of
from cs285.infrastructure.errors import UserError
from cs285.infrastructure.files import write_atomically
from cs285.report.collection import LeftOut, collect
from cs285.results.final_returns import final_return_in
from cs285.results.run_folders import CONFIG, SUMMARY, is_event_file
from cs285.submission.selection import Entry, Missing, choose, missing_runs
from cs285.submission.thinning import Limits, take_inventory, thin

LIMIT = 15_000_000
"""Bytes; a hand-in must be smaller."""
POINTS = (None, 5_000, 2_000, 1_000, 500, 200, 100)
"""Points to keep of a scalar; with the default log interval a run has 100."""
FIGURES = ((None, None), (None, 256), (3, 256), (2, 256), (1, 256))
"""Figures to keep of a tag, and colours of a figure; the handout needs the last figure."""
LEVELS = tuple(Limits(points, *figures) for figures in FIGURES for points in POINTS)
"""How much of the logs to keep: the first level that is small enough. Figures are cut last."""
CODE = (
    "cs285", "experiments", "LICENSE", "pyproject.toml", "requirements.txt", "setup.py",
)  # fmt: skip
CODE_SUFFIXES = {
    "", ".py", ".yaml", ".yml", ".toml", ".txt", ".h", ".hpp", ".cpp", ".css", ".j2", ".js",
}  # fmt: skip
RUN_FILES = (CONFIG, SUMMARY)
"""Files of a run that are packed besides its event files, which contain the figures."""


README = """\
# Exploration and offline reinforcement learning: hand-in

Python 3.11 or newer; `pip install -r requirements.txt`, then `pip install -e .`

All figures and tables: `python cs285/scripts/make_report.py --data_dir data`

To repeat a run with the settings in its folder (explore first, then learn from the data):
`python cs285/scripts/run_hw5_explore.py -cfg data/FOLDER/config.yaml --dataset_dir datasets`,
or the same with `run_hw5_offline.py` or `run_hw5_finetune.py`

| run | environment | algorithm | seed | steps | final return |
|---|---|---|---|---|---|"""


@dataclass(frozen=True)
class Submission:
    """A hand-in that has been written."""

    out: Path
    size: int
    entries: Sequence[Entry]
    limits: Limits
    thinned: Mapping[str, Mapping[str, tuple[int, int]]]
    """Numbers of values before and after thinning, by folder and tag."""
    left_out: Sequence[LeftOut]
    missing: Sequence[Missing]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "out": str(self.out),
            "bytes": self.size,
            "runs": [
                {
                    "folder": entry.folder,
                    "source": str(entry.source),
                    "passed_over": list(entry.passed_over),
                }
                for entry in self.entries
            ],
            "thinned": self.thinned,
            "left_out": [run._asdict() for run in self.left_out],
            "missing": [runs._asdict() for runs in self.missing],
        }


def make_submission(
    data_dir: Path, root: Path, out: Path, *, allow_missing: bool = False
) -> Submission:
    """Write the hand-in, completely or not at all.

    Args:
        data_dir: Folder with the runs.
        root: Folder with `cs285` and `experiments`.
        out: The zip to write; an existing file is replaced.
        allow_missing: Write it even if a question has no runs.

    Raises:
        UserError: If runs are missing, or the hand-in cannot be made small enough.
    """
    collection = collect(data_dir)
    missing = missing_runs(collection)
    if missing and not allow_missing:
        raise UserError(_complaint(missing, collection.left_out))
    entries = choose(collection, data_dir)
    for folder, count in Counter(entry.folder for entry in entries).items():
        if count > 1:
            raise UserError(f"{data_dir}: {count} different runs are called {folder}; keep one")
    try:
        contents = _Contents(entries, root, missing)
        packed, limits = contents.pack_within_limit()
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be read: {error.strerror}") from error
    if packed is None:
        raise UserError(
            f"{len(entries)} runs do not fit into {LIMIT:,} bytes, even with {limits.describe()}; "
            f"move the runs of some seeds out of {data_dir}"
        )
    write_atomically(out, lambda file: file.write(packed))
    left_out = [*collection.left_out, *contents.links]
    return Submission(
        out, len(packed), entries, limits, contents.thinned(limits), left_out, missing
    )


def _complaint(missing: Sequence[Missing], left_out: Sequence[LeftOut]) -> str:
    lines = ["runs are missing; make them, or hand in without them with --allow_missing"]
    lines += [f"{section}: {what}\n    {command}" for section, what, command in missing]
    lines += [f"left out {name}: {reason}" for name, reason in left_out]
    return "\n  ".join(lines)


class _Contents:
    """The contents of a hand-in, in as much detail as fits."""

    def __init__(self, entries: Sequence[Entry], root: Path, missing: Sequence[Missing]) -> None:
        self.entries = entries
        self.missing = missing
        self.links: list[LeftOut] = []
        """Links that were not followed."""
        self.code = {path.relative_to(root).as_posix(): path for path in self._code(root)}
        self.logs: dict[str, list[Path]] = {}
        self.notes: dict[str, Path] = {}
        for entry in entries:
            files = self._regular(sorted(entry.source.iterdir()))
            self.logs[entry.folder] = [path for path in files if is_event_file(path.name)]
            for path in files:
                if path.name in RUN_FILES:
                    self.notes[f"data/{entry.folder}/{path.name}"] = path
        self.inventories = {
            path: take_inventory(path) for paths in self.logs.values() for path in paths
        }

    def _code(self, root: Path) -> Iterator[Path]:
        for name in CODE:
            entry = root / name
            files = sorted(entry.rglob("*")) if entry.is_dir() else [entry]
            for path in self._regular(files):
                folders = path.relative_to(root).parts[:-1]
                hidden = any(part.startswith((".", "__")) for part in folders)
                # Older versions of the homework log to cs285/data.
                is_data = folders[1:2] == ("data",)
                if path.suffix in CODE_SUFFIXES and not (hidden or is_data):
                    yield path

    def _regular(self, paths: Sequence[Path]) -> list[Path]:
        """Return the regular files among paths; note the links, which are not followed."""
        self.links += [
            LeftOut(str(path), "is a link; its target is not handed in")
            for path in paths
            if path.is_symlink()
        ]
        return [
            path
            for path in paths
            if path.is_file() and not path.is_symlink() and not path.name.startswith(".")
        ]

    def thinned(self, limits: Limits) -> dict[str, dict[str, tuple[int, int]]]:
        """Return the tags that lose values, by folder, with the numbers before and after."""
        found: dict[str, dict[str, tuple[int, int]]] = {}
        for folder, paths in self.logs.items():
            for path in paths:
                for tag, (count, remaining) in self.inventories[path].kept(limits).items():
                    if remaining < count:
                        before = found.setdefault(folder, {}).get(tag, (0, 0))
                        found[folder][tag] = (before[0] + count, before[1] + remaining)
        return found

    def pack_within_limit(self) -> tuple[bytes | None, Limits]:
        """Return the most detailed zip that fits, or None, and the limits last tried."""
        for limits in LEVELS:
            packed = self._pack(limits)
            if packed is not None:
                break
        return packed, limits

    def _pack(self, limits: Limits) -> bytes | None:
        """Return the zip, which depends only on its contents; None if it is too large."""
        least = sum(inventory.least_size(limits) for inventory in self.inventories.values())
        if least >= LIMIT:
            return None
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, data in self._members(limits):
                info = zipfile.ZipInfo(name)  # dated 1980, whenever it is made
                info.create_system = 3  # Unix, so that the mode counts
                info.external_attr = (stat.S_IFREG | 0o644) << 16
                archive.writestr(info, data, zipfile.ZIP_DEFLATED, compresslevel=9)
                if buffer.tell() >= LIMIT:
                    return None
        packed = buffer.getvalue()
        return packed if len(packed) < LIMIT else None

    def _members(self, limits: Limits) -> Iterator[tuple[str, bytes]]:
        yield "README.md", self._readme(limits).encode()
        for name, path in sorted((self.code | self.notes).items()):
            yield name, path.read_bytes()
        for folder, paths in self.logs.items():
            for path in paths:
                inventory = self.inventories[path]
                changes = inventory.changes(limits)
                data = thin(path, inventory, limits) if changes else path.read_bytes()
                yield f"data/{folder}/{path.name}", data

    def _readme(self, limits: Limits) -> str:
        rows = []
        for entry in self.entries:
            run = entry.run
            final = final_return_in(run.curves)
            shown = "" if final.value is None else f"{final.value:.1f}"
            if final.is_exact:
                shown = f"{final.value:.2f} (exact)"
            cells = (run.env_id, title_of(run.algorithm), run.seed, f"{run.steps:,}", shown)
            rows.append(f"| `{entry.folder}` | {' | '.join(map(str, cells))} |")
        parts = [README, *rows, "", *(f"- `{one}_`: {one.section}" for one in Question)]
        if limits != Limits():
            parts += ["", f"Logs are thinned: {limits.describe()}."]
        if self.missing:
            parts += [
                "",
                "Missing:",
                *(f"- {runs.section}: {runs.what}" for runs in self.missing),
            ]
        return "\n".join(parts) + "\n"
