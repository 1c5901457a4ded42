"""The runs of a hand-in: what their folders claim, and their logs."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from pydantic import BaseModel, ValidationError

from cs285.datasets.dataset_files import Dataset, load_dataset
from cs285.envs.tasks import get_task, known_tasks
from cs285.grading.archives import open_zip, printable
from cs285.grading.hand_ins.logs import RunLog, read_log
from cs285.grading.hand_ins.unpacking import HandIn, is_junk
from cs285.homework import Stage, usual_stage
from cs285.infrastructure.errors import UserError
from cs285.infrastructure.yaml_text import parse_yaml
from cs285.results.event_files import separate_runs
from cs285.results.folder_names import FolderName, parse_folder_path, size_in_name
from cs285.results.run_folders import ANY_EVENTS, CONFIG, SUMMARY, RunFolder, is_event_file
from cs285.results.run_summary import RunSummary

MAX_RUNS = 1_000
MAX_LOGS = 250_000_000
"""Maximum total size in bytes of the event files that are read, in a quarter of a minute."""
_MIN_SIZE = 200
"""Minimum size in bytes of an event file with a few events; without any, it has about 40."""
MAX_DATASET_CONTENT = 8_000_000
"""Maximum size of a dataset's arrays in bytes; 20,000 steps take 0.6 million."""
HANDOUT_DATASET_STEPS = 10_000
"""Number of steps assumed for a dataset whose name does not give it."""
_PREFIX = re.compile(r"(?i)(q\d+)([^a-z\d]|$)")
_NAMED_AS_RUN = re.compile(r"(?i)(?:q\d[\w.]*?[_\s-])?hw5_(?:explore|offline|finetune)_")
_UNUSABLE = (
    ArithmeticError, AttributeError, LookupError, OSError, RecursionError, TypeError, ValueError,
)  # fmt: skip
"""The errors that pydantic raises for files crafted to break it."""


class RunConfig(BaseModel, frozen=True, allow_inf_nan=False):
    """What a grader reads from `config.yaml`, which public versions do not write."""

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
        """All steps of the run; the file does not have the keys of other stages."""
        return self.total_steps + self.training_steps + self.offline_steps + self.online_steps


@dataclass(frozen=True)
class Explored:
    """What a dataset in the hand-in contains."""

    transitions: int
    coverage: float
    goals: int


