"""The training loop: S runs of one algorithm in lockstep, through the phases of their stage."""

from __future__ import annotations

import random
import time
from contextlib import closing
from typing import Any, NoReturn

import numpy as np
import torch
from tqdm import tqdm

from cs285.datasets.dataset_files import DATASET_FIELDS
from cs285.envs.tasks import get_task
from cs285.infrastructure import pytorch_util as ptu
from cs285.infrastructure.errors import UserError
from cs285.learning.arrays import fill
from cs285.learning.backends import choose_backend
from cs285.learning.columns import columns_of
from cs285.learning.contexts import Contexts
from cs285.learning.learner import make_learner
from cs285.learning.objective import Tensors
from cs285.learning.random_streams import (
    UniformStreams,
    get_global_generators,
    set_global_generators,
)
from cs285.learning.replay_buffer import ReplayBuffer
from cs285.training import interruption
from cs285.training.checkpoints import save_checkpoint
from cs285.training.options import Options
from cs285.training.program_recorder import ProgramRecorder
from cs285.training.rollouts import LockstepEnvs
from cs285.training.run_recorder import mean_of_latest
from cs285.training.runs import Program, make_agent
from cs285.training.stages import Phase

CHECKPOINT_SECONDS = 60.0
"""Time between two checkpoints, unless an interval in steps is given."""
CHECKPOINT_RATIO = 200
"""Writing checkpoints may take at most one part in this many of the time, half a percent."""

COVERAGE_POINTS = 100
"""Approximate number of points in the curve of exploration's coverage."""

RUN_UPDATES_AT_ONCE = 1_000
"""Approximate number of updates, over all runs, between two checks for Ctrl-C."""


