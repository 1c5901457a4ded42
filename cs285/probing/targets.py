"""Checks of what the target of a temporal-difference loss depends on.

Nothing here computes a target. Each check changes a reward, a termination, the discount or a
network's output in one row, and compares what the critic learns in each row with what it learned
before. It must depend on some of these and not on others.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from cs285.probing.inputs import MAX_UNEXPLAINED, OUTPUTS, Array, Transitions, Weights, close
from cs285.probing.subject import Derivatives, Subject, doubled, with_reward

BROADCAST = (
    "print the shapes of everything in it: (batch, 1) against (batch,) silently becomes "
    "(batch, batch)"
)


class Reader(Protocol):
    """Reads what a critic learns from a batch."""

    def __call__(
        self, batch: Transitions, weights: Weights | None = None, **settings: Any
    ) -> Derivatives:
        """Return the derivatives with respect to the critic's values."""
        ...


@dataclass(frozen=True)
class Bootstrap:
    """The networks that may give a target the value of the next state."""

    networks: Mapping[str, str]
    """The roles that may, with their names; one of them must."""
    forbidden: Mapping[str, str]
    """The roles that must not, with their names."""


def same(first: Array, second: Array) -> bool:
    """Return whether derivatives agree up to rounding."""
    return close(first, second, 1e-3)


def trained_rows(found: Derivatives, actions: Array | None) -> Iterator[str]:
    """Yield what is odd about where a loss trains a network.

    Args:
        found: The derivatives of the loss.
        actions: If given, only the values of these actions `(batch,)` may be trained.
    """
    if not np.isfinite(found.gradient).all():
        yield "its gradient is not finite; look for an `exp`, a `log` or a division"
        return
    if found.largest == 0:
        yield (
            "no gradient reaches the network; check what is under `no_grad` or detached, and "
            "which network the values come from"
        )
        return
    if found.unexplained > MAX_UNEXPLAINED:
        yield "it learns at states outside the batch; check the network's input"
        return
    noise = 1e-3 * found.largest
    if np.abs(found.at_states).max() < noise:
        yield "it is trained at the next observations; check the network's input"
        return
    if np.abs(found.at_next).max() > noise:
        yield (
            "gradient flows through the values of the next states; check what should be constant "
            "in this step"
        )
    if actions is None:
        return
    rows = np.arange(len(actions))
    others = found.at_states.copy()
    others[rows, actions] = 0
    if np.abs(others).max() > noise:
        yield (
            "values of actions that were not taken are trained too; check how the value of the "
            "action taken is indexed, and print its shape"
        )
    elif (np.abs(found.at_states[rows, actions]) < 1e-6).any():  # noqa: PLR2004 - rounding
        yield "some rows are not trained; check how the loss is reduced over the rows"


def target(subject: Subject, read: Reader, bootstrap: Bootstrap) -> Iterator[str]:
    """Yield what is odd about what a critic's target depends on."""
    base = read(subject.batch)
    found = list(trained_rows(base, None))
    if found:
        yield from found
        return
    mixed = yield from _rewards(subject, read, base)
    if not mixed:
        yield from _terminations(subject, read, base, bootstrap)
        yield from _discount(subject, read, base, bootstrap)
        yield from _next_values(subject, read, base, bootstrap)


def _others(change: Array, row: int) -> Array:
    return np.delete(change, row, axis=0)


def _rewards(subject: Subject, read: Reader, base: Derivatives) -> Generator[str, None, bool]:
    """Yield what is odd about rewards; return whether rows learn from each other's rewards."""
    for row, kind in ((subject.live, "a"), (subject.ended, "a terminated")):
        found = read(with_reward(subject.batch, row, 1.0)).at_states
        if not same(_others(found, row), _others(base.at_states, row)):
            yield f"the reward of one row changes what other rows learn; {BROADCAST}"
            return True
        taken = subject.batch.actions[row]
        before, after = base.at_states[row, taken], found[row, taken]
        if abs(after - before) < 1e-3 * base.largest:
            yield (
                f"{kind} transition's own reward makes no difference; check the terms of the "
                "target, and what `done` multiplies"
            )
            return False
        if after > before:
            yield "a higher reward lowers the critic's value; check the signs"
            return False
    large, larger = (read(with_reward(subject.batch, subject.live, by)) for by in (4.0, 8.0))
    if same(large.at_states, larger.at_states):
        yield "large rewards all have the same effect; check whether rewards are clipped"
    return False


