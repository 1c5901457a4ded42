"""Turns configs into programs; everything is checked before anything is written."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cs285.datasets.dataset_files import (
    DATASET_FIELDS,
    Dataset,
    find_dataset,
    find_pickle,
    load_dataset,
)
from cs285.env_configs import BaseConfig
from cs285.env_configs.loading import load_sweep, make_sweep, print_notes
from cs285.envs.tasks import get_task
from cs285.homework import STAGES, Stage, algorithms, keys_of_other_stages
from cs285.infrastructure.errors import UserError, suggestion
from cs285.infrastructure.files import check_name, prepare_folder
from cs285.learning.agent import Agent
from cs285.learning.columns import Transitions, check_columns, columns_of
from cs285.training.programs import group
from cs285.training.runs import Program, Run, RunInfo, make_agent
from cs285.training.stages import Plan, phases_of

Source = Path | Mapping[str, Any]
"""A YAML file, or a dict of settings as in such a file."""

SETTINGS = Path("settings")
"""Replaces the file's path, for settings that were given as a dict."""


def read_configs(
    stage: Stage,
    sources: Sequence[Source],
    seeds: Sequence[int] | None = None,
    *,
    use_reward: bool = False,
    steps_fraction: float = 1.0,
) -> list[BaseConfig]:
    """Read every source with every seed.

    Args:
        stage: The stage that the configs are for.
        sources: Files or dicts of settings.
        seeds: Seeds that replace those of the sources.
        use_reward: Whether RND adds the environment's reward to its bonus.
        steps_fraction: The fraction of all steps to take.

    Raises:
        UserError: If a source is not usable, or two runs would be the same.
    """
    configs = []
    notes: list[str] = []
    for source in sources:
        for overrides in [{"seed": seed} for seed in seeds] if seeds is not None else [{}]:
            for config in _read(source, stage, overrides, notes):
                chosen = _with_reward(config, notes) if use_reward else config
                configs.append(_shorten(chosen, stage, steps_fraction))
    # Explored datasets are files outside the run folders, so their names must differ, too.
    for key in ("exp_name", "dataset_name") if stage == Stage.EXPLORE else ("exp_name",):
        names = [(getattr(config, key), config.seed) for config in configs]
        for name, seed in names:
            if names.count((name, seed)) > 1:
                raise UserError(
                    f"`{key}` {name!r} with seed {seed} is requested twice; "
                    f"give every config file a different `{key}`, and every seed only once"
                )
    print_notes(notes)
    return configs


def _name(source: Source) -> Path:
    return source if isinstance(source, Path) else SETTINGS


def _read(
    source: Source, stage: Stage, overrides: dict[str, int], notes: list[str]
) -> list[BaseConfig]:
    if isinstance(source, Path):
        configs = load_sweep(source, stage, overrides, notes)
    else:
        named = _default_name(source) | dict(source)
        configs = make_sweep(named, SETTINGS, stage, overrides, notes)
    algorithm = algorithms()[configs[0].base_config]
    if stage not in algorithm.stages:
        scripts = " or ".join(one.script for one in Stage if one in algorithm.stages)
        raise UserError(
            f"{_name(source)}: `{algorithm.name}` cannot {STAGES[stage].verb}; "
            f"run it with {scripts}"
        )
    return configs


def _default_name(values: Mapping[str, Any]) -> dict[str, Any]:
    """Name a dict of settings like the files in `experiments/`: `pointmass_medium_cql`."""
    try:
        stem = get_task(str(values.get("env_name"))).dataset_stem
    except ValueError:
        return {}  # reading the config reports what is wrong
    return {"exp_name": f"{stem}_{values.get('base_config')}"}


def _with_reward(config: BaseConfig, notes: list[str]) -> BaseConfig:
    if "use_reward" in type(config).model_fields:
        return config.model_copy(update={"use_reward": True})
    owners = [
        f"`{name}`"
        for name, algorithm in algorithms().items()
        if "use_reward" in algorithm.config.model_fields
    ]
    notes.append(
        f"--use_reward has no effect for `{config.base_config}`: "
        f"only {' and '.join(owners)} can explore without the environment's reward"
    )
    return config


