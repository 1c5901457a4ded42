"""Compares the code of all hand-ins of a course."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse

from cs285.grading.archives import printable
from cs285.grading.copies.code import CodeFile
from cs285.grading.copies.fingerprints import Fingerprint
from cs285.grading.copies.pairs import Evidence, Excerpt, Kind
from cs285.grading.copies.rarity import Floats, Index, make_index

MAX_COMPARED_FILES = 12
"""Maximum number of files of a hand-in that are compared one by one: those with the most code."""
MAX_COMPARED_PAIRS = 600
"""Maximum number of pairs that are searched for passages: those that share most."""
MAX_SHOWN_LINES = 24
MAX_PASSAGES = 3
MIN_STRENGTH = 0.1
STRONGEST = 0.95
"""Maximum strength of evidence from code; equal numbers in logs are stronger evidence."""
_WIDEST = 120
_GAP = 4
"""Maximum distance of successive shared fingerprints in a passage, so a changed line is bridged."""
MIN_PASSAGE = 1.0
"""Weight below which matching lines do not count as a passage."""
_SHARPNESS = 4
_CHUNK = 512


class Scope(Enum):
    """What is compared; the value is the weight at which the evidence is 0.63 of the strongest.

    People who work alone on the same assignment write much similar code. Among 300 hand-ins without
    copying, the most similar of the 45,000 pairs reaches about half this weight or less.
    """

    WHOLE = 40.0
    FILE = 26.0
    PASSAGE = 45.0

    def strength(self, weight: float) -> float:
        """Return the strength of the evidence if two hand-ins share this weight."""
        return STRONGEST * float(1 - np.exp(-((weight / self.value) ** _SHARPNESS)))


class Passage(NamedTuple):
    """Lines of one file that match lines of another."""

    weight: float
    """Its evidence, in units of one rare fingerprint."""
    first: CodeFile
    first_lines: tuple[int, int]
    second: CodeFile
    second_lines: tuple[int, int]


def compare_code(prints: Sequence[Fingerprint]) -> dict[tuple[int, int], Evidence]:
    """Return what pairs of hand-ins have in common in their code, by their indices.

    Three things are compared: the whole code of both, their two most similar files, and their
    strongest passage. What two hand-ins share is weighted by its rarity in the course and, except
    for passages, by the square of its share of the smaller one.
    """
    hashes = [
        np.concatenate([np.array([], dtype=np.uint64), *(file.hashes for file in one.files)])
        for one in prints
    ]
    if not sum(map(len, hashes)):
        return {}
    index = make_index(hashes)
    shared = index.shared()
    whole = _contained(shared, np.diag(shared), np.diag(shared))
    files = _most_similar_files(prints, index)
    places = np.triu_indices(len(prints), 1)
    candidates = (
        (whole[places] > 0)
        & (
            (whole[places] >= _needed(Scope.WHOLE))
            | (files[places] >= _needed(Scope.FILE))
            | (shared[places] >= _needed(Scope.PASSAGE))
        )
    ).nonzero()[0]  # fmt: skip
    rank = np.maximum(whole / Scope.WHOLE.value, files / Scope.FILE.value)[places][candidates]
    rank = np.maximum(rank, (shared / (2 * Scope.PASSAGE.value))[places][candidates])
    found = {}
    for number in candidates[np.argsort(-rank)[:MAX_COMPARED_PAIRS]].tolist():
        first, second = int(places[0][number]), int(places[1][number])
        passages = find_passages(prints[first], prints[second], index)
        if not passages:
            continue
        strengths = {
            Scope.WHOLE: Scope.WHOLE.strength(whole[first, second]),
            Scope.FILE: Scope.FILE.strength(files[first, second]),
            Scope.PASSAGE: Scope.PASSAGE.strength(passages[0].weight),
        }
        if max(strengths.values()) >= MIN_STRENGTH:
            smaller = min(shared[first, first], shared[second, second])
            share = shared[first, second] / smaller
            found[first, second] = _evidence(strengths, share, passages)
    return found


def _needed(scope: Scope) -> float:
    """Return the weight that evidence needs to be listed."""
    return float(scope.value * (-np.log(1 - MIN_STRENGTH / STRONGEST)) ** (1 / _SHARPNESS))


def _contained(shared: Floats, first: Floats, second: Floats) -> Floats:
    """Return shared weights (N, M) times the square of their share of the smaller side."""
    smaller = np.minimum(first[:, None], second[None, :])
    share = np.minimum(1.0, shared / np.maximum(smaller, 1e-9))
    weighed: Floats = shared * share**2
    return weighed


def _most_similar_files(prints: Sequence[Fingerprint], index: Index) -> Floats:
    """Return the weight of the most similar two files of each pair of hand-ins, shape (N, N)."""
    owners, parts = [], []
    for place, one in enumerate(prints):
        largest = sorted(one.files, key=lambda file: len(file.hashes), reverse=True)
        for file in largest[:MAX_COMPARED_FILES]:
            owners.append(place)
            parts.append(np.unique(file.hashes))
    rows = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    columns = np.searchsorted(index.known, np.concatenate(parts))
    shape = (len(parts), len(index.known))
    table = sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=shape)
    weighted = table.multiply(index.weights).tocsr()
    own = np.asarray(weighted.sum(axis=1)).ravel()
    starts = np.flatnonzero(np.diff(owners, prepend=-1))
    found = np.zeros((len(prints), len(prints)))
    for begin in range(0, len(parts), _CHUNK):
        chunk = slice(begin, begin + _CHUNK)
        shared = (weighted[chunk] @ table.T).toarray()
        best = np.maximum.reduceat(_contained(shared, own[chunk], own), starts, axis=1)
        having = np.array(owners)[starts]
        for row, owner in enumerate(owners[chunk]):
            found[owner, having] = np.maximum(found[owner, having], best[row])
    return found


def _evidence(
    strengths: Mapping[Scope, float], share: float, passages: Sequence[Passage]
) -> Evidence:
    scope = max(strengths, key=lambda one: strengths[one])
    lines = {
        (one.first.path, line)
        for one in passages
        for line in range(one.first_lines[0], one.first_lines[1] + 1)
    }
    fact = (
        f"Apart from names, comments and the order of methods, {share:.0%} of what one of them has "
        f"and few others have is also in the other's files, in {len(lines)} lines."
    )
    shown = passages[:MAX_PASSAGES]
    return Evidence(
        Kind.CODE if scope is Scope.WHOLE else Kind.CODE_PART,
        strengths[scope],
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
    """Return the passages that two hand-ins share, the strongest first."""
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
    # A passage ends where the matches in either file jump.
    steps, jumps = np.diff(mine), np.diff(theirs)
    breaks = np.flatnonzero((steps > _GAP) | (jumps > _GAP) | (jumps < 1)) + 1
    starts = np.concatenate([[0], breaks])
    sums = np.add.reduceat(weights, starts)
    ends = np.append(breaks, len(mine))
    for place in np.flatnonzero(sums >= MIN_PASSAGE).tolist():
        chosen = slice(starts[place], ends[place])
        yield Passage(
            float(sums[place]),
            one,
            _lines(one, mine[chosen]),
            other,
            _lines(other, theirs[chosen]),
        )


def _lines(file: CodeFile, places: npt.NDArray[np.int64]) -> tuple[int, int]:
    return int(file.begins[places].min()), int(file.ends[places].max())
