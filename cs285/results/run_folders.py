"""Run folders: their names, their files, and finding them."""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cs285.infrastructure.errors import UserError
from cs285.infrastructure.files import check_name, prepare_folder, reason_of, write_atomically
from cs285.infrastructure.yaml_text import read_yaml
from cs285.results.event_files import EventLog, read_events
from cs285.results.run_summary import RunStatus, RunSummary

CONFIG = "config.yaml"
"""The resolved config, from which the run can be repeated."""
SUMMARY = "summary.json"
"""The results; written last, so a run with this file has ended."""
WEIGHTS = "agent.pt"
"""The weights of the trained agent."""
SNAPSHOTS = "agent_step*.pt"
"""The weights of the agent while it was training, as a pattern."""
CHECKPOINT = "checkpoint.safetensors"
"""The state of a program that is still training, in the folder of its first run."""
FORMER_CHECKPOINT = "checkpoint.pt"
"""Checkpoint of version 1, in another format."""
SWEEP_RECORD = "sweep.json"
"""In the folder of a command's first run, all runs of the command; in the others, its name."""
DIVERGED = "diverged.safetensors"
"""The state in which a run diverged."""
FORMER_DIVERGED = "diverged.pt"
"""The same by version 1."""
SCALARS = "scalars.csv"
"""Scalars of runs with `--log csv`."""
TRAJECTORIES = "trajectories.png"
LEARNING_CURVE = "learning_curve.png"
EVENTS = "events.out.tfevents."
"""Prefix of TensorBoard's event files."""
ANY_EVENTS = "*tfevents*"
"""Event files by any writer, as a pattern."""
EVENT_FILE_TIME = re.compile(r"tfevents\.(\d+)")
"""The time in the name of an event file, in seconds since 1970."""
EVENT_FILE_WRITER = re.compile(
    r"tfevents\.(?P<time>\d{9,12})\.(?P<host>.+?)(?:\.(?P<process>\d+)\.\d+)?$"
)
"""When, on which computer and by which process an event file was begun, from its name."""

_NO_EVENTS = ("Zone.Identifier", ".csv", ".json", ".png", ".svg", ".pdf", ".txt")
_RESULTS = (f"{EVENTS}*", SCALARS, "*.png", SUMMARY, WEIGHTS, SNAPSHOTS, DIVERGED, FORMER_DIVERGED)
"""Files that a run deletes before it starts over in its folder."""
_UNFINISHED = (".*.tmp",)
"""Half-written files left behind by a killed process."""
_RUN_NAME = re.compile(r"(?:q\d[\w.]*?_)?hw\d")


