"""Reads YAML files into validated configs; every problem of a file becomes one sentence."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from cs285.env_configs.base_config import BaseConfig
from cs285.envs.tasks import describe_task
from cs285.homework import (
    STAGES,
    Stage,
    algorithms,
    keys_of_other_stages,
    keys_without_effect,
)
from cs285.infrastructure.errors import UserError, suggestion
from cs285.infrastructure.yaml_text import read_yaml, shorten

MAX_PROBLEMS = 5
"""Maximum number of problems of a file that are reported at once."""

MAX_RUNS = 1_000
"""Maximum number of runs in a sweep: more are probably a mistake."""

STARTER_KEYS = frozenset(
    {
        *("discount", "learning_rate", "hidden_size", "num_layers"),
        *("target_update_period", "clip_grad_norm", "use_double_q"),
    }
)
"""Keys that the public starter's files set for any algorithm; ignored where they have no effect."""

STARTER_NAMES = {
    "rnd_network_size": "rnd_hidden_size",
    "rnd_network_layers": "rnd_num_layers",
    "value_critic_hidden_size": "value_hidden_size",
    "value_critic_num_layers": "value_num_layers",
    "value_critic_learning_rate": "value_learning_rate",
}
"""The names here of keys that have other names in the public starter's files."""

INVERSE_TEMPERATURE = 3.0
"""A `temperature` of at least this may be meant as its inverse: IQL's authors use 3 and 10."""

SAVED_CONFIG = "config"
"""Stem of the resolved config in a run folder. Those of version 1.0 have keys without effect."""

_NAMED_ANYWAY = {"seed"}
"""Keys of a sweep that the names of run folders always include."""


def load_config(
    path: Path,
    stage: str,
    overrides: Mapping[str, Any] | None = None,
    notes: list[str] | None = None,
) -> BaseConfig:
    """Read one YAML file as the config of one run.

    Args:
        path: The file.
        stage: `explore`, `offline` or `finetune`.
        overrides: Values that replace those of the file, such as the command line's seed.
        notes: Receives a line about ignored keys; without it, the line is printed.

    Raises:
        UserError: If the file cannot be read, is not YAML, is not valid or contains a sweep.
    """
    configs = load_sweep(path, stage, overrides, notes)
    if len(configs) != 1:
        raise UserError(f"{path}: a sweep of {len(configs)} runs, not a single run")
    return configs[0]


def load_sweep(
    path: Path,
    stage: str,
    overrides: Mapping[str, Any] | None = None,
    notes: list[str] | None = None,
) -> list[BaseConfig]:
    """Read one YAML file as the configs of all its runs: one, or the product of its `sweep`.

    `sweep` maps keys to lists of values. The `exp_name` of every run names its values, except the
    seed, which the run folder names anyway.

    Raises:
        UserError: As `load_config`, or if the sweep is not valid.
    """
    return make_sweep(read_yaml(path), path, stage, overrides, notes)


def find_config(path: Path) -> Path:
    """Return a config file, or its namesake in a folder with the alternative name.

    The public starter has its files for fine-tuning in `experiments/finetuning`.
    """
    folder = path.parent if path.parent.name else path.absolute().parent
    for record in STAGES.values():
        if folder.name not in record.folders or path.exists():
            continue
        for name in record.folders:
            twin = folder.with_name(name) / path.name
            if twin.is_file():
                print_notes([f"{path} does not exist; reading {twin} instead"])
                return twin
    return path


