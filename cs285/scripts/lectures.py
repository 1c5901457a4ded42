"""Makes a figure for a lecture, with the numbers behind it.

python cs285/scripts/lectures.py bonus --out lectures
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from cs285.infrastructure.errors import UserError
from cs285.infrastructure.files import prepare_folder
from cs285.lectures import lectures, load
from cs285.scripts.arguments import ArgumentParser, run


def main(arguments: Sequence[str] | None = None) -> int:
    """Write PNG, PDF and CSV files and print the numbers; return 0, or 2 on bad input."""
    parser = ArgumentParser("Make a figure for a lecture (PNG and PDF) and its numbers (CSV).")
    parser.add_argument("name", choices=lectures(), help="which figure")
    parser.add_argument(
        "--out", type=Path, default=Path("lectures"), metavar="DIR", help="where files are written"
    )
    args = parser.parse_args(arguments)
    try:
        prepare_folder(args.out)
        print(*load(args.name).make(args.out), sep="\n")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    run(main)
