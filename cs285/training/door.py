"""Training from Python: the three scripts as functions.

from cs285 import load_policy, train

results = train("experiments/offline/pointmass_medium_cql.yaml", seeds=[1, 2])
results[0].curves["eval_return"].values
probabilities = load_policy(results[0].folder)(observations)
"""

from __future__ import annotations

import operator
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, Literal, SupportsIndex, TypeAlias

import torch
from pydantic import TypeAdapter, ValidationError

from cs285.env_configs import BaseConfig, load_config
from cs285.env_configs.loading import find_config, print_notes
from cs285.homework import STAGES, Stage, algorithms
from cs285.infrastructure import pytorch_util as ptu
from cs285.infrastructure.errors import UserError, suggestion
from cs285.infrastructure.yaml_text import read_yaml, shorten
from cs285.learning.random_streams import get_global_generators, set_global_generators
from cs285.learning.student_code import reported
from cs285.results import sinks
from cs285.results.run_folders import RunFolder
from cs285.training import sweep_records
from cs285.training.options import Compile, Options
from cs285.training.policies import load_policy
from cs285.training.preparation import (
    SETTINGS,
    Source,
    make_programs,
    make_run,
    prepare_folders,
    read_configs,
)
from cs285.training.programs import begin, check_environments, choose_workers, train_parts
from cs285.training.run_results import Results, RunResult, load_run
from cs285.training.runs import Program
from cs285.training.stages import Plan, phases_of
from cs285.training.trainer import Trainer

__all__ = ["Results", "RunResult", "load_policy", "load_run", "prepare", "resume", "train"]

AnyPath: TypeAlias = str | PathLike[str]

_turns = threading.Lock()
"""Training sets the device and the global generators, so calls from several threads take turns."""


def train(
    config: AnyPath | Mapping[str, Any] | Sequence[AnyPath | Mapping[str, Any]],
    *,
    stage: str | None = None,
    seeds: SupportsIndex | Iterable[SupportsIndex] | None = None,
    steps_fraction: float = 1.0,
    use_reward: bool = False,
    dataset_dir: AnyPath = Options.dataset_dir,
    data_dir: AnyPath = Options.data_dir,
    visualization_dir: AnyPath = Options.picture_dir,
    eval_interval: int = Options.eval_interval,
    visualize_interval: int | None = None,
    num_eval_trajectories: int = Options.num_eval_trajectories,
    log_interval: int = Options.log_interval,
    log: str | Sequence[str] = Options.log,
    checkpoint_interval: int | None = Options.checkpoint_interval,
    compile: Compile = Options.compile,  # noqa: A002 - the flag's name
    workers: int | Literal["auto"] = "auto",
    no_gpu: bool = False,
    which_gpu: int = 0,
    plan: Plan | None = None,
) -> Results:
    """Train all runs of one or more configs, as `run_hw5_explore.py` and the other scripts do.

    The keyword arguments are the flags of the scripts, with the same defaults. Everything is
    checked before anything is written. A run that diverges does not raise: its result has the
    status `diverged`, and the other runs continue. Calls from several threads take turns. The
    caller's random generators, device and number of PyTorch threads are restored afterwards.

    Args:
        config: A YAML file, a dict of settings as in such a file, or a list of these.
        stage: `explore`, `offline` or `finetune`. By default it is inferred from the file's folder
            (`exploration`, `offline` or `finetune`), else from its keys and its algorithm.
        seeds: Train every config with each of these seeds, integers of any type; default: the
            config's, else 1.
        steps_fraction: The fraction of all steps to take.
        use_reward: Whether RND adds the environment's reward to its bonus.
        dataset_dir: Where exploration writes datasets and the other stages read them.
        data_dir: Where run folders are created.
        visualization_dir: Where pictures of explored datasets are written.
        eval_interval: Steps between evaluations.
        visualize_interval: Steps between pictures; default: four pictures in a full run.
        num_eval_trajectories: Episodes per evaluation; in learning, the last one takes five times
            as many.
        log_interval: Steps between logged metrics.
        log: Names of the sinks for scalars and pictures.
        checkpoint_interval: Steps between checkpoints; 0 for none, None for one per minute.
        compile: Whether to compile updates; `auto`: if that takes less time than it saves.
        workers: Number of processes to train in, or `auto`. Workers do not run the caller's script,
            so it needs no `if __name__ == "__main__"`.
        no_gpu: Whether to use the CPU even if there is a GPU.
        which_gpu: Index of the GPU.
        plan: Requests the steps of fine-tuning, like `finetune` in `run_hw5_finetune.py`; by
            default offline steps, then online steps.

    Returns:
        The results of all runs, in the order of configs and seeds.

    Raises:
        UserError: If a config, a dataset, a folder or an argument is not usable.
        StoppedError: After Ctrl-C, once the current step and a checkpoint are complete; its
            message says how to resume.
        NotImplementedError: If an agent's method is not written yet.
    """
    sources = _sources(config)
    chosen = _choose_stage(sources, stage)
    if visualize_interval is None:
        visualize_interval = STAGES[chosen].visualize_interval
    options = make_options(
        data_dir=data_dir,
        dataset_dir=dataset_dir,
        picture_dir=visualization_dir,
        eval_interval=eval_interval,
        visualize_interval=visualize_interval,
        log_interval=log_interval,
        num_eval_trajectories=num_eval_trajectories,
        log=sinks.check_names(log),
        checkpoint_interval=checkpoint_interval,
        compile=compile,
    )
    _check_run_arguments(steps_fraction, workers)
    with _turn():
        _choose_device(no_gpu=no_gpu, which_gpu=which_gpu)
        configs = read_configs(
            chosen,
            sources,
            _as_list(seeds),
            use_reward=use_reward,
            steps_fraction=steps_fraction,
        )
        programs = make_programs(chosen, configs, options.dataset_dir, plan)
        count = choose_workers(workers, programs)
        check_environments(programs, count)
        folders = [options.data_dir]
        if chosen == Stage.EXPLORE:
            folders += [options.dataset_dir, options.picture_dir]
        prepare_folders(folders)
        parts = begin(programs, options, count)
        train_parts(parts, options, count)
    located = {
        (run.info.exp_name, run.info.seed): run.folder for part in parts for run in part.runs
    }
    return Results(load_run(_known(located[one.exp_name, one.seed]).path) for one in configs)


