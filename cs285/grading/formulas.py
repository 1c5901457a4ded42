"""The losses of the homework, each with the realistic mistakes and the variants beside it.

A formula is a function of a `World` with named choices. The defaults are the assignment's; every
other choice is a known variant, which is accepted, or a known mistake. A student's numbers are
fitted against the assignment's formula first, then one deviation, then two at a time.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch.nn import functional

from cs285.grading.world import World

Rules = dict[str, Callable[[], torch.Tensor]]
Choices = dict[str, dict[Any, str]]
"""Choice name to value to what it means."""
_Deviation = tuple[str, Any, str, bool]


@dataclass(frozen=True)
class Formula:
    """A loss `(world, **choices) -> scalar` and the ways to deviate from it."""

    loss: Callable[..., torch.Tensor]
    variants: Choices = field(default_factory=dict)
    mistakes: Choices = field(default_factory=dict)

    def deviations(self) -> Iterator[tuple[dict[str, Any], list[str], list[str]]]:
        """Yield choices with the variants and the mistakes they hold, the likeliest first."""
        variants = [(n, v, t, True) for n, c in self.variants.items() for v, t in c.items()]
        mistakes = [(n, v, t, False) for n, c in self.mistakes.items() for v, t in c.items()]
        pools: list[Iterable[tuple[_Deviation, ...]]] = [
            [()],
            [(one,) for one in variants],
            itertools.combinations(variants, 2),
            [(one,) for one in mistakes],
            itertools.product(variants, mistakes),
            itertools.combinations(mistakes, 2),
        ]
        for chosen in itertools.chain.from_iterable(pools):
            names = [name for name, *_ in chosen]
            if len(set(names)) == len(names):
                yield (
                    {name: value for name, value, *_ in chosen},
                    [text for *_, text, accepted in chosen if accepted],
                    [text for *_, text, accepted in chosen if not accepted],
                )


# Temporal-difference losses


def dqn_bootstrap(w: World, kind: str) -> torch.Tensor:
    """Return the value of the next state under DQN's rule or another, `(batch,)`."""
    target, online = w.next("critic/target"), w.next("critic/online")
    by_online, by_target = online.argmax(-1, keepdim=True), target.argmax(-1, keepdim=True)
    double = w.scalars["use_double_q"]
    rules: Rules = {
        "": lambda: target.gather(1, by_online if double else by_target)[:, 0],
        "single": lambda: target.max(-1).values,
        "double": lambda: target.gather(1, by_online)[:, 0],
        "reversed": lambda: target.gather(1, by_target if double else by_online)[:, 0],
        "online": lambda: online.max(-1).values,
        "swapped": lambda: online.gather(1, by_target)[:, 0],
        "mean": lambda: target.mean(-1),
        "min": lambda: target.min(-1).values,
        "sum": lambda: target.sum(-1),
        "all": lambda: target.max().expand(len(w.batch)),
        "taken": lambda: w.taken(target),
        "taken online": lambda: w.taken(online),
        "soft": lambda: target.logsumexp(-1),
        "index": by_target[:, 0].double,
        "softmax": lambda: (target.softmax(-1) * target).sum(-1),
    }
    return rules[kind]()


DQN_BOOTSTRAPS = {
    "single": "the target network chooses its own action although use_double_q is set",
    "double": "the online network chooses the action although use_double_q is not set",
    "reversed": "use_double_q is read the wrong way round",
    "online": "the online network values the next state (the target network is not used)",
    "swapped": "double Q with the two networks swapped: the online one values the target's choice",
    "mean": "the mean over next actions instead of the maximum",
    "min": "the minimum over next actions instead of the maximum",
    "sum": "the sum over next actions instead of the maximum",
    "all": "wrong axis: one maximum over the whole batch",
    "taken": "the action of the data valued at the next state instead of the best one",
    "taken online": "the action of the data valued at the next state by the online network",
    "soft": "a logsumexp over next actions instead of the maximum",
    "index": "the index of the best next action in place of its value",
    "softmax": "an expectation under softmax(Q) instead of the maximum",
}


