"""Grades one hand-in by its files, its logs and its code."""

from __future__ import annotations

import signal
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Any

from cs285.envs.tasks import known_tasks
from cs285.grading.archives import UnsafeHandInError, printable
from cs285.grading.hand_ins.other_homework import other_homework
from cs285.grading.hand_ins.plausibility import (
    Inconsistency,
    begins_with_its_folder,
    find_inconsistencies,
    find_remarks,
    why_written_again,
)
from cs285.grading.hand_ins.rubric import Rubric, load_rubric
from cs285.grading.hand_ins.scoring import (
    WRITTEN_AGAIN,
    best_score,
    is_of_kind,
    score_question,
)
from cs285.grading.hand_ins.submitted_runs import FoundRuns, Run, find_runs
from cs285.grading.hand_ins.unpacking import HandIn, is_junk, open_hand_in
from cs285.grading.solutions.assignment import AGENT_FILES
from cs285.grading.solutions.code_check import SECONDS as CODE_SECONDS
from cs285.grading.solutions.code_check import CodeVerdict
from cs285.grading.solutions.code_check import check_code as check_agent_files
from cs285.grading.solutions.verdicts import Verdict
from cs285.results.run_folders import is_event_file

MAX_LINES = 20
"""Maximum number of lines in one message, since a hand-in could cause any number of them."""


class Flag(StrEnum):
    """A property of a hand-in that deserves a look."""

    REFUSED = "not graded"
    """It cannot be opened or is another homework."""
    TIME = "time limit"
    """Grading a part of it took longer than the limit."""
    INCONSISTENT = "inconsistent logs"
    WRITTEN_AGAIN = "logs written again"
    UNJUDGED = "code not judged"


@dataclass(frozen=True)
class Item:
    """One line of a grade."""

    name: str
    score: float
    maximum: float
    message: str
    part: str = ""
    """Its key in `Rubric.parts`; empty if the hand-in was not graded."""
    losses: tuple[str, ...] = ()
    """Why points are missing, worded alike for all hand-ins where possible."""


@dataclass(frozen=True)
class Standing:
    """How well the best run of an experiment did."""

    name: str
    score: float
    """On the scale of `scoring.normalised_score`."""


@dataclass(frozen=True)
class Limits:
    """Time limits for grading one hand-in, in seconds."""

    files: float = 120.0
    """Processor time for its files and logs; the largest that are read need a quarter of it."""
    code: float = CODE_SECONDS
    """Time for its six agent files, not counting time spent waiting for a processor."""


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True)
class GradeResult:
    """The grade of one hand-in."""

    name: str
    items: tuple[Item, ...]
    seconds: float
    flags: tuple[Flag, ...] = ()
    standings: tuple[Standing, ...] = ()
    part_seconds: Mapping[str, float] = field(default_factory=dict)
    """Seconds of wall time by part of the work, `files` and `code`."""

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
            "part_seconds": dict(self.part_seconds),
            "flags": [str(flag) for flag in self.flags],
            "standings": [asdict(standing) for standing in self.standings],
            "items": [asdict(item) for item in self.items],
        }


def grade_path(
    path: Path,
    rubric: Path | None = None,
    *,
    check_code: bool = True,
    limits: Limits = DEFAULT_LIMITS,
) -> GradeResult:
    """Grade a hand-in.

    Args:
        path: The hand-in, a zip or a folder.
        rubric: A YAML file of weights and thresholds; by default this package's rubric.
        check_code: Whether to check its agent files against the formulas, which takes seconds;
            otherwise there are no points for code.
        limits: The time limits.

    Raises:
        UserError: If the path does not exist or the rubric is not usable. Faults of the hand-in
            itself are part of the grade.
    """
    return grade_by(path, [load_rubric(rubric)], check_code=check_code, limits=limits)[0]


