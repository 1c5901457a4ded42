"""Reads run folders: the runs that can be compared, and why the others cannot be."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

import numpy as np

from cs285.envs.tasks import describe_task, is_env_id
from cs285.homework import (
    STAGES,
    Stage,
    algorithms,
    keys_without_effect,
    order_of,
    usual_stage,
)
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
from cs285.results.summaries import natural_key

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
"""Keys of `config.yaml` that identify a run; the others say how it learns."""


class LeftOut(NamedTuple):
    """A run that is not in the report, and the reason."""

    name: str
    reason: str


@dataclass(frozen=True, eq=False)
class Run:
    """One run that the report shows."""

    name: str
    """Path of its folder within the data folder, which no other run has."""
    stage: Stage
    experiment: str
    algorithm: str
    env_id: str
    seed: int | None
    settings: dict[str, Setting]
    """Those in `config.yaml`, or else in the folder's name; without keys that have no effect."""
    curves: dict[str, Curve]
    picture: bytes | None
    """The last picture of the visited states, encoded; exploration only."""
    notes: tuple[str, ...]
    """What is wrong with it and was left out."""
    started: str = ""
    wall_time_s: float | None = None

    @property
    def unit(self) -> Setting:
        """The unit of statistics: the seed, or the run itself if its seed is unknown."""
        return self.name if self.seed is None else self.seed

    @property
    def steps(self) -> int:
        """The last step of any curve; 0 without curves."""
        return max((int(curve.steps[-1]) for curve in self.curves.values()), default=0)

    @property
    def online_start(self) -> int | None:
        """The step at which fine-tuning goes online, as exactly as the logs show it."""
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
        """The dataset size in the dataset's name, as in the runs for 4.3; None without one."""
        name = str(self.settings.get("dataset_name") or self.experiment)
        return size_in_name(name)


@dataclass(frozen=True, eq=False)
class Experiment:
    """Runs that differ only in their seeds."""

    name: str
    runs: tuple[Run, ...]

    @property
    def first(self) -> Run:
        """A run that represents all of them, except for its numbers."""
        return self.runs[0]

    @property
    def units(self) -> list[list[Run]]:
        """The runs of each seed; several runs of one seed count as one, by their mean."""
        by_unit: defaultdict[Setting, list[Run]] = defaultdict(list)
        for run in self.runs:
            by_unit[run.unit].append(run)
        return list(by_unit.values())

    @cached_property
    def returns(self) -> list[float]:
        """The final return of every seed; empty if nothing was evaluated."""
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
        """Steps in the dataset, from the log or else from a name; None if neither has them."""
        logged = self.first.curves.get("dataset_transitions")
        return self.first.named_size if logged is None else logged.last


@dataclass(frozen=True)
class Collection:
    """Everything in a data folder."""

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


def collect(data_dir: Path, tags: Iterable[str] = ()) -> Collection:
    """Read every run below a folder.

    Args:
        data_dir: The folder.
        tags: Scalars to read besides `SCALARS`.

    Raises:
        UserError: If the folder does not exist.
    """
    if not data_dir.is_dir():
        raise UserError(
            f"the folder {data_dir} does not exist; set --data_dir to the folder with the runs"
        )
    folders, problems = find_runs(data_dir, nested=True)
    runs: list[Run] = []
    left_out = [LeftOut(*problem.split(": ", 1)) for problem in problems]
    for folder in folders:
        name = str(folder.path.relative_to(data_dir))
        try:
            run = _read_run(folder, name, {*SCALARS, *tags})
        except OSError as error:
            run = LeftOut(name, f"cannot be read: {error.strerror}")
        if isinstance(run, Run):
            runs.append(run)
        else:
            left_out.append(run)
    return Collection(tuple(_group(runs)), tuple(left_out))