def make_sweep(
    values: Mapping[str, Any],
    path: Path,
    stage: str,
    overrides: Mapping[str, Any] | None = None,
    notes: list[str] | None = None,
) -> list[BaseConfig]:
    """Validate the values of one file, or of a dict in place of one; see `load_sweep`.

    Args:
        values: The values, which may contain a `sweep`.
        path: The file for error messages, whose stem is the default `exp_name`.
        stage: `explore`, `offline` or `finetune`.
        overrides: Values that replace those of the file.
        notes: Receives a line about ignored keys; without it, the line is printed.

    Raises:
        UserError: If the values or the sweep are not valid.
    """
    found: list[str] = []
    values, overrides = _rename_keys(values, path, found), dict(overrides or {})
    sweep = values.pop("sweep", {})
    if isinstance(sweep, dict):
        sweep = _rename_keys(sweep, path, found)
    sweep = _read_sweep(sweep, values, path)
    config_class = _config_class(values.get("base_config"), path)
    _refuse_keys_of_other_stages(_swept(sweep, values, stage), path, Stage(stage), config_class)
    axes = [[(key, value) for value in sweep[key]] for key in sweep if key not in overrides]
    if (count := math.prod(map(len, axes))) > MAX_RUNS:
        raise UserError(
            f"{path}: `sweep` asks for {count:,} runs; at most {MAX_RUNS:,} are allowed"
        )
    name = values.get("exp_name", path.stem)
    configs = []
    for point in itertools.product(*axes):
        suffix = "".join(f"_{key}{value}" for key, value in point if key not in _NAMED_ANYWAY)
        named = {"exp_name": f"{name}{suffix}"} if suffix and isinstance(name, str) else {}
        configs.append(make_config(values | dict(point) | named | overrides, path, stage, found))
    found += _inverse_temperature(values, configs[0], path)
    if notes is None:
        print_notes(found)
    else:
        notes += found
    return configs


def print_notes(notes: Sequence[str]) -> None:
    """Print notes on configs to standard error, each once."""
    for note in dict.fromkeys(notes):
        print(note, file=sys.stderr)


def _read_sweep(sweep: object, values: Mapping[str, Any], path: Path) -> dict[str, list[Any]]:
    """Check the value of `sweep` in a file."""
    if not isinstance(sweep, dict):
        raise UserError(f"{path}: `sweep` must map keys to lists, such as `seed: [1, 2, 3]`")
    known = _config_class(values.get("base_config"), path).model_fields
    for key, points in sweep.items():
        if key not in known or key in {"base_config", "exp_name"}:
            raise UserError(
                f"{path}: cannot sweep over {shorten(key)}{suggestion(str(key), known)}"
            )
        if key in values:
            raise UserError(f"{path}: `{key}` appears both in the file and in its `sweep`")
        if not isinstance(points, list) or not points:
            raise UserError(f"{path}: `sweep` needs a list of at least one value for `{key}`")
        if any(isinstance(point, list | dict) for point in points):
            raise UserError(
                f"{path}: `sweep` needs plain values for `{key}`, not lists or mappings"
            )
        if len({str(point) for point in points}) < len(points):
            raise UserError(f"{path}: `sweep` lists a value of `{key}` twice")
    return sweep


def make_config(
    values: Mapping[str, Any], path: Path, stage: str, notes: list[str] | None = None
) -> BaseConfig:
    """Validate the values of one run.

    Args:
        values: Keys and values as in the file.
        path: The file for error messages, whose stem is the default `exp_name`.
        stage: `explore`, `offline` or `finetune`.
        notes: Receives a line about ignored keys.

    Raises:
        UserError: If a key is unknown or a value is not valid.
    """
    stage = Stage(stage)
    config_class = _config_class(values.get("base_config"), path)
    found: list[str] = []
    named = _rename_keys(values, path, found)
    kept = _drop_ignored_keys(_split_total_steps(named, path, stage, found), path, stage, found)
    _refuse_keys_of_other_stages(kept, path, stage, config_class)
    try:
        config = config_class(**(_default_names(kept, path, stage) | kept))
    except ValidationError as error:
        problems = [_problem(detail, config_class) for detail in error.errors()[:MAX_PROBLEMS]]
        if (more := error.error_count() - MAX_PROBLEMS) > 0:
            problems.append(f"and {more} more")
        raise UserError(f"{path}: " + "; ".join(problems)) from None
    if notes is not None:
        notes += found
    return config


def _split_total_steps(
    values: Mapping[str, Any], path: Path, stage: Stage, notes: list[str]
) -> Mapping[str, Any]:
    """Interpret `total_steps` in fine-tuning as in the public starter's files.

    There it counts offline and online steps together and appears next to `offline_steps`.
    """
    if stage is not Stage.FINETUNE or "online_steps" in values:
        return values
    total, offline = (_as_steps(values.get(key)) for key in ("total_steps", "offline_steps"))
    if total is None or offline is None:
        return values
    if total <= offline:
        raise UserError(
            f"{path}: `total_steps` counts offline and online steps together in {stage.script}, "
            f"so it must be larger than `offline_steps`, {offline:,}, not {total:,}"
        )
    online = total - offline
    notes.append(
        "`total_steps` counts offline and online steps together here: "
        f"`online_steps` is {online:,} ({total:,} minus {offline:,})"
    )
    rest = {key: value for key, value in values.items() if key != "total_steps"}
    return rest | {"online_steps": online}