def grade_by(
    path: Path,
    rubrics: Sequence[Rubric],
    *,
    check_code: bool = True,
    limits: Limits = DEFAULT_LIMITS,
    in_fork: bool = False,
) -> list[GradeResult]:
    """Grade a hand-in by several rubrics, reading its logs and code only once.

    Args:
        path: The hand-in, a zip or a folder.
        rubrics: What to grade by.
        check_code: See `grade_path`.
        limits: How long it may take.
        in_fork: See `code_check.check_code`.

    Raises:
        UserError: If the path does not exist.
    """
    started = time.perf_counter()
    other = ""
    flags: list[Flag] = []
    graded: list[tuple[list[Item], list[Flag], list[Standing]]] = []
    try:
        with processor_time(limits.files), open_hand_in(path) as hand_in:
            runs = find_runs(hand_in)
            other = other_homework(hand_in.files, runs.read)
            if not other:
                graded = [_grade_files(hand_in, runs, rubric) for rubric in rubrics]
    except UnsafeHandInError as error:
        other = f"It cannot be opened: {printable(error, 400)}"
    except OutOfTimeError:
        flags = [Flag.TIME]
        text = f"Reading the files and logs took longer than {limits.files:g} s."
        graded = [
            ([Item("Files and logs", 0.0, rubric.maximum - rubric.points.code, text, "logs")],
             [], [])
            for rubric in rubrics
        ]  # fmt: skip
    seconds = {"files": time.perf_counter() - started}
    verdicts: list[CodeVerdict] = []
    if other:
        flags = [Flag.REFUSED]
        graded = [
            ([Item("Hand-in", 0.0, rubric.maximum - (0 if check_code else rubric.points.code),
                   other)], [], [])
            for rubric in rubrics
        ]  # fmt: skip
    elif check_code:
        # Last of all, so that student code cannot affect the other items.
        verdicts = check_agent_files(path, limits.code, in_fork=in_fork)
        seconds["code"] = time.perf_counter() - started - seconds["files"]
        if any(verdict.verdict is Verdict.UNJUDGED and verdict.reason for verdict in verdicts):
            flags.append(Flag.UNJUDGED)
    taken = time.perf_counter() - started
    return [
        GradeResult(
            name=printable(path.name),
            items=(*items, *_code(verdicts, rubric.points.code)),
            seconds=taken,
            flags=(*flags, *found),
            standings=tuple(standings),
            part_seconds=seconds,
        )
        for rubric, (items, found, standings) in zip(rubrics, graded, strict=True)
    ]


class OutOfTimeError(BaseException):
    """A part took longer than its limit; no handler of ordinary errors may swallow this."""


