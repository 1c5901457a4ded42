"""Grades one hand-in by its files, its logs and its code."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from cs285.grading.archives import UnsafeHandInError, printable
from cs285.grading.hand_ins.other_homework import other_homework
from cs285.grading.hand_ins.plausibility import (
    Inconsistency,
    find_inconsistencies,
    why_written_again,
)
from cs285.grading.hand_ins.rubric import Rubric, load_rubric
from cs285.grading.hand_ins.scoring import WRITTEN_AGAIN, is_of_kind, score_question
from cs285.grading.hand_ins.submitted_runs import FoundRuns, Run, find_runs
from cs285.grading.hand_ins.unpacking import HandIn, is_junk, open_hand_in
from cs285.grading.solutions.assignment import AGENT_FILES
from cs285.grading.solutions.code_check import check_code as check_agent_files
from cs285.results.run_folders import is_event_file

SHOWN = 20
"""Maximum number of lines in one message, since a hand-in could cause any number of them."""


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
        """The points awarded."""
        return round(sum(item.score for item in self.items), 2)

    @property
    def maximum(self) -> float:
        """The points available."""
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
        check_code: Whether to check its agent files against the formulas, which takes seconds;
            otherwise there are no points for code.

    Raises:
        UserError: If the path does not exist, or the rubric is not usable. Whatever is wrong with
            the hand-in itself is part of the grade.
    """
    started = time.perf_counter()
    loaded = load_rubric(rubric)
    try:
        with open_hand_in(path) as hand_in:
            runs = find_runs(hand_in)
            other = other_homework(hand_in.files, runs.read)
            items = [] if other else _grade_files(hand_in, runs, loaded)
    except UnsafeHandInError as error:
        other = f"It cannot be opened: {printable(error, 400)}"
    if other:
        maximum = loaded.maximum - (0 if check_code else loaded.points.code)
        items = [Item("Hand-in", 0.0, maximum, other)]
    else:
        # Last of all, so that student code cannot affect the other items.
        items += _grade_code(path, loaded.points.code) if check_code else []
    return GradeResult(printable(path.name), tuple(items), time.perf_counter() - started)


def _grade_files(hand_in: HandIn, runs: FoundRuns, rubric: Rubric) -> list[Item]:
    found = find_inconsistencies(runs.read)
    # Runs of algorithms that the rubric does not ask for cost nothing, whatever they look like, nor
    # do runs that were stopped at once.
    stubs = [run for run in runs.read if run.log.is_stub]
    graded = [
        run
        for run in runs.read
        if run not in stubs and (not run.algorithm or run.algorithm in rubric.algorithms)
    ]
    problems = [*hand_in.problems, *runs.problems]
    if stubs:
        problems.append(
            f"{len(stubs)} folders such as {stubs[0].name} hold no events: their runs were stopped "
            "before their first log; this costs nothing"
        )
    items = [
        _size(hand_in, rubric),
        _structure(hand_in, rubric.points.structure),
        _names(graded, rubric),
        _logs(graded, problems, found, rubric.points.logs),
    ]
    for key, question in rubric.questions.items():
        for experiment, credit in score_question(question, runs, rubric, found):
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
    """Check for the folders that the handout asks for, at the top level or inside one folder."""
    kept = [path for path in hand_in.files if not is_junk(path)]
    tops = {path.parts[0] for path in kept if len(path.parts) > 1}
    wrapped = len(tops) == 1 and not tops & {"data", "cs285"}
    root = PurePosixPath(*tops) if wrapped else PurePosixPath()
    junk = sorted({printable(path) for path in hand_in.files if is_junk(path)})
    agents = root / "cs285" / "agents"
    absent = [name for name in AGENT_FILES if agents / name not in hand_in.files]
    logged = any(path.is_relative_to(root / "data") and is_event_file(path.name) for path in kept)
    checks = (
        ("" if logged else "no folder data/ with event files"),
        (f"cs285/agents/ lacks {', '.join(absent)}" if absent else ""),
        (f"files that do not belong in a hand-in, such as {junk[0]}" if junk else ""),
    )
    lines = [line for line in checks if line]
    share = 1 - len(lines) / len(checks)
    return _item("Structure", share, points, lines or ["data/ and cs285/agents/ are complete"])


def _names(runs: Sequence[Run], rubric: Rubric) -> Item:
    """Check that the question in each run's name is one that asks for such a run."""
    lines = []
    for run in runs:
        asking = [
            key
            for key, question in rubric.questions.items()
            if any(is_of_kind(run, experiment) for experiment in question.experiments)
        ]
        if run.prefix not in (asking or rubric.questions):
            wanted = " or ".join(f"{key}_" for key in asking or rubric.questions)
            lines.append(f"{run.name}: starts with {run.prefix or 'no question'}, not {wanted}")
    share = 1 - len(lines) / len(runs) if runs else 0.0
    said = [f"{len(runs)} runs"] if runs else ["no runs"]
    return _item("Names of run folders", share, rubric.points.names, lines or said)


def _logs(
    runs: Sequence[Run],
    problems: Sequence[str],
    found: Mapping[Run, Sequence[Inconsistency]],
    points: float,
) -> Item:
    """List what is inconsistent or could not be read; other notes cost no points."""
    lines = [f"{run.name} is inconsistent: {one.fact}" for run in runs for one in found[run]]
    lines += [f"{run.name}: {problem}" for run in runs for problem in run.unreadable]
    lines += [
        f"{run.name}: the clock jumps back once, by {run.log.setbacks[0]:,.0f} s, as it does when "
        "it is set; this costs nothing"
        for run in runs
        if len(run.log.setbacks) == 1
    ]
    valid = [run for run in runs if not found[run] and not run.unreadable]
    written_again = {run: why for run in valid if (why := why_written_again(run))}
    lines += [f"{run.name}: {why}" for run, why in written_again.items()]
    first = f"{len(valid)} of {len(runs)} runs are consistent with their folders"
    earned = len(valid) - (1 - WRITTEN_AGAIN) * len(written_again)
    share = earned / len(runs) if runs else 0.0
    return _item("Logs", share, points, [first, *lines, *problems])


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
