"""d3rlpy's DiscreteCQL and DoubleDQN through its public interface: sample, then `update`.

`fit` does this and more (timers, metrics, progress bar); none of that is counted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import d3rlpy
import numpy as np
import torch

BLOCK = 10


def prepare(settings: dict[str, Any], dataset: str, **_: Any) -> Callable[[], float]:
    """See `worker.py`: a block of updates of one run with the same network and batch size."""
    torch.set_num_threads(1)
    with np.load(dataset) as data:
        buffer = d3rlpy.dataset.MDPDataset(
            observations=data["observations"],
            actions=data["actions"],
            rewards=data["rewards"],
            terminals=data["terminated"].astype(np.float32),
            timeouts=_with_end(data["truncated"], data["terminated"]),
            action_space=d3rlpy.ActionSpace.DISCRETE,
            action_size=5,
        )
    arguments: dict[str, Any] = {
        "learning_rate": settings["learning_rate"],
        "batch_size": settings["batch_size"],
        "gamma": settings["discount"],
        "target_update_interval": settings["target_update_period"],
        "encoder_factory": d3rlpy.models.VectorEncoderFactory(
            hidden_units=[settings["hidden_size"]] * settings["num_layers"], activation="tanh"
        ),
    }
    if settings["base_config"] == "cql":
        config = d3rlpy.algos.DiscreteCQLConfig(alpha=settings["cql_alpha"], **arguments)
    else:
        config = d3rlpy.algos.DoubleDQNConfig(**arguments)
    algorithm = config.create(device=False)
    algorithm.build_with_dataset(buffer)

    def advance() -> float:
        for _ in range(BLOCK):
            algorithm.update(buffer.sample_transition_batch(settings["batch_size"]))
        return BLOCK

    return advance


def _with_end(truncated: np.ndarray, terminated: np.ndarray) -> np.ndarray:
    """Mark where episodes end without a terminal, including the end of the data."""
    timeouts: np.ndarray = truncated & ~terminated
    timeouts[-1] = not terminated[-1]
    return np.asarray(timeouts, np.float32)
