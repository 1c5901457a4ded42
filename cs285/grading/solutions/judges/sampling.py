"""Judges solutions that sample where the assignment takes an expectation.

Each `judge_sampled_...` returns whether it has reported a verdict. It reports none on numbers that
do not depend on the seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from cs285.grading.solutions.bench import Bench, Call
from cs285.grading.solutions.chance import are_samples, is_chance
from cs285.grading.solutions.fitting import Observation, row_weights
from cs285.grading.solutions.judging import Judge
from cs285.grading.solutions.verdicts import Reading, Verdict
from cs285.grading.solutions.world import Array, Transitions, World, close, shown

FEW_DRAWS = 20
"""Number of seeds to see whether anything is sampled; with two, all rows may draw the same."""
DRAWS = 200
"""Number of seeds to see what is sampled: a single row shows a bias of half a deviation."""
_SLACK = 1e-2
"""Upper bound on rounding errors in values computed from a gradient; values span about 5."""


def judge_sampled_critic(judge: Judge, batch: Transitions, scalars: Mapping[str, Any]) -> bool:
    """Judge a critic loss that draws the next action."""
    method = "compute_critic_loss"

    def read(bench: Bench, trial: int) -> Array | None:
        found = bench.derivative(bench.seen[trial, 0].gradients["critic/online"][0], batch)
        if found is None:
            return None
        taken, _ = _critic(bench.world(trial, 0, batch), "online")
        targets: Array = taken - found[np.arange(len(batch)), batch.actions] * len(batch) / 2
        return targets

    call = Call(method, judge.transitions(batch), "loss")
    sampled = _sample(judge, scalars, call, read)
    if sampled is None:
        return judge.is_bad(method)
    bench, targets = sampled
    ended, rewards = targets[:, batch.dones], batch.rewards[batch.dones]
    if not close(ended, np.broadcast_to(rewards, ended.shape), _SLACK):
        judge.wrong(method, "(1 - d) is missing: terminated states are given a future")
        return True
    world, going_on = bench.world(0, 0, batch), ~batch.dones
    samples = (targets - batch.rewards)[:, going_on] / scalars["discount"]
    policy = world.policy(next_state=True).detach().numpy()[going_on]
    networks = ("critic/target", "critic/online")
    values = [world.next(network).detach().numpy()[going_on] for network in networks]
    _conclude(judge, method, "the next action", policy, [(None, samples, each) for each in values])
    return True


def judge_sampled_advantage(judge: Judge, batch: Transitions, scalars: Mapping[str, Any]) -> bool:
    """Judge an advantage that draws the action of its baseline."""
    method = "compute_advantage"
    sampled = _sample(
        judge,
        scalars,
        Call(method, judge.transitions(batch)[:2], "advantage"),
        lambda bench, trial: bench.seen[trial, 0].result.ravel(),
    )
    if sampled is None:
        return judge.is_bad(method)
    bench, advantages = sampled
    readings = {None: advantages, Reading.DIVIDED: advantages * scalars["temperature"]}
    _judge_baseline(judge, method, bench.world(0, 0, batch), readings)
    return True


def judge_sampled_actor(judge: Judge, batch: Transitions, scalars: Mapping[str, Any]) -> bool:
    """Judge an actor's step whose advantage is sampled."""
    method = "update_actor"

    def read(bench: Bench, trial: int) -> Array | None:
        found = bench.derivative(bench.step(trial, 0, "actor/online"), batch)
        if found is None:
            return None
        return row_weights(Observation(bench.world(trial, 0, batch), {"actor/online": found}))

    sampled = _sample(judge, scalars, Call(method, judge.transitions(batch)[:2]), read)
    if sampled is None:
        return judge.is_bad(method)
    bench, weights = sampled
    if not _is_of_data(bench, batch, weights[0]):
        judge.wrong(method, "the log-probabilities are those of other actions than the data's")
    elif (weights <= 0).any():
        judge.wrong(method, "weights that are not positive: the exponential or a sign is wrong")
    else:
        advantages = np.log(weights) * scalars["temperature"]
        _judge_baseline(judge, method, bench.world(0, 0, batch), {None: advantages})
    return True


