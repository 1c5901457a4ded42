"""Finds the formula that fits a student's numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from cs285.grading.solutions.formulas.formula import Formula
from cs285.grading.solutions.world import Array, World, close, shown


@dataclass(frozen=True)
class Observation:
    """The derivatives on one batch, and the loss if it was returned."""

    world: World
    derivatives: dict[str, Array]
    loss: float | None = None


@dataclass(frozen=True)
class Fit:
    """The formula that fits some numbers."""

    choices: dict[str, Any]
    variants: list[str]
    mistakes: list[str]


def agrees(formula: Formula, choices: Mapping[str, Any], seen: Observation) -> bool:
    """Return whether a formula with these choices gives the observed derivatives and loss."""
    leaves = [seen.world.leaves[role] for role in seen.derivatives]
    try:
        loss = formula.loss(seen.world, **choices)
    except (RuntimeError, IndexError):  # shapes that do not broadcast on this batch
        return False
    if seen.loss is not None and not close(seen.loss, loss.item()):
        return False
    if not loss.requires_grad:
        return all(not np.abs(found).max() > 1e-6 for found in seen.derivatives.values())  # noqa: PLR2004
    gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
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
) -> Fit | None:
    """Return the most likely choices that agree with all observations, if any do."""
    for choices, variants, mistakes in formula.deviations():
        if correct_only and mistakes:
            return None
        chosen = {**choices, **(fixed or {})}
        if all(agrees(formula, chosen, seen) for seen in observations):
            return Fit(choices, variants, mistakes)
    return None


def right_fit(
    formula: Formula, observations: Sequence[Observation | None], *, capped: bool = False
) -> Fit | None:
    """Return a fit without mistakes, if one exists and every observation could be read.

    With `capped`, the exponential of an actor's loss may have a cap.
    """
    present = [seen for seen in observations if seen is not None]
    if len(present) < len(observations):
        return None
    found = fit(formula, present, correct_only=True)
    if found is not None or not capped:
        return found
    cap = max(float(row_weights(seen).max()) for seen in present)
    found = fit(formula, present, {"cap": cap}, correct_only=True) if cap > 1 else None
    if found is not None:
        found.variants.append(f"the exponential is capped at {cap:.4g}")
    return found


def difference(formula: Formula, seen: Observation) -> str:
    """Return expected and actual numbers of one observation, as text."""
    loss = formula.loss(seen.world)
    role, found = next(iter(seen.derivatives.items()))
    expected = torch.autograd.grad(loss, seen.world.leaves[role])[0].numpy()
    rows = np.abs(expected).max(axis=1) > 0
    text = (
        f"derivative by the {role.split('/')[0]}'s outputs: expected "
        f"{shown(expected[rows])}, got {shown(found[rows])}"
    )
    if seen.loss is not None:
        text = f"loss: expected {loss.item():.5g}, got {seen.loss:.5g}; {text}"
    return text


def row_weights(seen: Observation) -> Array:
    """Compute the weight of every row from the derivative by the logit of its action."""
    size = len(seen.world.batch)
    rows = np.arange(size)
    actions = seen.world.batch.actions
    found = seen.derivatives["actor/online"][:size][rows, actions]
    policy = seen.world.policy().detach().numpy()[rows, actions]
    weights: Array = -found * size / (1 - policy)
    return weights
