"""Ctrl-C and SIGTERM: asked to stop, training finishes its step, and no worker is left behind."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import wait
from types import FrameType
from typing import Any

from cs285.infrastructure.errors import NotWrittenError, is_unwritten

STOPPING = (signal.SIGINT, signal.SIGTERM)
POLITE = b"\nStopping after this step; a second Ctrl-C stops at once.\n"
SAME_PRESS_S = 0.1
"""Ctrl-C that comes again within this time was pressed once: `timeout` sends it to its child and to
the group of both, as other programs do that pass signals on."""


class StoppedError(Exception):
    """Training stopped because it was asked to."""

    def __init__(self, signum: int, command: str = "") -> None:
        super().__init__(signum, command)
        self.signum = signum
        self.command = command
        """How to resume."""

    def __str__(self) -> str:
        return f"Stopped. Resume with: {self.command}" if self.command else "Stopped."


class _Request:
    """The signal that asked this process to stop, 0 without one."""

    shared: Any = ctypes.c_int(0)
    """Of the parent and all its workers."""
    own = 0
    """Of this worker alone."""
    is_busy = False
    second_press_exits = False
    """A script exits; a notebook would lose everything, so there Ctrl-C interrupts as usual."""


def exit_on_second_press() -> None:
    """Let a second Ctrl-C end this process at once, rather than raise `KeyboardInterrupt`."""
    _Request.second_press_exits = True


def requested() -> int:
    """Return the number of the signal that asked to stop, or 0."""
    return _Request.own or int(_Request.shared.value)


def stop_workers() -> None:
    """Ask all workers to stop, for want of one that succeeded."""
    _Request.shared.value = _Request.shared.value or signal.SIGTERM


@contextlib.contextmanager
def deferred_signals() -> Iterator[None]:
    """Make Ctrl-C and SIGTERM requests to stop; a second Ctrl-C ends the process at once.

    The first one never does, even after a SIGTERM: who stops a service may send both.
    Signals that whoever started this process ignores, as `nohup` and background jobs do, stay
    ignored.
    """
    _Request.shared = multiprocessing.get_context("spawn").RawValue(ctypes.c_int, 0)
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may have handlers
        return

    pressed: list[float] = []

    def ask(signum: int, frame: FrameType | None) -> None:
        del frame
        if signum == signal.SIGINT:
            pressed.append(time.monotonic())
            if pressed[-1] - pressed[0] > SAME_PRESS_S:
                if not _Request.second_press_exits:
                    raise KeyboardInterrupt
                os._exit(128 + signum)
        if not _Request.shared.value:
            with contextlib.suppress(OSError):  # Ctrl-C may have ended who reads it
                os.write(2, POLITE)  # print could be interrupted in the middle of itself
        _Request.shared.value = _Request.shared.value or signum

    handled = [x for x in STOPPING if signal.getsignal(x) is not signal.SIG_IGN]
    before = {signum: signal.signal(signum, ask) for signum in handled}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
        _Request.shared = ctypes.c_int(0)


def shared_request() -> Any:
    """Return what `start_worker` takes in a worker of this process."""
    return _Request.shared


@contextlib.contextmanager
def held_signals() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait; processes that are started meanwhile hold them likewise."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def start_worker(shared: Any) -> None:
    """Set up a worker process: it stops when its parent is asked to, and ends when that ends.

    It is started with `held_signals`: a terminal sends Ctrl-C to all processes, also to those that
    have not come this far.
    """
    _Request.shared = shared
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears Ctrl-C for all
    signal.signal(signal.SIGTERM, _terminate_worker)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def in_worker(work: Callable[..., Any], *arguments: Any) -> Any:
    """Do a piece of work; a SIGTERM to this process alone ends it afterwards."""
    _Request.is_busy = True
    try:
        return work(*arguments)
    except NotImplementedError as error:
        if is_unwritten(error):  # the traceback that shows it does not reach the parent
            raise NotWrittenError(str(error)) from None
        raise
    finally:
        _Request.is_busy = False
        if _Request.own:
            os._exit(128 + _Request.own)


def _terminate_worker(signum: int, frame: FrameType | None) -> None:
    del frame
    if not _Request.is_busy:
        os._exit(128 + signum)
    _Request.own = signum


def _end_with_parent() -> None:
    """Wait for the end of the parent, however it ends, and follow it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
