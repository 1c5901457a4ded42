"""Records of the homework: its stages, its questions, and the algorithms that register themselves.

Everything that lists stages or algorithms derives the list from here. A config class registers its
algorithm with `register`; `algorithms` imports every module of `cs285.env_configs` once and returns
what they registered.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any, TypeVar

from cs285.infrastructure.errors import UserError

Config = TypeVar("Config", bound=type[Any])


class Stage(StrEnum):
    """The kind of training that a run does; also part of the names of scripts and run folders."""

    EXPLORE = "explore"
    OFFLINE = "offline"
    FINETUNE = "finetune"

    @property
    def script(self) -> str:
        """File name of its script in `cs285/scripts`."""
        return f"run_hw5_{self}.py"


class Question(StrEnum):
    """A question of the handout: the prefix of its run folders in a hand-in."""

    EXPLORATION = "q1"
    CQL = "q2"
    ACTORS = "q3"
    DATA = "q4"
    FINETUNING = "q5"

    @property
    def section(self) -> str:
        """Number and title of its section in the handout."""
        return _SECTIONS[self]


_SECTIONS = {
    Question.EXPLORATION: "3 Exploration",
    Question.CQL: "4.1 CQL",
    Question.ACTORS: "4.2 IQL and AWAC",
    Question.DATA: "4.3 Data ablations",
    Question.FINETUNING: "5 Online fine-tuning",
}


@dataclass(frozen=True)
class StageRecord:
    """What the package knows about one stage."""

    title: str
    """Heading in tables."""
    name: str
    """Name in the first column of tables with several stages."""
    verb: str
    """What its algorithms do, after "cannot"."""
    experiments: str
    """Folder of its YAML files in `experiments/`."""
    step_keys: tuple[str, ...]
    """Config keys that add up to the steps of a run."""
    question: Question
    """Question of its runs, unless their algorithm belongs to another one."""
    visualize_interval: int
    """Default number of steps between figures, for four figures per run. Each takes about 100 kB of
    the 15 MB that a hand-in may have."""
    other_folders: tuple[str, ...] = ()
    """Alternative names of the folder `experiments`, as in the public starter."""
    other_keys: tuple[str, ...] = ()
    """Further config keys that no other stage reads."""
    ignored_keys: tuple[str, ...] = ()
    """Config keys that other stages read but this one does not."""

    @property
    def folders(self) -> tuple[str, ...]:
        """All names of the folder of its YAML files."""
        return (self.experiments, *self.other_folders)

    @property
    def own_keys(self) -> frozenset[str]:
        """Config keys that no other stage reads."""
        return frozenset((*self.step_keys, *self.other_keys))


STAGES: Mapping[Stage, StageRecord] = MappingProxyType(
    {
        Stage.EXPLORE: StageRecord(
            title="Exploration",
            name="Exploration",
            verb="explore",
            experiments="exploration",
            step_keys=("total_steps",),
            question=Question.EXPLORATION,
            visualize_interval=2_500,
            other_keys=("learning_starts", "num_exploration_steps"),
            ignored_keys=("dataset_seed",),
        ),
        Stage.OFFLINE: StageRecord(
            title="Offline learning",
            name="Offline",
            verb="learn from a dataset",
            experiments="offline",
            step_keys=("training_steps",),
            question=Question.CQL,
            visualize_interval=25_000,
            ignored_keys=("epsilon", "updates_per_step"),
        ),
        Stage.FINETUNE: StageRecord(
            title="Fine-tuning",
            name="Fine-tuned",
            verb="be fine-tuned",
            experiments="finetune",
            other_folders=("finetuning",),
            step_keys=("offline_steps", "online_steps"),
            question=Question.FINETUNING,
            visualize_interval=25_000,
        ),
    }
)

HANDOUT_STEPS = 10_000
"""Steps of exploration that the handout asks for."""
DATA_STEPS = (1_000, 5_000, HANDOUT_STEPS, 20_000)
"""Steps of exploration that question 4.3 compares; the handout asks for no others."""
DATA_ENVIRONMENTS = ("PointmassMedium-v0", "PointmassHard-v0")
"""The environments in one of which it compares them, easiest first."""


def keys_of_other_stages(stage: Stage) -> frozenset[str]:
    """Return the config keys that only stages other than this one read."""
    others = (record.own_keys for other, record in STAGES.items() if other != stage)
    return frozenset().union(*others) - STAGES[stage].own_keys


@dataclass(frozen=True)
class Algorithm:
    """What the package knows about one algorithm, in addition to its config class and its agent."""

    name: str
    """`base_config` in YAML files."""
    title: str
    """Name in figures and tables."""
    colour: str
    """Colour of its curves, as `#rrggbb`."""
    stages: frozenset[Stage]
    """The stages that it can run in."""
    tags: tuple[str, ...]
    """TensorBoard tags of its losses; every run that learns logs them all."""
    question: Question | None
    """The handout's question that asks for it, or None."""
    order: int
    """Position in tables; ties are in alphabetical order."""
    config: type[Any]
    """Its config class."""


