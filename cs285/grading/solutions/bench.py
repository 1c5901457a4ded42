"""One student class at a time: what is asked of the child, and what came back, in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cs285.grading.sandbox.sandbox import JOB_SECONDS, Sandbox
from cs285.grading.solutions.fitting import Observation
from cs285.grading.solutions.world import (
    Array,
    Inputs,
    Transitions,
    Weights,
    World,
    close,
    decode,
    decode_weights,
    derivatives,
    encode,
    make_world,
    step_between,
)

MAX_UNEXPLAINED = 2e-3
"""Part of a gradient that may be rounding."""


@dataclass(frozen=True)
class Seen:
    """What one call of a student's method did."""

    result: Any = None
    before: Weights = field(default_factory=dict)
    after: Weights = field(default_factory=dict)
    gradients: Any = None
    error: dict[str, Any] | None = None
    """What was raised, by this call or by an earlier one of its trial."""


@dataclass(frozen=True)
class Call:
    """One method to call."""

    method: str
    values: Sequence[Any] = ()
    kind: str = "call"
    """`call`; `advantage`, which passes the actor's distribution, too, where the method takes it;
    `loss`, which differentiates what comes back; `leaves`, by its inputs; `actions`."""
    epsilon: float = 0.0
    repeats: int = 1

    def as_json(self) -> dict[str, Any]:
        """Return what the child reads."""
        values = [encode(v) if isinstance(v, np.ndarray) else v for v in self.values]
        return {
            "method": self.method,
            "values": values,
            "kind": self.kind,
            "epsilon": self.epsilon,
            "repeats": self.repeats,
        }


class Bench:
    """Collects trials, each on an agent of its own, runs them as one job, and keeps what was seen.

    Args:
        sandbox: Where they run.
        inputs: Source of features and weights.
        files: Path under `cs285/agents/` to text: the student's file and those it builds on.
        module: Name of the file to check, without `.py`.
        class_name: Class in it.
        makers: Names of the network and optimiser makers that it takes.
        column_values: Let V return `(batch, 1)`, as the public starter's networks do.
    """

    def __init__(
        self,
        sandbox: Sandbox,
        inputs: Inputs,
        files: Mapping[str, str],
        module: str,
        class_name: str,
        makers: Sequence[str],
        *,
        column_values: bool = False,
    ) -> None:
        self.sandbox = sandbox
        self.inputs = inputs
        self.files = files
        self.module = module
        self.class_name = class_name
        self.makers = makers
        self.column_values = column_values
        self.weights = inputs.draw_weights()
        self.trials: list[tuple[dict[str, Any], int, list[Call]]] = []
        self.seen: dict[tuple[int, int], Seen] = {}
        self.initial: list[Weights] = []
        self.optimisers: set[str] = set()
        """Kinds of networks for which an optimiser was asked, whatever it was given."""
        self.import_error: dict[str, Any] | None = None
        self.end = ""

    def add(self, arguments: Mapping[str, Any], *calls: Call, seed: int = 1) -> int:
        """Add a trial: an agent with these scalars, and calls on it; return its number."""
        self.trials.append((dict(arguments), seed, list(calls)))
        return len(self.trials) - 1

    def run(self) -> None:
        """Run the trials that were added."""
        answer = self.sandbox.run(self._job())
        self.end = answer.end
        errors: dict[int, dict[str, Any]] = {}
        try:
            finished = self._read(answer.records, errors)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError):
            finished, self.end = False, "sent something that is not an answer"
        if not finished and not self.end and not self.import_error:
            self.end = "ended before it was done"
        missing = self.import_error or {"type": "", "message": self.end or "nothing came back"}
        for trial, (_, _, calls) in enumerate(self.trials):
            for number in range(len(calls)):
                if (trial, number) not in self.seen:
                    self.seen[trial, number] = Seen(error=errors.get(trial, missing))

    def _read(self, records: Sequence[dict[str, Any]], errors: dict[int, dict[str, Any]]) -> bool:
        """Keep what records say, errors of whole trials apart; tell whether they are complete."""
        starts: dict[int, Weights] = {}
        finished = False
        for record in records:
            stage, trial = record.get("stage"), int(record.get("trial", 0))
            if stage == "import":
                self.import_error = dict(record["error"])
            elif stage == "done":
                finished = True
            elif "error" in record:
                errors[trial] = dict(record["error"])
            elif stage == "construct":
                initial = decode_weights(record["weights"])
                self.initial.append(initial)
                self.optimisers = set(map(str, record["optimisers"]))
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
        self.seen[trial, number] = Seen(decode(record["result"]), before, after, gradients)
        starts[trial] = after

    def _job(self) -> dict[str, Any]:
        return {
            "files": {f"cs285/agents/{name}": text for name, text in self.files.items()},
            "module": f"cs285.agents.{self.module}",
            "class": self.class_name,
            "column_values": self.column_values,
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
                    "makers": self.makers,
                    "seed": seed,
                    "calls": [call.as_json() for call in calls],
                }
                for arguments, seed, calls in self.trials
            ],
        }

    # Reading what was seen

    def world(self, trial: int, call: int, batch: Transitions, index: int = 0) -> World:
        """Return the networks' values on a batch as they were before a call."""
        arguments = self.trials[trial][0]
        before = self.seen[trial, call].before
        return make_world(self.inputs, before, batch, arguments, index)

    def step(self, trial: int, call: int, role: str, index: int = 0) -> tuple[Array, Array]:
        """Return the gradient that a call followed in one network."""
        seen = self.seen[trial, call]
        return step_between(seen.before[role][index], seen.after[role][index])

    def derivative(self, gradient: tuple[Array, Array], batch: Transitions) -> Array | None:
        """Return dL/doutputs `(2 batch, outputs)`, or None if no loss on the batch explains it."""
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
        """Read a `loss` call: the loss and the derivatives by the online critic."""
        seen = self.seen[trial, call]
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
        """Read a call that updates: the derivatives by the network that moved."""
        if role not in self.seen[trial, call].after:
            return None
        found = self.derivative(self.step(trial, call, role), batch)
        return None if found is None else Observation(self.world(trial, call, batch), {role: found})

    def moved(self, trial: int, call: int, role: str) -> bool:
        """Tell whether a call changed a network."""
        seen = self.seen[trial, call]
        pairs = zip(seen.before.get(role, []), seen.after.get(role, []), strict=False)
        return any(
            not close(a, b, 1e-6)
            for before, after in pairs
            for a, b in zip(before, after, strict=True)
        )

    def same(self, first: tuple[int, int], second: tuple[int, int], role: str) -> bool:
        """Tell whether two calls left a network with the same weights."""
        a = self.seen[first].after.get(role, [])
        b = self.seen[second].after.get(role, [])
        return len(a) == len(b) and all(
            close(x, y, 1e-4)
            for one, other in zip(a, b, strict=True)
            for x, y in zip(one, other, strict=True)
        )
