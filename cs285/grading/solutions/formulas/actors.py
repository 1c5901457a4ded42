"""The advantages of AWAC and IQL, and the actor's loss, which they weight.

In the tables below, B is the batch size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from cs285.grading.solutions.formulas.formula import ROWS, Choices, Fit, Formula, Observation, Rules
from cs285.grading.solutions.formulas.targets import solve
from cs285.grading.solutions.world import World
from cs285.probing.inputs import Array, close


def awac_advantage(w: World, kind: str = "", network: str = "online") -> torch.Tensor:
    """Return A(s, a) = Q(s, a) - sum pi Q or a deviation, `(batch,)`."""
    values = w.now(f"critic/{network}")
    taken, policy = w.taken(values), w.policy()
    rules: Rules = {
        "": lambda: taken - (policy * values).sum(-1),
        "max": lambda: taken - values.max(-1).values,
        "mean": lambda: taken - values.mean(-1),
        "averaged": lambda: taken - (policy * values).mean(-1),
        "sum": lambda: taken - values.sum(-1),
        "none": lambda: taken,
        "flipped": lambda: (policy * values).sum(-1) - taken,
        "value": lambda: (policy * values).sum(-1),
        "minus value": lambda: -(policy * values).sum(-1),
        "plus": lambda: taken + (policy * values).sum(-1),
        "logits": lambda: taken - (w.now("actor/online") * values).sum(-1),
        "log": lambda: taken - (policy.log() * values).sum(-1),
        "softmax": lambda: taken - (policy.softmax(-1) * values).sum(-1),
        "mode": lambda: taken - values.gather(1, policy.argmax(-1, keepdim=True))[:, 0],
        "mixed": lambda: taken - (policy * w.now("critic/target")).sum(-1),
        "weighted": lambda: w.taken(policy) * taken - (policy * values).sum(-1),
        "scalar": lambda: taken - (policy * values).sum(),
        "best": lambda: values.max(-1).values - (policy * values).sum(-1),
        "zero": lambda: 0 * taken,
        "own": lambda: taken - w.taken(policy) * taken,
        "own log": lambda: taken - w.taken(policy).log() * taken,
        "probability": lambda: taken - w.taken(policy),
        "log-probability": lambda: taken - w.taken(policy).log(),
        "batch": lambda: taken - taken.mean(),
        "uniform": lambda: taken - values.median(-1).values,
        "min": lambda: taken - values.min(-1).values,
        "next": lambda: taken - (w.policy(next_state=True) * w.next(f"critic/{network}")).sum(-1),
        "flip": lambda: taken - (policy.flip(0) * values).sum(-1),
        "next policy": lambda: taken - (w.policy(next_state=True) * values).sum(-1),
        "entropic": lambda: (
            taken - (policy * (values - w.scalars["temperature"] * policy.log())).sum(-1)
        ),
        "squared": (taken - (policy * values).sum(-1)).square,
        "standardised": lambda: _standardised(taken - (policy * values).sum(-1)),
        "centred": lambda: _centred(taken - (policy * values).sum(-1)),
        "positive": lambda: (taken - (policy * values).sum(-1)).clamp(min=0),
        "columns": lambda: values[:, w.actions] - (policy * values).sum(-1),
        "first row": lambda: values.flatten()[w.actions] - (policy * values).sum(-1),
        "columns rows": lambda: values[:, w.actions] - (policy * values).sum(-1)[:, None],
        **_crossed(taken, (policy * values).sum(-1)),
        "actions": lambda: values - (policy * values).sum(-1)[:, None],
    }
    return rules[kind]()


def _crossed(taken: torch.Tensor, baseline: torch.Tensor) -> Rules:
    """Return the tables `(B, B)` that arise if one operand is a column."""
    return {
        "Q column": lambda: taken[:, None] - baseline,
        "baseline column": lambda: taken - baseline[:, None],
    }


def _standardised(advantages: torch.Tensor) -> torch.Tensor:
    return (advantages - advantages.mean()) / (advantages.std() + 1e-8)


def _centred(advantages: torch.Tensor) -> torch.Tensor:
    return advantages - advantages.mean()


_TABLE = "an advantage for every pair of rows, (B, B)"
_SHARED_ADVANTAGES = {
    "zero": "the advantage is 0 in every row: every weight is then the same",
    "batch": "the mean of Q(s, a) over the batch as the baseline",
    "squared": "the advantage is squared",
    "standardised": "the advantage is standardised over the batch",
    "centred": "the advantage is centred over the batch",
    "positive": "max(A, 0) in place of the advantage",
    "columns": "indexing by [:, a] gives every state's Q of every row's action: " + _TABLE,
    "columns rows": "indexing by [:, a] gives every state's Q of every row's action: " + _TABLE,
    "first row": "flat indexing, as by torch.take, reads every Q(s, a) from the first row",
    "actions": "an advantage for every action, (B, actions), not that of the action taken",
}
TABLES = {"Q column", "baseline column", "columns", "columns rows"}
"""Kinds of advantage with shape `(B, B)`."""
AWAC_ADVANTAGES = {
    "Q column": f"(B, 1) against (B,): Q(s, a) of shape (B, 1) meets the baseline of every row: "
    f"{_TABLE}",
    "baseline column": f"(B, 1) against (B,): the baseline of shape (B, 1) meets Q(s, a) of every "
    f"row: {_TABLE}",
    **_SHARED_ADVANTAGES,
    "own": "pi(a|s) Q(s, a) of the action taken as the baseline: the sum over actions is missing",
    "own log": "log pi(a|s) Q(s, a) of the action taken as the baseline, not the expectation under "
    "the actor",
    "probability": "pi(a|s) as the baseline, not the expectation of Q under the actor",
    "log-probability": "log pi(a|s) as the baseline, not the expectation of Q under the actor",
    "uniform": "the median over actions as the baseline",
    "min": "min_a Q(s, a) as the baseline instead of the expectation under the actor",
    "next": "wrong state: the baseline is that of s'",
    "flip": "the rows of the batch are mixed: the baseline uses the actor at another row's state",
    "next policy": "wrong state: the actor at s' in the baseline",
    "entropic": "the actor's entropy is added to the baseline",
    "max": "max_a Q(s, a) as the baseline instead of the expectation under the actor",
    "mean": "all actions weighted equally in the baseline instead of by the actor",
    "averaged": "a mean over actions of pi Q as the baseline instead of the sum",
    "sum": "the plain sum over actions as the baseline",
    "none": "no baseline: Q(s, a) in place of the advantage",
    "flipped": "flipped sign of the advantage",
    "value": "the baseline alone, without Q(s, a)",
    "minus value": "the baseline alone, subtracted from nothing: Q(s, a) is missing",
    "plus": "the baseline is added instead of subtracted",
    "logits": "the actor's logits in place of its probabilities in the baseline",
    "log": "the actor's log-probabilities in place of its probabilities in the baseline",
    "softmax": "a softmax of the actor's probabilities, applied a second time, in the baseline",
    "mode": "the value of the actor's likeliest action as the baseline",
    "weighted": "Q(s, a) is multiplied by pi(a|s)",
    "scalar": "wrong axis: one baseline summed over the whole batch",
    "best": "max_a Q(s, a) in place of Q(s, a) of the action taken",
}
TARGET_ADVANTAGE = {"target": "the advantage is from the target critic"}
_MIXED = {"mixed": "the baseline is from the target critic"}


def iql_advantage(w: World, kind: str = "", network: str = "online") -> torch.Tensor:
    """Return A(s, a) = Q(s, a) - V(s) or a deviation, `(batch,)`."""
    critic = "target" if network in {"target", "critic"} else "online"
    value = "target" if network in {"target", "value"} else "online"
    values, baseline = w.now(f"critic/{critic}"), w.now(f"value/{value}")
    taken = w.taken(values)
    rules: Rules = {
        "": lambda: taken - baseline,
        "flipped": lambda: baseline - taken,
        "plus": lambda: taken + baseline,
        "none": lambda: taken,
        "value": lambda: baseline,
        "minus value": lambda: -baseline,
        "actor": lambda: taken - (w.policy() * values).sum(-1),
        "max": lambda: taken - values.max(-1).values,
        "mean": lambda: taken - values.mean(-1),
        "next": lambda: taken - w.leaves[f"value/{value}"][len(w.batch) :, 0],
        "best": lambda: values.max(-1).values - baseline,
        "zero": lambda: 0 * taken,
        "batch": lambda: taken - taken.mean(),
        "squared": (taken - baseline).square,
        "standardised": lambda: _standardised(taken - baseline),
        "centred": lambda: _centred(taken - baseline),
        "positive": lambda: (taken - baseline).clamp(min=0),
        "columns": lambda: values[:, w.actions] - baseline,
        "first row": lambda: values.flatten()[w.actions] - baseline,
        "columns rows": lambda: values[:, w.actions] - baseline[:, None],
        **_crossed(taken, baseline),
        "actions": lambda: values - baseline[:, None],
        "expectile": lambda: _expectile_of(taken - baseline, float(w.scalars["expectile"])),
        "following": lambda: (
            w.rewards + w.scalars["discount"] * (1 - w.dones) * w.next(f"value/{value}") - baseline
        ),
    }
    return rules[kind]()


def _expectile_of(u: torch.Tensor, tau: float) -> torch.Tensor:
    return (tau - (u < 0).double()).abs() * u.square()


IQL_ADVANTAGES = {
    "Q column": f"(B, 1) against (B,): Q(s, a) of shape (B, 1) meets V(s) of every row: {_TABLE}",
    "baseline column": f"(B, 1) against (B,): V(s) of shape (B, 1), not squeezed, meets Q(s, a) of "
    f"every row: {_TABLE}",
    **_SHARED_ADVANTAGES,
    "expectile": "the expectile loss of Q(s, a) - V(s) in place of the advantage",
    "following": "r + discount V(s') - V(s) in place of Q(s, a) - V(s)",
    "flipped": "flipped sign of the advantage",
    "plus": "V(s) is added instead of subtracted",
    "none": "no baseline: Q(s, a) in place of the advantage",
    "value": "V(s) alone, without Q(s, a)",
    "minus value": "- V(s) alone, without Q(s, a)",
    "actor": "AWAC's expectation under the actor in place of V(s)",
    "max": "max_a Q(s, a) in place of V(s)",
    "mean": "the mean over actions in place of V(s)",
    "next": "wrong state: V(s') in place of V(s)",
    "best": "max_a Q(s, a) in place of Q(s, a) of the action taken",
}
TARGET_VALUES = {
    "target": "the advantage is from the target networks",
    "critic": "the advantage takes Q from the target critic",
    "value": "the advantage takes V from the target V",
}


def actor_loss(
    w: World,
    *,
    advantage_rule: Callable[..., torch.Tensor],
    advantage: str = "",
    network: str = "online",
    weight: str = "",
    temperature: float | str = "",
    likelihood: str = "",
    shape: str = "",
    reduction: str = "mean",
    scale: float = 1.0,
    detach: bool = True,
    extra: str = "",
    cap: float = float("inf"),
    floor: float = 0.0,
) -> torch.Tensor:
    """Return - mean(log pi(a|s) exp(A / lambda)) or a deviation from it."""
    advantages: torch.Tensor = w.part(
        ("advantage", advantage_rule, advantage, network),
        lambda: advantage_rule(w, advantage, network),
    )
    if detach:
        advantages = advantages.detach()
    t = w.scalars["temperature"]
    scaled_rules: Rules = {
        "": lambda: advantages / t,
        "times": lambda: advantages * t,
        "none": lambda: advantages,
        "squared": lambda: advantages / t**2,
        "root": lambda: advantages / t**0.5,
        "standardised": lambda: (advantages - advantages.mean()) / advantages.std() / t,
        "centred": lambda: (advantages - advantages.mean()) / t,
    }
    scaled = scaled_rules.get(str(temperature), lambda: advantages / float(temperature))()
    weights_rules: Rules = {
        "": lambda: scaled.exp().clamp(floor, cap) if floor or cap < float("inf") else scaled.exp(),
        "none": lambda: scaled,
        "one": lambda: torch.ones_like(scaled),
        "negative": (-scaled).exp,
        "positive": lambda: scaled.clamp(min=0),
        "sign": (scaled > 0).double,
        "outside": lambda: advantages.exp() / t,
        "outside times": lambda: advantages.exp() * t,
        "log": lambda: scaled.exp().log1p(),
        "minus one": scaled.expm1,
        "sigmoid": scaled.sigmoid,
        "absolute": scaled.abs().exp,
        "squared": (2 * scaled).exp,
        "softmax": lambda: scaled.softmax(0) * len(w.batch),
        "softmax mean": lambda: scaled.softmax(0),
        "normalised largest": (scaled - scaled.max()).exp,
    }
    weights = weights_rules[weight]()
    policy: torch.Tensor = w.part("policy", w.policy)
    likelihoods: torch.Tensor = w.part(
        ("likelihood", likelihood), _likelihoods(w, policy)[likelihood]
    )
    if weights.ndim > 1 and likelihood == "all":
        likelihoods = policy.log()
    product = likelihoods * weights
    if shape == "pairs":
        product = likelihoods[None] * weights[:, None]
    total = product.mean() if reduction == "mean" else product.sum()
    if reduction == "rows":
        total = total / len(w.batch)
    if extra:
        sign = 1.0 if extra == "entropy" else -1.0
        total = total + sign * -(policy * policy.log()).sum(-1).mean()
    return -scale * total


def _likelihoods(w: World, policy: torch.Tensor) -> Rules:
    return {
        "": lambda: w.taken(policy.log()),
        "no log": lambda: w.taken(policy),
        "logit": lambda: w.taken(w.now("actor/online")),
        "twice": lambda: w.taken(policy.log_softmax(-1)),
        "mode": policy.max(-1).values.log,
        "best": lambda: policy.log().gather(1, w.now("critic/online").argmax(-1, keepdim=True))[
            :, 0
        ],
        "all": lambda: policy.log().mean(-1),
        "all sum": lambda: policy.log().sum(-1),
        "entropy": lambda: (policy * policy.log()).sum(-1),
        "next": lambda: w.taken(w.policy(next_state=True).log()),
        "batch": lambda: w.taken(policy.log().log_softmax(0)),
        "flip": lambda: w.taken(policy.log().flip(0)),
        "roll": lambda: w.taken(policy.log().roll(1, 0)),
        "columns": lambda: policy.log()[:, w.actions],
        "columns rows": lambda: policy.log()[:, w.actions].T,
    }


_ACTOR_MISTAKES: Choices = {
    "weight": {
        "one": "behaviour cloning: every weight is 1, and the advantage has no effect",
        "none": "the exponential is missing: the advantage itself is the weight",
        "negative": "exp(-A / lambda): bad actions are cloned",
        "positive": "max(A, 0) in place of the exponential",
        "sign": "an indicator A > 0 in place of the exponential",
        "outside": "exp(A) / lambda: the temperature divides outside the exponential",
        "outside times": "lambda exp(A): the temperature multiplies outside the exponential",
        "log": "log(1 + exp(A / lambda)) in place of the exponential",
        "minus one": "exp(A / lambda) - 1 in place of the exponential",
        "sigmoid": "a sigmoid in place of the exponential",
        "absolute": "exp(|A| / lambda): the sign of the advantage is lost",
    },
    "temperature": {
        "times": "the temperature multiplies the advantage instead of dividing it",
        "none": "the temperature is ignored",
        "squared": "the temperature divides the advantage twice: exp(A / lambda^2)",
        "root": "the root of the temperature divides the advantage",
        "standardised": "the advantage is standardised over the batch first",
        "centred": "the advantage is centred over the batch first",
        0.1: "the temperature is hard-coded as 0.1",
        0.3: "the temperature is hard-coded as 0.3",
        10.0: "the temperature is hard-coded as 10",
        3.0: "the temperature is hard-coded as 3",
    },
    "shape": {
        "pairs": "(B, 1) against (B,): every weight meets every log-probability, which is "
        "behaviour cloning"
    },
    "scale": {-1.0: "flipped sign: the actor moves away from good actions"},
    "detach": {False: "the advantage is not detached: the actor's gradient flows through it"},
    "likelihood": {
        "no log": "the probability in place of its logarithm",
        "logit": "the logit in place of the log-probability",
        "twice": "a log-softmax of probabilities: the softmax is applied twice",
        "mode": "the log-probability of the actor's own best action, not the data's",
        "best": "the log-probability of the critic's best action, not the data's",
        "all": "the mean log-probability over all actions, not that of the action taken",
        "all sum": "the log-probabilities of all actions, not that of the action taken",
        "entropy": "the actor's entropy in place of the log-probability of the action taken",
        "next": "wrong state: the log-probability at s' in place of s",
        "batch": "wrong axis: the softmax runs over the batch, not over the actions",
        "flip": "the rows of the batch are mixed: the log-probability is at another row's state",
        "roll": "the rows of the batch are mixed: the log-probability is at another row's state",
        "columns": "log_prob of actions (B, 1) gives a table (B, B): every state's log-probability "
        "of every row's action",
        "columns rows": "log_prob of actions (B, 1) gives a table (B, B): every state's "
        "log-probability of every row's action",
    },
    "reduction": {"sum": "a sum over the batch instead of its mean"},
    "extra": {
        "entropy": "the actor's entropy is added to its objective",
        "minus entropy": "the actor's entropy is subtracted from its objective",
    },
}
_NORMALISED = {
    "softmax": "weights normalised to a mean of one over the batch, as in the AWAC authors' code",
    "softmax mean": "weights normalised to a sum of one over the batch",
}


def row_weights(seen: Observation) -> Array:
    """Compute every row's weight from the derivative with respect to the logit of its action."""
    size = len(seen.world.batch)
    rows = np.arange(size)
    actions = seen.world.batch.actions
    found = seen.derivatives["actor/online"][:size][rows, actions]
    policy = seen.world.policy().detach().numpy()[rows, actions]
    weights: Array = -found * size / (1 - policy)
    return weights