def awac_bootstrap(w: World, kind: str) -> torch.Tensor:
    """Return the value of the next state under AWAC's rule or another, `(batch,)`."""
    target, online, policy = w.next("critic/target"), w.next("critic/online"), w.policy()
    next_policy = w.policy(next_state=True)
    mode = next_policy.argmax(-1, keepdim=True)
    rules: Rules = {
        "": lambda: (next_policy * target).sum(-1),
        "online": lambda: (next_policy * online).sum(-1),
        "max": lambda: target.max(-1).values,
        "double": lambda: target.gather(1, online.argmax(-1, keepdim=True))[:, 0],
        "online max": lambda: online.max(-1).values,
        "mean": lambda: target.mean(-1),
        "sum": lambda: target.sum(-1),
        "averaged": lambda: (next_policy * target).mean(-1),
        "averaged online": lambda: (next_policy * online).mean(-1),
        "current": lambda: (policy * target).sum(-1),
        "current online": lambda: (policy * online).sum(-1),
        "mode": lambda: target.gather(1, mode)[:, 0],
        "mode online": lambda: online.gather(1, mode)[:, 0],
        "logits": lambda: (w.next("actor/online") * target).sum(-1),
        "log": lambda: (next_policy.log() * target).sum(-1),
        "taken": lambda: w.taken(target),
        "scalar": lambda: (next_policy * target).sum().expand(len(w.batch)),
    }
    return rules[kind]()


AWAC_BOOTSTRAPS = {
    "max": "the maximum over next actions instead of the expectation under the actor",
    "double": "double Q's choice of the next action instead of the expectation under the actor",
    "online max": "the online network's maximum instead of the expectation under the actor",
    "mean": "all next actions weighted alike instead of by the actor",
    "sum": "the plain sum over next actions instead of the expectation under the actor",
    "averaged": "a mean over actions of pi Q instead of the sum",
    "averaged online": "a mean over actions of pi Q (online) instead of the sum",
    "current": "wrong state: the actor at s instead of s'",
    "current online": "wrong state: the actor at s instead of s', on the online network",
    "mode": "the actor's likeliest action instead of the expectation",
    "mode online": "the actor's likeliest action instead of the expectation, on the online network",
    "logits": "the actor's logits in place of its probabilities",
    "log": "the actor's log-probabilities in place of its probabilities",
    "taken": "the action of the data valued at the next state",
    "scalar": "wrong axis: the expectation summed over the whole batch",
}


def iql_bootstrap(w: World, kind: str) -> torch.Tensor:
    """Return the value of the next state under IQL's rule or another, `(batch,)`."""
    target = w.next("critic/target")
    rules: Rules = {
        "": lambda: w.next("value/target"),
        "online": lambda: w.next("value/online"),
        "max": lambda: target.max(-1).values,
        "online max": lambda: w.next("critic/online").max(-1).values,
        "double": lambda: target.gather(1, w.next("critic/online").argmax(-1, keepdim=True))[:, 0],
        "actor": lambda: (w.policy(next_state=True) * target).sum(-1),
        "now": lambda: w.now("value/target"),
        "now online": lambda: w.now("value/online"),
    }
    return rules[kind]()


IQL_BOOTSTRAPS = {
    "max": "the maximum of the target critic instead of V(s')",
    "online max": "the maximum of the online critic instead of V(s')",
    "double": "double Q's value instead of V(s')",
    "actor": "AWAC's expectation under the actor instead of V(s')",
    "now": "wrong state: V at s instead of s'",
    "now online": "wrong state: V at s instead of s' (online network)",
}


