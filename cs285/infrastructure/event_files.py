"""Reads TensorBoard event files that may be empty, cut off, damaged or somebody else's.

What is sound is kept and the rest is told: a reader of logs must never fail because of one of them.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cs285.envs.mazes import MAZES
from cs285.infrastructure.records import RECORD_OVERHEAD, DamagedRecordError, read_records
from cs285.infrastructure.statistics import final_return

MAX_POINTS = 5_000
"""Points kept of one tag: beyond, every second one goes. No evaluation curve comes near."""
MAX_FILE_BYTES = 500_000_000
"""A larger file is no log of this homework."""
MAX_PICTURE_BYTES = 5_000_000

STAGES = ("explore", "offline", "finetune")


@dataclass(frozen=True, eq=False)
class Curve:
    """The finite values (N,) of one tag at their steps (N,), which increase."""

    steps: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]

    @property
    def last(self) -> float:
        """The last value."""
        return float(self.values[-1])


def final_return_of(curves: Mapping[str, Curve]) -> float | None:
    """Return the final return of the run with these curves; None if nothing was evaluated."""
    returns, episodes = curves.get("eval_return"), curves.get("eval/episodes")
    if returns is None:
        return None
    if (
        episodes is None  # public versions of the homework do not log it
        or not np.array_equal(episodes.steps, returns.steps)
        or episodes.values.min() < 1
    ):
        return final_return(returns.values)
    return final_return(returns.values, episodes.values)


@dataclass(frozen=True)
class EventLog:
    """What the event files of one folder hold."""

    curves: dict[str, Curve] = field(default_factory=dict)
    pictures: dict[str, bytes] = field(default_factory=dict)
    """The last picture of each tag, encoded."""
    problems: list[str] = field(default_factory=list)
    """A phrase for everything that was left out."""


def find_run_folders(data_dir: Path) -> tuple[list[Path], list[str]]:
    """Return all folders below `data_dir` that hold event files or are called like runs.

    Returns:
        The folders, sorted, and a line for every folder that cannot be looked into.
    """
    folders, problems = [], []

    def report(error: OSError) -> None:
        problems.append(f"{error.filename}: cannot be opened: {error.strerror}")

    for path, _, names in os.walk(data_dir, onerror=report):
        folder = Path(path)
        is_named_so = folder != data_dir and re.match(r"hw\d", folder.name)
        if is_named_so or any(map(_is_event_file, names)):
            folders.append(folder)
    return sorted(folders), sorted(problems)


def read_events(
    folder: Path, scalar_tags: Collection[str], picture_tags: Collection[str] = ()
) -> EventLog:
    """Read the wanted tags of all event files of a folder, in bounded memory.

    Files count in the order of their names, which begin with their time; where two values have the
    same tag and step, as after a restart, the later one stays.
    """
    values: dict[str, dict[int, float]] = {}
    not_finite: Counter[str] = Counter()
    log = EventLog()
    files = sorted(path for path in folder.iterdir() if _is_event_file(path.name))
    if not files:
        log.problems.append("there is no event file")
    for path in files:
        for step, entry in _entries(path, log.problems):
            kind = entry.WhichOneof("value")
            if kind == "simple_value" and entry.tag in scalar_tags:
                if np.isfinite(entry.simple_value):
                    _insert(values.setdefault(entry.tag, {}), step, entry.simple_value)
                else:
                    not_finite[entry.tag] += 1
            elif kind == "image" and entry.tag in picture_tags:
                picture = entry.image.encoded_image_string
                if len(picture) <= MAX_PICTURE_BYTES:
                    log.pictures[entry.tag] = picture
    for tag, points in values.items():
        steps, numbers = zip(*sorted(points.items()), strict=True)
        log.curves[tag] = Curve(np.array(steps, dtype=np.int64), np.array(numbers))
    log.problems.extend(
        f"{count:,} value{'s' * (count > 1)} of {tag} not finite"
        for tag, count in sorted(not_finite.items())
    )
    return log


def _is_event_file(name: str) -> bool:
    return "tfevents" in name


def _entries(path: Path, problems: list[str]) -> Iterator[tuple[int, Any]]:
    """Yield the step and the summary value of everything readable in a file."""
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # has no stubs
    from tensorboard.compat.proto.event_pb2 import Event  # type: ignore[import-untyped]  # likewise

    consumed = size = 0
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            problems.append(f"{path.name} is larger than {MAX_FILE_BYTES:,} bytes")
            return
        for record in read_records(path):
            if not record.is_sound:
                raise DamagedRecordError  # noqa: TRY301 - as the reader does
            consumed += len(record.data) + RECORD_OVERHEAD
            event = Event.FromString(record.data)
            for entry in event.summary.value:
                yield event.step, entry
    except (OSError, DecodeError, MemoryError, OverflowError) as error:
        problems.append(f"{path.name} cannot be read on: {type(error).__name__}")
        return
    except DamagedRecordError:
        problems.append(f"{path.name} is cut off or damaged after {consumed:,} of {size:,} bytes")
    if size == 0:
        problems.append(f"{path.name} is empty")


def _insert(points: dict[int, float], step: int, value: float) -> None:
    points[step] = value
    if len(points) > MAX_POINTS:
        kept = dict(sorted(points.items())[::-2])
        points.clear()
        points.update(kept)


@dataclass(frozen=True)
class FolderName:
    """What the name of a run folder tells; None for what it does not."""

    experiment: str
    """The name without the prefix, the seed and the time."""
    homework: int | None
    stage: str | None
    env_id: str | None
    algorithm: str | None
    seed: int | None
    settings: dict[str, float]
    """The settings that public versions put into names: `cql_alpha` or `temperature`."""


def parse_folder_name(name: str) -> FolderName:
    """Read a run folder's name, as this project writes it or as public versions do.

    `hw5_offline_pointmass_medium_cql_rnd5000_sd2_2026-01-31_12-00-00` and
    `hw5_offline_PointmassMedium-v0_cql0.1_31-01-2026_12-00-00` tell much the same.
    """
    homework = re.match(r"hw(\d+)", name)
    # The prefix comes first in the name, so it decides.
    stage = re.search("|".join(STAGES), name.lower())
    experiment = re.sub(r"[_-]\d{2,4}-\d{2}-\d{2,4}_\d{2}-\d{2}-\d{2}(-\d+)?$", "", name)
    experiment = re.sub(r"^hw\d+_(?:(?:explore|offline|finetune)_)?", "", experiment)
    seed = re.search(r"_(?:sd|seed)_?(\d{1,10})(?=_|$)", experiment)
    if seed:
        experiment = experiment[: seed.start()] + experiment[seed.end() :]
    maze = re.search(r"(?i)(very_?hard|hard|medium|easy)", experiment)
    maze_name = maze[1].lower().replace("_", "") if maze else None
    # "rnd" and "random" come second: offline names tell with them where the data are from.
    algorithm = re.search(r"(?i)(?<![a-z])(dqn|cql|awac|iql)(\d+(?:\.\d+)?)?", experiment)
    algorithm = algorithm or re.search(r"(?i)(?<![a-z])(rnd|random)(?![a-z])", experiment)
    kind = algorithm[1].lower() if algorithm else None
    settings: dict[str, float] = {}
    key = {"cql": "cql_alpha", "awac": "temperature", "iql": "temperature"}.get(kind or "")
    value = re.search(r"(?i)(?:alpha|temperature)_?(\d+(?:\.\d+)?)", experiment)
    if key and (number := value[1] if value else algorithm and algorithm[2]):
        settings[key] = float(number)
    return FolderName(
        experiment=experiment,
        homework=int(homework[1]) if homework else None,
        stage=stage[0] if stage else None,
        env_id=next((id_ for id_, maze in MAZES.items() if maze.name == maze_name), None),
        algorithm=kind,
        seed=int(seed[1]) if seed else None,
        settings=settings,
    )


def size_in_name(name: str) -> int | None:
    """Return the steps of RND's dataset that the name of it or of a run tells."""
    found = re.search(r"(?i)rnd_?(\d{3,7})(?!\d)", name)
    return int(found[1]) if found else None