_registered: dict[str, Algorithm] = {}


class RegistrationError(UserError):
    """A class cannot be registered under a name, which is taken or not a plain word."""


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
    """Register a config class as an algorithm; the arguments are the fields of `Algorithm`.

    Raises:
        RegistrationError: If another class has registered this name, or if it does not consist of
            lower-case letters, digits and underscores, with a letter first.
    """

    def decorate(config: Config) -> Config:
        if not re.fullmatch("[a-z][a-z0-9_]*", name):
            raise RegistrationError(
                f"{config.__module__} registers the algorithm {name!r}; its name must consist of "
                "lower-case letters, digits and underscores, with a letter first"
            )
        known = _registered.get(name)
        if known is not None and _place(known.config) != _place(config):
            raise RegistrationError(
                f"the algorithm `{name}` is registered twice, by {known.config.__module__} and by "
                f"{config.__module__}; give one of them another name"
            )
        _registered[name] = Algorithm(
            name, title, colour, frozenset(stages), tags, question, order, config
        )
        return config

    return decorate


def _place(config: type[Any]) -> tuple[str, str]:
    return config.__module__, config.__qualname__


@functools.cache
def algorithms() -> Mapping[str, Algorithm]:
    """Return all algorithms by name, in the order used in tables.

    Raises:
        RegistrationError: If an algorithm cannot be registered.
    """
    package = importlib.import_module("cs285.env_configs")
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        if module.name.endswith("_config"):
            importlib.import_module(module.name)
    ordered = sorted(_registered.values(), key=lambda one: (one.order, one.name))
    return MappingProxyType({one.name: one for one in ordered})


def algorithms_of(stage: Stage) -> list[str]:
    """Return the names of the algorithms that can run in a stage, in the order used in tables."""
    return [name for name, algorithm in algorithms().items() if stage in algorithm.stages]


def algorithms_for(question: Question | None) -> list[str]:
    """Return the names of a question's algorithms, or those of none, in the order of tables."""
    return [name for name, algorithm in algorithms().items() if algorithm.question == question]


def keys_without_effect(algorithm: str, keys: Iterable[str]) -> list[str]:
    """Return the config keys among `keys` that only other algorithms read."""
    own = algorithms()[algorithm].config.model_fields
    known = frozenset[str]().union(*(one.config.model_fields for one in algorithms().values()))
    return [key for key in keys if key in known and key not in own]


def usual_stage(algorithm: str) -> Stage:
    """Return the likeliest stage of a run whose folder does not name one."""
    known = algorithms().get(algorithm)
    return Stage.EXPLORE if known and known.stages == {Stage.EXPLORE} else Stage.OFFLINE


def title_of(algorithm: str) -> str:
    """Return the title of a registered algorithm."""
    return algorithms()[algorithm].title


def order_of(algorithm: str) -> int:
    """Return the position of an algorithm in tables; unknown ones come last."""
    names = list(algorithms())
    return names.index(algorithm) if algorithm in names else len(names)
