"""Checks of IQL: the expectile loss, and the steps of Q and V."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch

from cs285.probing.actors import ACTOR, better, others_better
from cs285.probing.critics import ONLINE, shape_of
from cs285.probing.inputs import Array
from cs285.probing.steps import StepReader
from cs285.probing.subject import (
    Derivatives,
    Outcome,
    StoppedError,
    Subject,
    Trial,
    doubled,
    errors_translated,
)
from cs285.probing.targets import BROADCAST, Bootstrap, mean_over_rows, same, target, trained_rows

VALUE, SLOW = "value/online", "value/target"
_IQL = Bootstrap({SLOW: "the target V", VALUE: "V"}, {"critic/target": "the target critic"})
_SHAPES = (((-1,), (-1,)), ((-1, 1), (-1,)), ((-1, 1), (-1, 1)), ((-1,), (-1, 1)))
"""Shapes in which V and Q may arrive: squeezed, as columns, or squeezed by the method itself."""


def expectile_loss(subject: Subject) -> Iterator[str]:
    """Yield what is odd about the expectile loss, for the first of these shapes that works."""
    trial = subject.build()
    complaints: list[str] | None = None
    stopped: StoppedError | None = None
    for shapes in _SHAPES:
        try:
            found = list(_expectile_loss(trial, subject, *shapes))
        except StoppedError as error:
            stopped = stopped or error
            continue
        if not found:
            return
        complaints = complaints or found
    if complaints is None and stopped is not None:
        raise stopped
    yield from complaints or ()


def _expectile_loss(
    trial: Trial, subject: Subject, v_shape: tuple[int, ...], q_shape: tuple[int, ...]
) -> Iterator[str]:
    size = len(subject.batch)
    gaps = np.where(np.arange(size) % 2, 1.0, -1.0) * np.linspace(0.5, 1.5, size)

    def loss(expectile: float, differences: Array) -> tuple[float, Array]:
        """Return the loss with V = Q - differences, and its derivatives with respect to V."""
        qs = np.resize(subject.batch.rewards, len(differences))
        vs = torch.tensor(qs - differences, dtype=torch.float32, requires_grad=True)
        result = trial.call(
            "iql_expectile_loss", expectile, vs.reshape(v_shape), torch.tensor(qs).reshape(q_shape)
        )
        if not isinstance(result, torch.Tensor) or result.numel() not in {1, len(differences)}:
            raise StoppedError(f"it should return one number in a tensor, not {shape_of(result)}")
        if not result.requires_grad:
            raise StoppedError("no gradient reaches V; check what is detached")
        with errors_translated():
            result.mean().backward()  # type: ignore[no-untyped-call]
        slope = (
            np.zeros(len(differences)) if vs.grad is None else vs.grad.numpy().astype(np.float64)
        )
        return float(result.detach().mean()), slope

    found = list(_sizes(loss, gaps))
    yield from found
    if not found:
        yield from _sides(loss, np.abs(gaps))


_Loss = Callable[[float, Array], tuple[float, Array]]


def _sizes(loss: _Loss, gaps: Array) -> Iterator[str]:
    """Yield what is odd about the loss of one expectile."""
    value, slope = loss(0.8, gaps)
    moved = gaps.copy()
    moved[0] *= 1.3
    if abs(loss(0.8, 0 * gaps)[0]) > 1e-6:  # noqa: PLR2004 - rounding
        yield f"the loss is not 0 where V equals Q; {BROADCAST}"
    elif min(value, *(loss(0.8, sign * np.abs(gaps))[0] for sign in (-1, 1))) <= 0:
        yield "the loss is not positive where V differs from Q; check the signs of the weights"
    elif not (np.sign(slope) == -np.sign(gaps)).all():
        yield "it does not pull every V towards its Q; check the sign of each part"
    elif not same(np.delete(loss(0.8, moved)[1], 0), np.delete(slope, 0)):
        yield f"one row changes the derivatives of other rows; {BROADCAST}"
    elif not 3 * value < loss(0.8, 2 * gaps)[0] < 6 * value:
        yield "check how fast the loss grows with the difference between V and Q"
    elif not same(np.concatenate([slope, slope]), 2 * loss(0.8, np.concatenate([gaps, gaps]))[1]):
        yield "it depends on the number of rows; check how the loss is reduced over them"


def _sides(loss: _Loss, gaps: Array) -> Iterator[str]:
    """Yield what is odd about the weights where V is below and above Q."""
    below, above = loss(0.8, gaps)[0], loss(0.8, -gaps)[0]
    low, high = loss(0.2, gaps)[0], loss(0.2, -gaps)[0]
    if abs(below - above) < 1e-3 * below:
        yield "it is the same above and below Q, whatever the expectile; check the weights"
    elif below < above:
        yield (
            "with an expectile of 0.8 a V that is too low should cost more than one that is too "
            "high; check which side gets which weight"
        )
    elif low > high * (1 - 1e-3):
        yield "the expectile makes no difference to which side costs more; check the weights"


# Steps


def _moves(outcome: Outcome, role: str, others: dict[str, str]) -> Iterator[str]:
    if not outcome.moved(role):
        yield "the network does not change; check `backward()`, `step()` and the optimiser"
    for other, name in others.items():
        if other in outcome.before and outcome.moved(other):
            yield f"it changes {name} too; check which optimiser takes the step"


def step_of_q(subject: Subject) -> Iterator[str]:
    """Yield what is odd about the step of Q."""
    read = StepReader(subject, "update_q", ONLINE, 5)
    _, outcome = read.outcome_of(subject.batch)
    wrong = list(_moves(outcome, ONLINE, {VALUE: "V", SLOW: "the target V", ACTOR: "the actor"}))
    if not wrong:
        base = read(subject.batch)
        wrong = list(trained_rows(base, subject.batch.actions))
        wrong = wrong or list(target(subject, read, _IQL))
        wrong = wrong or [*mean_over_rows(subject, read, base), *read.repeated()]
    yield from wrong


def step_of_v(subject: Subject) -> Iterator[str]:
    """Yield what is odd about the step of V."""
    read = StepReader(subject, "update_v", VALUE, 2)
    batch, row = subject.batch, subject.live
    _, outcome = read.outcome_of(batch)
    wrong = list(_moves(outcome, VALUE, {ONLINE: "the critic", SLOW: "the target V"}))
    if not wrong:
        base = read(batch)
        wrong = list(trained_rows(base, None))
    yield from wrong
    if wrong:
        return
    found = read(batch, better(subject, row, 3.0)).at_states
    others = read(batch, others_better(subject, np.arange(len(batch)), 3.0)).at_states
    change = subject.change(row, 3.0, 0, 1)
    higher = read(batch, subject.shifted(VALUE, change)).at_states
    if not all(
        same(np.delete(one, row, 0), np.delete(base.at_states, row, 0)) for one in (found, higher)
    ):
        yield f"one row changes what V learns in other rows; {BROADCAST}"
    elif same(found, base.at_states):
        yield "the value of the action taken makes no difference; check what V is compared with"
    elif not same(others, base.at_states):
        yield "values of actions that were not taken change what V learns; check how Q is indexed"
    elif not found[row, 0] < base.at_states[row, 0]:
        yield "a higher Q(s, a) pulls V down; check the signs and the order of the arguments"
    else:
        yield from _expectile_of_step(base, read(batch, expectile=0.6))
        yield from read.repeated()
        if not same(read(doubled(batch)).gradient, base.gradient):
            yield (
                "a batch that holds every row twice gives another step; check how the loss is "
                "reduced over the rows"
            )


def _expectile_of_step(at_80: Derivatives, at_60: Derivatives) -> Iterator[str]:
    strong, weak = at_80.at_states[:, 0], at_60.at_states[:, 0]
    if same(strong, weak):
        yield "the expectile makes no difference; check which loss is used, and its arguments"
        return
    pulled_up = strong < 0
    grows, falls = np.abs(strong) > np.abs(weak), np.abs(strong) < np.abs(weak)
    if not (grows[pulled_up].all() and falls[~pulled_up].all()):
        yield (
            "a larger expectile should pull V up more strongly where it is too low, and down less "
            "strongly where it is too high; check the order of the arguments"
        )
