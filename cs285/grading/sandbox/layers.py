"""Which layers of confinement a system offers, and what to tell the grader if some are missing."""

from __future__ import annotations

import os
from collections.abc import Iterable
from enum import StrEnum

from cs285.grading.sandbox import bubblewrap, landlock, privileges, system_calls


class Layer(StrEnum):
    """A layer of confinement; the value is what travels as JSON."""

    LIMITS = "limits"
    CALLS = "calls"
    FILES = "files"
    SIGNALS = "signals"
    USER = "user"
    OUTER = "outer"


_WITHOUT = {
    Layer.LIMITS: "bounds on time and memory",
    Layer.CALLS: "a list of allowed system calls (seccomp)",
    Layer.FILES: "a list of readable and writable files (Landlock)",
    Layer.SIGNALS: "scoped signals and sockets (Landlock of Linux 6.12)",
    Layer.USER: "a user of their own (the grader is root and cannot change users here)",
    Layer.OUTER: "bubblewrap, which is installed and did not start",
}
"""What is missing without a layer."""


def active() -> frozenset[Layer]:
    """Return the layers that confine jobs started by this process, as the system offers them.

    `OUTER` is not among them: a sandbox knows whether bubblewrap has started.
    """
    found = {Layer.LIMITS}
    if system_calls.are_filtered():
        found.add(Layer.CALLS)
    if landlock.version():
        found.add(Layer.FILES)
    if landlock.scopes_signals():
        found.add(Layer.SIGNALS)
    if os.geteuid() != 0 or privileges.transient_user(0) is not None:
        found.add(Layer.USER)
    return frozenset(found)


def missing(found: Iterable[Layer]) -> list[Layer]:
    """Return the layers that should be there and are not.

    Without scoped signals the list of system calls keeps signals away, so these are not missed.
    """
    needed = {Layer.LIMITS, Layer.CALLS, Layer.FILES, Layer.USER}
    known = frozenset(found)
    if Layer.CALLS not in known:
        needed.add(Layer.SIGNALS)
    return [layer for layer in Layer if layer in needed - known]


def warning() -> str:
    """Return one line for the grader about what confines no student code here; empty if all does.

    It may take a second: bubblewrap is tried, if it is installed.
    """
    lacking = missing(active())
    if bubblewrap.state() is bubblewrap.State.FAILS:
        lacking.append(Layer.OUTER)
    texts = [_WITHOUT[layer] for layer in lacking]
    if not texts:
        return ""
    return (
        f"note: student code runs here without {'; without '.join(texts)}. "
        "Use a container for hand-ins that you do not trust (docs/grading.md)."
    )
