"""Checks of critics (DQN, CQL and AWAC's): the loss and the gradient step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from cs285.probing.inputs import Array, Transitions, Weights, close
from cs285.probing.networks import NUM_ACTIONS
from cs285.probing.subject import Derivatives, Subject, values_of
from cs285.probing.targets import Bootstrap, mean_over_rows, same, target, trained_rows

ONLINE, TARGET = "critic/online", "critic/target"
DQN = Bootstrap({TARGET: "the target critic"}, {ONLINE: "the critic being trained"})
AWAC = Bootstrap({TARGET: "the target critic", ONLINE: "the critic being trained"}, {})
_PARTS = 3
_BOUND = 0.01


@dataclass(frozen=True)
class LossReader:
    """Reads `compute_critic_loss` of a new agent."""

    subject: Subject

    def __call__(
        self, batch: Transitions, weights: Weights | None = None, **settings: Any
    ) -> Derivatives:
        """Return the derivatives with respect to the critic's values."""
        trial = self.subject.build(weights, **settings)
        loss = trial.call("compute_critic_loss", *values_of(batch))[0]
        return trial.read_loss(loss, ONLINE, batch)


def loss_of_dqn(subject: Subject) -> Iterator[str]:
    """Yield what is odd about DQN's loss."""
    yield from _loss(subject, DQN, only_taken=True, double=True)


def loss_of_awac(subject: Subject) -> Iterator[str]:
    """Yield what is odd about the loss of AWAC's critic."""
    found = list(_loss(subject, AWAC, only_taken=True))
    yield from found
    if not found:
        yield from _opinion_of_actor(subject)


def loss_of_cql(subject: Subject, parent: Subject) -> Iterator[str]:
    """Yield what is odd about CQL's loss.

    Args:
        subject: The class.
        parent: DQN's class, with the same networks and transitions.
    """
    wrong = list(_returned(subject))
    if wrong:
        yield from wrong
        return
    read, plain = LossReader(subject), LossReader(parent)
    none, base, more = (read(subject.batch, cql_alpha=alpha) for alpha in (0.0, 0.6, 1.2))
    kept = all(
        same(
            read(subject.batch, cql_alpha=0.0, use_double_q=double).gradient,
            plain(subject.batch, use_double_q=double).gradient,
        )
        for double in (False, True)
    )
    if not kept:
        found = list(_loss(subject, DQN, only_taken=False, double=True, cql_alpha=0.0))
        yield from found
        if not found:
            yield (
                "with cql_alpha 0 it does not learn the same as your DQN; check what cql_alpha "
                "multiplies"
            )
        return
    term, twice = base.at_states - none.at_states, more.at_states - none.at_states
    if same(base.gradient, none.gradient):
        yield "cql_alpha makes no difference; check whether the term has a gradient"
        return
    if not close(twice, 2 * term, 1e-2):
        yield "the term does not grow in proportion to cql_alpha; check what cql_alpha multiplies"
        return
    yield from _term(subject, read, term)
    yield from mean_over_rows(subject, read, base)


def _term(subject: Subject, read: LossReader, term: Array) -> Iterator[str]:
    """Yield what is odd about the conservative term, given its derivatives."""
    rows, batch = np.arange(len(subject.batch)), subject.batch
    noise = 1e-3 * np.abs(term).max()
    others = term.copy()
    others[rows, batch.actions] = 0
    outside = np.ones_like(term, dtype=bool)
    outside[rows, batch.actions] = False
    if (np.abs(term[outside]) < noise).any():
        yield "the term does not affect some actions outside the data; check its parts"
    elif (others < -noise).any() or (term[rows, batch.actions] > noise).any():
        yield (
            "the term does not push down the values of all actions and push up that of the action "
            "taken; check its signs, its parts and its axes"
        )
    else:

        def term_with(weights: Weights) -> Array:
            more, none = (read(batch, weights, cql_alpha=alpha) for alpha in (0.6, 0.0))
            difference: Array = more.at_states - none.at_states
            return difference

        row = subject.live
        action = (int(batch.actions[row]) + 1) % NUM_ACTIONS
        raised = term_with(subject.shifted(ONLINE, subject.change(row, 2.0, action)))
        if not raised[row, action] > term[row, action] + noise:
            yield "a higher value is not pushed down harder; check what the term is computed from"
        alone = term_with(subject.shifted(ONLINE, subject.change(row, 2.0, 0)))
        if not same(np.delete(alone, row, 0), np.delete(term, row, 0)):
            yield "values in one row change the term in other rows; check its axes"
        lifted = term_with(subject.shifted(ONLINE, subject.change(row, 2.0)))
        if not close(lifted, term, 1e-2):
            yield (
                "adding the same number to all values of a state changes the term; check whether "
                "its two parts balance"
            )


