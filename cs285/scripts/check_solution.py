"""Checks the agent files of one or many solutions against the assignment's formulas.

python cs285/scripts/check_solution.py student_folder submission.zip --json
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from cs285.grading.sandbox import layers
from cs285.grading.sandbox.sandbox import Sandbox
from cs285.grading.solutions.reports import SolutionReport, format_solution, format_table
from cs285.grading.solutions.sources import read_solution
from cs285.infrastructure.errors import UserError
from cs285.scripts.arguments import ArgumentParser, at_least, run


def main(arguments: Sequence[str] | None = None) -> int:
    """Check and print; return 0 if all files are right, 1 if not, 2 if a path does not exist."""
    parser = ArgumentParser(
        "Compare agent files with the assignment's formulas: losses, gradients, "
        "targets, actions and the effects of updates. Student code runs confined in a child "
        "process. docs/grading.md explains the verdicts."
    )
    parser.add_argument(
        "paths",
        metavar="PATH",
        type=Path,
        nargs="+",
        help="a folder with some of the six agent files, a cs285 tree, or a zip of either",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.add_argument(
        "--workers",
        type=at_least(1),
        default=min(8, os.cpu_count() or 1),
        help="number of solutions to check in parallel",
    )
    chosen = parser.parse_args(arguments)
    for path in chosen.paths:
        if not path.exists():
            print(f"error: {path}: no such folder or zip file", file=sys.stderr)
            return 2
    if note := layers.warning():
        print(note, file=sys.stderr)
    reports = check_all(chosen.paths, chosen.workers)
    if chosen.json:
        print(json.dumps([report.as_json() for report in reports], indent=2))
    else:
        print("\n\n".join(format_solution(report) for report in reports))
        if len(reports) > 1:
            print(f"\n{format_table(reports)}")
    return 0 if all(report.passed for report in reports) else 1


def check_all(paths: Sequence[Path], workers: int) -> list[SolutionReport]:
    """Check solutions in parallel; each worker keeps one child process for all its solutions."""
    import torch

    torch.set_num_threads(1)
    workers = min(workers, len(paths))
    sandboxes: SimpleQueue[Sandbox] = SimpleQueue()
    opened = [Sandbox() for _ in range(workers)]
    for sandbox in opened:
        sandboxes.put(sandbox)

    def check(path: Path) -> SolutionReport:
        sandbox = sandboxes.get()
        try:
            return check_path(sandbox, path)
        finally:
            sandboxes.put(sandbox)

    try:
        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(check, paths))
    finally:
        for sandbox in opened:
            sandbox.close()


def check_path(sandbox: Sandbox, path: Path) -> SolutionReport:
    """Check one solution; problems with its files go into the report."""
    from cs285.grading.solutions.checking import check_files  # imports PyTorch

    try:
        solution = read_solution(path)
        files = check_files(sandbox, solution.files, modules=solution.modules)
    except UserError as error:
        return SolutionReport(str(path), error=str(error))
    except Exception as error:  # noqa: BLE001 - one hand-in must not cost the others their reports
        return SolutionReport(str(path), error=f"the checker failed: {error!r}")
    return SolutionReport(str(path), tuple(files), solution.problems)


if __name__ == "__main__":
    run(main)
