"""IQL: V as an expectile of Q, and a critic and an actor that use it."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Sequence

import numpy as np
import torch

from cs285.grading.solutions.bench import Call
from cs285.grading.solutions.fitting import Fit, Observation
from cs285.grading.solutions.formulas.actors import (
    IQL_ACTOR,
    IQL_ADVANTAGES,
    TARGET_VALUES,
    iql_advantage,
)
from cs285.grading.solutions.formulas.critics import IQL_CRITIC
from cs285.grading.solutions.formulas.expectiles import EXPECTILE, EXPECTILE_CHOICES, IQL_VALUE
from cs285.grading.solutions.formulas.formula import Formula
from cs285.grading.solutions.judges.actions import ACTOR_POLICY, add_acting, judge_actor_policy
from cs285.grading.solutions.judges.actors import AWACJudge
from cs285.grading.solutions.judges.updates import add_updates, judge_copy, judge_update
from cs285.grading.solutions.verdicts import Finding, Verdict
from cs285.grading.solutions.world import World
from cs285.probing.inputs import Array, Transitions


class IQLJudge(AWACJudge):
    """IQL: Q, V and its expectile, advantage, update."""

    actor_formula = IQL_ACTOR
    advantage_rule = staticmethod(iql_advantage)
    advantages = IQL_ADVANTAGES
    networks = TARGET_VALUES
    has_expectation = False

    def judge(self) -> None:
        """Add the findings."""
        bench = self.bench
        batches = [self.batch(), self.batch(9)]
        tau = float(self.rng.choice([self.rng.uniform(0.55, 0.66), self.rng.uniform(0.83, 0.87)]))
        first = self.scalars(temperature=float(self.rng.uniform(1.3, 1.8)), expectile=tau)
        second = self.scalars(
            temperature=float(self.rng.uniform(0.6, 0.8)), expectile=0.62, use_double_q=False
        )
        values = [self.transitions(batch) for batch in batches]
        regress_q = [
            bench.add(first, *[Call("update_q", values[0])] * 2),
            bench.add(second, Call("update_q", values[1])),
        ]
        regress_v = [
            bench.add(first, *[Call("update_v", values[0][:2])] * 2),
            bench.add(second, Call("update_v", values[1][:2])),
        ]
        vs, qs = (self.rng.normal(size=9).astype(np.float32) for _ in range(2))
        # V and Q may arrive squeezed, as columns, or to be squeezed by the method itself.
        shapes = ((-1,), (-1,)), ((-1, 1), (-1,)), ((-1, 1), (-1, 1)), ((-1,), (-1, 1))
        statics = [
            bench.add(
                first, Call("iql_expectile_loss", (tau, vs.reshape(v), qs.reshape(q)), "leaves")
            )
            for v, q in shapes
        ]
        copy = bench.add(first, Call("update_target_value_critic"))
        updates = add_updates(self, first, values[0])
        steps = (
            Call("update_q", values[0]),
            Call("update_v", values[0][:2]),
            Call("update_actor", values[0][:2]),
        )
        oracles = [(bench.add(first, *order), 2) for order in itertools.permutations(steps)]
        self.add_actor_trials(batches, first, second)
        acting = add_acting(self, first, ACTOR_POLICY)
        if not self.run():
            return
        if self.defines("get_action"):
            judge_actor_policy(self, *acting)
        self.judge_regression("update_q", IQL_CRITIC, regress_q, batches, "critic/online")
        expectile_is_right = self.judge_expectile(statics, tau, vs, qs)
        learned = self.judge_regression(
            "update_v",
            IQL_VALUE,
            regress_v,
            batches,
            "value/online",
            excused=not expectile_is_right,
        )
        if learned and not learned.mistakes and not expectile_is_right and self.calls_expectile():
            # Its calling convention is free, as long as its caller follows it.
            self.findings = [f for f in self.findings if f.method != "iql_expectile_loss"]
            text = "right when called as in update_v, but not on plain arrays"
            self.say("iql_expectile_loss", Verdict.VARIANT, text)
        self.judge_actor(batches, first)
        if self.defines("update_target_value_critic"):
            judge_copy(self, "update_target_value_critic", copy, "value/target", "value/online")
        judge_update(
            self,
            updates,
            oracles,
            {"critic/online": "critic", "value/online": "V", "actor/online": "actor"},
            # Some regress V on a target Q; where no loss reads it, its copying is not judged.
            {"value/target": "value/online", "critic/target": "critic/online"},
        )

    def judge_regression(
        self,
        method: str,
        formula: Formula,
        trials: Sequence[int],
        batches: Sequence[Transitions],
        role: str,
        *,
        excused: bool = False,
    ) -> Fit | None:
        """Judge a method that takes a gradient step on one network; return the fit."""
        seen = self.bench.outcomes
        if self.failed(method, *(seen[t, 0] for t in trials)):
            return None
        observed = self.bench.observe_steps(trials, batches, role)
        count = len(self.findings)
        found = self.judge_fit(method, formula, observed)
        if found is not None and not found.mistakes:
            self.judge_second_step(method, formula, trials[0], batches[0], role)
        if excused and (
            found is None or (found.mistakes and formula.mistaken(found) <= EXPECTILE_CHOICES)
        ):
            del self.findings[count:]
            self.say(method, Verdict.UNJUDGED, "iql_expectile_loss, which it calls, is wrong")
        return found

    def calls_expectile(self) -> bool:
        """Return whether `update_v` uses the static loss."""
        method = self.source.methods.get("update_v")
        return method is not None and "iql_expectile_loss" in ast.unparse(method)

    def judge_expectile(self, trials: Sequence[int], tau: float, vs: Array, qs: Array) -> bool:
        """Judge the static loss, which is right if it is right for one of the trials' shapes.

        Only `update_v` knows which of the shapes occurs, and is judged on its own numbers.
        """
        before = list(self.findings)
        reports = []
        for trial in trials:
            self.findings = list(before)
            if self.judge_expectile_in_shape(trial, tau, vs, qs):
                return True
            reports.append(self.findings)
        ran = (
            report
            for report, trial in zip(reports, trials, strict=True)
            if self.bench.outcomes[trial, 0].failure is None
        )
        self.findings = next(ran, reports[0])
        return False

    def judge_expectile_in_shape(self, trial: int, tau: float, vs: Array, qs: Array) -> bool:
        """Judge the static loss for one trial's shapes; return whether it is right."""
        method = "iql_expectile_loss"
        seen = self.bench.outcomes[trial, 0]
        if self.failed(method, seen):
            return False
        leaves = {
            name: torch.tensor(data, dtype=torch.float64, requires_grad=True)
            for name, data in (("vs", vs), ("qs", qs))
        }
        world = World(self.batch(9), leaves, {"expectile": tau})
        result, gradients = seen.result, seen.gradients
        if not isinstance(result, np.ndarray) or not isinstance(gradients, list):
            self.wrong(method, "it does not return a tensor")
            return False
        slope = gradients[0]
        if not isinstance(slope, np.ndarray):
            self.wrong(method, "no gradient reaches V")
            return False
        slope = slope.ravel()
        per_row = result.size == len(vs)
        if per_row:
            result, slope = result.mean(), slope / len(vs)
        elif result.size != 1:
            self.wrong(method, f"expected one number, got shape {result.shape}")
            return False
        observed = Observation(world, {"vs": slope}, float(np.ravel(result)[0]))
        found = self.judge_fit(method, EXPECTILE, [observed])
        right = found is not None and not found.mistakes
        if right and per_row:
            self.findings[-1] = Finding(
                method, Verdict.VARIANT, "one loss per row, averaged by the caller"
            )
        return right
