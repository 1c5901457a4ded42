"""The flag parser that all scripts share; every mistake gets one sentence."""

from __future__ import annotations

import argparse
import itertools
import os
import reprlib
import sys
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from cs285.infrastructure.errors import suggestion


class _Formatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows defaults where they exist."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None else super()._get_help_string(action)


class ArgumentParser(argparse.ArgumentParser):
    """Reports mistakes in one sentence and exits with status 2; `--help` gives the details."""

    def __init__(self, description: str) -> None:
        super().__init__(description=description, formatter_class=_Formatter)

    def parse_known_args(self, args: Iterable[str] | None = None, namespace: Any = None) -> Any:
        """Report unknown flags before missing ones, because an unknown flag may be misspelt."""
        given = sys.argv[1:] if args is None else list(args)
        flags = itertools.takewhile(lambda text: text != "--", given)
        unknown = [text for text in flags if text.startswith("--") and not self._knows(text)]
        if not unknown:
            chosen, unknown = super().parse_known_args(given, namespace)
        if unknown:
            flag = unknown[0].partition("=")[0]
            self.error(f"unknown argument {flag}{suggestion(flag, self._option_string_actions)}")
        return chosen, unknown

    def _knows(self, text: str) -> bool:
        """Return whether a text is a long flag or the beginning of one."""
        flag = text.partition("=")[0]
        return any(known.startswith(flag) for known in self._option_string_actions)

    def error(self, message: str) -> NoReturn:
        """Print what is wrong and where the flags are explained, then exit."""
        self.exit(
            2,
            f"error: {message.removeprefix('argument ')}; {self.prog} --help explains all flags\n",
        )


def run(main: Callable[[], int]) -> NoReturn:
    """Run a script and exit with its status, or silently with 0 if nobody reads its output."""
    try:
        status = main()
        sys.stdout.flush()
    except BrokenPipeError:  # as in `show_results.py | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    sys.exit(status)


def at_least(bound: int) -> Callable[[str], int]:
    """Return a function that parses a flag's text as a whole number of at least `bound`."""

    def number(text: str) -> int:
        try:
            if (value := int(text)) >= bound:
                return value
        except ValueError:
            pass
        raise argparse.ArgumentTypeError(
            f"must be a whole number of at least {bound}, not {reprlib.repr(text)}"
        )

    return number
