"""Checks the agent files of one solution, each in the context in which it will run.

A child class runs on the hand-in's own parents, as it will in training. If it fails there, it also
runs on plain, right parents. This separates the blame. A failure on both is the child's fault. A
failure on its own parent alone is the parent's fault if the parent is wrong; otherwise it comes
from how the two interact, and is the child's fault.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from pathlib import Path
from types import MappingProxyType

import numpy as np

from cs285.grading.sandbox.sandbox import PACKAGE, Sandbox
from cs285.grading.solutions.agent_source import (
    AgentSource,
    overridden_in,
    reached_in,
    with_line_feeds,
)
from cs285.grading.solutions.assignment import AGENTS, AgentFile
from cs285.grading.solutions.bench import Bench, Failure
from cs285.grading.solutions.editions import homework_of_file
from cs285.grading.solutions.judging import Judge, import_text
from cs285.grading.solutions.reports import FileReport
from cs285.grading.solutions.verdicts import Finding, Reading, Verdict
from cs285.probing.inputs import Inputs

_AGENTS_FOLDER = "cs285/agents"
_PLAIN_PARENTS = Path(__file__).parent / "parents"
_NOTHING: Mapping[str, str] = MappingProxyType({})
_INHERITED_STEPS = {
    "cql": ("update_critic", "update_target_critic", "update"),
    "rnd": ("compute_critic_loss", "update_critic", "update_target_critic"),
    "awac": ("update_critic", "update_target_critic"),
    "iql": ("update_actor",),
}
"""The parents' methods that a child relies on unless it defines its own."""


_STARTERS_METHODS = frozenset(
    (
        *("__init__", "get_action", "compute_critic_loss", "update_critic", "update_target_critic"),
        *("update", "compute_advantage", "update_actor", "update_q", "update_v", "update_rnd"),
        *("iql_expectile_loss", "update_target_value_critic", "num_aux_plots", "plot_aux"),
    )
)
"""The methods of the starter's classes; any others were added by the hand-in."""


_ONLY_COPY = {"update_target_critic", "update_target_value_critic"}
_COPYING = {"", "__init__", "update", *_ONLY_COPY}
"""The methods in which a fault can change when target networks are copied; empty is the file."""


class _Parents(Enum):
    """The parents that a child class runs on."""

    OWN = auto()
    """The hand-in's own, with plain ones in place of those that it lacks."""
    PLAIN = auto()
    REFERENCE = auto()


@dataclass(frozen=True)
class _Run:
    """The result of one run of a class."""

    findings: list[Finding]
    failure: Failure | None = None
    """Why the class could not be imported or constructed."""

    @property
    def unread(self) -> bool:
        """Whether the numbers could not be read, so that nothing can be concluded."""
        return any(not one.method and one.verdict is Verdict.UNJUDGED for one in self.findings)

    @property
    def is_right(self) -> bool:
        """Whether nothing counts against the class."""
        return not self.unread and not self.bad

    @property
    def bad(self) -> list[Finding]:
        """The findings that count against the class."""
        return [finding for finding in self.findings if finding.verdict.is_bad]

    @property
    def seriousness(self) -> tuple[bool, int]:
        """A key for comparing runs: unread numbers are the worst."""
        return self.unread, len(self.bad)

    def on(self, method: str) -> Finding | None:
        """Return the most serious finding on a method."""
        found = [finding for finding in self.findings if finding.method == method]
        return min(found, key=lambda one: list(Verdict).index(one.verdict), default=None)


