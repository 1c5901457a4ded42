"""Run folders in; runs that can be compared out, and a reason for every one that cannot."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

import numpy as np

from cs285.envs.tasks import describe_task, is_env_id
from cs285.homework import STAGES, Stage, algorithms, order_of, usual_stage
from cs285.infrastructure.errors import UserError
from cs285.results.event_files import Curve, final_return_of
from cs285.results.folder_names import FolderName, parse_folder_name, size_in_name
from cs285.results.run_folders import RunFolder, find_runs
from cs285.results.run_summary import RunStatus
from cs285.results.statistics import (
    CurveEstimate,
    Estimate,
    estimate,
    estimate_curve,
    estimate_scores,
)

Setting = str | int | float | bool | None

SCALARS = (
    "eval_return",
    "eval/episodes",
    "q_values",
    "coverage",
    "goals_reached",
    "phase",
    "train_return",
    "dataset_transitions",
)
EXPLORATION_PICTURE = "exploration_trajectories_eval"
IDENTITY = ("base_config", "env_name", "exp_name", "seed")
"""Keys of `config.yaml` that say who a run is, not how it learns."""


class LeftOut(NamedTuple):
    """A run that the report does without."""

    name: str
    reason: str


@dataclass(frozen=True, eq=False)
class Run:
    """One run that the report shows."""

    name: str
    """Its folder below the data folder; tells runs of one experiment and seed apart."""
    stage: Stage
    experiment: str
    algorithm: str
    env_id: str
    seed: int | None
    settings: dict[str, Setting]
    """All of them where the folder has a `config.yaml`, else what its name tells."""
    curves: dict[str, Curve]
    picture: bytes | None
    """Of exploration: the last picture of what was visited, encoded."""
    notes: tuple[str, ...]
    """What of it is unsound and was left out."""
    started: str = ""
    wall_time_s: float | None = None

    @property
    def unit(self) -> Setting:
        """The unit of statistics: the seed, or the run itself where the seed is unknown."""
        return self.name if self.seed is None else self.seed

    @property
    def steps(self) -> int:
        """The last step of any curve; 0 if it has none."""
        return max((int(curve.steps[-1]) for curve in self.curves.values()), default=0)

    @property
    def online_start(self) -> int | None:
        """The step at which fine-tuning goes online, as exactly as the logs tell it."""
        if self.stage is not Stage.FINETUNE:
            return None
        if isinstance(steps := self.settings.get("offline_steps"), int):
            return steps
        phase, episodes = self.curves.get("phase"), self.curves.get("train_return")
        if phase is not None and (phase.values > 0).any():
            return int(phase.steps[phase.values > 0][0])
        return None if episodes is None else int(episodes.steps[0])

    @property
    def named_size(self) -> int | None:
        """Steps in a dataset that is named after them, as those of 4.3 are."""
        name = str(self.settings.get("dataset_name") or self.experiment)
        return size_in_name(name)


@dataclass(frozen=True, eq=False)
class Experiment:
    """Runs that differ in nothing but their seeds."""

    name: str
    runs: tuple[Run, ...]

    @property
    def first(self) -> Run:
        """A run that stands for all in everything but its numbers."""
        return self.runs[0]

    @property
    def units(self) -> list[list[Run]]:
        """The runs of each seed: several of one seed count as one, by their mean."""
        by_unit: defaultdict[Setting, list[Run]] = defaultdict(list)
        for run in self.runs:
            by_unit[run.unit].append(run)
        return list(by_unit.values())

    @cached_property
    def returns(self) -> list[float]:
        """The final return of every seed; empty where nothing was evaluated."""
        return self._per_seed(lambda run: final_return_of(run.curves))

    @cached_property
    def final(self) -> Estimate | None:
        """The final return over seeds."""
        return estimate(self.returns) if self.returns else None

    @cached_property
    def score(self) -> Estimate | None:
        """The normalised score over seeds."""
        return estimate_scores({self.first.env_id: self.returns}) if self.returns else None

    def last_of(self, tag: str) -> list[float]:
        """Return the last value of one curve for every seed whose runs have that curve."""
        return self._per_seed(lambda run: run.curves[tag].last if tag in run.curves else None)

    def _per_seed(self, number: Callable[[Run], float | None]) -> list[float]:
        found = []
        for runs in self.units:
            numbers = [value for value in map(number, runs) if value is not None]
            if numbers:
                found.append(float(np.mean(numbers)))
        return found

    def curve(self, tag: str) -> CurveEstimate | None:
        """Return the estimate of a curve over seeds, at the steps that all of them have."""
        units = [[run.curves[tag] for run in runs if tag in run.curves] for runs in self.units]
        curves = [curve for unit in units for curve in unit]
        if not curves:
            return None
        steps = reduce(np.intersect1d, (curve.steps for curve in curves))
        if not len(steps):
            return None
        rows = [
            np.mean([curve.values[np.isin(curve.steps, steps)] for curve in unit], axis=0)
            for unit in units
            if unit
        ]
        return estimate_curve(steps, rows)

    @property
    def alpha(self) -> float | None:
        """CQL's alpha."""
        value = self.first.settings.get("cql_alpha")
        return float(value) if isinstance(value, int | float) else None

    @property
    def dataset_steps(self) -> float | None:
        """Steps in the dataset, where the log or else a name tells them."""
        logged = self.first.curves.get("dataset_transitions")
        return self.first.named_size if logged is None else logged.last


