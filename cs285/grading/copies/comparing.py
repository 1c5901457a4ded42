"""Ranks the pairs of hand-ins of a course by what they have in common."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from cs285.grading.copies.code_pairs import compare_code
from cs285.grading.copies.fingerprints import Fingerprint
from cs285.grading.copies.pairs import Evidence, Pair, make_pair
from cs285.grading.copies.run_pairs import compare_runs

MAX_PAIRS = 200
"""Maximum number of pairs in a list; nobody reads a longer one."""


def compare(fingerprints: Mapping[str, Fingerprint], most: int = MAX_PAIRS) -> list[Pair]:
    """Return the pairs of hand-ins with something in common, the strongest evidence first.

    Args:
        fingerprints: By the name of the hand-in.
        most: Maximum number of pairs to return.
    """
    names, prints = list(fingerprints), list(fingerprints.values())
    found: defaultdict[tuple[int, int], list[Evidence]] = defaultdict(list)
    for places, evidence in compare_code(prints).items():
        found[places].append(evidence)
    for places, several in compare_runs(prints).items():
        found[places] += several
    pairs = [
        make_pair(names[first], names[second], evidence)
        for (first, second), evidence in found.items()
    ]
    pairs.sort(key=lambda pair: pair.rank, reverse=True)
    return pairs[:most]