@dataclass(frozen=True, eq=False)
class Run:
    """One run folder."""

    folder: PurePosixPath
    prefix: str
    """The question, such as `q2`, at the start of its name or that of an enclosing folder."""
    parsed: FolderName
    """The rest of its name."""
    log: RunLog
    config: RunConfig | None = None
    summary: RunSummary | None = None
    is_prefix_as_asked: bool = True
    """Whether the question is written like `q2_` rather than `Q2-` or otherwise."""
    unreadable: tuple[str, ...] = ()
    """Its files that could not be read, and why."""
    dataset: Explored | None = None
    """What it collected, if the hand-in contains its dataset."""

    @property
    def name(self) -> str:
        """Its folder's name, safe to print."""
        return printable(self.folder.name)

    @property
    def bare_name(self) -> str:
        """Its folder's name without the question."""
        return re.sub(r"^q\d+_", "", self.folder.name)

    @property
    def time_in_name(self) -> str:
        """The time at the end of its folder's name; empty if it has none."""
        found = re.search(r"_(\d{2,4}-\d{2}-\d{2,4}_\d{2}-\d{2}-\d{2})(-\d+)?$", self.folder.name)
        return found[1] if found else ""

    @property
    def algorithm(self) -> str:
        """The algorithm; empty if unknown."""
        return (self.config.base_config if self.config else self.parsed.algorithm) or ""

    @property
    def env_id(self) -> str:
        """The environment; empty if unknown."""
        env_id = (self.config.env_name if self.config else self.parsed.env_id) or ""
        return env_id if env_id in known_tasks() else ""

    @property
    def stage(self) -> Stage:
        """The stage; by default the usual one of its algorithm."""
        if self.parsed.stage:
            return self.parsed.stage
        if self.summary:
            return self.summary.script
        return usual_stage(self.algorithm)

    @property
    def seed(self) -> int | None:
        """The seed, if known."""
        return self.config.seed if self.config else self.parsed.seed

    @property
    def alpha(self) -> float | None:
        """CQL's alpha, if known; 0 for DQN."""
        if self.algorithm == "dqn":
            return 0.0
        return self.config.cql_alpha if self.config else self.parsed.settings.get("cql_alpha")

    @cached_property
    def dataset_steps(self) -> int:
        """Number of exploration steps in the dataset that the run collects or learns from."""
        if self.stage is Stage.EXPLORE:
            # Without a config, use the last entry, which is at most an episode before the end.
            logged_steps = round(self.log.last_step, -3)
            named_steps = size_in_name(self.parsed.experiment) or HANDOUT_DATASET_STEPS
            return self.planned_steps or (logged_steps if self.log.tags else named_steps)
        if (logged := self.log.series.get("dataset_transitions")) is not None:
            return int(logged.last)
        named = (self.config and self.config.dataset_name) or self.parsed.experiment
        return size_in_name(named) or HANDOUT_DATASET_STEPS

    @property
    def dataset_name(self) -> str:
        """The dataset file that an exploration run writes; empty if unknown."""
        if self.stage is not Stage.EXPLORE or self.config is None or not self.env_id:
            return ""
        return f"{self.config.dataset_name or self.config.exp_name}_seed{self.config.seed}.npz"

    @property
    def identity(self) -> tuple[object, ...]:
        """What a run claims to be; runs with the same identity may be one run handed in twice."""
        return (
            self.stage, self.algorithm, self.env_id, self.seed, self.alpha, self.dataset_steps,
        )  # fmt: skip

    @property
    def planned_steps(self) -> int:
        """The number of steps planned for the run; 0 if unknown."""
        return self.config.planned_steps if self.config else 0


NO_EVENT_FILE = "its folder holds no event file; tables and pictures do not count as one"


class FoundRuns(NamedTuple):
    """The runs of a hand-in; both lists are in the order of their folders."""

    read: list[Run]
    unread: list[Run]
    """Runs whose logs were not read; only their names are known."""
    problems: list[str]
    """Lines on what was not read or does not count, and why."""


def find_runs(hand_in: HandIn) -> FoundRuns:
    """Read the runs of a hand-in, up to a limit; runs with events take precedence."""
    events: defaultdict[PurePosixPath, list[PurePosixPath]] = defaultdict(list)
    for path in hand_in.find(ANY_EVENTS):
        if is_event_file(path.name):
            events[path.parent].append(path)
    runs: list[Run] = []
    unread: list[Run] = []
    problems: list[str] = []
    left = MAX_LOGS
    sizes = {folder: max(hand_in.files[path] for path in paths) for folder, paths in events.items()}
    for folder in sorted(events, key=lambda folder: (sizes[folder] < _MIN_SIZE, folder)):
        size = sum(hand_in.files[path] for path in events[folder])
        if len(runs) >= MAX_RUNS or size > left:
            unread.append(_describe(folder, RunLog()))
            continue
        left -= size
        logs = _read_logs(hand_in, folder, events[folder])
        runs.append(_read_run(hand_in, folder, logs[-1]))
        if len(logs) > 1:
            problems.append(
                f"{runs[-1].name}: its folder holds the logs of {len(logs)} runs; the longest run "
                "counts, and the last of equally long ones"
            )
    runs += [_describe(folder, RunLog(stubs=(NO_EVENT_FILE,)))
             for folder in _without_events(hand_in, {*events, *_too_large(hand_in)})]  # fmt: skip
    if unread:
        problems.append(
            f"{len(unread)} folders were not read, such as {unread[0].name}: a hand-in may have "
            f"{MAX_RUNS:,} runs and {MAX_LOGS / 1e6:,.0f} MB of logs; --log_interval 1000 keeps "
            "logs small"
        )
    # The hand-in's own problems have a line for each of these.
    too_large = _too_large(hand_in) - events.keys()
    unread += [_describe(folder, RunLog()) for folder in too_large]
    runs.sort(key=lambda run: run.folder)
    unread.sort(key=lambda run: run.folder)
    return FoundRuns(_with_datasets(runs, hand_in), unread, problems)


