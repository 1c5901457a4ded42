"""The expectile regression of IQL's V."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from cs285.grading.solutions.formulas.formula import (
    HALF,
    ROWS,
    Choices,
    Fit,
    Formula,
    Observation,
    Rules,
)
from cs285.grading.solutions.world import World
from cs285.probing.inputs import Array


def expectile_loss(
    vs: torch.Tensor,
    qs: torch.Tensor,
    tau: float,
    *,
    expectile: float | str = "",
    power: str = "",
    shape: str = "",
    reduction: str = "mean",
    scale: float = 1.0,
) -> torch.Tensor:
    """Return mean |tau - 1{u < 0}| u^2 with u = Q - V, or a deviation from it.

    `qs` may be a table with a row for every V(s).
    """
    if qs.ndim > vs.ndim:
        vs = vs[:, None]
    elif shape == "pairs":
        vs, qs = vs[:, None], qs[None]
    u = qs - vs
    t = tau if isinstance(expectile, str) else expectile
    weighed = (qs[None] - vs[:, None]) if shape.startswith("weights") else u
    below = (weighed < 0).double()
    if shape == "weights_rows":
        u = u[:, None]
    weights_rules: Rules = {
        "": (t - below).abs,
        "reversed": (t - (1 - below)).abs,
        "signed": lambda: t - below,
        "symmetric": lambda: torch.ones_like(weighed),
        "constant": lambda: t * torch.ones_like(weighed),
        "other constant": lambda: (1 - t) * torch.ones_like(weighed),
        "positive only": lambda: t * (1 - below),
        "negative only": lambda: (1 - t) * below,
        "tau above": lambda: torch.where(below > 0, 1.0, t),
        "tau below": lambda: torch.where(below > 0, t, 1.0),
    }
    weights = weights_rules[expectile if isinstance(expectile, str) else ""]()
    errors_rules: Rules = {
        "": u.square,
        "absolute": u.abs,
        "signed": lambda: u,
        "four": lambda: u.pow(4),
        "cubed": lambda: u.abs().pow(3),
        "whole": lambda: weights * u.pow(4),
        "weight": lambda: weights * u.square(),
        "root": u.square,
    }
    losses = weights * errors_rules[power]()
    total: torch.Tensor = losses.mean() if reduction == "mean" else losses.sum()
    if reduction == "rows":
        total = total / max(vs.shape)
    return scale * (total.sqrt() if power == "root" else total)


def iql_value_loss(w: World, *, values: str = "", rows: str = "", **choices: Any) -> torch.Tensor:
    """Return V's loss on a batch or a deviation from it."""
    vs = w.now("value/online")
    vs = {"": vs, "flip": vs.flip(0), "roll": vs.roll(1), "roll back": vs.roll(-1)}[rows]
    qs = w.part(("expected", values), lambda: _expected(w, values).detach())
    return expectile_loss(vs, qs, float(w.scalars["expectile"]), **choices)


def _expected(w: World, kind: str) -> torch.Tensor:
    """Return what V learns from, `(batch,)` or `(batch, n)`."""

    def following(role: str) -> torch.Tensor:
        return w.rewards + float(w.scalars["discount"]) * (1 - w.dones) * w.next(role)

    rules: Rules = {
        "": lambda: w.taken(w.now("critic/online")),
        "target": lambda: w.taken(w.now("critic/target")),
        "max": lambda: w.now("critic/online").max(-1).values,
        "target max": lambda: w.now("critic/target").max(-1).values,
        "mean": lambda: w.now("critic/online").mean(-1),
        "sum": lambda: w.now("critic/online").sum(-1),
        "actor": lambda: (w.policy() * w.now("critic/online")).sum(-1),
        "target actor": lambda: (w.policy() * w.now("critic/target")).sum(-1),
        "mode": lambda: w.now("critic/online").gather(1, w.policy().argmax(-1, keepdim=True))[:, 0],
        "next": lambda: w.taken(w.next("critic/online")),
        "next max": lambda: w.next("critic/online").max(-1).values,
        "v": lambda: w.now("value/target"),
        "next v": lambda: w.next("value/target"),
        "following": lambda: following("value/target"),
        "following online": lambda: following("value/online"),
        "all": lambda: w.now("critic/online"),
        "columns": lambda: w.now("critic/online")[:, w.actions],
        "first row": lambda: w.now("critic/online").flatten()[w.actions],
        "batch": lambda: w.taken(w.now("critic/online")).mean().expand(len(w.batch)),
        "advantage": lambda: w.taken(w.now("critic/online")) - w.now("value/online"),
    }
    return rules[kind]()


