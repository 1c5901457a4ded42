"""The runs of a hand-in: what their folders say they are, and their logs."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath

from pydantic import BaseModel, ValidationError

from cs285.datasets.dataset_files import Dataset, load_dataset
from cs285.envs.tasks import get_task, known_tasks
from cs285.grading.archives import open_zip, printable
from cs285.grading.hand_ins.logs import RunLog, read_log
from cs285.grading.hand_ins.unpacking import HandIn
from cs285.homework import Stage, usual_stage
from cs285.infrastructure.errors import UserError
from cs285.infrastructure.yaml_text import parse_yaml
from cs285.results.folder_names import FolderName, parse_folder_name, size_in_name
from cs285.results.run_folders import ANY_EVENTS, CONFIG, SUMMARY
from cs285.results.run_summary import RunSummary

MAX_RUNS = 300
MAX_LOGS = 96_000_000
"""Bytes of event files that are read in all: half a minute's work."""
MAX_DATASET_CONTENT = 8_000_000
"""Bytes of a dataset's arrays; 20,000 steps have 0.6 million."""
HANDOUT_DATASET_STEPS = 10_000
"""Steps of a dataset whose name tells none."""
_UNUSABLE = (
    ArithmeticError, AttributeError, LookupError, OSError, RecursionError, TypeError, ValueError,
)  # fmt: skip
"""What pydantic raises for files that were made to break it."""


class RunConfig(BaseModel, frozen=True, allow_inf_nan=False):
    """What a grader takes from `config.yaml`, which logs of public versions do not have."""

    base_config: str
    env_name: str
    exp_name: str
    seed: int
    dataset_name: str = ""
    cql_alpha: float | None = None
    total_steps: int = 0
    training_steps: int = 0
    offline_steps: int = 0
    online_steps: int = 0

    @property
    def planned_steps(self) -> int:
        """All steps of the run; the keys of other stages are not in the file."""
        return self.total_steps + self.training_steps + self.offline_steps + self.online_steps


@dataclass(frozen=True)
class Explored:
    """What a dataset of the hand-in holds."""

    transitions: int
    coverage: float
    goals: int


@dataclass(frozen=True, eq=False)
class Run:
    """One run folder."""

    folder: PurePosixPath
    prefix: str
    """The question that its name or that of a folder around it begins with, as `q2`."""
    told: FolderName
    """What its name tells without that."""
    log: RunLog
    config: RunConfig | None = None
    summary: RunSummary | None = None
    unreadable: tuple[str, ...] = ()
    """Files of it that could not be read, and why."""
    dataset: Explored | None = None
    """What it collected, if the hand-in has its dataset."""

    @property
    def name(self) -> str:
        """Its folder's name, as it may be shown."""
        return printable(self.folder.name)

    @property
    def bare_name(self) -> str:
        """Its folder's name without the question."""
        return re.sub(r"^q\d+_", "", self.folder.name)

    @property
    def time_in_name(self) -> str:
        """The time at the end of its folder's name, or nothing."""
        found = re.search(r"_(\d{2,4}-\d{2}-\d{2,4}_\d{2}-\d{2}-\d{2})(-\d+)?$", self.folder.name)
        return found[1] if found else ""

    @property
    def algorithm(self) -> str:
        """The algorithm, or nothing."""
        return (self.config.base_config if self.config else self.told.algorithm) or ""

    @property
    def env_id(self) -> str:
        """The environment, or nothing."""
        env_id = (self.config.env_name if self.config else self.told.env_id) or ""
        return env_id if env_id in known_tasks() else ""

    @property
    def stage(self) -> Stage:
        """The stage; where nothing tells it, algorithms that collect data explore."""
        if self.told.stage:
            return self.told.stage
        if self.summary:
            return self.summary.script
        return usual_stage(self.algorithm)

    @property
    def seed(self) -> int | None:
        """The seed, where something tells it."""
        return self.config.seed if self.config else self.told.seed

    @property
    def alpha(self) -> float | None:
        """CQL's alpha, where something tells it; that of DQN is 0."""
        if self.algorithm == "dqn":
            return 0.0
        return self.config.cql_alpha if self.config else self.told.settings.get("cql_alpha")

    @cached_property
    def dataset_steps(self) -> int:
        """Steps of exploration in the dataset that it makes or learns from."""
        if self.stage == "explore":
            # Without a config the last entry tells, which comes up to an episode before the end.
            return self.planned_steps or round(self.log.last_step, -3)
        if (logged := self.log.series.get("dataset_transitions")) is not None:
            return int(logged.last)
        named = (self.config and self.config.dataset_name) or self.told.experiment
        return size_in_name(named) or HANDOUT_DATASET_STEPS

    @property
    def dataset_name(self) -> str:
        """The file that an exploration run writes, or nothing where nothing tells."""
        if self.stage != "explore" or self.config is None or not self.env_id:
            return ""
        return f"{self.config.dataset_name or self.config.exp_name}_seed{self.config.seed}.npz"

    @property
    def identity(self) -> tuple[object, ...]:
        """What the run is said to be; two of one identity may be one run handed in twice."""
        return (
            self.stage, self.algorithm, self.env_id, self.seed, self.alpha, self.dataset_steps,
        )  # fmt: skip

    @property
    def planned_steps(self) -> int:
        """Steps that it was to take, or 0 where nothing tells."""
        return self.config.planned_steps if self.config else 0


