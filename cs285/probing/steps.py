"""Reads the steps that methods take on networks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cs285.probing.inputs import Array, Transitions, Weights
from cs285.probing.subject import Derivatives, Outcome, Subject, Trial, values_of
from cs285.probing.targets import same


@dataclass(frozen=True)
class StepReader:
    """Reads the step that a new agent takes on one network."""

    subject: Subject
    method: str
    role: str
    takes: int
    """Number of a batch's arrays that the method takes, from the first on."""

    def __call__(
        self, batch: Transitions, weights: Weights | None = None, **settings: Any
    ) -> Derivatives:
        """Return the derivatives with respect to the network's outputs."""
        trial, outcome = self.outcome_of(batch, weights, **settings)
        return trial.read_step(outcome, self.role, batch)

    def outcome_of(
        self, batch: Transitions, weights: Weights | None = None, **settings: Any
    ) -> tuple[Trial, Outcome]:
        """Take the step."""
        trial = self.subject.build(weights, **settings)
        return trial, trial.outcome_of(self.method, *self.values(batch))

    def values(self, batch: Transitions) -> tuple[Array, ...]:
        """Return the method's arguments."""
        return values_of(batch)[: self.takes]

    def repeated(self) -> Iterator[str]:
        """Yield a complaint if the second step contains the first."""
        batch = self.subject.batch
        trial, first = self.outcome_of(batch)
        again = trial.outcome_of(self.method, *self.values(batch))
        second, fresh = trial.read_step(again, self.role, batch), self(batch, first.after)
        if not same(second.gradient, fresh.gradient):
            yield "the second step contains the gradient of the first; check `zero_grad()`"
