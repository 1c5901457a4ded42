"""Checks how an agent chooses actions."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cs285.probing.inputs import Array, Weights
from cs285.probing.networks import NUM_ACTIONS
from cs285.probing.subject import Subject, Trial

_FAVOURED, _OTHER = 3, 1
"""Actions that networks are made to prefer strongly."""
_MANY = 300
_VERY_MANY = 1_000


def random_actions(subject: Subject) -> Iterator[str]:
    """Yield what is odd about uniform actions."""
    trial = subject.build()
    actions = np.array([trial.act(subject.batch.observations[0], 0.0) for _ in range(_VERY_MANY)])
    yield from _unusable(actions)
    counts = np.bincount(actions.clip(0), minlength=NUM_ACTIONS)[:NUM_ACTIONS]
    if not counts.all():
        yield (
            f"in {_VERY_MANY} calls it never takes action {int(counts.argmin())}; check what it "
            "draws from and its range"
        )
    elif np.abs(counts * NUM_ACTIONS / _VERY_MANY - 1).max() > 0.3:  # noqa: PLR2004 - by chance
        yield f"actions are not equally likely: {counts.tolist()} of {_VERY_MANY} calls"


def epsilon_greedy(subject: Subject) -> Iterator[str]:
    """Yield what is odd about acting on a critic."""
    trial = subject.build(_preferring(subject.weights, "critic/online", "critic/target"))
    greedy = _actions(trial, subject, 0.0)
    yield from _unusable(greedy)
    if (greedy != _FAVOURED).any():
        if (greedy == _OTHER).all():
            yield "at epsilon 0 it acts on the target critic; check which network it uses"
        else:
            yield (
                "at epsilon 0 it does not take the action that the critic rates highest by far; "
                "check which network it uses, what it does with the values, and over which axis"
            )
        return
    natural = subject.build()
    repeated = [_actions(natural, subject, 0.0) for _ in range(12)]
    if any((one != repeated[0]).any() for one in repeated):
        yield "at epsilon 0 its actions differ from call to call; check what is random in it"
        return
    some, all_random = _actions(trial, subject, 0.3, _MANY), _actions(trial, subject, 1.0, _MANY)
    yield from _unusable(np.concatenate([some, all_random]))
    share = float((some == _FAVOURED).mean())
    never = sorted(set(range(NUM_ACTIONS)) - {_FAVOURED} - set(all_random.tolist()))
    if (some == _FAVOURED).all() and (all_random == _FAVOURED).all():
        yield "it never explores; check what `epsilon` decides"
    elif (all_random == _FAVOURED).mean() > 0.5 or not 0.6 < share < 0.9:  # noqa: PLR2004
        yield (
            f"it takes the best action in {share:.0%} of cases at epsilon 0.3 and in "
            f"{float((all_random == _FAVOURED).mean()):.0%} at epsilon 1; check what you compare "
            "with `epsilon`"
        )
    elif never:
        yield f"at epsilon 1 it never takes action {never[0]}; check the range it draws from"


def with_the_actor(subject: Subject) -> Iterator[str]:
    """Yield what is odd about acting with an actor."""
    weights = _preferring(subject.weights, "actor/online", "critic/online", "critic/target")
    actions = _actions(subject.build(weights), subject, 0.0)
    yield from _unusable(actions)
    if (actions == _OTHER).all():
        yield "it acts on the critic, so the actor is trained and never used; the actor should act"
    elif (actions != _FAVOURED).any():
        yield (
            "in evaluation it does not take the actor's likeliest action; check which network it "
            "uses and what it does with the distribution"
        )
    else:
        # Two actors that prefer different actions in different states.
        first, second = (_prefer_by_state(subject, swap=swap) for swap in (False, True))
        if (first == second).all():
            yield "its action does not depend on the observation; check the actor's input"


def _prefer_by_state(subject: Subject, *, swap: bool) -> Array:
    """Return the actions of an agent whose actor prefers one of two actions in each state."""
    odd = (np.arange(len(subject.batch)) % 2).astype(bool) != swap
    change = np.zeros((len(subject.batch), NUM_ACTIONS))
    change[odd, _FAVOURED], change[~odd, _OTHER] = 30, 30
    return _actions(subject.build(subject.shifted("actor/online", change)), subject, 0.0)


def _preferring(weights: Weights, first: str, *others: str) -> Weights:
    """Return weights that make `first` prefer one action in every state, and `others` another."""
    changed = dict(weights)
    for role, action in ((first, _FAVOURED), *((other, _OTHER) for other in others)):
        favour = np.eye(NUM_ACTIONS, dtype=np.float32)[action] * 40
        changed[role] = [(w, b + favour) for w, b in weights[role]]
    return changed


def _actions(trial: Trial, subject: Subject, epsilon: float, count: int = 0) -> Array:
    """Act on the observations of the batch in turn: `count` times, by default once on each."""
    rows = subject.batch.observations
    return np.array([trial.act(rows[k % len(rows)], epsilon) for k in range(count or len(rows))])


def _unusable(actions: Array) -> Iterator[str]:
    if actions.min() < 0 or actions.max() >= NUM_ACTIONS:
        yield f"it returns {int(actions.max())}; actions are 0 to {NUM_ACTIONS - 1}"
