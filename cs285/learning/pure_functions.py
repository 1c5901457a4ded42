"""The update and the policy of one run, as pure functions of its state.

The state of a run holds everything that training changes or reads, by name: the agent's parameters
and buffers, and the moments of its optimisers. A pure function changes nothing and returns the new
values. So a backend can vectorise it over many runs, trace it and compile it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.func import functional_call, grad_and_value

from cs285.learning.objective import Objective, PolyakAverage, Tensors


class Method(nn.Module):
    """An agent's function as a module whose parameters can be swapped."""

    def __init__(self, agent: nn.Module, function: Callable[..., Any]) -> None:
        super().__init__()
        self.agent = agent
        self.function = function

    def forward(self, *inputs: Any) -> Any:
        """Call the function after `functional_call` has swapped the agent's parameters."""
        return self.function(*inputs)

    def on(self, state: Tensors, *inputs: Any) -> Any:
        """Call the function as if the agent held `state`."""
        return functional_call(self, {f"agent.{key}": state[key] for key in state}, inputs)


class ObjectiveStep:
    """One objective of an agent as a step on a run's state, which includes Adam's moments."""

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
        """Return the name of the running mean of a leaf's gradient."""
        return f"{self.objective.loss_tag}/mean/{leaf}"

    def mean_square_of(self, leaf: str) -> str:
        """Return the name of the running mean of a leaf's squared gradient."""
        return f"{self.objective.loss_tag}/mean_square/{leaf}"

    def memory(self, state: Tensors, rates: Sequence[float]) -> Tensors:
        """Return the state of Adam for S runs before their first step."""
        some = state[self.leaves[0]]
        zeros = {name: torch.zeros_like(state[name]) for name in self.leaves}
        return {
            self.rate: some.new_tensor(rates),
            self.updates: some.new_zeros(len(rates)),
            **{self.mean_of(name): zeros[name].clone() for name in self.leaves},
            **{self.mean_square_of(name): zeros[name] for name in self.leaves},
        }

    def minimise(
        self, state: Tensors, held: Sequence[str], batch: Tensors
    ) -> tuple[Tensors, Tensors]:
        """Take a gradient step of one run; see `Objective.minimise`.

        Args:
            state: The run's state.
            held: Names of the agent's tensors in the state.
            batch: The run's batch, by column.

        Returns:
            The changed parts of the state, and metrics.
        """
        objective = self.objective
        inputs = [batch[name] for name in objective.inputs]

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

        PyTorch's own optimiser loops over parameters in Python; written out here, the step becomes
        part of the traced update.
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


class PureUpdate:
    """One update of one run: from its state and a batch to the changes of the state, and metrics.

    Args:
        steps: The objectives to minimise, in order, each on the result of those before it.
        averages: The target networks that are averaged afterwards.
        held: Names of the agent's tensors in the state.
        parameters: Names of its parameters; buffers are not averaged.
    """

    def __init__(
        self,
        steps: Sequence[ObjectiveStep],
        averages: Sequence[PolyakAverage],
        held: Sequence[str],
        parameters: Sequence[str],
    ) -> None:
        self.steps = steps
        self.held = held
        self.averages = [
            (average, pair)
            for average in averages
            for pair in pair_names(average.source, average.target, parameters)
        ]
        self.columns = list(dict.fromkeys(name for x in steps for name in x.objective.inputs))
        """Columns of the batch that it reads."""

    def __bool__(self) -> bool:
        """Return whether the update changes anything."""
        return bool(self.steps or self.averages)

    def __call__(self, state: Tensors, batch: Tensors) -> tuple[Tensors, Tensors]:
        """Return the changed parts of a run's state, and metrics."""
        changes: Tensors = {}
        metrics: Tensors = {}
        for step in self.steps:
            changed, logged = step.minimise(state | changes, self.held, batch)
            changes |= changed
            metrics |= logged
        for average, (source, target) in self.averages:
            now = state | changes
            changes[target] = average.average(now[target], now[source])
        return changes, metrics


class PurePolicy:
    """Action probabilities of one run: from its state, observations and epsilon."""

    def __init__(self, agent: Any, held: Sequence[str]) -> None:
        self.method = Method(agent, agent.action_probabilities)
        self.held = held
        """Names of the agent's tensors in the state."""
        self.num_actions: int = agent.num_actions

    def __call__(
        self, state: Tensors, observations: torch.Tensor, epsilon: torch.Tensor
    ) -> torch.Tensor:
        """Return pi(. | s) `(n, num_actions)` at observations `(n, ...)`."""
        probabilities: torch.Tensor = self.method.on(state, observations, epsilon)
        return probabilities


def pair_names(source: str, target: str, held: Sequence[str]) -> list[tuple[str, str]]:
    """Pair the names of a network's tensors with those of its target network."""
    return [
        (name, target + name.removeprefix(source)) for name in held if name.startswith(f"{source}.")
    ]


def is_scheduled(objective: Objective) -> bool:
    """Return whether the learning rate will ever change."""
    scheduler = objective.lr_scheduler
    is_constant = (
        isinstance(scheduler, torch.optim.lr_scheduler.ConstantLR) and scheduler.factor == 1
    )
    return scheduler is not None and not is_constant


def schedule_period(objective: Objective) -> int:
    """Return a number of updates such that the learning rate changes only at its multiples."""
    scheduler = objective.lr_scheduler
    steps = scheduler.step_size if isinstance(scheduler, torch.optim.lr_scheduler.StepLR) else 1
    return steps * objective.period
