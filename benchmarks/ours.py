"""This package as a contender, through its public functions."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cs285.env_configs import BaseConfig
from cs285.env_configs.loading import make_config
from cs285.homework import STAGES, Stage
from cs285.learning.backends import TorchCompiled
from cs285.learning.learner import make_learner
from cs285.learning.objective import Batch
from cs285.training import door
from cs285.training.options import Options
from cs285.training.preparation import read_configs
from cs285.training.rollouts import evaluate
from cs285.training.runs import make_agent

Weights = dict[str, np.ndarray]

STEPS = 1_000_000
"""Longer than any measurement."""
EXPLORED_STEPS = 100_000
"""The same for exploration, whose buffers must have room for the steps."""
EVAL_EPISODES = 20
LOG_INTERVAL = 1_000
DATASET = "pointmass_medium_rnd"


def config_of(**values: Any) -> BaseConfig:
    """Return the config of one run on Medium."""
    given = {"env_name": "PointmassMedium-v0", "dataset_name": DATASET, **values}
    numbers_of_steps = frozenset().union(*(stage.own_keys for stage in STAGES.values()))
    kept = {key: value for key, value in given.items() if key not in numbers_of_steps}
    return make_config(kept, Path("benchmark.yaml"), "offline")


def settings_of(algorithm: str, **values: Any) -> dict[str, Any]:
    """Return the resolved config of one run on Medium as plain values."""
    settings: dict[str, Any] = config_of(base_config=algorithm, **values).model_dump()
    return settings


def prepare(
    settings: dict[str, Any],
    dataset: str,
    kind: str,
    runs: int = 1,
    *,
    compiles: bool = True,
    by_torch: bool = False,
) -> Callable[[], float]:
    """See `worker.py`: blocks of updates or of exploration steps, or an evaluation, of all runs.

    The runs differ in their seeds. Here RND also learns offline, which the scripts do not offer:
    this measures its update alone. With `by_torch`, updates are compiled with `torch.compile`.
    """
    torch.set_num_threads(1)
    explores = kind == "exploration"
    stage = Stage.EXPLORE if explores else Stage.OFFLINE
    steps = {"total_steps": EXPLORED_STEPS} if explores else {"training_steps": STEPS}
    folder = Path(dataset).parent
    seeds = range(1, runs + 1)
    configs = [
        config_of(**{**settings, "seed": seed, "dataset_seed": 1}).model_copy(update=steps)
        for seed in seeds
    ]
    trainer = door.prepare(stage, configs, options(folder, "on" if compiles else "off"))
    if by_torch:
        trainer.learner = make_learner(trainer.learner.agents, TorchCompiled())
    if kind == "evaluation":
        return lambda: sum(
            len(one.returns)
            for one in evaluate(
                trainer.learner, trainer.program.env_ids, seeds, EVAL_EPISODES, step=1
            )
        )
    (phase,) = trainer.program.phases
    # One call of `advance`: many updates, or one environment step with its updates.
    stretches = 10 if explores else 1
    return lambda: runs * sum(trainer.advance(phase, STEPS) for _ in range(stretches))


def options(folder: Path, choice: str) -> Options:
    """Return options with which nothing is evaluated or drawn."""
    return door.make_options(
        data_dir=folder / "benchmark_runs",
        dataset_dir=folder,
        picture_dir=folder,
        eval_interval=STEPS,
        visualize_interval=STEPS,
        log_interval=LOG_INTERVAL,
        num_eval_trajectories=EVAL_EPISODES,
        compile=choice,
    )


def train_reference(
    configs: Sequence[BaseConfig], transitions: Batch, rows: np.ndarray
) -> tuple[Weights, Weights]:
    """Train runs on given batches and return their weights before and after `(runs, ...)`.

    Args:
        configs: One per run.
        transitions: Fields `(runs, N, ...)`.
        rows: Indices of the transitions in every batch `(updates, runs, batch)`.
    """
    agents = [make_agent(config) for config in configs]
    learner = make_learner(agents)
    before = weights(agents)
    one_after_the_other = Batch(*(field.flatten(0, 1) for field in transitions))
    runs, size = transitions.rewards.shape
    learner.learn(one_after_the_other._asdict(), rows + size * np.arange(runs)[:, None], step=1)
    learner.sync_agents()
    return before, weights(agents)


def weights(agents: Sequence[Any]) -> Weights:
    """Return the parameters of agents, stacked."""
    names = [name for name, _ in agents[0].named_parameters()]
    states = [agent.state_dict() for agent in agents]
    return {name: torch.stack([state[name] for state in states]).numpy() for name in names}


def start(config: Path, dataset_dir: Path, choice: str) -> None:
    """Train offline until the first update, and print the time when it was complete."""
    configs = read_configs(Stage.OFFLINE, [config])
    trainer = door.prepare(Stage.OFFLINE, configs, options(dataset_dir, choice))
    trainer.advance(trainer.program.phases[0], 1)
    print(time.time(), flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    start(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
