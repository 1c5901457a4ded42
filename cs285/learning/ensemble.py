"""Many runs trained as one program.

An update is a pure function of one run: from the run's state and a batch to the state's new
values. `Ensemble` keeps the state of S runs, each tensor with a leading axis of runs, and applies
that function to all of them: lifted by `torch.vmap`, or compiled to C++ that walks the runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.func import stack_module_state, vmap

from cs285.compiling import compile_update, trace
from cs285.infrastructure import pytorch_util as ptu
from cs285.infrastructure.arrays import fill
from cs285.learning.functional_step import Method, Trainee, is_scheduled
from cs285.learning.objective import Batch, Tensors
from cs285.learning.replay_buffer import look_up

if TYPE_CHECKING:
    from cs285.compiling.compiled_update import CompiledUpdate


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
        self._trainees = [Trainee(self.template, o) for o in self.template.objectives]
        for k, trainee in enumerate(self._trainees):
            optimizers = [agent.objectives[k].optimizer for agent in self.agents]
            for optimizer in optimizers:
                # Moves nothing, there are no gradients: a schedule warns if its optimiser never
                # stepped.
                optimizer.step()
            self.state |= trainee.memory(held, [x.param_groups[0]["lr"] for x in optimizers])
        self._targets = self._target_pairs()
        self._policy = Method(self.template, self.template.action_probabilities)
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
        if any(is_scheduled(trainee.objective) for trainee in self._trainees):
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
            if is_scheduled(trainee.objective):
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
            if is_scheduled(objective)
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
