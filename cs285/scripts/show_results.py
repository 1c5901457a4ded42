"""Prints a table of the results of all runs in some folders, including those of public versions.

python cs285/scripts/show_results.py --data_dir data --since 2026-01-31T09:00
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from cs285.infrastructure.errors import UserError, printable
from cs285.report.results_table import read_logs
from cs285.results.summaries import (
    all_runs,
    explain_errors,
    explain_returns,
    format_results,
    read_summaries,
)
from cs285.scripts.arguments import ArgumentParser, run


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; return 0, or 2 on bad input. A folder without finished runs is fine."""
    parser = ArgumentParser("Print a table of the results of runs.")
    parser.add_argument(
        "--data_dir",
        type=Path,
        nargs="+",
        action="extend",
        metavar="DIR",
        help="folders with runs, searched at any depth; may be given several times (default: data)",
    )
    parser.add_argument(
        "--since",
        type=_time,
        metavar="TIME",
        help="leave out runs that started before this time, such as 2026-01-31T09:00; by default "
        "show all",
    )
    args = parser.parse_args(arguments)
    data_dirs = args.data_dir or [Path("data")]
    try:
        results, problems = read_summaries(data_dirs, args.since)
        more_results, more_problems = read_logs(data_dirs, args.since)
        count = len(all_runs(data_dirs))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    results += more_results
    problems += more_problems
    if results:
        print(format_results(results))
        if kinds := explain_returns(results):
            print(f"\n{kinds}")
        if remark := explain_errors(results):
            print(f"\n{remark}")
        if more_results:
            print(f"\n{_on_logs(len(more_results), data_dirs)}")
        remarks = [f"{run.name}: {'; '.join(run.notes)}" for run in results if run.notes]
        if remarks:
            print("\nOn runs in the table:", *remarks, sep="\n  ")
    else:
        print(f"No finished runs among {count} run folders in {', '.join(map(str, data_dirs))}.")
    if problems:
        print("\nRuns without a result:", *problems, sep="\n  ")
    return 0


def _on_logs(count: int, data_dirs: Sequence[Path]) -> str:
    """Say which results come from logs, and which command shows their figures."""
    runs = "1 run has" if count == 1 else f"{count} runs have"
    command = shlex.join(["cs285/scripts/make_report.py", "--data_dir", *map(str, data_dirs)])
    return (
        f"{runs} no summary.json, as in public versions of the homework: the numbers come from "
        f"the logs. Figures of all runs:\n  python {printable(command)}"
    )


def _time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"must be a time in ISO format, such as 2026-01-31T09:00, not {text!r}"
        ) from None


if __name__ == "__main__":
    run(main)