class SolutionChecker:
    """Checks the agent files of one solution, each once.

    Args:
        sandbox: Where student code runs.
        files: Text by path under `cs285/agents/`; other modules there may be helpers.
        modules: Text by path of the solution's helper modules elsewhere.
        rng: Draws the inputs; by default a new, unpredictable generator.
    """

    def __init__(
        self,
        sandbox: Sandbox,
        files: Mapping[str, str],
        modules: Mapping[str, str] = _NOTHING,
        rng: np.random.Generator | None = None,
    ) -> None:
        self.sandbox = sandbox
        self.files = {path: with_line_feeds(text) for path, text in files.items()}
        self.modules = {path: with_line_feeds(text) for path, text in modules.items()}
        self.rng = np.random.default_rng() if rng is None else rng
        self._found: dict[str, list[Finding]] = {}

    def report(self, name: str) -> FileReport:
        """Return the report on one algorithm's file, with the faults inherited from its parents."""
        findings = [*self.check(name), *self._inherited_faults(name)]
        return FileReport(AGENTS[name].file, tuple(findings))

    def check(self, name: str) -> list[Finding]:
        """Return the findings on one algorithm's file."""
        if name not in self._found:
            self._found[name] = self._check(AGENTS[name])
        return self._found[name]

    def _check(self, agent: AgentFile) -> list[Finding]:
        if agent.file not in self.files:
            return [Finding("", Verdict.MISSING, f"there is no {agent.file}")]
        source = AgentSource(self.files[agent.file], agent.class_name)
        if unusable := _unusable(source, agent):
            return [unusable]
        if not self._own_parents(agent):
            return self._check_alone(agent, source).findings
        own = self._run(agent, source, _Parents.OWN)
        if own.is_right or _is_unsolved_itself(own, source):
            return own.findings
        ended = any(finding.end.would_recur for finding in own.findings)
        if ended and not self._faults(agent):
            return own.findings
        return self._merge(agent, own, self._check_alone(agent, source))

    def _check_alone(self, agent: AgentFile, source: AgentSource) -> _Run:
        """Judge a class on parents that are right."""
        plain = self._run(agent, source, _Parents.PLAIN)
        crashes = any(
            finding.verdict is Verdict.CRASHES and not finding.end.would_recur
            for finding in plain.findings
        )
        if not agent.parents or not crashes:
            return plain
        # It may use something that only this project's reference parents have.
        reference = self._run(agent, source, _Parents.REFERENCE)
        return min((plain, reference), key=lambda run: run.seriousness)

    def _merge(self, agent: AgentFile, own: _Run, plain: _Run) -> list[Finding]:
        """Decide which findings count against a class that fails on its own parents."""
        faults = self._faults(agent)
        if own.failure is not None or own.unread:
            if not faults:
                return own.findings if own.unread <= plain.unread else plain.findings
            if plain.failure is not None and plain.failure.type == "AttributeError":
                text = f"it builds on {' and '.join(faults)}, which cannot be used: "
                return [Finding("", Verdict.UNJUDGED, text + self._reason(agent, own))]
            return plain.findings
        merged = []
        for finding in own.findings:
            other = plain.on(finding.method)
            if not finding.verdict.is_bad or not (faults or self._misread(agent, finding, other)):
                merged.append(finding)
            elif finding.method in _steps_of(agent) and (other is None or not other.verdict.is_bad):
                if self._is_right_in_its_parent(
                    agent, finding.method
                ) and not self._faulty_dependency(
                    agent, finding.method, copying=finding.of_copying
                ):
                    merged.append(finding)  # right in the parent, but not in this class
                # Otherwise `report` says that it is inherited.
            elif finding.method == "__init__" and other is None and plain.failure is None:
                pass  # the parent's constructor is wrong, and the parent's report says so
            elif finding.of_parent and (other is None or other.verdict is Verdict.CRASHES):
                merged.append(Finding(finding.method, Verdict.CORRECT))
            else:
                merged.append(self._decided(agent, finding, other, plain))
        return list(dict.fromkeys(merged))

    def _decided(
        self, agent: AgentFile, finding: Finding, other: Finding | None, plain: _Run
    ) -> Finding:
        """Return the finding that counts, if a method fails on own parents with a wrong one.

        A class may need something that only its own parents have, such as renamed networks. Then
        plain parents show nothing, and the finding counts unless the parent's fault may cause it.
        """
        needs_its_own = other is not None and (
            other.verdict is Verdict.UNJUDGED
            or (other.verdict is Verdict.CRASHES and finding.verdict is not Verdict.CRASHES)
            or (other.verdict is Verdict.WRONG and self._fills_in(agent, finding.method))
        )
        if other is not None and not needs_its_own:
            return other
        if finding.of_child:
            return finding
        if (needs_its_own or plain.failure is not None) and (
            culprit := self._faulty_dependency(agent, finding.method, copying=finding.of_copying)
        ):
            text = f"it uses {culprit}"
            return Finding(finding.method, Verdict.UNJUDGED, text)
        return finding

    def _fills_in(self, agent: AgentFile, method: str) -> bool:
        """Return whether a class overrides only helpers of a method of its own parent."""
        own = AgentSource(self.files[agent.file], agent.class_name)
        if method in own.methods:
            return False
        return any(
            set(own.methods) & reached_in([source], method) - set(_STARTERS_METHODS)
            for source in (
                AgentSource(self.files[one.file], one.class_name)
                for one in self._own_parents(agent)
            )
        )

    def _faulty_dependency(self, agent: AgentFile, method: str, *, copying: bool = False) -> str:
        """Return a wrong method of its own parents that a method may get its numbers from.

        Args:
            agent: The class.
            method: One of its methods.
            copying: Whether only the copying of target networks is in question.
        """
        sources = [
            AgentSource(self.files[one.file], one.class_name)
            for one in (agent, *self._own_parents(agent))
        ]
        faults = self._faults(agent)
        wrong = {fault.method for findings in faults.values() for fault in findings}
        used = {*reached_in(sources, method, wrong), method}
        for parent, source in zip(self._own_parents(agent), sources[1:], strict=True):
            right = {one.method for one in self.check(parent.algorithm) if one.verdict.is_right}
            for fault in faults.get(parent.file, []):
                if copying and fault.method not in _COPYING:
                    continue
                if method == "update" and not copying and fault.method in _ONLY_COPY:
                    continue  # training is judged at a step at which nothing is copied
                suspects = {fault.method, *reached_in([source], fault.method)}
                suspects -= right | overridden_in(sources[0])
                if not fault.method or fault.method == "__init__" or used & suspects:
                    name = f"`{fault.method}` of " if fault.method else ""
                    return f"{name}{parent.file}, which counts as {fault.verdict}"
        return ""

    def _misread(self, agent: AgentFile, finding: Finding, other: Finding | None) -> bool:
        """Return whether a right but unusual parent may be the reason why numbers look wrong."""
        return (
            finding.verdict is Verdict.WRONG
            and Reading.PAIRS not in finding.readings
            and other is not None
            and other.verdict.is_right
            and any(
                one.verdict is Verdict.VARIANT
                for parent in self._own_parents(agent)
                for one in self.check(parent.algorithm)
            )
        )

    def _reason(self, agent: AgentFile, own: _Run) -> str:
        if own.failure is None:
            return "its numbers cannot be read"
        return own.failure.text_for(agent.file)

    def _own_parents(self, agent: AgentFile) -> list[AgentFile]:
        return [AGENTS[name] for name in agent.parents if AGENTS[name].file in self.files]

    def _faults(self, agent: AgentFile) -> dict[str, list[Finding]]:
        """Return the findings that count against the class's own parents, by file."""
        found = {}
        for parent in self._own_parents(agent):
            findings = self.check(parent.algorithm)
            bad = [f for f in findings if f.verdict.is_bad or not (f.method or f.verdict.is_right)]
            if bad:
                found[parent.file] = bad
        return found

    def _inherited_faults(self, name: str) -> list[Finding]:
        """Return a remark for every wrong method of a parent that a class relies on."""
        agent = AGENTS[name]
        if agent.file not in self.files or not any(one.method for one in self.check(name)):
            return []
        known = {finding.method for finding in self.check(name)}
        source = AgentSource(self.files[agent.file], agent.class_name)
        remarks: dict[str, Finding] = {}
        for file, findings in self._faults(agent).items():
            for finding in findings:
                method = finding.method
                if not method:
                    text = f"judged on a right parent, because {file} is unusable: {finding.text}"
                elif method in source.methods or method in known or method not in _steps_of(agent):
                    continue
                else:
                    text = f"inherited from {file}, where it counts as {finding.verdict}"
                remarks.setdefault(method, Finding(method, Verdict.UNJUDGED, text))
        return list(remarks.values())

    # Running a class

    def _run(self, agent: AgentFile, source: AgentSource, parents: _Parents) -> _Run:
        inputs = Inputs(self.rng)
        files, own = self._staged(agent, parents)

        def make_bench() -> Bench:
            return Bench(self.sandbox, inputs, files, own, agent)

        judge = _judge_class(agent)(source, make_bench, self.rng)
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
            # The judges did not expect these numbers, so no conclusion may be drawn from them.
            judge.findings = [one for one in judge.findings if one.verdict.is_bad]
            text = (
                f"the checker cannot read the numbers that it got ({type(error).__name__}: {error})"
            )
            judge.say("", Verdict.UNJUDGED, text)
        bench = judge.bench
        if bench.import_failure is not None:
            return _Run(_import_findings(judge, bench.import_failure), bench.import_failure)
        if bench.construct_failure is not None and not bench.initial:
            return _Run(_once(judge.findings, "__init__"), bench.construct_failure)
        return _Run(self._attributed(agent, source, judge.findings, parents))

    def _staged(self, agent: AgentFile, parents: _Parents) -> tuple[dict[str, str], set[str]]:
        """Return the files that a run needs, by path, and the paths of those in the hand-in."""
        needed = {
            path.name: path.read_text(encoding="utf-8")
            for path in sorted((PACKAGE / "agents").glob("*.py"))
            if not path.stem.endswith("_agent")
        }
        files = dict(self.files)
        for name in agent.parents:
            parent = AGENTS[name].file
            if parents is not _Parents.OWN or parent not in files:
                folder = PACKAGE / "agents" if parents is _Parents.REFERENCE else _PLAIN_PARENTS
                files.pop(parent, None)
                needed[parent] = (folder / parent).read_text(encoding="utf-8")
        staged = {f"{_AGENTS_FOLDER}/{path}": text for path, text in (needed | files).items()}
        own = {f"{_AGENTS_FOLDER}/{path}" for path in files} | set(self.modules)
        return {**self.modules, **staged}, own

    def _attributed(
        self, agent: AgentFile, source: AgentSource, findings: list[Finding], parents: _Parents
    ) -> list[Finding]:
        """Move a fault of `update_actor` to `compute_advantage` if the latter's shape causes it."""
        step, advantage = "update_actor", "compute_advantage"
        inherits = agent.algorithm == "iql" and step not in source.methods
        on_step = [one for one in findings if one.method == step]
        if inherits and not any(one.verdict.is_bad for one in on_step):
            return [one for one in findings if one not in on_step or not one.verdict.is_right]
        of_shape = [one for one in findings if one.method == advantage and one.verdict.is_right]
        if not of_shape or (
            inherits and parents is _Parents.OWN and self._counts_against("awac", step)
        ):
            return findings
        column = any(Reading.COLUMN in one.readings for one in of_shape)
        pairs = any(Reading.PAIRS in one.readings for one in on_step)
        crash = next((one for one in on_step if one.verdict is Verdict.CRASHES), None)
        where = f"the inherited `{step}`" if inherits else f"`{step}`"
        if column and pairs:
            text = (
                f"it returns (batch, 1); multiplied by the log-probabilities (batch,) in {where} "
                "it becomes (batch, batch): every weight meets every log-probability"
            )
        elif pairs and inherits:
            text = (
                f"it returns (batch,); multiplied by the log-probabilities (batch, 1) in {where} "
                "it becomes (batch, batch): every weight meets every log-probability"
            )
        elif column and crash is not None and inherits:
            text = f"it returns (batch, 1), on which {where} fails: {crash.text}"
        else:
            return findings
        kept = [one for one in findings if one.method not in {step, advantage}]
        if not inherits:
            kept.append(Finding(step, Verdict.UNJUDGED, f"the shape of {advantage} is wrong"))
        readings = frozenset({Reading.PAIRS})
        return [*kept, Finding(advantage, Verdict.WRONG, text, readings=readings)]

    def _is_right_in_its_parent(self, agent: AgentFile, step: str) -> bool:
        """Return whether the nearest of its own parents that defines a step gets it right."""
        for parent in self._own_parents(agent):
            if step in AgentSource(self.files[parent.file], parent.class_name).methods:
                found = [one for one in self.check(parent.algorithm) if one.method in {step, ""}]
                return bool(found) and all(one.verdict.is_right for one in found)
        return False

    def _counts_against(self, name: str, method: str) -> bool:
        return any(one.verdict.is_bad and one.method == method for one in self.check(name))


