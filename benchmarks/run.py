"""Compare this package with other ways to train, print a table and write a JSON file.

    python benchmarks/run.py --quick

See README.md in this folder.
"""

from __future__ import annotations

import argparse
import json
import math
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

sys.path.insert(0, str(Path(__file__).parents[1]))  # this tree, whatever is installed

import machine
from measure import Bench, ContenderError, Timing
from sections import SECTIONS, Row
from targets import TARGETS, Results

ON_REQUEST = {"compilers", "homework"}
"""Sections that run only when they are named, because they take long or are rarely needed."""


def main() -> None:
    """Measure the chosen sections."""
    arguments = parse_arguments()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    names = [
        name
        for name in SECTIONS
        if (name.startswith(tuple(arguments.only)) if arguments.only else name not in ON_REQUEST)
    ]
    report: dict[str, Any] = {"machine": machine.describe(), "arguments": _plain(vars(arguments))}
    rows: list[Row] = []
    print(*(f"{key}: {value}" for key, value in report["machine"].items()), sep="\n")
    with Bench(
        quick=arguments.quick,
        repeats=arguments.repeats,
        contender_python=arguments.contender_python,
    ) as bench:
        for name in names:
            new = measure(bench, name)
            print_rows(new)
            rows += new
            # Written after every section, so that stopping loses at most one.
            targets = [target.row(Results(rows)) for target in TARGETS]
            report |= {"rows": [row_values(row) for row in rows], "targets": targets}
            arguments.out.write_text(json.dumps(report, indent=2, allow_nan=False) + "\n")
    print_targets(targets, quick=arguments.quick)
    print(f"\nWrote {arguments.out}")


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Compare this package with its contenders.")
    add = parser.add_argument
    add("--quick", action="store_true", help="shorter workloads, which favour the starter")
    add(
        "--only",
        nargs="+",
        metavar="NAME",
        help=f"only sections whose names begin with one of these; all are: {', '.join(SECTIONS)}",
    )
    add("--repeats", type=int, help="turns of every contender (default: 5, or 2 with --quick)")
    add("--out", type=Path, default=Path(__file__).with_name("results.json"), help="JSON file")
    add(
        "--contender-python",
        default=sys.executable,
        metavar="PATH",
        help="interpreter with JAX and d3rlpy (default: this one)",
    )
    arguments = parser.parse_args()
    for name in arguments.only or []:
        if not any(section.startswith(name) for section in SECTIONS):
            parser.error(f"no section begins with {name!r}; the sections are {', '.join(SECTIONS)}")
    if arguments.repeats is not None and arguments.repeats < 1:
        parser.error("--repeats must be at least 1")
    arguments.repeats = arguments.repeats or (2 if arguments.quick else 5)
    return arguments


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {key: str(value) if isinstance(value, Path) else value for key, value in values.items()}


def measure(bench: Bench, name: str) -> list[Row]:
    """Measure one section; if it fails as a whole, its row says why."""
    try:
        return SECTIONS[name](bench)
    except ContenderError as error:
        bench.end_workers()
        return [Row(name, "all", "", Timing(problem=str(error)))]


def row_values(row: Row) -> dict[str, Any]:
    """Return a row as plain values."""
    values = [row.shown(value) for value in row.timing.values]
    found = {"section": row.section, "name": row.name, "unit": row.unit}
    if row.timing.problem:
        return {**found, "problem": row.timing.problem}
    best = max(values) if row.inverts else min(values)
    median = row.shown(row.timing.median)
    return {**found, "median": median, "best": best, "values": values, "times_starter": row.ratio}


def print_rows(rows: Sequence[Row]) -> None:
    """Print the table of one section."""
    print(f"\n{rows[0].section:<58}{'median':>10}{'best':>10}  {'unit':<30}{'x starter':>9}")
    for row in map(row_values, rows):
        if "problem" in row:
            print(f"  {row['name']:<56}  {row['problem']}")
        else:
            ratio = f"{row['times_starter']:9.2f}" if row["times_starter"] else ""
            numbers = f"{_number(row['median']):>10}{_number(row['best']):>10}"
            print(f"  {row['name']:<56}{numbers}  {row['unit']:<30}{ratio}", flush=True)


def print_targets(targets: Sequence[dict[str, Any]], *, quick: bool) -> None:
    """Print targets and measured values."""
    note = " (quick: the targets are for the full workloads)" if quick else ""
    print(f"\n{'Target' + note:<58}{'measured':>10}  {'promised':<16}met")
    for row in targets:
        measured = row["measured"]
        shown = "-" if measured is None else _number(measured)
        met = "not measured" if measured is None else "yes" if row["met"] else "no"
        print(f"  {row['target']:<56}{shown:>10}  {row['bound']:<16}{met}")


def _number(value: float) -> str:
    """Format with three digits, or all digits before the decimal point."""
    if value == 0 or not math.isfinite(value):
        return str(value)
    return f"{value:,.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("Stopped.")
