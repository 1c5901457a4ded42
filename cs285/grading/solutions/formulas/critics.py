"""Temporal-difference losses: DQN, AWAC and IQL."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import torch
from torch.nn import functional

from cs285.grading.solutions.formulas.formula import HALF, ROWS, Choices, Formula, Rules
from cs285.grading.solutions.formulas.targets import explain_targets
from cs285.grading.solutions.world import World

# Values of the next state


def dqn_value(w: World) -> torch.Tensor:
    """Return DQN's value of the next state, double or not, `(batch,)`."""
    return _gather(w.next("critic/target"), _chooser(w).argmax(-1))


def _chooser(w: World) -> torch.Tensor:
    return w.next("critic/online" if w.scalars["use_double_q"] else "critic/target")


def _gather(values: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
    """Return the values `(batch,)` of one action per row."""
    return values.gather(1, actions[:, None])[:, 0]


def _on_both(make: Callable[[str], Rules]) -> Rules:
    """Return the rules for the target network, and for the online one as `... online`."""
    online = {f"{kind} online".strip(): rule for kind, rule in make("online").items()}
    return make("target") | online


def _texts_for_both(texts: Mapping[str, str]) -> dict[str, str]:
    """Return the texts of such rules for both networks."""
    return dict(texts) | {
        f"{kind} online": f"{text}, by the online network" for kind, text in texts.items()
    }


def _q_learning(w: World) -> Rules:
    """Return ways to value the next state by the critics alone."""

    def of_network(network: str) -> Rules:
        def values() -> torch.Tensor:
            return w.next(f"critic/{network}")

        return {
            "max": lambda: values().max(-1).values,
            "mean": lambda: values().mean(-1),
            "min": lambda: values().min(-1).values,
            "sum": lambda: values().sum(-1),
            "taken": lambda: w.taken(values()),
            "all": lambda: values().max().expand(len(w.batch)),
            "axis": lambda: values().max(0).values[:, None],
            "soft": lambda: values().logsumexp(-1),
            "softmax": lambda: (values().softmax(-1) * values()).sum(-1),
        }

    return _on_both(of_network) | {
        "double": lambda: _gather(w.next("critic/target"), w.next("critic/online").argmax(-1)),
        "swapped": lambda: _gather(w.next("critic/online"), w.next("critic/target").argmax(-1)),
        "dqn": lambda: dqn_value(w),
        "index": lambda: _chooser(w).argmax(-1).double(),
    }


def dqn_bootstrap(w: World, kind: str) -> torch.Tensor:
    """Return the value of the next state under DQN's rule or another, `(batch,)`."""

    def reversed_chooser() -> torch.Tensor:
        return w.next("critic/target" if w.scalars["use_double_q"] else "critic/online")

    def chosen_now() -> torch.Tensor:
        chooser = w.now("critic/online" if w.scalars["use_double_q"] else "critic/target")
        return _gather(w.next("critic/target"), chooser.argmax(-1))

    def smaller() -> torch.Tensor:
        return torch.minimum(w.next("critic/target"), w.next("critic/online"))

    rules = _q_learning(w) | {
        "": lambda: dqn_value(w),
        "reversed": lambda: _gather(w.next("critic/target"), reversed_chooser().argmax(-1)),
        "chosen now": chosen_now,
        "valued now": lambda: _gather(w.now("critic/target"), _chooser(w).argmax(-1)),
        "clipped": lambda: smaller().max(-1).values,
        "clipped choice": lambda: _gather(smaller(), _chooser(w).argmax(-1)),
        "columns": lambda: w.next("critic/target")[:, _chooser(w).argmax(-1)],
    }
    return rules[kind]()


DQN_BOOTSTRAPS = {
    "max": "the target network chooses its own action although use_double_q is set",
    "double": "the online network chooses the action although use_double_q is not set",
    "reversed": "use_double_q is reversed",
    "max online": "the online network values the next state (the target network is not used)",
    "swapped": "double Q with the two networks swapped: the online one values the target's choice",
    **_texts_for_both(
        {
            "mean": "the mean over next actions instead of the maximum",
            "min": "the minimum over next actions instead of the maximum",
            "sum": "the sum over next actions instead of the maximum",
            "all": "wrong axis: one maximum over the whole batch",
            "axis": "wrong axis: the maximum of each action over the batch",
            "taken": "the value of the data's action at the next state instead of the best "
            "action's",
            "soft": "a logsumexp over next actions instead of the maximum",
            "softmax": "an expectation under softmax(Q) instead of the maximum",
        }
    ),
    "index": "the index of the best next action in place of its value",
    "chosen now": "wrong state: the next action is chosen by the values at s instead of s'",
    "valued now": "wrong state: the action chosen for s' is valued at s instead of s'",
    "clipped": "the smaller of both networks' values in place of the target network's",
    "clipped choice": "the smaller of both networks' values in place of the target network's",
    "columns": "indexing by [:, a'] gives a table (B, B): every next state's Q of every row's "
    "action",
}


def awac_bootstrap(w: World, kind: str) -> torch.Tensor:
    """Return the value of the next state under AWAC's rule or another, `(batch,)`."""

    def following() -> torch.Tensor:
        return w.policy(next_state=True)

    def of_network(network: str) -> Rules:
        def values() -> torch.Tensor:
            return w.next(f"critic/{network}")

        def entropic(weight: float) -> torch.Tensor:
            return (following() * (values() - weight * following().log())).sum(-1)

        return {
            "": lambda: (following() * values()).sum(-1),
            "averaged": lambda: (following() * values()).mean(-1),
            "current": lambda: (w.policy() * values()).sum(-1),
            "valued now": lambda: (following() * w.now(f"critic/{network}")).sum(-1),
            "mode": lambda: _gather(values(), following().argmax(-1)),
            "logits": lambda: (w.next("actor/online") * values()).sum(-1),
            "log": lambda: (following().log() * values()).sum(-1),
            "softmax of the policy": lambda: (following().softmax(-1) * values()).sum(-1),
            "scalar": lambda: (following() * values()).sum().expand(len(w.batch)),
            "entropic": lambda: entropic(float(w.scalars["temperature"])),
            "entropic one": lambda: entropic(1.0),
            "columns": lambda: values()[:, following().argmax(-1)],
        }

    return (_q_learning(w) | _on_both(of_network))[kind]()


AWAC_BOOTSTRAPS = {
    "dqn": "DQN's target, with use_double_q, instead of the expectation under the actor: its "
    "compute_critic_loss is that of DQN",
    "double": "double Q's choice of the next action instead of the expectation under the actor",
    "swapped": "the online network's value of the target network's best action instead of the "
    "expectation under the actor",
    **_texts_for_both(
        {
            "max": "the maximum over next actions instead of the expectation under the actor",
            "mean": "all next actions weighted equally instead of by the actor",
            "sum": "the plain sum over next actions instead of the expectation under the actor",
            "min": "the minimum over next actions instead of the expectation under the actor",
            "soft": "a logsumexp over next actions instead of the expectation under the actor",
            "softmax": "an expectation under softmax(Q) instead of that under the actor",
            "averaged": "a mean over actions of pi Q instead of the sum",
            "current": "wrong state: the actor at s instead of s'",
            "valued now": "wrong state: Q at s instead of s' under the actor at s'",
            "mode": "the actor's likeliest action instead of the expectation",
            "logits": "the actor's logits in place of its probabilities",
            "log": "the actor's log-probabilities in place of its probabilities",
            "softmax of the policy": "a softmax of the actor's probabilities, applied a second "
            "time",
            "taken": "the value of the data's action at the next state",
            "scalar": "wrong axis: the expectation summed over the whole batch",
            "entropic": "the actor's entropy is added to the value of the next state",
            "entropic one": "the actor's entropy is added to the value of the next state",
            "columns": "indexing by [:, a'] gives a table (B, B): every next state's Q of every "
            "row's action",
        }
    ),
}


def iql_bootstrap(w: World, kind: str) -> torch.Tensor:
    """Return the value of the next state under IQL's rule or another, `(batch,)`."""

    def of_network(network: str) -> Rules:
        return {
            "": lambda: w.next(f"value/{network}"),
            "now": lambda: w.now(f"value/{network}"),
            "actor": lambda: (w.policy(next_state=True) * w.next(f"critic/{network}")).sum(-1),
        }

    return (_q_learning(w) | _on_both(of_network))[kind]()


IQL_BOOTSTRAPS = {
    "dqn": "DQN's target, with use_double_q, instead of V(s')",
    "double": "double Q's value instead of V(s')",
    **_texts_for_both(
        {
            "max": "the maximum of the critic instead of V(s')",
            "actor": "AWAC's expectation under the actor instead of V(s')",
            "taken": "the critic's Q(s', a) of the data's action instead of V(s')",
            "mean": "the mean over actions of the critic instead of V(s')",
            "now": "wrong state: V at s instead of s'",
        }
    ),
}

# The loss

_MIXES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "mean": lambda rows: rows.mean().expand(len(rows)),
    "sum": lambda rows: rows.sum().expand(len(rows)),
    "largest": lambda rows: rows.max().expand(len(rows)),
    "roll": lambda rows: rows.roll(1),
    "roll back": lambda rows: rows.roll(-1),
    "flip": lambda rows: rows.flip(0),
    "sort": lambda rows: rows.sort().values,
    "falling": lambda rows: rows.sort(descending=True).values,
    "running": lambda rows: rows.cumsum(0),
    "standardised": lambda rows: (rows - rows.mean()) / rows.std(),
    "standardised biased": lambda rows: (rows - rows.mean()) / rows.std(correction=0),
    "centred": lambda rows: rows - rows.mean(),
}
"""Ways to mix the rows of a batch, which are independent transitions."""
_MIX_TEXTS = {
    "mean": "their mean over the batch",
    "sum": "their sum over the batch",
    "largest": "the largest of the batch",
    "roll": "those of the row before",
    "roll back": "those of the row after",
    "flip": "those of the batch in reversed order",
    "sort": "sorted over the batch",
    "falling": "sorted over the batch",
    "running": "a running sum over the batch",
    "standardised": "standardised over the batch",
    "standardised biased": "standardised over the batch",
    "centred": "minus their mean over the batch",
}
REWARDS_MIXED = {
    how: f"the rewards are mixed over the batch: {_MIX_TEXTS[how]}"
    for how in ("standardised", "standardised biased", "centred", "mean", "running")
}


