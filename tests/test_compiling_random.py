"""Random programs do the same compiled and uncompiled."""

import numpy as np
import pytest
import torch

from cs285.compiling import target, trace
from cs285.compiling.compiled_update import CompiledUpdate
from cs285.infrastructure.caches import cache_folder

RUNS, BATCH, TRANSITIONS = 2, 5, 30
STATE = [(6, 6), (6, 6), (6, 6), (5, 17), (17, 5), (4,), (4,), (1, 4), (), ()]

# Functions of x (one axis at least), of y whose shape is the end of x's shape, and of an axis of x.
# They keep numbers small.
CALCULATIONS = [
    lambda x, y, axis: x.tanh() - y.sigmoid(),
    lambda x, y, axis: x.relu() * 0.5 + y.neg(),
    lambda x, y, axis: (x.abs() * y.tanh().square()).clamp(max=2),
    lambda x, y, axis: (-x.abs()).exp() - (x.square() + 0.5).log().clamp(-1, 1),
    lambda x, y, axis: (x.square() + 0.5).sqrt() / (y.square() + 1),
    lambda x, y, axis: (x.abs() + 0.5).pow(-1.5),
    lambda x, y, axis: torch.maximum(x, y),
    lambda x, y, axis: (x * x - y).clamp(-3, 3),
    lambda x, y, axis: x.sum(axis) / x.shape[axis],
    lambda x, y, axis: x.mean(axis, keepdim=True) - y.mean(),
    lambda x, y, axis: x.amax(sorted({0, axis}), keepdim=True),
    lambda x, y, axis: x - x.sum(sorted({axis, x.dim() - 1}), keepdim=True) / x.numel(),
    lambda x, y, axis: x.softmax(axis) + x.logsumexp(axis, keepdim=True) / 3,
    lambda x, y, axis: x.log_softmax(axis) / 5 + y.sum() / y.numel(),
    lambda x, y, axis: x.var(axis, correction=0).clamp(max=3),
    lambda x, y, axis: x.transpose(axis, -1),
    lambda x, y, axis: x.transpose(axis, -1).reshape(x.shape),
    lambda x, y, axis: (x + y).transpose(axis, -1).reshape(-1),
    lambda x, y, axis: x.flatten(0, -1),
    lambda x, y, axis: x[..., ::2],
    lambda x, y, axis: x.narrow(axis, x.shape[axis] // 2, 1),
    lambda x, y, axis: x.narrow(axis, 0, -(-x.shape[axis] // 2)) * y.mean(),
    lambda x, y, axis: x.select(axis, x.shape[axis] - 1),
    lambda x, y, axis: (x + y).unsqueeze(axis).squeeze(),
    lambda x, y, axis: x.unsqueeze(axis).expand(*x.shape[:axis], 2, *x.shape[axis:]),
    lambda x, y, axis: x[:1].expand_as(x),
    lambda x, y, axis: (z := x * 0.9) - z[:1].tanh(),
    lambda x, y, axis: x.sigmoid() + x.sigmoid().transpose(axis, -1).reshape(x.shape),
]
PRODUCTS = [
    lambda x, y: x @ y.t() / 9,
    lambda x, y: x.t() @ y / 9,
    lambda x, y: (x + 1) @ (y * 2).t().contiguous() / 30,
    lambda x, y: torch.addmm(x[0, :1], x.t().contiguous(), y).tanh(),
    lambda x, y: torch.addmm(x[0] * 2, x[:, :1], y[:1]).tanh(),
]
# Functions of an input that rounding cannot tip, of positions along an axis, and of any number.
DECISIONS = [
    lambda x, places, axis, z: x.tanh().gather(axis, places),
    lambda x, places, axis, z: torch.where(x > 0.2, z, x),
    lambda x, places, axis, z: x.scatter_add(axis, places, z.expand_as(places)),
    lambda x, places, axis, z: torch.zeros_like(x).scatter(axis, places, 2.0) * z,
    lambda x, places, axis, z: (places + 1) / (places * 2 + 3) - z,
    lambda x, places, axis, z: ((x >= 0).sum(axis) * (x < 1).long().sum(axis)) * 0.02 + z,
    lambda x, places, axis, z: (x * 2).long() * 0.3 + x.bool(),
]


def program(seed, operations=40):
    """Make an update of one run, from state and batch to new state and two metrics."""

    def update(*inputs):
        rng = np.random.default_rng(seed)

        def pick(values):
            return values[rng.integers(len(values))]

        exact = [x for x in inputs if x.dtype == torch.float32 and x.dim() > 0]
        values = [x / 2 if x.dtype != torch.bool else (~x) * 0.5 for x in inputs]
        values += exact
        for _ in range(operations):
            x = pick(values)
            x = x if x.dim() else x.expand(pick([(4,), (6, 6), (5, 17)]))
            y = pick([y for y in values if y.shape == x.shape[x.dim() - y.dim() :]] or [x])
            if rng.random() < 0.25:
                chosen = pick(exact)
                axis = int(rng.integers(chosen.dim()))
                found = pick(DECISIONS)(chosen, chosen.argmax(axis, keepdim=True), axis, x.mean())
            elif x.dim() == y.dim() == 2 and rng.random() < 0.4:
                found = pick(PRODUCTS)(x, y)
            else:
                found = pick(CALCULATIONS)(x, y, int(rng.integers(x.dim())))
            values += [found] if found.numel() <= 2000 and found.dim() <= 3 else []
        late = values[-operations:] + values + list(inputs)
        results = [pick([x for x in late if x.shape == shape]) for shape in STATE]
        return [*results, pick(values).mean(), pick(values).sum() / 100]

    return update


def draw(seed):
    """Draw states of all runs, transitions, and rows of three updates."""
    rng = np.random.default_rng(seed)
    state = [torch.tensor(rng.uniform(-1, 1, (RUNS, *shape))).float() for shape in STATE]
    numbers = torch.tensor(rng.uniform(-1, 1, (TRANSITIONS, 4))).float()
    places = torch.tensor(rng.integers(0, 5, TRANSITIONS))
    transitions = [numbers, places, torch.tensor(rng.random(TRANSITIONS) < 0.5)]
    return state, transitions, rng.integers(0, TRANSITIONS, (3, RUNS, BATCH))


def compare(function, update, seed):
    """Compare each of three updates, then the three at once with the three one by one."""
    state, transitions, rows = draw(seed)
    together = [x.clone() for x in state]
    for own in rows:
        batches = [[x[own[run]] for x in transitions] for run in range(RUNS)]
        results = [function(*(x[run].clone() for x in state), *batches[run]) for run in range(RUNS)]
        expected = [torch.stack(column) for column in zip(*results, strict=True)]
        metrics = update(state, transitions, own[None])
        torch.testing.assert_close([*state, *metrics], expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(update(together, transitions, rows), metrics, atol=0, rtol=0)
    torch.testing.assert_close(together, state, atol=0, rtol=0)


@pytest.mark.parametrize("seed", range(8))
def test_a_random_program_does_the_same_compiled(seed):
    function = program(seed)
    state, transitions, rows = draw(seed)
    examples = [x[0] for x in state] + [x[rows[0, 0]] for x in transitions]
    graph = trace(function, examples, decomposes=True)
    update = CompiledUpdate(
        graph, len(state), range(len(state)), target.find_target(), cache_folder()
    )
    compare(function, update, seed)