@dataclass(frozen=True)
class Collection:
    """Everything that a data folder holds."""

    experiments: tuple[Experiment, ...]
    left_out: tuple[LeftOut, ...]

    @property
    def runs(self) -> list[Run]:
        """All runs, in the order of the experiments."""
        return [run for experiment in self.experiments for run in experiment.runs]

    def select(self, stage: Stage, *names: str) -> list[Experiment]:
        """Return the experiments of a stage with one of these algorithms."""
        return [
            experiment
            for experiment in self.experiments
            if experiment.first.stage == stage and experiment.first.algorithm in names
        ]


def collect(data_dir: Path) -> Collection:
    """Read every run below a folder.

    Raises:
        UserError: There is no such folder.
    """
    if not data_dir.is_dir():
        raise UserError(f"no folder {data_dir}; --data_dir names the folder that holds the runs")
    folders, problems = find_runs(data_dir, nested=True)
    runs: list[Run] = []
    left_out = [LeftOut(*problem.split(": ", 1)) for problem in problems]
    for folder in folders:
        name = str(folder.path.relative_to(data_dir))
        try:
            run = _read_run(folder, name)
        except OSError as error:
            run = LeftOut(name, f"cannot be read: {error.strerror}")
        if isinstance(run, Run):
            runs.append(run)
        else:
            left_out.append(run)
    return Collection(tuple(_group(runs)), tuple(left_out))


def _read_run(folder: RunFolder, name: str) -> Run | LeftOut:
    told = parse_folder_name(folder.name)
    if told.homework not in {None, 5}:
        return LeftOut(name, f"belongs to homework {told.homework}")
    settings, notes = _read_settings(folder)
    log = folder.read_log(SCALARS, [EXPLORATION_PICTURE])
    notes += log.problems
    algorithm = str(settings.get("base_config") or told.algorithm or "")
    run = Run(
        name=name,
        stage=told.stage or usual_stage(algorithm),
        experiment=str(settings.get("exp_name") or told.experiment),
        algorithm=algorithm,
        env_id=str(settings.get("env_name") or told.env_id or ""),
        seed=seed if isinstance(seed := settings.get("seed", told.seed), int) else None,
        settings={key: value for key, value in settings.items() if key not in IDENTITY}
        if settings
        else dict(told.settings),
        curves=log.curves,
        picture=log.pictures.get(EXPLORATION_PICTURE),
        notes=tuple(notes),
    )
    if reason := _reason_to_leave_out(run, told):
        reasons = [reason, *notes]
        if folder.can_resume:
            reasons.append(f"{run.stage.script} --resume {folder} goes on with it")
        return LeftOut(name, "; ".join(reasons))
    try:
        summary = folder.read_summary()
    except (OSError, ValueError):
        return run  # the report can do without
    if summary.status is RunStatus.DIVERGED:
        run = replace(run, notes=(*run.notes, "diverged: its losses are no longer finite"))
    return replace(
        run,
        started=f"{summary.started:%Y-%m-%d %H:%M}",
        wall_time_s=summary.wall_time_s,
    )


def _read_settings(folder: RunFolder) -> tuple[dict[str, Setting], list[str]]:
    """Read the plain values of `config.yaml`, which runs of public versions do not have."""
    if not folder.config.exists():
        return {}, []
    try:
        values = folder.read_config()
    except UserError:
        return {}, ["config.yaml is unsound, so only the folder's name tells what it is"]
    return {key: value for key, value in values.items() if _is_setting(value)}, []


def _is_setting(value: object) -> TypeGuard[Setting]:
    # Python refuses to print whole numbers of thousands of digits.
    return isinstance(value, Setting) and not (isinstance(value, int) and abs(value) >= 1 << 64)