class Trainer:
    """Trains the S runs of a program.

    Args:
        program: The runs and their phases.
        options: Intervals and folders.
        checkpoint: A state that `get_state` returned for these runs, to resume from. It contains
            the data, so the runs need no datasets.

    Raises:
        UserError: If a run folder cannot be created, or the checkpoint belongs to other runs.
    """

    def __init__(
        self,
        program: Program,
        options: Options,
        checkpoint: dict[str, Any] | None = None,
    ) -> None:
        self.program = program
        self.options = options
        self.step = 0
        self.updates = 0
        """Gradient steps so far."""
        self.metrics: Tensors = {}
        """The metrics of the last update, each `(S,)`."""

        configs = [run.config for run in program.runs]
        self.task = get_task(program.env_ids[0])
        """The first run's task; the tasks of the other runs have equal spaces."""
        self.epsilon = np.array([config.epsilon for config in configs])
        self.warm_up = configs[0].learning_starts if program.explores else 0

        _seed_global_generators(program.seeds[0])
        agents = [make_agent(config) for config in configs]
        self.updates_per_step = configs[0].updates_per_step
        self.learner = make_learner(agents, choose_backend(options.compile, program.updates))
        self.buffer = self._make_buffer(checkpoint)
        self.envs = LockstepEnvs(program.env_ids, program.derive_seeds("environment"))
        self.chance = UniformStreams(program.derive_seeds("exploration"), width=1)
        self.batches = UniformStreams(program.derive_seeds("batches"), width=configs[0].batch_size)
        self.contexts = Contexts(agents, 1)
        self.episode_returns = np.zeros(len(configs))
        self.episode_lengths = np.zeros(len(configs), dtype=np.int64)
        self.recorder = ProgramRecorder(program, options, self.learner, self.buffer)
        self.checkpoint_path = self.recorder.recorders[0].folder.checkpoint
        self._is_resumable = True
        self._next_checkpoint = time.monotonic() + CHECKPOINT_SECONDS
        if checkpoint is not None:
            self._restore(checkpoint)

    def _make_buffer(self, checkpoint: dict[str, Any] | None) -> ReplayBuffer:
        """Make a buffer with the transitions of the datasets and room for new ones."""
        held = max(len(run.dataset) if run.dataset else 0 for run in self.program.runs)
        done = 0
        if checkpoint is not None:
            held, done = checkpoint["buffer"]["truncated"].shape[1], int(checkpoint["step"])
        to_come = 0
        for phase in self.program.phases:
            to_come += max(0, phase.steps - done) if phase.interacts else 0
            done = max(0, done - phase.steps)
        derived = [columns_of(agent) for agent in self.learner.agents]
        shape = self.task.observation_shape
        buffer = ReplayBuffer(len(self.program.runs), held + to_come, shape, derived)
        for index, run in enumerate(self.program.runs):
            if run.dataset is not None and checkpoint is None:
                arrays = run.dataset.arrays()
                fields = [arrays[name] for name in DATASET_FIELDS]
                buffer.fill(index, fields, arrays["truncated"])
        return buffer

    # The loop

    def train(self) -> None:
        """Go through all phases and write all results."""
        title = (
            self.program.runs[0].info.name
            if len(self.program.runs) == 1
            else f"{len(self.program.runs)} runs"
        )
        bar = tqdm(total=self.program.total_steps, initial=self.step, desc=title, mininterval=1.0)
        with closing(self.recorder), closing(self.envs), bar:
            if self.step == 0:
                self.recorder.log_dataset_sizes()
            end = 0
            for index, phase in enumerate(self.program.phases):
                start, end = end, end + phase.steps
                if self.step == start:
                    self.recorder.log_phase(index, self.step + 1)
                    self.learner.begin_phase(phase.name)
                while self.step < end and self.recorder.active():
                    bar.update(self.advance(phase, end - self.step))
                    self._after_step(index, end - self.step, bar)
                    self._checkpoint_or_stop()
            self.recorder.finish()
            # The summaries now show that the runs have ended.
            self.checkpoint_path.unlink(missing_ok=True)

    def _after_step(self, phase_index: int, remaining: int, bar: tqdm[NoReturn]) -> None:
        """Log, evaluate and draw if due."""
        recorder, step = self.recorder, self.step
        evaluates = self._due(self.options.eval_interval, remaining)
        draws = self._due(self.options.visualize_interval, remaining)
        if self._due(self.options.log_interval, remaining):
            interacts = self.program.phases[phase_index].interacts
            recorder.log_metrics(self.metrics, step, self.updates, interacts=interacts)
        if not recorder.active():
            return
        if self.program.explores and self._due(
            max(1, self.program.total_steps // COVERAGE_POINTS), remaining
        ):
            recorder.log_data_statistics(step)
        if self.program.explores and step == self.program.total_steps:
            # Before everything else, so that no later failure loses the data.
            recorder.save_datasets()
        if evaluates or draws:
            evaluations = recorder.evaluate(step)
            recorder.log_phase(phase_index, step)
            active = [own for _, own in recorder.active()]
            bar.set_postfix_str(f"eval_return {mean_of_latest(active):.1f}")
        if draws:
            recorder.draw(evaluations, step)

    def _due(self, interval: int, remaining: int) -> bool:
        """Return whether this step completes an interval, or its phase."""
        return self.step % interval == 0 or remaining == 0

    def advance(self, phase: Phase, most: int) -> int:
        """Take steps without evaluating, logging or writing anything.

        Args:
            phase: The current phase.
            most: The maximum number of steps to take; it stops earlier if something is due.

        Returns:
            The number of steps taken, at least one.
        """
        if phase.interacts:
            self.step += 1
            self._interact()
            due = self.updates_per_step if self.step > self.warm_up else 0
            while due:
                due -= self._learn(due)
            return 1
        options = self.options
        intervals = (
            options.eval_interval,
            options.visualize_interval,
            options.log_interval,
            options.checkpoint_interval,
        )
        for interval in filter(None, intervals):
            most = min(most, interval - self.step % interval)
        taken = self._learn(min(most, max(1, RUN_UPDATES_AT_ONCE // len(self.program.runs))))
        self.step += taken
        return taken

    def _learn(self, most: int) -> int:
        """Take between one and `most` updates; return how many."""
        rows = self.buffer.rows(self.batches.take(most))
        # Merged, because an objective with a period is not part of every update.
        self.metrics = self.metrics | self.learner.learn(
            self.buffer.columns, rows, self.updates + 1
        )
        self.updates += len(rows)
        return len(rows)

    def _interact(self) -> None:
        """Take one environment step in every run and store its transition."""
        observations = self.envs.observations.copy()
        chance = self.chance.next()
        if self.step <= self.warm_up:
            actions = (chance[:, 0] * self.task.num_actions).astype(np.int64)
        else:
            inputs = self.contexts.inputs(observations[:, None])
            actions = self.learner.act(inputs, self.epsilon, chance)[:, 0]
        steps = self.envs.step(actions)
        happened = (observations, actions, steps.rewards, steps.terminated | steps.truncated)
        self.contexts.record(*(part[:, None] for part in happened))
        self.buffer.insert(observations, actions, *steps)
        self.episode_returns += steps.rewards
        self.episode_lengths += 1
        for index in np.flatnonzero(steps.terminated | steps.truncated).tolist():
            values = {
                "train_return": self.episode_returns[index],
                "train_ep_len": self.episode_lengths[index],
            }
            self.recorder.log_episode(index, values, self.step)
            self.episode_returns[index] = self.episode_lengths[index] = 0

    # Checkpoints

    def get_state(self) -> dict[str, Any]:
        """Write all logs to the disk; return everything that the future depends on.

        Raises:
            TypeError: If an agent's state contains something that cannot be saved.
            UserError: If the disk is full.
        """
        return {
            "settings": [run.info.settings for run in self.program.runs],
            "step": self.step,
            "updates": self.updates,
            "metrics": self.metrics,
            "episode_returns": self.episode_returns,
            "episode_lengths": self.episode_lengths,
            "generators": get_global_generators(),
            **{name: part.get_state() for name, part in self._parts().items()},
        }

    def _parts(self) -> dict[str, Any]:
        contexts = {"contexts": self.contexts} if self.contexts else {}
        return contexts | {
            "learner": self.learner,
            "buffer": self.buffer,
            "environments": self.envs,
            "exploration": self.chance,
            "batches": self.batches,
            "recorders": self.recorder,
        }

    def _restore(self, state: dict[str, Any]) -> None:
        if not same_settings(state["settings"], [run.info.settings for run in self.program.runs]):
            raise UserError(
                f"{self.checkpoint_path} was written with other settings than the config.yaml "
                "next to it has"
            )
        self.step, self.updates = int(state["step"]), int(state["updates"])
        if not 0 < self.step < self.program.total_steps:
            raise ValueError(f"training cannot continue from step {self.step}")
        self.metrics = {tag: values.to(ptu.device) for tag, values in state["metrics"].items()}
        fill(self.episode_returns, state["episode_returns"])
        fill(self.episode_lengths, state["episode_lengths"])
        for name, part in self._parts().items():
            part.set_state(state[name])
        set_global_generators(state["generators"])

    def _checkpoint_or_stop(self) -> None:
        """Write a checkpoint if one is due, and stop if that was requested.

        Raises:
            StoppedError: Upon Ctrl-C or SIGTERM.
        """
        if self.step == self.program.total_steps or not self.recorder.active():
            return  # the remaining work takes no time
        signum = interruption.requested()
        interval = self.options.checkpoint_interval
        if interval is None:
            due = time.monotonic() >= self._next_checkpoint
        else:
            due = interval > 0 and self.step % interval == 0
        if due or signum:
            self._checkpoint()
        if signum:
            raise interruption.StoppedError(signum)

    def _checkpoint(self) -> None:
        """Write a checkpoint; if that fails, say so and keep the previous one."""
        started = time.monotonic()
        try:
            save_checkpoint(self.checkpoint_path, self.get_state())
        except UserError as error:
            tqdm.write(f"{error}; no checkpoint was written at step {self.step:,}")
        except TypeError as error:
            if self._is_resumable:
                then = (
                    "continues from the last one"
                    if self.checkpoint_path.exists()
                    else "starts over"
                )
                tqdm.write(
                    f"No checkpoints are written from step {self.step:,} on: {error}. "
                    f"If stopped, the run {then}."
                )
            self._is_resumable = False
        seconds = time.monotonic() - started
        wait = max(CHECKPOINT_SECONDS, CHECKPOINT_RATIO * seconds)
        self._next_checkpoint = time.monotonic() + wait


def _seed_global_generators(seed: int) -> None:
    """Make agents that draw from the global generators reproducible."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the generator that such agents draw from
    torch.manual_seed(seed)


def same_settings(saved: list[dict[str, Any]], current: list[dict[str, Any]]) -> bool:
    """Return whether a checkpoint's runs have these settings.

    A key that an older version did not have counts as null, which means the old behaviour.
    """
    return len(saved) == len(current) and all(
        dict.fromkeys(mine) | theirs == mine for theirs, mine in zip(saved, current, strict=True)
    )
