"""From runs to training programs: which train together, and on which core."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch

from cs285.infrastructure import pytorch_util as ptu
from cs285.infrastructure.errors import UserError
from cs285.infrastructure.training import Options, Phase, Run, Trainer

MIN_STEPS_PER_WORKER = 50_000
"""Steps times runs below which a second process costs more to start than it saves."""


@dataclass(frozen=True)
class Program:
    """Runs that train as one, and what they go through."""

    runs: list[Run]
    phases: list[Phase]

    @property
    def work(self) -> int:
        """Steps of all its runs."""
        return len(self.runs) * sum(phase.steps for phase in self.phases)


def group(runs: Sequence[Run]) -> list[list[Run]]:
    """Put runs that can train as one program together, in the order in which they were given."""
    programs: dict[Hashable, list[Run]] = {}
    for run in runs:
        programs.setdefault(run.config.program_key, []).append(run)
    return list(programs.values())


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
    worthwhile = sum(program.work for program in programs) // MIN_STEPS_PER_WORKER
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
    jobs = [(program, options) for program in split(programs, workers)]
    # Leaving the pool, by an error or by Ctrl-C as well, ends its processes.
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers, _start_worker, (ptu.device,)) as pool:
        results = pool.imap_unordered(_train_in_worker, jobs)
        diverged: list[str] = []
        for names in results:
            if isinstance(names, UserError):
                raise names
            diverged += names
    return diverged


def _train(job: tuple[Program, Options]) -> list[str]:
    program, options = job
    trainer = Trainer(program.runs, program.phases, options)
    trainer.train()
    return trainer.diverged


def _train_in_worker(job: tuple[Program, Options]) -> list[str] | UserError:
    try:
        return _train(job)
    except UserError as error:
        return error


def _start_worker(device: torch.device) -> None:
    ptu.device = device
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears Ctrl-C and ends its workers
