"""AWAC: a critic, advantages, and an actor that they weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from cs285.grading.solutions.bench import Call
from cs285.grading.solutions.fitting import Fit, Observation, fit, right_fit
from cs285.grading.solutions.formulas.actors import (
    AWAC_ACTOR,
    AWAC_ADVANTAGES,
    TABLES,
    TARGET_ADVANTAGE,
    actor_loss,
    awac_advantage,
)
from cs285.grading.solutions.formulas.critics import AWAC_CRITIC
from cs285.grading.solutions.formulas.formula import Formula
from cs285.grading.solutions.formulas.targets import solve
from cs285.grading.solutions.judges.actions import ACTOR_POLICY, add_acting, judge_actor_policy
from cs285.grading.solutions.judges.sampling import (
    judge_random_step,
    judge_sampled_actor,
    judge_sampled_advantage,
    judge_sampled_critic,
)
from cs285.grading.solutions.judges.updates import add_updates, judge_update
from cs285.grading.solutions.judging import Judge
from cs285.grading.solutions.verdicts import Reading, Verdict
from cs285.grading.solutions.world import World, shown
from cs285.probing.inputs import Array, Transitions, close


class AWACJudge(Judge):
    """AWAC: acting, critic loss, advantage, actor, update."""

    actor_formula = AWAC_ACTOR
    advantage_rule = staticmethod(awac_advantage)
    advantages: Mapping[str, str] = AWAC_ADVANTAGES
    networks: Mapping[str, str] = TARGET_ADVANTAGE
    has_expectation = True
    """Whether the advantage contains an expectation over actions, which may be sampled."""

    def judge(self) -> None:
        """Add the findings."""
        bench = self.bench
        batches = [self.batch(), self.batch(9)]
        first = self.scalars(temperature=float(self.rng.uniform(1.3, 1.8)))
        second = self.scalars(temperature=float(self.rng.uniform(0.6, 0.8)), use_double_q=False)
        values = [self.transitions(batch) for batch in batches]
        losses = [
            bench.add(first, Call("compute_critic_loss", values[0], "loss")),
            bench.add(second, Call("compute_critic_loss", values[1], "loss")),
        ]
        updates = add_updates(self, first, values[0])
        critic, actor = Call("update_critic", values[0]), Call("update_actor", values[0][:2])
        oracles = [(bench.add(first, critic, actor), 1), (bench.add(first, actor, critic), 1)]
        self.add_actor_trials(batches, first, second)
        acting = add_acting(self, first, ACTOR_POLICY)
        if not self.run():
            return
        judge_actor_policy(self, *acting)
        method = "compute_critic_loss"
        if not self.failed(method, *(bench.outcomes[trial, 0] for trial in losses)):
            observed = bench.observe_losses(losses, batches)
            if right_fit(AWAC_CRITIC, observed) or not judge_sampled_critic(
                self, batches[0], first
            ):
                self.judge_fit(method, AWAC_CRITIC, observed)
            else:
                # The actor learns from this critic, so it is random too.
                self.sampled |= {"critic/online", "actor/online"}
        self.judge_actor(batches, first)
        judge_update(
            self,
            updates,
            oracles,
            {"critic/online": "critic", "actor/online": "actor"},
            {"critic/target": "critic/online"},
        )

    def add_actor_trials(
        self,
        batches: Sequence[Transitions],
        first: Mapping[str, Any],
        second: Mapping[str, Any],
    ) -> None:
        """Add the trials that `judge_actor` reads."""
        values = [self.transitions(batch)[:2] for batch in batches]
        once = Call("update_actor", values[0])
        self.actor_trials = [
            self.bench.add(first, once, once),
            self.bench.add(second, Call("update_actor", values[1])),
        ]
        self.advantage_trial = self.bench.add(
            first, Call("compute_advantage", values[0], "advantage")
        )

    def judge_actor(self, batches: Sequence[Transitions], scalars: Mapping[str, Any]) -> None:
        """Judge `compute_advantage` and `update_actor`."""
        bench, method = self.bench, "update_actor"
        if not self.failed("compute_advantage", bench.outcomes[self.advantage_trial, 0]):
            self.judge_advantage(batches[0], scalars)
        if self.failed(method, *(bench.outcomes[trial, 0] for trial in self.actor_trials)):
            return
        observed = bench.observe_steps(self.actor_trials, batches, "actor/online")
        if self.is_bad("compute_advantage"):
            self.conclude(method, self.fit_own_advantage(observed[0]))
            if not any(finding.method == method for finding in self.findings):
                self.say(method, Verdict.UNJUDGED, "compute_advantage is wrong")
            return
        found = right_fit(self.actor_formula, observed, capped=True)
        if found is not None:
            self.conclude(method, found)
        elif self.has_expectation and self.judge_sampled_step(observed[0], batches[0], scalars):
            self.sampled.add("actor/online")
            return
        elif not self.has_expectation and judge_random_step(self, batches[0], scalars):
            return
        else:
            found = self.judge_fit(method, self.actor_formula, observed)
        if found is not None and not found.mistakes:
            self.judge_second_step(
                method, self.actor_formula, self.actor_trials[0], batches[0], "actor/online"
            )

    def judge_sampled_step(
        self, seen: Observation | None, batch: Transitions, scalars: Mapping[str, Any]
    ) -> bool:
        """Judge a step on sampled advantages; return False if it does not depend on the seed."""
        # With the same seed the class draws the same advantages, unless its step draws other
        # numbers first.
        readings = frozenset[Reading]().union(
            *(f.readings for f in self.findings if f.method == "compute_advantage")
        )
        # An average does not always show whether it is already divided by the temperature.
        averaged, divided = Reading.AVERAGED in readings, Reading.DIVIDED in readings
        fits = [
            self.fit_own_advantage(seen, divided=choice)
            for choice in ((False, True) if averaged else (divided,))
        ]
        found = min(filter(None, fits), key=lambda one: len(one.mistakes), default=None)
        if found is None or not (Reading.SAMPLED in readings or averaged):
            return judge_sampled_actor(self, batch, scalars)
        variants = [*found.variants, "on the sampled advantage"]
        self.conclude("update_actor", Fit(found.choices, variants, found.mistakes))
        return True

    def fit_own_advantage(self, seen: Observation | None, *, divided: bool = False) -> Fit | None:
        """Fit the actor's step with the advantages that the class computes, right or wrong.

        With `divided`, these are already divided by the temperature.
        """
        result = self.bench.outcomes[self.advantage_trial, 0].result
        if (
            seen is None
            or not isinstance(result, np.ndarray)
            or result.size not in {len(seen.world.batch), len(seen.world.batch) ** 2}
        ):
            return None
        own = torch.tensor(result.squeeze())
        own = own * (seen.world.scalars["temperature"] if divided else 1.0)

        # The choice of advantage belongs to the verdict on `compute_advantage`.
        variants, mistakes = (
            {name: values for name, values in one.items() if name not in {"advantage", "network"}}
            for one in (self.actor_formula.variants, self.actor_formula.mistakes)
        )
        loss = partial(actor_loss, advantage_rule=lambda *_: own)
        formula = Formula(loss, variants, mistakes)
        return right_fit(formula, [seen], capped=True) or fit(formula, [seen])

    def judge_second_step(
        self, method: str, formula: Formula, trial: int, batch: Transitions, role: str
    ) -> None:
        """Check that a later step does not contain the gradient of an earlier one."""
        if self.bench.outcomes[trial, 1].failure:
            return
        if right_fit(formula, [self.bench.observe_step(trial, 1, batch, role)], capped=True):
            return
        first, second = (self.bench.step(trial, k, role)[0] for k in range(2))
        expected = self.expected_second(trial, role)
        if expected is not None and close(second, expected + first) and not close(second, expected):
            self.wrong(method, "gradients accumulate: zero_grad is missing")

    def expected_second(self, trial: int, role: str) -> Array | None:
        """Return the gradient that a second step on the same batch should follow."""
        call = self.bench.trials[trial][2][1]
        fresh = self.make_bench()
        fresh.weights = self.bench.outcomes[trial, 1].before
        number = fresh.add(self.bench.trials[trial][0], call)
        fresh.run()
        if fresh.outcomes[number, 0].failure:
            return None
        return fresh.step(number, 0, role)[0]

    def judge_advantage(self, batch: Transitions, scalars: Mapping[str, Any]) -> None:
        """Judge what `compute_advantage` returns."""
        method = "compute_advantage"
        found = self.bench.outcomes[self.advantage_trial, 0].result
        if not isinstance(found, np.ndarray):
            self.wrong(method, "it does not return a tensor")
            return
        size = len(batch)
        world = self.bench.world(self.advantage_trial, 0, batch)
        if found.size != size:
            self.wrong(method, self.read_table(world, found))
            return
        is_column = found.shape == (size, 1)
        note = "" if found.shape == (size,) else f"shape {found.shape}"
        verdict, text = self.read_advantage(world, found.ravel(), note)
        if verdict is not Verdict.WRONG:
            self.say(method, verdict, text, readings=[Reading.COLUMN] if is_column else ())
        elif self.has_expectation and judge_sampled_advantage(self, batch, scalars):
            self.sampled.add("actor/online")
        else:
            self.wrong(method, text)

    def read_table(self, world: World, found: Array) -> str:
        """Return what is wrong with an advantage that does not have one number per row."""
        for kind in (*sorted(TABLES), "actions"):
            for network in ("online", *self.networks):
                table = self.advantage_values(world, kind, network)
                if table is not None and close(found.squeeze(), table):
                    return self.advantages[kind]
        size = len(world.batch)
        text = f"expected shape ({size},), got {found.shape}"
        if found.size == size * size:
            text += ": (B, 1) against (B,), which broadcasts to every pair of rows"
        return text

    def advantage_values(self, world: World, kind: str, network: str) -> Array | None:
        """Return an advantage, or None if the agent lacks a network that it needs."""
        try:
            values: Array = self.advantage_rule(world, kind, network).detach().numpy()
        except LookupError:
            return None
        return values

    def read_advantage(self, world: World, found: Array, note: str) -> tuple[Verdict, str]:
        """Identify an advantage by its numbers; return the verdict and its text."""
        kinds = {"": "", **self.advantages}
        networks = {"online": "", **self.networks}
        temperature = float(world.scalars["temperature"])
        values = {
            (network, kind): self.advantage_values(world, kind, network)
            for network in networks
            for kind in kinds
        }
        for (network, kind), expected in values.items():
            mistake, variant = kinds[kind], networks[network]
            if expected is not None and close(found, expected):
                if mistake:
                    return Verdict.WRONG, "; ".join(part for part in (mistake, variant) if part)
                notes = "; ".join(part for part in (variant, note) if part)
                return Verdict.VARIANT if notes else Verdict.CORRECT, notes
        return self.read_scaled(found, values, temperature, note)

    def read_scaled(
        self,
        found: Array,
        values: Mapping[tuple[str, str], Array | None],
        temperature: float,
        note: str,
    ) -> tuple[Verdict, str]:
        """Identify an advantage that is scaled or shifted; `values` are by network and kind."""
        for (network, kind), expected in values.items():
            if expected is None or expected.shape != found.shape:
                continue
            mistake = self.advantages.get(kind, "")
            parts = [part for part in (self.networks.get(network, ""), mistake, note) if part]
            if close(found, expected / temperature):
                verdict = Verdict.WRONG if mistake else Verdict.VARIANT
                return verdict, "; ".join([Reading.DIVIDED, *parts])
            if close(found, np.exp(expected / temperature)):
                parts = ["it returns the weight exp(A / lambda), not the advantage", *parts]
                return Verdict.WRONG, "; ".join(parts)
            line = solve([expected, np.ones_like(found)], found) if expected.std() > 0 else None
            if line is not None and abs(line[0]) > 1e-3:  # noqa: PLR2004
                text = f"it is {line[0]:.4g} A + {line[1]:.4g} in place of the advantage A"
                return Verdict.WRONG, "; ".join([text, *parts])
        default = values["online", ""]
        wanted = "" if default is None else f"expected {shown(default)}, "
        return Verdict.WRONG, f"{wanted}got {shown(found)}"
