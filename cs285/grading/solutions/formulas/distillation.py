"""The loss of RND's predictor."""

from __future__ import annotations

import torch
from torch.nn import functional

from cs285.grading.solutions.formulas.formula import HALF, Formula, Rules
from cs285.grading.solutions.world import World


def rnd_loss(
    w: World, *, error: str = "", reduction: str = "mean", scale: float = 1.0, state: str = "now"
) -> torch.Tensor:
    """Return the mean squared error of the predictor or a deviation from it."""
    size = len(w.batch)
    rows = slice(0, size) if state == "now" else slice(size, None)
    found, wanted = w.leaves["rnd/online"][rows], w.leaves["rnd/target"][rows].detach()
    difference = found - wanted
    errors_rules: Rules = {
        "": lambda: difference.square().sum(-1),
        "mean": lambda: difference.square().mean(-1),
        "norm": lambda: difference.norm(dim=-1),
        "l1": lambda: difference.abs().sum(-1),
        "l1 mean": lambda: difference.abs().mean(-1),
        "root mean": lambda: difference.square().mean(-1).sqrt(),
        "frobenius": lambda: difference.norm() * torch.ones(size, dtype=torch.float64),
        "axis": lambda: difference.norm(dim=0),
        "signed": lambda: difference.sum(-1),
        "signed mean": lambda: difference.mean(-1),
        "four": lambda: difference.pow(4).sum(-1),
        "huber": lambda: functional.smooth_l1_loss(found, wanted, reduction="none").mean(-1),
        "huber sum": lambda: functional.smooth_l1_loss(found, wanted, reduction="none").sum(-1),
        "total": lambda: difference.sum(-1).square(),
        "next target": lambda: (found - _other(w, rows)).square().sum(-1),
        "next target mean": lambda: (found - _other(w, rows)).square().mean(-1),
        "batch": (found.mean(0) - wanted.mean(0)).square,
        "batch sum": lambda: (found.mean(0) - wanted.mean(0)).square().sum(),
        "rolled": lambda: (found - wanted.roll(1, 0)).square().sum(-1),
        "rolled mean": lambda: (found - wanted.roll(1, 0)).square().mean(-1),
        "flipped": lambda: (found - wanted.flip(0)).square().sum(-1),
        "flipped mean": lambda: (found - wanted.flip(0)).square().mean(-1),
        "alone": lambda: found.square().sum(-1),
        "alone mean": lambda: found.square().mean(-1),
        "mean first": lambda: difference.mean(-1).square(),
        "plus": lambda: (found + wanted).square().sum(-1),
    }
    errors = errors_rules[error]()
    total: torch.Tensor = errors.mean() if reduction == "mean" else errors.sum()
    return scale * total


def _other(w: World, rows: slice) -> torch.Tensor:
    """Return the target network's outputs at the other states of the batch."""
    size = len(w.batch)
    others = slice(size, None) if rows.start == 0 else slice(0, size)
    return w.leaves["rnd/target"][others].detach()


RND = Formula(
    rnd_loss,
    {
        "error": {
            "mean": "the squared error averaged over features",
            "norm": "the norm of the error, not its square",
            "root mean": "the root of the mean squared error of a row",
            "l1": "the sum of absolute errors",
            "l1 mean": "the mean of absolute errors",
        },
        **HALF,
    },
    {
        "error": {
            "frobenius": "wrong axis: one norm over the whole batch",
            "axis": "wrong axis: norms over the batch, not over the features",
            "signed": "the errors are not squared, so that they cancel",
            "signed mean": "the errors are not squared, so that they cancel",
            "alone": "the target network is missing from the error",
            "alone mean": "the target network is missing from the error",
            "mean first": "the features are averaged before squaring, so that errors cancel",
            "plus": "the two networks are added instead of subtracted",
            "batch": "wrong axis: the networks are averaged over the batch before their difference "
            "is squared",
            "batch sum": "wrong axis: the networks are averaged over the batch before their "
            "difference is squared",
            "huber": "a Huber loss of the errors",
            "huber sum": "a Huber loss of the errors",
            **dict.fromkeys(
                ("rolled", "rolled mean", "flipped", "flipped mean"),
                "the rows of the batch are mixed: the error is against the target of another row",
            ),
            "four": "the errors are squared twice",
            "total": "the errors are summed over the features before squaring, so that they cancel",
            "next target": "wrong state: predictor and target are compared at different states",
            "next target mean": "wrong state: predictor and target are compared at different "
            "states",
        },
        "scale": {-1.0: "flipped sign: the predictor moves away from its target"},
        "reduction": {"sum": "a sum over the batch instead of its mean"},
    },
)