def _reason_to_leave_out(run: Run, told: FolderName) -> str | None:
    keys = STAGES[run.stage].step_keys
    planned = sum(value for key in keys if isinstance(value := run.settings.get(key), int))
    reason = None
    if not run.env_id:
        reason = "neither config.yaml nor the folder's name tells an environment"
    elif not is_env_id(run.env_id):
        reason = f"`env_name` {run.env_id[:80]!r} is not the id of an environment"
    elif run.algorithm not in algorithms():
        reason = f"no algorithm of this homework is told by config.yaml or {told.experiment!r}"
    elif not run.curves and run.picture is None:
        reason = "its logs hold none of this homework's tags"
    elif run.stage is not Stage.EXPLORE and "eval_return" not in run.curves:
        reason = "the tag eval_return is missing"
    elif run.curves and run.steps < planned:
        reason = f"stopped, or still going, at step {run.steps:,} of {planned:,}"
    return reason


def _group(runs: Iterable[Run]) -> list[Experiment]:
    """Bring the seeds of every experiment together, and tell namesakes apart."""
    groups: defaultdict[tuple[Any, ...], list[Run]] = defaultdict(list)
    for run in runs:
        settings = {key: value for key, value in run.settings.items() if key != "dataset_seed"}
        key = (run.stage, run.env_id, run.algorithm, run.experiment, repr(sorted(settings.items())))
        groups[key].append(run)
    groups_in_order = sorted(groups.values(), key=lambda group: _rank(group[0]))
    names = Counter((group[0].stage, group[0].experiment) for group in groups_in_order)
    taken: Counter[tuple[str, str]] = Counter()
    experiments = []
    for group in groups_in_order:
        identity = (group[0].stage, group[0].experiment)
        taken[identity] += 1
        number = f" #{taken[identity]}" if names[identity] > 1 else ""
        group.sort(key=lambda run: (run.seed is None, run.seed or 0, run.started, run.name))
        experiments.append(Experiment(group[0].experiment + number, tuple(group)))
    return experiments


def _rank(run: Run) -> tuple[Any, ...]:
    """Order by stage, difficulty, algorithm and name, in which numbers count as such."""
    return (
        list(STAGES).index(run.stage),
        describe_task(run.env_id).rank,
        run.env_id,
        order_of(run.algorithm),
        [
            float(part) if index % 2 else part
            for index, part in enumerate(re.split(r"(\d+(?:\.\d+)?)", run.experiment))
        ],
        run.name,
    )


def by_environment(experiments: Iterable[Experiment]) -> dict[str, list[Experiment]]:
    """Sort experiments into their environments, easiest first."""
    found: defaultdict[str, list[Experiment]] = defaultdict(list)
    for experiment in experiments:
        found[experiment.first.env_id].append(experiment)
    return {
        env_id: found[env_id]
        for env_id in sorted(found, key=lambda env_id: (describe_task(env_id).rank, env_id))
    }


def plain(experiments: Sequence[Experiment]) -> list[Experiment]:
    """Return one experiment per algorithm of one environment: the one that varies nothing.

    That is the one with the shortest name, of namesakes the longest training, of those the most
    seeds. CQL without its term, which is DQN, comes last.
    """
    best: dict[str, Experiment] = {}
    for experiment in sorted(
        experiments,
        key=lambda member: (
            member.alpha == 0,
            len(member.first.experiment),
            -member.first.steps,
            -len(member.units),
        ),
    ):
        best.setdefault(experiment.first.algorithm, experiment)
    return [best[algorithm] for algorithm in sorted(best, key=order_of)]


def largest_sweep(
    experiments: Sequence[Experiment],
    setting: str,
    value: Callable[[Experiment], float | None],
) -> dict[float, Experiment]:
    """Return the experiments that differ in one setting alone, by its value, lowest first.

    Of several such families the one with the most values counts, then the one with the most seeds;
    of several experiments with one value the one with the most seeds. One value is no sweep.
    """
    families: defaultdict[str, dict[float, Experiment]] = defaultdict(dict)
    for experiment in sorted(experiments, key=lambda member: -len(member.units)):
        number = value(experiment)
        if number is not None:
            rest = experiment.first.settings | {setting: None, "dataset_seed": None}
            families[repr(sorted(rest.items()))].setdefault(number, experiment)
    largest = max(
        families.values(),
        key=lambda family: (len(family), sum(len(member.units) for member in family.values())),
        default={},
    )
    return dict(sorted(largest.items())) if len(largest) > 1 else {}
