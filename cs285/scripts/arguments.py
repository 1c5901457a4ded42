"""Flags: what all scripts take from them, and one sentence for what cannot be taken."""

from __future__ import annotations

import argparse
import itertools
import reprlib
import sys
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from cs285.infrastructure.errors import suggestion


class _Formatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows defaults, where there are any."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None else super()._get_help_string(action)


class ArgumentParser(argparse.ArgumentParser):
    """Answers mistakes with one sentence and status 2; `--help` explains at length."""

    def __init__(self, description: str) -> None:
        super().__init__(description=description, formatter_class=_Formatter)

    def parse_known_args(self, args: Iterable[str] | None = None, namespace: Any = None) -> Any:
        """Refuse unknown flags, and do so before a flag is missed that one of them may be."""
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
        """Tell whether a text is a long flag or the beginning of one."""
        flag = text.partition("=")[0]
        return any(known.startswith(flag) for known in self._option_string_actions)

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and where to read what would be right."""
        self.exit(
            2, f"error: {message.removeprefix('argument ')}; {self.prog} --help explains all\n"
        )


def at_least(bound: int) -> Callable[[str], int]:
    """Return what turns the text of a flag into a whole number from `bound` on."""

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