# The loss


def _loss(
    subject: Subject, bootstrap: Bootstrap, *, only_taken: bool, double: bool = False, **more: Any
) -> Iterator[str]:
    wrong = list(_returned(subject))
    if wrong:
        yield from wrong
        return

    def read(batch: Transitions, weights: Weights | None = None, **settings: Any) -> Derivatives:
        return LossReader(subject)(batch, weights, **{**more, **settings})

    base = read(subject.batch)
    wrong = list(trained_rows(base, subject.batch.actions if only_taken else None))
    if not wrong:
        wrong = list(target(subject, read, bootstrap))
    yield from wrong
    if wrong:
        return
    if double:
        yield from _choice_of_action(subject, read)
    if not _draws(subject):
        yield from mean_over_rows(subject, read, base)


def _returned(subject: Subject) -> Iterator[str]:
    """Yield what is odd about the results of `compute_critic_loss`."""
    size = len(subject.batch)
    trial = subject.build()
    result = trial.call("compute_critic_loss", *values_of(subject.batch))
    if not isinstance(result, tuple | list) or len(result) != _PARTS:
        yield "it should return three results: the loss, a dict of metrics, a dict of variables"
        return
    loss, metrics, variables = result
    if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
        yield f"the loss should be one number in a tensor, not {shape_of(loss)}"
        return
    if not loss.requires_grad:
        yield (
            "the loss has no gradient, so it trains nothing; check what is under `no_grad`, "
            "detached or converted to a plain number"
        )
    if not bool(torch.isfinite(loss)):
        yield "the loss is not finite"
    if not isinstance(metrics, dict) or not isinstance(variables, dict):
        yield "its second and third results should be dicts: metrics and variables"
        return
    for name, wanted in (("qa_values", (size, NUM_ACTIONS)), ("q_values", (size,))):
        found = variables.get(name)
        if found is None:
            yield f"its third result lacks `{name}`"
        elif not isinstance(found, torch.Tensor) or found.numel() != np.prod(wanted):
            yield f"`{name}` should have the shape {wanted}, not {shape_of(found)}"


