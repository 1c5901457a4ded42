"""Checks the agent files of one solution, each on what it adds to the files it builds on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cs285.grading.sandbox.sandbox import PACKAGE, Sandbox
from cs285.grading.solutions import judging
from cs285.grading.solutions.agent_source import AgentSource
from cs285.grading.solutions.bench import Bench
from cs285.grading.solutions.judges.actions import RandomJudge
from cs285.grading.solutions.judges.actors import AWACJudge
from cs285.grading.solutions.judges.bonus import RNDJudge
from cs285.grading.solutions.judges.critics import CQLJudge, DQNJudge
from cs285.grading.solutions.judges.expectiles import IQLJudge
from cs285.grading.solutions.judging import Finding, Judge
from cs285.grading.solutions.world import Inputs

_CRITIC = ("make_critic", "make_optimizer", "make_lr_schedule")
_ACTOR = (*_CRITIC, "make_actor", "make_actor_optimizer")
_VALUE = (*_ACTOR, "make_value_critic", "make_value_critic_optimizer")
_RND = (
    *_CRITIC,
    "make_rnd_network",
    "make_rnd_network_optimizer",
    "make_target_rnd_network",
)
JUDGES: dict[str, tuple[type[Judge], str, tuple[str, ...]]] = {
    "random": (RandomJudge, "RandomAgent", ()),
    "rnd": (RNDJudge, "RNDAgent", _RND),
    "dqn": (DQNJudge, "DQNAgent", _CRITIC),
    "cql": (CQLJudge, "CQLAgent", _CRITIC),
    "awac": (AWACJudge, "AWACAgent", _ACTOR),
    "iql": (IQLJudge, "IQLAgent", _VALUE),
}
"""Name of an algorithm to its judge, its class and what makes its networks and optimisers."""
ALGORITHMS = tuple(JUDGES)
PARENTS = {"rnd": ("dqn",), "cql": ("dqn",), "awac": ("dqn",), "iql": ("awac", "dqn")}
_HELPERS = ("__init__.py", "acting.py")
_ORDER = (
    judging.CRASHES,
    judging.WRONG,
    judging.UNSOLVED,
    judging.MISSING,
    judging.VARIANT,
    judging.CORRECT,
    judging.UNJUDGED,
)


@dataclass(frozen=True)
class FileReport:
    """The verdict on one agent file."""

    file: str
    findings: tuple[Finding, ...]

    @property
    def verdict(self) -> str:
        """The gravest verdict on its methods."""
        verdicts = {finding.verdict for finding in self.findings}
        return next((verdict for verdict in _ORDER if verdict in verdicts), judging.UNJUDGED)

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "file": self.file,
            "verdict": self.verdict,
            "findings": [asdict(finding) for finding in self.findings],
        }


def check_files(
    sandbox: Sandbox, files: Mapping[str, str], rng: np.random.Generator | None = None
) -> list[FileReport]:
    """Check the agent files of one solution.

    Args:
        sandbox: Where student code runs.
        files: Path under `cs285/agents/` to text; other modules there may be helpers.
        rng: Draws the inputs; by default new and unknown to anyone.

    Returns:
        A report for each of the six files, present or not.
    """
    rng = np.random.default_rng() if rng is None else rng
    return [
        FileReport(f"{name}_agent.py", tuple(check_file(sandbox, name, files, rng)))
        for name in ALGORITHMS
    ]


def check_file(
    sandbox: Sandbox, name: str, files: Mapping[str, str], rng: np.random.Generator
) -> list[Finding]:
    """Check one agent file over the reference's parents, and over the student's if that helps."""
    own = f"{name}_agent.py"
    if own not in files:
        return [Finding("", judging.MISSING, f"there is no {own}")]
    judge_class, class_name, makers = JUDGES[name]
    source = AgentSource(files[own], class_name)
    if unusable := _unusable(source):
        return [unusable]

    def judge(*, own_parent: bool, column_values: bool = False) -> list[Finding]:
        inputs = Inputs(rng)
        needed = _with_parents(name, files, own_parent=own_parent)

        def make_bench() -> Bench:
            return Bench(
                sandbox, inputs, needed, own[:-3], class_name, makers, column_values=column_values
            )

        judge = judge_class(source, make_bench, rng, own_parent=own_parent)
        try:
            judge.judge()
        except (
            ArithmeticError,
            AttributeError,
            LookupError,
            RuntimeError,
            TypeError,
            ValueError,
        ) as error:
            # Numbers of a kind that no reading foresees: no accusation and no praise rests on them.
            judge.findings = [one for one in judge.findings if one.verdict in judging.BAD]
            text = f"the checker cannot read what came back ({type(error).__name__}: {error})"
            judge.say("", judging.UNJUDGED, text)
        return _once(judge.findings) if judge.bench.import_error else judge.findings

    findings = judge(own_parent=False)
    for own_parent, column_values in _other_tries(name, files):
        if _gravity(findings) == (False, 0) or _hopeless(findings):
            break
        other = judge(own_parent=own_parent, column_values=column_values)
        if _gravity(other) < _gravity(findings):
            note = Finding("", judging.VARIANT, "V returns (batch, 1), as in the public starter")
            findings = [*other, note] if column_values else other
    return findings


def _other_tries(name: str, files: Mapping[str, str]) -> list[tuple[bool, bool]]:
    """Return `(own_parent, column_values)` for every other way in which a file may be right."""
    parents = {f"{parent}_agent.py" for parent in PARENTS.get(name, ())}
    own = [(True, False)] if parents & set(files) else []
    columns = [(False, True)] if name == "iql" else []
    return own + columns + ([(True, True)] if own and columns else [])


def _unusable(source: AgentSource) -> Finding | None:
    """Tell what keeps a file from being judged at all."""
    try:
        if not source.methods and source.class_name not in source.text:
            return Finding("", judging.MISSING, f"it has no class {source.class_name}")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None)
        return Finding("", judging.CRASHES, f"no valid Python{f' (line {line})' if line else ''}")
    return None


def _once(findings: list[Finding]) -> list[Finding]:
    """Say what keeps the whole file from being imported once, not for every method."""
    return [Finding("", findings[0].verdict, findings[0].text)] if findings else []


def _gravity(findings: list[Finding]) -> tuple[bool, int]:
    """Tell whether something could not be read, which is the worst, and count what is wrong."""
    unread = any(not one.method and one.verdict == judging.UNJUDGED for one in findings)
    return unread, sum(finding.verdict in judging.BAD for finding in findings)


def _hopeless(findings: list[Finding]) -> bool:
    """Tell whether another try would end the same way, perhaps after as long a wait."""
    texts = " ".join(f.text for f in findings)
    return any(
        phrase in texts
        for phrase in ("processor time", "come to an end", "ended", "flooded", "brought down")
    ) or all(finding.verdict in {judging.UNSOLVED, judging.UNJUDGED} for finding in findings)


def _with_parents(name: str, files: Mapping[str, str], *, own_parent: bool) -> dict[str, str]:
    """Return the files that a run needs: the student's own, and those it builds on."""
    agents = {f"{algorithm}_agent.py" for algorithm in ALGORITHMS}
    needed = {
        helper: (PACKAGE / "agents" / helper).read_text(encoding="utf-8") for helper in _HELPERS
    }
    needed |= {path: text for path, text in files.items() if path not in agents}
    for parent in PARENTS.get(name, ()):
        path = f"{parent}_agent.py"
        if own_parent and path in files:
            needed[path] = files[path]
        else:
            needed[path] = (PACKAGE / "agents" / path).read_text(encoding="utf-8")
    needed[f"{name}_agent.py"] = files[f"{name}_agent.py"]
    return needed
