"""DQN and CQL: a critic's losses and steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cs285.grading.solutions.bench import Call
from cs285.grading.solutions.fitting import Observation, fit, right_fit
from cs285.grading.solutions.formulas.conservative import CQL, CQL_AT_ONE
from cs285.grading.solutions.formulas.critics import DQN
from cs285.grading.solutions.formulas.formula import Formula
from cs285.grading.solutions.judges.actions import VALUES_POLICY, add_acting, judge_values_policy
from cs285.grading.solutions.judges.sampling import judge_random
from cs285.grading.solutions.judges.updates import add_updates, judge_copy, judge_update
from cs285.grading.solutions.judging import Judge, has_no_gradient
from cs285.grading.solutions.verdicts import Verdict
from cs285.grading.solutions.world import shown
from cs285.probing.inputs import Array, Transitions, close

_DOUBLE = ("with use_double_q", "without use_double_q")


class CriticJudge(Judge):
    """A judge of a critic's loss in which nothing should be sampled."""

    def judge_loss(
        self,
        formula: Formula,
        observed: Sequence[Observation | None],
        scalars: Mapping[str, Any],
        call: Call,
        cause: str = "",
    ) -> None:
        """Judge a loss with and without double Q; `cause` says why it may be random."""
        present = [seen for seen in observed if seen is not None]
        known = len(present) == len(observed) and fit(formula, present, single=True)
        if known or not judge_random(self, scalars, call, cause):
            self.judge_fit(call.method, formula, observed, ignored=self.of_parent, cases=_DOUBLE)

    of_parent: set[str] | None = None
    """Choices that a parent may have made."""


class DQNJudge(CriticJudge):
    """DQN: acting, loss, step, copy, update."""

    formula = DQN

    def judge(self) -> None:
        """Add the findings."""
        bench = self.bench
        batches = [self.batch(), self.batch(9)]
        double = self.scalars()
        single = self.scalars(use_double_q=False)
        values = [self.transitions(batch) for batch in batches]
        loss = [
            bench.add(double, Call("compute_critic_loss", values[0], "loss")),
            bench.add(single, Call("compute_critic_loss", values[1], "loss")),
        ]
        twice = bench.add(
            double, Call("update_critic", values[0]), Call("update_critic", values[0])
        )
        after = bench.add(
            double, Call("update_critic", values[0]), Call("compute_critic_loss", values[0], "loss")
        )
        clipped = bench.add({**double, "clip_grad_norm": 0.01}, Call("update_critic", values[0]))
        copy = bench.add(double, Call("update_target_critic"))
        updates = add_updates(self, double, values[0])
        acting = add_acting(self, double, VALUES_POLICY)
        if not self.run():
            return
        judge_values_policy(self, 0, *acting)
        seen = [bench.outcomes[trial, 0] for trial in loss]
        if not self.failed("compute_critic_loss", *seen):
            observed = bench.observe_losses(loss, batches)
            call = Call("compute_critic_loss", values[0], "loss")
            self.judge_loss(self.formula, observed, double, call)
            if not self.is_bad("compute_critic_loss"):
                self.judge_variables(loss[0], batches[0])
        self.judge_step(twice, after, clipped, loss[0])
        judge_copy(self, "update_target_critic", copy, "critic/target", "critic/online")
        judge_update(
            self,
            updates,
            [(twice, 0)],
            {"critic/online": "critic"},
            {"critic/target": "critic/online"},
        )

    def judge_variables(self, trial: int, batch: Transitions) -> None:
        """Check the values that `compute_critic_loss` passes to child classes."""
        result = self.bench.outcomes[trial, 0].result
        variables = result[2] if isinstance(result, list) and len(result) > 2 else None  # noqa: PLR2004
        world = self.bench.world(trial, 0, batch)
        values = world.now("critic/online")
        wanted = {"qa_values": values, "q_values": world.taken(values)}
        for name, expected in wanted.items():
            found = variables.get(name) if isinstance(variables, dict) else None
            if not isinstance(found, np.ndarray):
                self.wrong("compute_critic_loss", f"its variables lack `{name}`")
            elif not close(found.ravel(), expected.detach().numpy().ravel()):
                self.wrong(
                    "compute_critic_loss",
                    f"its variable `{name}`: expected {shown(expected.detach().numpy())}, got "
                    f"{shown(found)}",
                )

    def judge_step(self, twice: int, after: int, clipped: int, loss: int) -> None:
        """Judge `update_critic` by the gradient of the student's own loss."""
        bench, method = self.bench, "update_critic"
        failure = bench.outcomes[twice, 0].failure
        if failure is not None and has_no_gradient(failure) and self.is_bad("compute_critic_loss"):
            self.say(method, Verdict.UNJUDGED, "the loss of compute_critic_loss has no gradient")
            return
        if self.failed(method, bench.outcomes[twice, 0], bench.outcomes[twice, 1]):
            return
        first, second = (bench.step(twice, k, "critic/online")[0] for k in range(2))
        own = bench.outcomes[loss, 0].gradients or {}
        idle = all(np.abs(g).max() == 0 for pair in own.get("critic/online", []) for g in pair)
        if self.is_bad("compute_critic_loss") and own and idle:
            text = "the loss of compute_critic_loss does not train the critic"
            self.say(method, Verdict.UNJUDGED, text)
            return
        if not self.bench.moved(twice, 0, "critic/online"):
            self.wrong(method, "the parameters are never trained: it takes no step")
            return
        sources = (bench.outcomes[loss, 0], bench.outcomes[after, 1])
        if any(seen.failure or "critic/online" not in seen.gradients for seen in sources):
            self.say(method, Verdict.UNJUDGED, "compute_critic_loss fails first")
            return
        g1, g2 = (seen.gradients["critic/online"][0][0] for seen in sources)
        if close(first, -g1):
            self.wrong(method, "flipped sign: the loss is maximised")
        elif not close(first, g1):
            self.wrong(
                method,
                f"the step is not the gradient of its own loss: expected {shown(g1)}, "
                f"got {shown(first)}",
            )
        elif close(second, g1 + g2):
            self.wrong(method, "gradients accumulate: zero_grad is missing")
        elif not close(second, g2):
            self.wrong(method, f"the second step: expected {shown(g2)}, got {shown(second)}")
        else:
            self.judge_clipping(clipped, first)

    def judge_clipping(self, clipped: int, gradient: Array) -> None:
        """Judge the effect of `clip_grad_norm` on a step."""
        method = "update_critic"
        if self.failed(method, self.bench.outcomes[clipped, 0]):
            return
        weight, bias = self.bench.step(clipped, 0, "critic/online")
        norm = math.sqrt(float((weight**2).sum() + (bias**2).sum()))
        # Weights near 1 resolve a step of 0.005 to four digits only.
        if abs(norm - 0.01) < 3e-4:  # noqa: PLR2004
            self.say(method, Verdict.CORRECT)
        elif close(weight, gradient):
            self.wrong(method, "clip_grad_norm is ignored, or applied after the step")
        else:
            self.wrong(method, f"clip_grad_norm 0.01 leaves a gradient of norm {norm:.3g}")


