"""Many runs trained as one program.

`Ensemble` stacks S agents that share an algorithm and network shapes, and walks the objectives
that the agent file states under `torch.vmap`: every tensor gets a leading axis of runs, one
operation serves them all. `AgentLoop` offers the same two methods for agents that state no
objectives, such as a file written against the homework's starter, one agent after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn
from torch.func import functional_call, grad_and_value, stack_module_state, vmap

from cs285.infrastructure import pytorch_util as ptu
from cs285.infrastructure.compiling import compile_graph, trace
from cs285.infrastructure.objective import Batch, Objective

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


def make_learner(agents: Sequence[Any], *, compiles: bool = False) -> Learner:
    """Stack the agents where their classes allow it, else loop over them.

    Args:
        agents: S agents.
        compiles: Whether the update of stacked agents is compiled.
    """
    if all(map(is_stackable, agents)):
        return Ensemble(agents, compiles=compiles)
    return AgentLoop(agents)


def is_stackable(agent: Any) -> bool:
    """Tell whether every class of the agent's own says that it may be stacked.

    Each must say so itself: a student's subclass of a stackable agent may override `update`, which
    an ensemble would never call.
    """
    own = [c for c in type(agent).__mro__ if c not in nn.Module.__mro__]
    if not all(vars(c).get("stackable", False) for c in own):
        return False
    return all(_is_plain_adam(objective.optimizer) for objective in agent.objectives)


def _is_plain_adam(optimizer: torch.optim.Optimizer) -> bool:
    groups = optimizer.param_groups
    extras = ("weight_decay", "amsgrad", "maximize")
    return (
        type(optimizer) is torch.optim.Adam
        and len(groups) == 1
        and not any(groups[0][name] for name in extras)
    )


class _Method(nn.Module):
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


@dataclass
class _Trainee:
    """One objective for all runs: what it moves, and Adam's memory of it."""

    objective: Objective
    leaves: Tensors
    """Stacked parameters of the objective's network."""
    learning_rate: torch.Tensor
    """A scalar tensor, so that a schedule can change it under a compiled update."""
    updates: torch.Tensor
    """Steps taken, a scalar tensor."""
    first: Tensors
    """Running mean of each leaf's gradient."""
    second: Tensors
    """Running mean of its square."""

    @property
    def tensors(self) -> list[torch.Tensor]:
        """All tensors that an update reads or writes, beyond the leaves."""
        return [self.learning_rate, self.updates, *self.first.values(), *self.second.values()]