def mix_rows(how: str, rows: torch.Tensor) -> torch.Tensor:
    """Return rows `(batch,)` mixed in one of the known ways."""
    return _MIXES[how](rows)


_CROSSWISE = {
    "pairs": (True, True, True),
    "cross": (False, False, True),
    "cross rows": (True, True, False),
    "cross reward": (True, False, False),
    "cross done": (False, True, False),
    "cross masked": (False, True, True),
    "cross rows of d": (True, False, True),
}
"""Whether r, d and the next value broadcast against Q(s, a), as `(B, 1)` against `(B,)`."""


def _as_column(values: torch.Tensor, *, across: bool) -> torch.Tensor:
    """Return values as a column, which broadcasts against rows, if `across`; else unchanged."""
    return values[:, None] if across and values.ndim == 1 else values


def _rewards(w: World, kind: str) -> torch.Tensor:
    rules: Rules = {
        "": lambda: w.rewards,
        "none": lambda: 0 * w.rewards,
        "negated": lambda: -w.rewards,
        "clipped": lambda: w.rewards.clamp(-1, 1),
        "sign": w.rewards.sign,
        "whole": w.rewards.trunc,
        "next": lambda: w.rewards.roll(-1),
    }
    return rules[kind]() if kind in rules else _MIXES[kind](w.rewards)


