"""Verdicts on the methods of the six agents, from numbers that came out of the child."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cs285.grading.solutions.agent_source import AgentSource
from cs285.grading.solutions.bench import Bench, Seen
from cs285.grading.solutions.fitting import Fit, Observation, difference, fit
from cs285.grading.solutions.formulas.formula import Formula
from cs285.grading.solutions.world import Array, Transitions

CORRECT, VARIANT, WRONG, CRASHES, UNSOLVED, MISSING, UNJUDGED = (
    "correct",
    "accepted variant",
    "wrong",
    "crashes",
    "unsolved",
    "missing",
    "not judged",
)
BAD = (WRONG, CRASHES, UNSOLVED, MISSING)

PERIOD = 7
OPTIMISERS = {
    "critic": "make_optimizer",
    "actor": "make_actor_optimizer",
    "value": "make_value_critic_optimizer",
    "rnd": "make_rnd_network_optimizer",
}
"""Kind of network to what makes its optimiser."""


@dataclass(frozen=True)
class Finding:
    """The verdict on one method."""

    method: str
    verdict: str
    text: str = ""


class Judge:
    """Judges one class over one choice of files that it builds on.

    Args:
        source: The class under judgement.
        make_bench: Makes an empty bench for it.
        rng: Source of batches and scalars.
        own_parent: It builds on the student's own parent, which may be wrong and is judged apart.
    """

    def __init__(
        self,
        source: AgentSource,
        make_bench: Callable[[], Bench],
        rng: np.random.Generator,
        *,
        own_parent: bool = False,
    ) -> None:
        self.source = source
        self.make_bench = make_bench
        self.rng = rng
        self.own_parent = own_parent
        self.bench = make_bench()
        self.inputs = self.bench.inputs
        self.findings: list[Finding] = []
        self.samples = False
        """A step depends on the seed, so that no two of them need be alike."""

    def judge(self) -> None:
        """Run the class and add the findings."""
        raise NotImplementedError

    def run(self) -> bool:
        """Run the bench; return False, and say why, if a network is not trained as it should."""
        self.bench.run()
        if not self.bench.initial:
            return True  # what was raised is reported by the methods
        roles = self.bench.initial[0]
        for kind, maker in OPTIMISERS.items():
            if f"{kind}/target" in roles and f"{kind}/online" not in roles:
                if kind in self.bench.optimisers:
                    text = f"{maker} is not given the parameters of the {kind}: it is never trained"
                    self.wrong("__init__", text)
                else:
                    text = f"the {kind} has no optimiser of {maker}, so its steps cannot be read"
                    self.say("", UNJUDGED, text)
        return not self.findings

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

    def say(self, method: str, verdict: str, text: str = "") -> None:
        """Add a finding."""
        self.findings.append(Finding(method, verdict, text))

    def failed(self, method: str, *calls: Seen) -> bool:
        """Report the first error among the calls that judge a method, if there is one."""
        error = next((seen.error for seen in calls if seen.error), None)
        if error is None:
            return False
        where = str(error.get("function", ""))
        if where != method and where in self.source.methods and where != "__init__":
            self.say(method, UNJUDGED, f"{where} fails first")
            self._report_error(where, error)
        else:
            self._report_error(method, error)
        return True

    def _report_error(self, method: str, error: Mapping[str, Any]) -> None:
        if self.is_bad(method):
            return
        kind, message = str(error.get("type", "")), str(error.get("message", ""))
        blamed = str(error.get("function", method))
        if kind == "AttributeError" and message.endswith(f"no attribute '{method}'"):
            self.say(method, MISSING, "the class has no such method")
        elif kind == "NotImplementedError" or self.source.placeholder(blamed):
            left = self.source.placeholder(blamed) or "NotImplementedError"
            self.say(method, UNSOLVED, f"`{left}` is still there")
        elif self.source.todo(blamed) and blamed == method:
            self.say(method, UNSOLVED, f"a TODO is left, and it raises {kind}: {message}")
        else:
            line = f" (line {error['line']})" if error.get("line") else ""
            self.say(method, CRASHES, f"{kind}: {message}{line}" if kind else message)

    def is_bad(self, method: str) -> bool:
        """Tell whether a method was already found at fault."""
        return any(f.method == method and f.verdict in BAD for f in self.findings)

    def conclude(self, method: str, found: Fit | None, *, ignored: set[str] | None = None) -> None:
        """Turn a fit into a finding; without one the caller has said why."""
        if found is None:
            return
        mistakes = found.mistakes
        if self.own_parent and ignored and set(found.choices) <= ignored:
            mistakes = []
        if mistakes:
            self.wrong(method, "; ".join(mistakes))
        elif found.variants:
            self.say(method, VARIANT, "; ".join(found.variants))
        else:
            self.say(method, CORRECT)

    def wrong(self, method: str, text: str) -> None:
        """Report numbers that are not right; a placeholder left in the method explains them."""
        if left := self.source.placeholder(method):
            self.say(method, UNSOLVED, f"`{left}` is still there")
        elif self.source.todo(method):
            self.say(method, WRONG, f"{text} (a TODO is left in the method)")
        else:
            self.say(method, WRONG, text)

    def defines(self, method: str) -> bool:
        """Tell whether the student's class defines a method itself."""
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
    ) -> Fit | None:
        """Fit observations of one method and report; return what they fit."""
        present = [seen for seen in observations if seen is not None]
        if len(present) < len(observations):
            self.wrong(
                method, "the weights move along a gradient that no loss on this batch explains"
            )
            return None
        if all(np.abs(d).max() == 0 for seen in present for d in seen.derivatives.values()):
            roles = ", ".join(
                sorted({role.split("/")[0] for s in present for role in s.derivatives})
            )
            self.wrong(method, f"no gradient: the parameters of the {roles} are never trained")
            return None
        found = fit(formula, present)
        if found is None and any(seen.loss is not None for seen in present):
            # A loss may hold something that has no gradient and so trains nothing.
            silent = [Observation(seen.world, seen.derivatives) for seen in present]
            found = fit(formula, silent)
            if found is not None and not found.mistakes:
                found = Fit(
                    found.choices,
                    [*found.variants, "the number returned differs, its gradient does not"],
                    [],
                )
        if found is None:
            self.wrong(method, difference(formula, present[0]))
        self.conclude(method, found, ignored=ignored)
        return found
