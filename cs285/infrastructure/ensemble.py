"""Many runs trained as one program.

`Ensemble` stacks S agents that share an algorithm and network shapes, and walks the objectives
that the agent file states under `torch.vmap`: every tensor gets a leading axis of runs, one
operation serves them all. `AgentLoop` offers the same two methods for agents that state no
objectives, such as a file written against the homework's starter, one agent after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn
from torch.func import functional_call, grad_and_value, stack_module_state, vmap

from cs285.infrastructure.objective import Batch, Objective, running_statistics
from cs285.infrastructure import pytorch_util as ptu

Tensors = dict[str, torch.Tensor]


class Learner(Protocol):
    """S runs that act and learn in lock-step."""

    agents: list[Any]

    def act(
        self, observations: np.ndarray, epsilon: np.ndarray, uniforms: np.ndarray
    ) -> np.ndarray:
        """Choose actions `(S, n)` for observations `(S, n, ...)` with epsilon `(S,)`.

        `uniforms (S, n)` in [0, 1) decide what the agents leave to chance.
        """
        ...

    def update(self, batch: Batch, step: int) -> Tensors:
        """Learn from a batch with fields `(S, batch, ...)`; metrics are `(S,)`."""
        ...

    def sync_agents(self) -> None:
        """Write what was learned back into `agents`."""
        ...


def make_learner(agents: Sequence[Any]) -> Learner:
    """Stack the agents where their classes allow it, else loop over them."""
    return Ensemble(agents) if all(map(is_stackable, agents)) else AgentLoop(agents)


def is_stackable(agent: Any) -> bool:
    """Tell whether every class of the agent's own says that it may be stacked.

    Each must say so itself: a student's subclass of a stackable agent may override `update`, which
    an ensemble would never call.
    """
    own = [c for c in type(agent).__mro__ if c not in nn.Module.__mro__]
    return isinstance(agent, nn.Module) and all(vars(c).get("stackable", False) for c in own)


class _Call(nn.Module):
    """A function of a module, as a module, so that `functional_call` can swap its parameters."""

    def __init__(self, agent: nn.Module, function: Any) -> None:
        super().__init__()
        self.agent = agent
        self.function = function

    def forward(self, *inputs: Any) -> Any:
        return self.function(*inputs)


def _call(agent: nn.Module, function: Any, state: Tensors, *inputs: Any) -> Any:
    prefixed = {f"agent.{name}": value for name, value in state.items()}
    return functional_call(_Call(agent, function), prefixed, inputs)


class _StackedObjective:
    """One objective of the template agent, for all runs."""

    def __init__(self, template: nn.Module, objective: Objective, parameters: Tensors) -> None:
        self.objective = objective
        trained = {id(parameter) for parameter in objective.network.parameters()}
        names = [name for name, p in template.named_parameters() if id(p) in trained]
        self.leaves = {name: parameters[name] for name in names}
        settings = dict(objective.optimizer.defaults)
        if isinstance(objective.optimizer, torch.optim.Adam):
            settings |= {"fused": True, "foreach": None}  # plain Adam on a CPU is a Python loop
        self.optimizer = type(objective.optimizer)(self.leaves.values(), **settings)

        def loss(trained: Tensors, state: Tensors, *inputs: torch.Tensor) -> Any:
            value, metrics, *_ = _call(template, objective.loss, state | trained, *inputs)
            return value, metrics

        self.gradients = vmap(grad_and_value(loss, has_aux=True))

    def minimise(self, state: Tensors, batch: Batch) -> Tensors:
        """Take one gradient step per run; see `Objective.minimise`."""
        objective = self.objective
        inputs = [getattr(batch, name) for name in objective.inputs]
        gradients, (loss, metrics) = self.gradients(self.leaves, state, *inputs)
        squares = [gradient.flatten(1).square().sum(1) for gradient in gradients.values()]
        norm = torch.stack(squares).sum(0).sqrt()
        scale = None
        if objective.clip_grad_norm is not None:
            scale = (objective.clip_grad_norm / (norm + 1e-6)).clamp(max=1.0)
        for name, gradient in gradients.items():
            leaf = self.leaves[name]
            if scale is None:
                leaf.grad = gradient
            else:
                leaf.grad = gradient * scale.view(-1, *[1] * (gradient.dim() - 1))
        self.optimizer.step()
        self._follow_schedule()
        return {objective.loss_tag: loss, objective.grad_norm_tag: norm, **metrics}

    def _follow_schedule(self) -> None:
        """Step the template's own schedule and take over its learning rate."""
        if self.objective.lr_scheduler is None:
            return
        self.objective.optimizer._opt_called = True  # type: ignore[attr-defined]  # noqa: SLF001
        self.objective.lr_scheduler.step()
        groups = zip(
            self.optimizer.param_groups, self.objective.optimizer.param_groups, strict=True
        )
        for ours, theirs in groups:
            ours["lr"] = theirs["lr"]


