"""Reports on solutions: one in full, or many as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cs285.grading.archives import printable
from cs285.grading.solutions.assignment import AGENTS
from cs285.grading.solutions.verdicts import Finding, Verdict, most_serious

LONGEST = 600
"""Maximum length of one message, in characters: it may quote an error of a student's code."""


@dataclass(frozen=True)
class FileReport:
    """The verdict on one agent file."""

    file: str
    findings: tuple[Finding, ...]

    @property
    def verdict(self) -> Verdict:
        """The most serious verdict on its methods."""
        return most_serious(finding.verdict for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "file": self.file,
            "verdict": str(self.verdict),
            "findings": [finding.as_json() for finding in self.findings],
        }


@dataclass(frozen=True)
class SolutionReport:
    """The report on one solution."""

    name: str
    files: tuple[FileReport, ...] = ()
    problems: tuple[str, ...] = ()
    """Files that were not read, and why."""
    error: str = ""
    """Why it could not be checked at all."""

    @property
    def passed(self) -> bool:
        """Whether every file that was handed in is right; missing files do not count against it."""
        verdicts = [file.verdict for file in self.files]
        return not self.error and all(
            verdict.is_right or verdict is Verdict.MISSING for verdict in verdicts
        )

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
    """Return one report as text: every file, and every method that is not plainly correct."""
    name = printable(report.name)
    if report.error:
        return f"{name}\n  {printable(report.error, LONGEST)}"
    lines = [name]
    for file in report.files:
        lines.append(f"  {file.file:<16} {file.verdict}")
        for finding in file.findings:
            if finding.verdict is not Verdict.CORRECT and (finding.method or finding.text):
                place = f"{printable(finding.method)}: " if finding.method else ""
                text = f": {printable(finding.text, LONGEST)}" if finding.text else ""
                lines.append(f"      {place}{finding.verdict}{text}")
    lines += [f"  note: {printable(problem, LONGEST)}" for problem in report.problems]
    return "\n".join(lines)


def format_table(reports: Sequence[SolutionReport]) -> str:
    """Return a table with one row per solution and one column per file."""
    rows = [["solution", *AGENTS]]
    for report in reports:
        verdicts = [file.verdict.short for file in report.files]
        rows.append([printable(report.name), *(verdicts or ["refused"] * len(AGENTS))])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
