"""A formula: a loss, and the known ways to deviate from it.

A formula is a function of a `World` with named choices. The defaults are the assignment's; every
other choice is either a known variant, which is accepted, or a known mistake. A student's numbers
are compared with the assignment's formula first, then with one deviation, then with two.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

Rules = dict[str, Callable[[], torch.Tensor]]
Choices = dict[str, dict[Any, str]]
"""The meaning of each value of each choice."""
HALF: Choices = {"scale": {0.5: "half of the squared error"}}
_Deviation = tuple[str, Any, str, bool]


@dataclass(frozen=True)
class Formula:
    """A loss `(world, **choices) -> scalar` and the ways to deviate from it."""

    loss: Callable[..., torch.Tensor]
    variants: Choices = field(default_factory=dict)
    mistakes: Choices = field(default_factory=dict)

    def deviations(self) -> Iterator[tuple[dict[str, Any], list[str], list[str]]]:
        """Yield choices with their variants and mistakes, the most likely ones first."""
        variants = [(n, v, t, True) for n, c in self.variants.items() for v, t in c.items()]
        mistakes = [(n, v, t, False) for n, c in self.mistakes.items() for v, t in c.items()]
        pools: list[Iterable[tuple[_Deviation, ...]]] = [
            [()],
            [(one,) for one in variants],
            itertools.combinations(variants, 2),
            [(one,) for one in mistakes],
            itertools.product(variants, mistakes),
            itertools.combinations(mistakes, 2),
        ]
        for chosen in itertools.chain.from_iterable(pools):
            names = [name for name, *_ in chosen]
            if len(set(names)) == len(names):
                yield (
                    {name: value for name, value, *_ in chosen},
                    [text for *_, text, accepted in chosen if accepted],
                    [text for *_, text, accepted in chosen if not accepted],
                )