class Ensemble:
    """S stackable agents as one.

    Args:
        agents: S agents of one class with networks of the same shapes. Hyperparameters that are
            buffers may differ between them; all others are taken from the first.
    """

    def __init__(self, agents: Sequence[nn.Module]) -> None:
        self.agents = list(agents)
        self.template = template = self.agents[0]
        parameters, buffers = stack_module_state(self.agents)
        self.parameters: Tensors = {name: p.detach() for name, p in parameters.items()}
        self.buffers: Tensors = {name: b.detach() for name, b in buffers.items()}
        self.objectives = [
            _StackedObjective(template, objective, self.parameters)
            for objective in template.objectives
        ]
        self._targets = _target_pairs(template)
        self._tracks = hasattr(template, "track_statistics")

        def probabilities(state: Tensors, *inputs: torch.Tensor) -> Any:
            return _call(template, template.action_probabilities, state, *inputs)

        def statistics(state: Tensors, *batch: torch.Tensor) -> Any:
            return _call(
                template, lambda *b: running_statistics(template, Batch(*b)), state, *batch
            )

        self._probabilities = vmap(probabilities)
        self._statistics = vmap(statistics)

    @property
    def state(self) -> Tensors:
        """All parameters and buffers, each with the leading axis of runs."""
        return self.parameters | self.buffers

    @torch.no_grad()
    def act(
        self, observations: np.ndarray, epsilon: np.ndarray, uniforms: np.ndarray
    ) -> np.ndarray:
        """See `Learner.act`: inverts the cumulative distribution at `uniforms`."""
        inputs = ptu.from_numpy(observations), ptu.from_numpy(np.asarray(epsilon, np.float32))
        probabilities = ptu.to_numpy(self._probabilities(self.state, *inputs))
        cumulative = np.cumsum(probabilities, axis=-1, dtype=np.float64)
        thresholds = uniforms[..., None] * cumulative[..., -1:]
        actions: np.ndarray = (cumulative <= thresholds).sum(-1)
        return actions

    @torch.no_grad()
    def update(self, batch: Batch, step: int) -> Tensors:
        """See `Learner.update`; one step as in `train_step`, for all runs."""
        if self._tracks:
            for name, value in self._statistics(self.state, *batch).items():
                self.buffers[name].copy_(value)
        metrics: Tensors = {}
        state = self.state
        for objective in self.objectives:
            metrics |= objective.minimise(state, batch)
        if step % self.template.target_update_period == 0:
            for network, target in self._targets:
                self.parameters[target].copy_(self.parameters[network])
        return metrics

    @torch.no_grad()
    def sync_agents(self) -> None:
        """See `Learner.sync_agents`."""
        for run, agent in enumerate(self.agents):
            for name, tensor in [*agent.named_parameters(), *agent.named_buffers()]:
                tensor.copy_(self.state[name][run])


def _target_pairs(template: Any) -> list[tuple[str, str]]:
    """Name the parameters to copy: (from the network, to its lagging copy)."""
    names = {id(parameter): name for name, parameter in template.named_parameters()}
    return [
        (names[id(source)], names[id(copy)])
        for network, target in template.target_networks
        for source, copy in zip(network.parameters(), target.parameters(), strict=True)
    ]


class AgentLoop:
    """S agents of any kind behind the methods of an ensemble, one after the other."""

    def __init__(self, agents: Sequence[Any]) -> None:
        self.agents = list(agents)

    def act(
        self, observations: np.ndarray, epsilon: np.ndarray, uniforms: np.ndarray
    ) -> np.ndarray:
        """See `Learner.act`; the agents draw their own numbers."""
        del uniforms
        return np.array(
            [
                [int(agent.get_action(observation, float(e))) for observation in row]
                for agent, row, e in zip(self.agents, observations, epsilon, strict=True)
            ]
        )

    def update(self, batch: Batch, step: int) -> Tensors:
        """See `Learner.update`."""
        rows: list[dict[str, Any]] = []
        for run, agent in enumerate(self.agents):
            own = Batch(*(field[run] for field in batch))
            rows.append(
                agent.update(
                    own.observations,
                    own.actions,
                    own.rewards,
                    own.next_observations,
                    own.dones,
                    step,
                )
                or {}
            )
        return {
            tag: torch.stack([torch.as_tensor(row[tag]).detach().float().mean() for row in rows])
            for tag in rows[0]
        }

    def sync_agents(self) -> None:
        """Nothing to write back: the agents hold their own state."""
