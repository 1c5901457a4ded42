"""The homework as records: its stages, its questions, and the algorithms that register themselves.

Everything that lists stages or algorithms derives the list from here. A config class registers its
algorithm with `register`; `algorithms` imports every module of `cs285.env_configs` once and returns
what they registered.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any, TypeVar

Config = TypeVar("Config", bound=type[Any])


class Stage(StrEnum):
    """What a run does; also the word in the names of scripts and run folders."""

    EXPLORE = "explore"
    OFFLINE = "offline"
    FINETUNE = "finetune"


@dataclass(frozen=True)
class StageRecord:
    """What the package knows about one stage."""

    title: str
    """Heading in tables."""
    experiments: str
    """Folder of its files below `experiments/`."""
    step_keys: tuple[str, ...]
    """Config keys that add up to the steps of a run."""
    other_keys: tuple[str, ...] = ()
    """Further config keys that only this stage reads."""

    @property
    def own_keys(self) -> frozenset[str]:
        """Config keys that no other stage reads."""
        return frozenset((*self.step_keys, *self.other_keys))


STAGES: Mapping[Stage, StageRecord] = MappingProxyType(
    {
        Stage.EXPLORE: StageRecord(
            "Exploration",
            "exploration",
            ("total_steps",),
            ("learning_starts", "num_exploration_steps"),
        ),
        Stage.OFFLINE: StageRecord("Offline learning", "offline", ("training_steps",)),
        Stage.FINETUNE: StageRecord("Fine-tuning", "finetune", ("offline_steps", "online_steps")),
    }
)

HANDOUT_STEPS = 10_000
"""Steps of exploration that the handout asks for."""


class Question(StrEnum):
    """A question of the handout: the prefix of its run folders in a hand-in."""

    EXPLORATION = "q1"
    CQL = "q2"
    ACTORS = "q3"
    DATA = "q4"
    FINETUNING = "q5"

    @property
    def section(self) -> str:
        """Section and name in the handout."""
        return _SECTIONS[self]


_SECTIONS = {
    Question.EXPLORATION: "3 Exploration",
    Question.CQL: "4.1 CQL",
    Question.ACTORS: "4.2 IQL and AWAC",
    Question.DATA: "4.3 Data ablations",
    Question.FINETUNING: "5 Online fine-tuning",
}


@dataclass(frozen=True)
class Algorithm:
    """What the package knows about one algorithm, beyond its config class and its agent."""

    name: str
    """`base_config` in YAML files."""
    title: str
    """Name in print."""
    colour: str
    """Hexadecimal colour of its curves."""
    stages: frozenset[Stage]
    """Where it can run."""
    tags: tuple[str, ...]
    """TensorBoard tags that every run of it logs, beyond those of all runs."""
    question: Question | None
    """Question of the handout that it belongs to; None if the handout does not ask for it."""
    order: int
    """Place in tables; equal places are in alphabetical order."""
    config: type[Any]
    """Its config class."""


_registered: dict[str, Algorithm] = {}


class DuplicateAlgorithmError(ValueError):
    """Two config classes registered one name."""


def register(
    name: str,
    *,
    title: str,
    colour: str,
    stages: set[Stage],
    tags: tuple[str, ...] = (),
    question: Question | None = None,
    order: int = 100,
) -> Callable[[Config], Config]:
    """Register a config class as an algorithm; arguments as in `Algorithm`.

    Raises:
        DuplicateAlgorithmError: If another class has registered this name.
    """

    def decorate(config: Config) -> Config:
        known = _registered.get(name)
        if known is not None and known.config.__qualname__ != config.__qualname__:
            raise DuplicateAlgorithmError(
                f"the algorithm `{name}` is registered twice: by {known.config.__module__} and by "
                f"{config.__module__}; give one of them another name"
            )
        _registered[name] = Algorithm(
            name, title, colour, frozenset(stages), tags, question, order, config
        )
        return config

    return decorate


@functools.cache
def algorithms() -> Mapping[str, Algorithm]:
    """Return all algorithms by name, in the order of tables."""
    package = importlib.import_module("cs285.env_configs")
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        if module.name.endswith("_config"):
            importlib.import_module(module.name)
    ordered = sorted(_registered.values(), key=lambda one: (one.order, one.name))
    return MappingProxyType({one.name: one for one in ordered})


def algorithms_of(stage: Stage) -> list[str]:
    """Return the names of the algorithms that can run in a stage, in the order of tables."""
    return [name for name, algorithm in algorithms().items() if stage in algorithm.stages]
