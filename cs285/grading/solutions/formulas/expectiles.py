"""The expectile regression of IQL's V."""

from __future__ import annotations

from typing import Any

import torch

from cs285.grading.solutions.formulas.formula import HALF, Choices, Formula
from cs285.grading.solutions.world import World


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
    """Return mean |tau - 1{u < 0}| u^2 with u = Q - V, or a deviation from it."""
    if shape == "pairs":
        vs, qs = vs[:, None], qs[None]
    u = qs - vs
    t = tau if isinstance(expectile, str) else expectile
    below = (u < 0).double()
    weights = {
        "": (t - below).abs(),
        "reversed": (t - (1 - below)).abs(),
        "signed": t - below,
        "symmetric": torch.ones_like(u),
        "constant": t * torch.ones_like(u),
        "positive only": t * (1 - below),
    }.get(str(expectile), (t - below).abs())
    errors = {"": u.square(), "absolute": u.abs(), "signed": u, "four": u.pow(4)}[power]
    losses = weights * errors
    total: torch.Tensor = losses.mean() if reduction == "mean" else losses.sum()
    return scale * total


def iql_value_loss(w: World, *, values: str = "", **choices: Any) -> torch.Tensor:
    """Return V's loss on a batch or a deviation from it."""
    critic = w.now("critic/online")
    qs = {
        "": lambda: w.taken(critic),
        "target": lambda: w.taken(w.now("critic/target")),
        "max": lambda: critic.max(-1).values,
        "mean": lambda: critic.mean(-1),
        "actor": lambda: (w.policy() * critic).sum(-1),
        "next": lambda: w.taken(w.next("critic/online")),
        "v": lambda: w.now("value/target"),
    }[values]()
    return expectile_loss(
        w.now("value/online"), qs.detach(), float(w.scalars["expectile"]), **choices
    )


_EXPECTILE_MISTAKES: Choices = {
    "expectile": {
        "reversed": "reversed expectile: tau weighs the errors below zero",
        "signed": "the absolute value around tau - 1{u < 0} is missing",
        "symmetric": "no expectile at all: a plain squared error",
        "constant": "tau multiplies every error equally",
        "positive only": "errors below zero do not count",
        0.5: "the expectile is hard-coded as 0.5",
        0.7: "the expectile is hard-coded as 0.7",
        0.8: "the expectile is hard-coded as 0.8",
        0.9: "the expectile is hard-coded as 0.9",
    },
    "power": {
        "absolute": "a quantile loss: the error is not squared",
        "signed": "the error is not squared",
        "four": "the error is squared twice",
    },
    "shape": {"pairs": "(B, 1) against (B,): every V(s) meets every Q(s, a)"},
    "reduction": {"sum": "a sum over the batch instead of its mean"},
    "scale": {-1.0: "flipped sign: the loss is maximised"},
}
IQL_VALUE = Formula(
    iql_value_loss,
    {"values": {"target": "V learns from the target critic, as in the paper"}, **HALF},
    {
        "values": {
            "max": "max_a Q(s, a) in place of Q(s, a) of the action taken",
            "mean": "the mean over actions in place of Q(s, a)",
            "actor": "the expectation under the actor in place of Q(s, a)",
            "next": "wrong state: Q(s', a) in place of Q(s, a)",
            "v": "V learns from its own target network",
        },
        **_EXPECTILE_MISTAKES,
    },
)


def _static_expectile(w: World, **choices: Any) -> torch.Tensor:
    return expectile_loss(w.leaves["vs"], w.leaves["qs"], float(w.scalars["expectile"]), **choices)


EXPECTILE = Formula(_static_expectile, HALF, _EXPECTILE_MISTAKES)
