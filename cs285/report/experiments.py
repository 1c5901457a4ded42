"""Runs, and experiments, which are runs that differ only in their seeds."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cs285.envs.tasks import describe_task
from cs285.homework import HANDOUT_STEPS, Stage, algorithms, order_of
from cs285.results.event_files import Curve
from cs285.results.final_returns import FinalReturn, comparable, final_return_in
from cs285.results.folder_names import size_in_name
from cs285.results.statistics import (
    FINAL_EVALUATIONS,
    CurveEstimate,
    Estimate,
    end_of,
    error_over,
    estimate,
    estimate_curve,
)

Setting = str | int | float | bool | None

DRAWN_POINTS = 500
"""Most points of a curve in a figure; a figure is about this many pixels wide."""
_PUBLIC_DEFAULTS = {"temperature": (10.0,), "expectile": (0.99,)}
"""Defaults of public versions that differ from the defaults here."""
_SHOWN_SETTINGS = {
    "cql_alpha": "\N{GREEK SMALL LETTER ALPHA} = {}",
    "expectile": "expectile {}",
    "temperature": "temperature {}",
}
"""Settings that are part of an experiment's label in a figure if they are not the defaults."""


class LeftOut(NamedTuple):
    """A run that is not in the report, and the reason."""

    name: str
    reason: str


class Stub(LeftOut):
    """A run whose folder contains only an event file without events."""

    __slots__ = ()


@dataclass(frozen=True, eq=False)
class Run:
    """One run that the report shows."""

    name: str
    """Path of its folder within the data folder, which is unique."""
    stage: Stage
    experiment: str
    algorithm: str
    env_id: str
    seed: int | None
    settings: dict[str, Setting]
    """Settings from `config.yaml`, or else from the folder's name, that have an effect."""
    curves: dict[str, Curve]
    picture: bytes | None
    """The last picture of the visited states, encoded; exploration only."""
    notes: tuple[str, ...]
    """Remarks on the run, such as values that were left out because they are not valid."""
    started: str = ""
    wall_time_s: float | None = None
    length: int | None = None
    """Inferred number of steps, for a log that ends before its run; None: the last logged step."""
    is_ours: bool = True
    """Whether this project logged it, so that its pictures are as the report describes them."""
    picture_step: int | None = None
    """The step of the picture."""
    folder: Path | None = None
    """Its folder."""

    @property
    def unit(self) -> Setting:
        """The unit of statistics: the seed, or the run itself if its seed is unknown."""
        return self.name if self.seed is None else self.seed

    @property
    def steps(self) -> int:
        """The steps that the run took: its inferred length, or else the last step of any curve."""
        if self.length is not None:
            return self.length
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
        """The size in the dataset's name, as in the runs for question 4.3; None without one."""
        name = str(self.settings.get("dataset_name") or self.experiment)
        return size_in_name(name)

    @property
    def scatter(self) -> float | None:
        """Error of the mean of the last evaluations, estimated from their scatter."""
        returns = self.curves.get("eval_return")
        if returns is None or len(returns.values) < FINAL_EVALUATIONS:
            return None
        return error_over(returns.values[-FINAL_EVALUATIONS:])


