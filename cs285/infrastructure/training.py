"""The one training loop: S runs of one algorithm in lock-step, through the phases of a script.

Exploration is online steps only; offline training is gradient steps on a loaded dataset only;
fine-tuning is offline steps, then online steps that append to that dataset.
"""

from __future__ import annotations

import random
import time
from collections.abc import Hashable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn, Protocol

import numpy as np
import torch
from pydantic import NonNegativeInt, PositiveInt
from tqdm import tqdm

from cs285.envs.dynamics import MOVES
from cs285.infrastructure import compiling, interruption
from cs285.infrastructure import pytorch_util as ptu
from cs285.infrastructure.checkpoints import CHECKPOINT, fill, save_checkpoint
from cs285.infrastructure.datasets import (
    Dataset,
    data_statistics,
    dataset_path,
    make_manifest,
    save_dataset,
    set_aside,
)
from cs285.infrastructure.ensemble import make_learner
from cs285.infrastructure.errors import UserError
from cs285.infrastructure.files import prepare_folder
from cs285.infrastructure.random_streams import (
    UniformStreams,
    derive_seed,
    get_global_generators,
    set_global_generators,
    undisturbed_generators,
)
from cs285.infrastructure.recording import RunInfo, RunRecorder, mean_of_latest
from cs285.infrastructure.replay_buffer import ReplayBuffer
from cs285.infrastructure.rollouts import Evaluation, LockstepEnvs, evaluate

OBSERVATION_SHAPE = (2,)
DATASET_FIELDS = ("observations", "actions", "rewards", "next_observations", "terminated")
"""Arrays of a dataset in the order of `Batch`."""

LAST_EVALUATION = 5
"""The last evaluation of learning takes so many times as many episodes."""

DIVERGED = "diverged.pt"
"""What a run had learned when it was seen to diverge, in its folder."""

CHECKPOINT_SECONDS = 60.0
"""Time between two checkpoints, unless the command line says how many steps."""
CHECKPOINT_RATIO = 200
"""And at least so many times as long as the last one took: half a percent of a run."""

RUN_UPDATES_AT_ONCE = 1_000
"""Updates of all runs between two looks at Ctrl-C and the progress bar, about."""


@dataclass(frozen=True)
class Phase:
    """A stretch of training."""

    name: str
    steps: int
    interacts: bool
    """Every step takes an environment step first, and its transition joins the buffer."""
    exploits: bool = False
    """An agent with two critics lets the task's collect the data."""


