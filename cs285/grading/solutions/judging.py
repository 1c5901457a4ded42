"""The judges' base class: verdicts on an agent's methods, from the numbers of a child process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cs285.grading.sandbox.ends import End
from cs285.grading.solutions.agent_source import AgentSource
from cs285.grading.solutions.assignment import AGENTS
from cs285.grading.solutions.bench import Bench, Failure, Outcome
from cs285.grading.solutions.fitting import (
    Fit,
    Observation,
    difference,
    difference_in_cases,
    fit,
    fit_cases,
)
from cs285.grading.solutions.formulas.formula import Formula
from cs285.grading.solutions.verdicts import Finding, Reading, Verdict
from cs285.probing.inputs import Array, Transitions

PERIOD = 7
OPTIMISERS = {
    "critic": "make_optimizer",
    "actor": "make_actor_optimizer",
    "value": "make_value_critic_optimizer",
    "rnd": "make_rnd_network_optimizer",
}
"""The kinds of network, and the argument that makes each one's optimiser."""


def unsolved_text(left: str) -> str:
    """Return the reason for the verdict `unsolved`, given what `AgentSource.placeholder` found."""
    return f"it still contains {left}"


def import_text(failure: Failure, text: str) -> str:
    """Say that a file imports something that was not handed in; `text` describes the failure."""
    return (
        f"it imports `{failure.name}`, which is not in the hand-in ({text}). Files may import "
        "PyTorch, NumPy, Gymnasium, the starter's `cs285`, and modules that are handed in with "
        "them"
    )


_INHERITED = {"compute_critic_loss", "update_critic", "update_target_critic", "update_actor"}
"""The parents' methods that may fail because of what a child class passes to them."""


_NO_GRADIENT = "does not require grad"
"""Part of PyTorch's message if the backward pass starts from a number without a graph."""
_HAS_NO_GRADIENT = "loss has no gradient: it is computed under no_grad or from detached values"


def has_no_gradient(failure: Failure) -> bool:
    """Return whether a backward pass failed because its loss has no graph."""
    return _NO_GRADIENT in failure.message


_REPORTED = {verdict for verdict in Verdict if not verdict.is_right}
"""Verdicts after which a later failure of the same method says nothing new."""


