"""YAML in, validated configs out; every fault is one sentence."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from cs285.env_configs.base_config import BaseConfig
from cs285.envs.tasks import describe_task
from cs285.homework import STAGES, Stage, algorithms
from cs285.infrastructure.errors import UserError, suggestion
from cs285.infrastructure.yaml_text import read_yaml, shorten

MAX_PROBLEMS = 5
"""So many faults of a file are told at once."""


MAX_RUNS = 1_000
"""Runs that one sweep may ask for: more is a slip, not a plan."""

_TOLD_ANYWAY = {"seed"}


def load_config(path: Path, stage: str, overrides: Mapping[str, Any] | None = None) -> BaseConfig:
    """Read one YAML file as the config of one run.

    Args:
        path: The file.
        stage: `explore`, `offline` or `finetune`: which script asks.
        overrides: Values that go over those of the file, such as the seed of the command line.

    Raises:
        UserError: If the file cannot be read, is not YAML, does not validate or holds a sweep.
    """
    configs = load_sweep(path, stage, overrides)
    if len(configs) != 1:
        raise UserError(f"{path}: is a sweep of {len(configs)} runs, not one")
    return configs[0]


def load_sweep(
    path: Path, stage: str, overrides: Mapping[str, Any] | None = None
) -> list[BaseConfig]:
    """Read one YAML file as the configs of all its runs: one, or the product of its `sweep`.

    `sweep` maps keys to lists of values. Every run's `exp_name` tells its values; seeds are told
    by the run folder anyway.

    Raises:
        UserError: As `load_config`, or if the sweep is not usable.
    """
    return make_sweep(read_yaml(path), path, stage, overrides)


def make_sweep(
    values: Mapping[str, Any],
    path: Path,
    stage: str,
    overrides: Mapping[str, Any] | None = None,
) -> list[BaseConfig]:
    """Validate the values of one file, or of a dict that stands for one; see `load_sweep`.

    Args:
        values: The values, which may contain a `sweep`.
        path: Named in errors; gives the default name.
        stage: The stage that asks.
        overrides: Values that replace those of the file.

    Raises:
        UserError: If the values do not validate, or the sweep is not usable.
    """
    values, overrides = dict(values), dict(overrides or {})
    sweep = _read_sweep(values.pop("sweep", {}), values, path)
    axes = [[(key, value) for value in sweep[key]] for key in sweep if key not in overrides]
    if (count := math.prod(map(len, axes))) > MAX_RUNS:
        raise UserError(f"{path}: `sweep` asks for {count:,} runs; {MAX_RUNS:,} are the most")
    name = values.get("exp_name", path.stem)
    configs = []
    for point in itertools.product(*axes):
        suffix = "".join(f"_{key}{value}" for key, value in point if key not in _TOLD_ANYWAY)
        named = {"exp_name": f"{name}{suffix}"} if suffix and isinstance(name, str) else {}
        configs.append(make_config(values | dict(point) | named | overrides, path, stage))
    return configs


def _read_sweep(sweep: object, values: Mapping[str, Any], path: Path) -> dict[str, list[Any]]:
    """Check what stands under `sweep`."""
    if not isinstance(sweep, dict):
        raise UserError(f"{path}: `sweep` must map keys to lists, such as `seed: [1, 2, 3]`")
    known = _config_class(values.get("base_config"), path).model_fields
    for key, points in sweep.items():
        if key not in known or key in {"base_config", "exp_name"}:
            raise UserError(
                f"{path}: cannot sweep over {shorten(key)}{suggestion(str(key), known)}"
            )
        if key in values:
            raise UserError(f"{path}: `{key}` stands both in the file and in its `sweep`")
        if not isinstance(points, list) or not points:
            raise UserError(f"{path}: `sweep` needs a list of at least one value for `{key}`")
        if any(isinstance(point, list | dict) for point in points):
            raise UserError(f"{path}: `sweep` takes plain values for `{key}`, no lists or mappings")
        if len({str(point) for point in points}) < len(points):
            raise UserError(f"{path}: `sweep` names a value of `{key}` twice")
    return sweep


def make_config(values: dict[str, Any], path: Path, stage: str) -> BaseConfig:
    """Validate the values of one run; `path` is named in errors and gives the default name."""
    config_class = _config_class(values.get("base_config"), path)
    own = STAGES[Stage(stage)].own_keys
    for other, record in STAGES.items():
        for key in sorted(record.own_keys & values.keys() - own):
            raise UserError(
                f"{path}: `{key}` is for {other.script}; {Stage(stage).script} reads "
                + " and ".join(f"`{name}`" for name in sorted(own))
            )
    try:
        return config_class(**(_default_names(values, path, stage) | values))
    except ValidationError as error:
        problems = [_problem(detail, config_class) for detail in error.errors()[:MAX_PROBLEMS]]
        if (more := error.error_count() - MAX_PROBLEMS) > 0:
            problems.append(f"and {more} more")
        raise UserError(f"{path}: " + "; ".join(problems)) from None


def _config_class(name: object, path: Path) -> type[BaseConfig]:
    known = ", ".join(algorithms())
    if name is None:
        raise UserError(f"{path}: `base_config` is missing; it names the algorithm: {known}")
    if not isinstance(name, str) or name not in algorithms():
        meant = suggestion(name, algorithms()) if isinstance(name, str) else ""
        raise UserError(
            f"{path}: unknown `base_config` {shorten(name)}{meant}; the algorithms are {known}"
        )
    return algorithms()[name].config


def _default_names(values: Mapping[str, Any], path: Path, stage: str) -> dict[str, str]:
    explored = values.get("exp_name", path.stem)
    if stage != "explore" and isinstance(environment := values.get("env_name"), str):
        explored = f"{describe_task(environment).dataset_stem}_rnd"
    return {"exp_name": path.stem, "dataset_name": explored}


def _problem(detail: ErrorDetails, config_class: type[BaseConfig]) -> str:
    key = " ".join(".".join(map(str, detail["loc"])).split())[:80]
    match detail["type"]:
        case "extra_forbidden":
            return (
                f"unknown key `{key}`{_owners(key) or suggestion(key, config_class.model_fields)}"
            )
        case "missing":
            return f"`{key}` is missing"
        case "value_error":
            return f"`{key}`: {detail['ctx']['error']}"
    expected = detail["msg"].replace("Input should be", "must be")
    return f"`{key}` {expected}, not {shorten(detail['input'])}"


def _owners(key: str) -> str:
    """Tell which algorithms a key belongs to, if any."""
    owners = [name for name, one in algorithms().items() if key in one.config.model_fields]
    return f", which is for {' and '.join(owners)}" if owners else ""
