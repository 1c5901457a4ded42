"""The same updates as one `jax.lax.scan`: losses, Adam, target copies and the look-up of batches.

Runs are mapped by `vmap`. Unlike ours it computes no metrics and never stops for anything, so it
shows what compiled code can achieve. As a script it compares its weights after 50 updates with
ours, starting from the same weights on the same batches:

    python benchmarks/contenders/jax_scan.py --check
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Params = dict[str, Any]
Batch = dict[str, Any]
Loss = Callable[[Params, Batch, Params], Any]

OBSERVATIONS, ACTIONS = 2, 5
MAX_WEIGHT = 100.0
FIELDS = ("observations", "actions", "rewards", "next_observations", "terminated")
HYPERPARAMETERS = (
    "discount",
    "cql_alpha",
    "cql_temperature",
    "temperature",
    "expectile",
    "rnd_weight",
    "rnd_input_scale",
)
"""Numbers in the config that the losses read; they may differ between runs."""
TARGETS = {"target_critic": "critic", "target_value_critic": "value_critic"}


def mlp(params: Params, name: str, x: Any) -> Any:
    """Apply the network whose layers are `{name}.0`, `{name}.2`, ..."""
    layers = sum(key.startswith(f"{name}.") for key in params) // 2
    for layer in range(0, 2 * layers, 2):
        x = x @ params[f"{name}.{layer}.weight"] + params[f"{name}.{layer}.bias"]
        x = jnp.tanh(x) if layer < 2 * layers - 2 else x
    return x


def pick(values: Any, actions: Any) -> Any:
    """Look up one value per row; a product with a one-hot is faster than a gather here."""
    return (values * jax.nn.one_hot(actions, ACTIONS)).sum(-1)


def mean_error(p: Params, b: Batch, next_values: Any, h: Params) -> Any:
    """Return the mean squared error of Q(s, a), and the values of all actions."""
    target = jax.lax.stop_gradient(b["rewards"] + h["discount"] * b["continues"] * next_values)
    values = mlp(p, "critic", b["observations"])
    return jnp.square(pick(values, b["actions"]) - target).mean(), values


def dqn_loss(p: Params, b: Batch, h: Params) -> Any:
    """Double Q-learning."""
    chosen = mlp(p, "critic", b["next_observations"]).argmax(-1)
    return mean_error(p, b, pick(mlp(p, "target_critic", b["next_observations"]), chosen), h)


def cql_loss(p: Params, b: Batch, h: Params) -> Any:
    """Double Q-learning and the conservative term."""
    loss, values = dqn_loss(p, b, h)
    soft = h["cql_temperature"] * jax.nn.logsumexp(values / h["cql_temperature"], axis=-1)
    return loss + h["cql_alpha"] * (soft - pick(values, b["actions"])).mean()


def iql_q_loss(p: Params, b: Batch, h: Params) -> Any:
    """Regression on the target value."""
    return mean_error(p, b, mlp(p, "target_value_critic", b["next_observations"])[:, 0], h)[0]


def advantage(p: Params, b: Batch) -> Any:
    """Return Q(s, a) - V(s), without a gradient in Q."""
    q_values = jax.lax.stop_gradient(pick(mlp(p, "critic", b["observations"]), b["actions"]))
    return q_values - mlp(p, "value_critic", b["observations"])[:, 0]


def iql_v_loss(p: Params, b: Batch, h: Params) -> Any:
    """Expectile regression."""
    errors = advantage(p, b)
    weights = jnp.where(errors < 0, 1 - h["expectile"], h["expectile"])
    return (weights * jnp.square(errors)).mean()


def iql_actor_loss(p: Params, b: Batch, h: Params) -> Any:
    """Weighted cloning."""
    weights = jnp.exp(jax.lax.stop_gradient(advantage(p, b)) / h["temperature"])
    log_probabilities = jax.nn.log_softmax(mlp(p, "actor", b["observations"]))
    return -(pick(log_probabilities, b["actions"]) * jnp.minimum(weights, MAX_WEIGHT)).mean()


def rnd_errors(p: Params, b: Batch, h: Params) -> Any:
    """Return the predictor's squared error per transition."""
    observations = (2.0 * b["next_observations"] - 1.0) * h["rnd_input_scale"]
    differences = mlp(p, "rnd_net", observations) - mlp(p, "rnd_target_net", observations)
    return jnp.square(differences).sum(-1)


