"""The hand-ins of a course."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tests.course.copying import LOGS, OF_LOGS, Way, copied_code
from tests.course.hands import usual_style, write_solution
from tests.course.logs import Base, CourseRun, other_seed, own_host, own_times
from tests.solutions.generator.styles import Style

USUAL = 0.6
"""Probability that a choice in a student's code is the most common one."""
EQUAL = 0.3
"""Fraction of students whose programs compute exactly what the reference does: same seed, same
numbers."""
BEGINS = 1_760_000_000.0
WEEKS = 3 * 7 * 86_400.0
ADJECTIVES = (
    "able",
    "bold",
    "calm",
    "dry",
    "early",
    "fair",
    "glad",
    "huge",
    "icy",
    "jolly",
    "keen",
    "late",
    "mild",
    "new",
    "odd",
)
NOUNS = (
    "ant",
    "bear",
    "cat",
    "deer",
    "elk",
    "fox",
    "goat",
    "hare",
    "ibis",
    "jay",
    "koi",
    "lynx",
    "mole",
    "newt",
    "owl",
    "pike",
    "ray",
    "seal",
)
SHARED_CHOICES = ("attributes", "helpers", "locals", "arguments", "functional")
"""Choices that a copied method must have in common with the file that it is put into."""


@dataclass(frozen=True)
class Student:
    """What a student hands in."""

    name: str
    style: Style
    files: dict[str, str]
    runs: tuple[CourseRun, ...]
    is_equal: bool
    """Whether its runs have the values that the reference has."""

    def write(self, folder: Path) -> Path:
        """Write the hand-in below a folder, as a zip, and return it."""
        root = folder / self.name
        for run in self.runs:
            run.write(root / "data")
        agents = root / "cs285" / "agents"
        agents.mkdir(parents=True)
        for name, text in self.files.items():
            (agents / name).write_text(text, encoding="utf-8")
        (root / "README.md").write_text("All commands are those of the handout.\n")
        path = folder / f"{self.name}.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(root.rglob("*")):
                if file.is_file():
                    archive.write(file, file.relative_to(root))
        shutil.rmtree(root)
        return path


class Planted(NamedTuple):
    """A pair in which one copied from the other."""

    source: str
    copier: str
    way: Way
    of_equal: bool
    """Whether the copied log has the values of many honest ones."""


class Course:
    """A course: its students, and who copied."""

    def __init__(
        self,
        bases: Sequence[Base],
        count: int,
        seed: int,
        pairs: int = 2,
        equal: float = EQUAL,
    ) -> None:
        self.bases, self.count, self.seed = bases, count, seed
        rng = np.random.default_rng(seed)
        self.reference = [
            other_seed(base, np.random.default_rng([17, number]))
            for number, base in enumerate(bases)
        ]
        names = [f"{one}-{other}" for one in ADJECTIVES for other in NOUNS]
        more = -(-count // len(names))
        names = [f"{name}{number or ''}" for number in range(more) for name in names]
        self.names = [str(name) for name in rng.permutation(names)[:count]]
        self.is_equal = rng.random(count) < equal
        self.copies = self._plan(rng, pairs)

    def _plan(self, rng: np.random.Generator, pairs: int) -> dict[int, tuple[int, Way, bool]]:
        """Return the source, the way, and whether it is the second such copy, by copier."""
        chosen = rng.permutation(self.count)[: 2 * pairs * len(Way)].tolist()
        plan = {}
        for again in range(pairs):
            for way in Way:
                source, copier = chosen.pop(), chosen.pop()
                # A log that is re-timed or thinned may be one whose values many others have.
                is_hard = again and way in {Way.RETIMED, Way.THINNED}
                self.is_equal[source], self.is_equal[copier] = is_hard, False
                plan[copier] = (source, way, bool(again))
        return plan

    def students(self) -> Iterator[Student]:
        """Yield the students, one after the other."""
        for number in range(self.count):
            yield self.student(number)

    def student(self, number: int) -> Student:
        """Return a student, who may have copied."""
        own = self._alone(number)
        if number not in self.copies:
            return own
        place, way, again = self.copies[number]
        source = self._alone(place)
        rng = np.random.default_rng([self.seed, number, 1])
        if way not in OF_LOGS:
            if way is Way.PART and again:
                alike = {choice: source.style[choice] for choice in SHARED_CHOICES}
                own = self._alone(number, **alike)
            files = copied_code(source.files, own.files, way, rng, again=again)
            return replace(own, files=files)
        learning = [k for k, run in enumerate(own.runs) if run.base.stage == "offline"]
        which = int(rng.choice(learning))
        runs = list(own.runs)
        runs[which] = LOGS[way](source.runs[which], own.runs[which], rng, again=again)
        return replace(own, runs=tuple(runs))

    def _alone(self, number: int, **fixed: str) -> Student:
        """Return a student who works alone."""
        rng = np.random.default_rng([self.seed, number])
        style = usual_style(rng, USUAL, **fixed)
        files = write_solution(style, np.random.default_rng([self.seed, number, 2]))
        rng = np.random.default_rng([self.seed, number, 3])
        is_equal = bool(self.is_equal[number])
        host = own_host(rng)
        seed = 1 if is_equal or rng.random() < 0.7 else int(rng.integers(2, 100))
        begins = BEGINS + rng.uniform(0, WEEKS)
        runs = []
        for place, base in enumerate(self.bases):
            events = self.reference[place] if is_equal else other_seed(base, rng)
            times = own_times(base, events, rng, begins)
            process = int(rng.integers(300, 90_000))
            runs.append(CourseRun(base, events, times, host, process, seed))
            begins = times[-1] + rng.exponential(3_000)
        return Student(self.names[number], style, files, tuple(runs), is_equal)

    @property
    def planted(self) -> list[Planted]:
        """Return who copied what from whom."""
        return [
            Planted(self.names[source], self.names[copier], way, bool(self.is_equal[source]))
            for copier, (source, way, _) in self.copies.items()
        ]