def is_cloning(seen: Observation, weights: Array) -> bool:
    """Return whether derivatives are those of log pi(a|s) with the weights `(batch,)`."""
    size = len(weights)
    policy = seen.world.policy().detach().numpy()
    expected = weights[:, None] * (policy - np.eye(policy.shape[1])[seen.world.batch.actions])
    found = seen.derivatives["actor/online"]
    return close(found[:size], expected / size, 2e-3) and bool(
        np.abs(found[size:]).max() <= 1e-3 * np.abs(found).max()
    )


def explain_weights(
    observations: Sequence[Observation],
    *,
    rule: Callable[..., torch.Tensor],
    advantages: Mapping[str, str],
    networks: Mapping[str, str],
) -> Fit | None:
    """Solve the rows' weights for how they depend on the advantage."""
    found = [row_weights(seen) for seen in observations]
    if not all(is_cloning(seen, one) for seen, one in zip(observations, found, strict=True)):
        return None
    temperatures = np.array([float(seen.world.scalars["temperature"]) for seen in observations])
    for network, variant in ({"online": ""} | dict(networks)).items():
        for kind, text in ({"": ""} | dict(advantages)).items():
            values = [_rows(seen.world, rule, kind, network) for seen in observations]
            mistakes = _name_weights(found, values, temperatures)
            if mistakes:
                variants = [variant] if variant else []
                choices = {"advantage": kind, "network": network, "weight": "solved"}
                return Fit(choices, variants, [text, *mistakes] if text else mistakes)
    return None


