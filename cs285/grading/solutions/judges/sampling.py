"""Judges solutions that sample where the assignment takes an expectation.

Each `judge_sampled_...` returns whether it has reported a verdict. It reports none if the numbers
do not depend on the seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cs285.grading.solutions.bench import Bench, Call
from cs285.grading.solutions.chance import are_samples, is_chance
from cs285.grading.solutions.fitting import Observation, row_weights
from cs285.grading.solutions.formulas.critics import (
    DQN_BOOTSTRAPS,
    REWARDS_MIXED,
    TD_SHAPES,
    mix_rows,
)
from cs285.grading.solutions.judging import Judge
from cs285.grading.solutions.verdicts import Reading, Verdict
from cs285.grading.solutions.world import World, shown
from cs285.probing.inputs import Array, Transitions, close
from cs285.probing.networks import NUM_ACTIONS

FEW_DRAWS = 20
"""Number of seeds to detect sampling; with two, all rows may happen to draw the same."""
DRAWS = 200
"""Number of seeds to identify what is sampled: one row then reveals a bias of half a deviation."""
_SLACK = 1e-2
"""Upper bound on rounding errors in values computed from a gradient; values span about 5."""


def judge_random(judge: Judge, scalars: Mapping[str, Any], call: Call, cause: str = "") -> bool:
    """Report a loss that depends on the seed although it should not; return whether it does.

    `cause` says why it may be random.
    """
    method = call.method
    bench = judge.make_bench()
    for seed in range(2, 5):
        bench.add(scalars, call, seed=seed)
    bench.run()
    if any(seen.failure for seen in bench.outcomes.values()):
        return False
    results = [seen.gradients["critic/online"][0][0] for seen in bench.outcomes.values()]
    if all(close(one, results[0], 1e-4) for one in results):
        return False
    text = "its loss is random: its gradient on the same batch changes with the seed"
    if cause:
        text += f": {cause}"
    judge.wrong(method, text)
    return True


@dataclass(frozen=True)
class _Target:
    """An interpretation of sampled targets as c + k Q(s', a'), with a' drawn."""

    mistakes: tuple[str, ...]
    constants: Array
    """c, `(batch,)`."""
    factors: Array
    """k, `(batch,)`."""
    values: Array
    """Q of every action, `(batch, actions)`."""


def judge_sampled_critic(judge: Judge, batch: Transitions, scalars: Mapping[str, Any]) -> bool:
    """Judge a critic loss that draws the next action."""
    method = "compute_critic_loss"
    size = len(batch)

    def read(bench: Bench, trial: int) -> Array | None:
        seen = bench.observe_loss(trial, 0, batch)
        if seen is None or seen.loss is None:
            return None
        return np.append(seen.derivatives["critic/online"][:size].ravel(), seen.loss)

    sampled = _sample(judge, scalars, Call(method, judge.transitions(batch), "loss"), read)
    if sampled is None:
        return judge.is_bad(method)
    bench, numbers = sampled
    world = bench.world(0, 0, batch)
    slopes = numbers[:, :-1].reshape(len(numbers), size, -1)
    found = _read_sampled(world, slopes, numbers[:, -1])
    if isinstance(found, str):
        judge.wrong(method, found)
        return True
    targets, notes, mistakes = found
    _conclude_targets(judge, world, targets, notes, mistakes)
    return True


def _conclude_targets(
    judge: Judge, world: World, targets: Array, notes: list[str], mistakes: list[str]
) -> None:
    """Accept targets `(draws, batch)` or say what is wrong, given what is known of the loss."""
    method = "compute_critic_loss"
    readings = list(_readings(world))
    policies = _policies(world)
    crossed = _crossed(world, targets)
    for fits, kind in ((_are_draws, Reading.SAMPLED), (_are_averages, Reading.AVERAGED)):
        for reading in readings:
            single = fits is _are_draws
            # The test for averages is weaker: it would also accept several mistakes at once.
            if not single and (crossed or len(reading.mistakes) > 1):
                continue
            name = _source(
                reading, targets, policies if single else {"": policies[""]}, single=single
            )
            if name is None:
                continue
            wrong = [*mistakes, *reading.mistakes, *([name] if name else [])]
            if wrong:
                judge.wrong(method, "; ".join(wrong))
            else:
                text = "; ".join([f"the next action {kind}", *notes])
                judge.say(method, Verdict.VARIANT, text, readings=[kind])
            return
    expected = readings[0].constants + readings[0].factors * (
        policies[""] * readings[0].values
    ).sum(1)
    text = (
        crossed
        or _changed_reward(world, targets)
        or (
            "its targets are random, but not r + discount (1 - d) Q(s', a') with a' drawn from the "
            f"actor: expected a mean of {shown(expected)}, got {shown(targets.mean(0))}"
        )
    )
    judge.wrong(method, "; ".join([*mistakes, text]))


