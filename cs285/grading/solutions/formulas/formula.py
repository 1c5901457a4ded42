"""A formula: a loss, and the known ways to deviate from it.

A formula is a function of a `World` with named choices. The defaults are the assignment's; every
other choice is either a known variant, which is accepted, or a known mistake. A student's numbers
are compared with the assignment's formula first, then with one deviation, then solved for unknown
factors, then compared with two deviations.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from cs285.grading.solutions.world import World
from cs285.probing.inputs import Array

Rules = dict[str, Callable[[], torch.Tensor]]
Choices = dict[str, dict[Any, str]]
"""Texts by choice and value."""
HALF: Choices = {"scale": {0.5: "half of the squared error"}}
ROWS: Choices = {"reduction": {"rows": ""}}
"""A sum divided by the number of rows, which is the mean unless there is more than one per row."""
_Deviation = tuple[str, Any, str, bool]


@dataclass(frozen=True)
class Observation:
    """The derivatives on one batch, and the loss if it was returned."""

    world: World
    derivatives: dict[str, Array]
    loss: float | None = None


@dataclass(frozen=True)
class Fit:
    """The formula that fits some numbers."""

    choices: dict[str, Any]
    variants: list[str]
    mistakes: list[str]


@dataclass(frozen=True)
class Formula:
    """A loss `(world, **choices) -> scalar` and the ways to deviate from it."""

    loss: Callable[..., torch.Tensor]
    variants: Choices = field(default_factory=dict)
    mistakes: Choices = field(default_factory=dict)
    explain: Callable[[Sequence[Observation]], Fit | None] | None = None
    """Solves for factors such as the discount in numbers that fit no single deviation."""
    alone: frozenset[str] = frozenset()
    """Choices that are never paired, because `explain` solves for them or because they are rare."""
    solved: frozenset[str] = frozenset()
    """Choices any two of which `explain` solves together."""

    def mistaken(self, found: Fit) -> set[str]:
        """Return the names of a fit's choices that are not accepted variants."""
        return {n for n, v in found.choices.items() if v not in self.variants.get(n, {})}

    def deviations(self) -> Iterator[Fit]:
        """Yield choices with at most one mistake, the likeliest first."""
        variants = _listed(self.variants, accepted=True)
        mistakes = _listed(self.mistakes, accepted=False)
        return _fits(
            [()],
            [(one,) for one in variants],
            itertools.combinations(variants, 2),
            [(one,) for one in mistakes],
            itertools.product(variants, mistakes),
        )

    def pairs(self) -> Iterator[Fit]:
        """Yield choices with two mistakes that `explain` does not cover."""
        listed = [one for one in _listed(self.mistakes, accepted=False) if one[0] not in self.alone]
        return _fits(
            pair
            for pair in itertools.combinations(listed, 2)
            if not {name for name, *_ in pair} <= self.solved
        )


def _listed(choices: Choices, *, accepted: bool) -> list[_Deviation]:
    return [(n, value, text, accepted) for n, c in choices.items() for value, text in c.items()]


def _fits(*pools: Iterable[tuple[_Deviation, ...]]) -> Iterator[Fit]:
    for chosen in itertools.chain.from_iterable(pools):
        names = [name for name, *_ in chosen]
        if len(set(names)) == len(names):
            yield Fit(
                {name: value for name, value, *_ in chosen},
                [text for *_, text, accepted in chosen if accepted and text],
                [text for *_, text, accepted in chosen if not accepted],
            )
