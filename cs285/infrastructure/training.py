"""The one training loop: S runs of one algorithm in lock-step, through the phases of a script.

Exploration is online steps only; offline training is gradient steps on a loaded dataset only;
fine-tuning is offline steps, then online steps that append to that dataset.
"""

from __future__ import annotations

import random
from collections.abc import Hashable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from tqdm import tqdm

from cs285.envs.dynamics import MOVES
from cs285.infrastructure import compiling
from cs285.infrastructure import pytorch_util as ptu
from cs285.infrastructure.datasets import (
    Dataset,
    data_statistics,
    dataset_path,
    make_manifest,
    save_dataset,
    set_aside,
)
from cs285.infrastructure.ensemble import make_learner
from cs285.infrastructure.files import prepare_folder
from cs285.infrastructure.random_streams import (
    UniformStreams,
    derive_seed,
    undisturbed_generators,
)
from cs285.infrastructure.recording import RunInfo, RunRecorder, mean_of_latest
from cs285.infrastructure.replay_buffer import ReplayBuffer
from cs285.infrastructure.rollouts import Evaluation, LockstepEnvs, evaluate

OBSERVATION_SHAPE = (2,)
DATASET_FIELDS = ("observations", "actions", "rewards", "next_observations", "terminated")
"""Arrays of a dataset in the order of `Batch`."""

RUN_UPDATES_AT_ONCE = 1_000
"""Updates of all runs between two looks at Ctrl-C and the progress bar, about."""


@dataclass(frozen=True)
class Phase:
    """A stretch of training."""

    name: str
    steps: int
    interacts: bool
    """Every step takes an environment step first, and its transition joins the buffer."""


@dataclass(frozen=True)
class Options:
    """What the command line says about a training program, for all of its runs."""

    data_dir: Path
    dataset_dir: Path
    picture_dir: Path
    eval_interval: int
    visualize_interval: int
    log_interval: int
    num_eval_trajectories: int
    compile: str = "auto"
    """One of `compiling.CHOICES`."""


class Settings(Protocol):
    """What training reads from a config."""

    @property
    def env_name(self) -> str:
        """Id of the environment."""
        ...

    @property
    def dataset_name(self) -> str:
        """Name of the dataset that exploration writes."""
        ...

    @property
    def seed(self) -> int:
        """Decides all randomness of the run."""
        ...

    @property
    def epsilon(self) -> float:
        """Chance of a random action while collecting data."""
        ...

    @property
    def learning_starts(self) -> int:
        """Steps of random exploration before learning begins."""
        ...

    @property
    def updates_per_step(self) -> int:
        """Gradient steps for every environment step."""
        ...

    @property
    def batch_size(self) -> int:
        """Transitions in a batch."""
        ...

    @property
    def explores_purely(self) -> bool:
        """Whether exploration learns nothing of the task: neither rewards nor terminations."""
        ...

    @property
    def program_key(self) -> Hashable:
        """Equal for two runs exactly if they can train as one program."""
        ...

    def make_agent(self, observation_shape: tuple[int, ...], num_actions: int) -> Any:
        """Build the agent."""
        ...


@dataclass(frozen=True)
class Run:
    """One run to train."""

    config: Settings
    info: RunInfo
    dataset: Dataset | None = None
    """The data it starts from."""


