"""Prints a table of what the runs in a folder arrived at.

python cs285/scripts/show_results.py --data_dir data --since 2026-01-31T09:00
"""

import argparse
import sys
from datetime import datetime
from pathlib import Path

from cs285.infrastructure.errors import UserError
from cs285.infrastructure.results import format_results, read_summaries


def main() -> int:
    """Print the table; return the exit status."""
    parser = argparse.ArgumentParser(description="Print a table of what runs arrived at.")
    parser.add_argument("--data_dir", type=Path, default=Path("data"))
    parser.add_argument("--since", type=_time, help="leave out runs that started before this time")
    args = parser.parse_args()
    try:
        summaries, problems = read_summaries(args.data_dir, args.since)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(format_results(summaries))
    if problems:
        print("\nRuns without a result:", *problems, sep="\n  ")
    return 0


def _time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time in ISO format, such as 2026-01-31T09:00"
        ) from None


if __name__ == "__main__":
    sys.exit(main())
