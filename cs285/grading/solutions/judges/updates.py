"""Judges what an update does to the networks, and when it copies them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from cs285.grading.solutions.bench import Bench, Call, Outcome
from cs285.grading.solutions.judging import PERIOD, Judge
from cs285.grading.solutions.verdicts import Verdict
from cs285.probing.inputs import Array, Transitions, close, same_weights

SHORT_PERIOD = 4
FEW_STEPS = range(81, 89)
"""Two whole short periods: each contains one multiple; twice the period has one in both."""


class Updates(NamedTuple):
    """Trials whose first call is an update."""

    between: int
    """The trial at a step at which nothing is copied."""
    at_period: int
    """The trial at a multiple of the copying period."""


def add_updates(judge: Judge, scalars: Mapping[str, Any], values: Sequence[Array]) -> Updates:
    """Add the trials of `update` on the five arrays of a batch."""
    between, at_period = (
        judge.bench.add(scalars, Call("update", (*values, step)))
        # Steps that are not multiples of a hard-coded period such as 2, 5 or 100.
        for step in (9 * PERIOD + 4, 11 * PERIOD)
    )
    return Updates(between, at_period)


def judge_update(
    judge: Judge,
    updates: Updates,
    oracles: Sequence[tuple[int, int]],
    trained: Mapping[str, str],
    copies: Mapping[str, str],
) -> None:
    """Judge `update` by when it copies, and by comparison with the student's own single steps.

    Args:
        judge: The judge of the class.
        updates: What `add_updates` returned.
        oracles: Calls after which the networks are as they should be after an update.
        trained: Names of the networks that an update trains, by role.
        copies: The online role that is copied to each target role.
    """
    bench = judge.bench
    if judge.failed("update", *(bench.outcomes[trial, 0] for trial in updates)):
        return
    if bench.outcomes[updates.between, 0].has_foreign_schedule:
        judge.wrong(
            "__init__",
            "the learning-rate schedule belongs to another optimiser than the one that trains the "
            "critic, so it has no effect",
        )
    usable = [one for one in oracles if bench.outcomes[one].failure is None]
    problems = _training_problems(judge, (updates.between, 0), usable, trained)
    trains = not problems
    notes: list[str] = []
    for target, online in copies.items():
        if judge.is_bad(f"update_target_{'value_' if 'value' in target else ''}critic"):
            continue
        problem, note = judge_copying(judge, updates, target, online)
        if (problem or note) and not _is_read(judge, updates, target):
            continue
        problems += [problem] if problem else []
        notes += [note] if note else []
    if problems:
        judge.wrong("update", "; ".join(dict.fromkeys(problems)))
        judge.findings[-1] = replace(judge.findings[-1], of_copying=trains)
    elif notes:
        judge.say("update", Verdict.VARIANT, "; ".join(dict.fromkeys(notes)))
    else:
        judge.say("update", Verdict.CORRECT)


def _training_problems(
    judge: Judge,
    update: tuple[int, int],
    oracles: Sequence[tuple[int, int]],
    trained: Mapping[str, str],
) -> list[str]:
    """Return the networks that an update changes differently from every order of single steps."""
    bench = judge.bench
    differs = {
        role: name
        for role, name in trained.items()
        if oracles and not any(bench.same(update, one, role) for one in oracles)
    }
    never = [
        f"the {name} is never updated"
        for role, name in differs.items()
        if not bench.moved(*update, role) and any(bench.moved(*one, role) for one in oracles)
    ]
    if never:
        return never
    elsewhere = [
        f"the {name} learns at other states than in its own single step"
        for role, name in differs.items()
        if role in judge.sampled and _learns_elsewhere(bench, update, oracles, role)
    ]
    if elsewhere:
        return elsewhere
    problems = []
    for role, name in differs.items():
        if role in judge.sampled:  # An update may draw other samples than single steps do.
            # The order of the single steps is then unknown.
            counts = [_steps_taken(judge, update, one, role) for one in oracles]
            if count := min((one or 0 for one in counts), default=0):
                problems.append(f"the {name} is trained about {count} times per update, not once")
        elif any(_repeats(judge, update, one, role) for one in oracles):
            problems.append(f"the {name} is trained twice per update, not once")
        else:
            steps = "the class's own single steps on this batch, in any order"
            problems.append(f"it changes the {name} differently from {steps}")
    return problems


def _repeats(judge: Judge, update: tuple[int, int], oracle: tuple[int, int], role: str) -> bool:
    """Return whether an update equals single steps with one of them taken twice."""
    arguments, seed, calls = judge.bench.trials[oracle[0]]
    calls = calls[: oracle[1] + 1]
    bench = judge.make_bench()
    bench.weights = judge.bench.weights
    trials = [
        bench.add(arguments, *calls[: k + 1], *calls[j : j + 1], *calls[k + 1 :], seed=seed)
        for k in range(len(calls))
        for j in range(k + 1)
    ]
    bench.run()
    wanted = judge.bench.outcomes[update].after.get(role, [])
    return any(
        bool(wanted) and same_weights(bench.outcomes[trial, len(calls)].after.get(role, []), wanted)
        for trial in trials
    )


def _steps_taken(
    judge: Judge, update: tuple[int, int], oracle: tuple[int, int], role: str
) -> int | None:
    """Return how many sampled steps an update takes on a network if that is 2 or 3, else None."""
    bench = judge.make_bench()
    bench.weights = judge.bench.weights
    seeds = range(2, 18)
    means = []
    for trial, number in (update, oracle):
        arguments, _, calls = judge.bench.trials[trial]
        trials = [bench.add(arguments, *calls[: number + 1], seed=seed) for seed in seeds]
        means.append((trials, number))
    bench.run()
    own, single = (_mean_change(bench, trials, number, role) for trials, number in means)
    if own is None or single is None:
        return None
    ratio = float(own @ single / (single @ single))
    alignment = ratio * float(np.linalg.norm(single) / np.linalg.norm(own))
    # The second step starts from other weights, so it differs slightly from the first.
    count = round(ratio)
    return count if count in {2, 3} and alignment > 0.8 and ratio > 1.6 else None  # noqa: PLR2004


def _mean_change(bench: Bench, trials: Sequence[int], number: int, role: str) -> Array | None:
    """Return the mean change of a network's weights over trials; None if there is none."""
    changes = []
    for trial in trials:
        first, last = bench.outcomes[trial, 0], bench.outcomes[trial, number]
        if last.failure is not None or role not in last.after or role not in first.before:
            return None
        before, after = (
            np.concatenate([part.ravel() for part in weights[role][0]])
            for weights in (first.before, last.after)
        )
        changes.append(after - before)
    mean: Array = np.mean(changes, axis=0)
    return mean if np.isfinite(mean).all() and np.linalg.norm(mean) > 0 else None


