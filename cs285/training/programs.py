"""Training programs: which runs train together, and in which process."""

from __future__ import annotations

import multiprocessing
import os
import shlex
import shutil
import sys
from collections.abc import Hashable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeVar

import torch
from tqdm import tqdm

from cs285.envs.tasks import get_task, unavailable
from cs285.infrastructure import pytorch_util as ptu
from cs285.infrastructure.errors import UserError
from cs285.infrastructure.files import locked
from cs285.learning.learner import is_stackable, stacking_obstacle
from cs285.learning.student_code import reported
from cs285.results.run_folders import RunFolder
from cs285.training import console, interruption, sweep_records
from cs285.training.checkpoints import load_checkpoint
from cs285.training.interruption import StoppedError
from cs285.training.options import Options
from cs285.training.runs import Program, Run, Settings, make_agent
from cs285.training.trainer import Trainer

Config = TypeVar("Config", bound=Settings)

MIN_UPDATES_PER_WORKER = 50_000
"""With fewer updates over all runs, another process takes longer to start than it saves."""


def group(configs: Sequence[Config]) -> list[list[Config]]:
    """Group configs whose runs can train as one program, in the given order.

    Agents that cannot be stacked gain nothing from sharing a program, and may draw from global
    generators, so each of their runs gets its own program.
    """
    together: dict[Hashable, list[Config]] = {}
    for config in configs:
        together.setdefault(config.program_key, []).append(config)
    programs: list[list[Config]] = []
    warnings = []
    for program in together.values():
        agent = make_agent(program[0])
        programs += [program] if is_stackable(agent) else [[config] for config in program]
        warnings += [warning] if (warning := stacking_obstacle(agent)) else []
    for warning in dict.fromkeys(warnings):
        tqdm.write(warning)
    return programs


def split(programs: Sequence[Program], workers: int) -> list[Program]:
    """Split programs into about equal work for `workers` processes, largest part first."""
    parts = [
        Program(program.runs[start::workers], program.phases)
        for program in programs
        for start in range(min(workers, len(program.runs)))
    ]
    return sorted(parts, key=lambda part: part.work, reverse=True)


def choose_workers(choice: int | Literal["auto"], programs: Sequence[Program]) -> int:
    """Return the number of processes, given `auto` or a number; each has at least one run."""
    runs = sum(len(program.runs) for program in programs)
    if choice != "auto":
        return min(choice, runs)
    if ptu.device.type != "cpu":
        return 1  # one program uses a GPU better than several that share it
    worthwhile = sum(program.work for program in programs) // MIN_UPDATES_PER_WORKER
    return max(1, min(os.cpu_count() or 1, runs, worthwhile))


def train_all(programs: Sequence[Program], options: Options, workers: int = 1) -> list[str]:
    """Train all programs and return the names of the runs that diverged.

    Each process uses one thread: with matrices this small, threads that wait for each other lose
    more time than they save.

    Args:
        programs: The programs to train.
        options: Intervals and folders.
        workers: Number of processes; with 1, training happens in this process.

    Raises:
        UserError: If a folder cannot be written to.
        StoppedError: After Ctrl-C or SIGTERM.
    """
    return train_parts(begin(programs, options, workers), options, workers)


def begin(programs: Sequence[Program], options: Options, workers: int) -> list[Program]:
    """Create the folder of every run, and record in each which runs belong together.

    Returns:
        The parts that the processes train, with the folders of their runs.

    Raises:
        UserError: If a folder cannot be created or written to.
    """
    parts = split(programs, workers) if workers > 1 else programs
    located = [
        Program(
            [replace(run, folder=run.info.make_folder(options.data_dir)) for run in program.runs],
            program.phases,
        )
        for program in parts
    ]
    sweep_records.write(
        sweep_records.Sweep(
            stage=programs[0].stage,
            options=options,
            workers=workers,
            device=str(ptu.device),
            programs=[[_folder(run).name for run in program.runs] for program in located],
        ),
        options.data_dir,
    )
    return located


def check_environments(programs: Sequence[Program], workers: int) -> None:
    """Check that workers, which do not run the caller's script, can make all environments.

    Raises:
        UserError: If they cannot make one of them.
    """
    if workers == 1:
        return
    env_ids = {env_id for program in programs for env_id in program.env_ids}
    others = sorted(env_id for env_id in env_ids if not get_task(env_id).comes_with_gymnasium)
    if not others:
        return
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        with interruption.held_signals(), _main_hidden():
            job = pool.submit(unavailable, others)
        refused = job.result()
    if refused:
        bare = refused[0].rpartition(":")[2]
        raise UserError(
            f"{refused[0]} is registered only in this process, so others cannot train in it; use "
            f"one worker (`workers=1`), or write `module:{bare}` with an importable module that "
            "registers it"
        )