def td_loss(
    w: World,
    bootstrap_rule: Callable[[World, str], torch.Tensor],
    *,
    bootstrap: str = "",
    mask: str = "",
    discount: float | str = "",
    reward: str = "",
    state: str = "next",
    shape: str = "",
    error: str = "",
    reduction: str = "mean",
    scale: float = 1.0,
    values: str = "",
    detach: bool = True,
) -> torch.Tensor:
    """Return mean (Q(s, a) - r - discount (1 - d) V(s'))^2 or a deviation from it."""
    bootstrap_values = bootstrap_rule(replace(w, at_next=state), bootstrap)
    if detach:
        bootstrap_values = bootstrap_values.detach()
    factor = float(w.scalars["discount"] if isinstance(discount, str) else discount)
    rewards = {"": w.rewards, "none": 0 * w.rewards, "negated": -w.rewards}[reward]
    going_on = 1 - w.dones
    future = factor * bootstrap_values
    q_values_rules: Rules = {
        "": lambda: w.taken(w.now("critic/online")),
        "max": lambda: w.now("critic/online").max(-1).values,
        "sum": lambda: w.now("critic/online").sum(-1),
        "next": lambda: w.taken(w.leaves["critic/online"][len(w.batch) :]),
    }
    q_values = q_values_rules[values]()
    if shape.startswith("cross"):
        # r, d (batch,) against V(s') (batch, 1).
        targets = rewards[None] + going_on[None] * future[:, None]
        predictions = q_values[None] if shape == "cross" else q_values[:, None]
    else:
        targets = {
            "": lambda: rewards + going_on * future,
            "missing": lambda: rewards + future,
            "inverted": lambda: rewards + w.dones * future,
            "whole": lambda: going_on * (rewards + future),
            "reward": lambda: going_on * rewards + future,
            "discount": lambda: rewards + factor * going_on + bootstrap_values,
            "never": lambda: rewards + 0 * future,
        }[mask]()
        if discount == "both":
            targets = targets - rewards + factor * rewards
        predictions = q_values
        if shape == "pairs":
            predictions, targets = q_values[:, None], targets[None]
        elif shape == "actions":
            predictions, targets = w.now("critic/online"), targets[:, None]
    predictions, targets = predictions + 0 * targets, targets + 0 * predictions
    losses_rules: Rules = {
        "": (predictions - targets).square,
        "huber": lambda: functional.smooth_l1_loss(predictions, targets, reduction="none"),
        "absolute": (predictions - targets).abs,
    }
    losses = losses_rules[error]()
    total: torch.Tensor = losses.mean() if reduction == "mean" else losses.sum()
    return scale * total


_TD_MISTAKES: Choices = {
    "bootstrap": {},
    "mask": {
        "missing": "(1 - d) is missing: terminated states are given a future",
        "inverted": "d in place of (1 - d): only terminated states are given a future",
        "whole": "(1 - d) misplaced: it also wipes out the reward",
        "reward": "(1 - d) misplaced: it multiplies the reward and not the future",
        "discount": "(1 - d) misplaced: it multiplies the discount and not the next value",
        "never": "no next value in the target at all",
    },
    "shape": {
        "pairs": "(B, 1) against (B,): Q(s, a) of every row meets the target of every row",
        "cross": "(B, 1) against (B,): every reward meets every next value",
        "cross rows": "(B, 1) against (B,): every reward meets every next value, in Q's own row",
        "actions": "Q of every action is regressed on the target, not that of the action taken",
    },
    "discount": {
        1.0: "the discount is missing",
        0.99: "the discount is hard-coded as 0.99",
        0.95: "the discount is hard-coded as 0.95",
        0.9: "the discount is hard-coded as 0.9",
        "both": "the discount also multiplies the reward",
    },
    "state": {"same": "wrong state: s in place of s' in the target"},
    "reward": {
        "none": "the reward is missing from the target",
        "negated": "the reward has the wrong sign",
    },
    "error": {
        "huber": "a Huber loss instead of the squared error",
        "absolute": "the absolute instead of the squared error",
    },
    "reduction": {"sum": "a sum over the batch instead of its mean"},
    "scale": {-1.0: "flipped sign: the loss is maximised"},
    "values": {
        "max": "max_a Q(s, a) in place of Q(s, a) of the action taken",
        "sum": "the sum of Q(s, .) in place of Q(s, a) of the action taken",
        "next": "wrong state: Q(s', a) in place of Q(s, a)",
    },
    "detach": {False: "the target is not detached: the gradient flows into the next value"},
}
_HALF: Choices = {"scale": {0.5: "half of the squared error"}}