def rnd_critic_loss(p: Params, b: Batch, h: Params) -> Any:
    """Double Q-learning on the bonus."""
    errors = rnd_errors(p, b, h)
    bonus = (errors - errors.mean()) / (errors.std() + 1e-8)
    return dqn_loss(p, {**b, "rewards": b["rewards"] + h["rnd_weight"] * bonus}, h)[0]


OBJECTIVES: dict[str, list[tuple[str, str, Loss]]] = {
    "cql": [("critic", "learning_rate", cql_loss)],
    "iql": [
        ("critic", "learning_rate", iql_q_loss),
        ("value_critic", "learning_rate", iql_v_loss),
        ("actor", "actor_learning_rate", iql_actor_loss),
    ],
    "rnd": [
        ("critic", "learning_rate", rnd_critic_loss),
        ("rnd_net", "rnd_learning_rate", lambda p, b, h: rnd_errors(p, b, h).mean()),
    ],
}


def adam(leaf: Any, gradient: Any, memory: Any, count: Any, rate: float) -> tuple[Any, Any]:
    """Move one tensor."""
    first = 0.9 * memory[0] + 0.1 * gradient
    second = 0.999 * memory[1] + 0.001 * jnp.square(gradient)
    scaled = first / (1 - 0.9**count) / (jnp.sqrt(second / (1 - 0.999**count)) + 1e-8)
    return leaf - rate * scaled, (first, second)


def make_update(settings: dict[str, Any]) -> Callable[..., Any]:
    """Return the update of one run: (state, data, batch rows, hyperparameters) to a new state."""

    def update(state: Any, count: Any, data: Batch, rows: Any, h: Params) -> Any:
        params, memory = dict(state[0]), dict(state[1])
        batch = {name: values[rows] for name, values in data.items()}
        for network, rate, loss in OBJECTIVES[settings["base_config"]]:
            trained = {key: params[key] for key in params if key.startswith(f"{network}.")}
            gradients = jax.grad(lambda t, loss=loss: loss(params | t, batch, h))(trained)
            for key, gradient in gradients.items():
                params[key], memory[key] = adam(
                    params[key], gradient, memory[key], count, settings[rate]
                )
        copies = count % settings["target_update_period"] == 0
        for key, value in params.items():
            network, _, layer = key.partition(".")
            if network in TARGETS:
                source = params[f"{TARGETS[network]}.{layer}"]
                params[key] = jnp.where(copies, source, value)
        return params, memory

    return update


def make_scan(settings: dict[str, Any]) -> Callable[..., Any]:
    """Compile many updates of many runs: `rows` is `(steps, runs, batch)`."""
    update = jax.vmap(make_update(settings), in_axes=(0, None, 0, 0, 0))

    def scan(state: Any, count: Any, data: Batch, rows: Any, h: Params) -> Any:
        def body(carry: Any, rows: Any) -> tuple[Any, None]:
            state, count = carry
            return (update(state, count + 1, data, rows, h), count + 1), None

        return jax.lax.scan(body, (state, count), rows)[0]

    compiled: Callable[..., Any] = jax.jit(scan, donate_argnums=0)
    return compiled


def begin(params: Params, settings: dict[str, Any]) -> tuple[Params, Params]:
    """Return the parameters, and Adam's initial moments for those that are trained."""
    params = {key: jnp.asarray(value) for key, value in params.items()}
    trained = {network for network, *_ in OBJECTIVES[settings["base_config"]]}
    return params, {
        key: (jnp.zeros_like(leaf), jnp.zeros_like(leaf))
        for key, leaf in params.items()
        if key.partition(".")[0] in trained
    }


def on_device(data: dict[str, np.ndarray]) -> Batch:
    """Put transitions `(runs, N, ...)` on the device."""
    batch = {name: jnp.asarray(data[name]) for name in FIELDS}
    batch["continues"] = 1.0 - batch.pop("terminated").astype(jnp.float32)
    return batch


