"""Checks of RND: the predictor, and the bonus that the critic learns from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from cs285.probing.actors import not_a_number
from cs285.probing.critics import ONLINE, shape_of
from cs285.probing.inputs import Array, Weights
from cs285.probing.networks import RND_SIZE
from cs285.probing.steps import StepReader
from cs285.probing.subject import PERIOD, Derivatives, Subject, doubled, values_of
from cs285.probing.targets import BROADCAST, same, trained_rows

PREDICTOR, FIXED = "rnd/online", "rnd/target"
_STEP = 9 * PERIOD + 4
"""A step at which nothing is copied."""


def errors(subject: Subject) -> Iterator[str]:
    """Yield what is odd about the prediction errors."""
    found = _errors(subject, subject.weights)
    size = len(subject.batch)
    if not isinstance(found, torch.Tensor) or found.numel() != size:
        yield f"it should return one error per row, ({size},), not {shape_of(found)}"
        return
    base = found.detach().numpy().ravel()
    if (base < 0).any():
        yield "some errors are negative; check how the differences become one number per row"
        return
    equal = _errors(subject, {**subject.weights, FIXED: subject.weights[PREDICTOR]})
    if float(equal.detach().abs().max()) > 1e-4 * base.max():
        yield "the error is not 0 where the predictor equals its target; check what is compared"
        return
    row = subject.live
    other = subject.shifted(PREDICTOR, subject.change(row, 1.0, outputs=RND_SIZE))
    changed = np.abs(_errors(subject, other).detach().numpy().ravel() - base) > 1e-4 * base.max()
    if changed.sum() > 1:
        yield f"one row changes the errors of other rows; {BROADCAST}"
    elif not changed[row]:
        yield "the predictor's outputs make no difference; check what is compared"


def _errors(subject: Subject, weights: Weights) -> Any:
    return subject.build(weights).call("compute_errors", subject.batch.observations)


def step_of_predictor(subject: Subject) -> Iterator[str]:
    """Yield what is odd about `update_rnd`."""
    batch, read = subject.batch, StepReader(subject, "update_rnd", PREDICTOR, 1)
    _, outcome = read.outcome_of(batch)
    if FIXED not in outcome.before:
        yield "the target network has an optimiser too; only the predictor should be trained"
        return
    if outcome.moved(FIXED):
        yield "it changes the target network, which must stay fixed"
        return
    if not outcome.moved(PREDICTOR):
        yield "the predictor does not change; check `backward()`, `step()` and the optimiser"
        return
    yield from not_a_number(outcome.result, "its loss")
    base = read(batch)
    wrong = list(trained_rows(base, None))
    if not wrong:
        wrong = list(_lessons(subject, read, base))
    yield from wrong
    if wrong:
        return
    yield from read.repeated()
    if not same(read(doubled(batch)).gradient, base.gradient):
        yield (
            "a batch that holds every row twice gives another step; check how the loss is reduced "
            "over the rows"
        )


def _lessons(subject: Subject, read: StepReader, base: Derivatives) -> Iterator[str]:
    """Yield what is odd about what the predictor learns."""
    row = subject.live
    away = subject.outputs(FIXED) - subject.outputs(PREDICTOR)
    towards = -(base.at_states * away).sum(1)
    if (towards <= 0).all():
        yield "it moves the predictor away from its target; check the signs"
        return
    if (towards <= 0).any():
        yield "it does not move every prediction towards its target; check how errors are summed"
        return
    other = subject.shifted(FIXED, subject.change(row, 1.0, outputs=RND_SIZE))
    found = read(subject.batch, other).at_states
    if not same(np.delete(found, row, 0), np.delete(base.at_states, row, 0)):
        yield f"the target of one row changes what other rows learn; {BROADCAST}"
    elif same(found, base.at_states):
        yield "the target network's outputs make no difference; check what is compared"


def update_with_bonus(subject: Subject) -> Iterator[str]:
    """Yield what is odd about what the exploration critic learns in `update`."""
    batch = subject.batch

    def learn(weights: Weights | None = None, **settings: Any) -> Derivatives:
        # Small steps, because the predictor may learn before its error becomes the bonus.
        trial = subject.build(weights, learning_rate=1e-3, **settings)
        outcome = trial.outcome_of("update", *values_of(batch), _STEP)
        return trial.read_step(outcome, ONLINE, batch)

    trial = subject.build()
    outcome = trial.outcome_of("update", *values_of(batch), _STEP)
    if not outcome.moved(ONLINE):
        yield "the critic does not change; check which methods it calls"
        return
    if not outcome.moved(PREDICTOR):
        yield "the predictor does not change; check which methods it calls"
        return
    base = learn()
    if same(learn(rnd_weight=0.2).at_states, base.at_states):
        yield "rnd_weight makes no difference to the critic; check where the bonus is added"
        return
    yield from _surprise(subject, learn, base)


def _surprise(subject: Subject, learn: Any, base: Derivatives) -> Iterator[str]:
    """Yield a complaint if a larger error of the predictor does not give a larger reward."""
    rows, noise = np.arange(len(subject.batch)), 1e-3 * base.largest
    before = -base.at_states[rows, subject.batch.actions]
    strongest = dict.fromkeys((PREDICTOR, FIXED), 0.0)
    # Large errors too, because the bonus may be clipped.
    for factor in (1.0, 4.0):
        for role, at_next, row, change in _more_errors(subject, factor):
            found = learn(subject.shifted(role, change, at_next=at_next)).at_states
            effect = -found[rows, subject.batch.actions] - before
            if effect[row] < -10 * noise and effect.argmin() == row:
                yield "a larger prediction error makes the reward smaller; check the bonus's sign"
                return
            if effect.max() > max(10 * noise, 3 * effect[row]):
                yield f"an error in one row gives a bonus to other rows, or to none; {BROADCAST}"
                return
            if np.abs(effect).max() > noise > np.ptp(effect):
                yield "an error in one row gives all rows the same bonus; check means and axes"
                return
            if abs(effect[row]) > abs(strongest[role]):
                strongest[role] = float(effect[row])
        if all(abs(one) > noise for one in strongest.values()):
            break
    if min(np.abs(list(strongest.values()))) < noise:
        yield (
            "the outputs of the predictor or of its target make no difference to what the critic "
            "learns; check what the bonus is computed from, and when"
        )
    elif min(strongest.values()) < 0:
        yield "the bonus is larger where the predictor is right; check the sign of the bonus"


def _more_errors(subject: Subject, factor: float) -> Iterator[tuple[str, bool, int, Array]]:
    """Yield changes that make the error of one row larger: role, whether at s', row and change.

    With a factor of 1 the error does not become the largest, since the largest may normalise all.
    """
    for at_next in (True, False):
        away = subject.outputs(PREDICTOR, at_next=at_next) - subject.outputs(FIXED, at_next=at_next)
        size = np.square(away).sum(1)
        order = np.argsort(size)
        for row in order[1:-2] if factor == 1 else order:
            change = np.zeros_like(away)
            change[row] = away[row] * (factor * np.sqrt(size[order[-2]] / size[row]) - 1)
            yield PREDICTOR, at_next, int(row), change
            yield FIXED, at_next, int(row), -change
