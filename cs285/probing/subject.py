"""An agent class under test, and what its methods do to its networks."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import torch

from cs285.infrastructure.errors import UserError, is_unwritten, printable
from cs285.learning import student_code
from cs285.probing.classes import MAKERS
from cs285.probing.inputs import (
    NUM_FEATURES,
    OUTPUTS,
    Array,
    Inputs,
    Transitions,
    Weights,
    derivatives,
    network_outputs,
    same_weights,
    step_between,
)
from cs285.probing.networks import (
    LEARNING_RATE,
    NUM_ACTIONS,
    FeatureNetwork,
    Networks,
    own_optimisers_replaced,
    seed_everything,
)

PERIOD = 7

_SCALARS = {
    "discount": 0.7,
    "target_update_period": PERIOD,
    "use_double_q": False,
    "clip_grad_norm": None,
}
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "random": {},
    "rnd": {**_SCALARS, "rnd_weight": 1.5},
    "dqn": _SCALARS,
    "cql": {**_SCALARS, "cql_alpha": 0.6, "cql_temperature": 1.0},
    "awac": {**_SCALARS, "temperature": 1.5},
    "iql": {**_SCALARS, "temperature": 1.5, "expectile": 0.8},
}
"""Default values for the other arguments of each constructor."""


class NotWrittenYetError(Exception):
    """A method that students must write is still a stub; the message is the stub's."""

    def __init__(self, error: NotImplementedError) -> None:
        super().__init__(str(error))
        frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
        self.method = frames[-1].f_code.co_qualname if frames else ""
        """Its name, such as `DQNAgent.update`."""


class StoppedError(Exception):
    """A method raised an error; the message says which error and where."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of one call: its result, and the networks before and after it, by role."""

    result: Any
    before: Weights
    after: Weights

    def moved(self, role: str) -> bool:
        """Return whether the call changed a network of this role."""
        return not same_weights(self.before.get(role, []), self.after.get(role, []), 1e-6)


@dataclass(frozen=True)
class Derivatives:
    """The derivatives of a loss with respect to one network's outputs in every row of a batch."""

    at_states: Array
    """`(batch, outputs)`."""
    at_next: Array
    """`(batch, outputs)`, at the next states."""
    gradient: Array
    """The gradient with respect to the weights, as a vector."""
    unexplained: float
    """The fraction of the gradient that no loss on the batch can produce."""

    @property
    def largest(self) -> float:
        """The largest absolute derivative."""
        return float(max(np.abs(self.at_states).max(), np.abs(self.at_next).max()))


class Trial:
    """One agent whose networks have known weights.

    Args:
        agent: The agent.
        networks: The networks that it was given.
        inputs: The source of their features.
    """

    def __init__(self, agent: Any, networks: Networks, inputs: Inputs) -> None:
        self.agent = agent
        self.networks = networks
        self.inputs = inputs
        self.seed = 1

    def roles(self) -> dict[str, list[FeatureNetwork]]:
        """Return the agent's networks by role, such as `critic/online`."""
        roles = self.networks.by_role(self.agent)
        networks = {
            role: [one for one in members if isinstance(one, FeatureNetwork)]
            for role, members in roles.items()
        }
        return {role: members for role, members in networks.items() if members}

    def weights(self) -> Weights:
        """Return a copy of all weights, by role."""
        return {
            role: [
                (
                    network.linear.weight.detach().numpy().copy(),
                    network.linear.bias.detach().numpy().copy(),
                )
                for network in networks
            ]
            for role, networks in self.roles().items()
        }

    def call(self, method: str, *values: Any) -> Any:
        """Call a method with arrays as tensors, always with the same random numbers.

        Raises:
            NotWrittenYetError: If it, or a method that it calls, is not written yet.
            StoppedError: If it raises anything else.
        """
        tensors = [torch.tensor(v) if isinstance(v, np.ndarray) else v for v in values]
        seed_everything(self.seed)
        with errors_translated():
            return student_code.method_of(self.agent, method)(*tensors)

    def outcome_of(self, method: str, *values: Any) -> Outcome:
        """Call a method and return what it did to the networks."""
        before = self.weights()
        result = self.call(method, *values)
        return Outcome(result, before, self.weights())

    def act(self, observation: Array, epsilon: float) -> int:
        """Return the action for one observation `(2,)`.

        Raises:
            NotWrittenYetError: If the method is not written yet.
            StoppedError: If it raises anything else, or does not return an action.
        """
        with errors_translated():
            return student_code.get_action(self.agent, observation.copy(), epsilon)

    def read_step(
        self, outcome: Outcome, role: str, batch: Transitions, index: int = 0
    ) -> Derivatives:
        """Return the derivatives behind the step that a call took on one network."""
        before, after = outcome.before[role][index], outcome.after[role][index]
        return self._read(step_between(before, after, self.networks.learning_rate), batch)

    def read_loss(self, loss: torch.Tensor, role: str, batch: Transitions) -> Derivatives:
        """Return the derivatives of a loss that the agent has computed.

        Raises:
            StoppedError: If PyTorch cannot differentiate it.
        """
        roles = self.roles()
        for networks in roles.values():
            for network in networks:
                network.zero_grad(set_to_none=True)
        with errors_translated():
            loss.backward()  # type: ignore[no-untyped-call]
        network = roles[role][0]
        outputs = OUTPUTS[role.partition("/")[0]]
        weight, bias = network.linear.weight.grad, network.linear.bias.grad
        if weight is None or bias is None:
            gradient = np.zeros((outputs, NUM_FEATURES)), np.zeros(outputs)
        else:
            gradient = weight.numpy().astype(np.float64), bias.numpy().astype(np.float64)
        return self._read(gradient, batch)

    def _read(self, gradient: tuple[Array, Array], batch: Transitions) -> Derivatives:
        found, unexplained = derivatives(self.inputs, batch, gradient)
        vector = np.concatenate([gradient[0].ravel(), gradient[1].ravel()])
        return Derivatives(found[: len(batch)], found[len(batch) :], vector, unexplained)


