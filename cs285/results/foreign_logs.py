"""What can be seen of logs that this project did not write."""

from __future__ import annotations

import re
from collections.abc import Iterable

_FASTEST_STEP = 1e-5
"""Seconds per step of learning, on hardware faster than any today."""
_FASTEST_PUBLIC_STEP = 1e-4
"""The same for public versions, which call PyTorch many times in each step."""
LEAST_S = 3e-4
"""A log whose times all lie within so many seconds tells no time at all."""
_EARLIER_TAG = re.compile(r"(?:Eval|Train|Initial)_[A-Z]")


def fastest_step(*, is_ours: bool) -> float:
    """Return the seconds that a step of learning takes at least, in this project or elsewhere."""
    return _FASTEST_STEP if is_ours else _FASTEST_PUBLIC_STEP


def was_written_again(last_step: int, took_s: float, *, is_ours: bool) -> bool:
    """Return whether a log of learning was written again after its run.

    People do so to make logs smaller. The times are then those of the program that wrote them.

    Args:
        last_step: The last step of the log.
        took_s: Seconds between its first time and its last.
        is_ours: Whether a run of this project wrote it, many of which can learn at once.
    """
    return took_s < max(last_step * fastest_step(is_ours=is_ours), LEAST_S)


def tag_of_other_years(tags: Iterable[str]) -> str | None:
    """Return the first tag that only the homework of 2019 to 2022 logs: `Eval_AverageReturn`."""
    return next(filter(_EARLIER_TAG.match, tags), None)