def _read_run(folder: RunFolder, name: str, tags: set[str]) -> Run | LeftOut:
    named = parse_folder_name(folder.name)
    if named.homework not in {None, 5}:
        return LeftOut(name, f"belongs to homework {named.homework}")
    settings, notes = _read_settings(folder)
    log = folder.read_log(tags, [EXPLORATION_PICTURE])
    notes += log.problems
    algorithm = str(settings.get("base_config") or named.algorithm or "")
    useless = keys_without_effect(algorithm, settings) if algorithm in algorithms() else []
    run = Run(
        name=name,
        stage=named.stage or usual_stage(algorithm),
        experiment=str(settings.get("exp_name") or named.experiment),
        algorithm=algorithm,
        env_id=str(settings.get("env_name") or named.env_id or ""),
        seed=seed if isinstance(seed := settings.get("seed", named.seed), int) else None,
        settings={key: value for key, value in settings.items() if key not in {*IDENTITY, *useless}}
        if settings
        else dict(named.settings),
        curves=log.curves,
        picture=log.pictures.get(EXPLORATION_PICTURE),
        notes=tuple(notes),
    )
    if reason := _reason_to_leave_out(run, named):
        reasons = [reason, *notes]
        if folder.can_resume:
            reasons.append(f"resume it with {run.stage.script} --resume {folder}")
        return LeftOut(name, "; ".join(reasons))
    try:
        summary = folder.read_summary()
    except (OSError, ValueError):
        return run  # the report does not need it
    if summary.status is RunStatus.DIVERGED:
        run = replace(run, notes=(*run.notes, "diverged: its losses are not finite"))
    return replace(
        run,
        started=f"{summary.started:%Y-%m-%d %H:%M}",
        wall_time_s=summary.wall_time_s,
    )


def _read_settings(folder: RunFolder) -> tuple[dict[str, Setting], list[str]]:
    """Read the plain values of `config.yaml`; runs of public versions do not have this file."""
    if not folder.config.exists():
        return {}, []
    try:
        values = folder.read_config()
    except UserError:
        return {}, ["config.yaml is not valid, so the settings are those in the folder's name"]
    return {key: value for key, value in values.items() if _is_setting(value)}, []


def _is_setting(value: object) -> TypeGuard[Setting]:
    # Python refuses to print whole numbers of thousands of digits.
    return isinstance(value, Setting) and not (isinstance(value, int) and abs(value) >= 1 << 64)


def _reason_to_leave_out(run: Run, named: FolderName) -> str | None:
    keys = STAGES[run.stage].step_keys
    planned = sum(value for key in keys if isinstance(value := run.settings.get(key), int))
    reason = None
    if not run.env_id:
        reason = "neither config.yaml nor the folder's name says which environment it used"
    elif not is_env_id(run.env_id):
        reason = f"`env_name` {run.env_id[:80]!r} is not the id of an environment"
    elif run.algorithm not in algorithms():
        reason = (
            f"`{run.algorithm[:80]}` is not a known algorithm"
            if run.algorithm
            else f"neither config.yaml nor {named.experiment!r} says which algorithm it used"
        )
    elif not run.curves and run.picture is None:
        reason = "its logs have none of the tags of this homework"
    elif run.stage is not Stage.EXPLORE and "eval_return" not in run.curves:
        reason = "the tag eval_return is missing"
    elif run.curves and run.steps < planned:
        reason = f"stopped, or still running, at step {run.steps:,} of {planned:,}"
    return reason


def _group(runs: Iterable[Run]) -> list[Experiment]:
    """Group runs into experiments, and number experiments that have the same name."""
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
    """Order by stage, difficulty, algorithm and name."""
    return (
        list(STAGES).index(run.stage),
        describe_task(run.env_id).rank,
        run.env_id,
        order_of(run.algorithm),
        natural_key(run.experiment),
        run.name,
    )


def by_environment(experiments: Iterable[Experiment]) -> dict[str, list[Experiment]]:
    """Group experiments by environment, easiest first."""
    found: defaultdict[str, list[Experiment]] = defaultdict(list)
    for experiment in experiments:
        found[experiment.first.env_id].append(experiment)
    return {
        env_id: found[env_id]
        for env_id in sorted(found, key=lambda env_id: (describe_task(env_id).rank, env_id))
    }


def plain(experiments: Sequence[Experiment]) -> list[Experiment]:
    """Return the basic experiment of each algorithm, given those of one environment.

    That is the one with the shortest name; if several have it, the one that trained longest, then
    the one with the most seeds. CQL with alpha 0, which is DQN, is the last choice.
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
    """Return the experiments that differ only in one setting, by its value, lowest first.

    If there are several such families, return the one with the most values, then the most seeds;
    if several experiments have one value, take the one with the most seeds. A sweep needs at least
    two values.
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
