"""Solutions that sample where the assignment takes an expectation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from cs285.grading.bench import Bench, Call
from cs285.grading.fitting import Observation, row_weights
from cs285.grading.judging import SIGMAS, VARIANT, Judge
from cs285.grading.world import Array, Transitions, World, close, shown


def differs(judge: Judge, first: int, second: int, role: str) -> bool:
    """Tell whether two seeds gave two gradients."""
    a, b = (judge.bench.seen[trial, 0].gradients.get(role) for trial in (first, second))
    return bool(a and b and not close(a[0][0], b[0][0], 1e-4))


def differs_after(judge: Judge, first: int, second: int, role: str) -> bool:
    """Tell whether two seeds led to two sets of weights."""
    return not judge.bench.same((first, 0), (second, 0), role)


def sample(judge: Judge, scalars: Mapping[str, Any], call: Call, count: int = 60) -> Bench:
    """Repeat a call with many seeds."""
    bench = judge.make_bench()
    for seed in range(count):
        bench.add(scalars, call, seed=seed + 10)
    bench.run()
    return bench


def judge_samples(
    judge: Judge, method: str, samples: Array, values: Array, policy: Array, name: str
) -> None:
    """Judge samples `(draws, batch)` of an expectation of values under a policy."""
    mean = (policy * values).sum(1)
    spread = np.sqrt((policy * (values - mean[:, None]) ** 2).sum(1))
    low, high = values.min(1) - 1e-2, values.max(1) + 1e-2
    draws = len(samples)
    z = (samples.mean(0) - mean) / (spread / math.sqrt(draws) + 1e-3)
    inside = ((samples >= low) & (samples <= high)).all()
    # A sum of squares of normal numbers has a long tail: twice the usual distance.
    bound = len(z) + 2 * SIGMAS * math.sqrt(2 * len(z))
    if inside and float((z**2).sum()) < bound:
        judge.say(method, VARIANT, f"{name} is sampled from the actor, not summed exactly")
    else:
        judge.wrong(
            method,
            f"{name} is sampled, but not from the actor's distribution: expected a mean of "
            f"{shown(mean)}, got {shown(samples.mean(0))}",
        )


def judge_sampled_critic(judge: Judge, batch: Transitions, scalars: Mapping[str, Any]) -> None:
    """Judge a critic loss that draws the next action."""
    method = "compute_critic_loss"
    bench = sample(judge, scalars, Call("compute_critic_loss", judge.transitions(batch), "loss"))
    rows = np.arange(len(batch))
    draws = []
    for trial in range(len(bench.trials)):
        seen = bench.seen[trial, 0]
        if judge.failed(method, seen):
            return
        world = bench.world(trial, 0, batch)
        found = bench.derivative(seen.gradients["critic/online"][0], batch)
        if found is None:
            judge.wrong(method, "a gradient that no loss on this batch explains")
            return
        taken = world.taken(world.now("critic/online")).detach().numpy()
        targets = taken - found[: len(batch)][rows, batch.actions] * len(batch) / 2
        draws.append(targets)
    targets = np.array(draws)
    done = batch.dones
    if not close(
        targets[:, done], np.broadcast_to(batch.rewards[done], targets[:, done].shape), 1e-2
    ):
        judge.wrong(method, "(1 - d) is missing: terminated states are given a future")
        return
    samples = (targets - batch.rewards)[:, ~done] / scalars["discount"]
    policy = world.policy(next_state=True).detach().numpy()[~done]
    candidates = [
        world.next(role).detach().numpy()[~done] for role in ("critic/target", "critic/online")
    ]
    before = len(judge.findings)
    for values in reversed(candidates):
        del judge.findings[before:]
        judge_samples(judge, method, samples, values, policy, "the next action")
        if judge.findings[-1].verdict == VARIANT:
            return


def judge_sampled_advantage(judge: Judge, batch: Transitions, scalars: Mapping[str, Any]) -> None:
    """Judge an advantage that draws the action of its baseline."""
    method = "compute_advantage"
    bench = sample(judge, scalars, Call(method, judge.transitions(batch)[:2]))
    if judge.failed(method, *bench.seen.values()):
        return
    world = bench.world(0, 0, batch)
    found = np.array([bench.seen[t, 0].result.ravel() for t in range(len(bench.trials))])
    judge_baseline(judge, method, world, found)


def judge_baseline(judge: Judge, method: str, world: World, advantages: Array) -> None:
    """Judge sampled advantages `(draws, batch)` by the baseline that they hold."""
    policy = world.policy().detach().numpy()
    before = len(judge.findings)
    for role in ("critic/target", "critic/online"):
        values = world.now(role)
        samples = world.taken(values).detach().numpy() - advantages
        del judge.findings[before:]
        judge_samples(judge, method, samples, values.detach().numpy(), policy, "the baseline")
        if judge.findings[-1].verdict == VARIANT:
            return


def judge_sampled_actor(judge: Judge, batch: Transitions, scalars: Mapping[str, Any]) -> None:
    """Judge an actor's step whose advantage is sampled."""
    method = "update_actor"
    bench = sample(judge, scalars, Call(method, judge.transitions(batch)[:2]))
    if judge.failed(method, *bench.seen.values()):
        return
    world = bench.world(0, 0, batch)
    weights = []
    for trial in range(len(bench.trials)):
        found = bench.derivative(bench.step(trial, 0, "actor/online"), batch)
        if found is None:
            judge.wrong(method, "a gradient that no loss on this batch explains")
            return
        weights.append(row_weights(Observation(world, {"actor/online": found})))
    drawn = np.array(weights)
    if (drawn <= 0).any():
        judge.wrong(method, "weights that are not positive: the exponential or a sign is wrong")
        return
    judge_baseline(judge, method, world, np.log(drawn) * scalars["temperature"])
