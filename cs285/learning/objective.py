"""What an agent trains: objectives, each a loss and the network it trains, and target networks.

An agent states its losses once, as pure functions of a batch of one run. Its `update` minimises
them one after the other; an ensemble minimises the same losses for many runs at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import torch
from torch import nn

Tensors = dict[str, torch.Tensor]
Metrics = Tensors
MakeOptimizer = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
MakeSchedule = Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler]


class Batch(NamedTuple):
    """Transitions, one per row."""

    observations: torch.Tensor
    """`(batch, *observation_shape)` float32."""
    actions: torch.Tensor
    """`(batch,)` int64."""
    rewards: torch.Tensor
    """`(batch,)` float32."""
    next_observations: torch.Tensor
    """`(batch, *observation_shape)` float32."""
    dones: torch.Tensor
    """`(batch,)` bool: the episode terminated here. A time limit is not a termination."""


@dataclass(frozen=True, kw_only=True)
class TrainingStep:
    """A method of an agent that trains one of its networks on some columns of a batch."""

    method: str = ""
    """Name of the agent's method that takes the step and returns a loss or metrics."""
    loss_tag: str
    """The tag of the loss in logs, which no other objective of the agent has."""
    inputs: tuple[str, ...]
    """Columns of the batch that the method takes, in order: fields of `Batch` or derived ones."""
    period: int = 1
    """The step is taken in every update whose number is a multiple of this."""

    def is_due(self, step: int) -> bool:
        """Return whether update number `step` includes this step."""
        return step % self.period == 0

    def variant(self, method: str, loss: Callable[..., Any]) -> Self:
        """Return this step with another method and another loss."""
        del loss  # only the method knows it
        return replace(self, method=method)

    def take(self, agent: Any, batch: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        """Call the agent's method on its columns of a batch and return what to log."""
        logged = getattr(agent, self.method)(*(batch[name] for name in self.inputs))
        return dict(logged) if isinstance(logged, Mapping) else {self.loss_tag: logged}


@dataclass(frozen=True, kw_only=True)
class Objective(TrainingStep):
    """One loss, the network that is trained on it, and how.

    `method` may be empty if the agent has no method for this step alone.
    """

    grad_norm_tag: str
    """The tag of the gradient norm before clipping."""
    loss: Callable[..., Any]
    """Returns `(loss, metrics, ...)`: a scalar to minimise and scalar tensors to log."""
    network: nn.Module
    optimizer: torch.optim.Optimizer
    lr_scheduler: torch.optim.lr_scheduler.LRScheduler | None = None
    clip_grad_norm: float | None = None

    def variant(self, method: str, loss: Callable[..., Any]) -> Self:
        """Return this objective with another method and another loss."""
        return replace(self, method=method, loss=loss)

    def take(self, agent: Any, batch: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        """Take one gradient step, by the agent's method if there is one."""
        if self.method:
            return super().take(agent, batch)
        return self.minimise(*(batch[name] for name in self.inputs))

    def minimise(self, *inputs: torch.Tensor) -> Metrics:
        """Take one gradient step on the loss of `inputs` and return what to log."""
        loss, metrics, *_ = self.loss(*inputs)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        # With an infinite bound the norm is measured but nothing is clipped.
        bound = float("inf") if self.clip_grad_norm is None else self.clip_grad_norm
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), bound)
        self.optimizer.step()
        if self.lr_scheduler is not None:
            self.lr_scheduler.step()
        metrics = {self.loss_tag: loss, self.grad_norm_tag: norm, **metrics}
        return {tag: torch.as_tensor(value).detach() for tag, value in metrics.items()}


@dataclass(frozen=True)
class HardCopy:
    """A target network that is periodically replaced by a copy of its source."""

    source: str
    """Name of a network in the agent, such as `critic`."""
    target: str
    """Name of its target network."""
    period: int
    """The copy is made after every update whose number is a multiple of this."""
    method: str = ""
    """Name of the agent's method that makes the copy, if it has one."""

    def is_due(self, step: int) -> bool:
        """Return whether the copy is made after update number `step`."""
        return step % self.period == 0

    def apply(self, agent: Any) -> None:
        """Make the copy, by the agent's method if there is one."""
        if self.method:
            getattr(agent, self.method)()
        else:
            source = agent.get_submodule(self.source)
            agent.get_submodule(self.target).load_state_dict(source.state_dict())


@dataclass(frozen=True)
class PolyakAverage:
    """A target network that moves towards its source after every update (Lillicrap 2016).

    `target <- (1 - rate) * target + rate * source`, parameter by parameter.
    """

    source: str
    """Name of a network in the agent, such as `critic`."""
    target: str
    """Name of its target network."""
    rate: float
    """In (0, 1]."""

    def average(self, target: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
        """Return the new value of a parameter of the target."""
        return (1 - self.rate) * target + self.rate * source

    @torch.no_grad()
    def apply(self, agent: Any) -> None:
        """Move every parameter of the target."""
        networks = (agent.get_submodule(name) for name in (self.target, self.source))
        for target, source in zip(*(n.parameters() for n in networks), strict=True):
            target.copy_(self.average(target, source))


TargetRule = HardCopy | PolyakAverage


def split_rules(rules: Iterable[TargetRule]) -> tuple[list[PolyakAverage], list[HardCopy]]:
    """Return the averages and the copies among rules, which are applied in this order."""
    rules = list(rules)
    averages = [rule for rule in rules if isinstance(rule, PolyakAverage)]
    return averages, [rule for rule in rules if isinstance(rule, HardCopy)]


def hyperparameter(value: float) -> torch.Tensor:
    """Wrap a scalar for `register_buffer`, so that each stacked run may have its own value."""
    return torch.tensor(value, dtype=torch.float32)
