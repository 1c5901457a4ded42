"""Solves a critic's step for its targets, and the targets for the factors in them.

With the mean squared error, dL/dQ(s, a) = 2/B (Q(s, a) - y), so the step gives y of every row. A
target of the form

    y = a r + k m V(s') + b        with m one of 1 - d, 1 and d

has three unknowns and as many equations as rows, for every candidate for V(s').
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from cs285.grading.solutions.formulas.formula import Fit, Observation
from cs285.grading.solutions.world import World
from cs285.probing.inputs import Array

_TOLERANCE = 2e-3
_MOST = 3
"""Maximum number of mistakes in one target; with more, other explanations are likelier."""
_SCALES = {1.0: "", 0.5: "half of the squared error", -1.0: "flipped sign: the loss is maximised"}


def solve(columns: Sequence[Array], wanted: Array, tolerance: float = _TOLERANCE) -> Array | None:
    """Return the coefficients with which columns add up to `wanted`, or None if there are none."""
    matrix = np.stack([column.ravel() for column in columns], 1)
    coefficients, _, rank, _ = np.linalg.lstsq(matrix, wanted.ravel(), rcond=1e-6)
    rest = np.abs(matrix @ coefficients - wanted.ravel()).max()
    if rank < len(columns) or rest > tolerance * max(float(np.abs(wanted).max()), 1e-3):
        return None
    found: Array = coefficients
    return found


def read_targets(seen: Observation, scale: float = 1.0) -> Array | None:
    """Return the target of every row `(batch,)`, or None if other actions have derivatives too."""
    size, actions = len(seen.world.batch), seen.world.batch.actions
    found, taken = seen.derivatives["critic/online"], _taken(seen)
    others = found.copy()
    others[np.arange(size), actions] = 0
    if np.abs(others).max() > 1e-3 * np.abs(taken).max():
        return None
    values = seen.world.taken(seen.world.now("critic/online")).detach().numpy()
    targets: Array = values - taken * size / (2 * scale)
    return targets


def _taken(seen: Observation) -> Array:
    """Return the derivatives with respect to Q(s, a) of the actions taken, `(batch,)`."""
    size, actions = len(seen.world.batch), seen.world.batch.actions
    taken: Array = seen.derivatives["critic/online"][np.arange(size), actions]
    return taken


def scale_of(seen: Observation) -> float | None:
    """Return the factor of the mean squared error that fits a loss and its derivatives.

    With L = c mean (Q - y)^2, the sum of the squared derivatives is 4 c L / B.
    """
    if seen.loss is None or abs(seen.loss) < 1e-9:  # noqa: PLR2004
        return None
    size = len(seen.world.batch)
    return float(size * (seen.derivatives["critic/online"][:size] ** 2).sum() / (4 * seen.loss))


def explain_targets(
    observations: Sequence[Observation],
    *,
    rule: Callable[[World, str], torch.Tensor],
    bootstraps: Mapping[str, str],
    online: str = "",
) -> Fit | None:
    """Return the explanation of all observations' targets that has the fewest mistakes."""
    scales = [scale_of(seen) for seen in observations]
    for scale, scaled in _SCALES.items():
        if any(found is not None and abs(found / scale - 1) > 1e-2 for found in scales):  # noqa: PLR2004
            continue
        targets = [read_targets(seen, scale) for seen in observations]
        present = [one for one in targets if one is not None]
        if len(present) < len(targets):
            return None
        if all(np.ptp(_taken(seen)) < 1e-3 * np.abs(_taken(seen)).max() for seen in observations):
            return None  # the error is not squared, so it reveals no target
        fits = list(_explanations(observations, present, rule, bootstraps, online))
        fits = [one for one in fits if len(one.mistakes) <= _MOST]
        if fits:
            best = min(fits, key=lambda one: len(one.mistakes))
            texts = [scaled] if scaled else []
            if scale > 0:
                return replace(best, variants=texts + best.variants)
            return replace(best, mistakes=texts + best.mistakes)
    return None


