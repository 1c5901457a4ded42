"""CQL's loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from cs285.grading.solutions.formulas.critics import (
    DQN_BOOTSTRAPS,
    HUBER,
    TD_MISTAKES,
    dqn_bootstrap,
    td_loss,
)
from cs285.grading.solutions.formulas.formula import (
    HALF,
    ROWS,
    Choices,
    Fit,
    Formula,
    Observation,
    Rules,
)
from cs285.grading.solutions.formulas.targets import solve
from cs285.grading.solutions.world import World
from cs285.probing.inputs import Array


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
    factor = float(w.scalars["cql_alpha"])
    inner = factor if str(alpha).startswith("inside") else 1.0
    soft, subtracted = _parts(w, temperature, inner)
    if alpha == "inside_all":
        subtracted = factor * subtracted
    term = _term(w, conservative, soft, subtracted)
    penalty = term.mean() if mean == "mean" else term.sum()
    loss = w.part(("loss", *td.items()), lambda: td_loss(w, bootstrap_rule=dqn_bootstrap, **td))
    total_rules: Rules = {
        "": lambda: loss + factor * penalty,
        "all": lambda: factor * (loss + penalty),
        "td": lambda: factor * loss + penalty,
        "soft": lambda: loss + factor * soft.mean() - subtracted.mean(),
        "data": lambda: loss + soft.mean() - factor * subtracted.mean(),
        "between": lambda: (1 - factor) * loss + factor * penalty,
        "inside": lambda: loss + penalty,
        "inside_all": lambda: loss + penalty,
        "inside too": lambda: loss + factor * penalty,
        "twice": lambda: loss + 2 * factor * penalty,
        "squared": lambda: loss + factor**2 * penalty,
        "half": lambda: loss + 0.5 * factor * penalty,
        "divides": lambda: loss + penalty / factor,
        "added": lambda: loss + factor + penalty,
        "temperature": lambda: loss + w.scalars["cql_temperature"] * penalty,
        "alone": lambda: 0 * loss + factor * penalty,
    }
    return total_rules[alpha]() if isinstance(alpha, str) else loss + float(alpha) * penalty


def _parts(w: World, kind: str, inner: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the logsumexp and what is subtracted from it, each `(batch,)`."""
    values = w.now("critic/online")
    taken = w.taken(values)
    t = w.scalars["cql_temperature"]
    scaled = inner * values if inner != 1.0 else values
    soft_rules: Rules = {
        "": lambda: t * (scaled / t).logsumexp(-1),
        "inside": lambda: (scaled / t).logsumexp(-1),
        "none": lambda: scaled.logsumexp(-1),
        "times": lambda: (scaled * t).logsumexp(-1),
        "times both": lambda: t * (scaled * t).logsumexp(-1),
        "inverse": lambda: (scaled * t).logsumexp(-1) / t,
        "outside": lambda: t * scaled.logsumexp(-1),
        "over": lambda: (scaled / t).logsumexp(-1) / t,
        "both": lambda: (scaled / t).logsumexp(-1),
        "whole": lambda: t * (scaled / t).logsumexp(-1),
    }
    return soft_rules[kind](), {"both": taken / t, "whole": t * taken}.get(kind, taken)


def _term(w: World, kind: str, soft: torch.Tensor, subtracted: torch.Tensor) -> torch.Tensor:
    """Return the conservative term of every row or a deviation from it."""
    values = w.now("critic/online")
    t = w.scalars["cql_temperature"]
    target = w.now("critic/target")
    term_rules: Rules = {
        "": lambda: soft - subtracted,
        "none": lambda: 0 * soft,
        "flipped": lambda: subtracted - soft,
        "sum": lambda: soft + subtracted,
        "no data": lambda: soft,
        "no_soft": lambda: -subtracted,
        "data up": lambda: subtracted,
        "max": lambda: values.max(-1).values - subtracted,
        "mean": lambda: values.mean(-1) - subtracted,
        "plain sum": lambda: values.sum(-1) - subtracted,
        "minus mean": lambda: soft - values.mean(-1),
        "minus sum": lambda: soft - values.sum(-1),
        "minus max": lambda: soft - values.max(-1).values,
        "swapped": lambda: t * (subtracted / t).logsumexp(0) - values,
        "swapped sum": lambda: t * (subtracted / t).logsumexp(0) - values.sum(-1),
        "swapped rows": lambda: subtracted[:, None] - values,
        "data alone": lambda: t * (subtracted / t).logsumexp(0) - subtracted,
        "axis": lambda: (t * (values / t).logsumexp(0)).mean() - subtracted,
        "everything": lambda: t * (values / t).flatten().logsumexp(0) - subtracted,
        "exp": lambda: values.exp().sum(-1) - subtracted,
        "exp over": lambda: (values / t).exp().sum(-1) - subtracted,
        "times exp": lambda: t * (values / t).exp().sum(-1) - subtracted,
        "mean exp": lambda: t * ((values / t).exp().mean(-1)).log() - subtracted,
        "log softmax": lambda: values.log_softmax(-1).logsumexp(-1) - subtracted,
        "all log softmax": lambda: values.log_softmax(-1).mean(-1),
        "plus log softmax": lambda: w.taken(values.log_softmax(-1)),
        "softmax": lambda: (values.softmax(-1) * values).sum(-1) - subtracted,
        "square": (soft - subtracted).square,
        "absolute": (soft - subtracted).abs,
        "positive": lambda: (soft - subtracted).clamp(max=1),
        "target": lambda: t * (target / t).logsumexp(-1) - subtracted,
        "target data": lambda: soft - w.taken(target),
        "target both": lambda: t * (target / t).logsumexp(-1) - w.taken(target),
        "next": lambda: t * (w.next("critic/online") / t).logsumexp(-1) - subtracted,
        "next data": lambda: soft - w.taken(w.next("critic/online")),
        "next both": lambda: (
            t * (w.next("critic/online") / t).logsumexp(-1) - w.taken(w.next("critic/online"))
        ),
        "next target": lambda: t * (w.next("critic/target") / t).logsumexp(-1) - subtracted,
        "minus target": lambda: soft - _target(w),
        "detached data": lambda: soft - subtracted.detach(),
        "detached soft": lambda: soft.detach() - subtracted,
    }
    return term_rules[kind]()


