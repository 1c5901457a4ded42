"""Writes grades in Gradescope's format, and reads Gradescope's metadata of submissions.

Both formats, `results.json` and `submission_metadata.json`, follow Gradescope's documentation on
autograders.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from cs285.grading.hand_ins.hand_in import GradeResult, Item
from cs285.grading.hand_ins.rubric import Rubric, Visibility
from cs285.infrastructure.errors import UserError

MAX_METADATA = 50_000_000
"""Maximum size of the metadata in bytes: it repeats the results of every earlier submission."""


class _Dates(BaseModel):
    due_date: datetime | None = None


class _User(BaseModel):
    assignment: _Dates | None = None
    """Dates for this student alone, for example after an extension."""


class _Earlier(BaseModel):
    score: float | None = None


class _Metadata(BaseModel):
    created_at: datetime
    assignment: _Dates = _Dates()
    users: list[_User] = []
    previous_submissions: list[_Earlier] = []


class Submission(NamedTuple):
    """What matters about a submission."""

    late: timedelta
    """Time of submission minus the due date; zero if there is no due date."""
    number: int
    """1 for a student's first submission."""
    best_before: float | None
    """The highest score of the student's earlier submissions."""

    @property
    def lines(self) -> list[str]:
        """What the student is shown."""
        lines = []
        if self.late > timedelta():
            lines.append(f"Handed in {in_words(self.late)} after the due date.")
        if self.number > 1:
            earlier = ""
            if self.best_before is not None:
                earlier = f"; the best earlier one got {self.best_before:g} points"
            lines.append(f"Submission {self.number}{earlier}.")
        return lines


def read_submission(path: Path) -> Submission:
    """Read `submission_metadata.json`.

    Raises:
        UserError: If the file cannot be read or is not such metadata.
    """
    try:
        if path.stat().st_size > MAX_METADATA:
            raise UserError(f"{path} is too large to be the metadata of a submission")
        found = _Metadata.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise UserError(
            f"{path} is not Gradescope's metadata of a submission: {place}: {first['msg']}"
        ) from error
    # A group's due date is the latest due date of its students.
    own = [user.assignment.due_date for user in found.users if user.assignment]
    due = [date for date in (*own, found.assignment.due_date) if date is not None]
    try:
        late = found.created_at - max(due) if due else timedelta()
    except TypeError:  # one date has a time zone, another has none
        late = timedelta()
    scores = [one.score for one in found.previous_submissions if one.score is not None]
    return Submission(late, len(found.previous_submissions) + 1, max(scores, default=None))


def in_words(span: timedelta) -> str:
    """Return a time span in its two largest units, such as `1 d 2 h`, rounded down."""
    minutes = int(span.total_seconds()) // 60
    days, hours, minutes = minutes // 1440, minutes // 60 % 24, minutes % 60
    parts = [(days, "d"), (hours, "h"), (minutes, "min")]
    while len(parts) > 1 and not parts[0][0]:
        parts.pop(0)
    shown = [f"{number} {unit}" for number, unit in parts[:2] if number]
    return " ".join(shown) or "less than a minute"


def as_gradescope(
    result: GradeResult, rubric: Rubric, submission: Submission | None = None
) -> dict[str, Any]:
    """Return the content of `results.json` for Gradescope.

    Args:
        result: The grade.
        rubric: The rubric used; it says what students see and when.
        submission: Gradescope's metadata of the submission.
    """
    lines = [f"{result.total:g} of {result.maximum:g} points"]
    lines += submission.lines if submission else []
    shown: dict[str, Any] = {
        "score": result.total,
        "execution_time": round(result.seconds, 1),
        "output": "\n".join(lines),
        # All texts are shown as plain text, since some quote what a student wrote.
        "output_format": "text",
        "test_output_format": "text",
        "test_name_format": "text",
        "visibility": Visibility.VISIBLE,
        "stdout_visibility": Visibility.HIDDEN,
        "tests": [
            _test(number, item, rubric.gradescope.visibility.get(item.part, Visibility.VISIBLE))
            for number, item in enumerate(result.items, 1)
        ],
        "extra_data": {
            "seconds": {part: round(number, 1) for part, number in result.part_seconds.items()},
            "flags": list(result.flags),
            **_described(submission),
        },
    }
    if rubric.gradescope.leaderboard and result.standings:
        shown["leaderboard"] = leaderboard(result)
    return shown


def _test(number: int, item: Item, visibility: Visibility) -> dict[str, Any]:
    return {
        "number": str(number),
        "name": item.name,
        "name_format": "text",
        "score": item.score,
        "max_score": item.maximum,
        "output": item.message,
        "output_format": "text",
        "visibility": visibility,
        "tags": [item.part] if item.part else [],
    }


def _described(submission: Submission | None) -> dict[str, Any]:
    if submission is None:
        return {}
    return {
        "seconds_late": max(0.0, submission.late.total_seconds()),
        "submission": submission.number,
    }


def leaderboard(result: GradeResult) -> list[dict[str, Any]]:
    """Return a leaderboard entry for every experiment with a score; higher scores rank higher."""
    return [
        {"name": standing.name, "value": round(standing.score, 3), "order": "desc"}
        for standing in result.standings
    ]


def write_results(path: Path, results: dict[str, Any]) -> None:
    """Write `results.json`.

    Raises:
        UserError: If it cannot be written.
    """
    try:
        path.write_text(json.dumps(results, indent=2), encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error
