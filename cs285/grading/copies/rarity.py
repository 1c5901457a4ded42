"""How much it says that two hand-ins have something in common: what many have says little."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse

Hashes = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float64]

_PRIOR_HAVE, _PRIOR_ALL = 1.0, 4.0
"""Hand-ins that are added to those counted: one that has a thing, among so many."""


class Index(NamedTuple):
    """Which hand-ins hold which hashes."""

    known: Hashes
    """All hashes, sorted, shape (K,)."""
    holders: npt.NDArray[np.int64]
    """The number of hand-ins with each, shape (K,)."""
    weights: Floats
    """What each says if two have it, from 0 to about 1, shape (K,)."""
    table: Any
    """A sparse matrix of hand-ins by hashes, 1 where a hand-in has a hash."""

    def shared(self) -> Floats:
        """Return the weight of what every two hand-ins share, shape (N, N)."""
        weighted = self.table.multiply(self.weights).tocsr()
        dense: Floats = (weighted @ self.table.T).toarray()
        return dense

    def weigh(self, hashes: Hashes) -> Floats:
        """Return the weights of known hashes."""
        return self.weights[np.searchsorted(self.known, hashes)]


_SURPRISE_OF_300 = float(np.log(302.0))
"""That of a thing which two of 300 hand-ins have. In a small course nothing is known to be rare,
so nothing says as much."""


def make_index(hashes: Sequence[Hashes]) -> Index:
    """Return the index of the hashes of each hand-in.

    The weight of a hash is the surprise that two hand-ins have it, -log p, as a share of the
    greatest one in a course of 300; p is estimated by the part of all others that have it too.
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