def _target(w: World) -> torch.Tensor:
    """Return DQN's target of every row."""
    factor = float(w.scalars["discount"])
    return (w.rewards + factor * (1 - w.dones) * dqn_bootstrap(w, "")).detach()


_TERMS = {
    "none": "the conservative term is missing: this is plain DQN",
    "flipped": "flipped sign of the conservative term: it raises unseen actions",
    "sum": "Q(s, a) is added instead of subtracted in the conservative term",
    "no data": "Q(s, a) is not subtracted from the logsumexp",
    "no_soft": "the logsumexp is missing: only - Q(s, a) is left",
    "data up": "the logsumexp is missing and Q(s, a) has the wrong sign",
    "max": "a hard maximum in place of the logsumexp",
    "mean": "the mean over actions in place of the logsumexp",
    "plain sum": "a sum over actions in place of the logsumexp",
    "minus mean": "the mean over actions in place of Q(s, a)",
    "minus sum": "the sum over actions in place of Q(s, a)",
    "minus max": "max_a Q(s, a) in place of Q(s, a) of the action taken",
    "swapped": "q_values and qa_values are swapped: the logsumexp runs over Q(s, a) of the batch, "
    "and the values of all actions are subtracted",
    "swapped sum": "q_values and qa_values are swapped: the logsumexp runs over Q(s, a) of the "
    "batch, and the sum of all actions' values is subtracted",
    "swapped rows": "q_values and qa_values are swapped: Q(s, a) in place of the logsumexp, and "
    "the values of all actions in place of Q(s, a)",
    "data alone": "wrong axis: the logsumexp runs over Q(s, a) of the batch instead of Q(s, .)",
    "axis": "wrong axis: the logsumexp runs over the batch",
    "everything": "wrong axis: one logsumexp over the whole batch and all actions",
    "exp": "the logarithm is missing: a sum of exponentials",
    "exp over": "the logarithm is missing: a sum of exponentials",
    "times exp": "the logarithm is missing: a sum of exponentials",
    "mean exp": "the logarithm of the mean of exponentials",
    "log softmax": "the logsumexp of log-probabilities, which is 0: only - Q(s, a) is left",
    "all log softmax": "the mean log-softmax of all actions in place of the conservative term",
    "plus log softmax": "flipped sign of the conservative term: it raises unseen actions",
    "softmax": "an expectation under softmax(Q) in place of the logsumexp",
    "square": "the conservative term is squared",
    "absolute": "the absolute value of the conservative term",
    "positive": "the conservative term is clipped",
    "target": "wrong network: the logsumexp is over the target critic",
    "target data": "wrong network: the target critic's Q(s, a) is subtracted from the logsumexp",
    "target both": "wrong network: the conservative term is over the target critic, which is not "
    "trained",
    "next": "wrong state: the logsumexp is taken at s'",
    "next data": "wrong state: Q(s', a) in place of Q(s, a) in the conservative term",
    "next both": "wrong state: the conservative term is taken at s'",
    "next target": "wrong state and network: the logsumexp is over the target critic at s'",
    "minus target": "the target r + discount (1 - d) V(s') in place of Q(s, a) in the "
    "conservative term",
    "detached data": "Q(s, a) is detached in the conservative term",
    "detached soft": "the logsumexp is detached",
}
_ALPHAS = {
    1.0: "cql_alpha is ignored (as if it were 1)",
    0.1: "cql_alpha is hard-coded as 0.1",
    "all": "cql_alpha multiplies the whole loss",
    "soft": "cql_alpha multiplies the logsumexp alone, not Q(s, a)",
    "data": "cql_alpha multiplies Q(s, a) alone, not the logsumexp",
    "td": "cql_alpha multiplies the temporal-difference loss instead of the new term",
    "between": "(1 - cql_alpha) multiplies the temporal-difference loss",
    "inside": "cql_alpha is inside the exponential, in the logsumexp of alpha Q, and not in "
    "front of the term",
    "inside_all": "cql_alpha is inside the exponential and in front of Q(s, a): the logsumexp "
    "of alpha Q minus alpha Q(s, a)",
    "inside too": "cql_alpha is inside the exponential, in the logsumexp of alpha Q, and in "
    "front of the term too",
    "twice": "the conservative term is taken twice: its weight is 2 cql_alpha",
    "squared": "cql_alpha is squared: it multiplies the term twice",
    "half": "the conservative term has half of its weight cql_alpha",
    "divides": "cql_alpha divides the conservative term instead of multiplying it",
    "added": "cql_alpha is added instead of multiplied: the term has weight 1",
    "temperature": "cql_temperature in place of cql_alpha in front of the term",
    "alone": "the temporal-difference loss is missing: the conservative term replaces it",
}

