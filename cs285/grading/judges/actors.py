"""AWAC: a critic, advantages and an actor that they weigh."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from cs285.grading.bench import Call
from cs285.grading.fitting import Fit, Observation, fit, row_weights
from cs285.grading.formulas.actors import (
    AWAC_ACTOR,
    AWAC_ADVANTAGES,
    TARGET_ADVANTAGE,
    actor_loss,
    awac_advantage,
)
from cs285.grading.formulas.critics import AWAC_CRITIC
from cs285.grading.formulas.formula import Formula
from cs285.grading.judges.actions import ACTOR_POLICY, add_acting, judge_actor_policy
from cs285.grading.judges.sampling import (
    differs,
    differs_after,
    judge_sampled_actor,
    judge_sampled_advantage,
    judge_sampled_critic,
)
from cs285.grading.judges.updates import add_updates, judge_update
from cs285.grading.judging import CORRECT, UNJUDGED, VARIANT, Judge
from cs285.grading.world import Array, Transitions, World, close, shown


class AWACJudge(Judge):
    """AWAC: acting, critic loss, advantage, actor, update."""

    actor_formula = AWAC_ACTOR
    advantage_rule = staticmethod(awac_advantage)
    advantages: Mapping[str, str] = AWAC_ADVANTAGES
    networks: Mapping[str, str] = TARGET_ADVANTAGE

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
        again = bench.add(first, Call("compute_critic_loss", values[0], "loss"), seed=2)
        updates = add_updates(self, first, values[0])
        critic, actor = Call("update_critic", values[0]), Call("update_actor", values[0][:2])
        oracles = [(bench.add(first, critic, actor), 1), (bench.add(first, actor, critic), 1)]
        self.add_actor_trials(batches, first, second)
        acting = add_acting(self, first, ACTOR_POLICY)
        bench.run()
        judge_actor_policy(self, *acting)
        method = "compute_critic_loss"
        if not self.failed(method, *(bench.seen[t, 0] for t in (*losses, again))):
            if differs(self, losses[0], again, "critic/online"):
                judge_sampled_critic(self, batches[0], first)
            else:
                observed = bench.observe_losses(losses, batches)
                self.judge_fit(method, AWAC_CRITIC, observed)
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
        """Add what `judge_actor` reads."""
        values = [self.transitions(batch)[:2] for batch in batches]
        once = Call("update_actor", values[0])
        self.actor_trials = [
            self.bench.add(first, once, once),
            self.bench.add(second, Call("update_actor", values[1])),
        ]
        self.actor_again = self.bench.add(first, once, seed=2)
        advantage = Call("compute_advantage", values[0])
        self.advantage_trials = [self.bench.add(first, advantage, seed=seed) for seed in (1, 2)]

    def judge_actor(self, batches: Sequence[Transitions], scalars: Mapping[str, Any]) -> None:
        """Judge `compute_advantage` and `update_actor`."""
        bench = self.bench
        seen = [bench.seen[trial, 0] for trial in self.advantage_trials]
        if not self.failed("compute_advantage", *seen):
            self.judge_advantage(batches[0], scalars)
        trials, method = self.actor_trials, "update_actor"
        if self.failed(method, *(bench.seen[t, 0] for t in (*trials, self.actor_again))):
            return
        if differs_after(self, trials[0], self.actor_again, "actor/online"):
            judge_sampled_actor(self, batches[0], scalars)
            return
        observed = self.bench.observe_steps(trials, batches, "actor/online")
        if self.is_bad("compute_advantage"):
            self.judge_actor_apart(observed[0])
            return
        found = self.capped_fit(observed)
        if found is None:
            found = self.judge_fit(method, self.actor_formula, observed)
        if found is not None and not found.mistakes:
            self.judge_second_step(method, trials[0], "actor/online")

    def judge_actor_apart(self, seen: Observation | None) -> None:
        """Judge the actor's step by the wrong advantages that the class computes itself."""
        method = "update_actor"
        result = self.bench.seen[self.advantage_trials[0], 0].result
        if (
            seen is not None
            and isinstance(result, np.ndarray)
            and result.size == len(seen.world.batch)
        ):
            own = torch.tensor(result.ravel())

            def loss(w: World, **choices: Any) -> torch.Tensor:
                return actor_loss(w, lambda *_: own, **choices)

            mistakes = {k: v for k, v in self.actor_formula.mistakes.items() if k != "advantage"}
            found = fit(Formula(loss, {}, mistakes), [seen])
            if found is not None:
                self.conclude(method, found)
                return
        self.say(method, UNJUDGED, "compute_advantage is wrong")

    def capped_fit(self, observed: Sequence[Observation | None]) -> Fit | None:
        """Recognise a cap on the exponential, which the assignment leaves open, and report it."""
        present = [seen for seen in observed if seen is not None]
        if len(present) < len(observed) or fit(self.actor_formula, present, correct_only=True):
            return None
        cap = max(float(row_weights(seen).max()) for seen in present)
        if cap <= 1:
            return None
        found = fit(self.actor_formula, present, {"cap": cap}, correct_only=True)
        if found is None:
            return None
        variants = [*found.variants, f"the exponential is capped at {cap:.4g}"]
        capped = Fit(found.choices, variants, [])
        self.conclude("update_actor", capped)
        return capped

    def judge_second_step(self, method: str, trial: int, role: str) -> None:
        """Find gradients of an earlier step in a later one."""
        if self.bench.seen[trial, 1].error:
            return
        first, second = (self.bench.step(trial, k, role)[0] for k in range(2))
        expected = self.expected_second(trial, role)
        if expected is not None and close(second, expected + first) and not close(second, expected):
            self.wrong(method, "gradients accumulate: zero_grad is missing")

    def expected_second(self, trial: int, role: str) -> Array | None:
        """Return the gradient that a second step on the same batch should follow."""
        call = self.bench.trials[trial][2][1]
        fresh = self.make_bench()
        fresh.weights = self.bench.seen[trial, 1].before
        number = fresh.add(self.bench.trials[trial][0], call)
        fresh.run()
        if fresh.seen[number, 0].error:
            return None
        return fresh.step(number, 0, role)[0]

    def judge_advantage(self, batch: Transitions, scalars: Mapping[str, Any]) -> None:
        """Judge what `compute_advantage` returns."""
        method = "compute_advantage"
        first, second = (self.bench.seen[trial, 0].result for trial in self.advantage_trials)
        if not isinstance(first, np.ndarray) or not isinstance(second, np.ndarray):
            self.wrong(method, "it returns no tensor")
            return
        size = len(batch)
        if first.size == size * size:
            self.wrong(
                method, "(B, 1) against (B,): it returns an advantage for every pair of rows"
            )
            return
        if first.size != size:
            self.wrong(method, f"expected shape ({size},), got {first.shape}")
            return
        found = first.ravel()
        if not close(found, second.ravel(), 1e-4):
            judge_sampled_advantage(self, batch, scalars)
            return
        world = self.bench.world(self.advantage_trials[0], 0, batch)
        self.name_advantage(world, found, "" if first.shape == (size,) else f"shape {first.shape}")

    def name_advantage(self, world: World, found: Array, note: str) -> None:
        """Say which advantage numbers are."""
        method = "compute_advantage"
        kinds = {"": "", **self.advantages}
        readings = (
            (mistake, text, self.advantage_rule(world, kind, network).detach().numpy())
            for network, text in {"online": "", **self.networks}.items()
            for kind, mistake in kinds.items()
        )
        mistake, text, _ = next(
            (reading for reading in readings if close(found, reading[2])), (None, "", found)
        )
        if mistake is None and close(found, self.scaled_advantage(world)):
            self.say(method, VARIANT, "it returns A / temperature")
        elif mistake is None:
            expected = self.advantage_rule(world).detach().numpy()
            self.wrong(method, f"expected {shown(expected)}, got {shown(found)}")
        elif mistake:
            self.wrong(method, "; ".join(part for part in (mistake, text) if part))
        else:
            notes = "; ".join(part for part in (text, note) if part)
            self.say(method, VARIANT if notes else CORRECT, notes)

    def scaled_advantage(self, world: World) -> Array:
        """Return A / temperature, which some divide here and not in the weight."""
        scaled: Array = self.advantage_rule(world).detach().numpy() / world.scalars["temperature"]
        return scaled
