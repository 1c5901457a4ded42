"""The inputs of a check, drawn anew each time, and the derivatives that follow from the outputs.

Every network is linear in F fixed random features, f(s) = W phi(s) + b. A loss over a batch then
has the weight gradient  dL/dW = sum_i delta_i phi(s_i)^T  with  delta_i = dL/df(s_i);  with more
features than states, this can be solved for every delta_i. Formulas are compared on these.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from cs285.grading.sandbox.probe import LEARNING_RATE, NUM_ACTIONS, RND_SIZE

NUM_FEATURES = 64

OUTPUTS = {"critic": NUM_ACTIONS, "actor": NUM_ACTIONS, "value": 1, "rnd": RND_SIZE}
_SCALES = {"critic": 0.25, "actor": 0.2, "value": 0.25, "rnd": 0.3}
COPIES = {"critic": 4, "actor": 2, "value": 2, "rnd": 2}
"""Number of networks of each role for which weights are drawn: more than any solution makes."""

Weights = dict[str, list[tuple[np.ndarray, np.ndarray]]]
Array = np.ndarray


@dataclass(frozen=True)
class Transitions:
    """A batch with terminated transitions and an odd number of rows."""

    observations: Array
    actions: Array
    rewards: Array
    next_observations: Array
    dones: Array

    @property
    def states(self) -> Array:
        """Observations above next observations, `(2 batch, 2)`."""
        return np.concatenate([self.observations, self.next_observations])

    def __len__(self) -> int:
        return len(self.actions)


class Inputs:
    """Draws the features, the weights and the batches of one check.

    Args:
        rng: Source of everything.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.frequencies = rng.normal(0.0, 12.0, (2, NUM_FEATURES)).astype(np.float32)
        self.phases = rng.uniform(0.0, 2 * math.pi, NUM_FEATURES).astype(np.float32)

    def features(self, states: Array) -> Array:
        """Return phi with a one for the bias, `(states, features + 1)`."""
        angles = states.astype(np.float64) @ self.frequencies + self.phases
        return np.concatenate([np.cos(angles), np.ones((len(states), 1))], axis=1)

    def draw_batch(self, size: int = 7) -> Transitions:
        """Draw a batch whose states are well separated by the features; a third is terminated."""
        rng = self.rng
        while True:
            states = rng.random((2 * size, 2)).astype(np.float32)
            if np.linalg.cond(self.features(states)) < 30:  # noqa: PLR2004 - keeps five digits
                break
        dones = rng.permutation(np.arange(size) < size // 3)
        # Every action at least once, if there are enough rows.
        actions = rng.permutation(np.arange(size) % NUM_ACTIONS).astype(np.int64)
        rewards = rng.uniform(-1.5, 0.5, size).astype(np.float32)
        return Transitions(states[:size], actions, rewards, states[size:], dones)

    def draw_weights(self) -> Weights:
        """Draw weights for every role; no two networks are equal."""
        weights: Weights = {}
        for kind, outputs in OUTPUTS.items():
            for role in ("online", "target"):
                scale = _SCALES[kind]
                weights[f"{kind}/{role}"] = [
                    (
                        self.rng.normal(0.0, scale, (outputs, NUM_FEATURES)).astype(np.float32),
                        self.rng.normal(0.0, scale, outputs).astype(np.float32),
                    )
                    for _ in range(COPIES[kind])
                ]
        return weights


def encode(value: Array) -> dict[str, Any]:
    """Convert an array to JSON for the child."""
    array = np.ascontiguousarray(value)
    data = base64.b64encode(array.tobytes()).decode()
    return {"dtype": str(array.dtype), "shape": array.shape, "data": data}


def decode(value: Any) -> Any:
    """Convert what the child sent to arrays, dicts and lists; None for anything without numbers.

    Raises:
        ValueError: If a child does not send such data.
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
        ValueError: If a child does not send such data.
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
    """The outputs of every network on one batch, as leaves to differentiate by, and the scalars."""

    batch: Transitions
    leaves: dict[str, torch.Tensor]
    """`kind/role` to outputs `(2 batch, outputs)`: states first, next states below."""
    scalars: Mapping[str, Any] = field(default_factory=dict)
    at_next: str = "next"
    """Which states `next` reads: `next`, or `same` for the mistake of taking the state itself."""
    parts: dict[Any, Any] = field(default_factory=dict, init=False)
    """Parts of formulas, of which a search needs few but each often."""

    def __post_init__(self) -> None:
        self.actions = torch.tensor(self.batch.actions)
        self.rewards = torch.tensor(self.batch.rewards, dtype=torch.float64)
        self.dones = torch.tensor(self.batch.dones, dtype=torch.float64)

    def part(self, key: Any, make: Callable[[], Any]) -> Any:
        """Return a part of a formula, made once; its graph must outlive a backward pass."""
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
        weight, bias = members[min(index, len(members) - 1)]
        outputs = phi @ np.concatenate([weight, bias[:, None]], axis=1).astype(np.float64).T
        leaves[role] = torch.tensor(outputs, requires_grad=True)
    return World(batch, leaves, scalars)


def derivatives(
    inputs: Inputs, batch: Transitions, gradient: tuple[Array, Array]
) -> tuple[Array, float]:
    """Solve a weight gradient for the derivative by every output, `(2 batch, outputs)`.

    Returns:
        The derivatives, and the fraction of the gradient that no loss on this batch can have.
    """
    phi = inputs.features(batch.states)
    weight, bias = gradient
    stacked = np.concatenate([weight, bias[:, None]], axis=1).astype(np.float64)
    solution, *_ = np.linalg.lstsq(phi.T, stacked.T, rcond=None)
    size = float(np.linalg.norm(stacked))
    rest = float(np.linalg.norm(phi.T @ solution - stacked.T))
    return solution, rest / size if size > 0 else 0.0


def close(found: Any, expected: Any, tolerance: float = 1e-3) -> bool:
    """Return whether two arrays agree up to float32 rounding, relative to the largest number."""
    a, b = np.asarray(found, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    if a.shape != b.shape or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return False
    scale = max(float(np.abs(b).max(initial=0.0)), 1e-3)
    return bool(np.abs(a - b).max(initial=0.0) <= tolerance * scale)


def shown(values: Any, count: int = 4) -> str:
    """Return the first few numbers of an array as text."""
    flat = np.asarray(values, dtype=np.float64).ravel()
    text = ", ".join(f"{number:.4g}" for number in flat[:count])
    return f"[{text}{', ...' if flat.size > count else ''}]" if flat.size != 1 else text


def step_between(before: Sequence[Array], after: Sequence[Array]) -> tuple[Array, Array]:
    """Return the gradient that a step of plain gradient descent has followed."""
    weight, bias = (
        (np.asarray(b, np.float64) - np.asarray(a, np.float64)) / LEARNING_RATE
        for b, a in zip(before, after, strict=True)
    )
    return weight, bias