def shape_of(value: Any) -> str:
    """Describe a result by its type and shape."""
    if isinstance(value, torch.Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    return "None" if value is None else f"a {type(value).__name__}"


def _draws(subject: Subject) -> bool:
    """Return whether the loss depends on random numbers, as when an expectation is sampled."""
    gradients = []
    for seed in (1, 2):
        trial = subject.build()
        trial.seed = seed
        loss = trial.call("compute_critic_loss", *values_of(subject.batch))[0]
        gradients.append(trial.read_loss(loss, ONLINE, subject.batch).gradient)
    return not same(*gradients)


def _choice_of_action(subject: Subject, read: Any) -> Iterator[str]:
    """Yield what is odd about the choice of the next action, with and without double Q."""
    batch, row = subject.batch, subject.live
    slow, fast = (subject.outputs(role, at_next=True)[row] for role in (TARGET, ONLINE))
    order = np.argsort(slow)
    best, worst = int(order[-1]), int(order[0])
    # The online critic prefers, by far, the action that its target finds worst.
    change = subject.change(row, float(np.ptp(fast)) + 5, worst)
    apart = subject.shifted(ONLINE, change, at_next=True)
    single, double = (read(batch, apart, use_double_q=flag).at_states for flag in (False, True))
    plain = read(batch).at_states
    taken = batch.actions[row]
    if same(single[row], double[row]):
        if same(single[row], plain[row]):
            yield "use_double_q makes no difference; check which network chooses the next action"
        else:
            yield "use_double_q makes no difference: double Q seems to be always on"
        return
    if not same(single, plain):
        yield "without use_double_q the critic being trained affects the target"
        return
    if double[row, taken] < single[row, taken]:
        yield (
            "the next value is higher with use_double_q than without; check which network "
            "chooses the action and which one gives its value"
        )
    all_online = subject.shifted(ONLINE, subject.change(row, 1.0), at_next=True)
    if not same(*(read(batch, w, use_double_q=True).at_states for w in (None, all_online))):
        yield "with use_double_q the critic being trained gives the value of the next action"
    low = read(batch, subject.shifted(TARGET, subject.change(row, -1.0, worst), at_next=True))
    high = read(batch, subject.shifted(TARGET, subject.change(row, 1.0, best), at_next=True))
    if not same(low.at_states, plain):
        yield (
            "values of next actions other than the best count too; check how the next action is "
            "chosen, and over which axis"
        )
    elif not high.at_states[row, taken] < plain[row, taken]:
        yield (
            "the value of the best next action makes no difference; check how the next action is "
            "chosen"
        )


def _opinion_of_actor(subject: Subject) -> Iterator[str]:
    """Yield a complaint if the target does not depend on the actor's distribution."""
    row, read = subject.live, LossReader(subject)
    # Either critic may value the next state, so make both agree.
    value = subject.change(row, 6.0, 2)
    weights = subject.weights
    for role in (TARGET, ONLINE):
        weights = subject.shifted(role, value, at_next=True, weights=weights)
    likely, unlikely = (
        subject.shifted("actor/online", subject.change(row, by, 2), at_next=True, weights=weights)
        for by in (12.0, -12.0)
    )
    taken = subject.batch.actions[row]
    pulls = [read(subject.batch, one).at_states[row, taken] for one in (likely, unlikely)]
    if not pulls[0] < pulls[1] - 1e-3 * abs(pulls[1]):
        yield (
            "what the actor would do next does not change the target as it should: a likelier good "
            "next action should make it higher; check what the next values are averaged with"
        )
    elif not _draws(subject):
        logits = subject.outputs("actor/online", at_next=True)[row]
        nudge = subject.change(row, 2.0, int(np.argmax(logits)))
        nudged = read(subject.batch, subject.shifted("actor/online", nudge, at_next=True))
        if same(nudged.at_states, read(subject.batch).at_states):
            yield (
                "only the likeliest next action counts, however likely the others are; check "
                "what the next values are averaged with"
            )


# The step


def step_of_critic(subject: Subject) -> Iterator[str]:
    """Yield what is odd about `update_critic`, compared with the class's own loss."""
    batch, method = subject.batch, "update_critic"
    trial = subject.build()
    first = trial.outcome_of(method, *values_of(batch))
    if not first.moved(ONLINE):
        yield "the critic does not change; check `backward()` and the optimiser's `step()`"
        return
    if TARGET in first.before and first.moved(TARGET):
        yield "it changes the target critic, which should change only when it is copied to"
    own = LossReader(subject)
    gradient = own(batch).gradient
    step = trial.read_step(first, ONLINE, batch).gradient
    if close(step, -gradient):
        yield "the step makes the loss larger; check its sign"
        return
    if not close(step, gradient):
        yield (
            "the step does not follow the gradient of `compute_critic_loss`; check `zero_grad()`, "
            "`backward()` and `step()`, and their order"
        )
        return
    again = trial.outcome_of(method, *values_of(batch))
    if not close(
        trial.read_step(again, ONLINE, batch).gradient, own(batch, first.after).gradient, 1e-2
    ):
        yield "the second step contains the gradient of the first; check `zero_grad()`"
    schedules = trial.networks.schedules
    if schedules and not any(one.last_epoch for one in schedules):
        yield "the learning rate never follows its schedule; look for `lr_scheduler.step()`"
    clipped = subject.build(clip_grad_norm=_BOUND)
    outcome = clipped.outcome_of(method, *values_of(batch))
    if np.linalg.norm(clipped.read_step(outcome, ONLINE, batch).gradient) > 2 * _BOUND:
        yield (
            "clip_grad_norm has no effect; look for `clip_grad_norm_`, which belongs between "
            "`backward()` and `step()`"
        )
