"""Checks the agent files of one solution, each by what it adds to the files it builds on."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from cs285.grading.sandbox.sandbox import PACKAGE, Sandbox
from cs285.grading.solutions.agent_source import AgentSource
from cs285.grading.solutions.assignment import AGENT_FILES, AGENTS, AgentFile
from cs285.grading.solutions.bench import Bench
from cs285.grading.solutions.judging import Judge
from cs285.grading.solutions.reports import FileReport
from cs285.grading.solutions.verdicts import Finding, Verdict
from cs285.grading.solutions.world import Inputs


def check_files(
    sandbox: Sandbox, files: Mapping[str, str], rng: np.random.Generator | None = None
) -> list[FileReport]:
    """Check the agent files of one solution.

    Args:
        sandbox: Where student code runs.
        files: Text by path under `cs285/agents/`; other modules there may be helpers.
        rng: Draws the inputs; by default a new, unpredictable generator.

    Returns:
        A report for each of the six files, whether handed in or not.
    """
    rng = np.random.default_rng() if rng is None else rng
    return [
        FileReport(agent.file, tuple(check_file(sandbox, name, files, rng)))
        for name, agent in AGENTS.items()
    ]


def check_file(
    sandbox: Sandbox, name: str, files: Mapping[str, str], rng: np.random.Generator
) -> list[Finding]:
    """Check one agent file on top of the reference's parents, and of the student's if that helps.

    Args:
        sandbox: Where student code runs.
        name: The algorithm of the file.
        files: As in `check_files`.
        rng: Draws the inputs.
    """
    agent = AGENTS[name]
    if agent.file not in files:
        return [Finding("", Verdict.MISSING, f"there is no {agent.file}")]
    judge_class = _judge_class(agent)
    source = AgentSource(files[agent.file], agent.class_name)
    if unusable := _unusable(source):
        return [unusable]

    def judge(*, own_parent: bool) -> list[Finding]:
        inputs = Inputs(rng)
        needed = _with_parents(agent, files, own_parent=own_parent)

        def make_bench() -> Bench:
            return Bench(sandbox, inputs, needed, agent)

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
            # Numbers that the judges do not expect: neither praise nor blame may rest on them.
            judge.findings = [one for one in judge.findings if one.verdict.is_bad]
            text = (
                f"the checker cannot read the numbers that it got ({type(error).__name__}: {error})"
            )
            judge.say("", Verdict.UNJUDGED, text)
        return _once(judge.findings) if judge.bench.import_failure else judge.findings

    findings = judge(own_parent=False)
    has_own_parent = {AGENTS[parent].file for parent in agent.parents} & set(files)
    if has_own_parent and _seriousness(findings) != (False, 0) and not _is_final(findings):
        findings = min(findings, judge(own_parent=True), key=_seriousness)
    return findings


def _judge_class(agent: AgentFile) -> type[Judge]:
    module, _, name = agent.judge.partition(".")
    judges = importlib.import_module(f"cs285.grading.solutions.judges.{module}")
    judge_class: type[Judge] = getattr(judges, name)
    return judge_class


def _unusable(source: AgentSource) -> Finding | None:
    """Return why a file cannot be judged at all, if so."""
    try:
        if not source.methods and source.class_name not in source.text:
            return Finding("", Verdict.MISSING, f"it has no class {source.class_name}")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None)
        text = f"it is not valid Python{f' (line {line})' if line else ''}"
        return Finding("", Verdict.CRASHES, text)
    return None


def _once(findings: list[Finding]) -> list[Finding]:
    """Report what keeps the file from being imported once, not for every method."""
    return [replace(findings[0], method="")] if findings else []


def _seriousness(findings: list[Finding]) -> tuple[bool, int]:
    """Return whether something could not be read, which is the worst, and the number of faults."""
    unread = any(not one.method and one.verdict is Verdict.UNJUDGED for one in findings)
    return unread, sum(finding.verdict.is_bad for finding in findings)


def _is_final(findings: list[Finding]) -> bool:
    """Return whether another try would have the same result, perhaps after as long a wait."""
    return any(finding.end.would_recur for finding in findings) or all(
        finding.verdict in {Verdict.UNSOLVED, Verdict.UNJUDGED} for finding in findings
    )


def _with_parents(
    agent: AgentFile, files: Mapping[str, str], *, own_parent: bool
) -> dict[str, str]:
    """Return the files that a run needs: the student's own, and those it builds on."""
    agents = set(AGENT_FILES)
    needed = {
        path.name: path.read_text(encoding="utf-8")
        for path in sorted((PACKAGE / "agents").glob("*.py"))
        if not path.stem.endswith("_agent")
    }
    needed |= {path: text for path, text in files.items() if path not in agents}
    for parent in agent.parents:
        path = AGENTS[parent].file
        if own_parent and path in files:
            needed[path] = files[path]
        else:
            needed[path] = (PACKAGE / "agents" / path).read_text(encoding="utf-8")
    needed[agent.file] = files[agent.file]
    return needed
