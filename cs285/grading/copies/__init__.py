"""Finds what hand-ins of one course have in common, for a person to look at; it judges nobody.

`fingerprint` reads one hand-in, `compare` ranks the pairs of a course. A pair comes with what was
found in both, side by side: that one run, or one text, is in two hand-ins is a fact, and why it is
there is for people to find out.
"""

from cs285.grading.copies.comparing import compare
from cs285.grading.copies.fingerprints import Fingerprint, fingerprint
from cs285.grading.copies.pairs import Evidence, Excerpt, Kind, Pair

__all__ = ["Evidence", "Excerpt", "Fingerprint", "Kind", "Pair", "compare", "fingerprint"]