def _read_logs(
    hand_in: HandIn, folder: PurePosixPath, paths: Sequence[PurePosixPath]
) -> list[RunLog]:
    """Return the logs in a folder, one per run, the longest last."""
    files = [hand_in.root / path for path in paths]
    one_run = len(files) == 1 or hand_in.has(folder / CONFIG)
    return sorted(
        (read_log(own) for own in ([files] if one_run else separate_runs(files))),
        key=lambda log: log.last_step,
    )


def _too_large(hand_in: HandIn) -> set[PurePosixPath]:
    return {path.parent for path in hand_in.unreadable(ANY_EVENTS)}


def _without_events(hand_in: HandIn, events: Collection[PurePosixPath]) -> list[PurePosixPath]:
    """Return folders that are named like runs but have no event files in them or below."""
    around = {parent for folder in events for parent in (folder, *folder.parents)}
    listed = {parent for path in hand_in.files for parent in path.parents} | hand_in.folders
    named = [folder for folder in listed - around
             if _NAMED_AS_RUN.match(folder.name) and not is_junk(folder)]  # fmt: skip
    return sorted(named)[:MAX_RUNS]


def _describe(folder: PurePosixPath, log: RunLog) -> Run:
    """Return a run as its folder names describe it."""
    prefixes = [
        (found[1].lower(), found[2] in {"_", ""})
        for part in folder.parts
        if (found := _PREFIX.match(part))
    ]
    prefix, is_as_asked = prefixes[-1] if prefixes else ("", True)
    return Run(
        folder,
        prefix=prefix,
        is_prefix_as_asked=is_as_asked,
        parsed=parse_folder_path(folder.parts),
        log=log,
    )


def _read_run(hand_in: HandIn, folder: PurePosixPath, log: RunLog) -> Run:
    run = _describe(folder, log)
    unreadable = list(log.damage)
    if hand_in.has(path := folder / CONFIG):
        try:
            run = replace(run, config=_read_config(hand_in.root / path))
        except _UNUSABLE as error:
            unreadable.append(f"config.yaml cannot be used ({_first_line(error)})")
    if hand_in.has(folder / SUMMARY):
        try:
            run = replace(run, summary=RunFolder(hand_in.root / folder).read_summary())
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
    """Assign the datasets of the hand-in to the exploration runs that wrote them.

    A run that finishes overwrites the dataset of an earlier one, so the last one counts. Shorter
    trial runs write to other folders.
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
            dataset = _read_explored(hand_in.root / path, ended[-1].env_id)
        except UserError as error:
            run = ended[-1]
            problem = f"{printable(path.name)}: {printable(error)}"
            found[run] = replace(run, unreadable=(*run.unreadable, problem))
            continue
        as_long = [run for run in ended if run.planned_steps == dataset.transitions]
        if not as_long and any(found[run].dataset for run in ended):
            continue  # they have their dataset: this one is from a shorter trial run
        writer = (as_long or ended)[-1]
        for run in ended:
            if run.log.fingerprint == writer.log.fingerprint:
                found[run] = replace(run, dataset=dataset)
    return list(found.values())


def _read_explored(path: Path, env_id: str) -> Explored:
    """Return the statistics of the dataset that a run collected."""
    data = _load_dataset(path, env_id)
    found = get_task(env_id).statistics(data.observations, data.next_observations, data.terminated)
    return Explored(len(data), found["coverage"], int(found["goals_reached"]))


def _load_dataset(path: Path, env_id: str) -> Dataset:
    with open_zip(path) as archive:
        size = sum(member.file_size for member in archive.infolist())
    if size > MAX_DATASET_CONTENT:
        raise UserError(f"{size / 1e6:,.0f} MB of content is too large to read")
    return load_dataset(path, env_id)
