"""Judges how an agent chooses actions: at random, by its critic or by its actor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cs285.grading.solutions.bench import Call
from cs285.grading.solutions.chance import are_samples, is_chance_share
from cs285.grading.solutions.judging import Judge
from cs285.grading.solutions.verdicts import Verdict
from cs285.probing.inputs import Array, network_outputs
from cs285.probing.networks import NUM_ACTIONS

VALUES_POLICY = {0.0: 6, 0.25: 40, 1.0: 40}
"""Number of actions per observation by epsilon, for `judge_values_policy`."""
ACTOR_POLICY = {0.0: 40, 0.25: 40}
"""Number of actions per observation by epsilon, for `judge_actor_policy`."""


def add_acting(
    judge: Judge, scalars: Mapping[str, Any], policy: Mapping[float, int]
) -> tuple[int, Array]:
    """Add a trial of `get_action`; return its number and the observations to act on."""
    observations = _draw_observations(judge)
    calls = [
        Call("get_action", (observations,), "actions", epsilon=epsilon, repeats=repeats)
        for epsilon, repeats in policy.items()
    ]
    return judge.bench.add(scalars, *calls), observations


def judge_values_policy(judge: Judge, critic: int, trial: int, observations: Array) -> None:
    """Judge an epsilon-greedy `get_action` from the calls in `VALUES_POLICY`."""
    bench = judge.bench
    calls = [bench.outcomes[trial, k] for k in range(3)]
    if judge.failed("get_action", *calls):
        return
    greedy, some, all_random = (np.asarray(seen.result).astype(int) for seen in calls)
    if _outside(judge, greedy, some, all_random):
        return
    values = _outputs(judge, "critic/online", critic, observations)
    rules = {
        "": values.argmax(1),
        "it takes the worst action: a minimum (argmin) in place of the maximum": values.argmin(1),
    }
    if "critic/target" in calls[0].before:
        target = _outputs(judge, "critic/target", critic, observations)
        rules["wrong network: it takes the target critic's best action"] = target.argmax(1)
    chosen = next((t for t, a in rules.items() if (greedy == a[:, None]).all()), None)
    best = values.argmax(1)[:, None]
    if chosen is None:
        share = float((greedy == best).mean())
        if (all_random == best).all():
            judge.wrong("get_action", "epsilon is reversed: it acts greedily at epsilon 1")
            return
        text = f"at epsilon 0 it takes the best action in only {share:.0%} of cases"
        softmax = np.exp(values - values.max(1, keepdims=True))
        softmax /= softmax.sum(1, keepdims=True)
        # Likelier than uniformly random actions.
        likely = np.log(np.take_along_axis(softmax, greedy, 1)).mean() > -np.log(NUM_ACTIONS) + 0.1
        if likely and are_samples(greedy, softmax):
            text += ": it samples from softmax(Q) in place of the argmax"
        elif (greedy == greedy[0, 0]).all():
            text += f": it always takes action {greedy[0, 0]}, whatever the state (wrong axis?)"
        elif is_chance_share(share, 1 / NUM_ACTIONS, greedy.size):
            text += ": it acts at random"
        judge.wrong("get_action", text)
    elif chosen:
        judge.wrong("get_action", chosen)
    else:
        _judge_exploration(judge, some, all_random, best)


def _outside(judge: Judge, *actions: Array) -> bool:
    """Report actions that do not exist; return whether there were any."""
    found = any(a.min() < 0 or a.max() >= NUM_ACTIONS for a in actions)
    if found:
        judge.wrong("get_action", f"it returns an action outside 0 to {NUM_ACTIONS - 1}")
    return found


def _judge_exploration(judge: Judge, some: Array, all_random: Array, best: Array) -> None:
    def within(found: Array, probability: float) -> bool:
        return is_chance_share(float((found == best).mean()), probability, found.size)

    fifth = 1 / NUM_ACTIONS
    if (some == best).all() and (all_random == best).all():
        judge.wrong("get_action", "epsilon is ignored: it never explores")
    elif within(some, 0.25 * fifth + 0.75) and within(all_random, fifth):
        if uneven := _unevenness(all_random):
            judge.wrong("get_action", f"at epsilon 1 {uneven}")
        else:
            judge.say("get_action", Verdict.CORRECT)
    elif within(some, 0.75) and not (all_random == best).any():
        judge.say("get_action", Verdict.VARIANT, "its random actions never include the greedy one")
    elif within(some, 0.75 * fifth + 0.25):
        judge.wrong("get_action", "epsilon is reversed: it acts greedily with probability epsilon")
    else:
        judge.wrong(
            "get_action",
            f"at epsilon 0.25 it takes the best action in {float((some == best).mean()):.0%} of "
            f"cases (expected 80%), at epsilon 1 in {float((all_random == best).mean()):.0%} "
            "(expected 20%)",
        )


def _unevenness(actions: Array) -> str:
    """Return how actions deviate from a uniform distribution; empty if they do not."""
    counts = np.bincount(actions.ravel(), minlength=NUM_ACTIONS)
    shares = counts / actions.size
    if all(is_chance_share(share, 1 / NUM_ACTIONS, actions.size) for share in shares):
        return ""
    never = ", ".join(str(action) for action in np.flatnonzero(counts == 0))
    if counts.max() == actions.size:
        return f"it always takes action {counts.argmax()} and never takes action {never}"
    if never:
        return f"it never takes action {never}"
    return f"actions are not equally likely: counts {counts.tolist()} of {actions.size}"


def judge_actor_policy(judge: Judge, trial: int, observations: Array) -> None:
    """Judge `get_action` of an agent with an actor, from the calls in `ACTOR_POLICY`."""
    calls = [judge.bench.outcomes[trial, k] for k in range(2)]
    if judge.failed("get_action", *calls):
        return
    greedy, exploring = (np.asarray(seen.result).astype(int) for seen in calls)
    if _outside(judge, greedy, exploring):
        return
    logits = _outputs(judge, "actor/online", 0, observations)
    values = _outputs(judge, "critic/online", 0, observations)
    target = _outputs(judge, "critic/target", 0, observations)
    probabilities = np.exp(logits - logits.max(1, keepdims=True))
    probabilities /= probabilities.sum(1, keepdims=True)
    mode = logits.argmax(1)[:, None]
    if (greedy == mode).all():
        _judge_actor_exploration(judge, exploring, mode, probabilities)
    elif are_samples(greedy, probabilities):
        if (exploring == mode).all():
            text = "reversed: it samples the actor in evaluation, and takes its likeliest action"
            judge.wrong("get_action", f"{text} while exploring (epsilon > 0)")
        else:
            judge.say("get_action", Verdict.VARIANT, "samples from the actor, also in evaluation")
    elif (greedy == values.argmax(1)[:, None]).all() and not judge.defines("get_action"):
        text = "acts on argmax Q: the actor is trained but never used"
        judge.say("get_action", Verdict.VARIANT, f"{text} (`get_action` is inherited from DQN)")
    else:
        share = float((greedy == mode).mean())
        readings = (
            (values.argmax(1), "acts on argmax Q: the actor is trained but never used"),
            (target.argmax(1), "acts on argmax of the target critic, not with the actor"),
            (logits.argmin(1), "takes the actor's least likely action"),
        )
        text = next((t for a, t in readings if (greedy == a[:, None]).all()), "")
        if (greedy == greedy[0, 0]).all():
            text = f"always takes action {greedy[0, 0]}, whatever the state (wrong axis?)"
        elif are_samples(greedy, np.full_like(probabilities, 1 / NUM_ACTIONS)):
            text = "acts at random, whatever the actor's output"
        judge.wrong(
            "get_action",
            text
            or f"in evaluation it takes the actor's likeliest action in only {share:.0%} of cases, "
            "and its actions are not samples from the actor either",
        )


def _judge_actor_exploration(
    judge: Judge, exploring: Array, mode: Array, probabilities: Array
) -> None:
    if (exploring == mode).all():
        judge.say(
            "get_action", Verdict.VARIANT, "takes the actor's likeliest action, also to explore"
        )
    elif are_samples(exploring, probabilities) and not _likelier_mixed(
        exploring, mode, probabilities
    ):
        judge.say("get_action", Verdict.CORRECT)
    else:
        _say_mixed(judge, exploring, mode)


def _likelier_mixed(actions: Array, mode: Array, probabilities: Array) -> bool:
    """Return whether an epsilon-greedy mix with the mode explains actions better than sampling."""
    mixed = np.where(actions == mode, 0.75 + 0.25 / NUM_ACTIONS, 0.25 / NUM_ACTIONS)
    sampled = np.take_along_axis(probabilities, actions, 1)
    return bool(np.log(mixed).sum() > np.log(np.maximum(sampled, 1e-12)).sum())


def _say_mixed(judge: Judge, exploring: Array, mode: Array) -> None:
    share = float((exploring == mode).mean())
    if is_chance_share(share, 0.75 + 0.25 / NUM_ACTIONS, exploring.size):
        judge.say("get_action", Verdict.VARIANT, "epsilon-greedy on the actor's likeliest action")
    else:
        judge.say("get_action", Verdict.VARIANT, "another way to explore around the actor's mode")


def _outputs(judge: Judge, role: str, index: int, observations: Array) -> Array:
    features = judge.inputs.features(observations)
    return network_outputs(features, judge.bench.weights[role][index])


def _draw_observations(judge: Judge, count: int = 9) -> Array:
    """Draw observations whose best action is clearly better than the second."""
    kept: list[Array] = []
    roles = ("critic/online", "critic/target", "actor/online")
    while len(kept) < count:
        row = judge.rng.random((1, 2)).astype(np.float32)
        tops = [np.sort(_outputs(judge, role, 0, row)[0]) for role in roles]
        if all(top[-1] - top[-2] > 0.05 for top in tops):  # noqa: PLR2004 - beyond rounding
            kept.append(row)
    return np.concatenate(kept)


class RandomJudge(Judge):
    """Random agent: uniform actions, and an update that does nothing."""

    def judge(self) -> None:
        """Add the findings."""
        observations = self.rng.random((6, 2)).astype(np.float32)
        batch = self.batch()
        acting = self.bench.add(
            {},
            Call("get_action", (observations,), "actions", repeats=200),
            Call("get_action", (observations,), "actions", epsilon=0.3, repeats=20),
        )
        learning = self.bench.add({}, Call("update", (*self.transitions(batch), 1)))
        self.bench.run()
        seen = self.bench.outcomes[acting, 0]
        if not self.failed("get_action", seen, self.bench.outcomes[acting, 1]):
            actions = np.asarray(seen.result).astype(int)
            if _outside(self, actions):
                pass
            elif uneven := _unevenness(actions):
                self.wrong("get_action", uneven)
            else:
                self.say("get_action", Verdict.CORRECT)
        if not self.failed("update", self.bench.outcomes[learning, 0]):
            self.say("update", Verdict.CORRECT)
