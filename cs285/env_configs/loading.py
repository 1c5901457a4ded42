"""YAML in, validated configs out; every fault is one sentence."""

from __future__ import annotations

import itertools
import math
import re
import reprlib
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from cs285.env_configs.awac_config import AWACConfig
from cs285.env_configs.base_config import BaseConfig
from cs285.env_configs.cql_config import CQLConfig
from cs285.env_configs.dqn_config import DQNConfig
from cs285.env_configs.iql_config import IQLConfig
from cs285.env_configs.random_config import RandomConfig
from cs285.env_configs.rnd_config import RNDConfig
from cs285.infrastructure.errors import UserError, suggestion

CONFIGS: dict[str, type[BaseConfig]] = {
    "random": RandomConfig,
    "rnd": RNDConfig,
    "dqn": DQNConfig,
    "cql": CQLConfig,
    "awac": AWACConfig,
    "iql": IQLConfig,
}
"""What `base_config` may name."""

STEP_KEYS = {
    "explore": {"total_steps", "learning_starts", "num_exploration_steps"},
    "offline": {"training_steps"},
    "finetune": {"offline_steps", "online_steps"},
}
"""Keys that only one stage reads."""

MAX_BYTES = 50_000
"""A file beyond this size is not a config; what fits is read within a second."""
MAX_DIGITS = 100
"""A longer whole number is not a setting."""
MAX_PROBLEMS = 5
"""So many faults of a file are told at once."""

_shortened = reprlib.Repr()
_shortened.maxstring = 80
_shortened.maxlevel = 2


MAX_RUNS = 1_000
"""Runs that one sweep may ask for: more is a slip, not a plan."""

_TOLD_ANYWAY = {"seed"}


class _Loader(yaml.SafeLoader):
    """Safe YAML that reads `3e-4` as a number and refuses a key that is given twice."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002 - PyYAML's signature
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable):
                if key in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"key {_shown(key)} is given twice", key_node.start_mark
                    )
                seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        # Python refuses to print whole numbers of thousands of digits.
        if len(node.value) > MAX_DIGITS:
            raise yaml.constructor.ConstructorError(
                None, None, f"a number of more than {MAX_DIGITS} digits", node.start_mark
            )
        value: int = super().construct_yaml_int(node)
        return value


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


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
    values = read_yaml(path)
    overrides = dict(overrides or {})
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
            raise UserError(f"{path}: cannot sweep over {_shown(key)}{suggestion(str(key), known)}")
        if key in values:
            raise UserError(f"{path}: `{key}` stands both in the file and in its `sweep`")
        if not isinstance(points, list) or not points:
            raise UserError(f"{path}: `sweep` needs a list of at least one value for `{key}`")
        if any(isinstance(point, list | dict) for point in points):
            raise UserError(f"{path}: `sweep` takes plain values for `{key}`, no lists or mappings")
        if len({str(point) for point in points}) < len(points):
            raise UserError(f"{path}: `sweep` names a value of `{key}` twice")
    return sweep


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a mapping from a YAML file."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise UserError(f"{path}: larger than {MAX_BYTES:,} bytes, so not a config")
        text = content.decode("utf-8")
    except FileNotFoundError:
        beside = [other.name for other in path.parent.glob("*.yaml")]
        raise UserError(f"{path}: no such config file{suggestion(path.name, beside)}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not UTF-8 text, so not a YAML file") from None
    try:
        values = yaml.load(text, _Loader)  # noqa: S506 - a subclass of SafeLoader
    except yaml.YAMLError as error:
        raise UserError(f"{path}: {yaml_problem(error)}") from None
    except Exception as error:
        # PyYAML raises errors of many kinds on such values.
        raise UserError(
            f"{path}: has a value that contradicts its tag or is nested too deeply: "
            f"{repr(error)[:80]}"
        ) from error
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise UserError(f"{path}: must hold `key: value` lines, such as `base_config: cql`")
    return values


def make_config(values: dict[str, Any], path: Path, stage: str) -> BaseConfig:
    """Validate the values of one run; `path` is named in errors and gives the default name."""
    config_class = _config_class(values.get("base_config"), path)
    for other, keys in STEP_KEYS.items():
        for key in sorted(keys & values.keys() - STEP_KEYS[stage]):
            raise UserError(
                f"{path}: `{key}` is for run_hw5_{other}.py; run_hw5_{stage}.py reads "
                + " and ".join(f"`{name}`" for name in sorted(STEP_KEYS[stage]))
            )
    try:
        return config_class(**(_default_names(values, path, stage) | values))
    except ValidationError as error:
        problems = [_problem(detail, config_class) for detail in error.errors()[:MAX_PROBLEMS]]
        if (more := error.error_count() - MAX_PROBLEMS) > 0:
            problems.append(f"and {more} more")
        raise UserError(f"{path}: " + "; ".join(problems)) from None


def _config_class(name: object, path: Path) -> type[BaseConfig]:
    known = ", ".join(CONFIGS)
    if name is None:
        raise UserError(f"{path}: `base_config` is missing; it names the algorithm: {known}")
    if not isinstance(name, str) or name not in CONFIGS:
        meant = suggestion(name, CONFIGS) if isinstance(name, str) else ""
        raise UserError(
            f"{path}: unknown `base_config` {_shown(name)}{meant}; the algorithms are {known}"
        )
    return CONFIGS[name]


def _default_names(values: Mapping[str, Any], path: Path, stage: str) -> dict[str, str]:
    explored = values.get("exp_name", path.stem)
    if stage != "explore" and isinstance(environment := values.get("env_name"), str):
        maze = environment.removeprefix("Pointmass").removesuffix("-v0")
        explored = f"pointmass_{maze.lower()}_rnd"
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
    return f"`{key}` {expected}, not {_shown(detail['input'])}"


def _shown(value: object) -> str:
    """Show any value in a few words: aliases nest lists of billions of items in a line of YAML."""
    return _shortened.repr(value)


def _owners(key: str) -> str:
    """Tell which algorithms a key belongs to, if any."""
    owners = [name for name, config in CONFIGS.items() if key in config.model_fields]
    return f", which is for {' and '.join(owners)}" if owners else ""


def yaml_problem(error: yaml.YAMLError) -> str:
    """Say in one line what keeps a text from being plain YAML, and in which line of it."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return "is not YAML: " + " ".join(str(error).split())
    mark = error.problem_mark or error.context_mark
    match error.problem:
        case "found character '\\t' that cannot start any token":
            problem = "a tab; indent with spaces"
        case "could not find expected ':'":
            mark = error.context_mark or mark  # where the key begins that has no colon
            problem = "a colon is missing; lines read `key: value`"
        case "mapping values are not allowed here":
            problem = "a colon too many, or none in the line before; lines read `key: value`"
        case _:
            problem = ", ".join(filter(None, (error.context, error.problem)))[:300]
            problem += "; only plain YAML values are read"
    return f"line {mark.line + 1}: {problem}" if mark else problem