def _rows(world: World, rule: Callable[..., torch.Tensor], kind: str, network: str) -> Array | None:
    try:
        values: Array = rule(world, kind, network).detach().numpy()
    except LookupError:  # a network that this agent does not have
        return None
    return values if values.ndim == 1 and values.std() > 1e-6 else None  # noqa: PLR2004


def _name_weights(
    found: Sequence[Array], advantages: Sequence[Array | None], temperatures: Array
) -> list[str]:
    """Name weights that are equal, clipped, exponential or linear in the advantages."""
    present = [one for one in advantages if one is not None]
    if len(present) < len(found):
        return []
    exact = [np.exp(one / t) for one, t in zip(present, temperatures, strict=True)]
    if all(map(_are_equal, found)):
        ratios = [one.mean() / expected.mean() for one, expected in zip(found, exact, strict=True)]
        mean = ", the mean of exp(A / lambda)" if np.ptp([1.0, *ratios]) < 1e-2 else ""  # noqa: PLR2004
        return [
            f"behaviour cloning: every row has the same weight{mean}, as in a product of two means"
        ]
    limits = [_limits(one, expected) for one, expected in zip(found, exact, strict=True)]
    if whole := _all_of(limits):
        return _name_limits(whole)
    if whole := _all_of([_exponent(*pair) for pair in zip(found, present, strict=True)]):
        return _name_exponents(np.array(whole), temperatures)
    pairs = zip(found, present, strict=True)
    if whole := _all_of([solve([values, np.ones_like(values)], one) for one, values in pairs]):
        slope, constant = whole[0]
        found_line = f"{slope:.4g} A + {constant:.4g}"
        return [f"the exponential is missing: the weight is linear in the advantage, {found_line}"]
    return []