def _explanations(
    observations: Sequence[Observation],
    targets: Sequence[Array],
    rule: Callable[[World, str], torch.Tensor],
    bootstraps: Mapping[str, str],
    online: str,
) -> Iterator[Fit]:
    nexts = {"": "", **({"online": online} if online else {}), **bootstraps}
    states = {"next": "", "same": "wrong state: s in place of s' in the target"}
    masks: dict[str, tuple[Callable[[Array], Array], str]] = {
        "": (lambda d: 1 - d, ""),
        "missing": (
            np.ones_like,
            "(1 - d) is missing: terminated states are given a future",
        ),
        "inverted": (
            lambda d: d,
            "d in place of (1 - d): only terminated states are given a future",
        ),
    }
    for kind, text in nexts.items():
        for state, wrong_state in states.items():
            values = [_values(seen.world, rule, kind, state) for seen in observations]
            for mask, (masked, wrong_mask) in masks.items():
                factors: list[Array] = []
                clips: list[str] = []
                for seen, value, target in zip(observations, values, targets, strict=True):
                    if value is None:
                        break
                    d, r = seen.world.dones.numpy(), seen.world.rewards.numpy()
                    future = masked(d) * value
                    found = solve([r, future, np.ones(len(d))], target)
                    if found is None:
                        clips += _clip(r, target - float(seen.world.scalars["discount"]) * future)
                        break
                    factors.append(found)
                wrong = [one for one in (text, wrong_state, wrong_mask) if one]
                if clips:
                    choices = {"bootstrap": kind, "state": state, "mask": mask, "reward": "solved"}
                    notes = [text] if kind == "online" and online else []
                    yield Fit(choices, notes, [*wrong[len(notes) :], clips[0]])
                if len(factors) < len(observations):
                    continue
                discounts = [float(seen.world.scalars["discount"]) for seen in observations]
                mistakes = _factors(np.array(factors), np.array(discounts))
                accepted = kind == "online" and bool(online)
                mistakes = [
                    one for one in ("" if accepted else text, wrong_state, wrong_mask) if one
                ] + mistakes
                yield Fit(
                    {"bootstrap": kind, "state": state, "mask": mask, "discount": "solved"},
                    [text] if accepted else [],
                    mistakes,
                )


def _clip(rewards: Array, found: Array) -> list[str]:
    """Return the bounds that rewards are clipped to, if they are."""
    low, high = float(found.min()), float(found.max())
    clipped = np.abs(found - rewards.clip(low, high)).max() < 2e-3  # noqa: PLR2004
    if not clipped or high - low < 1e-2:  # noqa: PLR2004 - of numbers around 1
        return []
    return [f"the reward is clipped to [{low:.3g}, {high:.3g}]"]


def _values(
    world: World, rule: Callable[[World, str], torch.Tensor], kind: str, state: str
) -> Array | None:
    try:
        values: Array = rule(replace(world, at_next=state), kind).detach().numpy()
    except LookupError:  # a network that this agent does not have
        return None
    # The same number in every row cannot be distinguished from an added constant.
    return values if values.ndim == 1 and values.std() > 1e-6 else None  # noqa: PLR2004


def _factors(found: Array, discounts: Array) -> list[str]:
    """Name the factors `(observations, 3)` of reward, next value and 1."""
    rewards, nexts, constants = found.T
    texts = []
    if not _near(rewards, np.ones_like(rewards)):
        if _near(rewards, discounts):
            texts.append("the discount also multiplies the reward")
        else:
            known = {
                0.0: "the reward is missing from the target",
                -1.0: "the reward has the wrong sign",
            }
            text = f"the reward is multiplied by {rewards[0]:.4g}"
            texts.append(known.get(round(float(rewards[0]), 2), text))
    if not _near(nexts, discounts):
        texts.append(_discount(nexts, discounts))
    if not _near(constants, np.zeros_like(constants)):
        texts.append(f"the number {constants[0]:.4g} is added to every target")
    return texts


def _discount(nexts: Array, discounts: Array) -> str:
    for factor, text in (
        (np.ones_like(nexts), "the discount is missing"),
        (discounts**2, "the discount is squared: it multiplies the next value twice"),
        (discounts**3, "the discount is cubed"),
        (-discounts, "the next value is subtracted instead of added"),
        (0 * nexts, "the target contains no next value"),
        (1 - discounts, "1 - discount multiplies the next value in place of the discount"),
        (1 / discounts, "the next value is divided by the discount"),
    ):
        if _near(nexts, factor):
            return text
    if len(nexts) > 1 and _near(nexts, nexts[0] * np.ones_like(nexts)):
        return f"the discount is hard-coded as {nexts[0]:.4g}"
    return f"the next value is multiplied by {nexts[0]:.4g}, expected {discounts[0]:.4g}"


def _near(found: Array, expected: Array) -> bool:
    return bool(np.abs(found - expected).max() < 5e-3)  # noqa: PLR2004 - of numbers around 1