class Judge:
    """Judges one class on top of one set of parent files.

    Args:
        source: The class to judge.
        make_bench: Makes an empty bench for it.
        rng: Source of batches and scalars.
    """

    def __init__(
        self,
        source: AgentSource,
        make_bench: Callable[[], Bench],
        rng: np.random.Generator,
    ) -> None:
        self.source = source
        self.make_bench = make_bench
        self.rng = rng
        self.bench = make_bench()
        self.inputs = self.bench.inputs
        self.findings: list[Finding] = []
        self.raised: dict[str, tuple[str, str]] = {}
        """Type and message of the errors raised by using a method's result, by method; they may
        recur in the methods that call it."""
        self.sampled: set[str] = set()
        """Roles of networks whose steps depend on the seed, so that two steps may differ."""

    def judge(self) -> None:
        """Run the class and add the findings."""
        raise NotImplementedError

    def run(self) -> bool:
        """Run the bench; return False, and report why, if a network is not trained correctly."""
        self.bench.run()
        if not self.bench.initial:
            return True  # the methods report what was raised
        roles = self.bench.initial[0]
        for kind, maker in OPTIMISERS.items():
            if f"{kind}/target" in roles and f"{kind}/online" not in roles:
                if kind in self.bench.optimisers:
                    text = f"{maker} is not given the parameters of the {kind}: it is never trained"
                    self.wrong("__init__", text)
                else:
                    text = (
                        f"the {kind}'s optimiser is not made by {maker}: its steps cannot be read"
                    )
                    self.say("", Verdict.UNJUDGED, text)
        if self.findings:
            return False
        makers = set(self.bench.agent.makers).difference(
            *(AGENTS[name].makers for name in self.bench.agent.parents)
        )
        for kind in sorted(self.bench.own_optimisers):
            if OPTIMISERS[kind] in makers:
                text = f"it makes the {kind}'s optimiser itself, not with {OPTIMISERS[kind]}: "
                self.say("__init__", Verdict.VARIANT, f"{text}settings have no effect on it")
        return True

    # Small helpers

    def scalars(self, **more: Any) -> dict[str, Any]:
        """Draw the scalars of `DQNAgent` and add others."""
        return {
            "discount": float(self.rng.uniform(0.6, 0.85)),
            "target_update_period": PERIOD,
            "use_double_q": True,
            "clip_grad_norm": None,
            **more,
        }

    def say(
        self,
        method: str,
        verdict: Verdict,
        text: str = "",
        *,
        end: End = End.DONE,
        raised: str = "",
        readings: Iterable[Reading] = (),
    ) -> None:
        """Add a finding."""
        self.findings.append(
            Finding(method, verdict, text, end, frozenset(readings), raised=raised)
        )

    def failed(self, method: str, *calls: Outcome) -> bool:
        """Report the first failure among a method's calls; return whether there is one."""
        failure = next((seen.failure for seen in calls if seen.failure), None)
        if failure is None:
            return False
        if self.is_here(failure) and not failure.inherited:
            where = failure.function if failure.function in self.source.methods else ""
        else:
            where = next(
                (one for one in (failure.inherited, failure.function) if one in _INHERITED), ""
            )
        raised = (failure.type, failure.message)
        if where in {"", method, failure.inherited}:
            direct = self.defines(method) and not failure.inherited
            reached = self.source.reached(method) if direct else set(self.raised)
            where = next((one for one in reached if self.raised.get(one) == raised), where)
        if failure.type and not failure.function:
            self.raised.setdefault(where or method, raised)
        if where not in {"", method, "__init__"}:
            self.say(method, Verdict.UNJUDGED, f"{where} fails first")
            if all(one.method != where or one.verdict.is_right for one in self.findings):
                self._report(where, failure)
        else:
            self._report(method, failure)
        return True

    def is_here(self, failure: Failure) -> bool:
        """Return whether an error was raised in the file being judged."""
        return failure.file == f"cs285/agents/{self.bench.agent.file}"

    def _report(self, method: str, failure: Failure) -> None:
        if any(f.method == method and f.verdict in _REPORTED for f in self.findings):
            return
        blamed = failure.function if self.is_here(failure) and failure.function else method
        # A placeholder never ends the process.
        left = self.source.placeholder(blamed) if failure.type else ""
        if failure.missing == method:
            self.say(method, Verdict.MISSING, "the class has no such method")
        elif failure.type == "NotImplementedError" or left:
            self.say(method, Verdict.UNSOLVED, unsolved_text(left or "`NotImplementedError`"))
        elif (
            has_no_gradient(failure)
            and not self.defines(method)
            and self.is_bad("compute_critic_loss")
        ):
            self.say(method, Verdict.UNJUDGED, "compute_critic_loss, which it calls, is wrong")
        elif has_no_gradient(failure) and not failure.function:
            # The child process differentiates the loss that a method returns.
            self.wrong(blamed, f"the {_HAS_NO_GRADIENT}: nothing is trained")
        elif not failure.type or not self.depends_on_unsolved(method):
            text = failure.text_for(self.bench.agent.file)
            if has_no_gradient(failure):
                text += f" (the {_HAS_NO_GRADIENT})"
            verdict = Verdict.CRASHES
            if self.bench.is_not_handed_in(failure):
                verdict, text = Verdict.UNJUDGED, import_text(failure, text)
            self.say(method, verdict, text, end=failure.ending.end, raised=failure.type)

    def depends_on_unsolved(self, method: str) -> bool:
        """Report a method as unjudged if it calls an unsolved one; return whether it does."""
        methods = self.source.methods
        # A parent's method may call any of them.
        reached = self.source.reached(method) if method in methods else set(methods)
        unsolved = {one: left for one in sorted(reached) if (left := self.source.placeholder(one))}
        if not unsolved:
            return False
        for one, left in unsolved.items():
            if not self.is_bad(one):
                self.say(one, Verdict.UNSOLVED, unsolved_text(left))
        names = ", ".join(f"`{one}`" for one in unsolved)
        verb = "is" if len(unsolved) == 1 else "are"
        self.say(method, Verdict.UNJUDGED, f"{names}, which it calls, {verb} unsolved")
        return True

    def is_bad(self, method: str) -> bool:
        """Return whether a finding against a method has been made already."""
        return any(f.method == method and f.verdict.is_bad for f in self.findings)

    def conclude(self, method: str, found: Fit | None, *, ignored: set[str] | None = None) -> None:
        """Turn a fit into a finding; if there is none, the caller has reported why.

        A parent may have made the choices in `ignored`.
        """
        if found is None:
            return
        if found.mistakes:
            self.wrong(method, "; ".join(found.mistakes))
            self.findings[-1] = replace(
                self.findings[-1],
                of_parent=bool(ignored) and set(found.choices) <= (ignored or set()),
                of_child=bool(ignored) and not set(found.choices) <= (ignored or set()),
                readings=frozenset({Reading.PAIRS} if found.choices.get("shape") else ()),
            )
        elif found.variants:
            self.say(method, Verdict.VARIANT, "; ".join(found.variants))
        else:
            self.say(method, Verdict.CORRECT)

    def wrong(self, method: str, text: str) -> None:
        """Report wrong numbers; a placeholder left in the method explains them."""
        if left := self.source.placeholder(method):
            self.say(method, Verdict.UNSOLVED, unsolved_text(left))
        elif self.depends_on_unsolved(method):
            pass
        else:
            self.say(method, Verdict.WRONG, text)

    def defines(self, method: str) -> bool:
        """Return whether the student's class itself defines a method."""
        return method in self.source.methods

    def batch(self, size: int = 7) -> Transitions:
        """Draw a batch."""
        return self.inputs.draw_batch(size)

    def transitions(self, batch: Transitions) -> tuple[Array, ...]:
        """Return the five arguments of an update."""
        return (
            batch.observations,
            batch.actions,
            batch.rewards,
            batch.next_observations,
            batch.dones,
        )

    def judge_fit(
        self,
        method: str,
        formula: Formula,
        observations: Sequence[Observation | None],
        *,
        ignored: set[str] | None = None,
        cases: Sequence[str] = (),
    ) -> Fit | None:
        """Fit the observations of one method and report the result; return the fit.

        `cases` says what each observation is, such as `with use_double_q`.
        """
        present = [seen for seen in observations if seen is not None]
        if len(present) < len(observations):
            self.wrong(
                method, "the weights move along a gradient that no loss on this batch can have"
            )
            return None
        if all(np.abs(d).max() == 0 for seen in present for d in seen.derivatives.values()):
            kinds = sorted({role.split("/")[0] for s in present for role in s.derivatives})
            names = ", ".join({"rnd": "predictor", "value": "V network"}.get(k, k) for k in kinds)
            self.wrong(method, f"no gradient: the parameters of the {names} are never trained")
            return None
        found = fit(formula, present, single=bool(cases))
        if found is None and cases:
            found = fit_cases(formula, present, cases) or fit(formula, present)
        if found is None and any(seen.loss is not None for seen in present):
            # A loss may contain a term without a gradient, which trains nothing.
            silent = [Observation(seen.world, seen.derivatives) for seen in present]
            found = fit(formula, silent, correct_only=True)
            if found is not None:
                found = Fit(
                    found.choices,
                    [*found.variants, "the returned loss differs, but its gradient is right"],
                    [],
                )
        if found is None:
            text = difference_in_cases(formula, present, cases) if cases else ""
            self.wrong(method, text or difference(formula, present))
        self.conclude(method, found, ignored=ignored)
        return found