def train_parts(programs: Sequence[Program], options: Options, workers: int) -> list[str]:
    """Train programs whose runs have folders; those that have already ended are left unchanged.

    Args:
        programs: The programs; each trains in one process, in this order.
        options: Intervals and folders.
        workers: Number of processes.

    Returns:
        The names of the runs that diverged.

    Raises:
        UserError: If a folder cannot be written to, or training cannot resume from its contents.
        StoppedError: After Ctrl-C or SIGTERM, with the command that resumes.
    """
    command = _command(programs[0].runs[0])
    with interruption.deferred_signals():
        try:
            if workers > 1:
                return _train_in_workers(programs, options, workers)
            torch.set_num_threads(1)
            return [name for program in programs for name in _train(program, options)]
        except StoppedError as error:
            raise StoppedError(error.signum, command) from None
        except UserError as error:
            raise UserError(f"{error}; fix this, then resume with: {command}") from error


def _command(run: Run) -> str:
    """Return the command that resumes a run, to be typed in the current folder."""
    python = Path(sys.executable)
    script = Path(__file__).parents[1] / "scripts" / f"{run.info.stage.script}"
    words = [
        "python" if shutil.which("python") == str(python) else str(_from_here(python)),
        str(_from_here(script)),
        "--resume",
        str(_folder(run)),
    ]
    return shlex.join(words)


def _from_here(path: Path) -> Path:
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _train_in_workers(programs: Sequence[Program], options: Options, workers: int) -> list[str]:
    context = multiprocessing.get_context("spawn")
    arguments = (ptu.device, interruption.shared_request())
    diverged: list[str] = []
    with ProcessPoolExecutor(workers, context, _start_worker, arguments) as pool:
        with interruption.held_signals(), _main_hidden():  # submitting starts the workers
            jobs = [pool.submit(interruption.in_worker, _train, part, options) for part in programs]
        try:
            for job in as_completed(jobs):
                diverged += job.result()
        except BrokenProcessPool:
            if signum := interruption.requested():
                raise StoppedError(signum) from None
            raise UserError(
                "a worker was killed, perhaps for lack of memory; try fewer --workers"
            ) from None
        except BaseException:
            interruption.stop_workers()  # otherwise they would train for hours after one has failed
            raise
    return diverged


@contextmanager
def _main_hidden() -> Iterator[None]:
    """Keep new processes from running the caller's script again.

    They need nothing from it, and a script without `if __name__ == "__main__"` would train again in
    each of them.
    """
    main = sys.modules["__main__"]
    names: list[str] = [name for name in ("__file__", "__spec__") if hasattr(main, name)]
    hidden = {name: getattr(main, name) for name in names}
    vars(main).update(dict.fromkeys(names))
    try:
        yield
    finally:
        vars(main).update(hidden)


def _train(program: Program, options: Options) -> list[str]:
    """Train a program from its last checkpoint, or from the start."""
    if signum := interruption.requested():
        raise StoppedError(signum)
    folders = [_folder(run) for run in program.runs]
    with locked(folders[0].path), reported():
        for folder in folders:
            folder.delete_unfinished()
        if folders[0].has_checkpoint:
            trainer = _resume(program, options, folders[0].checkpoint)
        elif all(folder.has_ended for folder in folders):
            tqdm.write(f"{program.runs[0].info.name}: already ended")
            return [run.info.name for run in program.runs if _folder(run).has_diverged]
        elif folders[0].former_checkpoint.exists():
            raise UserError(
                f"{folders[0].former_checkpoint} is a checkpoint of version 1, which this "
                "version cannot read; delete it to let --resume start its runs over"
            )
        else:
            for folder in folders:
                folder.delete_results()
            trainer = Trainer(program, options)
        trainer.train()
        return trainer.recorder.diverged


def _resume(program: Program, options: Options, path: Path) -> Trainer:
    checkpoint = load_checkpoint(path)
    try:
        trainer = Trainer(program, options, checkpoint)
    except UserError:
        raise
    except Exception as error:
        # Missing or misshapen values raise errors of many kinds.
        raise UserError(
            f"the checkpoint {path} does not fit its config.yaml or the current code ({error!r}); "
            "undo the change, or delete the checkpoint to start over"
        ) from error
    tqdm.write(f"{program.runs[0].info.name}: resuming at step {trainer.step:,}")
    return trainer


def _folder(run: Run) -> RunFolder:
    if run.folder is None:
        raise ValueError(f"{run.info.name} has no folder")
    return run.folder


def _start_worker(device: torch.device, request: object) -> None:
    console.forgive()
    ptu.device = device
    torch.set_num_threads(1)
    interruption.start_worker(request)
