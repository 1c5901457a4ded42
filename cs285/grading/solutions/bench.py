"""The calls that a child process makes on one student class, and their outcomes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cs285.grading.sandbox.ends import End, Ending
from cs285.grading.sandbox.sandbox import JOB_SECONDS, Sandbox
from cs285.grading.solutions.assignment import AgentFile
from cs285.grading.solutions.fitting import Observation
from cs285.grading.solutions.world import World, decode, decode_weights, encode, make_world
from cs285.probing.inputs import (
    MAX_UNEXPLAINED,
    Array,
    Inputs,
    Transitions,
    Weights,
    close,
    derivatives,
    step_between,
)

_DONE = Ending(End.DONE)


@dataclass(frozen=True)
class Failure:
    """Why a call returned no numbers: an exception, or the end of its process."""

    type: str = ""
    """Name of the exception's class; empty if the process ended."""
    message: str = ""
    function: str = ""
    """The innermost function of the hand-in in the traceback."""
    file: str = ""
    """The hand-in's file with that function, such as `cs285/agents/dqn_agent.py`."""
    line: str = ""
    missing: str = ""
    """The method to call, if the class does not have it."""
    name: str = ""
    """The module that an import did not find, or that lacked the imported name."""
    inherited: str = ""
    """The parent's method, not from the hand-in, in which the error was raised."""
    shapes: Mapping[str, str] = field(default_factory=dict)
    """Shapes of the tensors in that method, by name."""
    ending: Ending = _DONE

    @classmethod
    def from_json(cls, error: Mapping[str, Any]) -> Failure:
        """Read a child process's report of an error, none of which can be trusted."""

        def read(name: str) -> str:
            return str(error.get(name) or "")

        above = dict(error.get("inherited") or {})
        shapes = {
            str(name): str(tuple(int(size) for size in shape))
            for name, shape in dict(above.get("shapes") or {}).items()
        }
        return cls(
            read("type"),
            read("message"),
            read("function"),
            read("file"),
            read("line"),
            read("missing"),
            read("name"),
            str(above.get("function") or ""),
            shapes,
        )

    def text_for(self, file: str) -> str:
        """Return the failure as a message for the author of an agent file."""
        if not self.type:
            return self.ending.text
        text = f"{self.type}: {self.message}" if self.message else self.type
        if self.line:
            name = self.file.removeprefix("cs285/agents/")
            text += f" (line {self.line}{'' if name == file else f' of {name}'})"
        if self.inherited:
            text += f", in the inherited `{self.inherited}`"
            operands = [f"{name} {shape}" for name, shape in self.shapes.items()]
            text += f" on {', '.join(operands)}" if operands else ""
        return text


@dataclass(frozen=True)
class Outcome:
    """The outcome of one call of a student's method."""

    result: Any = None
    before: Weights = field(default_factory=dict)
    after: Weights = field(default_factory=dict)
    gradients: Any = None
    shared: frozenset[str] = frozenset()
    """Kinds of networks whose target shares its parameters with the online network."""
    has_foreign_schedule: bool = False
    """Whether the schedule belongs to another optimiser than the one that trained the critic."""
    failure: Failure | None = None
    """Why this call, or an earlier one in its trial, returned nothing."""


@dataclass(frozen=True)
class Call:
    """One call of a method."""

    method: str
    values: Sequence[Any] = ()
    kind: str = "call"
    """`call`; `advantage`, which also passes the actor's distribution if the method takes one;
    `loss`, which differentiates the result with respect to the weights; `leaves`, which does so
    with respect to the inputs; `actions`."""
    epsilon: float = 0.0
    repeats: int = 1

    def as_json(self) -> dict[str, Any]:
        """Return the call in the form that the child process reads."""
        values = [encode(v) if isinstance(v, np.ndarray) else v for v in self.values]
        return {
            "method": self.method,
            "values": values,
            "kind": self.kind,
            "epsilon": self.epsilon,
            "repeats": self.repeats,
        }


