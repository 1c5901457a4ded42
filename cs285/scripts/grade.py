"""Grades hand-ins by their files, logs and code.

python cs285/scripts/grade.py submit.zip
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from cs285.grading.hand_ins.hand_in import GradeResult, grade_path
from cs285.grading.hand_ins.rubric import DEFAULT
from cs285.grading.sandbox import layers
from cs285.infrastructure.errors import UserError
from cs285.scripts.arguments import ArgumentParser


def main(arguments: Sequence[str] | None = None) -> int:
    """Grade and print; return 0 whatever the grades, 2 if grading is not possible."""
    parser = ArgumentParser(
        "Grade hand-ins by structure, size, names, logs, results relative to the best "
        "possible policy, and code, which runs confined in a child process. Nothing is trained. "
        "See docs/autograder.md."
    )
    parser.add_argument(
        "hand_ins", metavar="HAND_IN", type=Path, nargs="+", help="a zip, or an unpacked folder"
    )
    parser.add_argument("--rubric", type=Path, default=DEFAULT, help="weights and thresholds")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.add_argument(
        "--gradescope", type=Path, metavar="FILE", help="write Gradescope's results.json"
    )
    parser.add_argument("--no_code", action="store_true", help="do not check the code")
    chosen = parser.parse_args(arguments)
    if chosen.gradescope and len(chosen.hand_ins) > 1:
        parser.error("--gradescope accepts only one hand-in")
    if not chosen.no_code and (note := layers.warning(layers.missing(layers.active()))):
        print(note, file=sys.stderr)
    try:
        results = [
            grade_path(path, chosen.rubric, check_code=not chosen.no_code)
            for path in chosen.hand_ins
        ]
        if chosen.gradescope:
            _write(chosen.gradescope, results[0])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if chosen.json:
        print(json.dumps([result.as_json() for result in results], indent=2))
    else:
        print("\n\n".join(format_grade(result) for result in results))
    return 0


def _write(path: Path, result: GradeResult) -> None:
    try:
        path.write_text(json.dumps(result.as_gradescope(), indent=2), encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error


def format_grade(result: GradeResult) -> str:
    """Return one grade as text: a line for each item, with its message below."""
    lines = [result.name]
    for item in result.items:
        lines.append(f"  {item.score:6.2f} / {item.maximum:5.2f}  {item.name}")
        lines += [f"{'':19}{line}" for line in item.message.splitlines()]
    lines.append(f"  {result.total:6.2f} / {result.maximum:5.2f}  in all, {result.seconds:.0f} s")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
