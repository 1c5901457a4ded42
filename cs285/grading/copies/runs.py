"""Fingerprints of the runs of a hand-in: some points of each log, with their times."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cs285.grading.copies.packing import pack, unpack
from cs285.grading.hand_ins.logs import MAX_STEP, MAX_TIME
from cs285.grading.hand_ins.submitted_runs import Run
from cs285.homework import Stage
from cs285.results.event_blocks import DamagedFileError, read_event_blocks
from cs285.results.event_files import why_not_a_log
from cs285.results.folder_names import size_in_name
from cs285.results.run_folders import EVENT_FILE_WRITER

Floats = npt.NDArray[np.float64]
Steps = npt.NDArray[np.int64]
Singles = npt.NDArray[np.float32]

MAX_TAGS = 16
"""Maximum number of tags of a run whose points are kept; the least varied tags are left out."""
MAX_POINTS = 32
"""Maximum number of points kept of a tag."""
_FIRST_TAG = "eval_return"
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


class Writer(NamedTuple):
    """The process that wrote an event file, according to the file's name."""

    time: str
    host: str
    process: str


@dataclass(frozen=True)
class Claim:
    """What a run is according to its folder; None for anything the folder does not state."""

    stage: str
    algorithm: str
    env_id: str
    seed: int | None
    alpha: float | None
    dataset_steps: int | None

    def contradicts(self, other: Claim) -> tuple[str, ...]:
        """Return the names of the properties that both folders state and that differ."""
        mine, others = self._stated(), other._stated()
        return tuple(name for name in mine if name in others and mine[name] != others[name])

    def _stated(self) -> dict[str, object]:
        stated: dict[str, object] = {
            "stage": self.stage,
            # CQL without its conservative term is DQN.
            "algorithm": "dqn" if self.alpha == 0 else self.algorithm,
            "environment": self.env_id,
            "seed": self.seed,
            "alpha": self.alpha,
            "dataset": self.dataset_steps,
        }
        return {name: value for name, value in stated.items() if value not in {None, ""}}


class Extent(NamedTuple):
    """The number and a hash of all points of a tag."""

    points: int
    digest: str
    """A hash of the steps and values."""


@dataclass(frozen=True, eq=False)
class RunPrint:
    """The fingerprint of one run."""

    folder: str
    claim: Claim
    writers: tuple[Writer, ...]
    wall_time_s: float | None
    """The duration according to `summary.json`."""
    extents: Mapping[str, Extent]
    """The extent of every tag."""
    first_step: int
    last_step: int
    tags: tuple[str, ...]
    """The tags whose points are kept here."""
    tag: npt.NDArray[np.uint8]
    """The index in `tags` of each point, shape (N,)."""
    step: npt.NDArray[np.int64]
    value: Singles
    time: Floats
    """Seconds since 1970."""
    keys: npt.NDArray[np.uint64] = field(repr=False)
    """A hash of the tag, step and rounded value of each point, shape (N,)."""

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "folder": self.folder,
            "claim": list(vars(self.claim).values()),
            "writers": [list(one) for one in self.writers],
            "wall_time_s": self.wall_time_s,
            "extents": {tag: list(one) for tag, one in self.extents.items()},
            "range": [self.first_step, self.last_step],
            "tags": list(self.tags),
            "tag": pack(self.tag),
            "step": pack(self.step),
            "value": pack(self.value),
            "time": pack(self.time),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RunPrint:
        """Return the fingerprint that `as_json` turned into plain data."""
        tags = tuple(data["tags"])
        tag, step = unpack(data["tag"], "u1"), unpack(data["step"], "<i8")
        value = unpack(data["value"], "<f4")
        return cls(
            data["folder"],
            Claim(*data["claim"]),
            tuple(Writer(*one) for one in data["writers"]),
            data["wall_time_s"],
            {name: Extent(*one) for name, one in data["extents"].items()},
            data["range"][0],
            data["range"][1],
            tags,
            tag,
            step,
            value,
            unpack(data["time"], "<f8"),
            point_keys(tags, tag, step, value),
        )


class _Series(NamedTuple):
    steps: Steps
    values: Singles
    times: Floats