def _all_of(found: Sequence[Any]) -> list[Any]:
    """Return what was found in every batch; empty if any batch has none."""
    return [] if any(one is None for one in found) else list(found)


def _are_equal(weights: Array) -> bool:
    return bool(np.ptp(weights) < 1e-3 * np.abs(weights).max())


def _limits(weights: Array, exact: Array) -> tuple[float, float, float] | None:
    """Return the floor, the cap and the largest weight without the cap, if there are limits."""
    low, high = weights.min(), weights.max()
    if not close(weights, np.clip(exact, low, high), 2e-3):
        return None
    return (low if low > exact.min() * 1.01 else 0.0, high, exact.max())


def _exponent(weights: Array, advantages: Array) -> Array | None:
    """Return slope and offset of the exponent, if it is linear in the advantage."""
    high = weights.max()
    # Small weights are known only to a few digits, and the largest may be capped.
    large = (weights > 0.02 * high) & (weights < 0.999 * high)
    if not (weights > 0).all() or large.sum() <= 2:  # noqa: PLR2004 - two numbers are fitted
        return None
    line = solve([advantages[large], np.ones(large.sum())], np.log(weights[large]))
    if line is None:
        return None
    expected = np.exp(np.minimum(line[0] * advantages + line[1], np.log(high)))
    return line if close(weights, expected, 1e-2) else None


