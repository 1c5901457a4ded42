"""Prints a table of the results of the runs in a folder.

python cs285/scripts/show_results.py --data_dir data --since 2026-01-31T09:00
"""

import argparse
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from cs285.infrastructure.errors import UserError
from cs285.results.run_folders import find_runs
from cs285.results.summaries import format_results, read_summaries
from cs285.scripts.arguments import ArgumentParser


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; return 0, or 2 on bad input. A folder without finished runs is fine."""
    parser = ArgumentParser("Print a table of the results of runs.")
    parser.add_argument("--data_dir", type=Path, default=Path("data"), help="folder with the runs")
    parser.add_argument(
        "--since",
        type=_time,
        metavar="TIME",
        help="leave out runs that started before this time, such as 2026-01-31T09:00; by default "
        "show all",
    )
    args = parser.parse_args(arguments)
    try:
        summaries, problems = read_summaries(args.data_dir, args.since)
        count = len(find_runs(args.data_dir)[0])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if summaries:
        print(format_results(summaries))
    else:
        print(f"No finished runs among {count} run folders (hw5_*) in {args.data_dir}.")
    if problems:
        print("\nRuns without a result:", *problems, sep="\n  ")
    return 0


def _time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"must be a time in ISO format, such as 2026-01-31T09:00, not {text!r}"
        ) from None


if __name__ == "__main__":
    sys.exit(main())
