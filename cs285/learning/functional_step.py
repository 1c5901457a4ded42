"""One objective of an agent as a pure function: from a run's state and a batch to what changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.func import functional_call, grad_and_value

from cs285.learning.objective import Batch, Objective, Tensors


class Method(nn.Module):
    """A function that belongs to an agent, as a module whose parameters can be swapped."""

    def __init__(self, agent: nn.Module, function: Callable[..., Any]) -> None:
        super().__init__()
        self.agent = agent
        self.function = function

    def forward(self, *inputs: Any) -> Any:
        """Call the function as it is; `functional_call` has swapped the agent's parameters."""
        return self.function(*inputs)

    def on(self, state: Tensors, *inputs: Any) -> Any:
        """Call the function as if the agent held `state`."""
        return functional_call(self, {f"agent.{key}": state[key] for key in state}, inputs)


class Trainee:
    """One objective of an agent as a step on a run's state, Adam's memory included."""

    def __init__(self, agent: nn.Module, objective: Objective) -> None:
        self.objective = objective
        self.method = Method(agent, objective.loss)
        trained = {id(parameter) for parameter in objective.network.parameters()}
        self.leaves = [name for name, p in agent.named_parameters() if id(p) in trained]
        self.rate, self.updates = (f"{objective.loss_tag}/{x}" for x in ("rate", "updates"))
        settings = objective.optimizer.param_groups[0]
        self.beta1, self.beta2 = settings["betas"]
        self.eps = settings["eps"]

    def mean_of(self, leaf: str) -> str:
        """Name the running mean of a leaf's gradient."""
        return f"{self.objective.loss_tag}/mean/{leaf}"

    def mean_square_of(self, leaf: str) -> str:
        """Name the running mean of its square."""
        return f"{self.objective.loss_tag}/mean_square/{leaf}"

    def memory(self, state: Tensors, rates: Sequence[float]) -> Tensors:
        """Return Adam's memory of S runs before their first step."""
        some = state[self.leaves[0]]
        zeros = {name: torch.zeros_like(state[name]) for name in self.leaves}
        return {
            self.rate: some.new_tensor(rates),
            self.updates: some.new_zeros(len(rates)),
            **{self.mean_of(name): zeros[name].clone() for name in self.leaves},
            **{self.mean_square_of(name): zeros[name] for name in self.leaves},
        }

    def minimise(
        self, state: Tensors, held: Sequence[str], batch: Batch
    ) -> tuple[Tensors, Tensors]:
        """Take a gradient step of one run; see `Objective.minimise`.

        Args:
            state: The run's.
            held: Names in it that belong to the agent.
            batch: The run's.

        Returns:
            What changes in the state, and metrics.
        """
        objective = self.objective
        inputs = [getattr(batch, name) for name in objective.inputs]

        def loss(leaves: Tensors, others: Tensors) -> Any:
            value, metrics, *_ = self.method.on(others | leaves, *inputs)
            return value, metrics

        leaves = {name: state[name] for name in self.leaves}
        gradient = grad_and_value(loss, has_aux=True)
        gradients, (value, metrics) = gradient(leaves, {name: state[name] for name in held})
        norm = sum(g.square().sum() for g in gradients.values()).sqrt()
        if objective.clip_grad_norm is not None:
            scale = (objective.clip_grad_norm / (norm + 1e-6)).clamp(max=1.0)
            gradients = {name: g * scale for name, g in gradients.items()}
        metrics = {objective.loss_tag: value, objective.grad_norm_tag: norm, **metrics}
        return self._adam(state, gradients), metrics

    def _adam(self, state: Tensors, gradients: Tensors) -> Tensors:
        """Return what Adam's step changes (Kingma and Ba 2015, algorithm 1).

        PyTorch's own optimiser works on whole parameter lists in Python; written out, the step
        becomes part of the traced update.
        """
        updates = state[self.updates] + 1
        changes = {self.updates: updates}
        rate = state[self.rate] / (1 - self.beta1**updates)
        correction = 1 / (1 - self.beta2**updates)
        for name, g in gradients.items():
            mean, mean_square = state[self.mean_of(name)], state[self.mean_square_of(name)]
            mean = mean + (1 - self.beta1) * (g - mean)
            mean_square = self.beta2 * mean_square + (1 - self.beta2) * g * g
            changes[self.mean_of(name)] = mean
            changes[self.mean_square_of(name)] = mean_square
            step = rate * mean / ((mean_square * correction).sqrt() + self.eps)
            changes[name] = state[name] - step
        return changes


def is_scheduled(objective: Objective) -> bool:
    """Tell whether the learning rate will ever change."""
    scheduler = objective.lr_scheduler
    is_constant = (
        isinstance(scheduler, torch.optim.lr_scheduler.ConstantLR) and scheduler.factor == 1
    )
    return scheduler is not None and not is_constant
