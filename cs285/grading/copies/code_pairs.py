"""Compares the code of all hand-ins of a course."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cs285.grading.archives import printable
from cs285.grading.copies.code import CodeFile
from cs285.grading.copies.fingerprints import Fingerprint
from cs285.grading.copies.pairs import Evidence, Excerpt, Kind
from cs285.grading.copies.rarity import Index, make_index

WHOLE = 0.6
"""Share of what is a hand-in's own from which two are said to have the same code."""
MAX_SHOWN_LINES = 24
MAX_PASSAGES = 3
_WIDEST = 120
_GAP = 4
"""Fingerprints between two shared ones that do not end a passage: a changed line."""


class Passage(NamedTuple):
    """Lines of one file that match lines of another."""

    weight: float
    """What it says: as many rare fingerprints."""
    first: CodeFile
    first_lines: tuple[int, int]
    second: CodeFile
    second_lines: tuple[int, int]


def compare_code(prints: Sequence[Fingerprint]) -> dict[tuple[int, int], Evidence]:
    """Return what pairs of hand-ins have in common in their code, by their places."""
    hashes = [
        np.concatenate([np.array([], dtype=np.uint64), *(file.hashes for file in one.files)])
        for one in prints
    ]
    if not sum(map(len, hashes)):
        return {}
    index = make_index(hashes)
    shared = index.shared()
    own = np.diag(shared)
    found = {}
    for first, second in np.argwhere(np.triu(shared, 1) >= LEAST_WEIGHT).tolist():
        weight = shared[first, second]
        share = weight / max(min(own[first], own[second]), LEAST_OWN)
        passages = find_passages(prints[first], prints[second], index)
        evidence = _evidence(share, passages)
        if evidence is not None:
            found[first, second] = evidence
    return found


LEAST_WEIGHT = 8.0
"""Weight of shared fingerprints below which a pair is not looked at."""
LEAST_OWN = 40.0
"""Weight of code that a hand-in is treated as having at least."""
LEAST_STRENGTH = 0.1
PASSAGE_SCALE = 25.0
"""Weight of a passage that is as strong as 0.63."""


def _evidence(share: float, passages: Sequence[Passage]) -> Evidence | None:
    longest = passages[0].weight if passages else 0.0
    part = 1 - np.exp(-((longest / PASSAGE_SCALE) ** 2))
    strength = float(max(share**2, part) * 0.95)
    if strength < LEAST_STRENGTH or not passages:
        return None
    kind = Kind.CODE if share >= WHOLE else Kind.CODE_PART
    lines = sum(one.first_lines[1] - one.first_lines[0] + 1 for one in passages)
    fact = (
        f"{share:.0%} of what is one's own code and not everyone's is also in the other's, names, "
        f"comments and order aside: {lines} lines in {len(passages)} passages"
    )
    shown = passages[:MAX_PASSAGES]
    return Evidence(
        kind,
        strength,
        fact,
        _excerpt([(one.first, one.first_lines) for one in shown]),
        _excerpt([(one.second, one.second_lines) for one in shown]),
    )


def _excerpt(parts: Sequence[tuple[CodeFile, tuple[int, int]]]) -> Excerpt:
    place = "; ".join(f"{printable(file.path)}, lines {a} to {b}" for file, (a, b) in parts)
    lines: list[str] = []
    for file, (begin, end) in parts:
        text = file.text.splitlines()
        last = min(end, begin + MAX_SHOWN_LINES - 1, len(text))
        lines += [
            f"{number:4}  {printable(text[number - 1].replace(chr(9), '    '), _WIDEST)}"
            for number in range(begin, last + 1)
        ]
        if last < end:
            lines.append(f"      ... and {end - last} more lines")
    return Excerpt(place, tuple(lines))


def find_passages(first: Fingerprint, second: Fingerprint, index: Index) -> list[Passage]:
    """Return the passages that two hand-ins share, the one that says most first."""
    found = [
        passage
        for one in first.files
        for other in second.files
        for passage in _passages(one, other, index)
    ]
    found.sort(key=lambda passage: passage.weight, reverse=True)
    return found


def _passages(one: CodeFile, other: CodeFile, index: Index) -> Iterator[Passage]:
    common, mine, theirs = np.intersect1d(one.hashes, other.hashes, return_indices=True)
    if not len(common):
        return
    weights = index.weigh(common)
    order = np.argsort(mine)
    mine, theirs, weights = mine[order], theirs[order], weights[order]
    # A passage goes on as long as both files go on together.
    steps, jumps = np.diff(mine), np.diff(theirs)
    breaks = (steps > _GAP) | (jumps > _GAP) | (jumps < 1)
    for begin, end in _runs(breaks):
        chosen = slice(begin, end)
        yield Passage(
            float(weights[chosen].sum()),
            one,
            _lines(one, mine[chosen]),
            other,
            _lines(other, theirs[chosen]),
        )


def _runs(breaks: npt.NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    begin = 0
    for place in np.flatnonzero(breaks):
        yield begin, int(place) + 1
        begin = int(place) + 1
    yield begin, len(breaks) + 1


def _lines(file: CodeFile, places: npt.NDArray[np.int64]) -> tuple[int, int]:
    return int(file.begins[places].min()), int(file.ends[places].max())
