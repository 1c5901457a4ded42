"""Dataset files: the transitions of an exploration run, and a manifest of their origin.

A dataset is one `.npz` file without pickles. The reader does not trust its contents: it checks
every header before it allocates the array.
"""

import itertools
import json
import math
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cs285.datasets.versions import versions
from cs285.envs.tasks import Task, get_task
from cs285.homework import algorithms, keys_without_effect
from cs285.infrastructure.errors import UserError
from cs285.infrastructure.files import check_name, write_atomically

FORMAT_VERSION = 1
DATASET_FIELDS = ("observations", "actions", "rewards", "next_observations", "terminated")
"""Arrays of a dataset in the order of `Batch`."""
# Far above any dataset of the homework; keeps a forged file from claiming all memory.
MAX_TRANSITIONS = 10_000_000
MAX_MANIFEST_BYTES = 4_000_000

FIELDS: dict[str, np.dtype[Any]] = {
    "observations": np.dtype(np.float32),
    "actions": np.dtype(np.int64),
    "rewards": np.dtype(np.float32),
    "next_observations": np.dtype(np.float32),
    "terminated": np.dtype(np.bool_),
    "truncated": np.dtype(np.bool_),
}
"""The element type of every array in a file."""
OBSERVATIONS = ("observations", "next_observations")
"""Arrays with one observation per transition; all others have one number per transition."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """N transitions of one environment, in the order in which they were collected.

    Attributes:
        observations: Shape (N, *observation_shape), float32, finite; in a maze also within the
            observation space.
        actions: Shape (N,), int64, numbered from 0.
        rewards: Shape (N,), float32.
        next_observations: Shape (N, *observation_shape), float32, like `observations`.
        terminated: Shape (N,), bool; the episode ended here, such as in the goal.
        truncated: Shape (N,), bool; the step limit truncated the episode here.
        manifest: The origin of the data, as `make_manifest` returns it; its `env_id` determines
            what the arrays may contain.

    Raises:
        ValueError: The environment is unknown, an array has the wrong shape or type, values are
            out of range, or N is 0.
    """

    observations: npt.NDArray[np.float32]
    actions: npt.NDArray[np.int64]
    rewards: npt.NDArray[np.float32]
    next_observations: npt.NDArray[np.float32]
    terminated: npt.NDArray[np.bool_]
    truncated: npt.NDArray[np.bool_]
    manifest: dict[str, Any]

    def __post_init__(self) -> None:
        task = get_task(self.manifest["env_id"])
        for name, array in self.arrays().items():
            _check_layout(name, array.dtype, array.shape, self.actions.size, task)
        for name in OBSERVATIONS:
            _check_observations(name, getattr(self, name), task)
        if self.actions.min() < 0 or self.actions.max() >= task.num_actions:
            raise ValueError(f"actions must be from 0 to {task.num_actions - 1}")
        if not np.isfinite(self.rewards).all():
            raise ValueError("rewards must be finite")
        for name in ("terminated", "truncated"):
            # Bytes of a forged file; compiled updates rely on 0 and 1.
            if getattr(self, name).view(np.uint8).max() > 1:
                raise ValueError(f"{name} must be true or false")

    def __len__(self) -> int:
        return len(self.actions)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays by name."""
        return {name: getattr(self, name) for name in FIELDS}

    @property
    def episode_starts(self) -> npt.NDArray[np.int64]:
        """Index of the first transition of every episode, shape (episodes,)."""
        return episode_starts(self.terminated, self.truncated)


def episode_starts(
    terminated: npt.NDArray[np.bool_], truncated: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int64]:
    """Return where episodes start among N > 0 transitions in the order of their collection.

    Args:
        terminated: Shape (N,).
        truncated: Shape (N,).

    Returns:
        Shape (episodes,); the last episode may be unfinished.
    """
    ends = np.flatnonzero(terminated | truncated)
    starts = np.concatenate([[0], ends + 1])
    return starts[starts < len(terminated)]


