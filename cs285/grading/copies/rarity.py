"""Weights what two hand-ins have in common by its rarity: what many have means little."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse

Hashes = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float64]

_PRIOR_HAVE, _PRIOR_ALL = 1.0, 4.0
"""Pseudocounts added to the hand-ins counted: those that have a hash, and all."""


class Index(NamedTuple):
    """Which hand-ins contain which hashes."""

    known: Hashes
    """All hashes, sorted, shape (K,)."""
    holders: npt.NDArray[np.int64]
    """The number of hand-ins with each hash, shape (K,)."""
    weights: Floats
    """The evidence of each hash if two hand-ins share it, from 0 to about 1, shape (K,)."""
    table: Any
    """A sparse matrix of hand-ins by hashes (N, K), 1 where a hand-in has a hash."""

    def shared(self) -> Floats:
        """Return the total weight that each pair of hand-ins shares, shape (N, N)."""
        weighted = self.table.multiply(self.weights).tocsr()
        dense: Floats = (weighted @ self.table.T).toarray()
        return dense

    def weigh(self, hashes: Hashes) -> Floats:
        """Return the weights of known hashes."""
        return self.weights[np.searchsorted(self.known, hashes)]


_SURPRISE_OF_300 = float(np.log(302.0))
"""The surprise of a hash that two of 300 hand-ins have. In a small course no hash is known to be
that rare, so none weighs as much."""


def make_index(hashes: Sequence[Hashes]) -> Index:
    """Return an index of the hashes of all hand-ins.

    The weight of a hash is the surprise that two hand-ins share it, -log p, divided by the largest
    surprise in a course of 300; p is estimated by the fraction of all other hand-ins that have it.
    """
    count = len(hashes)
    distinct = [np.unique(own) for own in hashes]
    known, columns = np.unique(np.concatenate(distinct), return_inverse=True)
    rows = np.repeat(np.arange(count), [len(own) for own in distinct])
    table = sparse.csr_matrix(
        (np.ones(len(rows)), (rows, columns.ravel())), shape=(count, len(known))
    )
    holders = np.bincount(columns.ravel(), minlength=len(known))
    others = np.maximum(holders - 2, 0)
    chance = (others + _PRIOR_HAVE) / (max(0, count - 2) + _PRIOR_ALL)
    return Index(known, holders, -np.log(chance) / _SURPRISE_OF_300, table)
