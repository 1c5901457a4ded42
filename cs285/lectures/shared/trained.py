"""Agents for lectures: trained as one program, in memory, and evaluated exactly.

    for found in learned(settings, datasets, moments=[5_000, 20_000]):
        rows.append(Row(found.config.seed, found.step, found.exact.overestimation))

Whoever evaluates each agent before asking for the next one holds one evaluation at a time.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from cs285.analysis.exact import Data, ExactEvaluation, evaluate
from cs285.datasets.dataset_files import DATASET_FIELDS, Dataset, make_manifest
from cs285.env_configs import BaseConfig
from cs285.envs.mazes import positions_of
from cs285.envs.planner import plan
from cs285.envs.tasks import get_task
from cs285.homework import Stage
from cs285.infrastructure import pytorch_util as ptu
from cs285.learning.random_streams import (
    derive_seed,
    get_global_generators,
    set_global_generators,
)
from cs285.training.options import Options
from cs285.training.policies import Policy
from cs285.training.preparation import make_run, read_configs
from cs285.training.runs import Program, make_agent
from cs285.training.stages import phases_of
from cs285.training.trainer import Trainer

Settings = Mapping[str, Any]
"""One run, as in a YAML file: `base_config`, `env_name` and what differs from the defaults."""

Chances = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]
"""Probabilities of the actions `(n, A)` at observations `(n, *observation_shape)`."""

T = TypeVar("T")

NEVER = 10**9
"""An interval, in steps, that is longer than any run."""
EPISODES = 250
"""Largest number of simulated episodes where no grid is fine enough for an exact return."""


@dataclass(frozen=True, eq=False)
class Trained:
    """One agent at one moment of its training.

    Attributes:
        index: Position of its settings among those that were given.
        config: Its settings.
        stage: Whether it explored or learned offline.
        step: Steps so far: of the environment if it explored, else updates.
        policy: Its policy, and its estimates of Q.
        dataset: What it has learned from, or has collected so far.
    """

    index: int
    config: BaseConfig
    stage: Stage
    step: int
    policy: Policy
    dataset: Dataset

    @cached_property
    def exact(self) -> ExactEvaluation:
        """Its exact evaluation; explorers' values are not those of the task, so they have none."""
        explores = self.stage == Stage.EXPLORE
        return evaluate(
            self.policy.task.models(),
            self.policy,
            discount=None if explores else getattr(self.config, "discount", None),
            values=self.policy.action_values if not explores and self.policy.has_values else None,
            data=Data(self.dataset.observations, self.dataset.actions),
            rng=np.random.default_rng(derive_seed(self.config.seed, "exact", self.step)),
            episodes=EPISODES,
        )


def known(value: T | None) -> T:
    """Return a part of an exact evaluation that all learners have, unlike explorers.

    Raises:
        ValueError: If it is None.
    """
    if value is None:
        raise ValueError("this agent learns no values of the task, or has no data")
    return value


def learned(
    settings: Sequence[Settings], datasets: Sequence[Dataset], moments: Sequence[int]
) -> Iterator[Trained]:
    """Train offline, and yield every agent at every moment.

    Runs that can train as one program do; see `program_key`. Nothing is left on the disk.

    Args:
        settings: The runs.
        datasets: What each run learns from.
        moments: Numbers of updates after which the agents are yielded, increasing.

    Yields:
        The agents of each program in the order of the runs, moment after moment.

    Raises:
        UserError: If settings are not usable.
    """
    steps = {"training_steps": moments[-1]}
    configs = _configs(Stage.OFFLINE, [{**one, **steps} for one in settings])
    yield from _trained(Stage.OFFLINE, configs, datasets, moments)


def explored(settings: Sequence[Settings], moments: Sequence[int]) -> Iterator[Trained]:
    """Explore, and yield every agent at every moment with the data that it has collected so far.

    Args:
        settings: The runs.
        moments: Numbers of environment steps, increasing.

    Yields:
        The agents of each program in the order of the runs, moment after moment.

    Raises:
        UserError: If settings are not usable.
    """
    steps = {"total_steps": moments[-1]}
    configs = _configs(Stage.EXPLORE, [{**one, **steps} for one in settings])
    yield from _trained(Stage.EXPLORE, configs, None, moments)


def _configs(stage: Stage, settings: Sequence[Settings]) -> list[BaseConfig]:
    """Validate settings; what distinguishes runs on the disk may be equal here."""
    return [config for one in settings for config in read_configs(stage, [one])]


