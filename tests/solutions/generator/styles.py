"""The ways in which the same right method can be written: independent choices, one value each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

CHOICES: dict[str, tuple[str, ...]] = {
    # How the file looks
    "comments": ("todo", "own", "none"),
    "docstrings": ("yes", "no"),
    "hints": ("yes", "no"),
    "newlines": ("lf", "crlf"),
    "layout": ("four_spaces", "two_spaces", "tabs", "unparsed"),
    "functional": ("F", "nn.functional", "torch.nn.functional"),
    "arguments": ("starter", "plural", "hungarian"),
    "locals": ("starter", "short", "verbose"),
    "attributes": ("starter", "own_renamed", "all_renamed"),
    "super": ("plain", "explicit"),
    "extra_arguments": ("no", "yes"),
    "metrics": ("full", "none", "extra"),
    "asserts": ("yes", "no"),
    "helpers": ("none", "methods", "functions", "module"),
    "context": ("tree", "alone"),
    "gaps": ("placeholder", "ellipsis", "not_implemented", "pass"),
    # How one quantity is computed
    "pick": (
        "gather",
        "gather_last",
        "gather_view",
        "gather_index",
        "arange",
        "one_hot",
        "take_along",
        "einsum",
    ),
    "squares": ("attribute", "mse_loss", "pow", "square", "stars", "module", "mean", "sum_by_len"),
    "gradient": ("block", "detach", "in_loss", "helper"),
    "mask": (
        "float",
        "tilde",
        "int",
        "logical_not",
        "equals",
        "where",
        "masked_fill",
        "assign",
    ),
    "bootstrap": ("sum", "product_last", "two_lines", "in_place"),
    "td_shape": ("flat", "column"),
    "max": ("values", "index", "amax", "argmax"),
    "double": ("if_else", "ternary", "early"),
    "targets": ("made_twice", "deepcopy"),
    "copy": ("state_dict", "zip"),
    "steps": ("inherited", "own"),
    "greedy": ("if_else", "early_return", "torch_rand"),
    "cql_base": ("super", "recomputed"),
    "lse": ("torch", "method", "by_hand"),
    "cql_temperature": ("starter", "scaled"),
    "expectation": ("sum", "einsum", "softmax", "bmm", "sampled"),
    "awac_next": ("target", "online"),
    "baseline": ("sum", "einsum", "sampled", "fresh_dist"),
    "advantage_gradient": ("block", "decorator", "detach_result", "detach_use"),
    "log_prob": ("log_prob", "log_softmax", "cross_entropy", "logits"),
    "exponential": ("torch", "method", "inverse", "clamped"),
    "actor_mean": ("minus_mean", "mean_of_minus", "sum_by_len"),
    "advantage_use": ("plain", "flattened"),
    "actor_acts": ("inherited", "samples", "mode", "epsilon"),
    "v_shape": (
        "squeeze_last",
        "squeeze_one",
        "squeeze_bare",
        "index",
        "view",
        "flatten",
        "reshape",
        "helper",
        "in_loss",
        "column",
        "wrapped",
    ),
    "v_target": ("target", "online"),
    "v_regresses": ("critic", "target_critic"),
    "expectile": ("where", "abs", "relu", "weights", "mask_sum"),
    "iql_actor": ("inherited", "overridden"),
    "rnd_error": ("norm", "squared_sum", "squared_mean", "mse_none"),
    "rnd_scale": ("z_score", "none", "by_deviation", "min_max"),
    "rnd_state": ("next", "current"),
    "rnd_rewards": ("added", "replaced"),
    "rnd_step": ("super_update", "update_critic"),
    "rnd_order": ("after", "before"),
    "random_draw": ("randint", "array", "torch", "random", "choice"),
}
"""Every choice with its values, the most usual one first."""


@dataclass(frozen=True)
class Style:
    """One value for every choice."""

    values: tuple[str, ...]

    def __getitem__(self, choice: str) -> str:
        return self.values[_POSITION[choice]]

    def changed(self, **values: str) -> Style:
        """Return this style with some other values."""
        return make_style({**dict(zip(CHOICES, self.values, strict=True)), **values})

    def items(self) -> Iterator[tuple[str, str]]:
        """Yield each choice with its value."""
        return zip(CHOICES, self.values, strict=True)


_POSITION = {choice: position for position, choice in enumerate(CHOICES)}


def make_style(values: Mapping[str, str]) -> Style:
    """Return a style with the given values and the most usual ones, made free of contradictions.

    A file that is checked alone stands on parents that have the starter's attributes, so it cannot
    rename those.
    """
    style = {choice: values.get(choice, options[0]) for choice, options in CHOICES.items()}
    if style["attributes"] == "all_renamed":
        style["context"] = "tree"
    return Style(tuple(style.values()))


def random_style(rng: np.random.Generator) -> Style:
    """Draw every choice on its own."""
    return make_style({choice: str(rng.choice(options)) for choice, options in CHOICES.items()})


class Covering:
    """Draws styles such that pairs of values of two choices soon have all been seen.

    Each new style is the best of a few random ones: that with the most pairs, among the choices
    that matter, that have been seen least.
    """

    def __init__(self, rng: np.random.Generator, candidates: int = 8) -> None:
        self.rng = rng
        self.candidates = candidates
        self.seen: Counter[tuple[str, ...]] = Counter()

    def draw(self, choices: tuple[str, ...]) -> Style:
        """Return a style that covers much of what is new in the given choices."""
        drawn = [random_style(self.rng) for _ in range(self.candidates)]
        best = max(drawn, key=lambda style: self._novelty(style, choices))
        self.seen.update(self._pairs(best, choices))
        return best

    def _pairs(self, style: Style, choices: tuple[str, ...]) -> list[tuple[str, ...]]:
        return [(one, style[one], other, style[other]) for one, other in combinations(choices, 2)]

    def _novelty(self, style: Style, choices: tuple[str, ...]) -> float:
        return sum(1.0 / (1 + self.seen[pair]) for pair in self._pairs(style, choices))
