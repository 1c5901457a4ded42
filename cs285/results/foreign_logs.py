"""Recognises logs that this project did not write, or that were rewritten after their run."""

from __future__ import annotations

import re
from collections.abc import Iterable

_FASTEST_STEP = 1e-5
"""Seconds per step of learning on hardware faster than any today."""
_FASTEST_PUBLIC_STEP = 1e-4
"""The same for public versions, which call PyTorch many times in each step."""
LEAST_S = 3e-4
"""If all times of a log are within this many seconds, they are not the times of a run."""
_EARLIER_TAG = re.compile(r"(?:Eval|Train|Initial)_[A-Z]")


def fastest_step(*, is_ours: bool) -> float:
    """Return the least seconds per step of learning, in this project or elsewhere."""
    return _FASTEST_STEP if is_ours else _FASTEST_PUBLIC_STEP


def was_written_again(last_step: int, took_s: float, *, is_ours: bool) -> bool:
    """Return whether the log of a learning run was rewritten after the run.

    People do so to make logs smaller. The times are then those of the rewriting program.

    Args:
        last_step: The last step of the log.
        took_s: Seconds between its first time and its last.
        is_ours: Whether this project wrote the log; it can train many runs at once.
    """
    return took_s < max(last_step * fastest_step(is_ours=is_ours), LEAST_S)


def tag_of_other_years(tags: Iterable[str]) -> str | None:
    """Return the first tag that only the homework of 2019 to 2022 logs: `Eval_AverageReturn`."""
    return next(filter(_EARLIER_TAG.match, tags), None)
