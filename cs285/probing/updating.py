"""Checks of `update` as a whole: what it trains, when it copies, what it returns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import permutations
from typing import Any, NamedTuple

import torch

from cs285.learning import student_code
from cs285.probing.inputs import Weights, same_weights
from cs285.probing.subject import PERIOD, Outcome, Subject, errors_translated, values_of

_BETWEEN = 9 * PERIOD + 4
"""A step at which nothing is copied, and which is no multiple of another likely period."""
_SHORT = 3


class Parts(NamedTuple):
    """The parts of an algorithm's update."""

    steps: Mapping[str, int]
    """The methods that it may call, with the number of the batch's arrays that each takes."""
    trained: Mapping[str, str]
    """The roles of the networks that it trains, with their names."""
    target: str = "critic/target"
    online: str = "critic/online"
    tags: tuple[str, ...] = ()
    """The keys that it must return."""


_CRITIC = {"critic/online": "the critic"}
_ACTOR = {"actor/online": "the actor"}
_TD_TAGS = ("critic_loss", "q_values", "target_values")
PARTS: Mapping[str, Parts] = {
    "dqn": Parts({"update_critic": 5}, _CRITIC, tags=_TD_TAGS),
    "rnd": Parts({}, _CRITIC, tags=(*_TD_TAGS, "rnd_loss")),
    "awac": Parts(
        {"update_critic": 5, "update_actor": 2},
        _CRITIC | _ACTOR,
        tags=(*_TD_TAGS, "actor_loss"),
    ),
    "iql": Parts(
        {"update_q": 5, "update_v": 2, "update_actor": 2},
        {**_CRITIC, "value/online": "V", **_ACTOR},
        "value/target",
        "value/online",
        ("q_loss", "q_values", "v_loss", "vs", "actor_loss"),
    ),
}


def update(subject: Subject) -> Iterator[str]:
    """Yield what is odd about `update`."""
    parts = PARTS[subject.algorithm]
    trial = subject.build()
    values = values_of(subject.batch)
    outcome = trial.outcome_of("update", *values, _BETWEEN)
    yield from _training(subject, parts, outcome)
    yield from _copying(subject, parts)
    yield from _returned(trial.agent, outcome.result, parts.tags)


def _returned(agent: Any, result: Any, tags: Sequence[str]) -> Iterator[str]:
    if not isinstance(result, Mapping):
        yield f"it should return a dict of what to log, not a {type(result).__name__}"
        return
    if missing := [tag for tag in tags if tag not in result]:
        yield f"what it returns lacks {', '.join(f'`{tag}`' for tag in missing)}; check the tags"
    for tag, value in result.items():
        with errors_translated():
            student_code.scalar(agent, tag, value, torch.device("cpu"))


def _training(subject: Subject, parts: Parts, outcome: Outcome) -> Iterator[str]:
    """Yield which networks it trains differently from its own single steps, in any order."""
    still = [name for role, name in parts.trained.items() if not outcome.moved(role)]
    if still:
        yield f"{' and '.join(still)} never changed; check which methods it calls"
        return
    if not parts.steps:
        return
    ends: list[Weights] = []
    for order in permutations(parts.steps.items()):
        trial = subject.build()
        for method, count in order:
            trial.call(method, *values_of(subject.batch)[:count])
        ends.append(trial.weights())
    for role, name in parts.trained.items():
        matches = any(same_weights(outcome.after[role], end[role]) for end in ends)
        if not matches and not _draws(subject, role):
            calls = ", ".join(f"`{method}`" for method in parts.steps)
            yield (
                f"{name} does not change as if {calls} were each called once on this batch; check "
                "what it calls, how often and with which arguments"
            )


def _draws(subject: Subject, role: str) -> bool:
    """Return whether the training of a network depends on random numbers."""
    ends = []
    for seed in (1, 2):
        trial = subject.build()
        trial.seed = seed
        ends.append(trial.outcome_of("update", *values_of(subject.batch), _BETWEEN).after[role])
    return not same_weights(ends[0], ends[1])


def _copying(subject: Subject, parts: Parts) -> Iterator[str]:
    """Yield a complaint if a target network is not copied once a period."""
    name = "the target V" if parts.target.startswith("value") else "the target critic"
    slow = subject.build(learning_rate=1e-3, target_update_period=_SHORT)
    if parts.target not in slow.roles():
        return
    moved: list[int] = []
    whole = True
    for step in range(1, 2 * _SHORT + 1):
        outcome = slow.outcome_of("update", *values_of(subject.batch), step)
        if outcome.moved(parts.target):
            moved.append(step)
            whole &= any(
                same_weights(outcome.after[parts.target], one[parts.online], 1e-5)
                for one in (outcome.before, outcome.after)
            )
    if not _is_read(subject, parts):
        return
    if not moved:
        yield f"{name} is never copied to; check where `target_update_period` is used"
    elif len(moved) != 2:  # noqa: PLR2004 - two periods
        yield (
            f"with a target_update_period of {_SHORT}, {name} changes at steps "
            f"{', '.join(map(str, moved))} of {2 * _SHORT}; check the condition"
        )
    elif not whole:
        yield f"{name} does not equal the online network after the copy; check how it is copied"


def _is_read(subject: Subject, parts: Parts) -> bool:
    """Return whether a target network affects the update; if not, its copying does not matter."""
    members = [(weight + 0.3, bias) for weight, bias in subject.weights[parts.target]]
    ends = [
        subject.build(weights).outcome_of("update", *values_of(subject.batch), _BETWEEN).after
        for weights in (subject.weights, {**subject.weights, parts.target: members})
    ]
    return any(not same_weights(ends[0][role], ends[1][role]) for role in parts.trained)
