"""Makes a report on all runs in a folder: a figure per question, a PDF and a web page.

python cs285/scripts/make_report.py --data_dir data --out report
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from cs285.infrastructure.errors import UserError, printable
from cs285.report.build import build
from cs285.scripts.arguments import ArgumentParser, run


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the report; return the exit status."""
    parser = ArgumentParser("Make a report on all runs in a folder.")
    parser.add_argument(
        "--data_dir",
        type=Path,
        nargs="+",
        action="extend",
        metavar="DIR",
        help="folders with runs, searched at any depth; may be given several times (default: data)",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("report"), help="folder to write the report to"
    )
    args = parser.parse_args(arguments)
    try:
        collection, sections = build(args.data_dir or [Path("data")], args.out)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    made = sum(section.plot is not None for section in sections)
    print(f"{made} of {len(sections)} figures, from {len(collection.runs)} runs.")
    for name, reason in collection.left_out:
        print(printable(f"left out  {name}: {reason}"))
    for section in sections:
        for what, command in section.missing:
            print(f"\n{section.number} {section.title}, no finished runs yet: {what}\n  {command}")
    print(f"\n{args.out / 'index.html'}\n{args.out / 'report.pdf'}")
    return 0


if __name__ == "__main__":
    run(main)
