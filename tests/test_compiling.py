"""A compiled update does the same as the operations it was traced from."""

import ctypes
import os
import shutil

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from cs285.compiling import building, compile_update, target, trace
from cs285.compiling.compiled_update import CompiledUpdate
from cs285.compiling.errors import UnsupportedOperationError
from cs285.compiling.lowering import tile_width
from cs285.infrastructure.caches import cache_folder
from cs285.learning import backends
from cs285.learning.backends import CompiledToCpp, Traced
from cs285.learning.ensemble import Ensemble
from cs285.learning.objective import Batch

BOUNDS = {"dqn": None, "cql": 0.05, "awac": None, "iql": 0.05, "rnd": None}
"""To which norm the gradients of each algorithm are clipped; always, so that tests share what they
compile."""
ALGORITHMS = list(BOUNDS)


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """One cache for this file, empty at first."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CS285_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


def evaluate(function, *inputs):
    """Runs `function` compiled and uncompiled, for two runs with different numbers."""
    shapes = [result.shape for result in function(*inputs)]

    def one_run(*tensors):
        return [result.float() for result in function(*tensors[: len(inputs)])]

    slots = [torch.zeros(shape) for shape in shapes]
    graph = trace(one_run, [*inputs, *slots], decomposes=True)
    changed = range(len(inputs), len(inputs) + len(slots))
    update = CompiledUpdate(
        graph, len(inputs) + len(slots), changed, target.find_target(), cache_folder()
    )
    runs = [torch.stack([x, x.flip(0)]) for x in inputs]
    found = [torch.zeros(2, *shape) for shape in shapes]
    update([*runs, *found], [], np.zeros((1, 2, 0), np.int64))
    expected = [
        torch.stack([function(*(x[r] for x in runs))[k] for r in range(2)])
        for k in range(len(shapes))
    ]
    return found, [value.float() for value in expected]


def assert_compiles_rightly(function, *inputs, tolerance=1e-6):
    found, expected = evaluate(function, *inputs)
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)


def numbers(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


# Learners


@pytest.mark.parametrize(("algorithm", "bound"), BOUNDS.items())
def test_a_compiled_update_learns_what_the_traced_one_learns(
    make_agent, make_batch, algorithm, bound
):
    traced, compiled = (
        Ensemble(
            [make_agent(algorithm, seed=seed, clip_grad_norm=bound) for seed in (1, 2)],
            backend,
        )
        for backend in (Traced(), CompiledToCpp())
    )
    initial = {name: value.clone() for name, value in compiled.state.items()}
    for step in range(1, 11):
        batch = make_batch(2, 17, seed=step)
        expected, found = traced.update(batch, step), compiled.update(batch, step)
        assert found.keys() == expected.keys()
        for tag, value in expected.items():
            torch.testing.assert_close(found[tag], value, atol=1e-4, rtol=1e-4)
    assert list(compiled.backend.updates.values()) != [None]
    for name, value in traced.state.items():
        torch.testing.assert_close(compiled.state[name], value, atol=1e-4, rtol=1e-4)
    moved = sum(not torch.equal(compiled.state[name], initial[name]) for name in initial)
    assert moved > len(initial) / 3


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_run_learns_exactly_the_same_alone_and_with_others(make_agent, make_batch, algorithm):
    bound = BOUNDS[algorithm]
    together, alone = (
        Ensemble(
            [make_agent(algorithm, seed=seed, clip_grad_norm=bound) for seed in seeds],
            CompiledToCpp(),
        )
        for seeds in ((1, 2, 3), (2,))
    )
    for step in range(1, 6):
        batch = make_batch(3, 17, seed=step)
        together.update(batch, step)
        alone.update(Batch(*(field[1:2] for field in batch)), step)
    for name, value in alone.state.items():
        assert torch.equal(together.state[name][1:2], value), name


@pytest.mark.parametrize("make_backend", [Traced, CompiledToCpp])
@pytest.mark.parametrize("algorithm", ["cql", "rnd"])
def test_many_updates_at_once_equal_the_same_updates_one_by_one(
    make_agent, make_batch, algorithm, make_backend
):
    once, each = (
        Ensemble(
            [
                make_agent(
                    algorithm, seed=s, target_update_period=4, clip_grad_norm=BOUNDS[algorithm]
                )
                for s in (1, 2)
            ],
            make_backend(),
        )
        for _ in range(2)
    )
    transitions = {name: field.flatten(0, 1) for name, field in make_batch(2, 50)._asdict().items()}
    rows = np.random.default_rng(0).integers(0, 100, (11, 2, 17))
    together = once.learn(transitions, rows, 3)
    for k in range(11):
        alone = each.learn(transitions, rows[k : k + 1], 3 + k)
    for name, value in each.state.items():
        assert torch.equal(once.state[name], value), name
    for tag, value in alone.items():
        assert torch.equal(together[tag], value), tag


def test_a_run_that_diverged_shows_it_and_leaves_the_others_alone(make_agent, make_batch):
    diverged, healthy = (
        Ensemble(
            [make_agent("iql", seed=s, clip_grad_norm=BOUNDS["iql"]) for s in (1, 2)],
            CompiledToCpp(),
        )
        for _ in range(2)
    )
    for name in diverged.state:
        if name.startswith("critic."):
            diverged.state[name][0] = torch.nan
    for step in range(1, 4):
        batch = make_batch(2, 17, seed=step)
        metrics, expected = diverged.update(batch, step), healthy.update(batch, step)
    for tag, value in metrics.items():
        assert torch.equal(value[1], expected[tag][1]), tag
    assert metrics["q_loss"].isnan().tolist() == [True, False]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_compiled_acting_is_traced_acting(make_agent, make_batch, algorithm):
    traced, compiled = (
        Ensemble(
            [make_agent(algorithm, seed=s, clip_grad_norm=BOUNDS[algorithm]) for s in (1, 2)],
            backend,
        )
        for backend in (Traced(), CompiledToCpp())
    )
    epsilon = torch.tensor([0.0, 0.3])
    for step in range(1, 4):
        observations = make_batch(2, 9, seed=step).observations
        expected, found = (
            x.action_probabilities(observations, epsilon) for x in (traced, compiled)
        )
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        for learner in (traced, compiled):
            learner.update(make_batch(2, 17, seed=step), step)  # acting follows what is learned
    assert list(compiled.backend.policies.values()) != [None]


# Operations


@pytest.mark.parametrize(
    ("rows", "inner", "columns"),
    [(1, 1, 1), (7, 3, 5), (17, 2, 16), (13, 33, 17), (64, 64, 64), (5, 40, 80), (3, 9, 130)],
)
def test_products_of_any_shape_and_layout(rows, inner, columns):
    """A B, A B', A' B and A' B'."""
    stored = (
        numbers(rows, inner),
        numbers(inner, rows, seed=2),
        numbers(inner, columns, seed=1),
        numbers(columns, inner, seed=3),
    )

    def function(a, transposed_a, b, transposed_b):
        return [
            result
            for left in (a, transposed_a.t())
            for right in (b, transposed_b.t())
            for result in (left @ right, torch.addmm(b.flatten()[:1], left, right).tanh())
        ]

    assert_compiles_rightly(function, *stored, tolerance=1e-4)


@pytest.mark.parametrize(
    "function",
    [
        lambda x, y: [x + y, x - y, x * y, x / (y.abs() + 1), -x],
        lambda x, y: [x.exp(), (x.abs() + 0.1).log(), (x.abs() + 0.1).sqrt(), x.tanh()],
        lambda x, y: [x.square(), x.pow(3), x.abs().pow(0.5), x.sigmoid(), x.relu()],
        lambda x, y: [x.clamp(-0.5, 0.5), x.clamp(max=0.2), x.clamp(min=0.1)],
        lambda x, y: [torch.where(x < y, x, 2 * y), (x >= 0) * y, (~(x > y)).float()],
        lambda x, y: [x.sum(), x.mean(), x.sum(0), x.mean(1), x.sum(1, keepdim=True) * y],
        lambda x, y: [x.amax(1), x.argmax(1).float(), x.argmax(0).float(), x.amax(0)],
        lambda x, y: [x.logsumexp(1), x.softmax(1), x.log_softmax(1), x.std(), x.var(0)],
        lambda x, y: [torch.std_mean(x, correction=0)[0], torch.std_mean(x[:, 0])[1]],
        lambda x, y: [x[:, :2].sum(1), x.t() * y[0, 0], x.reshape(-1)[3:9] + 1],
        lambda x, y: [(x + y).t().reshape(3, -1).sum(0), (x * y)[:, None].expand(-1, 2, -1)],
        lambda x, y: [x.gather(1, y.argmax(1, keepdim=True)), x[:, None].squeeze(1)],
        lambda x, y: [
            torch.zeros_like(x).scatter(1, y.argmax(1, keepdim=True), 3.0),
            x.scatter_add(1, y.argmax(1, keepdim=True), y[:, :1]),
        ],
        lambda x, y: [F.huber_loss(x, y), F.smooth_l1_loss(x, y, reduction="none")],
        lambda x, y: [F.mse_loss(x, y, reduction="none").mean(0), F.relu(x)],
        lambda x, y: [torch.zeros_like(x) + y, torch.ones(3) * x[0, 0], torch.maximum(x, y)],
    ],
)
def test_operations_equal_those_of_pytorch(function):
    assert_compiles_rightly(function, numbers(9, 6), numbers(9, 6, seed=1), tolerance=2e-6)


def test_exp_and_tanh_are_exact_to_rounding_everywhere():
    wide = torch.linspace(-30, 30, 4001)
    assert_compiles_rightly(lambda x: [x.tanh()], wide, tolerance=5e-7)
    assert_compiles_rightly(lambda x: [x.exp() / x.exp().detach().sum()], wide, tolerance=1e-6)
    assert_compiles_rightly(lambda x: [(x / 10).exp()], wide, tolerance=5e-7)


def test_infinities_and_nan_are_preserved():
    odd = torch.tensor([float("nan"), float("inf"), -float("inf"), 1.0])

    def function(x):
        return [x + 1, x.tanh(), x.clamp(-2, 2), x.abs(), x.sum(), x[3:].sum(), x.amax(), x.mean()]

    found, expected = evaluate(function, odd)
    torch.testing.assert_close(found, expected, equal_nan=True)


def test_values_are_read_before_they_are_replaced():
    """Values rotate through a ring: writing in place too early would lose one."""

    def rotate(a, b, c):
        return [b, c + a.sum(), a, a.sum() + c.sum()]

    state = [numbers(2, 3, 5, seed=k) for k in range(3)]
    expected = [x.clone() for x in state]
    graph = trace(rotate, [x[0] for x in state], decomposes=True)
    update = CompiledUpdate(graph, 3, [0, 1, 2], target.find_target(), cache_folder())
    for _ in range(3):
        metric = update(state, [], np.zeros((1, 2, 0), np.int64))
        results = [rotate(*(x[run] for x in expected)) for run in range(2)]
        expected = [torch.stack(column) for column in zip(*(r[:3] for r in results), strict=True)]
        torch.testing.assert_close(state, expected)
        torch.testing.assert_close(metric[0], torch.stack([r[3] for r in results]))


def test_tracing_does_equal_operations_once():
    def function(weights, inputs):
        return [torch.exp(inputs * weights).sum(), torch.exp(inputs * weights).mean()]

    graph = trace(function, [torch.tensor([1.0, 2.0]), torch.tensor([0.5, -1.0])])
    exponentials = [node for node in graph.graph.nodes if node.target is torch.ops.aten.exp.default]
    assert len(exponentials) == 1


@pytest.mark.parametrize(
    ("vectors", "width"), [(1, 1), (2, 2), (4, 4), (5, 5), (8, 4), (25, 5), (7, 4)]
)
def test_tiles_are_wide_and_waste_little(vectors, width):
    assert tile_width(vectors, 5) == width


# Failures


def test_an_unknown_operation_is_named_and_updates_run_uncompiled(capsys):
    graph = trace(lambda x: [x.cumsum(0)], [torch.ones(3)], decomposes=True)
    with pytest.raises(UnsupportedOperationError, match="cumsum"):
        CompiledUpdate(graph, 1, [0], target.find_target(), cache_folder())
    with pytest.raises(UnsupportedOperationError, match="cumsum"):
        compile_update(graph, 1, [0], cache_folder())


def test_without_a_compiler_updates_run_uncompiled_and_one_line_says_so(
    monkeypatch, capsys, make_agent, make_batch
):
    monkeypatch.setattr(target.shutil, "which", lambda name: None)
    target.find_target.cache_clear()
    try:
        learner = Ensemble([make_agent("cql")], CompiledToCpp())
        expected = Ensemble([make_agent("cql")])
        for step in range(1, 4):
            found, traced = (x.update(make_batch(1, 8), step) for x in (learner, expected))
    finally:
        target.find_target.cache_clear()
    assert torch.equal(found["critic_loss"], traced["critic_loss"])
    assert capsys.readouterr().out.count("no C++ compiler found") == 1


def test_a_compiler_that_fails_is_quoted(monkeypatch, capsys, make_agent, make_batch):
    monkeypatch.setattr(building, "FLAGS", ("-shared", "--no-such-flag"))
    Ensemble([make_agent("dqn")], CompiledToCpp()).update(make_batch(1, 8), 1)
    assert "--no-such-flag" in capsys.readouterr().out


def test_without_a_writable_cache_updates_still_work(
    monkeypatch, capsys, tmp_path, make_agent, make_batch
):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("CS285_CACHE_DIR", str(tmp_path / "file" / "cache"))
    Ensemble([make_agent("dqn")], CompiledToCpp()).update(make_batch(1, 9), 1)
    assert "uncompiled" in capsys.readouterr().out


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """The folder for a cache with the library of one program."""
    return tmp_path_factory.mktemp("compiled") / "cache"


@pytest.fixture
def used_cache(compiled, monkeypatch, tmp_path, make_agent, make_batch):
    """A cache that a program of DQN has used, and the library that it has compiled there."""
    if not compiled.exists():
        monkeypatch.setenv("CS285_CACHE_DIR", str(compiled))
        Ensemble([make_agent("dqn")], CompiledToCpp()).update(make_batch(1, 8), 1)
    folder = tmp_path / "cache"
    shutil.copytree(compiled, folder)
    monkeypatch.setenv("CS285_CACHE_DIR", str(folder))
    (library,) = folder.iterdir()
    return folder, library


def test_the_second_program_finds_the_first_ones_library(
    used_cache, monkeypatch, make_agent, make_batch
):
    folder, library = used_cache
    monkeypatch.setattr(building, "_compile", None)  # calling it would fail
    learner = Ensemble([make_agent("dqn", seed=2)], CompiledToCpp())
    learner.update(make_batch(1, 8), 1)
    assert None not in learner.backend.updates.values()
    assert library.suffix == ".so"
    assert folder.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("mode", [0o770, 0o707])
@pytest.mark.parametrize("what", ["folder", "library"])
def test_a_library_that_others_could_have_written_is_not_loaded(
    used_cache, monkeypatch, capsys, make_agent, make_batch, mode, what
):
    folder, library = used_cache
    {"folder": folder, "library": library}[what].chmod(mode)
    monkeypatch.setattr(ctypes, "CDLL", None)  # calling it would fail
    learner = Ensemble([make_agent("dqn")], CompiledToCpp())
    learner.update(make_batch(1, 8), 1)
    assert list(learner.backend.updates.values()) == [None]
    assert "others can write to" in capsys.readouterr().out


def test_a_library_in_the_folder_of_another_user_is_not_loaded(
    monkeypatch, capsys, tmp_path, make_agent, make_batch
):
    monkeypatch.setenv("CS285_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(os, "getuid", lambda: tmp_path.stat().st_uid + 1)
    Ensemble([make_agent("dqn")], CompiledToCpp()).update(make_batch(1, 8), 1)
    assert "others can write to" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("choice", "updates", "expected"),
    [("off", 10**9, False), ("on", 1, True), ("auto", 10**9, True), ("auto", 100, False)],
)
def test_auto_compiles_long_programs_only(choice, updates, expected):
    assert backends.pays(choice, updates) is expected