def _name_limits(limits: Sequence[tuple[float, float, float]]) -> list[str]:
    texts = []
    caps = [high for _, high, largest in limits if high < 0.99 * largest]
    floors = [low for low, _, _ in limits if low > 0]
    if caps:
        texts.append(
            f"the weight exp(A / lambda) is capped at {max(caps):.4g}: all actions above that get "
            "the same weight, which changes what the actor learns"
        )
    if floors:
        texts.append(
            f"the weight exp(A / lambda) is never below {min(floors):.4g}: bad actions are cloned "
            "too"
        )
    return texts


def _name_exponents(found: Array, temperatures: Array) -> list[str]:
    slopes, constants = found.T
    texts = []
    products = slopes * temperatures
    if np.abs(products - 1).max() > 1e-2:  # noqa: PLR2004
        if np.abs(products + 1).max() < 1e-2:  # noqa: PLR2004
            texts.append("exp(-A / lambda): the sign is flipped, and bad actions are cloned")
        elif np.abs(products - products[0]).max() < 1e-2:  # noqa: PLR2004
            texts.append(f"the advantage is multiplied by {products[0]:.4g} in the exponential")
        elif np.abs(slopes / temperatures - 1).max() < 1e-2:  # noqa: PLR2004
            texts.append("the temperature multiplies the advantage instead of dividing it")
        elif np.abs(products * temperatures - 1).max() < 1e-2:  # noqa: PLR2004
            texts.append("the temperature divides the advantage twice: exp(A / lambda^2)")
        elif np.abs(slopes - slopes[0]).max() < 1e-2 * abs(slopes[0]):
            texts.append(f"the temperature is hard-coded as {1 / slopes[0]:.4g}")
        else:
            texts.append(
                f"the exponential is of {slopes[0]:.4g} A, expected A / lambda = "
                f"{1 / temperatures[0]:.4g} A"
            )
    if np.abs(constants).max() > 1e-2:  # noqa: PLR2004
        texts.append(f"the weights are multiplied by {np.exp(constants[0]):.4g}")
    return texts


def actor_formula(
    rule: Callable[..., torch.Tensor], advantages: dict[str, str], networks: dict[str, str]
) -> Formula:
    """Return the formula of the actor's loss for one kind of advantage."""
    return Formula(
        partial(actor_loss, advantage_rule=rule),
        {"network": networks, "weight": _NORMALISED, **ROWS},
        _ACTOR_MISTAKES | {"advantage": advantages},
        partial(explain_weights, rule=rule, advantages=advantages, networks=networks),
    )


_AWAC = actor_formula(awac_advantage, AWAC_ADVANTAGES, TARGET_ADVANTAGE)
AWAC_ACTOR = replace(_AWAC, variants={**_AWAC.variants, "advantage": _MIXED})
IQL_ACTOR = actor_formula(iql_advantage, IQL_ADVANTAGES, TARGET_VALUES)
