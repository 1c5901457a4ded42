"""Checks of AWAC and IQL: the advantage, and the actor that is trained on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from cs285.learning import student_code
from cs285.probing.critics import ONLINE, TARGET, shape_of
from cs285.probing.inputs import Array, Weights
from cs285.probing.networks import NUM_ACTIONS
from cs285.probing.steps import StepReader
from cs285.probing.subject import Derivatives, Subject, doubled
from cs285.probing.targets import BROADCAST, same, trained_rows

ACTOR = "actor/online"
VALUES = ("value/online", "value/target")
_ADVANTAGE = "compute_advantage"


def better(subject: Subject, rows: Array | int, amount: float) -> Weights:
    """Return weights that raise the values of the actions taken in some rows."""
    change = np.zeros((len(subject.batch), NUM_ACTIONS))
    change[rows, subject.batch.actions[rows]] = amount
    return _shift_all(subject, (ONLINE, TARGET), change)


def others_better(subject: Subject, rows: Array | int, amount: float) -> Weights:
    """Return weights that raise the values of all other actions in some rows."""
    change = np.zeros((len(subject.batch), NUM_ACTIONS))
    change[rows] = amount
    change[rows, subject.batch.actions[rows]] = 0
    return _shift_all(subject, (ONLINE, TARGET), change)


def _shift_all(subject: Subject, roles: Sequence[str], change: Array) -> Weights:
    """Shift the outputs of networks in several roles, since any of them may be the one in use."""
    weights = subject.weights
    for role in roles:
        weights = subject.shifted(role, change, weights=weights)
    return weights


# The advantage


def _advantage(
    subject: Subject, weights: Weights | None = None, seed: int = 1
) -> tuple[Array | None, object]:
    """Return the advantages `(batch,)`, None if their number is wrong, and the raw result."""
    trial = subject.build(weights)
    trial.seed = seed
    batch = subject.batch
    values = [batch.observations, batch.actions]
    method = student_code.method_of(trial.agent, _ADVANTAGE)
    if student_code.takes(method, len(values) + 1):
        values.append(trial.roles()[ACTOR][0](torch.tensor(batch.observations)))
    result = trial.call(_ADVANTAGE, *values)
    if not isinstance(result, torch.Tensor) or result.numel() != len(batch):
        return None, result
    return result.detach().numpy().astype(np.float64).ravel(), result


def advantage(subject: Subject, *, on_actor: bool) -> Iterator[str]:
    """Yield what is odd about advantages, whose baseline is the actor's (AWAC) or V (IQL)."""
    base, result = _advantage(subject)
    size = len(subject.batch)
    if base is None:
        shape = shape_of(result)
        yield f"it should return one advantage per row, ({size},), not {shape}; {BROADCAST}"
        return
    row, rows = subject.live, np.arange(size)
    noise = 1e-3 * max(float(np.abs(base).max()), 1.0)

    def effect(weights: Weights) -> Array:
        found, _ = _advantage(subject, weights)
        return np.full(size, np.nan) if found is None else found - base

    alone = effect(better(subject, row, 1.0))
    taken, others = (effect(one(subject, rows, 1.0)) for one in (better, others_better))
    if np.abs(np.delete(alone, row)).max() > noise:
        yield f"values in one row change the advantages of other rows; {BROADCAST}"
    elif (taken < -noise).any():
        yield "an action with a higher value has a smaller advantage; check the signs"
    elif max(np.abs(taken).max(), np.abs(others).max()) < noise:
        yield "the critic's values make no difference; check which values it is computed from"
    elif on_actor:
        yield from _advantage_over_actor(subject, effect, others, noise)
    else:
        yield from _advantage_over_v(subject, effect, others, noise)


def _advantage_over_actor(
    subject: Subject, effect: Callable[[Weights], Array], others: Array, noise: float
) -> Iterator[str]:
    if np.abs(others).max() < noise:
        yield (
            "the values of the other actions make no difference; check what the value of the "
            "action is compared with"
        )
    elif (others > noise).any():
        yield "better alternatives make the advantage larger; check the signs"
    else:
        all_better = np.ones((len(subject.batch), NUM_ACTIONS))
        if np.abs(effect(_shift_all(subject, (ONLINE, TARGET), all_better))).max() > noise:
            yield (
                "adding the same number to the values of all actions changes the advantage; check "
                "what the value of the action is compared with"
            )
        elif not _is_sampled(subject):
            yield from _expectation(subject, effect, noise)


def _is_sampled(subject: Subject) -> bool:
    """Return whether the advantages depend on random numbers."""
    first, second = (_advantage(subject, None, seed)[0] for seed in (1, 2))
    return first is None or second is None or not same(first, second)


def _expectation(
    subject: Subject, effect: Callable[[Weights], Array], noise: float
) -> Iterator[str]:
    """Yield what is odd about what the value of the action taken is compared with."""
    row = subject.live
    likely = int(subject.outputs(ACTOR)[row].argmax())
    mode = subject.shifted(ACTOR, subject.change(row, 2.0, likely))
    if abs(effect(mode)[row]) < noise:
        yield (
            "the actor's probabilities make no difference; check what the value of the action is "
            "compared with"
        )
        return
    for action in set(range(NUM_ACTIONS)) - {int(subject.batch.actions[row])}:
        # Small enough to keep the order of the actions.
        better_one = _shift_all(subject, (ONLINE, TARGET), subject.change(row, 0.1, action))
        if abs(effect(better_one)[row]) < 1e-2 * noise:
            yield (
                "the values of some of the other actions make no difference; check what the "
                "value of the action is compared with"
            )
            return