def _learns_elsewhere(
    bench: Bench, update: tuple[int, int], oracles: Sequence[tuple[int, int]], role: str
) -> bool:
    """Return whether an update moves a network at next states or on other rows, unlike its step."""
    trial, number = update
    batch = Transitions(*bench.trials[trial][2][number].values[:5])

    def part(call: tuple[int, int]) -> float:
        """Return the relative size of a step at next states; infinite if no loss fits it."""
        found = bench.derivative(bench.step(*call, role), batch)
        if found is None:
            return float("inf")
        return float(np.abs(found[len(batch) :]).max() / max(np.abs(found).max(), 1e-12))

    own = [part(one) for one in oracles if bench.moved(*one, role)]
    return bool(own) and max(own) < 1e-2 < part(update)  # noqa: PLR2004


def judge_copying(judge: Judge, updates: Updates, target: str, online: str) -> tuple[str, str]:
    """Return what is wrong, and what is unusual, in the copying to one target network."""
    seen, at_period = (judge.bench.outcomes[trial, 0] for trial in updates)
    name = "target V" if target.startswith("value") else "target critic"
    if target not in seen.after or target not in at_period.after:
        return "", ""
    before, after = at_period.before[target][0][0], at_period.after[target][0][0]
    new, old = at_period.after[online][0][0], at_period.before[online][0][0]
    if judge.bench.moved(updates.between, 0, target):
        return _copied_too_often(seen, target, online, name, stays=close(after, before))
    if close(after, new, 1e-5) or close(after, old, 1e-5):
        early = not close(after, new, 1e-5)
        return "", f"the {name} is copied before the step instead of after it" if early else ""
    if not close(after, before, 1e-6):
        return f"the {name} does not equal the critic after the copy", ""
    if _is_copied_once(judge, updates, target):
        return "", f"the {name} is copied once a period, but not at its multiples"
    return f"the {name} is never copied: its parameters do not change", ""