def _dqn(w: World, **choices: Any) -> torch.Tensor:
    return td_loss(w, dqn_bootstrap, **choices)


def _awac(w: World, **choices: Any) -> torch.Tensor:
    return td_loss(w, awac_bootstrap, **choices)


def _iql(w: World, **choices: Any) -> torch.Tensor:
    return td_loss(w, iql_bootstrap, **choices)


DQN = Formula(_dqn, _HALF, _TD_MISTAKES | {"bootstrap": DQN_BOOTSTRAPS})
AWAC_CRITIC = Formula(
    _awac,
    _HALF | {"bootstrap": {"online": "the online critic values the next state"}},
    _TD_MISTAKES | {"bootstrap": AWAC_BOOTSTRAPS},
)
IQL_CRITIC = Formula(
    _iql,
    _HALF | {"bootstrap": {"online": "the online V values the next state"}},
    _TD_MISTAKES | {"bootstrap": IQL_BOOTSTRAPS},
)


# CQL


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
    factor = w.scalars["cql_alpha"] if alpha in {"", "all", "td"} else alpha
    penalty = term.mean() if mean == "mean" else term.sum()
    loss = td_loss(w, dqn_bootstrap, **td)
    if alpha == "all":
        return float(factor) * (loss + penalty)
    if alpha == "td":
        return float(factor) * loss + penalty
    return loss + float(factor) * penalty


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
        **_HALF,
    },
    {
        "conservative": {
            "none": "the conservative term is missing: this is plain DQN",
            "flipped": "flipped sign of the conservative term: it raises unseen actions",
            "sum": "Q(s, a) is added instead of subtracted in the conservative term",
            "no data": "Q(s, a) is not subtracted from the logsumexp",
            "no soft": "the logsumexp is missing: only - Q(s, a) is there",
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
            "target": "wrong network: the logsumexp is that of the target critic",
            "next": "wrong state: the logsumexp is taken at s'",
            "detached data": "Q(s, a) is detached in the conservative term",
            "detached soft": "the logsumexp is detached",
        },
        "alpha": {
            1.0: "cql_alpha is ignored (as if it were 1)",
            0.1: "cql_alpha is hard-coded as 0.1",
            "all": "cql_alpha multiplies the whole loss",
            "td": "cql_alpha multiplies the temporal-difference loss instead of the new term",
        },
        "mean": {"sum": "the conservative term is summed over the batch, not averaged"},
        **_TD_MISTAKES,
        "bootstrap": DQN_BOOTSTRAPS,
    },
)


# Advantages and actors


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
        "plus": lambda: taken + (policy * values).sum(-1),
        "logits": lambda: taken - (w.now("actor/online") * values).sum(-1),
        "log": lambda: taken - (policy.log() * values).sum(-1),
        "mode": lambda: taken - values.gather(1, policy.argmax(-1, keepdim=True))[:, 0],
        "mixed": lambda: taken - (policy * w.now("critic/target")).sum(-1),
        "weighted": lambda: w.taken(policy) * taken - (policy * values).sum(-1),
        "scalar": lambda: taken - (policy * values).sum(),
        "best": lambda: values.max(-1).values - (policy * values).sum(-1),
    }
    return rules[kind]()