_VALUES = {
    "max": "max_a Q(s, a) in place of Q(s, a) of the action taken",
    "target max": "the target critic's max_a Q(s, a) in place of Q(s, a) of the action taken",
    "mean": "the mean over actions in place of Q(s, a)",
    "sum": "the sum over actions in place of Q(s, a)",
    "actor": "the expectation under the actor in place of Q(s, a)",
    "target actor": "the target critic's expectation under the actor in place of Q(s, a)",
    "mode": "Q of the actor's likeliest action in place of Q(s, a)",
    "next": "wrong state: Q(s', a) in place of Q(s, a)",
    "next max": "wrong state: max_a Q(s', a) in place of Q(s, a)",
    "v": "V learns from its own target network",
    "next v": "wrong state and network: V learns from the target V at s'",
    "following": "V learns from r + discount V(s') in place of Q(s, a)",
    "following online": "V learns from r + discount V(s') in place of Q(s, a)",
    "all": "V(s) learns from Q of every action in place of Q(s, a) of the action taken",
    "columns": "indexing by [:, a] gives a table (B, B): every state's Q of every row's action",
    "first row": "flat indexing, as by torch.take, reads every Q(s, a) from the first row",
    "batch": "V(s) learns from the mean of Q(s, a) over the batch in place of its own row's",
    "advantage": "V learns from Q(s, a) - V(s) in place of Q(s, a)",
}
_EXPECTILE_MISTAKES: Choices = {
    "expectile": {
        "reversed": "reversed expectile: tau weighs the errors below zero",
        "signed": "the absolute value around tau - 1{u < 0} is missing",
        "symmetric": "no expectile at all: a plain squared error",
        "constant": "tau multiplies every error equally",
        "other constant": "1 - tau multiplies every error equally",
        "positive only": "errors below zero do not count",
        "negative only": "errors above zero do not count",
        "tau above": "errors below zero have weight 1, not 1 - tau",
        "tau below": "errors above zero have weight 1, and those below it tau",
        0.5: "the expectile is hard-coded as 0.5",
        0.7: "the expectile is hard-coded as 0.7",
        0.8: "the expectile is hard-coded as 0.8",
        0.9: "the expectile is hard-coded as 0.9",
    },
    "power": {
        "absolute": "a quantile loss: the error is not squared",
        "signed": "the error is not squared",
        "four": "the error is squared twice",
        "cubed": "the error is cubed, not squared",
        "whole": "the weighted square is squared once more, with its weight",
        "weight": "the weight |tau - 1{u < 0}| is squared too",
        "root": "the root of the mean",
    },
    "shape": {
        "pairs": "(B, 1) against (B,), which broadcasts to (B, B): every V(s) meets every Q(s, a)",
        "weights columns": "(B, 1) against (B,), which broadcasts to (B, B): every error meets the "
        "weight of every row",
        "weights_rows": "(B, 1) against (B,), which broadcasts to (B, B): every error meets the "
        "weight of every row",
    },
    "reduction": {"sum": "a sum over the batch instead of its mean"},
    "scale": {-1.0: "flipped sign: the loss is maximised", 2.0: "twice the loss"},
}
EXPECTILE_CHOICES = frozenset(_EXPECTILE_MISTAKES)
"""The choices made in `iql_expectile_loss`, not by its caller."""