@dataclass(frozen=True)
class Options:
    """What the command line says about a training program, for all of its runs.

    The types bound what a file may say of it.
    """

    data_dir: Path
    dataset_dir: Path
    picture_dir: Path
    eval_interval: PositiveInt
    visualize_interval: PositiveInt
    log_interval: PositiveInt
    num_eval_trajectories: PositiveInt
    compile: Literal["auto", "on", "off"] = "auto"
    """See `compiling.pays`."""
    checkpoint_interval: NonNegativeInt | None = None
    """Steps between checkpoints; 0 for none, None for one a minute."""


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
    folder: Path | None = None
    """Its folder, if it is there already."""


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
        checkpoint: What `get_state` of such a trainer returned, to go on from there. It holds the
            data, so the runs need not.

    Raises:
        UserError: If a run folder cannot be made, or the checkpoint is of other runs.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        phases: Sequence[Phase],
        options: Options,
        checkpoint: dict[str, Any] | None = None,
    ) -> None:
        self.runs = list(runs)
        self.phases = list(phases)
        self.options = options
        self.step = 0
        self.updates = 0
        """Gradient steps so far."""
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
        self.buffer = self._make_buffer(checkpoint)
        self.envs = LockstepEnvs(self.env_ids, self._derive_seeds("environment"))
        self.chance = UniformStreams(self._derive_seeds("exploration"), width=1)
        self.batches = UniformStreams(self._derive_seeds("batches"), width=configs[0].batch_size)
        self.episode_returns = np.zeros(len(runs))
        self.episode_lengths = np.zeros(len(runs), dtype=np.int64)
        self.recorders = [
            RunRecorder(
                run.info, options.data_dir, self.total_steps, self._online_start(), run.folder
            )
            for run in self.runs
        ]
        self.checkpoint_path = self.recorders[0].folder / CHECKPOINT
        self._is_resumable = True
        self._next_checkpoint = time.monotonic() + CHECKPOINT_SECONDS
        if checkpoint is not None:
            self._restore(checkpoint)

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

    def _make_buffer(self, checkpoint: dict[str, Any] | None) -> ReplayBuffer:
        """Make room for every transition that is there and every one that will come."""
        online = sum(phase.steps for phase in self.phases if phase.interacts)
        offline = max(len(run.dataset) if run.dataset else 0 for run in self.runs)
        if checkpoint is not None:
            offline = checkpoint["buffer"]["truncated"].shape[1]  # with what came online
        hides_task = [self.explores and run.config.explores_purely for run in self.runs]
        buffer = ReplayBuffer(len(self.runs), offline + online, OBSERVATION_SHAPE, hides_task)
        for index, run in enumerate(self.runs):
            if run.dataset is not None and checkpoint is None:
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
            bar = stack.enter_context(
                tqdm(total=self.total_steps, initial=self.step, desc=title, mininterval=1.0)
            )
            end = 0
            for index, phase in enumerate(self.phases):
                start, end = end, end + phase.steps
                if self.step == start:
                    self._record({"phase": index}, self.step + 1)
                    if phase.exploits:
                        self.learner.exploit()
                while self.step < end and self._active():
                    bar.update(self._advance(phase, end - self.step))
                    self._follow(index, end - self.step, bar)
                    self._checkpoint_or_stop()
            self._finish()

    def _follow(self, phase_index: int, remaining: int, bar: tqdm[NoReturn]) -> None:
        """Do what is due after a step."""
        evaluates = self._due(self.options.eval_interval, remaining)
        draws = self._due(self.options.visualize_interval, remaining)
        if self._due(self.options.log_interval, remaining):
            self._log_metrics(self.phases[phase_index])
        if not self._active():
            return
        if self.explores and self.step == self.total_steps:
            # First of all: whatever fails from here on, the data are safe.
            self._save_datasets()
        if evaluates or draws:
            evaluations = self._evaluate(phase_index)
            active = [recorder for _, recorder in self._active()]
            bar.set_postfix_str(f"eval_return {mean_of_latest(active):.1f}")
        if draws:
            self._draw(evaluations)

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
        intervals = (
            options.eval_interval,
            options.visualize_interval,
            options.log_interval,
            options.checkpoint_interval,
        )
        for interval in filter(None, intervals):
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
            if self.recorders[index].diverged_at is None:
                values = {
                    "train_return": self.episode_returns[index],
                    "train_ep_len": self.episode_lengths[index],
                }
                self.recorders[index].scalars(values, self.step)
            self.episode_returns[index] = self.episode_lengths[index] = 0

    # Checkpoints

    def get_state(self) -> dict[str, Any]:
        """Return everything that the future depends on, with all that was logged on the disk.

        Raises:
            TypeError: If an agent keeps something that no checkpoint can.
            UserError: If the disk is full.
        """
        return {
            "settings": [run.info.settings for run in self.runs],
            "step": self.step,
            "updates": self.updates,
            "metrics": self.metrics,
            "episode_returns": self.episode_returns,
            "episode_lengths": self.episode_lengths,
            "recorders": [recorder.get_state() for recorder in self.recorders],
            "generators": get_global_generators(),
            **{name: part.get_state() for name, part in self._parts().items()},
        }

    def _parts(self) -> dict[str, Any]:
        return {
            "learner": self.learner,
            "buffer": self.buffer,
            "environments": self.envs,
            "exploration": self.chance,
            "batches": self.batches,
        }

    def _restore(self, state: dict[str, Any]) -> None:
        if state["settings"] != [run.info.settings for run in self.runs]:
            raise UserError(
                f"{self.checkpoint_path} is of other settings than those in config.yaml beside it."
            )
        self.step, self.updates = int(state["step"]), int(state["updates"])
        if not 0 < self.step < self.total_steps:
            raise ValueError(f"there is no step {self.step} to go on from")
        self.metrics = {tag: values.to(ptu.device) for tag, values in state["metrics"].items()}
        fill(self.episode_returns, state["episode_returns"])
        fill(self.episode_lengths, state["episode_lengths"])
        for name, part in self._parts().items():
            part.set_state(state[name])
        for recorder, own in zip(self.recorders, state["recorders"], strict=True):
            recorder.set_state(own)
        set_global_generators(state["generators"])

    def _checkpoint_or_stop(self) -> None:
        """Write a checkpoint where one is due, and stop where that is asked for.

        Raises:
            StoppedError: Upon Ctrl-C or SIGTERM.
        """
        if self.step == self.total_steps or not self._active():
            return  # what is left takes no time
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
        """Write a checkpoint; where that fails, say so and go on with the one before."""
        started = time.monotonic()
        try:
            save_checkpoint(self.checkpoint_path, self.get_state())
        except UserError as error:
            tqdm.write(f"{error} There is no new checkpoint at step {self.step:,}.")
        except TypeError as error:
            if self._is_resumable:
                tqdm.write(f"There are no checkpoints: {error}. A stopped run starts over.")
            self._is_resumable = False
        seconds = time.monotonic() - started
        wait = max(CHECKPOINT_SECONDS, CHECKPOINT_RATIO * seconds)
        self._next_checkpoint = time.monotonic() + wait

    # What it shows

    def _active(self) -> list[tuple[int, RunRecorder]]:
        """Return the runs that have not diverged, and their indices."""
        return [(k, x) for k, x in enumerate(self.recorders) if x.diverged_at is None]

    @property
    def diverged(self) -> list[str]:
        """Names of the runs that ended because a loss was not finite."""
        return [x.info.name for x in self.recorders if x.diverged_at is not None]

    def _record(self, values: dict[str, float], step: int) -> None:
        for _, recorder in self._active():
            recorder.scalars(values, step)

    def _log_metrics(self, phase: Phase) -> None:
        if not self.metrics:
            return
        # One transfer for all metrics of all runs.
        rows = torch.stack(list(self.metrics.values())).T.tolist()
        for index, recorder in self._active():
            values = dict(zip(self.metrics, rows[index], strict=True))
            logged = values | ({"epsilon": self.epsilon[index]} if phase.interacts else {})
            recorder.scalars(logged, self.step)
            # An agent that logs no loss is judged by all that it logs.
            losses = [value for tag, value in values.items() if "loss" in tag]
            if np.isfinite(losses or list(values.values())).all():
                recorder.finite = {"step": self.step, **values}
            else:
                self._end_diverged(index)

    def _end_diverged(self, index: int) -> None:
        """End a run that lost its numbers: its lane of the program goes on, but nobody looks."""
        recorder = self.recorders[index]
        recorder.diverged_at = self.step
        tqdm.write(f"{recorder.info.name} diverged: a loss is not finite at step {self.step:,}")
        learned: dict[str, Any] = {"step": self.step, "updates": self.updates}
        try:
            learned["learner"] = self.learner.state_of(index)
            save_checkpoint(recorder.folder / DIVERGED, learned)
        except TypeError as error:
            tqdm.write(f"{recorder.info.name}: {DIVERGED} cannot be written: {error}")
        recorder.summary("diverged", self._data_statistics(index) if self.explores else {})
        recorder.close()

    def _evaluate(self, phase_index: int) -> list[Evaluation]:
        episodes = self.options.num_eval_trajectories
        if self.step == self.total_steps and not self.explores:
            episodes *= LAST_EVALUATION
        with undisturbed_generators(self.learner.agents):
            evaluations = evaluate(self.learner, self.env_ids, self.seeds, episodes, self.step)
        for index, recorder in self._active():
            recorder.evaluation(evaluations[index], self.step)
            if self.explores:
                recorder.scalars(self._data_statistics(index), self.step)
        self._record({"phase": phase_index}, self.step)
        return evaluations

    def _draw(self, evaluations: Sequence[Evaluation]) -> None:
        self.learner.sync_agents()
        last = self.step == self.total_steps
        for index, recorder in self._active():
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
        for index, recorder in self._active():
            extra: dict[str, Any] = {}
            if self.explores:
                extra = self._data_statistics(index)
            else:
                recorder.learning_curve_picture()
            recorder.agent(self.learner.agents[index])
            recorder.summary("finished", extra)
        # From here on the summaries say that nothing is left to do.
        self.checkpoint_path.unlink(missing_ok=True)

    def _save_datasets(self) -> None:
        for index, _ in self._active():
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