def random_params(settings: dict[str, Any], runs: int) -> Params:
    """Draw weights as PyTorch does."""
    critic = (settings["hidden_size"], settings["num_layers"])
    shapes = {"critic": (*critic, ACTIONS)}
    if settings["base_config"] == "iql":
        shapes["value_critic"] = (*critic, 1)
        shapes["actor"] = (settings["actor_hidden_size"], settings["actor_num_layers"], ACTIONS)
    if settings["base_config"] == "rnd":
        rnd = (settings["rnd_hidden_size"], settings["rnd_num_layers"], settings["rnd_dim"])
        shapes |= {"rnd_net": rnd, "rnd_target_net": rnd}
    shapes |= {copy: shapes[source] for copy, source in TARGETS.items() if source in shapes}
    rng = np.random.default_rng(0)
    params = {}
    for network, (width, layers, outputs) in shapes.items():
        sizes = [OBSERVATIONS, *[width] * layers, outputs]
        for layer, (i, o) in enumerate(itertools.pairwise(sizes)):
            for name, shape in (("weight", (i, o)), ("bias", (o,))):
                drawn = rng.uniform(-1, 1, (runs, *shape)) / math.sqrt(i)
                params[f"{network}.{2 * layer}.{name}"] = drawn.astype(np.float32)
    return params


def prepare(settings: dict[str, Any], dataset: str, runs: int = 1, **_: Any) -> Callable[[], float]:
    """See `worker.py`: one scan over updates of all runs."""
    with np.load(dataset) as file:
        data = on_device({name: np.stack([file[name]] * runs) for name in FIELDS})
    size = data["rewards"].shape[1]
    scan = make_scan(settings)
    state, count = begin(random_params(settings, runs), settings), jnp.zeros((), jnp.int32)
    h = {name: jnp.full(runs, settings[name]) for name in HYPERPARAMETERS if name in settings}
    rng = np.random.default_rng(0)
    steps = max(5, 300 // runs)

    def advance() -> float:
        nonlocal state, count
        rows = rng.integers(0, size, (steps, runs, settings["batch_size"]), dtype=np.int32)
        state, count = jax.block_until_ready(scan(state, count, data, rows, h))
        return steps * runs

    return advance


# Comparison with ours

VARIED = {
    "cql": {"cql_alpha": [0.1, 1.0, 5.0], "discount": [0.9, 0.95, 0.99]},
    "iql": {"temperature": [0.1, 1.0, 10.0], "expectile": [0.5, 0.7, 0.9]},
    "rnd": {"rnd_weight": [0.5, 1.0, 2.0], "discount": [0.9, 0.95, 0.99]},
}
"""Hyperparameters of three runs that are compared."""


def difference(algorithm: str, updates: int = 50) -> float:
    """Train three runs here and with ours, and return the largest difference of any weight."""
    import torch
    from ours import config_of, train_reference

    from cs285.learning.objective import Batch as Transitions

    varied = VARIED[algorithm]
    configs = [
        config_of(
            base_config=algorithm,
            seed=run,
            target_update_period=20,  # several copies within few updates
            **{name: values[run] for name, values in varied.items()},
        )
        for run in range(3)
    ]
    rng = np.random.default_rng(0)
    shape = (3, 1_000)
    data: dict[str, np.ndarray] = {
        "observations": rng.random((*shape, 2), np.float32),
        "actions": rng.integers(0, ACTIONS, shape),
        "rewards": -rng.random(shape, np.float32),
        "next_observations": rng.random((*shape, 2), np.float32),
        "terminated": rng.random(shape) < 0.1,
    }
    rows = rng.integers(0, shape[1], (updates, 3, configs[0].batch_size))
    transitions = Transitions(*(torch.from_numpy(array) for array in data.values()))
    before, after = (named(w) for w in train_reference(configs, transitions, rows))

    settings = configs[0].model_dump()
    h = {
        name: jnp.array([getattr(config, name) for config in configs])
        for name in HYPERPARAMETERS
        if name in settings
    }
    state, _ = make_scan(settings)(begin(before, settings), 0, on_device(data), rows, h)
    return max(float(np.abs(state[0][key] - value).max()) for key, value in after.items())


def named(weights: dict[str, np.ndarray]) -> Params:
    """Convert our weights to this file's names and layout."""
    found = {}
    for key, value in weights.items():
        network, *_, layer, kind = key.split(".")
        found[f"{network}.{layer}.{kind}"] = value.swapaxes(1, 2) if kind == "weight" else value
    return found


if __name__ == "__main__":
    sys.path[:0] = map(str, Path(__file__).parents[1:3])
    for name in OBJECTIVES:
        print(f"{name}: weights differ by at most {difference(name):.1e}")
