"""Finds the formula that fits a student's numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch

from cs285.grading.solutions.formulas.actors import row_weights
from cs285.grading.solutions.formulas.formula import Fit, Formula, Observation
from cs285.grading.solutions.world import World, shown
from cs285.probing.inputs import Array, close

_FLAT = 1.01
"""A cap on exp(A / lambda) at or below this gives every good action the same weight."""
__all__ = [
    "Fit",
    "Observation",
    "agrees",
    "difference",
    "difference_in_cases",
    "fit",
    "fit_cases",
    "right_fit",
    "row_weights",
]


def agrees(formula: Formula, choices: Mapping[str, Any], seen: Observation) -> bool:
    """Return whether a formula with these choices gives the observed derivatives and loss."""
    leaves = [seen.world.leaves[role] for role in seen.derivatives]
    try:
        loss = formula.loss(seen.world, **choices)
    except (RuntimeError, LookupError):  # shapes that do not broadcast, or a missing network
        return False
    if seen.loss is not None and not close(seen.loss, loss.item()):
        return False
    if not loss.requires_grad:
        return all(not np.abs(found).max() > 1e-6 for found in seen.derivatives.values())  # noqa: PLR2004
    gradients = torch.autograd.grad(loss, leaves, allow_unused=True, retain_graph=True)
    for found, expected, leaf in zip(seen.derivatives.values(), gradients, leaves, strict=True):
        wanted = torch.zeros_like(leaf) if expected is None else expected
        if not close(found, wanted.detach().numpy()):
            return False
    return True


def fit(
    formula: Formula,
    observations: Sequence[Observation],
    fixed: Mapping[str, Any] | None = None,
    *,
    correct_only: bool = False,
    single: bool = False,
) -> Fit | None:
    """Return the most likely choices that agree with all observations, if any do.

    Args:
        formula: The formula and its deviations.
        observations: The observed derivatives and losses.
        fixed: Choices that override the formula's.
        correct_only: Whether to stop before the first mistake.
        single: Whether to stop before pairs of mistakes, of which there are thousands.
    """
    for one in formula.deviations():
        if correct_only and one.mistakes:
            return None
        if _agree(formula, {**one.choices, **(fixed or {})}, observations):
            return one
    if correct_only or not observations:
        return None
    if formula.explain is not None and not fixed:
        found = formula.explain(observations)
        # Its tolerance is wider, so it may explain mistakes but not confirm right numbers.
        if found is not None and found.mistakes:
            return found
    if single:
        return None
    pairs = (
        one
        for one in formula.pairs()
        if _agree(formula, {**one.choices, **(fixed or {})}, observations)
    )
    return next(pairs, None)


def _agree(
    formula: Formula, choices: Mapping[str, Any], observations: Sequence[Observation]
) -> bool:
    return all(agrees(formula, choices, seen) for seen in observations)


def right_fit(
    formula: Formula, observations: Sequence[Observation | None], *, capped: bool = False
) -> Fit | None:
    """Return a fit without mistakes, if one exists and every observation could be read.

    With `capped`, the exponential in an actor's loss may have a cap.
    """
    present = [seen for seen in observations if seen is not None]
    if len(present) < len(observations):
        return None
    found = fit(formula, present, correct_only=True)
    if found is not None or not capped or any("actor/online" not in s.derivatives for s in present):
        return found
    cap = max(float(row_weights(seen).max()) for seen in present)
    found = fit(formula, present, {"cap": cap}, correct_only=True) if cap > _FLAT else None
    if found is not None:
        found.variants.append(f"the exponential is capped at {cap:.4g}")
    return found


def difference(
    formula: Formula, observations: Sequence[Observation], cases: Sequence[str] = ()
) -> str:
    """Return the expected and actual numbers of the first observation that differs, as text.

    Args:
        formula: The assignment's formula.
        observations: The observed derivatives and losses.
        cases: A description of each observation, such as `with use_double_q`.
    """
    number, seen = next(
        (
            (number, seen)
            for number, seen in enumerate(observations)
            if not agrees(formula, {}, seen)
        ),
        (0, observations[0]),
    )
    loss = _default(formula, seen.world)
    if loss is None:
        return "a network that the assignment needs is missing"
    parts = []
    if seen.loss is not None and not close(seen.loss, loss.item()):
        parts.append(f"loss: expected {loss.item():.5g}, got {seen.loss:.5g}")
    leaves = [seen.world.leaves[role] for role in seen.derivatives]
    gradients = torch.autograd.grad(loss, leaves, allow_unused=True, retain_graph=True)
    for (role, found), gradient, leaf in zip(
        seen.derivatives.items(), gradients, leaves, strict=True
    ):
        expected = (torch.zeros_like(leaf) if gradient is None else gradient).numpy()
        if not close(found, expected):
            wanted, got = _differing(expected, found)
            name = {"vs": "V(s)"}.get(role, f"the {role.split('/')[0]}'s outputs")
            parts.append(f"derivative w.r.t. {name}: expected {shown(wanted)}, got {shown(got)}")
    case = f"{cases[number]}: " if cases else ""
    return case + "; ".join(parts)


def fit_cases(
    formula: Formula, observations: Sequence[Observation], cases: Sequence[str]
) -> Fit | None:
    """Fit each observation separately; return the mistakes in them, if all can be named."""
    fits = [fit(formula, [seen], single=True) for seen in observations]
    if any(one is None for one in fits) or not any(one.mistakes for one in fits if one):
        return None
    mistakes = [
        f"{case}: {'; '.join(one.mistakes)}"
        for case, one in zip(cases, fits, strict=True)
        if one is not None and one.mistakes
    ]
    choices = {
        name: value for one in fits if one is not None for name, value in one.choices.items()
    }
    return Fit(choices, [], mistakes)


def difference_in_cases(
    formula: Formula, observations: Sequence[Observation], cases: Sequence[str]
) -> str:
    """Return what is wrong in each case, by name if it is known and otherwise by numbers."""
    texts = []
    for case, seen in zip(cases, observations, strict=True):
        found = fit(formula, [seen], single=True)
        if found is None:
            texts.append(f"{case}: {difference(formula, [seen])}")
        elif found.mistakes:
            texts.append(f"{case}: {'; '.join(found.mistakes)}")
    return "; ".join(texts) or difference(formula, observations, cases)


def _default(formula: Formula, world: World) -> torch.Tensor | None:
    """Return the assignment's loss, or that of the first variant that the networks allow."""
    for one in formula.deviations():
        if one.mistakes:
            return None
        with suppress(LookupError):
            return formula.loss(world, **one.choices)
    return None


def _differing(expected: Array, found: Array) -> tuple[Array, Array]:
    """Return the rows in which two arrays differ."""
    if expected.ndim == 1:
        rows = np.abs(expected - found) > 1e-3 * max(np.abs(expected).max(), 1e-3)
        return expected[rows], found[rows]
    scale = max(float(np.abs(expected).max()), 1e-3)
    rows = np.abs(expected - found).max(axis=1) > 1e-3 * scale
    return expected[rows], found[rows]