def _is_read(judge: Judge, updates: Updates, target: str) -> bool:
    """Return whether an update depends on a target network; if not, its copying does not matter."""
    arguments, seed, calls = judge.bench.trials[updates.between]
    bench = judge.make_bench()
    bench.weights = {**judge.bench.weights, target: judge.inputs.draw_weights()[target]}
    trial = bench.add(arguments, *calls, seed=seed)
    bench.run()
    seen, other = judge.bench.outcomes[updates.between, 0], bench.outcomes[trial, 0]
    if other.failure is not None:
        return True
    return any(
        not close(a, b, 1e-4)
        for role in seen.after
        if role.endswith("online")
        for one, two in zip(seen.after[role], other.after.get(role, []), strict=False)
        for a, b in zip(one, two, strict=True)
    )


def _is_copied_once(judge: Judge, updates: Updates, target: str) -> bool:
    """Return whether successive updates copy once a period, as if the class counts steps itself."""
    arguments, seed, _ = judge.bench.trials[updates.at_period]
    # With only a few rows, steps would be so large that the weights would overflow.
    batches = zip(*(judge.transitions(judge.batch(9)) for _ in range(8)), strict=True)
    values = [np.concatenate(parts) for parts in batches]
    bench = judge.make_bench()
    calls = [Call("update", (*values, step)) for step in FEW_STEPS]
    trial = bench.add({**arguments, "target_update_period": SHORT_PERIOD}, *calls, seed=seed)
    bench.run()
    numbers = range(len(FEW_STEPS))
    if any(bench.outcomes[trial, number].failure for number in numbers):
        return False
    copied = [bench.moved(trial, number, target) for number in numbers]
    return sum(copied[:SHORT_PERIOD]) == sum(copied[SHORT_PERIOD:]) == 1


def _copied_too_often(
    seen: Outcome, target: str, online: str, name: str, *, stays: bool
) -> tuple[str, str]:
    """Describe a target network that moved at a step between two copies."""
    if close(seen.after[target][0][0], seen.after[online][0][0], 1e-5):
        if stays:
            return f"the {name} is copied at every step except the multiples of the period", ""
        return f"the {name} is copied at every step, whatever the period", ""
    direction = seen.after[online][0][0] - seen.before[target][0][0]
    shift = seen.after[target][0][0] - seen.before[target][0][0]
    tau = float((shift * direction).sum() / (direction**2).sum())
    return f"the {name} moves at every step (by {tau:.3g} of the way), not once a period", ""


def judge_copy(judge: Judge, method: str, trial: int, target: str, online: str) -> None:
    """Judge a method that copies one network to another."""
    seen = judge.bench.outcomes[trial, 0]
    if judge.failed(method, seen):
        return
    kind = target.partition("/")[0]
    if kind in judge.bench.shared and kind not in seen.shared:
        text = "the target network is made with the online network's own parameters, not a copy"
        judge.wrong("__init__", text)
    if target.startswith("value") and target not in seen.after and online in seen.after:
        judge.say(method, Verdict.VARIANT, "there is no target V to copy to")
    elif target not in seen.after or online not in seen.after:
        judge.say(method, Verdict.UNJUDGED, "found no target network")
    elif kind in seen.shared:
        judge.wrong(
            method,
            "the target network shares the online network's parameters instead of having a copy "
            "of their values: it follows every step",
        )
    elif judge.bench.moved(trial, 0, online):
        judge.wrong(method, "it changes the online network: the copy goes in the wrong direction")
    elif not judge.bench.moved(trial, 0, target):
        judge.wrong(method, "the parameters are never copied: the target network does not change")
    elif all(
        close(a, b, 1e-5) for a, b in zip(seen.after[target][0], seen.after[online][0], strict=True)
    ):
        judge.say(method, Verdict.CORRECT)
    else:
        judge.wrong(method, "the target network does not equal the online one afterwards")