def _changed_reward(world: World, targets: Array) -> str:
    """Say how terminated rows show that the reward is not the batch's; empty if it is."""
    ended = world.dones.numpy() == 1
    found, rewards = targets[:, ended], world.rewards.numpy()[ended]
    if np.ptp(found, axis=0).max(initial=0.0) > _SLACK or close(found[0], rewards, 2e-3):
        return ""
    for how, text in REWARDS_MIXED.items():
        if close(found[0], mix_rows(how, world.rewards).numpy()[ended], 2e-3):
            return text
    return (
        "the reward is changed before it enters the target: at terminated transitions the target "
        f"is {shown(found[0])}, and the reward {shown(rewards)}"
    )


def _source(
    reading: _Target,
    targets: Array,
    policies: Mapping[str, Array],
    *,
    single: bool,
) -> str | None:
    """Return what is wrong with the actions' distribution; None if the reading does not fit."""
    used = np.abs(reading.factors) > 0
    drawn = targets - reading.constants
    if not used.any() or np.abs(drawn[:, ~used]).max(initial=0.0) > _SLACK:
        return None
    samples, values = drawn[:, used] / reading.factors[used], reading.values[used]
    fits = _are_draws if single else _are_averages
    if single and not _are_of(samples, values):
        return None
    text = "the next action is sampled, but not from the actor's distribution"
    for name, policy in policies.items():
        if fits(samples, values, policy[used]):
            return f"{text} at s': {name}" if name else ""
    return text if single else None


def _read_sampled(
    world: World, slopes: Array, losses: Array
) -> tuple[Array, list[str], list[str]] | str:
    """Return the targets `(draws, batch)`, variants and mistakes, or what is wrong."""
    size = len(world.batch)
    largest = np.abs(slopes).max(axis=2)
    columns = np.abs(slopes).argmax(axis=2)
    rest = np.abs(slopes).sum(axis=2) - largest
    scale = float(largest.max())
    if rest.max() > 1e-3 * scale:
        return "its loss is random, and trains Q of actions other than the data's"
    values = world.now("critic/online").detach().numpy()
    rows = np.arange(size)
    sure = largest > 1e-2 * scale
    mistakes: list[str] = []
    notes: list[str] = []
    if (columns != world.batch.actions)[sure].any():
        # Where the derivative is 0, any action fits.
        mistakes.append(
            "wrong action: Q(s, a') of a sampled action is trained in place of Q(s, a) of the data"
        )
    else:
        columns = np.broadcast_to(world.batch.actions, columns.shape)
    taken = values[rows, columns]
    derivatives = np.take_along_axis(slopes, columns[:, :, None], 2)[:, :, 0]
    if np.ptp(np.abs(derivatives)) < 1e-3 * np.abs(derivatives).max():
        return "the error is not squared: its derivative has the same size in every row"
    with np.errstate(divide="ignore", invalid="ignore"):
        scales = size * (derivatives**2).sum(1) / (4 * losses)
    factor = 1.0
    for value, text, accepted in (
        (0.5, "half of the squared error", True),
        (float(size), "a sum over the batch instead of its mean", False),
        (-1.0, "flipped sign: the loss is maximised", False),
    ):
        if np.abs(scales / value - 1).max() < 1e-2:  # noqa: PLR2004
            factor = value
            (notes if accepted else mistakes).append(text)
    targets: Array = taken - derivatives * size / (2 * factor)
    return targets, notes, mistakes


