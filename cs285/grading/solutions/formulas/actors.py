"""The advantages of AWAC and IQL, and the actor's loss, which they weight."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from cs285.grading.solutions.formulas.formula import Choices, Formula, Rules
from cs285.grading.solutions.world import World


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
        "softmax": lambda: taken - (policy.softmax(-1) * values).sum(-1),
        "mode": lambda: taken - values.gather(1, policy.argmax(-1, keepdim=True))[:, 0],
        "mixed": lambda: taken - (policy * w.now("critic/target")).sum(-1),
        "weighted": lambda: w.taken(policy) * taken - (policy * values).sum(-1),
        "scalar": lambda: taken - (policy * values).sum(),
        "best": lambda: values.max(-1).values - (policy * values).sum(-1),
    }
    return rules[kind]()


AWAC_ADVANTAGES = {
    "max": "max_a Q(s, a) as the baseline instead of the expectation under the actor",
    "mean": "all actions weighted equally in the baseline instead of by the actor",
    "averaged": "a mean over actions of pi Q as the baseline instead of the sum",
    "sum": "the plain sum over actions as the baseline",
    "none": "no baseline: Q(s, a) in place of the advantage",
    "flipped": "flipped sign of the advantage",
    "value": "the baseline alone, without Q(s, a)",
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
        "standardised": lambda: (advantages - advantages.mean()) / advantages.std() / t,
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
    best = w.now("critic/online").argmax(-1)
    likelihoods_rules: Rules = {
        "": lambda: w.taken(policy.log()),
        "no log": lambda: w.taken(policy),
        "logit": lambda: w.taken(w.now("actor/online")),
        "mode": policy.max(-1).values.log,
        "best": lambda: policy.log().gather(1, best[:, None])[:, 0],
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
        "one": "behaviour cloning: every weight is 1, and the advantage has no effect",
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
        "standardised": "the advantage is standardised over the batch first",
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
        "best": "the log-probability of the critic's best action, not the data's",
        "all": "the mean log-probability over all actions, not that of the action taken",
        "all sum": "the log-probabilities of all actions, not that of the action taken",
        "entropy": "the actor's entropy in place of the log-probability of the action taken",
    },
    "reduction": {"sum": "a sum over the batch instead of its mean"},
}
_NORMALISED = {
    "softmax": "weights normalised to a mean of one over the batch, as in the AWAC authors' code",
    "softmax mean": "weights normalised to a sum of one over the batch",
}


AWAC_ACTOR = Formula(
    partial(actor_loss, advantage_rule=awac_advantage),
    {"network": TARGET_ADVANTAGE, "weight": _NORMALISED, "advantage": _MIXED},
    _ACTOR_MISTAKES | {"advantage": AWAC_ADVANTAGES},
)
IQL_ACTOR = Formula(
    partial(actor_loss, advantage_rule=iql_advantage),
    {"network": TARGET_VALUES, "weight": _NORMALISED},
    _ACTOR_MISTAKES | {"advantage": IQL_ADVANTAGES},
)
