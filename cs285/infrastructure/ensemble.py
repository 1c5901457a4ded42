"""Many runs trained as one program.

An update is a pure function of one run: from the run's state and a batch to the state's new
values. `Ensemble` keeps the state of S runs, each tensor with a leading axis of runs, and applies
that function to all of them: lifted by `torch.vmap`, or compiled to C++ that walks the runs.
`AgentLoop` offers the same methods for agents that state no objectives, such as a file written
against the homework's starter, one agent after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import nn
from torch.func import functional_call, grad_and_value, stack_module_state, vmap

from cs285.infrastructure import agent_state
from cs285.infrastructure import pytorch_util as ptu
from cs285.infrastructure.checkpoints import fill
from cs285.infrastructure.compiling import compile_update, trace
from cs285.infrastructure.objective import Batch, Objective
from cs285.infrastructure.replay_buffer import look_up

if TYPE_CHECKING:
    from cs285.infrastructure.compiling.compiled_update import CompiledUpdate

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

    def learn(self, transitions: Batch, rows: np.ndarray, step: int) -> Tensors:
        """Take K updates on transitions `(N, ...)` looked up at `rows (K, S, batch)`.

        Args:
            transitions: Of all runs, one after the other.
            rows: In which of them each update looks.
            step: Number of the first update.

        Returns:
            Metrics of the last update, each `(S,)`.
        """
        ...

    def sync_agents(self) -> None:
        """Write what was learned back into `agents`."""
        ...

    def exploit(self) -> None:
        """From now on, the second critic of agents with two collects the data."""
        ...

    def get_state(self) -> dict[str, Any]:
        """Return everything that the future depends on.

        Raises:
            TypeError: If an agent keeps something that no checkpoint can.
        """
        ...

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore what `get_state` of agents of the same configs returned."""
        ...

    def state_of(self, run: int) -> dict[str, Any]:
        """Return what `get_state` tells of one run."""
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
    try:
        objectives = agent.objectives
    except NotImplementedError:  # not written yet, in a starter: `update` trains the agent
        return False
    return all(_is_plain_adam(objective.optimizer) for objective in objectives)


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


class _Trainee:
    """One objective of an agent as a step on a run's state, Adam's memory included."""

    def __init__(self, agent: nn.Module, objective: Objective) -> None:
        self.objective = objective
        self.method = _Method(agent, objective.loss)
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