@dataclass(frozen=True, eq=False)
class Experiment:
    """Runs that differ only in their seeds."""

    name: str
    runs: tuple[Run, ...]

    @property
    def first(self) -> Run:
        """A run that represents all of them, except in its results."""
        return self.runs[0]

    @property
    def units(self) -> list[list[Run]]:
        """The runs of each seed; several runs with the same seed count once, with their mean."""
        by_unit: defaultdict[Setting, list[Run]] = defaultdict(list)
        for run in self.runs:
            by_unit[run.unit].append(run)
        return list(by_unit.values())

    @property
    def has_seeds(self) -> bool:
        """Whether the seed of every run is known; runs of unknown seed may share one."""
        return all(run.seed is not None for run in self.runs)

    def counted(self, number: int | None = None) -> str:
        """Return the number of seeds, or of runs if the seeds are unknown, as in `3 seeds`.

        Args:
            number: The number to use. Default: the number of evaluated seeds or runs.
        """
        number = len(self.returns) if number is None else number
        return f"{number} {'seed' if self.has_seeds else 'run'}{'s' * (number != 1)}"

    @cached_property
    def finals(self) -> list[list[FinalReturn]]:
        """The final returns of the evaluated runs of every seed: all exact, or all measured."""
        found = [
            [final_return_in(run.curves) for run in unit if "eval_return" in run.curves]
            for unit in self.units
        ]
        same = iter(comparable([one for unit in found for one in unit]))
        return [[next(same) for _ in unit] for unit in found]

    @property
    def is_exact(self) -> bool:
        """Whether `returns` are exact."""
        kinds = {one.is_exact for unit in self.finals for one in unit}
        return kinds == {True}

    @cached_property
    def returns(self) -> list[float]:
        """The final return of every seed; empty if nothing was evaluated."""
        values = [[one.value for one in unit if one.value is not None] for unit in self.finals]
        return [float(np.mean(unit)) for unit in values if unit]

    @cached_property
    def error(self) -> float | None:
        """Error of the mean of `returns`; None if the logs lack it.

        It is the standard error over episodes, or that of exact returns. It applies to these
        policies and does not include the differences between seeds.
        """
        errors = []
        for evaluated in self.finals:
            known = [one.error for one in evaluated if one.error is not None]
            if len(known) < len(evaluated):
                return None
            if known:
                errors.append(math.hypot(*known) / len(known))
        return math.hypot(*errors) / len(errors) if errors else None

    @cached_property
    def noise(self) -> float | None:
        """A standard error of `final` for comparisons; None if nothing is known about its noise.

        It is the larger of the errors estimated from episodes and from the differences between
        runs. If the logs do not show how much episodes vary, the scatter of each run's last
        evaluations is used instead.
        """
        known = [self.error, error_over(self.returns)] if self.returns else []
        if self.error is None:
            scatters = [run.scatter for run in self.runs]
            known += [math.hypot(*filter(None, scatters)) / len(scatters)
                      if None not in scatters else None]  # fmt: skip
        return max((one for one in known if one is not None), default=None)

    @cached_property
    def final(self) -> Estimate | None:
        """The final return over seeds."""
        if not self.returns:
            return None
        return self._estimate_of(self.returns).with_error(self.error)

    @cached_property
    def score(self) -> Estimate | None:
        """The normalised score over seeds."""
        scores = describe_task(self.first.env_id).normalised_score(self.returns)
        if scores is None or not self.returns:
            return None
        return self._estimate_of(list(scores)).with_error(self.score_error)

    @property
    def score_error(self) -> float | None:
        """Standard error of the score over episodes; None if it is not known."""
        reference = describe_task(self.first.env_id).reference()
        if reference is None or self.error is None:
            return None
        return self.error / (reference.optimal_return - reference.random_return)

    def last_of(self, tag: str) -> Estimate | None:
        """Return the estimate of a tag's last value over seeds; None if no run logged it."""
        numbers = self._per_unit(lambda run: run.curves[tag].last if tag in run.curves else None)
        return self._estimate_of(numbers) if numbers else None

    def end_of(self, tag: str) -> Estimate | None:
        """Return the estimate over seeds of a tag's mean over the last tenth; None without it.

        Its error is the variation of the values in that tenth, or between seeds if that is larger.
        """
        ends = [[end_of(run.curves[tag].steps, run.curves[tag].values)
                 for run in unit if tag in run.curves] for unit in self.units]  # fmt: skip
        means = [float(np.mean([mean for mean, _ in unit])) for unit in ends if unit]
        if not means:
            return None
        spread = float(np.mean([spread for unit in ends for _, spread in unit]))
        over = error_over(means)
        return replace(
            self._estimate_of(means), error=spread if over is None else max(spread, over)
        )

    def _estimate_of(self, numbers: Sequence[float]) -> Estimate:
        """Return an estimate, without an interval if runs may share a seed and so be dependent."""
        found = estimate(numbers)
        return found if self.has_seeds else found.without_interval(numbers)

    def _per_unit(self, number: Callable[[Run], float | None]) -> list[float]:
        found = []
        for runs in self.units:
            numbers = [value for value in map(number, runs) if value is not None]
            if numbers:
                found.append(float(np.mean(numbers)))
        return found

    def curve(self, tag: str) -> CurveEstimate | None:
        """Return the estimate of a curve over seeds, at the steps that all of them share.

        If the runs share few steps, the other curves are interpolated at the steps of the coarsest
        one. At most about `DRAWN_POINTS` points remain.
        """
        if tag not in self._estimated:
            self._estimated[tag] = self._estimate(tag)
        return self._estimated[tag]

    @cached_property
    def _estimated(self) -> dict[str, CurveEstimate | None]:
        """Curves by tag, kept because every figure is drawn in several sizes and formats."""
        return {}

    def _estimate(self, tag: str) -> CurveEstimate | None:
        units = [[run.curves[tag] for run in runs if tag in run.curves] for runs in self.units]
        curves = [curve for unit in units for curve in unit]
        if not curves:
            return None
        steps = _common_steps(curves)
        # The last step is always kept.
        steps = steps[:: -max(1, -(-len(steps) // DRAWN_POINTS))][::-1]
        rows = [
            np.mean([np.interp(steps, curve.steps, curve.values) for curve in unit], axis=0)
            for unit in units
            if unit
        ]
        return estimate_curve(steps, rows, has_interval=self.has_seeds)

    @property
    def longest(self) -> list[Run]:
        """The runs with a picture, longest run first."""
        return sorted(
            (run for run in self.runs if run.picture),
            key=lambda run: (-run.steps, -(run.picture_step or 0)),
        )

    @property
    def label(self) -> str:
        """The title of its algorithm, with the settings that are not the defaults."""
        title = algorithms()[self.first.algorithm].title
        settings = self.first.settings
        shown = [
            _SHOWN_SETTINGS[key].format(f"{settings[key]:g}") for key in _unusual(self.first, ())
        ]
        return ", ".join([title, *shown])

    @property
    def alpha(self) -> float | None:
        """CQL's alpha."""
        value = self.first.settings.get("cql_alpha")
        return float(value) if isinstance(value, int | float) else None

    @property
    def dataset_steps(self) -> float | None:
        """Steps in the dataset, from the log or else from its name; None if neither has them."""
        logged = self.first.curves.get("dataset_transitions")
        return self.first.named_size if logged is None else logged.last


def _common_steps(curves: Sequence[Curve]) -> npt.NDArray[np.int64]:
    """Return the steps at which to compare curves."""
    common: npt.NDArray[np.int64] = reduce(np.intersect1d, (curve.steps for curve in curves))
    coarsest = min(curves, key=lambda curve: len(curve.steps)).steps
    if 2 * len(common) >= len(coarsest):
        return common
    first, last = (pick(curve.steps[at] for curve in curves) for pick, at in ((max, 0), (min, -1)))
    inside = coarsest[(coarsest >= first) & (coarsest <= last)]
    return inside if len(inside) else coarsest[-1:]


def _unusual(run: Run, others: Sequence[str]) -> list[str]:
    """Return the settings of `_SHOWN_SETTINGS` that are not the defaults.

    Args:
        run: The run.
        others: Keys for which the defaults of public versions count as defaults too.
    """
    found = []
    fields = algorithms()[run.algorithm].config.model_fields
    for key in _SHOWN_SETTINGS:
        value = run.settings.get(key)
        if key in fields and isinstance(value, int | float):
            usual = (fields[key].default, *(_PUBLIC_DEFAULTS.get(key, ()) if key in others else ()))
            if value not in usual:
                found.append(key)
    return found


def plain(experiments: Sequence[Experiment]) -> list[Experiment]:
    """Return the basic experiment of each algorithm, given those of one environment.

    This is the one whose known settings are the defaults. Ties go to the shortest name, then to the
    longest training, then to the most seeds. CQL with alpha 0, which is DQN, is the last choice.
    """
    best: dict[str, Experiment] = {}
    for experiment in sorted(
        experiments,
        key=lambda member: (
            member.alpha == 0,
            len(_unusual(member.first, tuple(_PUBLIC_DEFAULTS))),
            member.first.named_size not in {None, HANDOUT_STEPS},
            member.first.stage is Stage.EXPLORE and member.first.steps != HANDOUT_STEPS,
            len(member.first.experiment),
            -member.first.steps,
            -len(member.units),
        ),
    ):
        best.setdefault(experiment.first.algorithm, experiment)
    return [best[algorithm] for algorithm in sorted(best, key=order_of)]


def by_environment(experiments: Iterable[Experiment]) -> dict[str, list[Experiment]]:
    """Group experiments by environment, easiest first."""
    found: defaultdict[str, list[Experiment]] = defaultdict(list)
    for experiment in experiments:
        found[experiment.first.env_id].append(experiment)
    return {
        env_id: found[env_id]
        for env_id in sorted(found, key=lambda env_id: (describe_task(env_id).rank, env_id))
    }


def largest_sweep(
    experiments: Sequence[Experiment],
    setting: str,
    value: Callable[[Experiment], float | None],
) -> dict[float, Experiment]:
    """Return the experiments that differ only in one setting, by its value, lowest first.

    Of several such families, the one with the most values is returned, then the one with the most
    seeds; of several experiments with the same value, the one with the most seeds counts. A sweep
    needs at least two values.
    """
    families: defaultdict[str, dict[float, Experiment]] = defaultdict(dict)
    for experiment in sorted(experiments, key=lambda member: -len(member.units)):
        number = value(experiment)
        if number is not None:
            rest = experiment.first.settings | {setting: None, "dataset_seed": None}
            if not experiment.first.is_ours:
                rest = _without_defaults(experiment.first.algorithm, rest)
                if setting != "dataset_name":
                    rest["dataset_name"] = experiment.first.named_size
            families[repr(sorted(rest.items()))].setdefault(number, experiment)
    largest = max(
        families.values(),
        key=lambda family: (len(family), sum(len(member.units) for member in family.values())),
        default={},
    )
    return dict(sorted(largest.items())) if len(largest) > 1 else {}


def _without_defaults(algorithm: str, settings: dict[str, Setting]) -> dict[str, Setting]:
    """Drop the settings that have their default, which names often omit."""
    fields = algorithms()[algorithm].config.model_fields
    return {
        key: value
        for key, value in settings.items()
        if key not in fields or value != fields[key].default
    }


def settings_key(run: Run) -> tuple[Any, ...]:
    """Return a key that the runs of one experiment share."""
    settings = {key: value for key, value in run.settings.items() if key != "dataset_seed"}
    return (
        run.stage, run.env_id, run.algorithm, _plain_name(run), run.length,
        repr(sorted(settings.items())),
    )  # fmt: skip


def _plain_name(run: Run) -> str:
    """Return the name of its experiment; people write 1, 1.0 or 1e0 for the same number."""
    if run.is_ours:
        return run.experiment
    return re.sub(
        r"\d+(?:\.\d+)?(?:e-?\d+)?(?![a-z\d])",
        lambda number: f"{float(number[0]):g}",
        run.experiment.lower(),
    )