_MEANS = {"sum": "the conservative term is summed over the batch, not averaged"}


def _explain(observations: Sequence[Observation]) -> Fit | None:
    """Solve for the weight of the conservative term, and of a term that was added to it."""
    for scale, note in ((1.0, []), (0.5, ["half of the squared error"])):
        rests = [_rest(seen, scale) for seen in observations]
        for kind, text in ({"": ""} | _TERMS).items():
            for extra, added in ({"": ""} | _EXTRAS).items():
                if kind in {"none", "flipped"} or (kind == "no_soft" and extra):
                    continue
                found = [
                    _solve(seen, kind, extra, rest)
                    for seen, rest in zip(observations, rests, strict=True)
                ]
                weights = [one for one in found if one is not None]
                if len(weights) < len(found):
                    continue
                alphas = [float(seen.world.scalars["cql_alpha"]) for seen in observations]
                texts = [text] if text else []
                texts += _weight(np.array(weights)[:, 0], np.array(alphas))
                if added:
                    texts.append(f"{added}, with weight {weights[0][1]:.4g}")
                choices = {"conservative": kind, "alpha": "solved", "extra": extra}
                return Fit(choices, list(note), texts)
    return _explain_both(observations)


def _explain_both(observations: Sequence[Observation]) -> Fit | None:
    """Find one mistake in DQN's loss and one in the conservative term, whose gradients add up."""
    losses = [({}, ""), *_singles(TD_MISTAKES | {"bootstrap": DQN_BOOTSTRAPS})]
    terms = [({}, ""), *_singles({"conservative": _TERMS, "alpha": _ALPHAS, "mean": _MEANS})]
    terms = [one for one in terms if one[0].get("alpha") not in {"all", "td", "between"}]
    fitting = np.ones((len(losses), len(terms)), dtype=bool)
    for seen in observations:
        world, observed = seen.world, seen.derivatives["critic/online"]
        plain = td_loss(world, bootstrap_rule=dqn_bootstrap)
        parts = np.stack(
            [
                _gradient(world, _or_zero(partial(td_loss, world, bootstrap_rule=dqn_bootstrap), c))
                for c, _ in losses
            ]
        )
        added = np.stack([_gradient(world, cql_loss(world, **c)) for c, _ in terms])
        added -= _gradient(world, plain)
        rest = np.abs(observed - parts[:, None] - added).max(axis=(2, 3))
        fitting &= rest <= 1e-3 * max(float(np.abs(observed).max()), 1e-3)
    for i, j in np.argwhere(fitting):
        if losses[i][1] and terms[j][1]:
            return Fit({**losses[i][0], **terms[j][0]}, [], [losses[i][1], terms[j][1]])
    return None


def _singles(choices: Choices) -> list[tuple[dict[str, Any], str]]:
    return [({name: value}, text) for name, c in choices.items() for value, text in c.items()]


def _or_zero(loss: Callable[..., torch.Tensor], choices: dict[str, Any]) -> torch.Tensor:
    """Return a loss, or one that fits nothing if its shapes do not broadcast."""
    try:
        return loss(**choices)
    except (RuntimeError, LookupError):
        return torch.tensor(0.0)