def read_run(run: Run, files: Sequence[Path]) -> RunPrint | None:
    """Return the fingerprint of a run; None if its log shows too little to compare."""
    series = _read_series(files)
    if not series:
        return None
    varied = {tag: len(np.unique(one.values)) for tag, one in series.items()}
    chosen = sorted(
        (tag for tag, count in varied.items() if count > 1),
        key=lambda tag: (tag != _FIRST_TAG, -min(varied[tag], MAX_POINTS), tag),
    )[:MAX_TAGS]
    if not chosen:
        return None
    kept = [(number, series[tag], _sample(series[tag].steps)) for number, tag in enumerate(chosen)]
    tag = np.concatenate([np.full(len(at), number, dtype=np.uint8) for number, _, at in kept])
    step = np.concatenate([one.steps[at] for _, one, at in kept])
    value = np.concatenate([one.values[at] for _, one, at in kept])
    return RunPrint(
        str(run.folder),
        Claim(str(run.stage), run.algorithm, run.env_id, run.seed, run.alpha, _named_size(run)),
        tuple(_writers(path.name for path in files)),
        run.summary.wall_time_s if run.summary else None,
        {tag: Extent(len(one.steps), _digest(one)) for tag, one in series.items()},
        min(int(one.steps[0]) for one in series.values()),
        max(int(one.steps[-1]) for one in series.values()),
        tuple(chosen),
        tag,
        step,
        value,
        np.concatenate([one.times[at] for _, one, at in kept]),
        point_keys(chosen, tag, step, value),
    )


def _named_size(run: Run) -> int | None:
    """Return the size of the dataset that a run learns from, if its name gives it."""
    if run.stage is Stage.EXPLORE:
        return None
    return size_in_name((run.config and run.config.dataset_name) or run.parsed.experiment)


def _writers(names: Iterator[str]) -> Iterator[Writer]:
    for name in names:
        if found := EVENT_FILE_WRITER.search(name):
            yield Writer(found["time"], found["host"], found["process"] or "")


def _read_series(files: Sequence[Path]) -> dict[str, _Series]:
    """Return all points of every tag; of several at one step, the last counts."""
    parts: defaultdict[str, list[_Series]] = defaultdict(list)
    for path in files:
        with suppress(OSError, DamagedFileError):
            if why_not_a_log(path) is not None:
                continue
            for block in read_event_blocks(path):
                for tag, points in block.scalars.items():
                    steps, times = block.steps[points.events], block.wall_times[points.events]
                    fine = np.isfinite(points.values) & (steps >= 0) & (steps <= MAX_STEP)
                    fine &= (times >= 0) & (times <= MAX_TIME)
                    values = points.values[fine].astype(np.float32)
                    parts[tag].append(_Series(steps[fine], values, times[fine]))
    return {tag: joined for tag, own in parts.items() if len((joined := _joined(own)).steps)}


def _joined(parts: Sequence[_Series]) -> _Series:
    steps, values, times = (np.concatenate(column) for column in zip(*parts, strict=True))
    # Reversed because `unique` keeps the first of equal steps, and the last value should stay.
    distinct, chosen = np.unique(steps[::-1], return_index=True)
    return _Series(distinct, values[::-1][chosen], times[::-1][chosen])


def _sample(steps: Steps) -> npt.NDArray[np.int64]:
    """Return the indices of a sample of steps, chosen alike in every log.

    A thinned log has only some steps of the full log, so the choice of a step must not depend on
    which other steps there are.
    """
    if len(steps) <= MAX_POINTS:
        return np.arange(len(steps))
    mixed = (steps.astype(np.uint64) + np.uint64(1)) * _MULTIPLIER
    mixed ^= mixed >> np.uint64(32)
    chosen = np.argpartition(mixed * _MULTIPLIER, MAX_POINTS)[:MAX_POINTS]
    return np.sort(chosen).astype(np.int64)


def _digest(series: _Series) -> str:
    content = series.steps.astype("<i8").tobytes() + series.values.astype("<f4").tobytes()
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def point_keys(
    tags: Sequence[str],
    tag: npt.NDArray[np.uint8],
    step: Steps,
    value: Singles,
) -> npt.NDArray[np.uint64]:
    """Return a hash of the tag, step and value of points (N,).

    Only four digits of a value count, so a change in a later digit leaves nearly all keys equal.
    """
    names = np.array(
        [int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest()) for name in tags],
        dtype=np.uint64,
    )
    wide = value.astype(np.float64)
    with np.errstate(divide="ignore"):
        exponent = np.where(wide == 0, 0.0, np.floor(np.log10(np.abs(wide))))
    digits = np.round(wide / 10.0 ** (exponent - 3)).astype(np.int64) * 1_000 + exponent.astype(
        np.int64
    )
    mixed = names[tag] ^ (step.astype(np.uint64) * _MULTIPLIER)
    mixed = (mixed ^ (mixed >> np.uint64(29))) * _MULTIPLIER + digits.astype(np.uint64)
    mixed = (mixed ^ (mixed >> np.uint64(31))) * np.uint64(0xBF58476D1CE4E5B9)
    keys: npt.NDArray[np.uint64] = mixed ^ (mixed >> np.uint64(30))
    return keys


def folder_name(folder: str) -> str:
    """Return the last part of a run's folder."""
    return PurePosixPath(folder).name
