"""What an agent trains: an ordered tuple of objectives, each a loss and the network it moves.

An agent states its losses once, as pure functions of a batch of one run. `train_step` below walks
them for one agent; the ensemble walks the same ones for many runs at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import nn

Metrics = dict[str, torch.Tensor]


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


@dataclass(frozen=True)
class Objective:
    """One loss, the network that minimises it, and how."""

    loss_tag: str
    """Under this name the loss is logged."""
    grad_norm_tag: str
    """Under this name the norm of the gradient before clipping is logged."""
    loss: Callable[..., Any]
    """Returns `(loss, metrics, ...)`: a scalar to minimise and scalar tensors to log."""
    inputs: tuple[str, ...]
    """Fields of `Batch` that `loss` takes, in order."""
    network: nn.Module
    optimizer: torch.optim.Optimizer
    lr_scheduler: torch.optim.lr_scheduler.LRScheduler | None = None
    clip_grad_norm: float | None = None

    def minimise(self, *inputs: torch.Tensor) -> Metrics:
        """Take one gradient step on the loss of `inputs` and return what to log."""
        loss, metrics, *_ = self.loss(*inputs)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        # An infinite bound measures the norm and clips nothing.
        bound = float("inf") if self.clip_grad_norm is None else self.clip_grad_norm
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), bound)
        self.optimizer.step()
        if self.lr_scheduler is not None:
            self.lr_scheduler.step()
        return {self.loss_tag: loss.detach(), self.grad_norm_tag: norm, **metrics}


class Learner(Protocol):
    """What `train_step` asks of an agent."""

    target_update_period: int

    def get_buffer(self, target: str) -> torch.Tensor:
        """Look a buffer up by name."""
        ...

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """What it minimises, in order."""
        ...

    @property
    def target_networks(self) -> tuple[tuple[nn.Module, nn.Module], ...]:
        """Networks, each with its lagging copy."""
        ...


def train_step(agent: Learner, batch: Batch, step: int) -> Metrics:
    """Minimise every objective of `agent` once, in order, and refresh its target networks.

    Args:
        agent: States `objectives` and `target_networks`, pairs of (network, its lagging copy).
        batch: Transitions of one run.
        step: Counts calls; target networks are copied when it is a multiple of the agent's period.
    """
    for name, value in running_statistics(agent, batch).items():
        agent.get_buffer(name).copy_(value)
    metrics: Metrics = {}
    for objective in agent.objectives:
        metrics |= objective.minimise(*(getattr(batch, name) for name in objective.inputs))
    if step % agent.target_update_period == 0:
        for network, target in agent.target_networks:
            target.load_state_dict(network.state_dict())
    return metrics


@torch.no_grad()
def running_statistics(agent: Any, batch: Batch) -> dict[str, torch.Tensor]:
    """Compute the new values of the buffers in which `agent` tracks its data.

    Only an agent that normalises by a running statistic has such a method, `track_statistics`.
    """
    track: Callable[[Batch], dict[str, torch.Tensor]] | None
    track = getattr(agent, "track_statistics", None)
    return {} if track is None else track(batch)


def hyperparameter(value: float) -> torch.Tensor:
    """Wrap a scalar for `register_buffer`, so that stacked runs may each have their own."""
    return torch.tensor(value, dtype=torch.float32)