def find_runs(hand_in: HandIn) -> tuple[list[Run], list[str]]:
    """Read every run of a hand-in.

    Returns:
        The runs by their folders' names, and a line for everything that was not read.
    """
    events: defaultdict[PurePosixPath, list[PurePosixPath]] = defaultdict(list)
    for path in hand_in.find(ANY_EVENTS):
        events[path.parent].append(path)
    problems = []
    runs = []
    left = MAX_LOGS
    for number, (folder, paths) in enumerate(sorted(events.items())):
        left -= sum(hand_in.files[path] for path in paths)
        if number >= MAX_RUNS or left < 0:
            problems.append(
                f"{printable(folder)} and what follows was not read: more than {MAX_RUNS} runs, or "
                f"{MAX_LOGS / 1e6:,.0f} MB of logs; --log_interval 1000 keeps them small"
            )
            break
        runs.append(_read_run(hand_in, folder, read_log([hand_in.root / path for path in paths])))
    return _with_datasets(runs, hand_in), problems


def _read_run(hand_in: HandIn, folder: PurePosixPath, log: RunLog) -> Run:
    prefixes = [found[1] for part in folder.parts if (found := re.match(r"(q\d+)(?=_|$)", part))]
    run = Run(
        folder,
        prefix=prefixes[-1] if prefixes else "",
        told=parse_folder_name(re.sub(r"^q\d+_", "", folder.name)),
        log=log,
    )
    unreadable = list(log.damage)
    if hand_in.has(path := folder / CONFIG):
        try:
            run = replace(run, config=_read_config(hand_in.root / path))
        except _UNUSABLE as error:
            unreadable.append(f"config.yaml cannot be used ({_first_line(error)})")
    if hand_in.has(path := folder / SUMMARY):
        try:
            text = (hand_in.root / path).read_bytes()
            run = replace(run, summary=RunSummary.model_validate_json(text))
        except _UNUSABLE as error:
            unreadable.append(f"summary.json cannot be used ({_first_line(error)})")
    return replace(run, unreadable=tuple(unreadable))


def _read_config(path: Path) -> RunConfig:
    return RunConfig.model_validate(parse_yaml(path.read_bytes(), aliases=False, plain=True))


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return printable(f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
    return printable(str(error).partition("\n")[0] or type(error).__name__)


def _with_datasets(runs: Sequence[Run], hand_in: HandIn) -> list[Run]:
    """Give the datasets of the hand-in to the exploration runs that wrote them.

    A run that comes to its end writes over what an earlier one wrote, so the last one counts, but
    shorter runs have folders of their own.
    """
    found = {run: run for run in runs}
    for path in hand_in.find("*.npz"):
        ended = [
            run
            for run in runs
            if run.dataset_name == path.name and run.log.last_step >= run.planned_steps
        ]
        if not ended:
            continue
        ended.sort(key=lambda run: run.log.ends)
        try:
            dataset = _explore(hand_in.root / path, ended[-1].env_id)
        except UserError as error:
            run = ended[-1]
            problem = f"{printable(path.name)}: {printable(error)}"
            found[run] = replace(run, unreadable=(*run.unreadable, problem))
            continue
        as_long = [run for run in ended if run.planned_steps == dataset.transitions]
        if not as_long and any(found[run].dataset for run in ended):
            continue  # they have theirs: this one is of a shorter try
        writer = (as_long or ended)[-1]
        for run in ended:
            if run.log.fingerprint == writer.log.fingerprint:
                found[run] = replace(run, dataset=dataset)
    return list(found.values())


def _explore(path: Path, env_id: str) -> Explored:
    """Read what a run collected."""
    data = _load_dataset(path, env_id)
    found = get_task(env_id).statistics(data.observations, data.next_observations, data.terminated)
    return Explored(len(data), found["coverage"], int(found["goals_reached"]))


def _load_dataset(path: Path, env_id: str) -> Dataset:
    with open_zip(path) as archive:
        size = sum(member.file_size for member in archive.infolist())
    if size > MAX_DATASET_CONTENT:
        raise UserError(f"{size / 1e6:,.0f} MB of content are too much to read")
    return load_dataset(path, env_id)
