"""Backends: how the pure functions of one run are carried out for S runs.

- `Traced`: vectorised by `torch.vmap`, as a flat list of PyTorch's operations.
- `CompiledToCpp`: compiled to C++ that loops over the runs, on the CPU.
- `TorchCompiled`: vectorised, then compiled by `torch.compile`, on a GPU.

A learner is given one of them and does not know which; only `choose_backend` decides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch.func import vmap

from cs285.compiling import CompilationError, compile_update, trace
from cs285.infrastructure import pytorch_util as ptu
from cs285.infrastructure.caches import cache_folder
from cs285.learning.objective import Tensors
from cs285.learning.pure_functions import PurePolicy, PureUpdate
from cs285.learning.replay_buffer import look_up

if TYPE_CHECKING:
    from cs285.compiling.compiled_update import CompiledUpdate

PAYS_FROM_UPDATES = 5_000
"""Compiling takes two to four seconds once and saves about a millisecond per update."""


class Backend(Protocol):
    """Carries out pure functions of one run for S runs."""

    def train(
        self,
        update: PureUpdate,
        state: Tensors,
        columns: Mapping[str, torch.Tensor],
        rows: np.ndarray,
    ) -> Tensors:
        """Take K updates of S runs, changing their state in place.

        Args:
            update: One update of one run.
            state: The state of all runs, each tensor with a leading axis of S.
            columns: The columns that `update` reads, of all runs, each `(N, ...)`.
            rows: The rows of the columns that each update reads `(K, S, batch)`.

        Returns:
            Metrics of the last update, each `(S,)`.
        """
        ...

    def act(
        self, policy: PurePolicy, state: Tensors, observations: torch.Tensor, epsilon: torch.Tensor
    ) -> torch.Tensor:
        """Return pi(. | s) of all runs `(S, n, actions)`.

        Args:
            policy: The policy of one run.
            state: The state of all runs.
            observations: `(S, n, ...)`.
            epsilon: `(S,)`.
        """
        ...


def choose_backend(choice: str = "off", updates: int = 0) -> Backend:
    """Return the backend for the current device.

    Args:
        choice: Whether to compile: `auto`, `on` or `off`.
        updates: Number of updates that the program will take, for `auto`.
    """
    if not pays(choice, updates):
        return Traced()
    return CompiledToCpp() if ptu.device.type == "cpu" else TorchCompiled()


def pays(choice: str, updates: int) -> bool:
    """Return whether to compile a program with this many updates; see `choose_backend`."""
    return choice == "on" or (choice == "auto" and updates >= PAYS_FROM_UPDATES)


@dataclass
class _FlatUpdate:
    """A pure update as a function of a list of tensors, the form that can be traced."""

    update: PureUpdate
    state_names: Sequence[str]
    column_names: Sequence[str]
    changed: Sequence[str] = ()
    """Names of the first results, known once it has run."""
    metrics: Sequence[str] = ()
    """Names of the other results."""

    def __call__(self, *tensors: torch.Tensor) -> list[torch.Tensor]:
        state = dict(zip(self.state_names, tensors, strict=False))
        batch = dict(zip(self.column_names, tensors[len(state) :], strict=True))
        changes, metrics = self.update(state, batch)
        self.changed, self.metrics = list(changes), list(metrics)
        return [*changes.values(), *metrics.values()]


def _flat_policy(policy: PurePolicy) -> Callable[..., list[torch.Tensor]]:
    """Return a policy as a function of a list of tensors: the agent's, observations, epsilon."""

    def act(*tensors: torch.Tensor) -> list[torch.Tensor]:
        *held, observations, epsilon = tensors
        return [policy(dict(zip(policy.held, held, strict=True)), observations, epsilon)]

    return act