class Ensemble:
    """S stackable agents as one.

    Args:
        agents: S agents of one class with networks of the same shapes. Hyperparameters that are
            buffers, and learning rates, may differ between them; all others are taken from the
            first.
        compiles: Whether updates and acting are compiled: to C++ of our own on the CPU, by
            `torch.compile` on a GPU.
    """

    def __init__(self, agents: Sequence[nn.Module], *, compiles: bool = False) -> None:
        self.agents: list[Any] = list(agents)
        self.template = self.agents[0]
        self.compiles = compiles and ptu.device.type == "cpu"
        self._compiles_traces = compiles and not self.compiles
        parameters, buffers = stack_module_state(self.agents)
        held = {name: tensor.detach() for name, tensor in (parameters | buffers).items()}
        self._held = list(held)
        self.state: Tensors = held
        """Everything that training changes or reads, each tensor with the leading axis of runs."""
        self._trainees = [_Trainee(self.template, o) for o in self.template.objectives]
        for k, trainee in enumerate(self._trainees):
            optimizers = [agent.objectives[k].optimizer for agent in self.agents]
            for optimizer in optimizers:
                # Moves nothing, there are no gradients: a schedule warns if its optimiser never
                # stepped.
                optimizer.step()
            self.state |= trainee.memory(held, [x.param_groups[0]["lr"] for x in optimizers])
        self._targets = self._target_pairs()
        self._policy = _Method(self.template, self.template.action_probabilities)
        self._changed: list[str] = []
        self._metrics: list[str] = []
        self._traced: dict[tuple[Any, ...], Callable[..., Any]] = {}
        self._compiled: dict[int, CompiledUpdate | None] = {}
        self._compiled_policies: dict[int, CompiledUpdate | None] = {}

    def _target_pairs(self) -> list[tuple[str, str]]:
        """Pair the names of each network's parameters with those of its lagging copy."""
        names = {id(parameter): name for name, parameter in self.template.named_parameters()}
        return [
            (names[id(source)], names[id(copy)])
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
        probabilities = ptu.to_numpy(self._action_probabilities(*inputs))
        cumulative = np.cumsum(probabilities, axis=-1, dtype=np.float64)
        thresholds = uniforms[..., None] * cumulative[..., -1:]
        actions: np.ndarray = (cumulative <= thresholds).sum(-1)
        return actions

    def _action_probabilities(
        self, observations: torch.Tensor, epsilon: torch.Tensor
    ) -> torch.Tensor:
        """Return pi(. | s) of all runs `(S, n, actions)` at `observations (S, n, ...)`."""
        tensors = [*(self.state[name] for name in self._held), observations, epsilon]
        count = observations.shape[1]
        if self.compiles and count not in self._compiled_policies:
            self._compiled_policies[count] = self._compile_policy(tensors)
        if (compiled := self._compiled_policies.get(count)) is not None:
            result = observations.new_empty((*observations.shape[:2], self.template.num_actions))
            compiled([*tensors, result], [], np.empty((1, len(observations), 0), np.int64))
            return result
        act = self._trace("act", self._act, tensors)
        probabilities: torch.Tensor = act(*tensors)[0]
        return probabilities

    def _act(self, *tensors: torch.Tensor) -> list[torch.Tensor]:
        """Return action probabilities of one run, whose state and inputs these are."""
        *held, observations, epsilon = tensors
        state = dict(zip(self._held, held, strict=True))
        return [self._policy.on(state, observations, epsilon)]

    def _compile_policy(self, tensors: Sequence[torch.Tensor]) -> CompiledUpdate | None:
        """Compile acting as an update of one more tensor, the probabilities."""
        inputs = [tensor[0] for tensor in tensors]
        result = self._act(*inputs)[0]
        graph = trace(lambda *own: self._act(*own[:-1]), [*inputs, result], decomposes=True)
        return compile_update(graph, len(inputs) + 1, [len(inputs)])

    # Learning

    @torch.no_grad()
    def learn(self, transitions: Batch, rows: np.ndarray, step: int) -> Tensors:
        """See `Learner.learn`; what the agents' own `update` does, for all runs."""
        metrics: Tensors = {}
        for start, end in self._stretches(step, len(rows)):
            metrics = self._take(transitions, rows[start:end])
            self._follow_schedules()
            if (step + end - 1) % self.template.target_update_period == 0:
                for source, copy in self._targets:
                    self.state[copy].copy_(self.state[source])
        return metrics

    def update(self, batch: Batch, step: int) -> Tensors:
        """Take one update on a batch with fields `(S, batch, ...)`."""
        shape = batch.rewards.shape
        rows = np.arange(batch.rewards.numel()).reshape(1, *shape)
        return self.learn(Batch(*(field.flatten(0, 1) for field in batch)), rows, step)

    def _stretches(self, step: int, count: int) -> list[tuple[int, int]]:
        """Cut `count` updates from number `step` on after each one that something follows."""
        period = self.template.target_update_period
        if any(_is_scheduled(trainee.objective) for trainee in self._trainees):
            period = 1
        cuts = [k + 1 for k in range(count) if (step + k) % period == 0]
        edges = [0, *cuts, *([] if cuts and cuts[-1] == count else [count])]
        return list(pairwise(edges))

    def _take(self, transitions: Batch, rows: np.ndarray) -> Tensors:
        """Take updates that nothing interrupts."""
        size = rows.shape[2]
        if self.compiles and size not in self._compiled:
            self._compiled[size] = self._compile(look_up(transitions, rows[0]))
        if (compiled := self._compiled.get(size)) is not None:
            values = compiled(list(self.state.values()), transitions, rows)
            return dict(zip(self._metrics, values, strict=True))
        for k in range(len(rows)):
            batch = look_up(transitions, rows[k])
            tensors = [*self.state.values(), *batch]
            results = self._trace("update", self._update, tensors)(*tensors)
            count = len(self._changed)
            for name, value in zip(self._changed, results[:count], strict=True):
                self.state[name].copy_(value)
        return dict(zip(self._metrics, results[count:], strict=True))

    def _update(self, *tensors: torch.Tensor) -> list[torch.Tensor]:
        """Return new values of one run's state, and metrics, for its state and batch."""
        state = dict(zip(self.state, tensors, strict=False))
        batch = Batch(*tensors[len(self.state) :])
        changes: Tensors = {}
        metrics: Tensors = {}
        for trainee in self._trainees:
            changed, logged = trainee.minimise(state | changes, self._held, batch)
            changes |= changed
            metrics |= logged
        self._changed, self._metrics = list(changes), list(metrics)
        return [*changes.values(), *metrics.values()]

    def _follow_schedules(self) -> None:
        """Step every run's own schedules."""
        for k, trainee in enumerate(self._trainees):
            if _is_scheduled(trainee.objective):
                schedulers = [agent.objectives[k].lr_scheduler for agent in self.agents]
                for scheduler in schedulers:
                    scheduler.step()
                rates = [scheduler.get_last_lr()[0] for scheduler in schedulers]
                self.state[trainee.rate].copy_(torch.tensor(rates))

    # Checkpoints

    def get_state(self) -> dict[str, Any]:
        """See `Learner.get_state`."""
        return {"tensors": self.state, "schedules": [o.state_dict() for o in self._schedules()]}

    def set_state(self, state: dict[str, Any]) -> None:
        """See `Learner.set_state`."""
        for name, tensor in self.state.items():
            fill(tensor, state["tensors"][name])
        for part, own in zip(self._schedules(), state["schedules"], strict=True):
            part.load_state_dict(own)

    def state_of(self, run: int) -> dict[str, Any]:
        """See `Learner.state_of`."""
        return {name: tensor[run] for name, tensor in self.state.items()}

    def _schedules(self) -> list[Any]:
        """Return every schedule that moves, followed by the optimiser whose rate it sets."""
        return [
            part
            for agent in self.agents
            for objective in agent.objectives
            if _is_scheduled(objective)
            for part in (objective.lr_scheduler, objective.optimizer)
        ]

    # Tracing and compiling

    def _trace(
        self,
        name: str,
        function: Callable[..., list[torch.Tensor]],
        inputs: Sequence[torch.Tensor],
    ) -> Callable[..., Any]:
        """Return a function of one run for all runs, as operations on inputs of these shapes."""
        key = (name, *(tuple(tensor.shape) for tensor in inputs))
        if key not in self._traced:
            graph = trace(vmap(function), inputs)
            self._traced[key] = torch.compile(graph) if self._compiles_traces else graph
        return self._traced[key]

    def _compile(self, batch: Batch) -> CompiledUpdate | None:
        """Compile the update of one run; None where that is impossible."""
        graph = trace(self._update, [x[0] for x in (*self.state.values(), *batch)], decomposes=True)
        names = list(self.state)
        return compile_update(graph, len(names), [names.index(name) for name in self._changed])

    @torch.no_grad()
    def sync_agents(self) -> None:
        """See `Learner.sync_agents`."""
        for run, agent in enumerate(self.agents):
            for name, tensor in [*agent.named_parameters(), *agent.named_buffers()]:
                tensor.copy_(self.state[name][run])

    def exploit(self) -> None:
        """See `Learner.exploit`."""
        self.state["exploits"].fill_(1)


def _is_scheduled(objective: Objective) -> bool:
    """Tell whether the learning rate will ever change."""
    scheduler = objective.lr_scheduler
    is_constant = (
        isinstance(scheduler, torch.optim.lr_scheduler.ConstantLR) and scheduler.factor == 1
    )
    return scheduler is not None and not is_constant


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

    def learn(self, transitions: Batch, rows: np.ndarray, step: int) -> Tensors:
        """See `Learner.learn`."""
        metrics: Tensors = {}
        for k in range(len(rows)):
            metrics = self.update(look_up(transitions, rows[k]), step + k)
        return metrics

    def update(self, batch: Batch, step: int) -> Tensors:
        """Take one update on a batch with fields `(S, batch, ...)`."""
        results = [
            agent.update(*(field[run] for field in batch), step) or {}
            for run, agent in enumerate(self.agents)
        ]
        return {
            tag: torch.stack([torch.as_tensor(own[tag]).detach().float().mean() for own in results])
            for tag in results[0]
        }

    def sync_agents(self) -> None:
        """Nothing to write back: the agents hold their own state."""

    def exploit(self) -> None:
        """See `Learner.exploit`."""
        for agent in self.agents:
            agent.exploits.fill_(1)

    def get_state(self) -> dict[str, Any]:
        """See `Learner.get_state`."""
        return {"agents": [agent_state.get_state(agent) for agent in self.agents]}

    def set_state(self, state: dict[str, Any]) -> None:
        """See `Learner.set_state`."""
        for agent, own in zip(self.agents, state["agents"], strict=True):
            agent_state.set_state(agent, own)

    def state_of(self, run: int) -> dict[str, Any]:
        """See `Learner.state_of`."""
        return agent_state.get_state(self.agents[run])