def _elsewhere(subject: Subject, row: int, bootstrap: Bootstrap) -> Weights:
    """Return weights with which every network gives the next state of one row another value."""
    weights = subject.weights
    for role in {**bootstrap.networks, **bootstrap.forbidden}:
        outputs = OUTPUTS[role.partition("/")[0]]
        change = subject.change(row, 1.0, outputs=outputs)
        weights = subject.shifted(role, change, at_next=True, weights=weights)
    return weights


def _terminations(
    subject: Subject, read: Reader, base: Derivatives, bootstrap: Bootstrap
) -> Iterator[str]:
    ended, live = subject.ended, subject.live
    found = read(subject.batch, _elsewhere(subject, ended, bootstrap)).at_states
    if not same(found[ended], base.at_states[ended]):
        yield (
            "what follows a terminated transition changes what it learns, although nothing follows "
            "it; check where `done` is used"
        )
    elif not same(found, base.at_states):
        yield f"the next state of one row changes what other rows learn; {BROADCAST}"
    found = read(subject.batch, _elsewhere(subject, live, bootstrap)).at_states
    if same(found[live], base.at_states[live]):
        yield (
            "what follows a transition that did not terminate makes no difference; check where "
            "`done` and the discount are used, and which states the target is computed at"
        )
        return
    flipped = subject.batch.dones.copy()
    flipped[live] = True
    found = read(replace(subject.batch, dones=flipped)).at_states
    if same(found, base.at_states):
        yield "it learns the same whether or not a transition terminated; `done` has no effect"


def _discount(
    subject: Subject, read: Reader, base: Derivatives, bootstrap: Bootstrap
) -> Iterator[str]:
    ended, live = subject.ended, subject.live
    other = read(subject.batch, discount=0.4).at_states
    if not same(other[ended], base.at_states[ended]):
        yield "the discount changes what a terminated transition learns; check what it multiplies"
    elif same(other[live], base.at_states[live]):
        yield "the discount makes no difference; check where it is used"
    else:
        blind = read(subject.batch, discount=0.0).at_states
        moved = _elsewhere(subject, live, bootstrap)
        if not same(read(subject.batch, moved, discount=0.0).at_states, blind):
            yield "with discount 0 the next state still counts; check what the discount multiplies"


def _next_values(
    subject: Subject, read: Reader, base: Derivatives, bootstrap: Bootstrap
) -> Iterator[str]:
    """Yield what is odd about the networks, or the states, that the next values come from."""
    live = subject.live
    taken = subject.batch.actions[live]
    effects = {}
    for role in {**bootstrap.networks, **bootstrap.forbidden}:
        outputs = OUTPUTS[role.partition("/")[0]]
        change = subject.change(live, 1.0, outputs=outputs)
        moved = read(subject.batch, subject.shifted(role, change, at_next=True)).at_states
        effects[role] = moved[live, taken] - base.at_states[live, taken]
        if role in bootstrap.networks and role.endswith("target"):
            here = read(subject.batch, subject.shifted(role, change)).at_states
            if not same(here, base.at_states):
                yield (
                    f"the outputs of {bootstrap.networks[role]} at the observations change what is "
                    "learned; check which states the target is computed at"
                )
                return
    noise = 1e-3 * base.largest
    for role, name in bootstrap.forbidden.items():
        if abs(effects[role]) > noise:
            yield f"the value of the next state comes from {name}; check which network to use"
            return
    counted = [effects[role] for role in bootstrap.networks if abs(effects[role]) > noise]
    if not counted:
        names = " or ".join(bootstrap.networks.values())
        yield f"the value of the next state does not come from {names}; check which network to use"
    elif sum(counted) > 0:
        yield "a higher value of the next state lowers the critic's value; check the signs"


def mean_over_rows(subject: Subject, read: Reader, base: Derivatives) -> Iterator[str]:
    """Yield a complaint if a batch that holds every row twice gives another gradient."""
    twice = read(doubled(subject.batch)).gradient
    if not same(twice, base.gradient):
        yield (
            "a batch that holds every row twice gives another gradient, so it depends on the batch "
            "size; check how the loss is reduced over the rows"
        )
