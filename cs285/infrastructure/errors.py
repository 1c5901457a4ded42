"""Errors and messages for mistakes the user can fix."""

import difflib
import traceback
from collections.abc import Iterable
from pathlib import Path

_PACKAGE = Path(__file__).parents[1]


class UserError(Exception):
    """A mistake the user can fix; the message says what is wrong, where, and what would be right.

    Scripts print the message after `error: `, without a traceback, and exit with status 2. The
    message begins with a lower-case letter and does not end with a full stop.
    """


def printable(text: object) -> str:
    r"""Return a text that is safe to print: control characters become `\x1b` and the like.

    File names and values in a summary may come from anyone.
    """
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return ` (did you mean `...`?)` for an unknown name, or nothing if none is similar."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.7)
    return f" (did you mean `{close[0]}`?)" if close else ""


class DivergenceError(Exception):
    """Losses of some runs, which the message names, became NaN or infinite; exit status 1."""


class NotWrittenError(NotImplementedError):
    """A method that students must write was called in another process, but is still a stub."""


def is_unwritten(error: NotImplementedError) -> bool:
    """Return whether an error was raised by a stub that students must complete, not by a library.

    PyTorch raises `NotImplementedError` for its own reasons. The stubs of the starter raise it in
    this package and name the method in its message.
    """
    if isinstance(error, NotWrittenError):
        return True
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    if not error.args or not frames:
        return False
    module = str(frames[-1].f_globals.get("__name__"))
    if module == "__main__":  # one of the scripts
        return Path(frames[-1].f_code.co_filename).absolute().is_relative_to(_PACKAGE)
    return module.partition(".")[0] == _PACKAGE.name