def make_manifest(
    env_id: str,
    config: Mapping[str, Any],
    seed: int,
    arrays: Mapping[str, npt.NDArray[Any]],
) -> dict[str, Any]:
    """Return a description of collected data: their origin and what they cover.

    Args:
        env_id: The environment in which they were collected.
        config: The full resolved config, of JSON types.
        seed: The seed of the run.
        arrays: The arrays of a `Dataset` by name.

    Returns:
        A dict of JSON types, with the task's statistics of the data.
    """
    terminated = arrays["terminated"]
    return {
        "format_version": FORMAT_VERSION,
        "env_id": env_id,
        "seed": seed,
        "transitions": len(terminated),
        "episodes": len(episode_starts(terminated, arrays["truncated"])),
        **get_task(env_id).statistics(
            arrays["observations"], arrays["next_observations"], terminated
        ),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "config": dict(config),
    }


def dataset_path(dataset_dir: Path, dataset_name: str, seed: int) -> Path:
    """Return the path of the dataset that exploration collects under this name and seed.

    Raises:
        UserError: `dataset_name` is not a plain name.
    """
    check_name(dataset_name, "dataset_name")
    return dataset_dir / f"{dataset_name}_seed{seed}.npz"


def find_dataset(dataset_dir: Path, dataset_name: str, seed: int) -> Path | None:
    """Return the dataset with this name and seed, or with this name for all seeds, or None.

    Raises:
        UserError: `dataset_name` is not a plain name, or the folder cannot be searched.
    """
    own = dataset_path(dataset_dir, dataset_name, seed)
    shared = dataset_dir / f"{dataset_name}.npz"
    try:
        if dataset_dir.is_file():
            raise UserError(
                f"--dataset_dir {dataset_dir}: is a file; give the folder that contains it, and "
                "its name as `dataset_name`"
            )
        return next((path for path in (own, shared) if path.is_file()), None)
    except OSError as error:
        raise UserError(f"cannot look into {dataset_dir}: {error.strerror}") from error


def find_pickle(dataset_dir: Path, dataset_name: str, seed: int) -> Path | None:
    """Return the pickled buffer of a public version with the name of a dataset, if any."""
    names = (f"{dataset_name}_seed{seed}.pkl", f"{dataset_name}.pkl")
    paths = (dataset_dir / name for name in names)
    return next((path for path in paths if path.is_file()), None)


def set_aside(path: Path, config: Mapping[str, Any]) -> Path | None:
    """Rename the dataset at `path` if it was made with a config other than `config`.

    Returns:
        Its new path; None if there was no dataset or it was made with an equal config.

    Raises:
        UserError: It cannot be renamed.
    """
    if not path.exists():
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            saved = json.loads(str(_read_array(archive, "manifest")))["config"]
        if _effective(saved) == _effective(config):
            return None
    except (OSError, ValueError, KeyError, AttributeError, zipfile.BadZipFile, UserError):
        pass  # unreadable, so not the dataset that the new run would make
    aside = next(
        candidate
        for count in itertools.count(1)
        if not (candidate := path.with_name(f"{path.stem}_replaced{count}.npz")).exists()
    )
    try:
        path.rename(aside)
    except OSError as error:
        raise UserError(f"cannot keep {path} as {aside.name}: {error.strerror}") from error
    return aside


