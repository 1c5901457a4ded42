"""What a training program is told: its runs, the phases they go through, and options for all."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from pydantic import NonNegativeInt, PositiveInt

from cs285.datasets.dataset_files import Dataset
from cs285.envs.dynamics import NUM_ACTIONS
from cs285.infrastructure import pytorch_util as ptu
from cs285.learning.random_streams import derive_seed
from cs285.results.run_folders import make_run_folder
from cs285.results.run_logger import RunLogger

OBSERVATION_SHAPE = (2,)


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


def count_updates(phases: Sequence[Phase], updates_per_step: int) -> int:
    """Return the gradient steps of all phases, those of a warm-up included."""
    return sum(phase.steps * (updates_per_step if phase.interacts else 1) for phase in phases)


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
        agent = config.make_agent(OBSERVATION_SHAPE, NUM_ACTIONS)
    return agent.to(ptu.device) if isinstance(agent, torch.nn.Module) else agent


@dataclass(frozen=True)
class RunInfo:
    """Who a run is."""

    stage: str
    """`explore`, `offline` or `finetune`."""
    algorithm: str
    env_id: str
    exp_name: str
    seed: int
    settings: dict[str, Any]
    """The resolved config as plain values, saved with everything the run writes."""

    @property
    def name(self) -> str:
        """Tell this run apart from others of its stage."""
        return f"{self.exp_name}_sd{self.seed}"

    def make_folder(self, data_dir: Path) -> Path:
        """Make the run's folder, which nobody else has, and put the resolved config into it.

        Raises:
            UserError: If that is not possible.
        """
        folder = make_run_folder(data_dir, f"hw5_{self.stage}", self.name)
        RunLogger(folder).write_config(self.settings)
        return folder
