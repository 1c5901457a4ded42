"""From flags to trained runs: everything is checked before anything is written."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from cs285.datasets.dataset_files import Dataset, find_dataset, load_dataset
from cs285.env_configs import BaseConfig, load_config, load_sweep
from cs285.homework import STAGES, Stage, algorithms, keys_of_other_stages
from cs285.infrastructure import pytorch_util as ptu
from cs285.infrastructure.errors import DivergenceError, UserError, suggestion
from cs285.infrastructure.files import check_name, prepare_folder
from cs285.results.run_folders import RunFolder
from cs285.training import sweep_records
from cs285.training.programs import choose_workers, group, train_all, train_parts
from cs285.training.runs import Options, Program, Run, RunInfo
from cs285.training.stages import phases_of


def train(stage: Stage, arguments: argparse.Namespace) -> None:
    """Validate everything, then train; nothing is written if anything is wrong.

    Raises:
        UserError: If a config, a dataset or a folder is not usable.
    """
    _check_gpu(arguments)
    ptu.init_gpu(use_gpu=not arguments.no_gpu, gpu_id=arguments.which_gpu)
    configs = read_configs(stage, arguments)
    programs = [
        Program(
            [make_run(stage, config, arguments.dataset_dir) for config in together],
            phases_of(stage, together[0]),
        )
        for together in group(configs)
    ]
    folders = [arguments.data_dir]
    if stage == Stage.EXPLORE:
        folders += [arguments.dataset_dir, arguments.visualization_dir]
    _prepare_folders(folders)
    options = Options(
        data_dir=arguments.data_dir,
        dataset_dir=arguments.dataset_dir,
        picture_dir=arguments.visualization_dir,
        eval_interval=arguments.eval_interval,
        visualize_interval=arguments.visualize_interval,
        log_interval=arguments.log_interval,
        num_eval_trajectories=arguments.num_eval_trajectories,
        compile=arguments.compile,
        checkpoint_interval=arguments.checkpoint_interval,
    )
    workers = choose_workers(arguments.workers, programs)
    _report(train_all(programs, options, workers))


def resume(stage: Stage, folder: Path) -> None:
    """Go on with all runs of the command that a run folder belongs to.

    Raises:
        UserError: If the folder is none of this stage, or not usable.
    """
    sweep = sweep_records.read(folder)
    if sweep.stage != stage:
        raise UserError(
            f"--resume {folder}: this run belongs to {sweep.stage.script}; "
            "resume it with that script"
        )
    ptu.init_gpu(use_gpu=sweep.device != "cpu", gpu_id=torch.device(sweep.device).index or 0)
    if str(ptu.device) != sweep.device:
        raise UserError(
            f"--resume {folder}: it was trained on {sweep.device}, which this machine does not have"
        )
    programs = []
    for names in sweep.programs:
        folders = [RunFolder(sweep.options.data_dir / name) for name in names]
        configs = [load_config(folder.config, stage) for folder in folders]
        needs_data = stage != Stage.EXPLORE and not sweep_records.is_begun(folders)
        runs = [
            replace(
                make_run(stage, config, sweep.options.dataset_dir if needs_data else None),
                folder=folder,
            )
            for config, folder in zip(configs, folders, strict=True)
        ]
        programs.append(Program(runs, phases_of(stage, configs[0])))
    _report(train_parts(programs, sweep.options, sweep.workers))


def _report(diverged: Sequence[str]) -> None:
    if diverged:
        raise DivergenceError(f"diverged: {', '.join(diverged)}; all other runs are complete")


def _check_gpu(arguments: argparse.Namespace) -> None:
    found = 0 if arguments.no_gpu else torch.cuda.device_count()
    if 0 < found <= arguments.which_gpu:
        raise UserError(f"--which_gpu {arguments.which_gpu}: there are {found} GPUs, from 0 on")


def _prepare_folders(folders: Sequence[Path]) -> None:
    """Make all folders, or none if one cannot be made or written to."""
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


def read_configs(stage: Stage, arguments: argparse.Namespace) -> list[BaseConfig]:
    """Read every config file with every seed.

    Raises:
        UserError: If one is not usable, or two would be the same run.
    """
    seeds = arguments.seeds or [arguments.seed]
    configs = []
    for path in arguments.config_file:
        for seed in seeds:
            for config in _load(path, stage, {} if seed is None else {"seed": seed}):
                chosen = _with_reward(config, path) if arguments.use_reward else config
                configs.append(_shorten(chosen, stage, arguments.steps_fraction))
    # Explored datasets are files of their own, beside the run folders.
    for key in ("exp_name", "dataset_name") if stage == Stage.EXPLORE else ("exp_name",):
        names = [(getattr(config, key), config.seed) for config in configs]
        for name, seed in names:
            if names.count((name, seed)) > 1:
                raise UserError(
                    f"`{key}` {name!r} with seed {seed} is asked for twice; "
                    f"give every config file its own `{key}` and every seed once"
                )
    return configs


def _load(path: Path, stage: Stage, overrides: dict[str, int]) -> list[BaseConfig]:
    configs = load_sweep(path, stage, overrides)
    algorithm = algorithms()[configs[0].base_config]
    if stage not in algorithm.stages:
        scripts = " or ".join(one.script for one in Stage if one in algorithm.stages)
        raise UserError(
            f"{path}: `{algorithm.name}` cannot {STAGES[stage].verb}; run it with {scripts}"
        )
    return configs


def _with_reward(config: BaseConfig, path: Path) -> BaseConfig:
    if "use_reward" not in type(config).model_fields:
        raise UserError(
            f"--use_reward is for `base_config: rnd`, but {path} says `{config.base_config}`"
        )
    return config.model_copy(update={"use_reward": True})


def _shorten(config: BaseConfig, stage: Stage, fraction: float) -> BaseConfig:
    steps = {key: getattr(config, key, None) for key in STAGES[stage].own_keys}
    return config.model_copy(
        update={key: max(1, round(value * fraction)) for key, value in steps.items() if value}
    )


def make_run(stage: Stage, config: BaseConfig, dataset_dir: Path | None) -> Run:
    """Bring a config together with the dataset it starts from, if its stage wants one.

    Without a folder of datasets there is none.

    Raises:
        UserError: If that dataset is missing or not usable.
    """
    info = RunInfo(
        stage=stage,
        algorithm=config.base_config,
        env_id=config.env_name,
        exp_name=config.exp_name,
        seed=config.seed,
        settings=config.model_dump(exclude=set(keys_of_other_stages(stage))),
    )
    check_name(info.name, "exp_name")
    if stage == Stage.EXPLORE or dataset_dir is None:
        return Run(config, info)
    return Run(config, info, read_dataset(config, dataset_dir))


def read_dataset(config: BaseConfig, dataset_dir: Path) -> Dataset:
    """Load the dataset of a config.

    Raises:
        UserError: If it is missing, with the command that makes it, or not usable.
    """
    name = config.dataset_name
    seed = config.seed if config.dataset_seed is None else config.dataset_seed
    path = find_dataset(dataset_dir, name, seed)
    if path is None:
        script, explored = (
            "cs285/scripts/run_hw5_explore.py",
            f"experiments/exploration/{name}.yaml",
        )
        flags = ["-cfg", explored, "--dataset_dir", str(dataset_dir), "--seed", str(seed)]
        raise UserError(
            f"{config.exp_name}: there is no dataset {name}_seed{seed}.npz in {dataset_dir}"
            f"{_absence(dataset_dir)}; make it with `{shlex.join(['python', script, *flags])}`, or "
            "name another with `dataset_name` or `dataset_seed`"
        )
    return load_dataset(path, config.env_name)


def _absence(folder: Path) -> str:
    """Say so if a folder does not exist, and which one may have been meant."""
    if folder.is_dir():
        return ""
    beside = [path.name for path in folder.parent.glob("*/")]
    return f", a folder that does not exist{suggestion(folder.name, beside)}"