def check_files(
    sandbox: Sandbox,
    files: Mapping[str, str],
    rng: np.random.Generator | None = None,
    modules: Mapping[str, str] = _NOTHING,
) -> list[FileReport]:
    """Check the agent files of one solution; arguments as in `SolutionChecker`.

    Returns:
        A report for each of the six files, whether handed in or not.
    """
    checker = SolutionChecker(sandbox, files, modules, rng)
    return [checker.report(name) for name in AGENTS]


def check_file(
    sandbox: Sandbox, name: str, files: Mapping[str, str], rng: np.random.Generator
) -> list[Finding]:
    """Check the file of one algorithm; arguments as in `SolutionChecker`."""
    return SolutionChecker(sandbox, files, rng=rng).check(name)


def import_judges() -> None:
    """Import the judges of all files, which are otherwise imported when they are needed."""
    for agent in AGENTS.values():
        _judge_class(agent)


def _judge_class(agent: AgentFile) -> type[Judge]:
    module, _, name = agent.judge.partition(".")
    judges = importlib.import_module(f"cs285.grading.solutions.judges.{module}")
    judge_class: type[Judge] = getattr(judges, name)
    return judge_class


def _unusable(source: AgentSource, agent: AgentFile) -> Finding | None:
    """Return the reason why a file cannot be judged at all, if there is one."""
    try:
        if other := homework_of_file(source, agent):
            return Finding("", Verdict.UNJUDGED, other)
        if not source.methods and source.class_name not in source.text:
            return Finding("", Verdict.MISSING, f"it has no class {source.class_name}")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None)
        text = f"it is not valid Python{f' (line {line})' if line else ''}"
        return Finding("", Verdict.CRASHES, text)
    return None


def _is_unsolved_itself(run: _Run, source: AgentSource) -> bool:
    """Return whether only placeholders in its own methods count against a class."""
    return not run.unread and all(
        finding.verdict is Verdict.UNSOLVED and bool(source.placeholder(finding.method))
        for finding in run.bad
    )


def _steps_of(agent: AgentFile) -> tuple[str, ...]:
    return _INHERITED_STEPS.get(agent.algorithm, ())


def _import_findings(judge: Judge, failure: Failure) -> list[Finding]:
    """Report why a file cannot be imported; a missing module is not counted as its fault."""
    text = failure.text_for(judge.bench.agent.file)
    if judge.bench.is_not_handed_in(failure):
        return [Finding("", Verdict.UNJUDGED, import_text(failure, text))]
    return _once(judge.findings, "")


def _once(findings: Sequence[Finding], method: str) -> list[Finding]:
    """Report once, not for every method, why a class cannot be used."""
    return [replace(findings[0], method=method)] if findings else []
