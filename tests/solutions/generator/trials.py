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


PACKS: dict[str, tuple[tuple[str, ...], ...]] = {
    "random": (("get_action",),),
    "dqn": (
        ("get_action", "compute_critic_loss", "update_target_critic"),
        ("update_critic",),
        ("update",),
    ),
    "cql": (("compute_critic_loss",),),
    "awac": (
        ("get_action", "compute_critic_loss", "update_actor"),
        ("compute_advantage",),
        ("update",),
    ),
    "iql": (
        ("update_actor", "update_q", "update_v", "update_target_value_critic"),
        ("compute_advantage", "iql_expectile_loss"),
        ("update_critic",),
        ("update",),
    ),
    "rnd": (("update_rnd",), ("update",)),
}
"""Methods in which one file can have mistakes at the same time, as each is judged by itself."""


@dataclass(frozen=True)
class Outcome:
    """What the checker said of one file, beside the truth."""

    combination: Combination
    agent: str
    findings: tuple[Finding, ...]

    @property
    def mistakes(self) -> tuple[Mistake, ...]:
        return self.combination.mistakes_in(self.agent)

    def blamed(self, mistake: Mistake) -> tuple[Finding, ...]:
        """Return what was said against its method, a helper, or another that may be blamed."""
        places = {mistake.method, *mistake.also}
        return tuple(
            one
            for one in self.findings
            if one.verdict.is_bad
            and (one.method in places or one.method.startswith("_"))
            and mistake.verdict in {"", str(one.verdict)}
        )

    def found(self, mistake: Mistake) -> bool:
        return bool(self.blamed(mistake))

    def named(self, mistake: Mistake) -> bool:
        """Return whether a sentence names the mistake; a crash is its own name."""
        return any(
            one.verdict is Verdict.CRASHES or mistake.is_named_by(one.text)
            for one in self.blamed(mistake)
        )

    @property
    def accused(self) -> tuple[Finding, ...]:
        """What was said against right methods; of a right solution, also that it was not judged."""
        blamed = [one for mistake in self.mistakes for one in self.blamed(mistake)]
        unjudged = Verdict.UNJUDGED if not self.combination.mistakes else None
        return tuple(
            one
            for one in self.findings
            if one not in blamed
            and (one.verdict.is_bad or (one.verdict is unjudged and one.method))
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
    def problems(self) -> list[str]:
        """What is wrong with the report; empty if nothing is."""
        missed = [f"missed {one.name}" for one in self.mistakes if not self.found(one)]
        accused = [f"accused {self.agent}.{one.method or 'file'}" for one in self.accused]
        unnamed = [
            f"did not name {one.name}"
            for one in self.mistakes
            if self.found(one) and not self.named(one)
        ]
        return [*missed, *accused, *unnamed]


def tried(
    sandbox: Sandbox, combination: Combination, agent: str, rng: np.random.Generator
) -> Outcome:
    """Check one file of a combination, with its parents if the style has them handed in."""
    others = any(one.agent != agent for one in combination.mistakes)
    alone = combination.style["context"] == "alone" and not others
    files = combination.files((agent,) if alone else tuple(FILES))
    return Outcome(combination, agent, tuple(check_file(sandbox, agent, files, rng)))


@dataclass
class Plan:
    """Draws combinations that cover mistakes, and pairs of values of the choices that matter.

    Args:
        rng: Draws the styles.
    """

    rng: np.random.Generator
    order: tuple[int, ...] = tuple(range(len(MISTAKES)))
    """In which order to go through the mistakes."""
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

    def queues(self, agent: str) -> dict[str, list[Mistake]]:
        """Return the mistakes of every method of a file, in an order of chance."""
        queues: dict[str, list[Mistake]] = {}
        for position in self.rng.permutation(len(MISTAKES)):
            mistake = MISTAKES[position]
            if mistake.agent == agent:
                queues.setdefault(mistake.method, []).append(mistake)
        return queues

    def packed(self, agent: str, queues: dict[str, list[Mistake]]) -> Combination:
        """Return a file with mistakes in several methods that are judged apart from each other.

        Args:
            agent: The algorithm of the file.
            queues: The mistakes still to be made in every method; those made are taken out.
        """
        waiting = max(PACKS[agent], key=lambda pack: sum(len(queues[one]) for one in pack))
        style, made = self.style(agent), []
        for method in waiting:
            for mistake in queues[method]:
                told = changes_text(style, mistake) and effect(style, mistake)
                if told and (len(waiting) == 1 or "Error" not in told):
                    made.append(mistake)
                    queues[method].remove(mistake)
                    break
        return Combination(style, tuple(made))

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

    mistakes: tuple[tuple[str, bool, bool], ...]
    """The name of every mistake, and whether it was found and named."""
    style: tuple[tuple[str, str], ...]
    """The choices that matter to the file, with their values."""
    accused: int
    problems: tuple[str, ...]
    told: str
    files: tuple[tuple[str, str], ...]
    """The solution, if there is a problem."""

    @classmethod
    def of(cls, outcome: Outcome) -> Report:
        """Return the plain data of an outcome."""
        style, problems = outcome.combination.style, outcome.problems
        return cls(
            tuple((one.name, outcome.found(one), outcome.named(one)) for one in outcome.mistakes),
            tuple((choice, style[choice]) for choice in (*MATTERS[outcome.agent], *LOOKS)),
            len(outcome.accused),
            tuple(problems),
            outcome.as_told,
            tuple(outcome.combination.files().items()) if problems else (),
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
    return plan.wrong(MISTAKES[plan.order[(number - number // 5 - 1) % len(MISTAKES)]])


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
