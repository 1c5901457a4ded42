"""Reads and checks `rubric.yaml`, which says what a hand-in gets points for."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from cs285.envs.tasks import known_tasks
from cs285.homework import Stage, algorithms, title_of
from cs285.infrastructure.errors import UserError
from cs285.infrastructure.yaml_text import InvalidYamlError, parse_yaml

DEFAULT = Path(__file__).with_name("rubric.yaml")
ENVIRONMENTS = {task.name: env_id for env_id, task in known_tasks().items()}

Points = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1)]


def _registered(name: str) -> str:
    if name not in algorithms():
        raise ValueError(f"the algorithms are {', '.join(algorithms())}")
    return name


def _known(name: str) -> str:
    if name not in ENVIRONMENTS:
        raise ValueError(f"the environments are {', '.join(ENVIRONMENTS)}")
    return name


Algorithm = Annotated[str, AfterValidator(_registered)]
Environment = Annotated[str, AfterValidator(_known)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Experiment(_Strict):
    """Runs that a question asks for: one of these algorithms in one of these environments."""

    stage: Stage
    algorithms: Annotated[tuple[Algorithm, ...], Field(min_length=1)]
    environments: Annotated[tuple[Environment, ...], Field(min_length=1)]
    steps: Count
    points: Points
    seeds: Count = 1
    dataset_steps: Count | None = None
    """Number of exploration steps in the dataset that the run collects or learns from."""
    alphas: Count | None = None
    """Number of different alphas of CQL; DQN counts as alpha 0."""
    score: Fraction | None = None
    """Threshold for the normalised final return."""
    coverage: Fraction | None = None
    """Threshold for the fraction of free cells that exploration visited."""
    goals: Count | None = None
    """Threshold for the number of times that exploration reached the goal."""

    @property
    def env_ids(self) -> tuple[str, ...]:
        """The Gymnasium ids of the environments."""
        return tuple(ENVIRONMENTS[name] for name in self.environments)

    @property
    def name(self) -> str:
        """A title of the experiment for messages."""
        algorithms = " or ".join(title_of(name) for name in self.algorithms)
        places = " or ".join(known_tasks()[env_id].title for env_id in self.env_ids)
        what = "fine-tuning: " if self.stage is Stage.FINETUNE else ""
        size = f", {self.dataset_steps:,} steps of data" if self.dataset_steps else ""
        alphas = f", {self.alphas} alphas" if self.alphas else ""
        return f"{what}{algorithms} on {places}{size}{alphas}"


class Question(_Strict):
    """A question of the handout; its key in the rubric is the prefix of its run folders."""

    title: str
    experiments: Annotated[tuple[Experiment, ...], Field(min_length=1)]
    one_environment: bool = False
    """Whether all of its experiments must be in the same environment."""


class ItemPoints(_Strict):
    """Points for everything except experiments."""

    size: Points
    structure: Points
    names: Points
    logs: Points
    code: Points


class Visibility(StrEnum):
    """When a student sees an item on Gradescope; the values are Gradescope's."""

    HIDDEN = "hidden"
    AFTER_DUE_DATE = "after_due_date"
    AFTER_PUBLISHED = "after_published"
    VISIBLE = "visible"


class GradescopeChoices(_Strict):
    """What Gradescope shows; this changes no grade."""

    visibility: dict[str, Visibility] = {}
    """Visibility of parts of the grade; other parts are visible."""
    leaderboard: bool = True


class Rubric(_Strict):
    """Everything that decides a grade."""

    max_megabytes: Annotated[float, Field(gt=0)]
    points: ItemPoints
    tags: dict[Algorithm | Stage, tuple[str, ...]]
    questions: dict[Annotated[str, Field(pattern=r"^q\d+$")], Question]
    gradescope: GradescopeChoices = GradescopeChoices()

    @property
    def parts(self) -> dict[str, str]:
        """The titles of the parts of a grade by key, in the order of a grade."""
        return {
            "size": "Size",
            "structure": "Structure",
            "names": "Names",
            "logs": "Logs",
            **{key: f"{key} ({question.title})" for key, question in self.questions.items()},
            "code": "Code",
        }

    @model_validator(mode="after")
    def _check_parts(self) -> Self:
        for part in self.gradescope.visibility:
            if part not in self.parts:
                raise ValueError(
                    f"gradescope.visibility has the unknown part {part!r}; "
                    f"the parts are {', '.join(self.parts)}"
                )
        return self

    @property
    def algorithms(self) -> frozenset[str]:
        """The algorithms that any experiment asks for."""
        return frozenset(
            name
            for question in self.questions.values()
            for experiment in question.experiments
            for name in experiment.algorithms
        )

    @property
    def maximum(self) -> float:
        """The points available."""
        points = self.points
        others = points.size + points.structure + points.names + points.logs + points.code
        return others + sum(
            experiment.points
            for question in self.questions.values()
            for experiment in question.experiments
        )


def load_rubric(path: Path | None = None) -> Rubric:
    """Read a rubric, by default this package's.

    Raises:
        UserError: If the file cannot be read or is not a valid rubric.
    """
    path = path or DEFAULT
    try:
        return Rubric.model_validate(parse_yaml(path.read_bytes(), what="rubric"))
    except OSError as error:
        raise UserError(f"cannot read the rubric {path}: {error.strerror}") from error
    except InvalidYamlError as error:
        raise UserError(f"the rubric {path} is not usable: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise UserError(f"the rubric {path} is not usable: {place}: {first['msg']}") from error