def _predictions(w: World, kind: str) -> torch.Tensor:
    values = w.now("critic/online")
    rules: Rules = {
        "": lambda: w.taken(values),
        "max": lambda: values.max(-1).values,
        "sum": lambda: values.sum(-1),
        "mean": lambda: values.mean(-1),
        "averaged": lambda: w.taken(values) / values.shape[1],
        "next": lambda: w.taken(w.leaves["critic/online"][len(w.batch) :]),
        "chosen": lambda: _gather(values, _chooser(w).argmax(-1)),
        "chosen target": lambda: _gather(values, w.next("critic/target").argmax(-1)),
        "mode": lambda: _gather(values, w.policy().argmax(-1)),
        "actor": lambda: (w.policy() * values).sum(-1),
        "columns": lambda: values[:, w.actions],
        "first row": lambda: values.flatten()[w.actions],
        "masked": lambda: (1 - w.dones) * w.taken(values),
        "discounted": lambda: w.scalars["discount"] * w.taken(values),
    }
    return rules[kind]()


def _targets(
    mask: str, rewards: torch.Tensor, dones: torch.Tensor, factor: float, nexts: torch.Tensor
) -> torch.Tensor:
    """Return r + discount (1 - d) V(s') or a deviation in how d enters it."""
    not_done, future = 1 - dones, factor * nexts
    rules: Rules = {
        "": lambda: rewards + not_done * future,
        "missing": lambda: rewards + future,
        "inverted": lambda: rewards + dones * future,
        "whole": lambda: not_done * (rewards + future),
        "whole inverted": lambda: dones * (rewards + future),
        "reward": lambda: not_done * rewards + future,
        "discount": lambda: rewards + factor * not_done + nexts,
        "never": lambda: rewards + 0 * future,
        "brackets": lambda: rewards + future - dones,
        "complement": lambda: rewards + (-1 - dones) * future,
        "signed": lambda: rewards + (1 - 2 * dones) * future,
        "plus": lambda: rewards + (1 + dones) * future,
    }
    return rules[mask]()


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
    mix: tuple[str, str] = ("", ""),
    error: str = "",
    reduction: str = "mean",
    scale: float = 1.0,
    values: str = "",
    detach: bool = True,
) -> torch.Tensor:
    """Return mean (Q(s, a) - r - discount (1 - d) V(s'))^2 or a deviation from it."""
    nexts = w.part(
        ("next", bootstrap, state),
        lambda: bootstrap_rule(w if state == "next" else replace(w, at_next=state), bootstrap),
    )
    nexts = nexts.detach() if detach else nexts
    mixed, how = mix
    if mixed == "next":
        nexts = _MIXES[how](nexts)
    factor = float(w.scalars["discount"])
    factor = {"squared": factor**2, "both": factor, "reward": 1.0, "": factor}.get(
        str(discount), discount if isinstance(discount, float) else factor
    )
    rewards = _rewards(w, reward)
    if discount in {"both", "reward"}:
        rewards = w.scalars["discount"] * rewards
    across = _CROSSWISE.get(shape, (False, False, False))
    targets = _targets(
        mask,
        _as_column(rewards, across=across[0]),
        _as_column(w.dones, across=across[1]),
        factor,
        _as_column(nexts, across=across[2]),
    )
    if mixed == "target":
        targets = _MIXES[how](targets)
    if shape == "actions":
        predictions, targets = w.now("critic/online"), targets[:, None]
    elif shape == "one-hot":
        hot = functional.one_hot(w.actions, w.now("critic/online").shape[1])
        predictions, targets = hot * w.now("critic/online"), targets[:, None]
    else:
        predictions = w.part(("predictions", values), lambda: _predictions(w, values))
    errors = predictions - targets
    kept = (1 - w.dones) if error.startswith("kept") else 1.0
    losses_rules: Rules = {
        "huber": lambda: functional.smooth_l1_loss(errors, 0 * errors, reduction="none"),
        "absolute": errors.abs,
        "signed": lambda: errors,
        "four": lambda: errors.pow(4),
    }
    losses = losses_rules[error]() if error in losses_rules else kept * errors.square()
    total: torch.Tensor = losses.sum() if reduction in {"sum", "rows"} else losses.mean()
    if reduction == "rows":
        total = total / len(w.batch)
    if error == "kept_mean":
        total = losses.sum() / (1 - w.dones).sum()
    elif error == "root":
        total = total.sqrt()
    return scale * total