class Bench:
    """Collects trials, each with a new agent, runs them as one job and keeps the results.

    Args:
        sandbox: Where they run.
        inputs: Source of features and weights.
        files: Text by path below the package's parent folder: the student's files, and those that
            they need.
        own: The paths of the student's files.
        agent: The file to check.
    """

    def __init__(
        self,
        sandbox: Sandbox,
        inputs: Inputs,
        files: Mapping[str, str],
        own: Collection[str],
        agent: AgentFile,
    ) -> None:
        self.sandbox = sandbox
        self.inputs = inputs
        self.files = files
        self.own = own
        self.agent = agent
        self.weights = inputs.draw_weights()
        self.trials: list[tuple[dict[str, Any], int, list[Call]]] = []
        self.outcomes: dict[tuple[int, int], Outcome] = {}
        self.initial: list[Weights] = []
        self.optimisers: set[str] = set()
        """Kinds of networks for which an optimiser was made, whatever its parameters."""
        self.own_optimisers: set[str] = set()
        """Kinds of networks whose optimisers the class makes itself, not with the given makers."""
        self.shared: set[str] = set()
        """Kinds of networks whose target shares their parameters in a new agent."""
        self.import_failure: Failure | None = None
        self.construct_failure: Failure | None = None

    def add(self, arguments: Mapping[str, Any], *calls: Call, seed: int = 1) -> int:
        """Add a trial: an agent with these scalars, and calls on it. Return its number."""
        self.trials.append((dict(arguments), seed, list(calls)))
        return len(self.trials) - 1

    def run(self) -> None:
        """Run the trials added so far."""
        answer = self.sandbox.run(self._job())
        ending = answer.ending
        failures: dict[int, Failure] = {}
        try:
            finished = self._read(answer.records, failures)
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError):
            finished, ending = False, Ending(End.NOT_AN_ANSWER)
        if not finished and ending.end is End.DONE:
            ending = Ending(End.UNFINISHED)
        missing = self.import_failure or Failure(ending=ending)
        for trial, (_, _, calls) in enumerate(self.trials):
            for number in range(len(calls)):
                if (trial, number) not in self.outcomes:
                    self.outcomes[trial, number] = Outcome(failure=failures.get(trial, missing))

    def _read(self, records: Sequence[dict[str, Any]], failures: dict[int, Failure]) -> bool:
        """Store the contents of the child's records; return whether they are complete."""
        starts: dict[int, Weights] = {}
        finished = False
        for record in records:
            stage, trial = record.get("stage"), int(record.get("trial", 0))
            if stage == "import":
                self.import_failure = Failure.from_json(record["error"])
            elif stage == "done":
                finished = True
            elif "error" in record:
                failures[trial] = Failure.from_json(record["error"])
                if stage == "construct" and self.construct_failure is None:
                    self.construct_failure = failures[trial]
            elif stage == "construct":
                initial = decode_weights(record["weights"])
                self.initial.append(initial)
                self.optimisers = set(map(str, record["optimisers"]))
                self.own_optimisers = set(map(str, record["own_optimisers"]))
                self.shared = set(map(str, record["shared"]))
                starts[trial] = {
                    role: [
                        self.weights[role][k] if k < len(self.weights[role]) else member
                        for k, member in enumerate(members)
                    ]
                    for role, members in initial.items()
                }
            elif stage == "call":
                self._keep(trial, record, starts)
        return finished

    def _keep(self, trial: int, record: dict[str, Any], starts: dict[int, Weights]) -> None:
        number = int(record["call"])
        before = starts[trial]
        after = decode_weights(record["weights"])
        gradients = record.get("gradients")
        kind = self.trials[trial][2][number].kind
        if gradients is not None:
            gradients = decode_weights(gradients) if kind == "loss" else decode(gradients)
        shared = frozenset(map(str, record["shared"]))
        self.outcomes[trial, number] = Outcome(
            decode(record["result"]),
            before,
            after,
            gradients,
            shared,
            bool(record["foreign_schedule"]),
        )
        starts[trial] = after

    def _job(self) -> dict[str, Any]:
        return {
            "files": dict(self.files),
            "own": sorted(self.own),
            "module": f"cs285.agents.{self.agent.module}",
            "class": self.agent.class_name,
            "seconds": JOB_SECONDS,
            "features": {
                "frequencies": encode(self.inputs.frequencies),
                "phases": encode(self.inputs.phases),
            },
            "weights": {
                role: [[encode(w), encode(b)] for w, b in members]
                for role, members in self.weights.items()
            },
            "trials": [
                {
                    "arguments": arguments,
                    "makers": self.agent.makers,
                    "seed": seed,
                    "calls": [call.as_json() for call in calls],
                }
                for arguments, seed, calls in self.trials
            ],
        }

    def is_not_handed_in(self, failure: Failure) -> bool:
        """Return whether an import failed because a module, or a name in it, was not handed in."""
        if failure.type == "ModuleNotFoundError":
            return True
        own = f"{failure.name.replace('.', '/')}.py"
        return failure.type == "ImportError" and bool(failure.name) and own not in self.own

    # Reading the results

    def world(self, trial: int, call: int, batch: Transitions, index: int = 0) -> World:
        """Return the networks' outputs on a batch before a call."""
        arguments = self.trials[trial][0]
        before = self.outcomes[trial, call].before
        if "value/online" in before and "value/target" not in before:
            # IQL may have no target V; formulas then read V itself under that name.
            before = {**before, "value/target": before["value/online"]}
        return make_world(self.inputs, before, batch, arguments, index)

    def step(self, trial: int, call: int, role: str, index: int = 0) -> tuple[Array, Array]:
        """Return the gradient that a call followed in one network."""
        seen = self.outcomes[trial, call]
        return step_between(seen.before[role][index], seen.after[role][index])

    def derivative(self, gradient: tuple[Array, Array], batch: Transitions) -> Array | None:
        """Return dL/doutputs `(2 batch, outputs)`, or None if no loss on the batch fits it."""
        solution, unexplained = derivatives(self.inputs, batch, gradient)
        return solution if unexplained < MAX_UNEXPLAINED else None

    def observe_losses(
        self, trials: Sequence[int], batches: Sequence[Transitions]
    ) -> list[Observation | None]:
        """Read the first call of every trial as a `loss` call on its batch."""
        return [self.observe_loss(t, 0, b) for t, b in zip(trials, batches, strict=True)]

    def observe_steps(
        self, trials: Sequence[int], batches: Sequence[Transitions], role: str
    ) -> list[Observation | None]:
        """Read the first call of every trial as a step of one network on its batch."""
        return [self.observe_step(t, 0, b, role) for t, b in zip(trials, batches, strict=True)]

    def observe_loss(self, trial: int, call: int, batch: Transitions) -> Observation | None:
        """Read a `loss` call: the loss and its derivatives with respect to the online critic."""
        seen = self.outcomes[trial, call]
        if "critic/online" not in seen.gradients:
            return None
        found = self.derivative(seen.gradients["critic/online"][0], batch)
        loss = seen.result[0] if isinstance(seen.result, list) else seen.result
        if found is None or not isinstance(loss, np.ndarray) or loss.size != 1:
            return None
        world = self.world(trial, call, batch)
        return Observation(world, {"critic/online": found}, float(loss.ravel()[0]))

    def observe_step(
        self, trial: int, call: int, batch: Transitions, role: str
    ) -> Observation | None:
        """Read an updating call: the derivatives with respect to the network that it trains."""
        if role not in self.outcomes[trial, call].after:
            return None
        found = self.derivative(self.step(trial, call, role), batch)
        return None if found is None else Observation(self.world(trial, call, batch), {role: found})

    def moved(self, trial: int, call: int, role: str) -> bool:
        """Return whether a call changed a network."""
        seen = self.outcomes[trial, call]
        pairs = zip(seen.before.get(role, []), seen.after.get(role, []), strict=False)
        return any(
            not close(a, b, 1e-6)
            for before, after in pairs
            for a, b in zip(before, after, strict=True)
        )

    def same(self, first: tuple[int, int], second: tuple[int, int], role: str) -> bool:
        """Return whether two calls left a network with the same weights."""
        a = self.outcomes[first].after.get(role, [])
        b = self.outcomes[second].after.get(role, [])
        return len(a) == len(b) and all(
            # Weights that overflow cannot be compared.
            close(x, y, 1e-4) or not (np.isfinite(x).all() or np.isfinite(y).all())
            for one, other in zip(a, b, strict=True)
            for x, y in zip(one, other, strict=True)
        )
