"""Grades hand-ins by their files, logs and code: one, or those of a whole course.

python cs285/scripts/grade.py submit.zip
python cs285/scripts/grade.py assignment_export/ --out grades
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from cs285.grading.hand_ins.gradescope_results import (
    as_gradescope,
    read_submission,
    write_results,
)
from cs285.grading.hand_ins.hand_in import (
    DEFAULT_LIMITS,
    GradeResult,
    Limits,
    grade_by,
)
from cs285.grading.hand_ins.rubric import DEFAULT, Rubric, load_rubric
from cs285.grading.sandbox import layers
from cs285.infrastructure.errors import UserError
from cs285.scripts.arguments import ArgumentParser, at_least, run

AUTO = "auto"
OUT = Path("grades")
MOST_RUBRICS = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Grade; return 0 whatever the grades, 1 if the grader failed on a hand-in, 2 on bad input."""
    parser = _parser()
    chosen = parser.parse_args(arguments)
    paths = chosen.rubric or [DEFAULT]
    if len(paths) > MOST_RUBRICS:
        parser.error("--rubric can be given once, or twice to compare two")
    if chosen.gradescope and (len(chosen.hand_ins) > 1 or len(paths) > 1):
        parser.error("--gradescope accepts only one hand-in and one rubric")
    if not chosen.no_code and (note := layers.warning()):
        print(note, file=sys.stderr)
    limits = Limits(files=chosen.file_seconds, code=chosen.code_seconds)
    try:
        rubrics = [load_rubric(path) for path in paths]
        if not chosen.gradescope and _is_course(chosen):
            return _grade_course(chosen, rubrics, limits)
        return _grade_each(chosen, rubrics, limits)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        "Grade hand-ins by structure, size, names, logs, results relative to the best "
        "possible policy, and code, which runs confined in a child process. Nothing is trained. "
        "A folder of hand-ins, or Gradescope's export, is graded into an output folder with "
        "tables and pages. See docs/autograder.md and docs/course.md."
    )
    parser.add_argument(
        "hand_ins",
        metavar="HAND_IN",
        type=Path,
        nargs="+",
        help="a zip or an unpacked folder; or a folder of hand-ins, or Gradescope's export",
    )
    parser.add_argument(
        "--rubric",
        type=Path,
        action="append",
        metavar="FILE",
        help="weights and thresholds, by default those of this package; if given twice, "
        "the grades before and after a change are compared",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.add_argument(
        "--gradescope", type=Path, metavar="FILE", help="write Gradescope's results.json"
    )
    parser.add_argument(
        "--submission_metadata",
        type=Path,
        metavar="FILE",
        help="with --gradescope: Gradescope's submission_metadata.json, for lateness and "
        "earlier submissions",
    )
    parser.add_argument("--no_code", action="store_true", help="do not check the code")
    parser.add_argument(
        "--file_seconds",
        type=at_least(1),
        default=int(DEFAULT_LIMITS.files),
        help="processor time for the files and logs of one hand-in",
    )
    parser.add_argument(
        "--code_seconds",
        type=at_least(1),
        default=int(DEFAULT_LIMITS.code),
        help="time for the code of one hand-in, not counting waits for a processor",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help=f"grade a course into this folder (for a folder of hand-ins: {OUT}/ by default)",
    )
    parser.add_argument(
        "--workers",
        type=_workers,
        default=AUTO,
        help="number of hand-ins of a course to grade at the same time; "
        f"{AUTO}: as many as cores and memory allow",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="keep the results in the output folder that are still valid and grade the others",
    )
    parser.add_argument(
        "--no_copies", action="store_true", help="do not search for similar hand-ins"
    )
    parser.add_argument(
        "--starter",
        type=Path,
        action="append",
        metavar="FOLDER",
        help="code that students were given, in addition to this project's starter; may be "
        "repeated",
    )
    return parser


def _workers(text: str) -> int | str:
    if text == AUTO:
        return text
    try:
        return at_least(1)(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}, or {AUTO}") from None


def _is_course(chosen: argparse.Namespace) -> bool:
    from cs285.grading.course.roster import is_course

    return bool(chosen.out or chosen.resume) or any(map(is_course, chosen.hand_ins))


# One hand-in, or a few


def _grade_each(chosen: argparse.Namespace, rubrics: Sequence[Rubric], limits: Limits) -> int:
    submission = None
    if chosen.submission_metadata:
        try:
            submission = read_submission(chosen.submission_metadata)
        except UserError as error:  # the grade does not depend on it
            print(f"note: {error}", file=sys.stderr)
    results = [
        grade_by(path, rubrics, check_code=not chosen.no_code, limits=limits)
        for path in chosen.hand_ins
    ]
    if chosen.gradescope:
        write_results(chosen.gradescope, as_gradescope(results[0][0], rubrics[0], submission))
    if chosen.json:
        print(json.dumps([_as_json(grades) for grades in results], indent=2))
    else:
        print("\n\n".join(_format(grades) for grades in results))
    return 0


def _as_json(grades: Sequence[GradeResult]) -> dict[str, Any]:
    before = {"before": grades[0].as_json()} if len(grades) > 1 else {}
    return {**grades[-1].as_json(), **before}


def _format(grades: Sequence[GradeResult]) -> str:
    text = format_grade(grades[-1])
    if len(grades) > 1:
        before, after = grades[0].total, grades[-1].total
        text += f"\n  {before:6.2f} by the first rubric, a difference of {after - before:+.2f}"
    return text


def format_grade(result: GradeResult) -> str:
    """Return one grade as text: a line for each item, with its message below."""
    lines = [result.name]
    for item in result.items:
        lines.append(f"  {item.score:6.2f} / {item.maximum:5.2f}  {item.name}")
        lines += [f"{'':19}{line}" for line in item.message.splitlines()]
    lines.append(f"  {result.total:6.2f} / {result.maximum:5.2f}  in all, {result.seconds:.0f} s")
    return "\n".join(lines)


# A course


class _StoppedError(Exception):
    """A signal asked to stop."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _grade_course(chosen: argparse.Namespace, rubrics: Sequence[Rubric], limits: Limits) -> int:
    from tqdm import tqdm

    from cs285.grading.course.course import Choices, compare_hand_ins, grade_course, output_folder
    from cs285.grading.course.pages import Pages
    from cs285.grading.course.roster import find_hand_ins
    from cs285.grading.course.tables import write_csv, write_json, write_pairs
    from cs285.grading.course.workers import usable_workers

    started = time.monotonic()
    out = chosen.out or OUT
    roster = find_hand_ins(chosen.hand_ins, out)
    workers = usable_workers() if chosen.workers == AUTO else chosen.workers
    workers = max(1, min(workers, len(roster.hand_ins)))
    choices = Choices(
        out=out,
        rubrics=tuple(rubrics),
        workers=workers,
        check_code=not chosen.no_code,
        resume=chosen.resume,
        limits=limits,
        find_copies=not chosen.no_copies,
        starters=tuple(chosen.starter or ()),
    )
    stopped = 0
    # Without a terminal, the bar would fill a log with copies of itself.
    is_terminal = sys.stderr.isatty()
    with output_folder(choices), tqdm(disable=not is_terminal, unit=" hand-ins") as bar:

        def progress(done: int, count: int) -> None:
            bar.total = count
            bar.n = done
            bar.refresh()

        try:
            with _stopped_by_signals(), closing(grade_course(roster, choices, progress)) as steps:
                for course in steps:  # noqa: B007 - the last one is written
                    pass
        except _StoppedError as stop:
            stopped = stop.number
        write_csv(out, course)
        write_json(out, course)
        # A comparison takes a while, so it is skipped if the grading was stopped.
        compared = None if stopped or chosen.no_copies else compare_hand_ins(course, out)
        if compared is not None:
            write_pairs(out, compared.pairs)
        Pages(out).write(course, compared)
    if stopped:
        done = sum(entry.record is not None for entry in course.entries)
        print(
            f"Stopped. {done} of {len(course.entries)} hand-ins are graded, in {out}; run the same "
            "command with --resume to grade the others.",
            file=sys.stderr,
        )
        return 128 + stopped
    _report(chosen, out, course, time.monotonic() - started)
    return 1 if course.failed else 0


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Raise `_StoppedError` inside the context at Ctrl-C or SIGTERM."""

    def stop(number: int, _frame: object) -> None:
        raise _StoppedError(number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _report(chosen: argparse.Namespace, out: Path, course: Any, seconds: float) -> None:
    totals = [entry.grade.total for entry in course.entries if entry.grade]
    failed = len(course.failed)
    if chosen.json:
        summary = {
            "out": str(out),
            "hand_ins": len(course.entries),
            "graded": len(totals),
            "failed": failed,
            "seconds": round(seconds, 1),
        }
        print(json.dumps(summary))
        return
    mean = f", {sum(totals) / len(totals):.1f} points on average" if totals else ""
    print(f"{len(totals)} of {len(course.entries)} hand-ins graded in {seconds:.0f} s{mean}")
    for entry in course.failed:
        print(f"  {entry.hand_in.title}: {entry.record.outcome}")
    for problem in course.problems:
        print(f"  {problem}")
    print(f"{out / 'index.html'} shows all results; {out / 'grades.csv'} has a row per student")


if __name__ == "__main__":
    run(main)
