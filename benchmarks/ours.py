"""This package as a contender: the one place that knows its inner step."""

from __future__ import annotations

import os
import runpy
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
from cs285.learning.learner import make_learner
from cs285.learning.objective import Batch
from cs285.training.commands import make_run
from cs285.training.rollouts import evaluate
from cs285.training.runs import Options, Phase, Program, make_agent
from cs285.training.trainer import Trainer

Weights = dict[str, np.ndarray]

STEPS = 1_000_000
"""Longer than any measurement."""
EXPLORED_STEPS = 100_000
"""The same where buffers must have room for them."""
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
    settings: dict[str, Any], dataset: str, kind: str, runs: int = 1, *, compiles: bool = True
) -> Callable[[], float]:
    """See `worker.py`: blocks of updates or of exploration steps, or an evaluation, of all runs.

    The runs differ in their seeds. RND learns offline here, too, which the scripts don't offer:
    that is its update alone.
    """
    torch.set_num_threads(1)
    explores = kind == "exploration"
    phase = Phase(kind, EXPLORED_STEPS if explores else STEPS, interacts=explores)
    folder = Path(dataset).parent
    options = Options(
        data_dir=folder / "benchmark_runs",
        dataset_dir=folder,
        picture_dir=folder,
        eval_interval=STEPS,
        visualize_interval=STEPS,
        log_interval=LOG_INTERVAL,
        num_eval_trajectories=EVAL_EPISODES,
        compile="on" if compiles else "off",
    )
    seeds = range(1, runs + 1)
    configs = [config_of(**{**settings, "seed": seed, "dataset_seed": 1}) for seed in seeds]
    stage = Stage.EXPLORE if explores else Stage.OFFLINE
    program = Program([make_run(stage, config, folder) for config in configs], [phase])
    trainer = Trainer(program, options)
    if kind == "evaluation":
        return lambda: sum(
            len(one.returns)
            for one in evaluate(
                trainer.learner, trainer.program.env_ids, seeds, EVAL_EPISODES, step=1
            )
        )
    # The loop's own stretch: many updates, or one environment step and what it is followed by.
    stretches = 10 if explores else 1
    return lambda: (
        runs
        * sum(
            trainer._advance(phase, STEPS)  # noqa: SLF001 - the public method evaluates and logs, too
            for _ in range(stretches)
        )
    )


def train_reference(
    configs: Sequence[BaseConfig], transitions: Batch, rows: np.ndarray
) -> tuple[Weights, Weights]:
    """Train runs on given batches and return their weights before and after `(runs, ...)`.

    Args:
        configs: One per run.
        transitions: Fields `(runs, N, ...)`.
        rows: Transitions of every batch `(updates, runs, batch)`.
    """
    agents = [make_agent(config) for config in configs]
    learner = make_learner(agents)
    before = weights(agents)
    one_after_the_other = Batch(*(field.flatten(0, 1) for field in transitions))
    runs, size = transitions.rewards.shape
    learner.learn(one_after_the_other, rows + size * np.arange(runs)[:, None], step=1)
    learner.sync_agents()
    return before, weights(agents)


def weights(agents: Sequence[Any]) -> Weights:
    """Return the parameters of agents, stacked."""
    names = [name for name, _ in agents[0].named_parameters()]
    states = [agent.state_dict() for agent in agents]
    return {name: torch.stack([state[name] for state in states]).numpy() for name in names}


def exit_after_first_update(script: Path, arguments: list[str]) -> None:
    """Run one of the scripts until its first update and print when that was done."""
    advance = Trainer._advance  # noqa: SLF001 - as in `prepare`

    def advance_and_exit(self: Trainer, phase: Phase, most: int) -> int:
        advance(self, phase, min(most, 1))
        print(f"\n{time.time()}", flush=True)  # below the progress bar
        os._exit(0)

    Trainer._advance = advance_and_exit  # noqa: SLF001 - as in `prepare`
    sys.argv = [str(script), *arguments]
    runpy.run_path(str(script), run_name="__main__")


if __name__ == "__main__":
    exit_after_first_update(Path(sys.argv[1]), sys.argv[2:])