AWAC_ADVANTAGES = {
    "max": "max_a Q(s, a) as the baseline instead of the expectation under the actor",
    "mean": "all actions weighted alike in the baseline instead of by the actor",
    "averaged": "a mean over actions of pi Q as the baseline instead of the sum",
    "sum": "the plain sum over actions as the baseline",
    "none": "no baseline: Q(s, a) in place of the advantage",
    "flipped": "flipped sign of the advantage",
    "value": "the baseline alone, without Q(s, a)",
    "plus": "the baseline is added instead of subtracted",
    "logits": "the actor's logits in place of its probabilities in the baseline",
    "log": "the actor's log-probabilities in place of its probabilities in the baseline",
    "mode": "the value of the actor's likeliest action as the baseline",
    "weighted": "Q(s, a) is multiplied by pi(a|s)",
    "scalar": "wrong axis: one baseline summed over the whole batch",
    "best": "max_a Q(s, a) in place of Q(s, a) of the action taken",
}
TARGET_ADVANTAGE = {"target": "the advantage is that of the target critic"}
_MIXED = {"mixed": "the baseline is that of the target critic"}


def iql_advantage(w: World, kind: str = "", network: str = "online") -> torch.Tensor:
    """Return A(s, a) = Q(s, a) - V(s) or a deviation, `(batch,)`."""
    critic = "target" if network in {"target", "target critic"} else "online"
    value = "target" if network in {"target", "target value"} else "online"
    values, baseline = w.now(f"critic/{critic}"), w.now(f"value/{value}")
    taken = w.taken(values)
    rules: Rules = {
        "": lambda: taken - baseline,
        "flipped": lambda: baseline - taken,
        "plus": lambda: taken + baseline,
        "none": lambda: taken,
        "value": lambda: baseline,
        "actor": lambda: taken - (w.policy() * values).sum(-1),
        "max": lambda: taken - values.max(-1).values,
        "mean": lambda: taken - values.mean(-1),
        "next": lambda: taken - w.leaves[f"value/{value}"][len(w.batch) :, 0],
        "best": lambda: values.max(-1).values - baseline,
    }
    return rules[kind]()


IQL_ADVANTAGES = {
    "flipped": "flipped sign of the advantage",
    "plus": "V(s) is added instead of subtracted",
    "none": "no baseline: Q(s, a) in place of the advantage",
    "value": "V(s) alone, without Q(s, a)",
    "actor": "AWAC's expectation under the actor in place of V(s)",
    "max": "max_a Q(s, a) in place of V(s)",
    "mean": "the mean over actions in place of V(s)",
    "next": "wrong state: V(s') in place of V(s)",
    "best": "max_a Q(s, a) in place of Q(s, a) of the action taken",
}
TARGET_VALUES = {
    "target": "the advantage is that of the target networks",
    "target critic": "the advantage takes Q from the target critic",
    "target value": "the advantage takes V from the target V",
}


def actor_loss(
    w: World,
    advantage_rule: Callable[..., torch.Tensor],
    *,
    advantage: str = "",
    network: str = "online",
    weight: str = "",
    temperature: float | str = "",
    likelihood: str = "",
    shape: str = "",
    reduction: str = "mean",
    scale: float = 1.0,
    detach: bool = True,
    cap: float = float("inf"),
) -> torch.Tensor:
    """Return - mean(log pi(a|s) exp(A / lambda)) or a deviation from it."""
    advantages = advantage_rule(w, advantage, network)
    if detach:
        advantages = advantages.detach()
    t = w.scalars["temperature"]
    scaled_rules: Rules = {
        "": lambda: advantages / t,
        "times": lambda: advantages * t,
        "none": lambda: advantages,
    }
    scaled = scaled_rules.get(str(temperature), lambda: advantages / float(temperature))()
    weights_rules: Rules = {
        "": lambda: scaled.exp().clamp(max=cap),
        "none": lambda: scaled,
        "one": lambda: torch.ones_like(scaled),
        "negative": (-scaled).exp,
        "positive": lambda: scaled.clamp(min=0),
        "sign": (scaled > 0).double,
        "outside": lambda: advantages.exp() / t,
        "log": lambda: scaled.exp().log1p(),
        "sigmoid": scaled.sigmoid,
        "softmax": lambda: scaled.softmax(0) * len(w.batch),
        "softmax mean": lambda: scaled.softmax(0),
    }
    weights = weights_rules[weight]()
    policy = w.policy()
    likelihoods_rules: Rules = {
        "": lambda: w.taken(policy.log()),
        "no log": lambda: w.taken(policy),
        "logit": lambda: w.taken(w.now("actor/online")),
        "mode": policy.max(-1).values.log,
        "all": lambda: policy.log().mean(-1),
        "all sum": lambda: policy.log().sum(-1),
        "entropy": lambda: (policy * policy.log()).sum(-1),
    }
    likelihoods = likelihoods_rules[likelihood]()
    product = likelihoods * weights
    if shape == "pairs":
        product = likelihoods[None] * weights[:, None]
    total = product.mean() if reduction == "mean" else product.sum()
    return -scale * total


