"""Finds what the hand-ins of a course have in common, for a person to look at; it accuses nobody.

`fingerprint` reads one hand-in, `compare` ranks the pairs of a course. Each pair comes with the
matching places of both hand-ins, side by side. That the same run or the same text is in two
hand-ins is a fact; why it is there is for people to find out.
"""

from cs285.grading.copies.comparing import compare
from cs285.grading.copies.fingerprints import Fingerprint, fingerprint
from cs285.grading.copies.pairs import Evidence, Excerpt, Kind, Pair

__all__ = ["Evidence", "Excerpt", "Fingerprint", "Kind", "Pair", "compare", "fingerprint"]