def _readings(world: World) -> Iterator[_Target]:
    """Yield the ways in which targets may depend on the action drawn, the right ones first."""
    d, r = world.dones.numpy(), world.rewards.numpy()
    discount = float(world.scalars["discount"])
    tables = []
    for place, wrong_state in (("next", ""), ("now", "wrong state: Q at s instead of s'")):
        for network in ("critic/target", "critic/online"):
            part = world.next(network) if place == "next" else world.now(network)
            tables.append((wrong_state, part.detach().numpy()))
    masks = (
        ("", 1 - d),
        ("(1 - d) is missing: terminated states are given a future", np.ones_like(d)),
        ("d in place of (1 - d): only terminated states are given a future", d),
    )
    rewards: tuple[tuple[str, Array | None], ...] = (
        ("", r),
        ("the reward is missing from the target", 0 * r),
        ("the reward has the wrong sign", -r),
        ("(1 - d) misplaced: it also wipes out the reward", (1 - d) * r),
        ("(1 - d) misplaced: it multiplies the reward and not the future", None),
        ("the discount also multiplies the reward", discount * r),
        ("the reward is clipped to [-1, 1]", r.clip(-1, 1)),
    )
    discounts = (
        ("", discount),
        ("the discount is missing", 1.0),
        *[(f"the discount is hard-coded as {one}", one) for one in (0.99, 0.95, 0.9, 0.98, 0.999)],
        ("the discount is squared: it multiplies the next value twice", discount**2),
    )
    found = []
    for wrong_state, values in tables:
        for mask_text, mask in masks:
            for reward_text, reward in rewards:
                for discount_text, factor in discounts:
                    texts = [wrong_state, mask_text, reward_text, discount_text]
                    if reward is None and mask_text != masks[1][0]:
                        continue
                    if reward is None:
                        texts[1] = ""
                    constants = (1 - d) * r if reward is None else reward
                    found.append(
                        _Target(tuple(filter(None, texts)), constants, factor * mask, values)
                    )
    # The sort is stable: among equal numbers of mistakes, the order above holds.
    yield from sorted(found, key=lambda one: len(one.mistakes))


def _policies(world: World) -> dict[str, Array]:
    """Return the distributions that the next action may be drawn from; the right one is unnamed."""
    following = world.policy(next_state=True).detach().numpy()
    softmax = world.next("critic/target").softmax(-1).detach().numpy()
    return {
        "": following,
        "it is drawn from the actor at s": world.policy().detach().numpy(),
        "all actions are equally likely": np.full_like(following, 1 / following.shape[1]),
        "it is drawn from softmax(Q)": softmax,
    }


def _are_of(samples: Array, values: Array) -> bool:
    """Return whether every sample `(draws, batch)` is one of its row's values."""
    return bool((np.abs(samples[:, :, None] - values).min(2) < _SLACK).all())


def _crossed(world: World, targets: Array) -> str:
    """Return the broadcasting mistake that targets `(draws, batch)` show; empty if none."""
    r, d = world.rewards.numpy(), world.dones.numpy()
    factor = float(world.scalars["discount"])
    if np.ptp(targets, axis=1).max() < _SLACK:
        return TD_SHAPES["pairs"]
    if np.ptp(targets - r, axis=1).max() < _SLACK:
        return f"{TD_SHAPES['cross']}; (1 - d) is missing: terminated states are given a future"
    not_done = d < 1
    futures = (targets - r)[:, not_done]
    if (
        np.ptp(futures, axis=1).max(initial=0.0) < _SLACK
        and np.abs((targets - r)[:, ~not_done]).max() < _SLACK
    ):
        return TD_SHAPES["cross"]
    for network in ("critic/target", "critic/online"):
        values = world.next(network).detach().numpy()
        if _are_of((targets - r.mean()) / (factor * (1 - d).mean()), values):
            return TD_SHAPES["cross rows"]
        if _are_of(
            (targets - r)[:, not_done] / factor, np.tile(values.mean(0), (len(r), 1))[not_done]
        ):
            return DQN_BOOTSTRAPS["columns"]
    return ""


def judge_sampled_advantage(judge: Judge, batch: Transitions, scalars: Mapping[str, Any]) -> bool:
    """Judge an advantage that draws the action of its baseline."""
    method = "compute_advantage"
    sampled = _sample(
        judge,
        scalars,
        Call(method, judge.transitions(batch)[:2], "advantage"),
        lambda bench, trial: bench.outcomes[trial, 0].result.ravel(),
    )
    if sampled is None:
        return judge.is_bad(method)
    bench, advantages = sampled
    readings = {None: advantages, Reading.DIVIDED: advantages * scalars["temperature"]}
    _judge_baseline(judge, method, bench.world(0, 0, batch), readings)
    return True