_PAIRS = "(B, 1) against (B,), which broadcasts to (B, B)"
TD_SHAPES = {
    "pairs": f"{_PAIRS}: Q(s, a) of every row meets the target of every row, so that all learn "
    "from the mean of the targets",
    "cross": f"{_PAIRS}: in the target the next value meets the reward of every row (the next "
    "value has another shape than rewards, dones and Q(s, a))",
    "cross rows": f"{_PAIRS}: in the target the next value meets the reward of every row (the "
    "next value and Q(s, a) have another shape than rewards and dones)",
    "cross reward": f"{_PAIRS}: the reward has another shape than the rest of the target and "
    "meets every row of it",
    "cross done": f"{_PAIRS}: the mask (1 - d) has another shape than the rest of the target and "
    "meets every row of it",
    "cross masked": f"{_PAIRS}: the masked next value has another shape than the reward and "
    "Q(s, a), and meets every row",
    "cross rows of d": f"{_PAIRS}: the mask (1 - d) and Q(s, a) have another shape than the "
    "reward and the next value",
    "actions": "Q of every action is regressed on the target, not that of the action taken",
    "one-hot": "the other actions' Q is set to 0 by a one-hot mask and regressed on the target "
    "too, instead of taking Q(s, a) alone",
}
HUBER: Choices = {
    "error": {"huber": "a Huber loss instead of the squared error, as in the DQN paper"}
}
TD_MISTAKES: Choices = {
    "bootstrap": {},
    "mask": {
        "missing": "(1 - d) is missing: terminated states are given a future",
        "inverted": "d in place of (1 - d): only terminated states are given a future",
        "whole": "(1 - d) misplaced: it also wipes out the reward",
        "whole inverted": "d in place of (1 - d), and it also wipes out the reward",
        "reward": "(1 - d) misplaced: it multiplies the reward and not the future",
        "discount": "(1 - d) misplaced: it multiplies the discount and not the next value",
        "never": "the target contains no next value",
        "brackets": "1 - d lacks its brackets: d itself is subtracted from the target",
        "complement": "~d of a number in place of (1 - d): -1 - d multiplies the next value",
        "signed": "1 - 2 d in place of (1 - d)",
        "plus": "1 + d in place of (1 - d)",
    },
    "shape": TD_SHAPES,
    "discount": {
        1.0: "the discount is missing",
        0.99: "the discount is hard-coded as 0.99",
        0.95: "the discount is hard-coded as 0.95",
        0.9: "the discount is hard-coded as 0.9",
        "both": "the discount also multiplies the reward",
        "reward": "the discount multiplies the reward in place of the next value",
        "squared": "the discount is squared: it multiplies the next value twice",
    },
    "state": {"same": "wrong state: s in place of s' in the target"},
    "reward": {
        "none": "the reward is missing from the target",
        "negated": "the reward has the wrong sign",
        "clipped": "the reward is clipped to [-1, 1]",
        "sign": "the sign of the reward in place of the reward",
        "whole": "the reward is cut to a whole number",
        **REWARDS_MIXED,
    },
    "mix": {
        **{
            ("target", how): "the targets are mixed over the batch: every row learns from "
            + _MIX_TEXTS[how]
            for how in _MIXES
        },
        **{
            ("next", how): f"the next values are mixed over the batch: {_MIX_TEXTS[how]}"
            for how in _MIXES
        },
    },
    "error": {
        "absolute": "the absolute instead of the squared error",
        "signed": "the error is not squared",
        "four": "the error is squared twice",
        "root": "the root of the mean squared error",
        "kept": "(1 - d) multiplies the whole error: Q of terminated rows learns nothing",
        "kept_mean": "terminated rows are left out of the mean: their Q learns nothing",
    },
    "reduction": {"sum": "a sum over the batch instead of its mean"},
    "scale": {-1.0: "flipped sign: the loss is maximised", 2.0: "twice the squared error"},
    "values": {
        "max": "max_a Q(s, a) in place of Q(s, a) of the action taken",
        "sum": "the sum of Q(s, .) in place of Q(s, a) of the action taken",
        "mean": "the mean of Q(s, .) in place of Q(s, a) of the action taken",
        "averaged": "Q(s, a) is divided by the number of actions: a mean over a one-hot mask "
        "instead of a sum",
        "next": "wrong state: Q(s', a) in place of Q(s, a)",
        "chosen": "Q(s, a') of the next action in place of Q(s, a) of the action taken",
        "chosen target": "Q(s, a') of the target network's best next action in place of Q(s, a) of "
        "the action taken",
        "columns": "indexing by [:, a] gives a table (B, B): every state's Q of every row's action",
        "first row": "flat indexing, as by torch.take, reads every Q(s, a) from the first row",
        "masked": "(1 - d) also multiplies Q(s, a) itself",
        "discounted": "the discount multiplies Q(s, a) itself",
    },
    "detach": {False: "the target is not detached: the gradient flows into the next value"},
}
_ACTOR_VALUES = {
    "mode": "Q of the actor's likeliest action in place of Q(s, a) of the action taken",
    "actor": "the expectation of Q under the actor in place of Q(s, a) of the action taken",
}


def _td_formula(
    rule: Callable[[World, str], torch.Tensor],
    bootstraps: dict[str, str],
    *,
    online: str = "",
    has_actor: bool = True,
) -> Formula:
    """Return a temporal-difference formula; `online` names the variant with the online network."""
    values = {**TD_MISTAKES["values"], **(_ACTOR_VALUES if has_actor else {})}
    return Formula(
        partial(td_loss, bootstrap_rule=rule),
        HALF | ROWS | HUBER | ({"bootstrap": {"online": online}} if online else {}),
        TD_MISTAKES | {"bootstrap": bootstraps, "values": values},
        partial(explain_targets, rule=rule, bootstraps=bootstraps, online=online),
        alone=frozenset({"mix"}),
        solved=frozenset({"bootstrap", "mask", "discount", "reward", "state", "scale"}),
    )


DQN = _td_formula(dqn_bootstrap, DQN_BOOTSTRAPS, has_actor=False)
AWAC_CRITIC = _td_formula(
    awac_bootstrap, AWAC_BOOTSTRAPS, online="the online critic values the next state"
)
IQL_CRITIC = _td_formula(iql_bootstrap, IQL_BOOTSTRAPS, online="the online V values the next state")