def _effective(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config without the keys that have no effect, which version 1 also saved."""
    algorithm = str(config.get("base_config"))
    useless = keys_without_effect(algorithm, config) if algorithm in algorithms() else []
    return {key: value for key, value in config.items() if key not in useless}


def save_dataset(path: Path, dataset: Dataset) -> None:
    """Write the dataset to `path`, complete or not at all.

    Raises:
        UserError: The file cannot be written.
    """
    manifest = np.array(json.dumps(dataset.manifest, allow_nan=False))
    members: dict[str, Any] = {"manifest": manifest, **dataset.arrays()}
    write_atomically(path, lambda file: np.savez_compressed(file, **members))


def load_dataset(path: Path, env_id: str) -> Dataset:
    """Read a dataset of the environment `env_id`.

    Raises:
        UserError: The file is missing, damaged, not a dataset, of a newer format, or of another
            environment.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            manifest = _read_manifest(archive, env_id)
            shape, _ = _read_header(archive, "actions")
            task = get_task(env_id)
            arrays = {name: _read_field(archive, name, math.prod(shape), task) for name in FIELDS}
        return Dataset(**arrays, manifest=manifest)
    except OSError as error:
        raise UserError(f"cannot open the dataset {path}: {error.strerror or error}") from error
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise UserError(
            f"the dataset {path} cannot be used: it is damaged, truncated or not a dataset file"
        ) from error
    except Exception as error:
        # On forged bytes, zipfile, json and NumPy raise errors of many kinds, and the checks here
        # raise their own. To the user they all mean the same.
        raise UserError(f"the dataset {path} cannot be used: {error}") from error


def _read_manifest(archive: zipfile.ZipFile, env_id: str) -> dict[str, Any]:
    missing = {"manifest", *FIELDS} - {name.removesuffix(".npy") for name in archive.namelist()}
    if missing:
        raise ValueError(f"it lacks {', '.join(sorted(missing))}")
    shape, dtype = _read_header(archive, "manifest")
    if dtype.kind != "U" or shape != () or dtype.itemsize > MAX_MANIFEST_BYTES:
        raise ValueError(f"its manifest is {dtype} of shape {shape}, not one short text")
    manifest = json.loads(str(_read_array(archive, "manifest")))
    if not isinstance(manifest, dict):
        raise TypeError("its manifest is not a mapping")
    if (version := manifest.get("format_version")) != FORMAT_VERSION:
        raise ValueError(
            f"it has format version {version}, but this code reads {FORMAT_VERSION}; update the "
            f"code or collect the data again"
        )
    if manifest.get("env_id") != env_id:
        raise ValueError(f"it was collected in {manifest.get('env_id')!r}, not in {env_id!r}")
    return manifest


def _read_field(archive: zipfile.ZipFile, name: str, size: int, task: Task) -> npt.NDArray[Any]:
    shape, dtype = _read_header(archive, name)
    _check_layout(name, dtype, shape, size, task)
    return _read_array(archive, name)


def _read_header(archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return the claimed shape and type of an array, if its size in the archive agrees."""
    info = archive.getinfo(f"{name}.npy")
    # Other compression methods may allocate gigabytes before they return a byte.
    if info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise ValueError(f"{name} is compressed with a method that datasets do not use")
    with archive.open(info) as member:
        # Later format versions, for arrays with fields, allow headers of any length.
        if np.lib.format.read_magic(member) != (1, 0):
            raise ValueError(f"{name} is in an array format that datasets do not use")
        shape, _, dtype = np.lib.format.read_array_header_1_0(member)
        stored = info.file_size - member.tell()
    if dtype.hasobject:
        raise ValueError(f"{name} is pickled, and unpickling could run arbitrary code")
    if math.prod(shape) * dtype.itemsize != stored:
        raise ValueError(f"{name} claims to be {dtype} of shape {shape} but has {stored} bytes")
    return shape, dtype


def _read_array(archive: zipfile.ZipFile, name: str) -> npt.NDArray[Any]:
    with archive.open(f"{name}.npy") as member:
        array: npt.NDArray[Any] = np.lib.format.read_array(member, allow_pickle=False)
        return array


def _check_layout(
    name: str, dtype: np.dtype[Any], shape: tuple[int, ...], size: int, task: Task
) -> None:
    """Check the type and shape of one array in a dataset of `size` transitions."""
    if size <= 0:
        raise ValueError("it contains no transitions")
    if size > MAX_TRANSITIONS:
        raise ValueError(f"it claims {size} transitions, more than {MAX_TRANSITIONS}")
    expected_dtype = FIELDS[name]
    tail = task.observation_shape if name in OBSERVATIONS else ()
    if dtype != expected_dtype or shape != (size, *tail):
        raise ValueError(
            f"{name} is {dtype} of shape {shape}, not {expected_dtype} of shape {(size, *tail)}"
        )


def _check_observations(name: str, array: npt.NDArray[np.float32], task: Task) -> None:
    """Check that observations are finite and, if the task keeps its bounds, within them."""
    least, most = array.min(axis=0), array.max(axis=0)
    if not task.keeps_bounds:
        if not (np.isfinite(least) & np.isfinite(most)).all():
            raise ValueError(f"{name} must be finite")
        return
    box = task.observation_space
    # Written so that NaN, which compares false, fails as well.
    inside = (least >= box.low) & (most <= box.high)
    if not (inside & np.isfinite(least) & np.isfinite(most)).all():
        low, high = float(box.low.min()), float(box.high.max())
        bounds = (
            f"in [{low:g}, {high:g}]"
            if (box.low == low).all() and (box.high == high).all()
            else f"finite and within the observation space of {task.env_id}"
        )
        raise ValueError(f"{name} must be {bounds}")