def _explain(
    observations: Sequence[Observation],
    *,
    role: str,
    expected: Callable[[World, str], Array],
    kinds: dict[str, str],
) -> Fit | None:
    """Solve the derivatives for the weights of errors above and below zero."""
    for kind, text in kinds.items():
        weights, taus = [], []
        for seen in observations:
            found = _weights(seen, role, expected(seen.world, kind))
            if found is None:
                break
            weights.append(found)
            taus.append(float(seen.world.scalars["expectile"]))
        if len(weights) == len(observations):
            mistakes = [text] if text and kind != "target" else []
            mistakes += _name_weights(np.array(weights), np.array(taus))
            variants = [text] if text and kind == "target" else []
            choices = {"expectile": "solved", **({"values": kind} if kind else {})}
            return Fit(choices, variants, mistakes)
    return None


def _weights(seen: Observation, role: str, expected: Array) -> tuple[float, float] | None:
    """Return the weights of errors above and below zero, if each is the same in all rows."""
    found = seen.derivatives[role].reshape(-1)
    size = len(seen.world.batch)
    rest, slope = found[size:], found[:size]
    values = seen.world.leaves[role].detach().numpy().reshape(-1)[:size]
    errors = expected - values
    weights = -slope * size / (2 * np.where(errors == 0, np.nan, errors))
    above, below = weights[errors > 0], weights[errors < 0]
    if len(above) < 2 or len(below) < 2 or np.abs(rest).max(initial=0.0) > 1e-4:  # noqa: PLR2004
        return None
    if np.ptp(above) > 1e-2 or np.ptp(below) > 1e-2:  # noqa: PLR2004 - of numbers around 1
        return None
    return float(above.mean()), float(below.mean())


def _name_weights(found: Array, taus: Array) -> list[str]:
    above, below = found.T
    if np.abs(above - taus).max() < 1e-2 and np.abs(below - (1 - taus)).max() < 1e-2:  # noqa: PLR2004
        return []
    constant = len(found) > 1 and np.ptp(above) < 1e-2 and np.ptp(below) < 1e-2  # noqa: PLR2004
    if constant and abs(above[0] + below[0] - 1) < 1e-2:  # noqa: PLR2004
        return [f"the expectile is hard-coded as {above[0]:.4g}"]
    wanted, lower = f"{taus[0]:.4g}", f"{1 - taus[0]:.4g}"
    if len(found) == 1 and abs(above[0] + below[0] - 1) < 1e-2:  # noqa: PLR2004
        return [f"the expectile is {above[0]:.4g}, as if hard-coded, in place of {wanted}"]
    return [
        f"errors above zero have weight {above[0]:.4g}, expected {wanted}",
        f"errors below zero have weight {below[0]:.4g}, expected {lower}",
    ]


def _value_targets(w: World, kind: str) -> Array:
    found: Array = _expected(w, kind).detach().numpy()
    return found if found.ndim == 1 else np.full(len(found), np.nan)


_LEARNS_FROM_TARGET = "V learns from the target critic, as in the paper"
IQL_VALUE = Formula(
    iql_value_loss,
    {"values": {"target": _LEARNS_FROM_TARGET}, **HALF, **ROWS},
    {
        "values": _VALUES,
        "rows": dict.fromkeys(
            ("flip", "roll", "roll back"),
            "the rows of the batch are mixed: V(s) of one row learns from Q(s, a) of another",
        ),
        **_EXPECTILE_MISTAKES,
    },
    partial(
        _explain,
        role="value/online",
        expected=_value_targets,
        kinds={"": "", "target": _LEARNS_FROM_TARGET, **_VALUES},
    ),
)


def _static_expectile(w: World, **choices: Any) -> torch.Tensor:
    return expectile_loss(w.leaves["vs"], w.leaves["qs"], float(w.scalars["expectile"]), **choices)


EXPECTILE = Formula(
    _static_expectile,
    HALF | ROWS,
    _EXPECTILE_MISTAKES,
    partial(
        _explain,
        role="vs",
        expected=lambda w, _kind: w.leaves["qs"].detach().numpy(),
        kinds={"": ""},
    ),
)
