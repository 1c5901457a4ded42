"""A training program: its runs, and the phases they go through."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from cs285.datasets.dataset_files import Dataset
from cs285.envs.tasks import get_task
from cs285.homework import Stage
from cs285.infrastructure import pytorch_util as ptu
from cs285.learning.random_streams import derive_seed
from cs285.learning.student_code import reported
from cs285.results.run_folders import RunFolder, make_run_folder
from cs285.training.stages import Phase


class Settings(Protocol):
    """What training needs from a config."""

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
        """Determines all random numbers of the run."""
        ...

    @property
    def epsilon(self) -> float:
        """Probability of a random action while collecting data."""
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
    def program_key(self) -> Hashable:
        """A key that is equal for two runs exactly if they can train as one program."""
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
    """The data that it starts with."""
    folder: RunFolder | None = None
    """Its folder, if that already exists."""


@dataclass(frozen=True)
class Program:
    """Runs that train in lockstep, and the phases that all of them go through.

    Their configs have equal `program_key`s.
    """

    runs: Sequence[Run]
    phases: Sequence[Phase]

    @property
    def stage(self) -> Stage:
        """The stage, which all runs share."""
        return self.runs[0].info.stage

    @property
    def explores(self) -> bool:
        """Whether the runs collect datasets."""
        return self.stage == Stage.EXPLORE

    @property
    def env_ids(self) -> list[str]:
        """The environment of each run."""
        return [run.config.env_name for run in self.runs]

    @property
    def seeds(self) -> list[int]:
        """The seed of each run."""
        return [run.config.seed for run in self.runs]

    def derive_seeds(self, purpose: str, *parts: int) -> list[int]:
        """Return a seed of each run for one purpose; see `derive_seed`."""
        return [derive_seed(seed, purpose, *parts) for seed in self.seeds]

    @property
    def total_steps(self) -> int:
        """Steps of all phases."""
        return sum(phase.steps for phase in self.phases)

    @property
    def online_start(self) -> int | None:
        """The step after which runs that begin offline continue online, or None."""
        offline = 0
        for phase in self.phases:
            if phase.interacts:
                return offline or None
            offline += phase.steps
        return None

    @property
    def updates(self) -> int:
        """Gradient steps of each run, including those of a warm-up."""
        ratio = self.runs[0].config.updates_per_step
        return sum(phase.steps * (ratio if phase.interacts else 1) for phase in self.phases)

    @property
    def work(self) -> int:
        """Gradient steps of all runs together, as a measure of time."""
        return len(self.runs) * self.updates


def make_agent(config: Settings) -> Any:
    """Build the agent of a run; its initial weights depend only on the run's seed.

    Raises:
        UserError: If its file cannot be imported, or its constructor fails.
    """
    task = get_task(config.env_name)
    with torch.random.fork_rng(devices=[]), reported():
        torch.manual_seed(derive_seed(config.seed, "weights"))
        agent = config.make_agent(task.observation_shape, task.num_actions)
    return agent.to(ptu.device) if isinstance(agent, torch.nn.Module) else agent


@dataclass(frozen=True)
class RunInfo:
    """The identity and settings of a run."""

    stage: Stage
    algorithm: str
    env_id: str
    exp_name: str
    seed: int
    settings: dict[str, Any]
    """The resolved config as plain values, saved with all output of the run."""

    @property
    def name(self) -> str:
        """The run's name, which is unique among the runs of its command and stage."""
        return f"{self.exp_name}_sd{self.seed}"

    def make_folder(self, data_dir: Path) -> RunFolder:
        """Create a folder for this run, and write the resolved config into it.

        Raises:
            UserError: If the folder cannot be created or written to.
        """
        folder = make_run_folder(data_dir, f"hw5_{self.stage}", self.name)
        folder.write_config(self.settings)
        return folder