def judge_random_step(judge: Judge, batch: Transitions, scalars: Mapping[str, Any]) -> bool:
    """Report an actor's step that samples something although it should not."""
    method = "update_actor"
    call = Call(method, judge.transitions(batch)[:2])
    sampled = _sample(judge, scalars, call, _reader(batch))
    if sampled is None:
        return judge.is_bad(method)
    bench, weights = sampled
    text = "its step is random: the gradient on the same batch changes with the seed"
    if not _is_of_data(bench, batch, weights[0]):
        text += "; the log-probabilities are those of sampled actions, not of the data's"
    judge.wrong(method, text)
    return True


def _reader(batch: Transitions) -> Callable[[Bench, int], Array | None]:
    """Return a function that reads every row's weight from a step of the actor."""

    def read(bench: Bench, trial: int) -> Array | None:
        found = bench.derivative(bench.step(trial, 0, "actor/online"), batch)
        if found is None:
            return None
        return row_weights(Observation(bench.world(trial, 0, batch), {"actor/online": found}))

    return read


def judge_sampled_actor(judge: Judge, batch: Transitions, scalars: Mapping[str, Any]) -> bool:
    """Judge an actor's step whose advantage is sampled."""
    method = "update_actor"
    call = Call(method, judge.transitions(batch)[:2])
    sampled = _sample(judge, scalars, call, _reader(batch))
    if sampled is None:
        return judge.is_bad(method)
    bench, weights = sampled
    if not _is_of_data(bench, batch, weights[0]):
        judge.wrong(method, "the log-probabilities are those of actions other than the data's")
    elif (weights <= 0).any():
        judge.wrong(method, "some weights are not positive: the exponential or a sign is wrong")
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
        The bench and what was read from every trial, `(DRAWS, batch)`. None if that is unreadable
        or does not depend on the seed, or if the call fails, which is reported.
    """
    for draws in (FEW_DRAWS, DRAWS):
        bench = judge.make_bench()
        for seed in range(draws):
            bench.add(scalars, call, seed=seed)
        bench.run()
        if judge.failed(call.method, *bench.outcomes.values()):
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
    policies = {
        "": world.policy().detach().numpy(),
        "it is drawn from the actor at s'": world.policy(next_state=True).detach().numpy(),
        "all actions are equally likely": np.full((len(world.batch), NUM_ACTIONS), 1 / NUM_ACTIONS),
        "it is drawn from softmax(Q)": world.now("critic/online").softmax(-1).detach().numpy(),
    }
    candidates = [
        (reading, text, baseline, values)
        for text, read in _BASELINES.items()
        for reading, advantages in readings.items()
        for taken, values in _taken_and_drawn(world)
        for baseline in (read(taken, advantages),)
    ]
    # Averages come second: their test is weaker, and misread single draws may pass it.
    for fits, kind in ((_are_draws, Reading.SAMPLED), (_are_averages, Reading.AVERAGED)):
        for reading, text, samples, values in candidates:
            for policy_text, policy in policies.items():
                if not fits(samples, values, policy):
                    continue
                wrong = [text] if text else []
                if policy_text:
                    wrong.append(
                        "the baseline is sampled, but not from the actor's distribution at s: "
                        + policy_text
                    )
                if wrong:
                    judge.wrong(method, "; ".join(wrong))
                    return
                note = f"the baseline {kind}" + (f"; {reading}" if reading else "")
                kinds = [kind, reading] if reading else [kind]
                judge.say(method, Verdict.VARIANT, note, readings=kinds)
                return
    _, _, samples, values = candidates[0]
    expected = (policies[""] * values).sum(1)
    if _are_of(samples, values):
        text = "the baseline is sampled, but not from the actor's distribution"
    else:
        text = "the advantage is random, but its baseline is not Q(s, a') of a sampled action"
    judge.wrong(
        method,
        f"{text}: expected a mean of {shown(expected)}, got {shown(samples.mean(0))}",
    )


_BASELINES: Mapping[str, Callable[[Array, Array], Array]] = {
    "": lambda taken, advantages: taken - advantages,
    "flipped sign of the advantage": lambda taken, advantages: taken + advantages,
    "the baseline is added instead of subtracted": lambda taken, advantages: advantages - taken,
    "the baseline alone, without Q(s, a)": lambda _taken, advantages: advantages,
}
"""The baseline as a function of Q(s, a) and the advantage, by what is wrong with the latter."""


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


def _are_draws(samples: Array, values: Array, policy: Array) -> bool:
    """Return whether samples are values of actions drawn from a policy."""
    distance = np.abs(samples[:, :, None] - values)
    # If two actions have nearly the same value, it is unknown which one was drawn.
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
