"""Gives combinations to the checker and compares its report with the truth."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from cs285.grading.sandbox.sandbox import Sandbox
from cs285.grading.solutions.checking import check_file
from cs285.grading.solutions.verdicts import Finding, Verdict
from tests.solutions.generator.combinations import FILES, MATTERS, Combination, changes_text
from tests.solutions.generator.mistakes import MISTAKES, Mistake
from tests.solutions.generator.numbers import effect
from tests.solutions.generator.styles import CHOICES, Covering, Style

LOOKS = tuple(
    choice for choice in CHOICES if not any(choice in matters for matters in MATTERS.values())
)
"""The choices that change how a file looks, or how its parts are put together."""


@dataclass(frozen=True)
class Outcome:
    """What the checker said of one file, beside the truth."""

    combination: Combination
    agent: str
    findings: tuple[Finding, ...]

    @property
    def mistake(self) -> Mistake | None:
        return self.combination.mistake_in(self.agent)

    @property
    def blamed(self) -> tuple[Finding, ...]:
        """What was said against the method with the mistake, or another that may be blamed."""
        if self.mistake is None:
            return ()
        places = {self.mistake.method, *self.mistake.also}
        return tuple(
            one
            for one in self.findings
            if one.verdict.is_bad
            and one.method in places
            and self.mistake.verdict in {"", str(one.verdict)}
        )

    @property
    def found(self) -> bool:
        return bool(self.blamed)

    @property
    def named(self) -> bool:
        """Whether one of the sentences names the mistake; a crash is its own name."""
        return self.mistake is not None and any(
            one.verdict is Verdict.CRASHES or self.mistake.is_named_by(one.text)
            for one in self.blamed
        )

    @property
    def accused(self) -> tuple[Finding, ...]:
        """What was said against right methods; of a right file, also that it was not judged."""
        return tuple(
            one
            for one in self.findings
            if one not in self.blamed
            and (
                one.verdict.is_bad
                or (
                    not self.combination.mistakes and one.verdict is Verdict.UNJUDGED and one.method
                )
            )
        )

    @property
    def as_told(self) -> str:
        """The report on the file, in a line."""
        told = [
            f"{one.method or 'file'} {one.verdict}: {one.text}".rstrip(": ")
            for one in self.findings
            if not one.verdict.is_right
        ]
        return "; ".join(told) or "all right"

    @property
    def problem(self) -> str:
        """What is wrong with the report, in a sentence; empty if nothing is."""
        if self.mistake is not None and not self.found:
            return f"missed {self.mistake.name}"
        if self.accused:
            return f"accused {self.agent}.{self.accused[0].method}"
        if self.mistake is not None and not self.named:
            return f"did not name {self.mistake.name}"
        return ""


def tried(
    sandbox: Sandbox, combination: Combination, agent: str, rng: np.random.Generator
) -> Outcome:
    """Check one file of a combination, with its parents if the style has them handed in."""
    alone = combination.style["context"] == "alone" and len(combination.mistakes) < 2
    files = combination.files((agent,) if alone else tuple(FILES))
    return Outcome(combination, agent, tuple(check_file(sandbox, agent, files, rng)))


@dataclass
class Plan:
    """Draws combinations that cover mistakes, and pairs of values of the choices that matter.

    Args:
        rng: Draws the styles.
    """

    rng: np.random.Generator
    without_effect: list[tuple[str, Style]] = field(default_factory=list)
    """Mistakes that changed no number in a style, and the style: dropped, as they are none."""

    def __post_init__(self) -> None:
        self.covering = {agent: Covering(self.rng) for agent in FILES}

    def style(self, agent: str) -> Style:
        """Draw a style in which much is new for one file."""
        looks = tuple(self.rng.choice(LOOKS, size=3, replace=False))
        return self.covering[agent].draw((*MATTERS[agent], *looks))

    def right(self, agent: str) -> Combination:
        """Return a right solution."""
        return Combination(self.style(agent))

    def wrong(self, mistake: Mistake, attempts: int = 12) -> Combination | None:
        """Return a solution with one mistake that changes a number, if a style has one."""
        for _ in range(attempts):
            style = self.style(mistake.agent)
            if not changes_text(style, mistake):
                continue
            if effect(style, mistake):
                return Combination(style, (mistake,))
            self.without_effect.append((mistake.name, style))
        return None

    def wrong_in_two(self, attempts: int = 12) -> Combination | None:
        """Return a solution with one mistake in each of two files."""
        for _ in range(attempts):
            first, second = self.rng.choice(len(MISTAKES), size=2, replace=False)
            pair = (MISTAKES[first], MISTAKES[second])
            style = self.style(pair[0].agent)
            if pair[0].agent != pair[1].agent and all(
                changes_text(style, one) and effect(style, one) for one in pair
            ):
                return Combination(style, pair)
        return None


@dataclass(frozen=True)
class Report:
    """An outcome as plain data, for another process."""

    name: str
    style: tuple[tuple[str, str], ...]
    """The choices that matter to the file, with their values."""
    found: bool
    named: bool
    accused: int
    problem: str
    told: str
    files: tuple[tuple[str, str], ...]
    """The solution, if there is a problem."""

    @classmethod
    def of(cls, outcome: Outcome) -> Report:
        """Return the plain data of an outcome."""
        style, mistake = outcome.combination.style, outcome.mistake
        return cls(
            mistake.name if mistake else "right",
            tuple((choice, style[choice]) for choice in (*MATTERS[outcome.agent], *LOOKS)),
            outcome.found or mistake is None,
            outcome.named or mistake is None,
            len(outcome.accused),
            outcome.problem,
            outcome.as_told,
            tuple(outcome.combination.files().items()) if outcome.problem else (),
        )


def nth(plan: Plan, number: int) -> Combination | None:
    """Return a right solution, one with mistakes in two files, or one with a single mistake.

    Args:
        plan: Draws the styles.
        number: Of five in turn, one is right or has two mistakes; the others go through the list.
    """
    if number % 10 == 0:
        return plan.right(tuple(FILES)[number // 10 % len(FILES)])
    if number % 10 == 5:
        return plan.wrong_in_two()
    return plan.wrong(MISTAKES[(number - number // 5 - 1) % len(MISTAKES)])


def measured(plan: Plan, first: int, count: int, name: str = "") -> list[Report]:
    """Try some solutions in turn, see `nth`; or one mistake, given by its name."""
    only = next((one for one in MISTAKES if one.name == name), None)
    reports: list[Report] = []
    with Sandbox() as sandbox:
        for number in range(first, first + count):
            combination = plan.wrong(only) if only else nth(plan, number)
            if combination is None:
                continue
            single = len(combination.mistakes) == 1
            agents = (combination.mistakes[0].agent,) if single else tuple(FILES)
            outcomes = (tried(sandbox, combination, agent, plan.rng) for agent in agents)
            reports.extend(map(Report.of, outcomes))
    return reports
