"""Selects the runs to hand in, and the question of the handout that each belongs to."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from cs285.envs.tasks import describe_task
from cs285.homework import (
    DATA_ENVIRONMENTS,
    DATA_STEPS,
    HANDOUT_STEPS,
    STAGES,
    Question,
    Stage,
    algorithms,
)
from cs285.report.collection import Collection, Run
from cs285.report.sections import answer
from cs285.results.run_folders import RunFolder

_STEPS = frozenset({"dataset_seed"}).union(*(stage.own_keys for stage in STAGES.values()))
"""Settings in which runs of the same experiment may differ."""


@dataclass(frozen=True)
class Entry:
    """A run that is handed in."""

    question: Question
    run: Run
    source: Path
    passed_over: tuple[str, ...]
    """Earlier or shorter runs of the same experiment and seed."""

    @property
    def folder(self) -> str:
        """The name of its folder in the hand-in: the question, then the name from its script."""
        given = re.sub(r"^q\d+_", "", self.source.name)
        return f"{self.question}_{given}"


class Missing(NamedTuple):
    """Runs that a question of the handout asks for but that do not exist."""

    section: str
    what: str
    command: str


def missing_runs(collection: Collection) -> list[Missing]:
    """Return the runs that the handout asks for and the collection lacks."""
    missing = []
    for section in answer(collection):
        title = f"{section.number} {section.title}"
        found = _missing_sizes(collection) if section.number == "4.3" else section.missing
        missing += [Missing(title, what, command) for what, command in found]
    return missing


def _missing_sizes(collection: Collection) -> list[tuple[str, str]]:
    """Return the runs missing for 4.3, in the environment where fewer are missing."""
    missing = []
    for env_id in DATA_ENVIRONMENTS:
        rnd, cql = (
            [one for one in collection.select(*kind) if one.first.env_id == env_id]
            for kind in ((Stage.EXPLORE, "rnd"), (Stage.OFFLINE, "cql"))
        )
        explored = {one.first.steps for one in rnd}
        # A dataset without a size in its name has as many steps as the handout asks for.
        learned = {one.dataset_steps or HANDOUT_STEPS for one in cql}
        stem = describe_task(env_id).dataset_stem
        missing.append(
            _missing_of("RND", Stage.EXPLORE, f"{stem}_rnd_", explored)
            + _missing_of("CQL", Stage.OFFLINE, f"{stem}_cql_rnd", learned)
        )
    return min(missing, key=len)


def _missing_of(
    title: str, stage: Stage, stem: str, found: Container[float]
) -> list[tuple[str, str]]:
    """Return a description and a command for every dataset size without runs."""
    command = f"python cs285/scripts/{stage.script} --dataset_dir datasets -cfg"
    folder = f"experiments/{STAGES[stage].experiments}"
    return [
        (f"{title} with {size:,} steps of data", f"{command} {folder}/{stem}{size}.yaml")
        for size in DATA_STEPS
        if size not in found
    ]


def question_of(run: Run) -> Question:
    """Return the question that a run answers.

    Graders know only these prefixes, so runs of an algorithm that the handout does not ask for get
    the question of their stage, which costs no points.
    """
    stage = Stage(run.stage)
    question = STAGES[stage].question
    if stage is Stage.OFFLINE and Stage.OFFLINE in algorithms()[run.algorithm].stages:
        question = algorithms()[run.algorithm].question or question
    sized = question in {Question.EXPLORATION, Question.CQL} and run.named_size is not None
    return Question.DATA if sized else question


def choose(collection: Collection, data_dir: Path) -> list[Entry]:
    """Return the longest run of every experiment and seed, or the newest of equally long ones."""
    same: defaultdict[tuple[object, ...], list[Run]] = defaultdict(list)
    for run in collection.runs:
        settings = sorted((k, v) for k, v in run.settings.items() if k not in _STEPS)
        name = (run.stage, run.env_id, run.algorithm, run.experiment, run.seed)
        same[*name, repr(settings)].append(run)
    entries = []
    for runs in same.values():
        *others, chosen = sorted(
            runs, key=lambda run: (run.steps, RunFolder(data_dir / run.name).began, run.name)
        )
        entries.append(
            Entry(
                question=question_of(chosen),
                run=chosen,
                source=(data_dir / chosen.name).resolve(),
                passed_over=tuple(run.name for run in reversed(others)),
            )
        )
    return sorted(entries, key=lambda entry: (entry.folder, entry.run.name))