def _advantage_over_v(
    subject: Subject, effect: Callable[[Weights], Array], others: Array, noise: float
) -> Iterator[str]:
    if np.abs(others).max() > noise:
        yield "values of actions that were not taken change it; check what it is computed from"
        return
    row = subject.live
    higher = effect(_shift_all(subject, VALUES, subject.change(row, 1.0, 0, 1)))
    if np.abs(np.delete(higher, row)).max() > noise:
        yield f"V of one row changes the advantages of other rows; {BROADCAST}"
    elif not higher[row] < -noise:
        yield "a higher V(s) does not make it smaller; check what V(s) is used for, and the signs"


# The step


def _pulls(read: Derivatives, actions: Array) -> Array:
    """Return how strongly a step pulls up the action of each row, `(batch,)`."""
    pulls: Array = -read.at_states[np.arange(len(actions)), actions]
    return pulls


def step_of_actor(subject: Subject) -> Iterator[str]:
    """Yield what is odd about the actor's step."""
    batch, read = subject.batch, StepReader(subject, "update_actor", ACTOR, 2)
    _, outcome = read.outcome_of(batch)
    if not outcome.moved(ACTOR):
        yield "the actor does not change; check `backward()`, `step()` and whose optimiser it is"
        return
    for role, name in ((ONLINE, "the critic"), ("value/online", "V")):
        if outcome.moved(role):
            yield f"it changes {name} too; check which optimiser takes the step"
    yield from not_a_number(outcome.result, "its loss")
    base = read(batch)
    wrong = list(trained_rows(base, None))
    yield from wrong
    if wrong:
        return
    pulls = _pulls(base, batch.actions)
    if (pulls <= 0).all():
        yield "it makes the actions of the data less likely; check the sign of the loss"
    elif (pulls <= 1e-6).any():  # noqa: PLR2004 - rounding
        yield (
            "it does not make every action of the data more likely; check the range of the "
            "weights, what is detached, and which actions and states the log-probability is for"
        )
    else:
        wrong = list(_weights(subject, read, base))
        yield from wrong
        if not wrong:
            yield from read.repeated()
            yield from _doubled(subject, read, base)


def _weights(subject: Subject, read: StepReader, base: Derivatives) -> Iterator[str]:
    """Yield what is odd about the weight of each row."""
    batch, actions = subject.batch, subject.batch.actions
    pulls = _pulls(base, actions)
    noise = 1e-3 * float(pulls.max())
    all_better = read(batch, better(subject, np.arange(len(actions)), 0.5))
    effects = _pulls(all_better, actions) - pulls
    if np.abs(effects).max() < noise:
        yield "advantages make no difference: the weight of a row does not depend on its advantage"
        return
    if (effects < -noise).any():
        yield "a better action gets a smaller weight; check the signs"
        return
    # Not the row with the largest weight, which may be capped.
    row = int(np.argmin(np.where(effects > 10 * noise, effects, np.inf)))
    more = _pulls(read(batch, better(subject, row, 0.5)), actions)
    if np.abs(np.delete(more - pulls, row)).max() > noise:
        yield f"an advantage in one row changes the weight of other rows; {BROADCAST}"
        return
    if _turns(base.at_states, all_better.at_states):
        yield "the gradient flows through the advantage; check what should be constant here"
        return
    warm, warm_more = (
        _pulls(read(batch, weights, temperature=3.0), actions)
        for weights in (None, better(subject, row, 0.5))
    )
    if same(warm, pulls):
        yield "the temperature makes no difference; check where it is used"
    elif warm_more[row] / warm[row] > more[row] / pulls[row] * 0.999:
        yield (
            "a higher temperature should make the weights of good and bad actions differ less; "
            "check what the temperature does to the advantage"
        )


def _turns(before: Array, after: Array) -> bool:
    """Return whether a row's derivatives `(batch, actions)` change direction, not just size."""
    sizes = np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
    clear = sizes > 1e-4 * sizes.max()
    return bool(((before * after).sum(1)[clear] < 0.9999 * sizes[clear]).any())


def _doubled(subject: Subject, read: StepReader, base: Derivatives) -> Iterator[str]:
    """Yield a complaint if a step depends on the number of rows."""
    if _draws(subject, read, base):
        return
    if not same(read(doubled(subject.batch)).gradient, base.gradient):
        yield (
            "a batch that holds every row twice gives another step, so the step depends on the "
            "batch size; check how the loss is reduced over the rows"
        )


def _draws(subject: Subject, read: StepReader, base: Derivatives) -> bool:
    """Return whether the step depends on random numbers, as when an expectation is sampled."""
    trial = subject.build()
    trial.seed = 2
    outcome = trial.outcome_of(read.method, *read.values(subject.batch))
    return not same(trial.read_step(outcome, ACTOR, subject.batch).gradient, base.gradient)


def not_a_number(value: object, what: str) -> Iterator[str]:
    """Yield a complaint if a method does not return a single number."""
    if isinstance(value, torch.Tensor):
        single = value.numel() == 1
    else:
        single = isinstance(value, int | float | np.generic) or np.size(np.asarray(value)) == 1
    if value is None or not single:
        yield f"it should return {what}, one number, not {shape_of(value)}"
