"""Grades one hand-in: its files, its logs and its code."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from cs285.grading.archives import UnsafeHandInError, printable
from cs285.grading.hand_ins.plausibility import find_misfits
from cs285.grading.hand_ins.rubric import Rubric, load_rubric
from cs285.grading.hand_ins.scoring import is_of_kind, score_question
from cs285.grading.hand_ins.submitted_runs import Run, find_runs
from cs285.grading.hand_ins.unpacking import HandIn, is_junk, open_hand_in
from cs285.grading.solutions.assignment import AGENT_FILES
from cs285.grading.solutions.code_check import check_code as check_agent_files
from cs285.results.run_folders import is_event_file

SHOWN = 20
"""Lines of one message; a hand-in decides how much there is to say."""


@dataclass(frozen=True)
class Item:
    """One line of a grade."""

    name: str
    score: float
    maximum: float
    message: str


@dataclass(frozen=True)
class GradeResult:
    """The grade of one hand-in."""

    name: str
    items: tuple[Item, ...]
    seconds: float

    @property
    def total(self) -> float:
        """The points that were given."""
        return round(sum(item.score for item in self.items), 2)

    @property
    def maximum(self) -> float:
        """The points that there are."""
        return round(sum(item.maximum for item in self.items), 2)

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "name": self.name,
            "total": self.total,
            "maximum": self.maximum,
            "seconds": self.seconds,
            "items": [asdict(item) for item in self.items],
        }

    def as_gradescope(self) -> dict[str, Any]:
        """Return what Gradescope reads from `results.json`."""
        return {
            "score": self.total,
            "execution_time": round(self.seconds, 1),
            "output": f"{self.total:g} of {self.maximum:g} points",
            "output_format": "text",
            "test_output_format": "text",
            "test_name_format": "text",
            "visibility": "visible",
            "stdout_visibility": "hidden",
            "tests": [
                {
                    "number": str(number),
                    "name": item.name,
                    "score": item.score,
                    "max_score": item.maximum,
                    "output": item.message,
                    "visibility": "visible",
                }
                for number, item in enumerate(self.items, 1)
            ],
        }


def grade_path(path: Path, rubric: Path | None = None, *, check_code: bool = True) -> GradeResult:
    """Grade a hand-in, a zip or a folder.

    Args:
        path: The hand-in.
        rubric: A YAML file of weights and thresholds; by default the one of this package.
        check_code: Whether to run its agent files against the formulas, which takes some seconds;
            without, there are no points for code.

    Raises:
        UserError: If there is no such path, or the rubric is not usable. Whatever is wrong with
            the hand-in itself is in the grade.
    """
    started = time.perf_counter()
    loaded = load_rubric(rubric)
    try:
        with open_hand_in(path) as hand_in:
            items = _grade_files(hand_in, loaded)
    except UnsafeHandInError as error:
        maximum = loaded.maximum - (0 if check_code else loaded.points.code)
        items = [Item("Hand-in", 0.0, maximum, f"It cannot be opened: {printable(error, 400)}")]
    else:
        # Last of all: what student code might do to this machine can no longer change the rest.
        items += _grade_code(path, loaded.points.code) if check_code else []
    return GradeResult(printable(path.name), tuple(items), time.perf_counter() - started)


def _grade_files(hand_in: HandIn, rubric: Rubric) -> list[Item]:
    runs, problems = find_runs(hand_in)
    misfits = find_misfits(runs)
    items = [
        _size(hand_in, rubric),
        _structure(hand_in, rubric.points.structure),
        _names(runs, rubric),
        _logs(runs, [*hand_in.problems, *problems], misfits, rubric.points.logs),
    ]
    for key, question in rubric.questions.items():
        for experiment, credit in score_question(question, runs, rubric, misfits):
            name = f"{key} ({question.title}): {experiment.name}"
            items.append(_item(name, credit.share, experiment.points, credit.message.splitlines()))
    return items


def _item(name: str, share: float, maximum: float, lines: Sequence[str]) -> Item:
    shown = list(lines[:SHOWN])
    if len(lines) > SHOWN:
        shown.append(f"... and {len(lines) - SHOWN} more")
    return Item(name, round(share * maximum, 2), maximum, "\n".join(shown))


def _size(hand_in: HandIn, rubric: Rubric) -> Item:
    megabytes = hand_in.packed / 1e6
    fits = megabytes <= rubric.max_megabytes
    text = f"{megabytes:.1f} MB packed, at most {rubric.max_megabytes:g}"
    return _item("Size", float(fits), rubric.points.size, [text])


def _structure(hand_in: HandIn, points: float) -> Item:
    """Look for the folders that the handout asks for, at the top or in one folder."""
    kept = [path for path in hand_in.files if not is_junk(path)]
    tops = {path.parts[0] for path in kept if len(path.parts) > 1}
    wrapped = len(tops) == 1 and not tops & {"data", "cs285"}
    root = PurePosixPath(*tops) if wrapped else PurePosixPath()
    junk = sorted({printable(path) for path in hand_in.files if is_junk(path)})
    agents = root / "cs285" / "agents"
    absent = [name for name in AGENT_FILES if agents / name not in hand_in.files]
    logged = any(path.is_relative_to(root / "data") and is_event_file(path.name) for path in kept)
    checks = (
        ("" if logged else "there is no folder data/ with event files"),
        (f"cs285/agents/ lacks {', '.join(absent)}" if absent else ""),
        (f"files that computers leave behind, such as {junk[0]}" if junk else ""),
    )
    lines = [line for line in checks if line]
    share = 1 - len(lines) / len(checks)
    return _item("Structure", share, points, lines or ["data/ and cs285/ are there"])


def _names(runs: Sequence[Run], rubric: Rubric) -> Item:
    """Look at the question in each run's name, and whether it is one that asks for such a run."""
    lines = []
    for run in runs:
        asking = [
            key
            for key, question in rubric.questions.items()
            if any(is_of_kind(run, experiment) for experiment in question.experiments)
        ]
        if run.prefix not in (asking or rubric.questions):
            wanted = " or ".join(f"{key}_" for key in asking or rubric.questions)
            lines.append(f"{run.name}: begins with {run.prefix or 'no question'}, not {wanted}")
    share = 1 - len(lines) / len(runs) if runs else 0.0
    said = [f"{len(runs)} runs"] if runs else ["there are no runs"]
    return _item("Names of run folders", share, rubric.points.names, lines or said)


def _logs(
    runs: Sequence[Run],
    problems: Sequence[str],
    misfits: Mapping[Run, Sequence[str]],
    points: float,
) -> Item:
    """Say what does not fit and what could not be read; only the former and damage cost points."""
    lines = [f"{run.name} does not fit: {fact}" for run in runs for fact in misfits[run]]
    lines += [f"{run.name}: {problem}" for run in runs for problem in run.unreadable]
    lines += [
        f"{run.name}: its clock goes back once, by {run.log.setbacks[0]:,.0f} s, as one does that "
        "is set right; this costs nothing"
        for run in runs
        if len(run.log.setbacks) == 1
    ]
    sound = sum(not misfits[run] and not run.unreadable for run in runs)
    said = [f"{sound} of {len(runs)} runs fit what their folders say", *lines, *problems]
    return _item("Logs", sound / len(runs) if runs else 0.0, points, said)


def _grade_code(path: Path, points: float) -> list[Item]:
    return [
        _item(
            f"Code: {verdict.file}",
            verdict.share,
            round(points / len(AGENT_FILES), 2),
            [verdict.summary, *verdict.lines],
        )
        for verdict in check_agent_files(path)
    ]
