"""Records of the runs that one command trains, so that all of them can resume."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cs285.homework import Stage
from cs285.infrastructure.errors import UserError
from cs285.infrastructure.files import check_name, write_atomically
from cs285.results.run_folders import RunFolder
from cs285.training.options import Options


class Sweep(BaseModel):
    """All runs of one command."""

    model_config = ConfigDict(extra="forbid")

    stage: Stage
    options: Options
    workers: Annotated[int, Field(ge=1, le=1_000)]
    device: Annotated[str, Field(pattern=r"^(cpu|cuda:\d{1,3})$")]
    programs: list[Annotated[list[str], Field(min_length=1)]] = Field(min_length=1)
    """Names of the run folders of each program."""


def write(sweep: Sweep, data_dir: Path) -> None:
    """Write the record of a sweep into its run folders, with paths relative to `data_dir`.

    Raises:
        UserError: If they cannot be written to.
    """
    first, *others = [name for program in sweep.programs for name in program]
    base = data_dir.resolve()
    seen = _move(sweep, Path(), lambda path: Path(os.path.relpath(path.resolve(), base)))
    _write(RunFolder(data_dir / first), seen.model_dump_json())
    for name in others:
        _write(RunFolder(data_dir / name), json.dumps({"first": first}))


def _write(folder: RunFolder, text: str) -> None:
    write_atomically(folder.sweep_record, lambda file: file.write(text.encode()))


def read(folder: Path) -> Sweep:
    """Read the sweep that a run folder, or a link to one, belongs to.

    The `data_dir` of its options is the folder that now contains its runs.

    Raises:
        UserError: If the folder has no valid record.
    """
    path = RunFolder(folder).sweep_record
    try:
        values = json.loads(path.read_bytes())
        if isinstance(values, dict) and values.keys() == {"first"}:
            first = check_name(values["first"], "folder")
            path = RunFolder(_home(folder, first) / first).sweep_record
            values = json.loads(path.read_bytes())
        sweep = Sweep.model_validate(values)
        if sweep.options.data_dir != Path():
            raise ValueError  # noqa: TRY301 - one place reports all
    except OSError as error:
        raise UserError(
            f"--resume {folder}: cannot open {path}: {error.strerror}; give a run folder, "
            "such as those in data/"
        ) from error
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else "damaged"
        raise UserError(
            f"--resume {folder}: {path} is not a valid record of runs: {reason}"
        ) from error
    names = [name for program in sweep.programs for name in program]
    for name in names:
        check_name(name, f"the folder name in {path}")
    home = _home(folder, names[0])
    for name in names:
        if not (home / name).is_dir():
            raise UserError(f"--resume {folder}: there is no folder {home / name}")
    base = home.resolve()
    return _move(sweep, home, lambda path: Path(os.path.normpath(base / path)))


def _home(folder: Path, name: str) -> Path:
    """Return the folder that contains both a run folder, however it was given, and `name`."""
    ways = (folder, Path(os.path.abspath(folder)), folder.resolve())  # noqa: PTH100 - follows no links
    return next((way.parent for way in ways if (way.parent / name).is_dir()), folder.parent)


def _move(sweep: Sweep, data_dir: Path, move: Callable[[Path], Path]) -> Sweep:
    """Return a sweep with another `data_dir`, and its other folders changed by `move`."""
    options = sweep.options
    dataset_dir, picture_dir = map(move, (options.dataset_dir, options.picture_dir))
    moved = replace(options, data_dir=data_dir, dataset_dir=dataset_dir, picture_dir=picture_dir)
    return sweep.model_copy(update={"options": moved})


def is_begun(folders: Sequence[RunFolder]) -> bool:
    """Return whether the program of these folders has a checkpoint or has ended."""
    return folders[0].has_checkpoint or all(folder.has_ended for folder in folders)