def _trained(
    stage: Stage,
    configs: Sequence[BaseConfig],
    datasets: Sequence[Dataset] | None,
    moments: Sequence[int],
) -> Iterator[Trained]:
    programs: dict[Any, list[int]] = {}
    for index, config in enumerate(configs):
        programs.setdefault(config.program_key, []).append(index)
    for indices in programs.values():
        runs = [make_run(stage, configs[index], None) for index in indices]
        if datasets is not None:
            runs = [
                replace(run, dataset=datasets[index])
                for run, index in zip(runs, indices, strict=True)
            ]
        program = Program(runs, phases_of(stage, configs[indices[0]]))
        with _one_thread_on_the_cpu(), tempfile.TemporaryDirectory() as folder:
            options = Options(
                data_dir=Path(folder),
                eval_interval=NEVER,
                visualize_interval=NEVER,
                log_interval=NEVER,
                checkpoint_interval=0,
            )
            trainer = Trainer(program, options)
            with closing(trainer.recorder), closing(trainer.envs):
                for moment in moments:
                    _advance(trainer, moment)
                    yield from _agents(trainer, stage, indices)


def _advance(trainer: Trainer, moment: int) -> None:
    """Train until a step."""
    end = 0
    for phase in trainer.program.phases:
        start, end = end, end + phase.steps
        if trainer.step == start < moment:
            trainer.learner.begin_phase(phase.name)
        while trainer.step < min(end, moment):
            trainer.advance(phase, min(end, moment) - trainer.step)


def _agents(trainer: Trainer, stage: Stage, indices: Sequence[int]) -> Iterator[Trained]:
    """Yield copies of the agents, which training does not change."""
    trainer.learner.sync_agents()
    copies = []
    for run, agent in zip(trainer.program.runs, trainer.learner.agents, strict=True):
        copy = make_agent(run.config)
        if isinstance(copy, torch.nn.Module):
            copy.load_state_dict(agent.state_dict())
        copies.append(copy)
    for k, (index, copy) in enumerate(zip(indices, copies, strict=True)):
        run = trainer.program.runs[k]
        data = _collected_so_far(trainer, k) if run.dataset is None else run.dataset
        config: Any = run.config
        yield Trained(
            index, config, stage, trainer.step, Policy(copy, get_task(run.info.env_id)), data
        )


def _collected_so_far(trainer: Trainer, index: int) -> Dataset:
    run = trainer.program.runs[index]
    arrays = {
        name: ptu.to_numpy(values).copy()
        for name, values in zip(DATASET_FIELDS, trainer.buffer.contents(index), strict=True)
    }
    arrays["truncated"] = trainer.buffer.truncated[index, : len(arrays["actions"])].copy()
    return _dataset(run.info.env_id, run.info.seed, arrays, run.info.settings)


@contextmanager
def _one_thread_on_the_cpu() -> Iterator[None]:
    """Make results independent of the machine; restore the state of the process afterwards."""
    device, threads, generators = ptu.device, torch.get_num_threads(), get_global_generators()
    try:
        ptu.init_gpu(use_gpu=False)
        torch.set_num_threads(1)
        yield
    finally:
        ptu.device = device
        torch.set_num_threads(threads)
        set_global_generators(generators)


# Data


def best_policy(env_id: str, epsilon: float = 0.0) -> Chances:
    """Return the best policy of a maze at the first step of an episode, with random actions.

    Args:
        env_id: The maze.
        epsilon: Probability of a random action.
    """
    best = plan(env_id)

    def policy(observations: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        num_actions = get_task(env_id).num_actions
        chosen = np.eye(num_actions)[best.actions(positions_of(best.maze, observations), 0)]
        return ((1 - epsilon) * chosen + epsilon / num_actions).astype(np.float32)

    return policy


def first(dataset: Dataset, transitions: int) -> Dataset:
    """Return the first transitions of a dataset, such as those of a shorter exploration."""
    arrays = {name: values[:transitions] for name, values in dataset.arrays().items()}
    return Dataset(**arrays, manifest=dataset.manifest)


def collected(env_id: str, policy: Chances, transitions: int, seed: int) -> Dataset:
    """Return data that a policy collects in an environment, episode after episode."""
    env = get_task(env_id).make_env()
    rng = np.random.default_rng(derive_seed(seed, "exploration"))
    lists: dict[str, list[Any]] = {name: [] for name in (*DATASET_FIELDS, "truncated")}
    observation, _ = env.reset(seed=seed)
    for _ in range(transitions):
        chances = policy(observation[None])[0].astype(np.float64)
        action = int(rng.choice(len(chances), p=chances / chances.sum()))
        following, reward, terminated, truncated, _ = env.step(action)
        values = (observation, action, reward, following, terminated, truncated)
        for name, value in zip(lists, values, strict=True):
            lists[name].append(value)
        observation = env.reset()[0] if terminated or truncated else following
    env.close()
    return _dataset(env_id, seed, {name: np.array(values) for name, values in lists.items()})


def _dataset(
    env_id: str, seed: int, arrays: Mapping[str, npt.NDArray[Any]], config: Settings | None = None
) -> Dataset:
    own = {**arrays, "rewards": arrays["rewards"].astype(np.float32)}
    return Dataset(**own, manifest=make_manifest(env_id, config or {}, seed, own))