@contextmanager
def processor_time(seconds: float) -> Iterator[None]:
    """Raise `OutOfTimeError` inside the context after this process has used some processor time.

    This works only in the main thread and on systems with interval timers; elsewhere there is no
    limit.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(
        signal, "setitimer"
    ):
        yield
        return

    def stop(*_: object) -> None:
        raise OutOfTimeError

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _grade_files(
    hand_in: HandIn, runs: FoundRuns, rubric: Rubric
) -> tuple[list[Item], list[Flag], list[Standing]]:
    runs, copies = _without_copies(runs)
    found = find_inconsistencies(runs.read)
    # Runs of algorithms that the rubric does not ask for cost no points, whatever is in them, nor
    # do runs that were stopped at once.
    stubs = [run for run in runs.read if run.log.is_stub]
    graded = [
        run
        for run in runs.read
        if run not in stubs and (not run.algorithm or run.algorithm in rubric.algorithms)
    ]
    problems = [*hand_in.problems, *runs.problems, *copies, *_stubs(stubs)]
    items = [
        _size(hand_in, rubric),
        _structure(hand_in, rubric.points.structure),
        _names(graded, rubric),
        _logs(graded, problems, found, rubric.points.logs),
    ]
    for key, question in rubric.questions.items():
        for experiment, credit in score_question(question, runs, rubric, found):
            name = f"{key} ({question.title}): {experiment.name}"
            lines = credit.message.splitlines()
            losses = sorted(map(str, credit.losses))
            items.append(_item(key, name, credit.share, experiment.points, lines, losses))
    flags = []
    if any(found[run] for run in graded):
        flags.append(Flag.INCONSISTENT)
    if any(why_written_again(run) for run in graded if not found[run]):
        flags.append(Flag.WRITTEN_AGAIN)
    return items, flags, _standings(runs.read, rubric, found)


def _standings(
    runs: Sequence[Run], rubric: Rubric, found: Mapping[Run, Sequence[Inconsistency]]
) -> list[Standing]:
    """Return the best score for each experiment that asks for one."""
    return [
        Standing(f"{key} {experiment.name}", round(score, 4))
        for key, question in rubric.questions.items()
        for experiment in question.experiments
        if experiment.score is not None
        if (score := best_score(experiment, runs, found)) is not None
    ]


def _without_copies(runs: FoundRuns) -> tuple[FoundRuns, list[str]]:
    """Drop copies that claim to be the same run as their originals; return a line for each."""
    kept: dict[object, Run] = {}
    copies: list[Run] = []
    # A run whose folder name fits the times in the log is taken for the original.
    for run in sorted(runs.read, key=lambda run: not begins_with_its_folder(run)):
        key = (run.log.fingerprint, run.identity, run.prefix)
        if run.config is None and run.log.tags and kept.setdefault(key, run) is not run:
            copies.append(run)
    lines = []
    for run in copies:
        original = kept[run.log.fingerprint, run.identity, run.prefix]
        same, other = (
            printable(one.folder if run.name == original.name else one.name)
            for one in (run, original)
        )
        lines.append(
            f"{same}: a copy of the log of {other}, which counts once; this costs no points"
        )
    read = [run for run in runs.read if run not in copies]
    return runs._replace(read=read), lines


def _stubs(runs: Sequence[Run]) -> Iterator[str]:
    """Yield lines on runs without events, with the reason; they cost no points."""
    by_reason: defaultdict[str, list[Run]] = defaultdict(list)
    for run in runs:
        by_reason[run.log.stubs[0]].append(run)
    for reason, members in by_reason.items():
        which = f"{members[0].name} holds"
        if len(members) > 1:
            which = f"{len(members)} folders such as {members[0].name} hold"
        yield f"{which} no events ({reason}); this costs no points"


def _item(
    part: str,
    name: str,
    share: float,
    maximum: float,
    lines: Sequence[str],
    losses: Sequence[str] = (),
) -> Item:
    shown = list(lines[:MAX_LINES])
    if len(lines) > MAX_LINES:
        shown.append(f"... and {len(lines) - MAX_LINES} more")
    lost = tuple(losses) if share < 1 else ()
    return Item(name, round(share * maximum, 2), maximum, "\n".join(shown), part, lost)


def _size(hand_in: HandIn, rubric: Rubric) -> Item:
    megabytes = hand_in.packed / 1e6
    fits = megabytes <= rubric.max_megabytes
    text = f"{megabytes:.1f} MB packed, at most {rubric.max_megabytes:g}"
    lost = [f"more than {rubric.max_megabytes:g} MB"]
    return _item("size", "Size", float(fits), rubric.points.size, [text], lost)


def _structure(hand_in: HandIn, points: float) -> Item:
    """Check for the folders that the handout asks for, at the top level or inside one folder."""
    kept = [path for path in hand_in.files if not is_junk(path)]
    tops = {path.parts[0] for path in kept if len(path.parts) > 1}
    wrapped = len(tops) == 1 and not tops & {"data", "cs285"}
    root = PurePosixPath(*tops) if wrapped else PurePosixPath()
    junk = sorted({printable(path) for path in hand_in.files if is_junk(path)})
    agents = root / "cs285" / "agents"
    absent = [name for name in AGENT_FILES if agents / name not in hand_in.files]
    logs = [path for path in kept if is_event_file(path.name)]
    logged = any(path.is_relative_to(root / "data") for path in logs)
    others = "" if logged or not logs else f"; they are in {printable(logs[0].parts[0])!r}"
    checks = (
        (
            "" if logged else f"no folder data/ with event files{others}",
            "no folder data/ with event files",
        ),
        (
            f"cs285/agents/ lacks {', '.join(absent)}" if absent else "",
            "cs285/agents/ lacks agent files",
        ),
        (
            f"files that do not belong in a hand-in, such as {junk[0]}" if junk else "",
            "files that do not belong in a hand-in",
        ),
    )
    lines = [line for line, _ in checks if line]
    losses = [loss for line, loss in checks if line]
    share = 1 - len(lines) / len(checks)
    complete = ["data/ and cs285/agents/ are complete"]
    return _item("structure", "Structure", share, points, lines or complete, losses)


def _names(runs: Sequence[Run], rubric: Rubric) -> Item:
    """Check that each run's name starts with a question that asks for such a run."""
    lines: list[str] = []
    notes: list[str] = []
    for run in runs:
        asking = [
            key
            for key, question in rubric.questions.items()
            if any(is_of_kind(run, experiment) for experiment in question.experiments)
        ]
        wanted = " or ".join(f"{key}_" for key in asking or rubric.questions)
        if run.prefix not in (asking or rubric.questions):
            lines.append(f"{run.name}: starts with {run.prefix or 'no question'}, not {wanted}")
        elif not run.is_prefix_as_asked:
            lines.append(f"{run.name}: does not start with {wanted} exactly")
        notes += _renamed(run)
    share = 1 - len(lines) / len(runs) if runs else 0.0
    summary = [f"{len(runs)} runs"] if runs else ["no runs"]
    shown = [*(lines or summary), *notes]
    losses = ["names that do not start with their question" if runs else "no runs"]
    return _item("names", "Names of run folders", share, rubric.points.names, shown, losses)


