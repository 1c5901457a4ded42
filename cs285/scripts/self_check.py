"""Try your methods on made-up transitions, and see what to check again.

python cs285/scripts/self_check.py            # everything that the homework asks for
python cs285/scripts/self_check.py dqn cql    # parts of it

It knows no formula: it compares what a method does before and after a reward, a termination or a
network is changed. So "nothing odd" does not mean that a method is right.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from cs285.probing.classes import CLASSES, FINETUNE
from cs285.scripts.arguments import ArgumentParser
from cs285.training import console

if TYPE_CHECKING:
    from cs285.probing.self_check import Item
    from cs285.training.stages import Plan

NAMES = (*CLASSES, FINETUNE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what is odd; return 0 if nothing is, 1 if something is, 2 on misuse.

    Methods that are not written yet count as odd, because they could not be tried.
    """
    console.forgive()
    parser = ArgumentParser(
        "Try the methods that you have written on made-up transitions, and say what to check "
        "again. Exit status: 0 if nothing is odd, 1 if something is odd or not written yet."
    )
    parser.add_argument(
        "what", nargs="*", type=_name, metavar="AGENT", help=f"some of {', '.join(NAMES)}"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    chosen = parser.parse_args(arguments)
    from cs285.probing.self_check import State
    from cs285.probing.student_files import check_files

    # The output of methods, such as shapes, stays visible but is not part of the report.
    with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
        # Such as PyTorch's about the order of steps, once for each of many small agents.
        warnings.simplefilter("ignore")
        items = check_files([name for name in NAMES if name in (chosen.what or NAMES)], _load_plan)
    if chosen.json:
        print(json.dumps([item.as_json for item in items], indent=2))
    else:
        print("\n".join(_lines(items)))
    return int(any(item.state is not State.FINE for item in items))


def _load_plan() -> Plan:
    from cs285.scripts.run_hw5_finetune import finetune

    return finetune


def _lines(items: Sequence[Item]) -> Iterator[str]:
    """Yield the lines of the report, file by file."""
    from cs285.probing.self_check import State

    width = max(len(state) for state in State)
    for file, members in groupby(items, key=lambda item: item.file):
        yield file
        for item in members:
            yield f"  {item.state:<{width}}  {item.method}"
            if item.state is State.LOOK:
                for text in item.texts:
                    yield textwrap.fill(
                        text, 100, initial_indent=" " * 6 + "- ", subsequent_indent=" " * 8
                    )
            for text in item.texts if item.state is State.UNWRITTEN else ():
                yield f"{' ' * 8}{text}"


def _name(text: str) -> str:
    if text not in NAMES:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(NAMES)}")
    return text


if __name__ == "__main__":
    sys.exit(main())