def _is_of_data(bench: Bench, batch: Transitions, weights: Array) -> bool:
    """Return whether the first trial's step is that of log pi(a|s) with these row weights."""
    size = len(batch)
    found = bench.derivative(bench.step(0, 0, "actor/online"), batch)
    policy = bench.world(0, 0, batch).policy().detach().numpy()
    expected = weights[:, None] * (policy - np.eye(policy.shape[1])[batch.actions]) / size
    return found is not None and close(found[:size], expected, _SLACK)


def _sample(
    judge: Judge,
    scalars: Mapping[str, Any],
    call: Call,
    read: Callable[[Bench, int], Array | None],
) -> tuple[Bench, Array] | None:
    """Repeat a call with many seeds, each on a new agent.

    Returns:
        The bench and what was read from every trial, `(DRAWS, batch)`. None if it cannot be read or
        does not depend on the seed, or if the call fails, which is reported.
    """
    for draws in (FEW_DRAWS, DRAWS):
        bench = judge.make_bench()
        for seed in range(draws):
            bench.add(scalars, call, seed=seed)
        bench.run()
        if judge.failed(call.method, *bench.seen.values()):
            return None
        found = [read(bench, trial) for trial in range(draws)]
        present = [one for one in found if one is not None]
        if len(present) < draws or all(close(one, present[0], 1e-4) for one in present):
            return None
    return bench, np.array(present)


def _judge_baseline(
    judge: Judge, method: str, world: World, readings: Mapping[Reading | None, Array]
) -> None:
    """Judge the baseline of advantages `(draws, batch)`, which may be read in several ways."""
    policy = world.policy().detach().numpy()
    candidates = [
        (reading, taken - advantages, values)
        for reading, advantages in readings.items()
        for taken, values in _taken_and_drawn(world)
    ]
    _conclude(judge, method, "the baseline", policy, candidates)


def _taken_and_drawn(world: World) -> Iterator[tuple[Array, Array]]:
    """Yield Q of the actions taken `(batch,)` with the values to draw from `(batch, actions)`."""
    online, target = _critic(world, "online"), _critic(world, "target")
    yield online
    yield target
    yield online[0], target[1]


def _critic(world: World, role: str) -> tuple[Array, Array]:
    """Return a critic's values of the actions taken, and of all actions."""
    values = world.now(f"critic/{role}")
    return world.taken(values).detach().numpy(), values.detach().numpy()


def _conclude(
    judge: Judge,
    method: str,
    name: str,
    policy: Array,
    candidates: list[tuple[Reading | None, Array, Array]],
) -> None:
    """Accept samples `(draws, batch)` of values `(batch, actions)`, or report the first ones."""
    # Averages come second: their test is weaker, and other readings of single draws may pass it.
    for fits, kind in ((_are_draws, Reading.SAMPLED), (_are_averages, Reading.AVERAGED)):
        for reading, samples, values in candidates:
            if fits(samples, values, policy):
                text = f"{name} {kind}" + (f"; {reading}" if reading else "")
                readings = [kind, reading] if reading else [kind]
                judge.say(method, Verdict.VARIANT, text, readings=readings)
                return
    _, samples, values = candidates[0]
    judge.wrong(
        method,
        f"{name} is sampled, but not from the actor's distribution: expected a mean of "
        f"{shown((policy * values).sum(1))}, got {shown(samples.mean(0))}",
    )


def _are_draws(samples: Array, values: Array, policy: Array) -> bool:
    """Return whether samples are values of actions drawn from a policy."""
    distance = np.abs(samples[:, :, None] - values)
    # If two actions have nearly the same value, which one was drawn is unknown.
    apart = np.diff(np.sort(values, axis=1), axis=1).min(1) > 4 * _SLACK
    return (
        bool((distance.min(2) < _SLACK).all())
        and is_chance(samples.mean(0), values, policy, len(samples), _SLACK)
        and (not apart.any() or are_samples(distance.argmin(2)[:, apart].T, policy[apart]))
    )


def _are_averages(samples: Array, values: Array, policy: Array) -> bool:
    """Return whether samples may be averages of several draws each."""
    low, high = values.min(1) - _SLACK, values.max(1) + _SLACK
    single = (np.abs(samples[:, :, None] - values).min(2) < _SLACK).all()
    inside = ((samples >= low) & (samples <= high)).all()
    return bool(inside and not single) and is_chance(
        samples.mean(0), values, policy, len(samples), _SLACK
    )
