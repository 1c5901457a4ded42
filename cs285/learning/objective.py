"""What an agent trains: an ordered tuple of objectives, each a loss and the network it moves.

An agent states its losses once, as pure functions of a batch of one run. Its own `update` minimises
them one after the other; the ensemble minimises the same ones for many runs at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

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
        metrics = {self.loss_tag: loss, self.grad_norm_tag: norm, **metrics}
        return {tag: torch.as_tensor(value).detach() for tag, value in metrics.items()}


def hyperparameter(value: float) -> torch.Tensor:
    """Wrap a scalar for `register_buffer`, so that stacked runs may each have their own."""
    return torch.tensor(value, dtype=torch.float32)