def resume(folder: AnyPath, *, stage: str | None = None, plan: Plan | None = None) -> Results:
    """Resume a stopped run, and all other runs that the same call or command trains.

    They continue from their last checkpoints, with the arguments of the first start.

    Args:
        folder: The folder of any of the runs.
        stage: The stage that the run must belong to, if any.
        plan: The plan that was passed to `train`, if any.

    Returns:
        The results of all runs of the command.

    Raises:
        UserError: If the folder is not that of a run that can be resumed, or is of another stage.
        StoppedError: As in `train`.
    """
    path = Path(folder)
    sweep = sweep_records.read(path)
    if stage is not None and sweep.stage != stage:
        raise UserError(
            f"--resume {path}: this run belongs to {sweep.stage.script}; resume it with that script"
        )
    sinks.check_names(sweep.options.log)
    with _turn():
        ptu.init_gpu(use_gpu=sweep.device != "cpu", gpu_id=torch.device(sweep.device).index or 0)
        if str(ptu.device) != sweep.device:
            raise UserError(
                f"--resume {path}: it was trained on {sweep.device}, "
                "which this machine does not have"
            )
        notes: list[str] = []
        parts = [_reopen(sweep, names, notes, plan) for names in sweep.programs]
        print_notes(notes)
        train_parts(parts, sweep.options, sweep.workers)
    return Results(load_run(_known(run.folder).path) for part in parts for run in part.runs)


def _reopen(
    sweep: sweep_records.Sweep, names: Sequence[str], notes: list[str], plan: Plan | None
) -> Program:
    """Return the program whose runs have folders with these names."""
    folders = [RunFolder(sweep.options.data_dir / name) for name in names]
    configs = [load_config(folder.config, sweep.stage, notes=notes) for folder in folders]
    reads_data = sweep.stage != Stage.EXPLORE and not sweep_records.is_begun(folders)
    dataset_dir = sweep.options.dataset_dir if reads_data else None
    runs = [
        replace(make_run(sweep.stage, config, dataset_dir), folder=folder)
        for config, folder in zip(configs, folders, strict=True)
    ]
    return Program(runs, phases_of(sweep.stage, configs[0], plan))


def prepare(stage: str, configs: Sequence[BaseConfig], options: Options) -> Trainer:
    """Make a trainer for runs that can train as one program, for callers that step it themselves.

    `Trainer.advance` takes steps without evaluating or logging; `Trainer.train` takes all of them.
    The caller must choose and restore the device and the global generators.

    Raises:
        UserError: If a dataset or a folder is not usable.
        ValueError: If the configs cannot train as one program.
    """
    (program,) = make_programs(Stage(stage), configs, options.dataset_dir)
    return Trainer(program, options)


