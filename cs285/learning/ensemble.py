"""Many runs trained as one program.

`Ensemble` keeps the state of S runs in tensors with a leading axis of runs, and lets a backend
apply the pure functions of one run to all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import nn
from torch.func import stack_module_state

from cs285.infrastructure import pytorch_util as ptu
from cs285.learning.agent import StackableAgent
from cs285.learning.arrays import fill
from cs285.learning.backends import Backend, Traced
from cs285.learning.objective import Batch, Objective, Tensors, split_rules
from cs285.learning.pure_functions import (
    ObjectiveStep,
    PurePolicy,
    PureUpdate,
    is_scheduled,
    pair_names,
    schedule_period,
)


class Ensemble:
    """S stackable agents as one.

    Args:
        agents: S agents of one class with networks of the same shapes. Learning rates and
            hyperparameters that are buffers may differ between them; all other settings are taken
            from the first agent.
        backend: Carries out updates and acting; `Traced` by default.
    """

    def __init__(self, agents: Sequence[StackableAgent], backend: Backend | None = None) -> None:
        self.agents: list[Any] = list(agents)
        self.backend = Traced() if backend is None else backend
        template: Any = self.agents[0]
        parameters, buffers = stack_module_state(cast("list[nn.Module]", self.agents))
        held = {name: tensor.detach() for name, tensor in (parameters | buffers).items()}
        self._held = list(held)
        self._parameters = list(parameters)
        self.state: Tensors = held
        """Everything that training changes or reads, in tensors with a leading axis of runs."""
        objectives: Sequence[Objective] = template.objectives
        tags = [objective.loss_tag for objective in objectives]
        if len(set(tags)) < len(tags):
            raise ValueError(f"objectives need different loss tags, not {', '.join(tags)}")
        self._steps = [ObjectiveStep(template, objective) for objective in objectives]
        for k, step in enumerate(self._steps):
            optimizers = [agent.objectives[k].optimizer for agent in self.agents]
            for optimizer in optimizers:
                # Without gradients this changes nothing, but a schedule warns if its optimiser has
                # never taken a step.
                optimizer.step()
            self.state |= step.memory(held, [x.param_groups[0]["lr"] for x in optimizers])
        self._averages, copies = split_rules(template.target_rules)
        self._copies = [(rule, pair_names(rule.source, rule.target, self._held)) for rule in copies]
        self._cuts = set(self._find_cuts())
        self._policy = PurePolicy(template, self._held)
        self._updates: dict[tuple[int, ...], PureUpdate] = {}

    # Acting

    @torch.no_grad()
    def act(
        self, observations: np.ndarray, epsilon: np.ndarray, uniforms: np.ndarray
    ) -> np.ndarray:
        """See `Learner.act`: inverts the cumulative distribution at `uniforms`."""
        inputs = ptu.from_numpy(observations), ptu.from_numpy(np.asarray(epsilon, np.float32))
        probabilities = ptu.to_numpy(self.action_probabilities(*inputs))
        cumulative = np.cumsum(probabilities, axis=-1, dtype=np.float64)
        thresholds = uniforms[..., None] * cumulative[..., -1:]
        actions: np.ndarray = (cumulative <= thresholds).sum(-1)
        return actions

    def action_probabilities(
        self, observations: torch.Tensor, epsilon: torch.Tensor
    ) -> torch.Tensor:
        """Return pi(. | s) of all runs `(S, n, actions)`.

        Args:
            observations: `(S, n, ...)`.
            epsilon: `(S,)`.
        """
        return self.backend.act(self._policy, self.state, observations, epsilon)

    # Learning

    @torch.no_grad()
    def learn(self, columns: Mapping[str, torch.Tensor], rows: np.ndarray, step: int) -> Tensors:
        """See `Learner.learn`; does the same as `Agent.update`, for all runs."""
        metrics: Tensors = {}
        for start, end in self._stretches(step, len(rows)):
            number = step + end - 1
            due = tuple(k for k, x in enumerate(self._steps) if x.objective.is_due(number))
            if update := self._update_of(due):
                read = {name: columns[name] for name in update.columns}
                metrics |= self.backend.train(update, self.state, read, rows[start:end])
            self._follow_schedules(due, end - start)
            for rule, pairs in self._copies:
                if rule.is_due(number):
                    for source, target in pairs:
                        self.state[target].copy_(self.state[source])
        return metrics

    def update(self, batch: Batch | Mapping[str, torch.Tensor], step: int) -> Tensors:
        """Take one update on a batch with columns `(S, batch, ...)`."""
        columns = batch._asdict() if isinstance(batch, Batch) else dict(batch)
        shape = next(iter(columns.values())).shape[:2]
        rows = np.arange(shape.numel()).reshape(1, *shape)
        flat = {name: column.flatten(0, 1) for name, column in columns.items()}
        return self.learn(flat, rows, step)

    def _update_of(self, due: tuple[int, ...]) -> PureUpdate:
        """Return the update that takes the steps of these objectives."""
        if due not in self._updates:
            steps = [self._steps[k] for k in due]
            self._updates[due] = PureUpdate(steps, self._averages, self._held, self._parameters)
        return self._updates[due]

    def _find_cuts(self) -> Iterator[tuple[int, int]]:
        """Yield `(period, offset)`: a stretch ends where update + offset is a multiple."""
        for rule, _ in self._copies:
            yield rule.period, 0
        for step in self._steps:
            if step.objective.period > 1:  # before and after it, other objectives are due
                yield from ((step.objective.period, 0), (step.objective.period, 1))
            if is_scheduled(step.objective):
                yield schedule_period(step.objective), 0

    def _stretches(self, step: int, count: int) -> Iterable[tuple[int, int]]:
        """Split `count` updates, starting with number `step`, into stretches of equal updates.

        Copies and schedules may follow each stretch.
        """
        ends = {count}
        for period, offset in self._cuts:
            ends.update(k + 1 for k in range(-(step + offset) % period, count, period))
        edges = sorted(ends)
        return zip([0, *edges], edges, strict=False)

    def _follow_schedules(self, due: Iterable[int], count: int) -> None:
        """Step every run's schedules for the objectives that were due in each of `count` updates.

        The rate may change only with the last of these steps, so the others need only be counted.
        """
        for k in due:
            if is_scheduled(self._steps[k].objective):
                schedulers = [agent.objectives[k].lr_scheduler for agent in self.agents]
                for scheduler in schedulers:
                    scheduler.last_epoch += count - 1
                    scheduler.step()
                rates = [scheduler.get_last_lr()[0] for scheduler in schedulers]
                self.state[self._steps[k].rate].copy_(torch.tensor(rates))

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
        """Return every schedule that is not constant, each followed by its optimiser."""
        return [
            part
            for agent in self.agents
            for objective in agent.objectives
            if is_scheduled(objective)
            for part in (objective.lr_scheduler, objective.optimizer)
        ]

    @torch.no_grad()
    def sync_agents(self) -> None:
        """See `Learner.sync_agents`."""
        for run, agent in enumerate(self.agents):
            for name, tensor in [*agent.named_parameters(), *agent.named_buffers()]:
                tensor.copy_(self.state[name][run])

    @torch.no_grad()
    def begin_phase(self, name: str) -> None:
        """See `Learner.begin_phase`: the agents change, and their stacked state with them."""
        self.sync_agents()
        for run, agent in enumerate(self.agents):
            agent.begin_phase(name)
            for key, tensor in [*agent.named_parameters(), *agent.named_buffers()]:
                self.state[key][run].copy_(tensor)
