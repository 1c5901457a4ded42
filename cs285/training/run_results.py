"""Results of runs, read from their folders."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, overload

from cs285.datasets.dataset_files import dataset_path
from cs285.homework import STAGES, Stage
from cs285.infrastructure.errors import UserError
from cs285.results.event_files import Curve
from cs285.results.run_folders import RunFolder
from cs285.results.run_summary import RunStatus
from cs285.results.sinks.csv import read_curves
from cs285.training import sweep_records

UNFINISHED = "unfinished"
"""Status of a run that was stopped, has failed, or is still training."""


class _EveryTag(Collection[str]):
    """Contains every tag."""

    def __contains__(self, tag: object) -> bool:
        return True

    def __iter__(self) -> Iterator[str]:
        raise TypeError("there is no list of all possible tags")

    def __len__(self) -> int:
        raise TypeError("there is no list of all possible tags")


@dataclass(frozen=True, eq=False)
class RunResult:
    """One run, as read from its folder."""

    folder: Path
    stage: Stage
    config: dict[str, Any] = field(repr=False)
    """The resolved settings."""
    summary: dict[str, Any] = field(repr=False)
    """The content of `summary.json`; empty until the run has ended."""
    dataset: Path | None = field(repr=False)
    """The dataset that an exploration run collected."""

    @property
    def name(self) -> str:
        """The experiment's name."""
        return str(self.config["exp_name"])

    @property
    def seed(self) -> int:
        """The run's seed."""
        return int(self.config["seed"])

    @property
    def status(self) -> str:
        """`finished`, `diverged` or `unfinished`."""
        return str(self.summary.get("status", UNFINISHED))

    @property
    def final_return(self) -> float | None:
        """Mean return of the last 100 evaluation episodes; None until the run has ended."""
        value = self.summary.get("final_return")
        return None if value is None else float(value)

    @property
    def exact_return(self) -> float | None:
        """Expected return of the last policy, without chance; None where it is not known."""
        value = self.summary.get("exact_return")
        return None if value is None else float(value)

    @cached_property
    def curves(self) -> dict[str, Curve]:
        """All logged scalars, as arrays `steps` and `values` (N,) by TensorBoard tag.

        They are read at first use from the event files, or from `scalars.csv` if there are none.
        Values that are not finite are left out, as are some of a tag with more than 5,000 values in
        event files. A run that logs only elsewhere, such as to W&B, has no curves here.
        """
        run = RunFolder(self.folder)
        if not run.event_files() and run.scalars.is_file():
            curves = read_curves(run.scalars)
        else:
            curves = run.read_log(_EveryTag()).curves
        return dict(sorted(curves.items()))

    def __repr__(self) -> str:
        found = f"{self.name}, seed {self.seed}, {self.stage}: {self.status}"
        if self.final_return is not None:
            found += f", final return {self.final_return:.1f}"
        if self.exact_return is not None:
            found += f", exactly {self.exact_return:.2f}"
        return f"<{found}; {self.folder}>"


class Results(Sequence[RunResult]):
    """The results of several runs, in the order in which they were requested."""

    def __init__(self, runs: Iterable[RunResult]) -> None:
        self._runs = list(runs)

    def __len__(self) -> int:
        return len(self._runs)

    @overload
    def __getitem__(self, index: int) -> RunResult: ...
    @overload
    def __getitem__(self, index: slice) -> Results: ...
    def __getitem__(self, index: int | slice) -> RunResult | Results:
        if isinstance(index, slice):
            return Results(self._runs[index])
        return self._runs[index]

    @property
    def diverged(self) -> list[str]:
        """Names of the runs that diverged, with seeds as in folder names: `name_sd1`."""
        return [
            f"{run.name}_sd{run.seed}" for run in self._runs if run.status == RunStatus.DIVERGED
        ]

    @property
    def summary(self) -> dict[str, list[float | None]]:
        """The final returns of each experiment, by name, in the order of its runs."""
        found: dict[str, list[float | None]] = {}
        for run in self._runs:
            found.setdefault(run.name, []).append(run.final_return)
        return found

    def __repr__(self) -> str:
        return "\n".join(["Results of", *(f"  {run!r}" for run in self._runs)])


def load_run(folder: str | PathLike[str]) -> RunResult:
    """Read the results in a run folder, whether or not its run has ended.

    Raises:
        UserError: If it is not a run folder of this package.
    """
    run = RunFolder(Path(folder))
    if not run.config.is_file():
        raise UserError(f"{run} is not a run folder: it contains no {run.config.name}")
    config = run.read_config()
    if not isinstance(config.get("exp_name"), str) or not isinstance(config.get("seed"), int):
        raise UserError(f"{run.config} is not the config of a run of this package")
    summary = _read_summary(run)
    try:
        sweep = sweep_records.read(run.path)
    except UserError:
        sweep = None  # copied without the other runs of its command, or older than such records
    stage = _stage_of(run, config, summary) if sweep is None else sweep.stage
    dataset = None
    if stage == Stage.EXPLORE and sweep is not None:
        name = str(config.get("dataset_name"))
        dataset = dataset_path(sweep.options.dataset_dir, name, config["seed"])
    exists = dataset is not None and dataset.is_file()
    return RunResult(run.path, stage, config, summary, dataset if exists else None)


def _read_summary(run: RunFolder) -> dict[str, Any]:
    """Return all of `summary.json`, of which `RunFolder.read_summary` reads only a part."""
    if not run.has_ended:
        return {}
    try:
        run.read_summary()
        summary: dict[str, Any] = json.loads(run.summary.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{run.summary} cannot be read: {reason}") from error
    return summary


def _stage_of(run: RunFolder, config: dict[str, Any], summary: dict[str, Any]) -> Stage:
    for stage in Stage:
        if summary.get("script") == stage or run.path.resolve().name.startswith(f"hw5_{stage}_"):
            return stage
    for stage, record in STAGES.items():
        if record.own_keys & config.keys():
            return stage
    raise UserError(
        f"{run}: neither its name nor its {run.summary.name} or {run.config.name} shows its stage"
    )