class Ensemble:
    """S stackable agents as one.

    The update is one function of tensors: gradients of every objective under `vmap`, clipping and
    Adam. It is traced once to a flat list of operations, which runs as it is or compiled.

    Args:
        agents: S agents of one class with networks of the same shapes. Hyperparameters that are
            buffers may differ between them; all others are taken from the first.
        compiles: Whether the update is compiled.
    """

    def __init__(self, agents: Sequence[nn.Module], *, compiles: bool = False) -> None:
        self.agents: list[Any] = list(agents)
        self.template = self.agents[0]
        self.compiles = compiles
        parameters, buffers = stack_module_state(self.agents)
        self.parameters: Tensors = {name: p.detach() for name, p in parameters.items()}
        self.buffers: Tensors = {name: b.detach() for name, b in buffers.items()}
        self.trainees = [self._make_trainee(o) for o in self.template.objectives]
        self._targets = self._target_pairs()
        self._metric_names: list[str] = []
        self._traced: dict[tuple[Any, ...], Callable[..., Any]] = {}
        self._losses = [_Method(self.template, t.objective.loss) for t in self.trainees]
        self._policy = _Method(self.template, self.template.action_probabilities)

    @property
    def state(self) -> Tensors:
        """All parameters and buffers, each with the leading axis of runs."""
        return self.parameters | self.buffers

    def _make_trainee(self, objective: Objective) -> _Trainee:
        # Moves nothing, there are no gradients: a schedule warns if its optimiser never stepped.
        objective.optimizer.step()
        trained = {id(parameter) for parameter in objective.network.parameters()}
        leaves = {
            name: self.parameters[name]
            for name, parameter in self.template.named_parameters()
            if id(parameter) in trained
        }
        return _Trainee(
            objective,
            leaves,
            learning_rate=torch.tensor(objective.optimizer.param_groups[0]["lr"]),
            updates=torch.zeros(()),
            first={name: torch.zeros_like(leaf) for name, leaf in leaves.items()},
            second={name: torch.zeros_like(leaf) for name, leaf in leaves.items()},
        )

    def _target_pairs(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Pair the stacked parameters of each network with those of its lagging copy."""
        names = {id(parameter): name for name, parameter in self.template.named_parameters()}
        return [
            (self.parameters[names[id(source)]], self.parameters[names[id(copy)]])
            for network, target in self.template.target_networks
            for source, copy in zip(network.parameters(), target.parameters(), strict=True)
        ]

    # Acting

    @torch.no_grad()
    def act(
        self, observations: np.ndarray, epsilon: np.ndarray, uniforms: np.ndarray
    ) -> np.ndarray:
        """See `Learner.act`: inverts the cumulative distribution at `uniforms`."""
        inputs = ptu.from_numpy(observations), ptu.from_numpy(np.asarray(epsilon, np.float32))
        act = self._trace("act", self._act, inputs, compiles=False)
        probabilities = ptu.to_numpy(act(*self._tensors, *inputs)[0])
        cumulative = np.cumsum(probabilities, axis=-1, dtype=np.float64)
        thresholds = uniforms[..., None] * cumulative[..., -1:]
        actions: np.ndarray = (cumulative <= thresholds).sum(-1)
        return actions

    def _act(self, observations: torch.Tensor, epsilon: torch.Tensor) -> list[torch.Tensor]:
        return [vmap(self._policy.on)(self.state, observations, epsilon)]

    # Learning

    @torch.no_grad()
    def update(self, batch: Batch, step: int) -> Tensors:
        """See `Learner.update`; what the agents' own `update` does, for all runs."""
        update = self._trace("update", self._update, batch, compiles=self.compiles)
        metrics = dict(zip(self._metric_names, update(*self._tensors, *batch), strict=True))
        for trainee in self.trainees:
            _follow_schedule(trainee)
        if step % self.template.target_update_period == 0:
            for source, copy in self._targets:
                copy.copy_(source)
        return metrics

    def _update(self, *batch: torch.Tensor) -> list[torch.Tensor]:
        """Change the state in place and return the metrics in the order of their names."""
        metrics: Tensors = {}
        fields = Batch(*batch)
        for trainee, method in zip(self.trainees, self._losses, strict=True):
            inputs = [getattr(fields, name) for name in trainee.objective.inputs]
            metrics |= self._minimise(trainee, method, inputs)
        self._metric_names = list(metrics)
        return list(metrics.values())

    def _minimise(
        self, trainee: _Trainee, method: _Method, inputs: Sequence[torch.Tensor]
    ) -> Tensors:
        """Take one gradient step per run; see `Objective.minimise`."""
        objective = trainee.objective

        def loss(leaves: Tensors, state: Tensors, *inputs: torch.Tensor) -> Any:
            value, metrics, *_ = method.on(state | leaves, *inputs)
            return value, metrics

        gradient = vmap(grad_and_value(loss, has_aux=True))
        gradients, (value, metrics) = gradient(trainee.leaves, self.state, *inputs)
        squares = [g.flatten(1).square().sum(1) for g in gradients.values()]
        norm = torch.stack(squares).sum(0).sqrt()
        if objective.clip_grad_norm is not None:
            scale = (objective.clip_grad_norm / (norm + 1e-6)).clamp(max=1.0)
            gradients = {
                name: g * scale.view(-1, *[1] * (g.dim() - 1)) for name, g in gradients.items()
            }
        _adam_step(trainee, gradients)
        return {objective.loss_tag: value, objective.grad_norm_tag: norm, **metrics}

    # Tracing

    @property
    def _tensors(self) -> list[torch.Tensor]:
        """Every tensor of the state, in a fixed order: what a traced function takes first."""
        memory = [tensor for trainee in self.trainees for tensor in trainee.tensors]
        return [*self.parameters.values(), *self.buffers.values(), *memory]

    def _trace(
        self,
        name: str,
        function: Callable[..., list[torch.Tensor]],
        inputs: Sequence[torch.Tensor],
        *,
        compiles: bool,
    ) -> Callable[..., Any]:
        """Return `function` as operations on the state's tensors and inputs of these shapes."""
        key = (name, *(tuple(tensor.shape) for tensor in inputs))
        if key not in self._traced:
            self._traced[key] = self._make_trace(function, inputs, compiles=compiles)
        return self._traced[key]

    def _make_trace(
        self,
        function: Callable[..., list[torch.Tensor]],
        inputs: Sequence[torch.Tensor],
        *,
        compiles: bool,
    ) -> Callable[..., Any]:
        real = self._tensors
        count = len(real)

        def on_tensors(*tensors: torch.Tensor) -> list[torch.Tensor]:
            with self._holding(tensors[:count]):
                return function(*tensors[count:])

        # Tracing runs the function once, in place: on copies.
        graph = trace(on_tensors, [tensor.clone() for tensor in (*real, *inputs)])
        return compile_graph(graph) if compiles else graph

    @contextmanager
    def _holding(self, tensors: Sequence[torch.Tensor]) -> Iterator[None]:
        """Hold other tensors as the state for a while."""
        kept = self.parameters, self.buffers, self.trainees
        source = iter(tensors)

        def swap(old: Tensors) -> Tensors:
            return {name: next(source) for name in old}

        parameters, buffers = swap(self.parameters), swap(self.buffers)
        self.parameters, self.buffers = parameters, buffers
        self.trainees = [
            _Trainee(
                objective=trainee.objective,
                leaves={name: parameters[name] for name in trainee.leaves},
                learning_rate=next(source),
                updates=next(source),
                first=swap(trainee.first),
                second=swap(trainee.second),
            )
            for trainee in self.trainees
        ]
        try:
            yield
        finally:
            self.parameters, self.buffers, self.trainees = kept

    @torch.no_grad()
    def sync_agents(self) -> None:
        """See `Learner.sync_agents`."""
        state = self.state
        for run, agent in enumerate(self.agents):
            for name, tensor in [*agent.named_parameters(), *agent.named_buffers()]:
                tensor.copy_(state[name][run])


def _adam_step(trainee: _Trainee, gradients: Tensors) -> None:
    """Move the leaves of a trainee in place (Kingma and Ba 2015, algorithm 1).

    PyTorch's own optimiser works on whole parameter lists in Python; written out, the step becomes
    part of the traced update.
    """
    settings = trainee.objective.optimizer.param_groups[0]
    beta1, beta2 = settings["betas"]
    trainee.updates += 1
    bias1 = 1 - beta1**trainee.updates
    bias2 = 1 - beta2**trainee.updates
    for name, gradient in gradients.items():
        first = trainee.first[name].lerp_(gradient, 1 - beta1)
        second = trainee.second[name].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        step = first / ((second / bias2).sqrt() + settings["eps"])
        trainee.leaves[name] -= trainee.learning_rate / bias1 * step


def _follow_schedule(trainee: _Trainee) -> None:
    """Step the objective's own schedule and take over its learning rate."""
    scheduler = trainee.objective.lr_scheduler
    if scheduler is None:
        return
    scheduler.step()
    trainee.learning_rate.fill_(scheduler.get_last_lr()[0])


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
