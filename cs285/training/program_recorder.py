"""Evaluates, logs and draws the runs of one program during training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from cs285.analysis.exact import Data, OutputError
from cs285.datasets.dataset_files import (
    DATASET_FIELDS,
    Dataset,
    dataset_path,
    make_manifest,
    save_dataset,
    set_aside,
)
from cs285.envs.tasks import get_task
from cs285.infrastructure import pytorch_util as ptu
from cs285.infrastructure.files import prepare_folder
from cs285.learning.learner import Learner
from cs285.learning.objective import Tensors
from cs285.learning.random_streams import separate_generators
from cs285.learning.replay_buffer import ReplayBuffer
from cs285.results.run_summary import RunStatus
from cs285.results.statistics import final_return
from cs285.training.checkpoints import save_checkpoint
from cs285.training.exact_tags import evaluate_policy, is_due, scalars
from cs285.training.options import Options
from cs285.training.policies import Policy
from cs285.training.rollouts import Evaluation, evaluate
from cs285.training.run_recorder import RunRecorder
from cs285.training.runs import Program, Run

LAST_EVALUATION = 5
"""Factor by which the last evaluation in learning has more episodes than the others."""


class ProgramRecorder:
    """Records S runs, each in its own folder; diverged runs are no longer recorded.

    Args:
        program: The runs and their phases.
        options: Intervals, folders and sinks.
        learner: Trains the agents of the runs.
        buffer: The transitions of all runs.

    Raises:
        UserError: If a run folder cannot be created.
    """

    def __init__(
        self,
        program: Program,
        options: Options,
        learner: Learner,
        buffer: ReplayBuffer,
    ) -> None:
        self.program = program
        self.options = options
        self.learner = learner
        self.buffer = buffer
        self.recorders = [
            RunRecorder(
                run.info,
                options.data_dir,
                program.total_steps,
                program.online_start,
                run.folder,
                options.log,
            )
            for run in program.runs
        ]
        self._data: dict[int, tuple[int, Data]] = {}
        self._without_exact_results: set[int] = set()

    def active(self) -> list[tuple[int, RunRecorder]]:
        """Return the indices and recorders of the runs that have not diverged."""
        return [(k, x) for k, x in enumerate(self.recorders) if x.diverged_at is None]

    @property
    def diverged(self) -> list[str]:
        """Names of the runs that diverged."""
        return [x.info.name for x in self.recorders if x.diverged_at is not None]

    def log_dataset_sizes(self) -> None:
        """Log the number of transitions in each dataset that a run learns from."""
        for run, recorder in zip(self.program.runs, self.recorders, strict=True):
            if run.dataset is not None:
                recorder.log({"dataset_transitions": len(run.dataset)}, 1)

    def log_phase(self, index: int, step: int) -> None:
        """Log the index of the current phase."""
        for _, recorder in self.active():
            recorder.log({"phase": index}, step)

    def log_episode(self, index: int, values: Mapping[str, float], step: int) -> None:
        """Log return and length of a training episode of one run."""
        if self.recorders[index].diverged_at is None:
            self.recorders[index].log(values, step)

    def log_metrics(self, metrics: Tensors, step: int, updates: int, *, interacts: bool) -> None:
        """Log the metrics of an update, and end the runs whose losses are not finite.

        Args:
            metrics: The metrics of the last update, each `(S,)`.
            step: Steps so far.
            updates: Gradient steps so far.
            interacts: Whether the runs collect data, with their epsilon.
        """
        if not metrics:
            return
        # One transfer for all metrics of all runs.
        rows = torch.stack(list(metrics.values())).T.tolist()
        for index, recorder in self.active():
            values = dict(zip(metrics, rows[index], strict=True))
            epsilon = {"epsilon": self.program.runs[index].config.epsilon} if interacts else {}
            recorder.log(values | epsilon, step)
            # An agent that logs no loss is judged by all its metrics.
            losses = [value for tag, value in values.items() if "loss" in tag]
            if np.isfinite(losses or list(values.values())).all():
                recorder.last_finite = {"step": step, **values}
            else:
                self._end_diverged(index, step, updates)

    def _end_diverged(self, index: int, step: int, updates: int) -> None:
        """End a run with a loss that is not finite; the program then ignores its lane."""
        recorder = self.recorders[index]
        recorder.diverged_at = step
        tqdm.write(f"{recorder.info.name} diverged: a loss is not finite at step {step:,}")
        learned: dict[str, Any] = {"step": step, "updates": updates}
        try:
            learned["learner"] = self.learner.state_of(index)
            save_checkpoint(recorder.folder.diverged, learned)
        except TypeError as error:
            tqdm.write(
                f"{recorder.info.name}: {recorder.folder.diverged.name} cannot be written: {error}"
            )
        found = self._data_statistics(index) if self.program.explores else {}
        recorder.write_summary(RunStatus.DIVERGED, found)
        recorder.close()

    def log_data_statistics(self, step: int) -> None:
        """Log statistics of the collected data, such as coverage, if the task has any."""
        for index, recorder in self.active():
            if found := self._data_statistics(index):
                recorder.log(found, step)

    def evaluate(self, step: int) -> list[Evaluation]:
        """Evaluate all runs, and log the results of the active ones."""
        episodes = self.options.num_eval_trajectories
        if step == self.program.total_steps and not self.program.explores:
            episodes *= LAST_EVALUATION
        program = self.program
        seeds = program.derive_seeds("evaluation", step)
        with separate_generators(self.learner.agents, seeds):
            evaluations = evaluate(self.learner, program.env_ids, program.seeds, episodes, step)
            exact = self._evaluate_exactly(step)
        for index, recorder in self.active():
            recorder.log_evaluation(evaluations[index], step, exact.get(index))
        return evaluations

    def _evaluate_exactly(self, step: int) -> dict[int, dict[str, float]]:
        """Return the exact tags of the active runs, by index, where they are due and possible."""
        self.learner.sync_agents()
        total_steps = self.program.total_steps
        found = {}
        for index, recorder in self.active():
            previous = recorder.steps[-1] if recorder.steps else 0
            if not is_due(recorder.task, step, previous, total_steps):
                continue
            settings = self.program.runs[index].info.settings
            try:
                evaluation = evaluate_policy(
                    Policy(self.learner.agents[index], recorder.task),
                    self._data_of(index),
                    # While exploring, agents value their bonus.
                    None if self.program.explores else settings.get("discount"),
                    self.program.seeds[index],
                    step,
                    total_steps,
                )
            except OutputError as error:
                if index not in self._without_exact_results:  # one line is enough
                    tqdm.write(f"{recorder.info.name}: no exact results at step {step:,}: {error}")
                self._without_exact_results.add(index)
                continue
            if evaluation is not None:
                found[index] = scalars(evaluation, recorder.task)
        return found

    def _data_of(self, index: int) -> Data:
        """Return the data of a run; the same object as long as nothing is inserted."""
        count = int(self.buffer.inserted[index])
        if index not in self._data or self._data[index][0] != count:
            held = self.buffer.contents(index)
            data = Data(ptu.to_numpy(held.observations), ptu.to_numpy(held.actions))
            self._data[index] = count, data
        return self._data[index][1]

    def draw(self, evaluations: Sequence[Evaluation], step: int) -> None:
        """Draw explored states or evaluated episodes; the last pictures also become files."""
        self.learner.sync_agents()
        last = step == self.program.total_steps
        for index, recorder in self.active():
            if self.program.explores:
                run = self.program.runs[index]
                name = f"{run.config.dataset_name}_seed{run.config.seed}.png"
                png = prepare_folder(self.options.picture_dir) / name if last else None
                # Only the next observations include the states in which episodes ended.
                entered = ptu.to_numpy(self.buffer.contents(index).next_observations)
                recorder.draw_exploration(entered, self.learner.agents[index], step, png)
            else:
                if not last:
                    recorder.save_weights(self.learner.agents[index], step)
                png = recorder.folder.trajectories if last else None
                recorder.draw_trajectories(evaluations[index], step, png)

    def save_datasets(self) -> None:
        """Write the data of each active run, setting aside files made with other configs."""
        for index, _ in self.active():
            self._save_dataset(self.program.runs[index], index)

    def _save_dataset(self, run: Run, index: int) -> None:
        arrays = {
            name: ptu.to_numpy(values)
            for name, values in zip(DATASET_FIELDS, self.buffer.contents(index), strict=True)
        }
        arrays["truncated"] = self.buffer.truncated[index, : len(arrays["actions"])]
        manifest = make_manifest(run.info.env_id, run.info.settings, run.info.seed, arrays)
        prepare_folder(self.options.dataset_dir)
        path = self._dataset_path(index)
        if aside := set_aside(path, manifest["config"]):
            tqdm.write(f"{path.name} was made with another config; it is kept as {aside.name}")
        save_dataset(path, Dataset(**arrays, manifest=manifest))

    def _dataset_path(self, index: int) -> Path:
        run = self.program.runs[index]
        return dataset_path(self.options.dataset_dir, run.config.dataset_name, run.info.seed)

    def _data_statistics(self, index: int) -> dict[str, float]:
        """Return statistics of the data that a run has collected so far."""
        data = self.buffer.contents(index)
        arrays = [ptu.to_numpy(x) for x in (data.observations, data.next_observations, data.dones)]
        return get_task(self.program.env_ids[index]).statistics(*arrays)

    def finish(self) -> None:
        """Write the weights and summaries of the active runs, and print their results."""
        self.learner.sync_agents()
        for index, recorder in self.active():
            extra = self._data_statistics(index) if self.program.explores else {}
            if not self.program.explores:
                recorder.draw_learning_curve()
            recorder.save_weights(self.learner.agents[index])
            recorder.write_summary(RunStatus.FINISHED, extra)
            tqdm.write(f"{recorder.info.name}: {self._outcome(index, extra)}")

    def _outcome(self, index: int, found: Mapping[str, float]) -> str:
        """Return one line with the result of a run and the location of its files."""
        recorder = self.recorders[index]
        task = recorder.task
        if self.program.explores:
            said = task.describe_statistics(found) or f"{self.program.total_steps:,} steps explored"
            return f"{said}; {self._dataset_path(index)}"
        final = final_return(recorder.returns, recorder.episodes)
        reference = task.reference()
        best = f", at best {reference.optimal_return:.1f} is possible" if reference else ""
        exact = recorder.exact.get("exact/return")
        exactly = "" if exact is None else f", exactly {exact:.2f}"
        return f"final return {final:.1f}{exactly}{best}; {recorder.folder}"

    def get_state(self) -> list[dict[str, Any]]:
        """Return the state of each run's recorder, with everything logged durable.

        Raises:
            UserError: If a log cannot be written.
        """
        return [recorder.get_state() for recorder in self.recorders]

    def set_state(self, state: Sequence[Mapping[str, Any]]) -> None:
        """Restore a state that `get_state` returned for these runs, and rewind the logs to it.

        Raises:
            UserError: If a log cannot be rewound.
        """
        for recorder, own in zip(self.recorders, state, strict=True):
            recorder.set_state(own)

    def close(self) -> None:
        """Close all logs."""
        for recorder in self.recorders:
            recorder.close()