def _renamed(run: Run) -> Iterator[str]:
    """Say how a name was understood that is not one of a public version or of this project."""
    if run.config is not None or run.parsed.homework is not None:
        return
    if not run.algorithm or not run.env_id:
        missing = "environment" if run.algorithm else "algorithm"
        yield f"{run.name}: the name does not give the {missing}, so the run counts for no question"
    else:
        what = f"{run.algorithm} on {known_tasks()[run.env_id].name}, {run.stage}"
        yield f"{run.name}: was renamed; taken for {what}, going by its name"


def _logs(
    runs: Sequence[Run],
    problems: Sequence[str],
    found: Mapping[Run, Sequence[Inconsistency]],
    points: float,
) -> Item:
    """List what is inconsistent or could not be read, and other notes, which cost no points."""
    lines = [f"{run.name} is inconsistent: {one.fact}" for run in runs for one in found[run]]
    lines += [f"{run.name}: {problem}" for run in runs for problem in run.unreadable]
    lines += [
        f"{run.name}: the clock jumps back once, by {run.log.setbacks[0]:,.0f} s, as when it is "
        "adjusted; this costs no points"
        for run in runs
        if len(run.log.setbacks) == 1
    ]
    lines += [f"{run.name}: {cut}; only missing steps cost points"
              for run in runs for cut in run.log.cuts]  # fmt: skip
    lines += [
        f"{run.name}: {remark.fact}; a person should look at this, but it costs no points"
        for run in runs
        for remark in find_remarks(run)
    ]
    valid = [run for run in runs if not found[run] and not run.unreadable]
    written_again = {run: why for run in valid if (why := why_written_again(run))}
    lines += [f"{run.name}: {why}" for run, why in written_again.items()]
    first = f"{len(valid)} of {len(runs)} runs are consistent with their folders"
    earned = len(valid) - (1 - WRITTEN_AGAIN) * len(written_again)
    share = earned / len(runs) if runs else 0.0
    losses = {
        "no runs": not runs,
        "inconsistent logs": any(found[run] for run in runs),
        "files that cannot be read": any(run.unreadable for run in runs),
        "logs that were written again": bool(written_again),
    }
    lost = [text for text, is_so in losses.items() if is_so]
    return _item("logs", "Logs", share, points, [first, *lines, *problems], lost)


def _code(verdicts: Sequence[CodeVerdict], points: float) -> list[Item]:
    return [
        _item(
            "code",
            f"Code: {verdict.file}",
            verdict.share,
            round(points / len(AGENT_FILES), 2),
            [verdict.summary, *verdict.lines],
            list(verdict.faults) or [verdict.summary],
        )
        for verdict in verdicts
    ]
