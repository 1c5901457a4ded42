"""Shared by the whole suite: a separate cache folder, one thread, small agents and batches."""

import os
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch

from cs285.env_configs.loading import make_config
from cs285.homework import Stage, algorithms
from cs285.learning import backends
from cs285.learning.objective import Batch
from cs285.training import runs

if "PYTEST_XDIST_WORKER" not in os.environ:
    # Workers inherit the variable, so all of them share one cache, which is deleted at the end.
    _cache = tempfile.TemporaryDirectory(prefix="cs285-tests-")
    os.environ["XDG_CACHE_HOME"] = _cache.name

torch.set_num_threads(1)  # xdist already gives every core a process

SMALL_NETWORKS = {
    "dqn": {"hidden_size": 8, "input_scale": None},
    "cql": {"hidden_size": 8, "input_scale": None},
    "awac": {"hidden_size": 8, "input_scale": None, "actor_hidden_size": 8},
    "iql": {"hidden_size": 8, "input_scale": None, "actor_hidden_size": 8},
    "rnd": {"hidden_size": 8, "input_scale": None, "rnd_hidden_size": 8},
    "random": {},
    "bc": {"input_scale": None, "actor_hidden_size": 8},
    "filtered_bc": {"input_scale": None, "actor_hidden_size": 8},
    "awr": {"input_scale": None, "actor_hidden_size": 8, "value_hidden_size": 8},
    "sarsa": {"hidden_size": 8, "input_scale": None, "actor_hidden_size": 8},
    "bcq": {"hidden_size": 8, "input_scale": None, "actor_hidden_size": 8},
    "rcsl": {"input_scale": None, "actor_hidden_size": 8},
    "brac": {"hidden_size": 8, "input_scale": None, "actor_hidden_size": 8},
}


@pytest.fixture(scope="module")
def untraced():
    """Lets runs call an agent's functions as they are: tracing takes most of a short run.

    What is compiled is traced all the same.
    """
    trace = backends.trace

    def call(function, inputs, *, decomposes=False):
        return trace(function, inputs, decomposes=True) if decomposes else function

    with mock.patch.object(backends, "trace", call):
        yield


@pytest.fixture
def make_agent():
    """Builds an agent from its config: `make_agent("cql", cql_alpha=1.0)`."""

    def make(algorithm, **values):
        values = {
            "base_config": algorithm,
            "env_name": "PointmassEasy-v0",
            **SMALL_NETWORKS[algorithm],
            **values,
        }
        stages = algorithms()[algorithm].stages
        stage = Stage.OFFLINE if Stage.OFFLINE in stages else Stage.EXPLORE
        return runs.make_agent(make_config(values, Path("test.yaml"), stage))

    return make


@pytest.fixture
def make_batch():
    """Draws a batch with fields `(*shape, ...)`: `make_batch(7)`, `make_batch(3, 16, seed=1)`."""

    def make(*shape, seed=0):
        rng = np.random.default_rng(seed)
        return Batch(
            observations=torch.tensor(rng.random((*shape, 2)), dtype=torch.float32),
            actions=torch.tensor(rng.integers(0, 5, shape)),
            rewards=torch.tensor(-rng.random(shape), dtype=torch.float32),
            next_observations=torch.tensor(rng.random((*shape, 2)), dtype=torch.float32),
            dones=torch.tensor(rng.random(shape) < 0.3),
        )

    return make
