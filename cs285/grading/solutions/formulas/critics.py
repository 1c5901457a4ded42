"""Temporal-difference losses: DQN, AWAC and IQL."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch.nn import functional

from cs285.grading.solutions.formulas.formula import HALF, Choices, Formula, Rules
from cs285.grading.solutions.world import World


def _q_learning(w: World) -> Rules:
    """Return ways to value the next state by the critics alone."""
    target, online = w.next("critic/target"), w.next("critic/online")
    return {
        "max": lambda: target.max(-1).values,
        "online max": lambda: online.max(-1).values,
        "double": lambda: target.gather(1, online.argmax(-1, keepdim=True))[:, 0],
        "mean": lambda: target.mean(-1),
        "min": lambda: target.min(-1).values,
        "sum": lambda: target.sum(-1),
        "taken": lambda: w.taken(target),
    }


def dqn_bootstrap(w: World, kind: str) -> torch.Tensor:
    """Return the value of the next state under DQN's rule or another, `(batch,)`."""
    target, online = w.next("critic/target"), w.next("critic/online")
    by_online, by_target = online.argmax(-1, keepdim=True), target.argmax(-1, keepdim=True)
    double = w.scalars["use_double_q"]
    rules = _q_learning(w) | {
        "": lambda: target.gather(1, by_online if double else by_target)[:, 0],
        "reversed": lambda: target.gather(1, by_target if double else by_online)[:, 0],
        "swapped": lambda: online.gather(1, by_target)[:, 0],
        "all": lambda: target.max().expand(len(w.batch)),
        "taken online": lambda: w.taken(online),
        "soft": lambda: target.logsumexp(-1),
        "index": by_target[:, 0].double,
        "softmax": lambda: (target.softmax(-1) * target).sum(-1),
    }
    return rules[kind]()


DQN_BOOTSTRAPS = {
    "max": "the target network chooses its own action although use_double_q is set",
    "double": "the online network chooses the action although use_double_q is not set",
    "reversed": "use_double_q is reversed",
    "online max": "the online network values the next state (the target network is not used)",
    "swapped": "double Q with the two networks swapped: the online one values the target's choice",
    "mean": "the mean over next actions instead of the maximum",
    "min": "the minimum over next actions instead of the maximum",
    "sum": "the sum over next actions instead of the maximum",
    "all": "wrong axis: one maximum over the whole batch",
    "taken": "the value of the data's action at the next state instead of the best action's",
    "taken online": "the value of the data's action at the next state, by the online network",
    "soft": "a logsumexp over next actions instead of the maximum",
    "index": "the index of the best next action in place of its value",
    "softmax": "an expectation under softmax(Q) instead of the maximum",
}


def awac_bootstrap(w: World, kind: str) -> torch.Tensor:
    """Return the value of the next state under AWAC's rule or another, `(batch,)`."""
    target, online, policy = w.next("critic/target"), w.next("critic/online"), w.policy()
    next_policy = w.policy(next_state=True)
    mode = next_policy.argmax(-1, keepdim=True)
    rules = _q_learning(w) | {
        "": lambda: (next_policy * target).sum(-1),
        "online": lambda: (next_policy * online).sum(-1),
        "averaged": lambda: (next_policy * target).mean(-1),
        "averaged online": lambda: (next_policy * online).mean(-1),
        "current": lambda: (policy * target).sum(-1),
        "current online": lambda: (policy * online).sum(-1),
        "mode": lambda: target.gather(1, mode)[:, 0],
        "mode online": lambda: online.gather(1, mode)[:, 0],
        "logits": lambda: (w.next("actor/online") * target).sum(-1),
        "log": lambda: (next_policy.log() * target).sum(-1),
        "softmax": lambda: (next_policy.softmax(-1) * target).sum(-1),
        "scalar": lambda: (next_policy * target).sum().expand(len(w.batch)),
    }
    return rules[kind]()


AWAC_BOOTSTRAPS = {
    "max": "the maximum over next actions instead of the expectation under the actor",
    "double": "double Q's choice of the next action instead of the expectation under the actor",
    "online max": "the online network's maximum instead of the expectation under the actor",
    "mean": "all next actions weighted equally instead of by the actor",
    "sum": "the plain sum over next actions instead of the expectation under the actor",
    "averaged": "a mean over actions of pi Q instead of the sum",
    "averaged online": "a mean over actions of pi Q (online) instead of the sum",
    "current": "wrong state: the actor at s instead of s'",
    "current online": "wrong state: the actor at s instead of s', on the online network",
    "mode": "the actor's likeliest action instead of the expectation",
    "mode online": "the actor's likeliest action instead of the expectation, on the online network",
    "logits": "the actor's logits in place of its probabilities",
    "log": "the actor's log-probabilities in place of its probabilities",
    "softmax": "a softmax of the actor's probabilities, applied a second time",
    "taken": "the value of the data's action at the next state",
    "scalar": "wrong axis: the expectation summed over the whole batch",
}


def iql_bootstrap(w: World, kind: str) -> torch.Tensor:
    """Return the value of the next state under IQL's rule or another, `(batch,)`."""
    rules = _q_learning(w) | {
        "": lambda: w.next("value/target"),
        "online": lambda: w.next("value/online"),
        "actor": lambda: (w.policy(next_state=True) * w.next("critic/target")).sum(-1),
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
    *,
    bootstrap_rule: Callable[[World, str], torch.Tensor],
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
    rewards = {
        "": w.rewards,
        "none": 0 * w.rewards,
        "negated": -w.rewards,
        "clipped": w.rewards.clamp(-1, 1),
    }[reward]
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


TD_MISTAKES: Choices = {
    "bootstrap": {},
    "mask": {
        "missing": "(1 - d) is missing: terminated states are given a future",
        "inverted": "d in place of (1 - d): only terminated states are given a future",
        "whole": "(1 - d) misplaced: it also wipes out the reward",
        "reward": "(1 - d) misplaced: it multiplies the reward and not the future",
        "discount": "(1 - d) misplaced: it multiplies the discount and not the next value",
        "never": "the target contains no next value",
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
        "clipped": "the reward is clipped to [-1, 1]",
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


DQN = Formula(
    partial(td_loss, bootstrap_rule=dqn_bootstrap),
    HALF,
    TD_MISTAKES | {"bootstrap": DQN_BOOTSTRAPS},
)
AWAC_CRITIC = Formula(
    partial(td_loss, bootstrap_rule=awac_bootstrap),
    HALF | {"bootstrap": {"online": "the online critic values the next state"}},
    TD_MISTAKES | {"bootstrap": AWAC_BOOTSTRAPS},
)
IQL_CRITIC = Formula(
    partial(td_loss, bootstrap_rule=iql_bootstrap),
    HALF | {"bootstrap": {"online": "the online V values the next state"}},
    TD_MISTAKES | {"bootstrap": IQL_BOOTSTRAPS},
)