@dataclass
class Subject:
    """A class under test.

    Args:
        algorithm: The agent's algorithm, such as `dqn`.
        cls: The class.
        rng: Draws transitions and weights.
    """

    algorithm: str
    cls: type
    rng: np.random.Generator
    inputs: Inputs = field(init=False)
    weights: Weights = field(init=False)
    batch: Transitions = field(init=False)
    """Seven transitions, two of which terminate."""

    def __post_init__(self) -> None:
        self.inputs = Inputs(self.rng)
        self.weights = self.inputs.draw_weights()
        self.batch = self.inputs.draw_batch()

    @property
    def live(self) -> int:
        """The index of a row after which the episode continues."""
        return int(np.flatnonzero(~self.batch.dones)[0])

    @property
    def ended(self) -> int:
        """The index of a row that terminates."""
        return int(np.flatnonzero(self.batch.dones)[0])

    def build(
        self,
        weights: Weights | None = None,
        *,
        learning_rate: float = LEARNING_RATE,
        **settings: Any,
    ) -> Trial:
        """Make an agent and set the weights of its networks.

        Args:
            weights: Weights by role; by default the subject's.
            learning_rate: Learning rate of all its optimisers.
            **settings: Arguments of the constructor that differ from `SETTINGS`.

        Raises:
            NotWrittenYetError: If its constructor calls a method that is not written yet.
            StoppedError: If the constructor raises anything else.
        """
        features = {
            "frequencies": torch.tensor(self.inputs.frequencies),
            "phases": torch.tensor(self.inputs.phases),
        }
        networks = Networks(features, learning_rate)
        makers = networks.makers()
        chosen = {name: makers[name] for name in MAKERS[self.algorithm]}
        seed_everything(1)
        with errors_translated(), own_optimisers_replaced([networks]):
            scalars = {**SETTINGS[self.algorithm], **settings}
            agent = self.cls((2,), NUM_ACTIONS, **chosen, **scalars)
        trial = Trial(agent, networks, self.inputs)
        given = self.weights if weights is None else weights
        with torch.no_grad():
            for role, members in trial.roles().items():
                for network, (weight, bias) in zip(members, given.get(role, []), strict=False):
                    network.linear.weight.copy_(torch.tensor(weight))
                    network.linear.bias.copy_(torch.tensor(bias))
        return trial

    def shifted(
        self,
        role: str,
        change: Array,
        *,
        at_next: bool = False,
        weights: Weights | None = None,
    ) -> Weights:
        """Return weights that change the outputs of a role's networks on the batch.

        Args:
            role: A role, such as `critic/target`.
            change: What to add to the outputs, `(batch, outputs)`; nothing changes at the other
                states of the batch.
            at_next: Whether to add it at the next states instead of the states.
            weights: Weights to start from; by default the subject's.
        """
        start = self.weights if weights is None else weights
        zero = np.zeros_like(change)
        wanted = np.concatenate([zero, change] if at_next else [change, zero])
        phi = self.inputs.features(self.batch.states)
        moved, *_ = np.linalg.lstsq(phi, wanted, rcond=None)
        members = [
            ((w + moved[:-1].T).astype(np.float32), (b + moved[-1]).astype(np.float32))
            for w, b in start[role]
        ]
        return {**start, role: members}

    def outputs(self, role: str, *, at_next: bool = False) -> Array:
        """Return the outputs of a role's first network on the batch, `(batch, outputs)`."""
        states = self.batch.next_observations if at_next else self.batch.observations
        return network_outputs(self.inputs.features(states), self.weights[role][0])

    def change(
        self, row: int, amount: float, actions: Any = slice(None), outputs: int = 0
    ) -> Array:
        """Return an array for `shifted` that adds an amount in one row, to some of its outputs."""
        array = np.zeros((len(self.batch), outputs or NUM_ACTIONS))
        array[row, actions] = amount
        return array


def values_of(batch: Transitions) -> tuple[Array, ...]:
    """Return the five arrays of a batch, in the order in which methods take them."""
    return tuple(getattr(batch, one.name) for one in fields(batch))


def with_reward(batch: Transitions, row: int, amount: float) -> Transitions:
    """Return the batch with another reward in one row."""
    rewards = batch.rewards.copy()
    rewards[row] += amount
    return replace(batch, rewards=rewards)


def doubled(batch: Transitions) -> Transitions:
    """Return a batch that holds every row twice."""
    return Transitions(*(np.concatenate([part, part]) for part in values_of(batch)))


@contextmanager
def errors_translated() -> Iterator[None]:
    """Translate whatever agents raise into one of two errors.

    Raises:
        NotWrittenYetError: In place of a stub's error.
        StoppedError: In place of any other error.
    """
    try:
        with student_code.reported():
            yield
    except UserError as error:
        raise StoppedError(str(error)) from error
    except NotImplementedError as error:
        if is_unwritten(error):
            raise NotWrittenYetError(error) from error
        raise StoppedError(_described(error)) from error
    except (Exception, SystemExit) as error:
        raise StoppedError(_described(error)) from error


def _described(error: BaseException) -> str:
    text = printable(" ".join(str(error).split()))[: student_code.MAX_MESSAGE]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