_ACTOR_MISTAKES: Choices = {
    "weight": {
        "one": "behaviour cloning: every weight is 1 and the advantage plays no part",
        "none": "the exponential is missing: the advantage itself is the weight",
        "negative": "exp(-A / lambda): bad actions are cloned",
        "positive": "max(A, 0) in place of the exponential",
        "sign": "an indicator A > 0 in place of the exponential",
        "outside": "exp(A) / lambda: the temperature divides outside the exponential",
        "log": "log(1 + exp(A / lambda)) in place of the exponential",
        "sigmoid": "a sigmoid in place of the exponential",
    },
    "temperature": {
        "times": "the temperature multiplies the advantage instead of dividing it",
        "none": "the temperature is ignored",
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
        "mode": "the log-probability of the actor's own best action, not the data's",
        "all": "the mean log-probability over all actions, not that of the action taken",
        "all sum": "the log-probabilities of all actions, not that of the action taken",
        "entropy": "the actor's entropy in place of the log-probability of the action taken",
    },
    "reduction": {"sum": "a sum over the batch instead of its mean"},
}
_NORMALISED = {
    "softmax": "weights normalised to a mean of one over the batch, as in AWAC authors' code",
    "softmax mean": "weights normalised to a sum of one over the batch",
}


def _awac_actor(w: World, **choices: Any) -> torch.Tensor:
    return actor_loss(w, awac_advantage, **choices)


def _iql_actor(w: World, **choices: Any) -> torch.Tensor:
    return actor_loss(w, iql_advantage, **choices)


AWAC_ACTOR = Formula(
    _awac_actor,
    {"network": TARGET_ADVANTAGE, "weight": _NORMALISED, "advantage": _MIXED},
    _ACTOR_MISTAKES | {"advantage": AWAC_ADVANTAGES},
)
IQL_ACTOR = Formula(
    _iql_actor,
    {"network": TARGET_VALUES, "weight": _NORMALISED},
    _ACTOR_MISTAKES | {"advantage": IQL_ADVANTAGES},
)


# IQL's V


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
        "constant": "tau multiplies every error alike",
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
    {"values": {"target": "V learns from the target critic, as in the paper"}, **_HALF},
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


EXPECTILE = Formula(_static_expectile, _HALF, _EXPECTILE_MISTAKES)


# RND


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
        "alone": lambda: found.square().sum(-1),
        "alone mean": lambda: found.square().mean(-1),
        "mean first": lambda: difference.mean(-1).square(),
        "plus": lambda: (found + wanted).square().sum(-1),
    }
    errors = errors_rules[error]()
    total: torch.Tensor = errors.mean() if reduction == "mean" else errors.sum()
    return scale * total


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
        "scale": {0.5: "half of the squared error"},
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
        },
        "scale": {-1.0: "flipped sign: the predictor moves away from its target"},
        "reduction": {"sum": "a sum over the batch instead of its mean"},
    },
)