@contextmanager
def _turn() -> Iterator[None]:
    """Wait for other threads that train; restore the state of the process afterwards."""
    with _turns:
        device, threads, generators = ptu.device, torch.get_num_threads(), get_global_generators()
        try:
            with reported():
                yield
        finally:
            ptu.device = device
            torch.set_num_threads(threads)
            set_global_generators(generators)


def _known(folder: RunFolder | None) -> RunFolder:
    if folder is None:
        raise ValueError("a run has no folder")
    return folder


# Arguments


def _sources(config: object) -> list[Source]:
    """Convert a caller's configs to a list of paths and dicts."""
    if isinstance(config, str | PathLike):
        return [find_config(Path(config))]
    if isinstance(config, Mapping):
        return [config]
    if isinstance(config, Sequence) and config:
        return [source for one in config for source in _sources(one)]
    raise UserError(
        f"a config is a YAML file, a dict of settings or a list of these, not {shorten(config)}"
    )


def _choose_stage(sources: Sequence[Source], stage: str | None) -> Stage:
    """Return the given stage, or the one that all sources belong to."""
    if stage is not None:
        if stage not in list(Stage):
            meant = suggestion(str(stage), Stage)
            raise UserError(
                f"`stage` must be one of {', '.join(Stage)}, not {shorten(stage)}{meant}"
            )
        return Stage(stage)
    stages = {_stage_of(source) for source in sources}
    if len(stages) > 1:
        named = " and ".join(one for one in Stage if one in stages)
        raise UserError(f"these configs belong to several stages, {named}; train them separately")
    return stages.pop()


def _stage_of(source: Source) -> Stage:
    """Find the stage of a source by its folder, else by its keys, else by its algorithm."""
    if isinstance(source, Path):
        for stage, record in STAGES.items():
            if source.absolute().parent.name in record.folders:
                return stage
    name = source if isinstance(source, Path) else SETTINGS
    values = read_yaml(source) if isinstance(source, Path) else source
    keys = {*values, *(values["sweep"] if isinstance(values.get("sweep"), dict) else ())}
    possible = [stage for stage, record in STAGES.items() if record.own_keys & keys]
    if not possible:
        algorithm = algorithms().get(str(values.get("base_config")))
        possible = [one for one in Stage if algorithm is None or one in algorithm.stages]
    if len(possible) == 1 or "base_config" not in values:
        return possible[0]  # if something is missing, reading the config reports it
    choices = " or ".join(f'stage="{one}"' for one in possible)
    raise UserError(f"{name}: its stage is unclear; add {choices}")


def make_options(**values: Any) -> Options:
    """Validate options.

    Raises:
        UserError: If a value is not usable.
    """
    try:
        return TypeAdapter(Options).validate_python(values)
    except ValidationError as error:
        detail = error.errors()[0]
        key, expected = detail["loc"][0], detail["msg"].replace("Input should be", "must be")
        raise UserError(f"`{key}` {expected}, not {shorten(detail['input'])}") from None


def _check_run_arguments(steps_fraction: object, workers: object) -> None:
    if not isinstance(steps_fraction, int | float) or not 0 < steps_fraction <= 1:
        raise UserError(
            f"`steps_fraction` must be above 0 and at most 1, not {shorten(steps_fraction)}"
        )
    if workers != "auto" and (not isinstance(workers, int) or workers < 1):
        raise UserError(f"`workers` must be auto or a number above 0, not {shorten(workers)}")


def _as_list(seeds: Any) -> list[int] | None:
    """Return seeds as plain integers, since configs accept no others, such as NumPy's."""
    if seeds is None:
        return None
    try:
        found = _integers(seeds)
    except TypeError:
        raise UserError(
            f"`seeds` must be an integer or a list of integers, not {shorten(seeds)}"
        ) from None
    if not found:
        raise UserError("`seeds` is empty; give at least one")
    return found


def _integers(seeds: Any) -> list[int]:
    try:
        return [_integer(seeds)]
    except TypeError:
        return [_integer(seed) for seed in seeds]


def _integer(seed: Any) -> int:
    if isinstance(seed, bool):
        raise TypeError
    return operator.index(seed)


def _choose_device(*, no_gpu: bool, which_gpu: int) -> None:
    found = 0 if no_gpu else torch.cuda.device_count()
    if which_gpu and not found:
        print_notes(["--which_gpu has no effect: training uses the CPU"])
    if 0 < found <= which_gpu:
        raise UserError(f"--which_gpu {which_gpu}: there are {found} GPUs, numbered from 0")
    ptu.init_gpu(use_gpu=not no_gpu, gpu_id=which_gpu)
