"""From runs to training programs: which train together, and on which core."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Hashable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

import torch

from cs285.infrastructure import pytorch_util as ptu
from cs285.infrastructure.ensemble import is_stackable
from cs285.infrastructure.errors import UserError
from cs285.infrastructure.training import Options, Phase, Run, Trainer, make_agent

MIN_UPDATES_PER_WORKER = 50_000
"""Updates times runs below which a second process costs more to start than it saves."""


@dataclass(frozen=True)
class Program:
    """Runs that train as one, and what they go through."""

    runs: list[Run]
    phases: list[Phase]

    @property
    def work(self) -> int:
        """Updates of all its runs, about."""
        ratio = self.runs[0].config.updates_per_step
        updates = [phase.steps * (ratio if phase.interacts else 1) for phase in self.phases]
        return len(self.runs) * sum(updates)


def group(runs: Sequence[Run]) -> list[list[Run]]:
    """Put runs that can train as one program together, in the order in which they were given.

    Agents that cannot be stacked gain nothing from company, and may draw from global generators:
    each of their runs is a program of its own.
    """
    together: dict[Hashable, list[Run]] = {}
    for run in runs:
        together.setdefault(run.config.program_key, []).append(run)
    programs: list[list[Run]] = []
    for program in together.values():
        stackable = is_stackable(make_agent(program[0].config))
        programs += [program] if stackable else [[run] for run in program]
    return programs


def split(programs: Sequence[Program], workers: int) -> list[Program]:
    """Cut programs so that `workers` processes have about the same to do, largest first."""
    parts = [
        Program(program.runs[start::workers], program.phases)
        for program in programs
        for start in range(min(workers, len(program.runs)))
    ]
    return sorted(parts, key=lambda part: part.work, reverse=True)


def choose_workers(choice: str, programs: Sequence[Program]) -> int:
    """Turn `auto` or a number into a number of processes that all have something to do."""
    runs = sum(len(program.runs) for program in programs)
    if choice != "auto":
        return min(int(choice), runs)
    if ptu.device.type != "cpu":
        return 1  # one program fills a GPU better than several that share it
    worthwhile = sum(program.work for program in programs) // MIN_UPDATES_PER_WORKER
    return max(1, min(os.cpu_count() or 1, runs, worthwhile))


def train_all(programs: Sequence[Program], options: Options, workers: int = 1) -> list[str]:
    """Train all programs and return the names of the runs that diverged.

    Each process uses one thread: matrices this small lose more time to threads that wait for each
    other than they gain.

    Args:
        programs: What to train.
        options: Intervals and folders.
        workers: Processes; with 1 everything happens in this one.

    Raises:
        UserError: If a folder cannot be written to.
    """
    if workers == 1:
        torch.set_num_threads(1)
        return [name for program in programs for name in _train((program, options))]
    context = multiprocessing.get_context("spawn")
    diverged: list[str] = []
    with ProcessPoolExecutor(workers, context, _start_worker, (ptu.device,)) as pool:
        jobs = [pool.submit(_train, (part, options)) for part in split(programs, workers)]
        try:
            for job in as_completed(jobs):
                diverged += job.result()
        except BaseException as error:  # Ctrl-C among them: no worker outlives what went wrong
            for process in multiprocessing.active_children():
                process.terminate()
            if isinstance(error, BrokenProcessPool):
                raise UserError(
                    "a worker was killed, perhaps for want of memory; fewer --workers need less"
                ) from None
            raise
    return diverged


def _train(job: tuple[Program, Options]) -> list[str]:
    program, options = job
    trainer = Trainer(program.runs, program.phases, options)
    trainer.train()
    return trainer.diverged


def _start_worker(device: torch.device) -> None:
    ptu.device = device
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears Ctrl-C and ends its workers
