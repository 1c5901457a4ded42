"""Fingerprints of the Python files of a hand-in, without the code that its author was given.

They are the winnowed hashes of Schleimer, Wilkerson and Aiken (2003), "Winnowing: local algorithms
for document fingerprinting", as in Moss: of every `WINDOW` successive hashes of `GRAM` tokens the
smallest is kept, so every match of at least `GRAM + WINDOW - 1` tokens is found.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cs285.grading.copies.packing import pack, unpack
from cs285.grading.copies.tokens import GRAM, Hashes, Indices, grams, read_tokens
from cs285.grading.starter.student_version import WRITTEN, strip
from cs285.infrastructure.errors import UserError

WINDOW = 5
"""Number of successive hashes of which at least one is kept."""
PYTHON = "*.py"
_EXCLUDED = np.uint64(2**64 - 1)


@dataclass(frozen=True, eq=False)
class CodeFile:
    """The fingerprints of one file, in order."""

    path: str
    text: str
    hashes: Hashes
    """Shape (N,)."""
    begins: Indices
    """The first line of each, counted from 1, shape (N,)."""
    ends: Indices
    """The last line of each, shape (N,)."""

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "path": self.path,
            "text": self.text,
            "hashes": pack(self.hashes),
            "begins": pack(self.begins.astype(np.int32)),
            "ends": pack(self.ends.astype(np.int32)),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> CodeFile:
        """Return the file that `as_json` turned into plain data."""
        return cls(
            data["path"],
            data["text"],
            unpack(data["hashes"], "<u8"),
            unpack(data["begins"], "<i4").astype(np.int64),
            unpack(data["ends"], "<i4").astype(np.int64),
        )


@dataclass(frozen=True, eq=False)
class Given:
    """The code that every student was given."""

    files: frozenset[bytes]
    """The `digest` of every file."""
    grams: Hashes
    """The hashes of all its token n-grams, sorted, shape (N,)."""


def digest(text: str) -> bytes:
    """Return a hash of a text that ignores spaces at the ends of lines."""
    lines = "\n".join(line.rstrip() for line in text.splitlines()).strip()
    return hashlib.blake2b(lines.encode("utf-8", "replace"), digest_size=16).digest()


def read_code(path: str, text: str, given: Given) -> CodeFile | None:
    """Return the fingerprints of a file; None if nothing in it is the author's own work."""
    if digest(text) in given.files:
        return None
    tokens = read_tokens(text)
    hashes = grams(tokens)
    hashes = np.where(_is_in(hashes, given.grams), _EXCLUDED, hashes)
    kept = _winnow(hashes)
    if not len(kept):
        return None
    return CodeFile(path, text, hashes[kept], tokens.lines[kept], tokens.lines[kept + GRAM - 1])


def _is_in(hashes: Hashes, known: Hashes) -> npt.NDArray[np.bool_]:
    if not len(known):
        return np.zeros(len(hashes), dtype=bool)
    places = np.searchsorted(known, hashes).clip(max=len(known) - 1)
    found: npt.NDArray[np.bool_] = known[places] == hashes
    return found


def _winnow(hashes: Hashes) -> Indices:
    """Return the positions of the smallest hash in each window; of equal ones, the last."""
    if not len(hashes):
        return np.array([], dtype=np.int64)
    width = min(WINDOW, len(hashes))
    windows = np.lib.stride_tricks.sliding_window_view(hashes, width)
    last = width - 1 - np.argmin(windows[:, ::-1], axis=1)
    places: Indices = np.unique(np.arange(len(windows)) + last).astype(np.int64)
    kept: Indices = places[hashes[places] != _EXCLUDED]
    return kept


@lru_cache(maxsize=4)
def given_text(names: frozenset[str], folders: tuple[Path, ...] = ()) -> Given:
    """Return the code that students were given: this project's starter and other starters.

    Args:
        names: Names of the starter's files to read. Reading all of them takes a second, which
            matters when every hand-in is read in a separate process.
        folders: The folders of other starters, such as that of a course.
    """
    texts = [*_starter(names), *_texts_below(folders)]
    own = [grams(read_tokens(text)) for text in dict.fromkeys(texts)]
    known = np.unique(np.concatenate(own)) if own else np.array([], dtype=np.uint64)
    return Given(frozenset(map(digest, texts)), known)


def _starter(names: frozenset[str]) -> Iterator[str]:
    """Yield the Python files of the starter that this project gives to students."""
    root = Path(__file__).parents[3]
    for path in sorted(Path(__file__).parents[2].rglob(PYTHON)):
        place = path.relative_to(root)
        if path.name in names and "grading" not in place.parts:
            text = path.read_text(encoding="utf-8")
            with suppress(UserError):
                yield strip(text, place.as_posix())[0] if place.as_posix() in WRITTEN else text


def _texts_below(folders: Collection[Path]) -> Iterator[str]:
    for folder in folders:
        for path in sorted(folder.rglob(PYTHON)):
            with suppress(OSError):
                yield path.read_text(encoding="utf-8", errors="replace")
