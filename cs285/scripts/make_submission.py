"""Makes and grades the zip to hand in: the runs of every question, the code and a README.

python cs285/scripts/make_submission.py --data_dir data --out submit.zip
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cs285
from cs285.homework import Question
from cs285.infrastructure.errors import UserError
from cs285.scripts.arguments import ArgumentParser, run
from cs285.submission.bundle import Submission, make_submission
from cs285.submission.thinning import Limits

if TYPE_CHECKING:
    from cs285.grading.hand_ins.hand_in import GradeResult


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the zip; return 0, 1 if it does not get the full grade, 2 if it cannot be made."""
    parser = ArgumentParser(
        "Write the zip that the handout's last section asks for, below 15 MB, and "
        "grade it if this copy includes the grader. See docs/handin.md."
    )
    parser.add_argument("--data_dir", type=Path, default=Path("data"), help="folder with the runs")
    parser.add_argument("--out", type=Path, default=Path("submit.zip"), help="the zip to write")
    parser.add_argument(
        "--allow_missing", action="store_true", help="hand in even if a question has no runs"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    chosen = parser.parse_args(arguments)
    root = Path(next(iter(cs285.__path__))).parent
    try:
        made = make_submission(
            chosen.data_dir, root, chosen.out, allow_missing=chosen.allow_missing
        )
        if not chosen.json:
            print(describe(made), flush=True)  # grading takes a while
        grade = grade_own(chosen.out)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if chosen.json:
        print(json.dumps({**made.as_json(), "grade": grade and grade.as_json()}, indent=2))
    else:
        print(f"\n{describe_grade(grade)}")
    return 0 if grade is None or grade.total >= grade.maximum else 1


def grade_own(path: Path) -> GradeResult | None:
    """Return the grade of a hand-in; None in a starter, which has no grader."""
    try:
        from cs285.grading.hand_ins.hand_in import grade_path
    except ModuleNotFoundError as error:
        if error.name != "cs285.grading":
            raise
        return None
    return grade_path(path)


def describe(made: Submission) -> str:
    """Describe what is in the hand-in and what is not."""
    counts = Counter(entry.question for entry in made.entries)
    lines = [f"{made.out}: {made.size / 1e6:.1f} MB, {len(made.entries)} runs"]
    lines += [f"  {key}_  {counts[key]:3}  {key.section}" for key in Question]
    for entry in made.entries:
        if entry.passed_over:
            lines.append(f"chosen    {entry.source.name}, not {', '.join(entry.passed_over)}")
    if made.limits != Limits():
        lines.append(f"thinned   to {made.limits.describe()}")
    for tag in sorted({tag for tags in made.thinned.values() for tag in tags}):
        numbers = [tags[tag] for tags in made.thinned.values() if tag in tags]
        before, after = max(numbers)
        lines.append(f"  {tag} in {len(numbers)} runs, from up to {before:,} to {after:,}")
    lines += [f"left out  {name}: {reason}" for name, reason in made.left_out]
    for section, what, command in made.missing:
        lines.append(f"missing   {section}: {what}\n            {command}")
    return "\n".join(lines)


def describe_grade(grade: GradeResult | None) -> str:
    """Describe the grade, with every item that is not full."""
    if grade is None:
        return "Not graded: this copy has no grader."
    lines = [f"Graded: {grade.total:g} of {grade.maximum:g}"]
    lines += [
        f"  {item.score:g} of {item.maximum:g}  {item.name}: {item.message}"
        for item in grade.items
        if item.score < item.maximum
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    run(main)