def _rest(seen: Observation, scale: float) -> Array:
    """Return the derivatives that DQN's loss does not explain."""
    loss = td_loss(seen.world, bootstrap_rule=dqn_bootstrap, scale=scale)
    rest: Array = seen.derivatives["critic/online"] - _gradient(seen.world, loss)
    return rest


def _gradient(world: World, loss: torch.Tensor) -> Array:
    leaf = world.leaves["critic/online"]
    if not loss.requires_grad:
        return np.full(leaf.shape, 1e30)  # fits nothing
    (found,) = torch.autograd.grad(loss, [leaf], allow_unused=True, retain_graph=True)
    gradient: Array = (torch.zeros_like(leaf) if found is None else found).numpy()
    return gradient


def _solve(seen: Observation, kind: str, extra: str, rest: Array) -> Array | None:
    world = seen.world
    columns = [
        world.part(
            ("term gradient", kind),
            lambda: _gradient(world, _term(world, kind, *_parts(world, "")).mean()),
        )
    ]
    if extra:
        columns.append(
            world.part(
                ("extra gradient", extra), lambda: _gradient(world, _extra(world, extra).mean())
            )
        )
    return solve(columns, rest, 5e-3)  # of a difference


def _extra(w: World, kind: str) -> torch.Tensor:
    values = w.now("critic/online")
    t = w.scalars["cql_temperature"]
    rules: Rules = {
        "entropy": lambda: (values.softmax(-1) * values.log_softmax(-1)).sum(-1),
        "soft entropy": lambda: ((values / t).softmax(-1) * (values / t).log_softmax(-1)).sum(-1),
        "likelihood": lambda: w.taken(values.log_softmax(-1)),
        "squares": lambda: values.square().sum(-1),
        "square": lambda: w.taken(values).square(),
        "mean": lambda: values.mean(-1),
        "next": lambda: w.next("critic/online").logsumexp(-1),
        "taken": lambda: w.taken(values),
        "max": lambda: values.max(-1).values,
    }
    return rules[kind]()


_EXTRAS = {
    "entropy": "an entropy term of softmax(Q) is added to the loss",
    "soft entropy": "an entropy term of softmax(Q / T) is added to the loss",
    "likelihood": "a log-softmax of Q(s, a) is added to the loss",
    "squares": "a penalty on the squares of Q(s, .) is added to the loss",
    "square": "a penalty on the square of Q(s, a) is added to the loss",
    "mean": "the mean of Q(s, .) is added to the loss",
    "next": "a logsumexp of Q(s', .) is added to the loss",
    "taken": "Q(s, a) is added to the loss",
    "max": "max_a Q(s, a) is added to the loss",
}


def _weight(found: Array, alphas: Array) -> list[str]:
    """Name the weights of the conservative term at several alphas."""
    ratios = found / alphas
    if np.abs(ratios).max() < 1e-3:  # noqa: PLR2004
        return ["the conservative term has no gradient: it is detached or under no_grad"]
    if np.abs(ratios - 1).max() < 1e-2:  # noqa: PLR2004
        return []
    if np.abs(ratios / ratios[0] - 1).max() < 1e-2:  # noqa: PLR2004
        return [f"the conservative term is multiplied by {ratios[0]:.4g} besides cql_alpha"]
    if np.abs(found / found[0] - 1).max() < 1e-2:  # noqa: PLR2004
        return [f"cql_alpha is hard-coded as {found[0]:.4g}"]
    return [f"the conservative term has weight {found[0]:.4g}, expected {alphas[0]:.4g}"]


CQL = Formula(
    cql_loss,
    {
        "temperature": {
            "inside": "logsumexp(Q / T) without the factor T in front",
            "none": "the temperature left out, which changes nothing at T = 1",
            "inverse": "logsumexp(T Q) / T, the inverse convention, which is the same at T = 1",
            "outside": "T logsumexp(Q), which changes nothing at T = 1",
            "over": "logsumexp(Q / T) / T, which changes nothing at T = 1",
            "both": "logsumexp(Q / T) - Q(s, a) / T",
            "whole": "T logsumexp(Q / T) - T Q(s, a), which changes nothing at T = 1",
        },
        **HALF,
        **ROWS,
        **HUBER,
    },
    {
        "conservative": _TERMS,
        "alpha": _ALPHAS,
        "mean": _MEANS,
        "temperature": {
            "times": "the temperature multiplies Q in the logsumexp instead of dividing it",
            "times both": "the temperature multiplies Q in the logsumexp instead of dividing it",
        },
        **TD_MISTAKES,
        "bootstrap": DQN_BOOTSTRAPS,
    },
    _explain,
    alone=frozenset({*TD_MISTAKES}),
)

CQL_AT_ONE = replace(CQL, variants=HALF | ROWS | HUBER)
"""CQL at temperature 1, where it makes no difference where the temperature is used."""
