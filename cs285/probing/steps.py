"""Reads the steps that methods take on networks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cs285.probing.inputs import Array, Transitions, Weights
from cs285.probing.subject import Read, Seen, Subject, Trial, values_of
from cs285.probing.targets import same


@dataclass(frozen=True)
class StepReader:
    """Reads a step of a new agent on one network."""

    subject: Subject
    method: str
    role: str
    takes: int
    """How many arrays of a batch the method takes, from the first on."""

    def __call__(self, batch: Transitions, weights: Weights | None = None, **settings: Any) -> Read:
        """Return the derivatives by the network's values."""
        trial, seen = self.see(batch, weights, **settings)
        return trial.read_step(seen, self.role, batch)

    def see(
        self, batch: Transitions, weights: Weights | None = None, **settings: Any
    ) -> tuple[Trial, Seen]:
        """Take the step."""
        trial = self.subject.build(weights, **settings)
        return trial, trial.see(self.method, *self.values(batch))

    def values(self, batch: Transitions) -> tuple[Array, ...]:
        """Return what the method takes."""
        return values_of(batch)[: self.takes]

    def repeated(self) -> Iterator[str]:
        """Yield whether a second step contains the first."""
        batch = self.subject.batch
        trial, first = self.see(batch)
        again = trial.see(self.method, *self.values(batch))
        second, fresh = trial.read_step(again, self.role, batch), self(batch, first.after)
        if not same(second.gradient, fresh.gradient):
            yield "the second step contains the gradient of the first; look at `zero_grad()`"