def _shorten(config: BaseConfig, stage: Stage, fraction: float) -> BaseConfig:
    steps = {key: getattr(config, key, None) for key in STAGES[stage].own_keys}
    return config.model_copy(
        update={key: max(1, round(value * fraction)) for key, value in steps.items() if value}
    )


def make_programs(
    stage: Stage, configs: Sequence[BaseConfig], dataset_dir: Path, plan: Plan | None = None
) -> list[Program]:
    """Group the runs of configs into programs, with the datasets that they start with.

    Raises:
        UserError: If a dataset is missing or not usable.
    """
    return [
        Program(
            [make_run(stage, config, dataset_dir) for config in together],
            phases_of(stage, together[0], plan),
        )
        for together in group(configs)
    ]


def make_run(stage: Stage, config: BaseConfig, dataset_dir: Path | None) -> Run:
    """Combine a config with the dataset that it starts with, if its stage reads one.

    Args:
        stage: The stage.
        config: The config.
        dataset_dir: The folder of datasets; None to read none.

    Raises:
        UserError: If the dataset is missing or not usable.
    """
    info = RunInfo(
        stage=Stage(stage),
        algorithm=config.base_config,
        env_id=config.env_name,
        exp_name=config.exp_name,
        seed=config.seed,
        settings=config.model_dump(exclude=set(keys_of_other_stages(stage))),
    )
    check_name(info.name, "exp_name")
    if stage == Stage.EXPLORE or dataset_dir is None:
        return Run(config, info)
    dataset = read_dataset(config, dataset_dir)
    what = f"{config.exp_name}, which learns from {config.dataset_name}"
    _check_data(make_agent(config), dataset, what)
    return Run(config, info, dataset)


def _check_data(agent: Any, dataset: Dataset, what: str) -> None:
    """Check that an agent can learn from a dataset.

    Raises:
        UserError: If it cannot.
    """
    arrays = dataset.arrays()
    check_columns(columns_of(agent), arrays, what)
    if isinstance(agent, Agent):
        fields = (*DATASET_FIELDS, "truncated")
        agent.check_data(Transitions(*(arrays[name] for name in fields)), what)


def read_dataset(config: BaseConfig, dataset_dir: Path) -> Dataset:
    """Load the dataset of a config.

    Raises:
        UserError: If it is missing, with the command that makes it, or is not usable.
    """
    name = config.dataset_name
    seed = config.seed if config.dataset_seed is None else config.dataset_seed
    path = find_dataset(dataset_dir, name, seed)
    if path is None and (pickle := find_pickle(dataset_dir, name, seed)) is not None:
        converted = [str(pickle), str(pickle.with_suffix(".npz")), "--env_name", config.env_name]
        command = shlex.join(["python", "cs285/scripts/convert_dataset.py", *converted])
        raise UserError(
            f"{config.exp_name}: there is no dataset {name}_seed{seed}.npz in {dataset_dir}, but "
            f"a pickled buffer of a public version, {pickle.name}; convert it with `{command}`"
        )
    if path is None:
        script = f"cs285/scripts/{Stage.EXPLORE.script}"
        explored = f"experiments/{STAGES[Stage.EXPLORE].experiments}/{name}.yaml"
        flags = ["-cfg", explored, "--dataset_dir", str(dataset_dir), "--seed", str(seed)]
        raise UserError(
            f"{config.exp_name}: there is no dataset {name}_seed{seed}.npz in {dataset_dir}"
            f"{_absence(dataset_dir)}; make it with `{shlex.join(['python', script, *flags])}`, or "
            "choose another with `dataset_name` or `dataset_seed`"
        )
    return load_dataset(path, config.env_name)


def _absence(folder: Path) -> str:
    """Return a remark if a folder does not exist, with a suggestion for what was meant."""
    if folder.is_dir():
        return ""
    neighbours = [path.name for path in folder.parent.glob("*/")]
    return f", a folder that does not exist{suggestion(folder.name, neighbours)}"


def prepare_folders(folders: Sequence[Path]) -> None:
    """Create all folders, or none of them if one cannot be created or written to.

    Raises:
        UserError: If one cannot be created or written to.
    """
    made: list[Path] = []
    try:
        for folder in folders:
            is_new = not folder.exists()
            prepare_folder(folder)
            made += [folder] if is_new else []
    except UserError:
        for folder in reversed(made):
            folder.rmdir()
        raise
