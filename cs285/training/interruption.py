"""Ctrl-C and SIGTERM: training and all its workers complete their step, then stop."""

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
"""Two interrupts within this time count as one press: `timeout` and other programs that pass
signals on send them to their child and also to its process group."""


class StoppedError(Exception):
    """Training has stopped on request."""

    def __init__(self, signum: int, command: str = "") -> None:
        super().__init__(signum, command)
        self.signum = signum
        self.command = command
        """The command that resumes."""

    def __str__(self) -> str:
        return f"Stopped. Resume with: {self.command}" if self.command else "Stopped."


class _Request:
    """The signal that asked this process to stop, or 0."""

    shared: Any = ctypes.c_int(0)
    """Shared by the parent and all its workers."""
    own = 0
    """The signal that was sent to this worker alone."""
    is_busy = False
    second_press_exits = False
    """Scripts exit; a notebook would lose everything, so there Ctrl-C interrupts as usual."""


def exit_on_second_press() -> None:
    """Make a second Ctrl-C end this process at once instead of raising `KeyboardInterrupt`."""
    _Request.second_press_exits = True


def requested() -> int:
    """Return the number of the signal that asked to stop, or 0."""
    return _Request.own or int(_Request.shared.value)


def stop_workers() -> None:
    """Ask all workers to stop, because one of them has failed."""
    _Request.shared.value = _Request.shared.value or signal.SIGTERM


@contextlib.contextmanager
def deferred_signals() -> Iterator[None]:
    """Turn Ctrl-C and SIGTERM into requests to stop; a second Ctrl-C stops at once.

    A first Ctrl-C is a request even after a SIGTERM, because service managers may send both.
    Signals that this process was started to ignore, as with `nohup` and in background jobs, remain
    ignored. In threads other than the main one nothing changes, since only that one has handlers.
    """
    _Request.shared = multiprocessing.get_context("spawn").RawValue(ctypes.c_int, 0)
    if threading.current_thread() is not threading.main_thread():
        try:
            yield
        finally:
            _Request.shared = ctypes.c_int(0)
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
            with contextlib.suppress(OSError):  # Ctrl-C may also have ended the reader
                os.write(2, POLITE)  # not print, which this may have interrupted
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
    """Return the argument of `start_worker` for workers of this process."""
    return _Request.shared


@contextlib.contextmanager
def held_signals() -> Iterator[None]:
    """Block Ctrl-C and SIGTERM in the context, also in processes that are started there."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def start_worker(shared: Any) -> None:
    """Set up a worker process, which stops when its parent is asked to, and ends with its parent.

    It must be started within `held_signals`, because a terminal sends Ctrl-C to all processes, even
    those that have not reached this point.
    """
    _Request.shared = shared
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent passes it on
    signal.signal(signal.SIGTERM, _terminate_worker)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def in_worker(work: Callable[..., Any], *arguments: Any) -> Any:
    """Call `work`; after a SIGTERM to this process alone, exit when it returns."""
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
    """Exit as soon as the parent has ended for any reason."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
