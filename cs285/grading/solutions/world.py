"""The networks' outputs on the inputs of `cs285.probing`, from which formulas are computed."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from cs285.probing.inputs import (
    NUM_FEATURES,
    OUTPUTS,
    Array,
    Inputs,
    Transitions,
    Weights,
    network_outputs,
)


def encode(value: Array) -> dict[str, Any]:
    """Convert an array to JSON for the child process."""
    array = np.ascontiguousarray(value)
    data = base64.b64encode(array.tobytes()).decode()
    return {"dtype": str(array.dtype), "shape": array.shape, "data": data}


def decode(value: Any) -> Any:
    """Convert the child's data to arrays, dicts and lists; None for anything without numbers.

    Raises:
        ValueError: If the data do not have the form that a child sends.
    """
    try:
        if value["kind"] == "array":
            shape = tuple(int(n) for n in value["shape"])
            return np.frombuffer(base64.b64decode(value["data"])).reshape(shape).copy()
        if value["kind"] == "dict":
            return {str(key): decode(item) for key, item in value["items"].items()}
        if value["kind"] == "list":
            return [decode(item) for item in value["items"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("not what a child sends") from error
    return None


def decode_weights(value: Any) -> Weights:
    """Convert the networks that the child sent to arrays.

    Raises:
        ValueError: If the data do not have the form that a child sends.
    """
    weights: Weights = {}
    for role, members in dict(value).items():
        outputs = OUTPUTS.get(str(role).split("/")[0], 0)
        weights[role] = []
        for weight, bias in members:
            w, b = decode(weight), decode(bias)
            if w is None or b is None:  # no gradient
                w, b = np.zeros((outputs, NUM_FEATURES)), np.zeros(outputs)
            if w.shape != (outputs, NUM_FEATURES) or b.shape != (outputs,):
                raise ValueError("not what a child sends")
            weights[role].append((w, b))
    return weights


@dataclass
class World:
    """The outputs of every network on one batch, as leaves of the graph, and the scalars."""

    batch: Transitions
    leaves: dict[str, torch.Tensor]
    """Outputs `(2 batch, outputs)` by `kind/role`: states first, then next states."""
    scalars: Mapping[str, Any] = field(default_factory=dict)
    at_next: str = "next"
    """Which states `next` reads: `next`, or `same` for the mistake of using s in place of s'."""
    parts: dict[Any, Any] = field(default_factory=dict, init=False)
    """Cached parts of formulas: a search needs only a few, but needs each often."""

    def __post_init__(self) -> None:
        self.actions = torch.tensor(self.batch.actions)
        self.rewards = torch.tensor(self.batch.rewards, dtype=torch.float64)
        self.dones = torch.tensor(self.batch.dones, dtype=torch.float64)

    def part(self, key: Any, make: Callable[[], Any]) -> Any:
        """Return a part of a formula, computed once; its graph must outlive a backward pass."""
        if key not in self.parts:
            self.parts[key] = make()
        return self.parts[key]

    def now(self, role: str) -> torch.Tensor:
        """Return the outputs at the states, `(batch, outputs)` or `(batch,)` for values."""
        values = self.leaves[role][: len(self.batch)]
        return values[:, 0] if role.startswith("value") else values

    def next(self, role: str) -> torch.Tensor:
        """Return the outputs at the next states."""
        if self.at_next == "same":
            return self.now(role)
        values = self.leaves[role][len(self.batch) :]
        return values[:, 0] if role.startswith("value") else values

    def policy(self, *, next_state: bool = False) -> torch.Tensor:
        """Return pi(. | s) or pi(. | s')."""
        logits = self.next("actor/online") if next_state else self.now("actor/online")
        return logits.softmax(-1)

    def taken(self, values: torch.Tensor) -> torch.Tensor:
        """Return the value of the action that the data took, `(batch,)`."""
        return values.gather(1, self.actions[:, None])[:, 0]


def make_world(
    inputs: Inputs, weights: Weights, batch: Transitions, scalars: Mapping[str, Any], index: int = 0
) -> World:
    """Evaluate the networks with these weights, the `index`-th of each role, on a batch."""
    phi = inputs.features(batch.states)
    leaves = {}
    for role, members in weights.items():
        if not members:
            continue
        outputs = network_outputs(phi, members[min(index, len(members) - 1)])
        leaves[role] = torch.tensor(outputs, requires_grad=True)
    return World(batch, leaves, scalars)


def shown(values: Any, count: int = 4) -> str:
    """Return the first few numbers of an array as text."""
    flat = np.asarray(values, dtype=np.float64).ravel()
    text = ", ".join(f"{number:.4g}" for number in flat[:count])
    return f"[{text}{', ...' if flat.size > count else ''}]" if flat.size != 1 else text
