"""CQL's loss."""

from __future__ import annotations

from typing import Any

import torch

from cs285.grading.solutions.formulas.critics import (
    DQN_BOOTSTRAPS,
    TD_MISTAKES,
    dqn_bootstrap,
    td_loss,
)
from cs285.grading.solutions.formulas.formula import HALF, Formula, Rules
from cs285.grading.solutions.world import World


def cql_loss(
    w: World,
    *,
    temperature: str = "",
    conservative: str = "",
    alpha: float | str = "",
    mean: str = "mean",
    **td: Any,
) -> torch.Tensor:
    """Return DQN's loss + alpha mean(T logsumexp(Q(s, .) / T) - Q(s, a)) or a deviation."""
    values = w.now("critic/online")
    taken = w.taken(values)
    t = w.scalars["cql_temperature"]
    soft_rules: Rules = {
        "": lambda: t * (values / t).logsumexp(-1),
        "inside": lambda: (values / t).logsumexp(-1),
        "none": lambda: values.logsumexp(-1),
        "times": lambda: (values * t).logsumexp(-1),
        "times both": lambda: t * (values * t).logsumexp(-1),
        "inverse": lambda: (values * t).logsumexp(-1) / t,
        "outside": lambda: t * values.logsumexp(-1),
        "over": lambda: (values / t).logsumexp(-1) / t,
        "both": lambda: (values / t).logsumexp(-1),
        "whole": lambda: t * (values / t).logsumexp(-1),
    }
    soft = soft_rules[temperature]()
    subtracted = {"both": taken / t, "whole": t * taken}.get(temperature, taken)
    term_rules: Rules = {
        "": lambda: soft - subtracted,
        "none": lambda: 0 * soft,
        "flipped": lambda: subtracted - soft,
        "sum": lambda: soft + subtracted,
        "no data": lambda: soft,
        "no soft": lambda: -subtracted,
        "data up": lambda: subtracted,
        "max": lambda: values.max(-1).values - subtracted,
        "mean": lambda: values.mean(-1) - subtracted,
        "plain sum": lambda: values.sum(-1) - subtracted,
        "minus mean": lambda: soft - values.mean(-1),
        "minus sum": lambda: soft - values.sum(-1),
        "minus max": lambda: soft - values.max(-1).values,
        "axis": lambda: (t * (values / t).logsumexp(0)).mean() - subtracted,
        "everything": lambda: t * (values / t).flatten().logsumexp(0) - subtracted,
        "exp": lambda: values.exp().sum(-1) - subtracted,
        "mean exp": lambda: t * ((values / t).exp().mean(-1)).log() - subtracted,
        "softmax": lambda: (values.softmax(-1) * values).sum(-1) - subtracted,
        "square": (soft - subtracted).square,
        "target": lambda: t * (w.now("critic/target") / t).logsumexp(-1) - subtracted,
        "next": lambda: t * (w.next("critic/online") / t).logsumexp(-1) - subtracted,
        "detached data": lambda: soft - subtracted.detach(),
        "detached soft": lambda: soft.detach() - subtracted,
    }
    term = term_rules[conservative]()
    factor = float(w.scalars["cql_alpha"] if isinstance(alpha, str) else alpha)
    penalty = term.mean() if mean == "mean" else term.sum()
    loss = td_loss(w, bootstrap_rule=dqn_bootstrap, **td)
    total_rules: Rules = {
        "all": lambda: factor * (loss + penalty),
        "td": lambda: factor * loss + penalty,
        "soft": lambda: loss + factor * soft.mean() - subtracted.mean(),
    }
    return total_rules.get(str(alpha), lambda: loss + factor * penalty)()


CQL = Formula(
    cql_loss,
    {
        "temperature": {
            "inside": "logsumexp(Q / T) without the factor T in front",
            "none": "the temperature left out, which changes nothing at T = 1",
            "times": "logsumexp(T Q): the temperature multiplies, which changes nothing at T = 1",
            "times both": "T logsumexp(T Q), which changes nothing at T = 1",
            "inverse": "logsumexp(T Q) / T, the inverse convention, which is the same at T = 1",
            "outside": "T logsumexp(Q), which changes nothing at T = 1",
            "over": "logsumexp(Q / T) / T, which changes nothing at T = 1",
            "both": "logsumexp(Q / T) - Q(s, a) / T",
            "whole": "T logsumexp(Q / T) - T Q(s, a), which changes nothing at T = 1",
        },
        **HALF,
    },
    {
        "conservative": {
            "none": "the conservative term is missing: this is plain DQN",
            "flipped": "flipped sign of the conservative term: it raises unseen actions",
            "sum": "Q(s, a) is added instead of subtracted in the conservative term",
            "no data": "Q(s, a) is not subtracted from the logsumexp",
            "no soft": "the logsumexp is missing: only - Q(s, a) is left",
            "data up": "the logsumexp is missing and Q(s, a) has the wrong sign",
            "max": "a hard maximum in place of the logsumexp",
            "mean": "the mean over actions in place of the logsumexp",
            "plain sum": "a sum over actions in place of the logsumexp",
            "minus mean": "the mean over actions in place of Q(s, a)",
            "minus sum": "the sum over actions in place of Q(s, a)",
            "minus max": "max_a Q(s, a) in place of Q(s, a) of the action taken",
            "axis": "wrong axis: the logsumexp runs over the batch",
            "everything": "wrong axis: one logsumexp over the whole batch and all actions",
            "exp": "the logarithm is missing: a sum of exponentials",
            "mean exp": "the logarithm of the mean of exponentials",
            "softmax": "an expectation under softmax(Q) in place of the logsumexp",
            "square": "the conservative term is squared",
            "target": "wrong network: the logsumexp is over the target critic",
            "next": "wrong state: the logsumexp is taken at s'",
            "detached data": "Q(s, a) is detached in the conservative term",
            "detached soft": "the logsumexp is detached",
        },
        "alpha": {
            1.0: "cql_alpha is ignored (as if it were 1)",
            0.1: "cql_alpha is hard-coded as 0.1",
            "all": "cql_alpha multiplies the whole loss",
            "soft": "cql_alpha multiplies the logsumexp alone, not Q(s, a)",
            "td": "cql_alpha multiplies the temporal-difference loss instead of the new term",
        },
        "mean": {"sum": "the conservative term is summed over the batch, not averaged"},
        **TD_MISTAKES,
        "bootstrap": DQN_BOOTSTRAPS,
    },
)