def make_agent(config: Settings) -> Any:
    """Build the agent of a run; its initial weights depend on the run's seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(config.seed, "weights"))
        agent = config.make_agent(OBSERVATION_SHAPE, len(MOVES))
    return agent.to(ptu.device) if isinstance(agent, torch.nn.Module) else agent


class Trainer:
    """S runs that can train as one program: their configs have equal `program_key`.

    Args:
        runs: The runs.
        phases: What happens, in order, to all of them.
        options: Intervals and folders.

    Raises:
        UserError: If a run folder cannot be made.
    """

    def __init__(self, runs: Sequence[Run], phases: Sequence[Phase], options: Options) -> None:
        self.runs = list(runs)
        self.phases = list(phases)
        self.options = options
        self.step = 0
        self.updates = 0
        """Gradient steps so far."""
        self.diverged: list[str] = []
        """Names of the runs whose metrics are no longer finite."""
        self.metrics: dict[str, torch.Tensor] = {}
        """What the last update returned, each `(S,)`."""

        configs = [run.config for run in self.runs]
        self.env_ids = [config.env_name for config in configs]
        self.seeds = [config.seed for config in configs]
        self.epsilon = np.array([config.epsilon for config in configs])
        self.explores = runs[0].info.stage == "explore"
        self.warm_up = configs[0].learning_starts if self.explores else 0

        _seed_global_generators(self.seeds[0])
        agents = [make_agent(config) for config in configs]
        self.updates_per_step = configs[0].updates_per_step
        compiles = compiling.pays(options.compile, self._total_updates())
        self.learner = make_learner(agents, compiles=compiles)
        self.buffer = self._make_buffer()
        self.envs = LockstepEnvs(self.env_ids, self._derive_seeds("environment"))
        self.chance = UniformStreams(self._derive_seeds("exploration"), width=1)
        self.batches = UniformStreams(self._derive_seeds("batches"), width=configs[0].batch_size)
        self.episode_returns = np.zeros(len(runs))
        self.episode_lengths = np.zeros(len(runs), dtype=np.int64)
        self.recorders = [
            RunRecorder(run.info, options.data_dir, self.total_steps, self._online_start())
            for run in self.runs
        ]

    @property
    def total_steps(self) -> int:
        """Steps of all phases."""
        return sum(phase.steps for phase in self.phases)

    def _total_updates(self) -> int:
        """Return the gradient steps of all phases, those of the warm-up included."""
        ratio = self.updates_per_step
        return sum(phase.steps * (ratio if phase.interacts else 1) for phase in self.phases)

    def _online_start(self) -> int | None:
        """Return the step after which a run that began offline goes online, if it does."""
        offline = 0
        for phase in self.phases:
            if phase.interacts:
                return offline or None
            offline += phase.steps
        return None

    def _derive_seeds(self, purpose: str) -> list[int]:
        return [derive_seed(seed, purpose) for seed in self.seeds]

    def _make_buffer(self) -> ReplayBuffer:
        """Make room for every transition that is there and every one that will come."""
        online = sum(phase.steps for phase in self.phases if phase.interacts)
        offline = max(len(run.dataset) if run.dataset else 0 for run in self.runs)
        hides_task = [self.explores and run.config.explores_purely for run in self.runs]
        buffer = ReplayBuffer(len(self.runs), offline + online, OBSERVATION_SHAPE, hides_task)
        for index, run in enumerate(self.runs):
            if run.dataset is not None:
                arrays = run.dataset.arrays()
                buffer.fill(index, [arrays[name] for name in DATASET_FIELDS])
        return buffer

    # The loop

    def train(self) -> None:
        """Go through all phases and leave everything on disk."""
        title = self.runs[0].info.name if len(self.runs) == 1 else f"{len(self.runs)} runs"
        with ExitStack() as stack:
            for recorder in self.recorders:
                stack.callback(recorder.close)
            bar = stack.enter_context(tqdm(total=self.total_steps, desc=title, mininterval=1.0))
            for index, phase in enumerate(self.phases):
                self._record({"phase": index}, self.step + 1)
                end = self.step + phase.steps
                while self.step < end:
                    bar.update(self._advance(phase, end - self.step))
                    remaining = end - self.step
                    evaluates = self._due(self.options.eval_interval, remaining)
                    draws = self._due(self.options.visualize_interval, remaining)
                    if self._due(self.options.log_interval, remaining):
                        self._log_metrics(phase)
                    if self.explores and self.step == self.total_steps:
                        # First of all: whatever fails from here on, the data are safe.
                        self._save_datasets()
                    if evaluates or draws:
                        evaluations = self._evaluate(index)
                        bar.set_postfix_str(f"eval_return {mean_of_latest(self.recorders):.1f}")
                    if draws:
                        self._draw(evaluations)
            self._finish()

    def _due(self, interval: int, remaining: int) -> bool:
        """Tell whether this step is one of an interval, or the last of its phase."""
        return self.step % interval == 0 or remaining == 0

    def _advance(self, phase: Phase, most: int) -> int:
        """Take at most `most` steps, up to the next that something follows; return how many."""
        if phase.interacts:
            self.step += 1
            self._interact()
            due = self.updates_per_step if self.step > self.warm_up else 0
            while due:
                due -= self._learn(due)
            return 1
        options = self.options
        for interval in (options.eval_interval, options.visualize_interval, options.log_interval):
            most = min(most, interval - self.step % interval)
        taken = self._learn(min(most, max(1, RUN_UPDATES_AT_ONCE // len(self.runs))))
        self.step += taken
        return taken

    def _learn(self, most: int) -> int:
        """Take at most `most` updates, at least one; return how many."""
        rows = self.buffer.rows(self.batches.take(most))
        self.metrics = self.learner.learn(self.buffer.transitions, rows, self.updates + 1)
        self.updates += len(rows)
        return len(rows)

    def _interact(self) -> None:
        """Take one environment step in every run and store its transition."""
        observations = self.envs.observations.copy()
        chance = self.chance.next()
        if self.step <= self.warm_up:
            actions = (chance[:, 0] * len(MOVES)).astype(np.int64)
        else:
            actions = self.learner.act(observations[:, None], self.epsilon, chance)[:, 0]
        steps = self.envs.step(actions)
        self.buffer.insert(observations, actions, *steps)
        self.episode_returns += steps.rewards
        self.episode_lengths += 1
        for index in np.flatnonzero(steps.terminated | steps.truncated):
            values = {
                "train_return": self.episode_returns[index],
                "train_ep_len": self.episode_lengths[index],
            }
            self.recorders[index].scalars(values, self.step)
            self.episode_returns[index] = self.episode_lengths[index] = 0

    # What it shows

    def _record(self, values: dict[str, float], step: int) -> None:
        for recorder in self.recorders:
            recorder.scalars(values, step)

    def _log_metrics(self, phase: Phase) -> None:
        if not self.metrics:
            return
        # One transfer for all metrics of all runs.
        rows = torch.stack(list(self.metrics.values())).T.tolist()
        for recorder, row, epsilon in zip(self.recorders, rows, self.epsilon, strict=True):
            values = dict(zip(self.metrics, row, strict=True))
            if not np.isfinite(row).all():
                self._report_divergence(recorder)
            recorder.scalars(values | ({"epsilon": epsilon} if phase.interacts else {}), self.step)

    def _report_divergence(self, recorder: RunRecorder) -> None:
        """Name a run that lost its numbers, once; the others of the program go on."""
        name = recorder.info.name
        if name not in self.diverged:
            self.diverged.append(name)
            tqdm.write(f"{name} diverged: its metrics are not finite at step {self.step:,}")

    def _evaluate(self, phase_index: int) -> list[Evaluation]:
        episodes = self.options.num_eval_trajectories
        with undisturbed_generators(self.learner.agents):
            evaluations = evaluate(self.learner, self.env_ids, self.seeds, episodes, self.step)
        for index, recorder in enumerate(self.recorders):
            recorder.evaluation(evaluations[index], self.step)
            if self.explores:
                recorder.scalars(self._data_statistics(index), self.step)
        self._record({"phase": phase_index}, self.step)
        return evaluations

    def _draw(self, evaluations: Sequence[Evaluation]) -> None:
        self.learner.sync_agents()
        last = self.step == self.total_steps
        for index, recorder in enumerate(self.recorders):
            if self.explores:
                name = f"{self.runs[index].config.dataset_name}_seed{self.seeds[index]}.png"
                png = prepare_folder(self.options.picture_dir) / name if last else None
                # The states that were entered: only these include where an episode ended.
                entered = ptu.to_numpy(self.buffer.contents(index).next_observations)
                agent = self.learner.agents[index]
                recorder.exploration_picture(entered, agent, self.step, png)
            else:
                png = recorder.folder / "trajectories.png" if last else None
                recorder.trajectories_picture(evaluations[index], self.step, png)

    def _data_statistics(self, index: int) -> dict[str, float]:
        """Tell what a run has collected so far."""
        held = self.buffer.contents(index)
        arrays = [ptu.to_numpy(x) for x in (held.observations, held.next_observations, held.dones)]
        return data_statistics(self.env_ids[index], *arrays)

    def _finish(self) -> None:
        self.learner.sync_agents()
        for index, recorder in enumerate(self.recorders):
            extra: dict[str, Any] = {}
            if self.explores:
                extra = self._data_statistics(index)
            else:
                recorder.learning_curve_picture()
            recorder.agent(self.learner.agents[index])
            diverged = recorder.info.name in self.diverged
            recorder.summary("diverged" if diverged else "finished", extra)

    def _save_datasets(self) -> None:
        for index in range(len(self.runs)):
            self._save_dataset(index)

    def _save_dataset(self, index: int) -> None:
        run = self.runs[index]
        arrays = {
            name: ptu.to_numpy(values)
            for name, values in zip(DATASET_FIELDS, self.buffer.contents(index), strict=True)
        }
        arrays["truncated"] = self.buffer.truncated[index, : len(arrays["actions"])]
        manifest = make_manifest(run.info.env_id, run.info.settings, run.info.seed, arrays)
        folder = prepare_folder(self.options.dataset_dir)
        path = dataset_path(folder, run.config.dataset_name, run.info.seed)
        if aside := set_aside(path, manifest["config"]):
            tqdm.write(f"{path.name} was made with another config; it is kept as {aside.name}")
        save_dataset(path, Dataset(**arrays, manifest=manifest))


def _seed_global_generators(seed: int) -> None:
    """Make agents that draw from the global generators reproducible, too."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the generator that such agents draw from
    torch.manual_seed(seed)
