"""Writes the verdicts on solutions for people, one in full or many as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cs285.grading.solutions import judging
from cs285.grading.solutions.checking import ALGORITHMS, FileReport

_SHORT = {judging.VARIANT: "variant", judging.UNJUDGED: "?"}
_RIGHT = (judging.CORRECT, judging.VARIANT)


@dataclass(frozen=True)
class SolutionReport:
    """What is said about one hand-in."""

    name: str
    files: tuple[FileReport, ...] = ()
    problems: tuple[str, ...] = ()
    error: str = ""
    """Why it could not be checked at all."""

    @property
    def passed(self) -> bool:
        """Every file that is there is right; files that are not there are not held against it."""
        verdicts = {file.verdict for file in self.files} - {judging.MISSING}
        return not self.error and verdicts <= set(_RIGHT)

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "name": self.name,
            "passed": self.passed,
            "error": self.error,
            "problems": list(self.problems),
            "files": [file.as_json() for file in self.files],
        }


def format_solution(report: SolutionReport) -> str:
    """Write one solution: every file, every method that is not plainly correct."""
    if report.error:
        return f"{report.name}\n  {report.error}"
    lines = [report.name]
    for file in report.files:
        lines.append(f"  {file.file:<16} {file.verdict}")
        for finding in file.findings:
            if finding.verdict != judging.CORRECT and (finding.method or finding.text):
                place = f"{finding.method}: " if finding.method else ""
                text = f": {finding.text}" if finding.text else ""
                lines.append(f"      {place}{finding.verdict}{text}")
    lines += [f"  note: {problem}" for problem in report.problems]
    return "\n".join(lines)


def format_table(reports: Sequence[SolutionReport]) -> str:
    """Write one line a solution and one column a file."""
    rows = [["solution", *ALGORITHMS]]
    for report in reports:
        verdicts = [_SHORT.get(file.verdict, file.verdict) for file in report.files]
        rows.append([report.name, *(verdicts or ["refused"] * len(ALGORITHMS))])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
