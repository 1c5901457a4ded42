"""The layers of confinement that a system offers, and a warning if some are missing."""

from __future__ import annotations

import os
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path

from cs285.grading.sandbox import bubblewrap, landlock, privileges, reading, system_calls


class Layer(StrEnum):
    """A layer of confinement; the values are sent as JSON."""

    LIMITS = "limits"
    CALLS = "calls"
    FILES = "files"
    SIGNALS = "signals"
    USER = "user"
    OUTER = "outer"


_DESCRIPTIONS = {
    Layer.LIMITS: "limits on time and memory",
    Layer.CALLS: "a list of allowed system calls (seccomp)",
    Layer.FILES: "a list of readable and writable files (Landlock)",
    Layer.SIGNALS: "scoped signals and sockets (Landlock of Linux 6.12)",
    Layer.USER: "a separate user (the grader is root and cannot change users here)",
    Layer.OUTER: "bubblewrap, which is installed but does not start",
}
"""Each layer in words that fit after "without"."""


def of_the_kernel() -> frozenset[Layer]:
    """Return the layers that this system offers to every process."""
    found = {Layer.LIMITS}
    if system_calls.are_filtered():
        found.add(Layer.CALLS)
    if landlock.version():
        found.add(Layer.FILES)
    if landlock.scopes_signals():
        found.add(Layer.SIGNALS)
    return frozenset(found)


def active() -> frozenset[Layer]:
    """Return the layers that confine the jobs of a sandbox that this process starts.

    This may take a second: if bubblewrap is installed, it is tried.
    """
    found = set(of_the_kernel())
    if bubblewrap.state() is bubblewrap.State.WORKS:
        found.add(Layer.OUTER)
    if os.geteuid() != 0 or _can_change_users(outer=Layer.OUTER in found):
        found.add(Layer.USER)
    return frozenset(found)


def _can_change_users(*, outer: bool) -> bool:
    """Return whether root's jobs can run as another user who can read Python."""
    user = privileges.transient_user(0)
    if user is None or outer or privileges.may_mount():
        return user is not None
    return not any(reading.closed_folder(path, user) for path in reading.libraries(Path("/")))


def missing(found: Iterable[Layer]) -> list[Layer]:
    """Return the layers that should be there but are not.

    The list of system calls also stops signals, so scoped signals are needed only without it.
    """
    needed = {Layer.LIMITS, Layer.CALLS, Layer.FILES, Layer.USER}
    known = frozenset(found)
    if Layer.CALLS not in known:
        needed.add(Layer.SIGNALS)
    return [layer for layer in Layer if layer in needed - known]


def warning() -> str:
    """Return one line for the grader about the layers missing here; empty if there are none."""
    lacking = missing(active())
    if bubblewrap.state() is bubblewrap.State.FAILS:
        lacking.append(Layer.OUTER)
    texts = [_DESCRIPTIONS[layer] for layer in lacking]
    if not texts:
        return ""
    return (
        f"note: student code runs here without {'; without '.join(texts)}. "
        "Use a container for hand-ins that you do not trust (docs/grading.md)."
    )