@dataclass(frozen=True, order=True)
class RunFolder:
    """One run folder and the files in it."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.path.name

    @property
    def config(self) -> Path:
        """The resolved config."""
        return self.path / CONFIG

    @property
    def summary(self) -> Path:
        """The results of a run that has ended."""
        return self.path / SUMMARY

    @property
    def weights(self) -> Path:
        """The weights of the trained agent."""
        return self.path / WEIGHTS

    def snapshot(self, step: int) -> Path:
        """The weights of the agent after `step` steps."""
        return self.path / SNAPSHOTS.replace("*", f"{step:08d}")

    def snapshots(self) -> dict[int, Path]:
        """Return the snapshots by their steps, in order."""
        found = {}
        for path in sorted(self.path.glob(SNAPSHOTS)):
            if match := re.search(r"step(\d+)\.pt$", path.name):
                found[int(match[1])] = path
        return found

    @property
    def checkpoint(self) -> Path:
        """The checkpoint of the program whose first run this is."""
        return self.path / CHECKPOINT

    @property
    def former_checkpoint(self) -> Path:
        """A checkpoint of version 1, which cannot be read."""
        return self.path / FORMER_CHECKPOINT

    @property
    def sweep_record(self) -> Path:
        """The record of all runs of the command."""
        return self.path / SWEEP_RECORD

    @property
    def diverged(self) -> Path:
        """The state in which the run diverged."""
        return self.path / DIVERGED

    @property
    def scalars(self) -> Path:
        """Scalars as comma-separated values."""
        return self.path / SCALARS

    @property
    def trajectories(self) -> Path:
        """Picture of the last evaluation."""
        return self.path / TRAJECTORIES

    @property
    def learning_curve(self) -> Path:
        """Picture of all evaluations."""
        return self.path / LEARNING_CURVE

    def event_files(self) -> list[Path]:
        """Return the event files sorted by name, and so by time.

        Raises:
            OSError: If the folder cannot be opened.
        """
        return sorted(path for path in self.path.iterdir() if is_event_file(path.name))

    @property
    def began(self) -> int:
        """Time in the name of the earliest event file, in seconds since 1970; 0 if unknown."""
        found = (EVENT_FILE_TIME.search(path.name) for path in self.event_files())
        return min((int(match[1]) for match in found if match), default=0)

    @property
    def has_ended(self) -> bool:
        """Whether the run has finished or diverged."""
        return self.summary.exists()

    @property
    def has_checkpoint(self) -> bool:
        """Whether training can continue from a checkpoint in this folder."""
        return self.checkpoint.exists()

    @property
    def can_resume(self) -> bool:
        """Whether `--resume` has anything left to do here."""
        return self.sweep_record.exists() and not self.has_ended

    @property
    def has_diverged(self) -> bool:
        """Whether the run ended because its losses were not finite."""
        try:
            return self.read_summary().status is RunStatus.DIVERGED
        except (OSError, ValueError):
            return False

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write the resolved config, which consists of plain YAML types.

        Raises:
            UserError: If the file cannot be written.
        """
        text = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
        write_atomically(self.config, lambda file: file.write(text.encode()))

    def read_config(self) -> dict[str, Any]:
        """Read the resolved config.

        Raises:
            UserError: If it does not exist or is invalid.
        """
        return read_yaml(self.config, aliases=False)  # no run writes an alias

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write the results; NaN and infinity, which JSON lacks, become null.

        Raises:
            UserError: If the file cannot be written.
        """
        text = json.dumps(_finite(dict(summary)), indent=2, allow_nan=False) + "\n"
        write_atomically(self.summary, lambda file: file.write(text.encode()))

    def read_summary(self) -> RunSummary:
        """Read the results.

        Raises:
            OSError: If the file cannot be read.
            ValueError: If it is invalid.
        """
        return RunSummary.model_validate_json(self.summary.read_bytes())

    def read_log(
        self, scalar_tags: Collection[str], picture_tags: Collection[str] = ()
    ) -> EventLog:
        """Read curves and pictures from the event files, as `read_events` does.

        Raises:
            OSError: If the folder cannot be opened.
        """
        return read_events(self.event_files(), scalar_tags, picture_tags)

    def delete_results(self) -> None:
        """Delete the results of an earlier attempt, before the run starts over.

        Raises:
            UserError: If a file cannot be deleted.
        """
        self._delete(_RESULTS)

    def delete_unfinished(self) -> None:
        """Delete half-written files left behind by a killed process.

        Raises:
            UserError: If a file cannot be deleted.
        """
        self._delete(_UNFINISHED)

    def _delete(self, patterns: Iterable[str]) -> None:
        try:
            for pattern in patterns:
                for path in self.path.glob(pattern):
                    path.unlink()
        except OSError as error:
            raise UserError(f"cannot clear {self.path}: {error}") from error


def make_run_folder(data_dir: Path, prefix: str, name: str) -> RunFolder:
    """Create the folder `{prefix}_{name}_{timestamp}` for a single run.

    If the name is taken, it gets the suffix -2, -3, ...; `mkdir` decides whether it is, so
    processes that start in the same second cannot share a folder.

    Raises:
        UserError: If `name` is not a plain name, or the folder cannot be created or written to.
    """
    check_name(name, "run name")
    prepare_folder(data_dir)
    first = f"{prefix}_{name}_{time.strftime('%Y-%m-%d_%H-%M-%S')}"
    folder, number = data_dir / first, 1
    while True:
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
            folder = data_dir / f"{first}-{number}"
        except OSError as error:
            raise UserError(f"cannot create the run folder {folder}: {reason_of(error)}") from error
        else:
            return RunFolder(folder)


def find_runs(data_dir: Path) -> tuple[list[RunFolder], list[str]]:
    """Return the run folders below a folder, sorted.

    A run folder, at any depth, contains event files or is named like a run of a homework, with or
    without the question in front. Links to folders so named count directly in `data_dir`.

    Args:
        data_dir: The folder.

    Returns:
        The run folders, and a line for every folder that cannot be opened.
    """
    folders, problems = [], []

    def report(error: OSError) -> None:
        problems.append(f"{error.filename}: cannot be opened: {error.strerror}")

    for path, subfolders, names in os.walk(data_dir, onerror=report):
        folder = Path(path)
        has_run_name = folder != data_dir and _RUN_NAME.match(folder.name)
        if has_run_name or any(map(is_event_file, names)):
            folders.append(RunFolder(folder))
        if folder == data_dir:
            links = (folder / name for name in subfolders if _RUN_NAME.match(name))
            folders += [RunFolder(link) for link in links if link.is_symlink()]
    return sorted(folders), sorted(problems)


def is_event_file(name: str) -> bool:
    """Return whether a file of this name contains TensorBoard events.

    The companion files of macOS (`._events...`) and Windows (`...:Zone.Identifier`) do not, nor do
    pictures and tables exported from event files.
    """
    return "tfevents" in name and not name.startswith("._") and not name.endswith(_NO_EVENTS)


def _finite(value: Any) -> Any:
    """Copy a JSON value with None in place of NaN and infinity."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