class Traced:
    """Functions vectorised by `torch.vmap` and traced once for each shape of their inputs."""

    def __init__(self) -> None:
        self._traced: dict[tuple[Any, ...], tuple[Callable[..., Any], Any]] = {}

    def train(
        self,
        update: PureUpdate,
        state: Tensors,
        columns: Mapping[str, torch.Tensor],
        rows: np.ndarray,
    ) -> Tensors:
        """See `Backend.train`."""
        metrics: Tensors = {}
        for k in range(len(rows)):
            batch = look_up(columns, rows[k])
            tensors = [*state.values(), *batch.values()]
            graph, flat = self._trace(
                update, tensors, lambda: _FlatUpdate(update, list(state), list(columns))
            )
            results = graph(*tensors)
            count = len(flat.changed)
            for name, value in zip(flat.changed, results[:count], strict=True):
                state[name].copy_(value)
            metrics = dict(zip(flat.metrics, results[count:], strict=True))
        return metrics

    def act(
        self, policy: PurePolicy, state: Tensors, observations: torch.Tensor, epsilon: torch.Tensor
    ) -> torch.Tensor:
        """See `Backend.act`."""
        tensors = [*(state[name] for name in policy.held), observations, epsilon]
        graph, _ = self._trace(policy, tensors, lambda: _flat_policy(policy))
        probabilities: torch.Tensor = graph(*tensors)[0]
        return probabilities

    def _trace(
        self, key: object, inputs: Sequence[torch.Tensor], flatten: Callable[[], Any]
    ) -> tuple[Callable[..., Any], Any]:
        """Return a function of one run traced for all runs, and the function itself."""
        shapes = (key, *(tuple(tensor.shape) for tensor in inputs))
        if shapes not in self._traced:
            flat = flatten()
            self._traced[shapes] = self._finish(trace(vmap(flat), inputs)), flat
        return self._traced[shapes]

    def _finish(self, graph: torch.fx.GraphModule) -> Callable[..., Any]:
        return graph


class TorchCompiled(Traced):
    """`Traced`, compiled by `torch.compile`."""

    def _finish(self, graph: torch.fx.GraphModule) -> Callable[..., Any]:
        compiled: Callable[..., Any] = torch.compile(graph)
        return compiled


class CompiledToCpp:
    """Functions compiled to C++; where that fails, it prints one line and falls back to `Traced`.

    Attributes:
        updates: Compiled updates by update and batch size; None where compiling failed.
        policies: Compiled policies by policy and number of observations; None likewise.
    """

    def __init__(self) -> None:
        self.updates: dict[tuple[PureUpdate, int], tuple[CompiledUpdate, list[str]] | None] = {}
        self.policies: dict[tuple[PurePolicy, int], CompiledUpdate | None] = {}
        self._fallback = Traced()
        self._complaints: set[str] = set()

    def train(
        self,
        update: PureUpdate,
        state: Tensors,
        columns: Mapping[str, torch.Tensor],
        rows: np.ndarray,
    ) -> Tensors:
        """See `Backend.train`."""
        key = (update, rows.shape[2])
        if key not in self.updates:
            self.updates[key] = self._compile_update(update, state, look_up(columns, rows[0]))
        if (found := self.updates[key]) is None:
            return self._fallback.train(update, state, columns, rows)
        compiled, metrics = found
        return dict(
            zip(metrics, compiled(list(state.values()), columns.values(), rows), strict=True)
        )

    def act(
        self, policy: PurePolicy, state: Tensors, observations: torch.Tensor, epsilon: torch.Tensor
    ) -> torch.Tensor:
        """See `Backend.act`."""
        key = (policy, observations.shape[1])
        tensors = [*(state[name] for name in policy.held), observations, epsilon]
        if key not in self.policies:
            self.policies[key] = self._compile_policy(policy, tensors)
        if (compiled := self.policies[key]) is None:
            return self._fallback.act(policy, state, observations, epsilon)
        result = observations.new_empty((*observations.shape[:2], policy.num_actions))
        compiled([*tensors, result], [], np.empty((1, len(observations), 0), np.int64))
        return result

    def _compile_update(
        self, update: PureUpdate, state: Tensors, batch: Tensors
    ) -> tuple[CompiledUpdate, list[str]] | None:
        names = list(state)
        flat = _FlatUpdate(update, names, list(batch))
        inputs = [x[0] for x in (*state.values(), *batch.values())]
        graph = trace(flat, inputs, decomposes=True)
        compiled = self._compile(graph, len(names), [names.index(name) for name in flat.changed])
        return None if compiled is None else (compiled, list(flat.metrics))

    def _compile_policy(
        self, policy: PurePolicy, tensors: Sequence[torch.Tensor]
    ) -> CompiledUpdate | None:
        """Compile acting as an update of an additional tensor, the probabilities."""
        act = _flat_policy(policy)
        inputs = [tensor[0] for tensor in tensors]
        result = act(*inputs)[0]
        graph = trace(lambda *own: act(*own[:-1]), [*inputs, result], decomposes=True)
        return self._compile(graph, len(inputs) + 1, [len(inputs)])

    def _compile(
        self, graph: torch.fx.GraphModule, num_state: int, changed: Sequence[int]
    ) -> CompiledUpdate | None:
        try:
            return compile_update(graph, num_state, changed, cache_folder())
        except (CompilationError, RuntimeError) as error:  # RuntimeError: there is no home folder
            text = f"Updates run uncompiled, which is slower: {error}"
            if text not in self._complaints:
                print(text)
            self._complaints.add(text)
            return None