_TD_CHOICES = {
    "bootstrap", "mask", "shape", "discount", "state", "reward", "mix", "error", "reduction",
    "scale", "values", "detach",
}  # fmt: skip


_RANDOM_ACTIONS = (
    "the conservative term is over random actions, as for continuous actions, in place of the "
    "exact logsumexp over all actions"
)


class CQLJudge(CriticJudge):
    """CQL: the conservative term on DQN's loss."""

    formula = CQL
    of_parent = _TD_CHOICES

    def judge(self) -> None:
        """Add the findings."""
        bench = self.bench
        alpha = float(self.rng.uniform(0.4, 0.8))
        batches = [self.batch(), self.batch(9), self.batch()]
        settings = [
            self.scalars(cql_alpha=alpha, cql_temperature=1.0),
            self.scalars(cql_alpha=2 * alpha, cql_temperature=1.0, use_double_q=False),
            self.scalars(cql_alpha=alpha, cql_temperature=float(self.rng.uniform(1.7, 2.6))),
        ]
        trials = [
            bench.add(s, Call("compute_critic_loss", self.transitions(b), "loss"))
            for s, b in zip(settings, batches, strict=True)
        ]
        values = self.transitions(batches[0])
        step = bench.add(settings[0], Call("update_critic", values))
        updates = add_updates(self, settings[0], values)
        if not self.run():
            return
        method = "compute_critic_loss"
        if not self.failed(method, *(bench.outcomes[trial, 0] for trial in trials)):
            observed = bench.observe_losses(trials, batches)
            if found := right_fit(self.formula, observed):
                self.conclude(method, found)
            elif not self.plain_at_one(method, observed) and not judge_random(
                self, settings[0], Call(method, values, "loss"), _RANDOM_ACTIONS
            ):
                # Misplaced temperatures do not show here, because it is 1 in both cases.
                self.judge_fit(method, CQL_AT_ONE, observed[:2], ignored=_TD_CHOICES, cases=_DOUBLE)
        if self.defines("update_critic"):
            self.judge_own_step(step, trials[0])
        judge_update(
            self,
            updates,
            [(step, 0)],
            {"critic/online": "critic"},
            {"critic/target": "critic/online"},
        )

    def plain_at_one(self, method: str, observed: Sequence[Observation | None]) -> bool:
        """Report numbers that are right at temperature 1 but fit no known formula at others."""
        at_one = [seen for seen in observed[:2] if seen is not None]
        other = [seen for seen in observed[2:] if seen is not None]
        if len(at_one) + len(other) < len(observed):
            return False
        if not fit(self.formula, at_one, correct_only=True):
            return False
        if fit(self.formula, other, correct_only=True):
            return False
        found = fit(self.formula, other, single=True)
        if found is not None and self.formula.mistaken(found) == {"temperature"}:
            self.conclude(method, found)
            return True
        self.say(method, Verdict.VARIANT, "right at temperature 1, scaled differently at others")
        return True

    def judge_own_step(self, step: int, loss: int) -> None:
        """Judge the student's own `update_critic` by the gradient of the student's own loss."""
        if (
            self.failed("update_critic", self.bench.outcomes[step, 0])
            or self.bench.outcomes[loss, 0].failure
        ):
            return
        found = self.bench.step(step, 0, "critic/online")[0]
        gradient = self.bench.outcomes[loss, 0].gradients["critic/online"][0][0]
        if close(found, gradient):
            self.say("update_critic", Verdict.CORRECT)
        else:
            self.wrong(
                "update_critic",
                f"the step is not the gradient of its own loss: expected {shown(gradient)}, "
                f"got {shown(found)}",
            )