def _rename_keys(values: Mapping[str, Any], path: Path, notes: list[str]) -> dict[str, Any]:
    """Rename keys of the public starter's files to their names here."""
    renamed = {}
    for key, value in values.items():
        name = STARTER_NAMES.get(key, key)
        if name != key:
            if name in values:
                raise UserError(f"{path}: `{key}` is the same as `{name}`; give one of them")
            notes.append(f"`{key}` is called `{name}` here")
        renamed[name] = value
    return renamed


def _inverse_temperature(values: Mapping[str, Any], config: BaseConfig, path: Path) -> list[str]:
    """Explain the effect of a large `temperature`, unless a sweep compares several."""
    known = getattr(config, "temperature", 0.0) if "temperature" in values else 0.0
    if known < INVERSE_TEMPERATURE or path.stem == SAVED_CONFIG:
        return []
    note = (
        f"`temperature: {known:g}` divides the advantage, as in the handout and the public "
        "starter: the weights exp(A / temperature) are then nearly equal, so the actor clones the "
        f"data; for the IQL paper's inverse temperature {known:g}, write "
        f"`temperature: {1 / known:.2g}`"
    )
    return [note]


def _as_steps(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if math.isfinite(value) and value == int(value) else None


def _drop_ignored_keys(
    values: Mapping[str, Any], path: Path, stage: Stage, notes: list[str]
) -> dict[str, Any]:
    """Drop the keys without effect that are not errors, and note which are ignored."""
    algorithm = values["base_config"]
    useless = keys_without_effect(algorithm, values)
    dropped = [key for key in useless if key in STARTER_KEYS or path.stem == SAVED_CONFIG]
    if dropped:
        notes.append(f"{_without_effect(dropped)} for `{algorithm}`; ignored")
    if path.stem != SAVED_CONFIG:
        ignored = STAGES[stage].ignored_keys
        if unread := [key for key in values if key in ignored and key not in useless]:
            notes.append(f"{_without_effect(unread)} in {stage.script}; ignored")
        if STAGES[stage].own_keys & values.keys():
            # The file is for this stage nevertheless.
            others = [key for key in values if key in keys_of_other_stages(stage)]
            if others := [key for key in others if key not in dropped]:
                notes.append(f"{_without_effect(others)} in {stage.script}; ignored")
                dropped += others
    return {key: value for key, value in values.items() if key not in dropped}


def _without_effect(keys: Sequence[str]) -> str:
    verb = "has" if len(keys) == 1 else "have"
    return f"{_listed([f'`{key}`' for key in keys])} {verb} no effect"


def _swept(sweep: Mapping[str, Any], values: Mapping[str, Any], stage: str) -> list[str]:
    """Return the keys of a sweep, without the `total_steps` of a starter's fine-tuning."""
    splits = stage == Stage.FINETUNE and "online_steps" not in {*values, *sweep}
    return [key for key in sweep if not (splits and key == "total_steps")]


def _refuse_keys_of_other_stages(
    values: Iterable[str], path: Path, stage: Stage, config_class: type[BaseConfig]
) -> None:
    own = STAGES[stage].own_keys
    read = sorted(own & config_class.model_fields.keys())
    for other, record in STAGES.items():
        for key in sorted(record.own_keys & {*values} - own):
            raise UserError(
                f"{path}: `{key}` is for {other.script}; {stage.script} reads "
                + _listed([f"`{name}`" for name in read])
            )


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


def _default_names(values: Mapping[str, Any], path: Path, stage: Stage) -> dict[str, str]:
    explored = values.get("exp_name", path.stem)
    if stage is not Stage.EXPLORE and isinstance(environment := values.get("env_name"), str):
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
    """Return which algorithms have a key, as the end of a sentence; empty if none."""
    owners = [name for name, one in algorithms().items() if key in one.config.model_fields]
    return f", which is for {_listed(owners)}" if owners else ""


def _listed(parts: Sequence[str]) -> str:
    """Join with commas and "and"."""
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))
