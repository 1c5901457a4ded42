"""Floating-point operations of the matrix products that one update needs.

A product of `(batch, i)` and `(i, o)` counts `2 * batch * i * o`. A backward pass needs a product
of that size for the weights of each layer, and one for the input of each layer but the first.
Equal products count once: IQL's advantage reuses Q of its value loss, and RND's bonus the errors of
its loss. Biases, activations and Adam are not counted.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

OBSERVATIONS, ACTIONS = 2, 5


@dataclass(frozen=True)
class Network:
    """A multi-layer perceptron at one batch size."""

    batch: int
    inputs: int
    width: int
    layers: int
    outputs: int

    @property
    def forward(self) -> int:
        """Operations of one pass."""
        return sum(self._products())

    @property
    def backward(self) -> int:
        """Operations of all weight gradients, given the gradient of the output."""
        first, *others = self._products()
        return first + 2 * sum(others)

    def _products(self) -> list[int]:
        sizes = [self.inputs, *[self.width] * self.layers, self.outputs]
        return [2 * self.batch * i * o for i, o in itertools.pairwise(sizes)]


def update_flops(settings: Mapping[str, Any], *, caches_targets: bool = False) -> int:
    """Count the operations of one update of one run.

    Args:
        settings: The resolved config, as plain values.
        caches_targets: Leave out RND's fixed target network, whose outputs can be cached.
    """

    def network(prefix: str, outputs: int) -> Network:
        width, layers = settings[f"{prefix}hidden_size"], settings[f"{prefix}num_layers"]
        return Network(settings["batch_size"], OBSERVATIONS, width, layers, outputs)

    critic = network("", ACTIONS)
    learning = critic.forward + critic.backward
    match settings["base_config"]:
        case "dqn" | "cql":
            return learning + critic.forward * (2 if settings["use_double_q"] else 1)
        case "rnd":
            predictor = network("rnd_", settings["rnd_dim"])
            targets = 0 if caches_targets else predictor.forward
            dqn = update_flops({**settings, "base_config": "dqn"})
            return dqn + predictor.forward + predictor.backward + targets
        case "awac":
            # Target critic and actor at s'; Q at s again after the critic's step.
            actor = network("actor_", ACTIONS)
            return learning + 2 * critic.forward + 2 * actor.forward + actor.backward
        case "iql":
            # Target V at s'; Q at s after its step; V at s before and after its own.
            actor, value = network("actor_", ACTIONS), network("", 1)
            values = 3 * value.forward + value.backward
            return learning + critic.forward + values + actor.forward + actor.backward
    raise ValueError(f"no update of {settings['base_config']!r} to count")
