"""Programs: which runs train together, where, and how a failing run affects the others."""

import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from types import FunctionType

import numpy as np
import pytest
import torch

from cs285.infrastructure.errors import is_unwritten
from cs285.training import interruption, preparation, programs, trainer
from cs285.training.options import Options
from cs285.training.programs import Program, choose_workers, group, split, train_all
from cs285.training.runs import Run
from cs285.training.stages import Phase


def make_runs(stage="explore", seeds=(1,), algorithm="dqn", **values):
    from cs285.homework import algorithms

    named = {"env_name": "PointmassEasy-v0", "exp_name": "x", "dataset_name": "x"} | values
    make = algorithms()[algorithm].config
    configs = [make(base_config=algorithm, seed=seed, **named) for seed in seeds]
    return [preparation.make_run(stage, config, None) for config in configs]


def configs(runs):
    return [run.config for run in runs]


@pytest.fixture
def options(tmp_path):
    folders = [tmp_path / name for name in ("data", "datasets", "pictures")]
    return Options(*folders, 1000, 1000, 10, 2, compile="off")


def dataset(options, seed):
    with np.load(options.dataset_dir / f"x_seed{seed}.npz") as file:
        return {name: file[name] for name in file.files if name != "manifest"}


def summary(options, seed):
    (path,) = options.data_dir.glob(f"*_x_sd{seed}_*/summary.json")
    return json.loads(path.read_text())


def test_runs_that_differ_in_scalars_and_seeds_train_together():
    runs = make_runs(seeds=(1, 2), algorithm="cql", cql_alpha=0.5)
    runs += make_runs(seeds=(1,), algorithm="cql", cql_alpha=2.0, discount=0.9)
    assert group(configs(runs)) == [configs(runs)]


def test_an_optimiser_that_cannot_be_stacked_costs_one_line(monkeypatch, capsys):
    make_agent = programs.make_agent

    def with_sgd(config):
        agent = make_agent(config)
        agent.critic_optimizer = torch.optim.SGD(agent.critic.parameters(), lr=0.1)
        return agent

    monkeypatch.setattr(programs, "make_agent", with_sgd)
    runs = configs(make_runs(seeds=(1, 2)) + make_runs(hidden_size=32))
    assert group(runs) == [[run] for run in runs]
    assert capsys.readouterr().out.count("critic_loss is SGD") == 1


@pytest.mark.parametrize("difference", [{"hidden_size": 32}, {"batch_size": 64}, {"num_layers": 1}])
def test_runs_that_differ_in_structure_train_apart(difference):
    one, other = make_runs(), make_runs(**difference)
    assert group(configs(one + other)) == [configs(one), configs(other)]


def test_splitting_keeps_every_run_once_and_puts_the_most_work_first():
    small = Program(make_runs(seeds=range(3)), [Phase("offline", 10, interacts=False)])
    large = Program(make_runs(seeds=range(5), batch_size=64), [Phase("offline", 100, False)])
    parts = split([small, large], workers=2)
    assert [len(part.runs) for part in parts] == [3, 2, 2, 1]
    seeds = sorted(run.config.seed for part in parts for run in part.runs)
    assert seeds == sorted([0, 1, 2, 0, 1, 2, 3, 4])


def test_workers_never_outnumber_runs_and_short_work_stays_in_one_process(monkeypatch):
    monkeypatch.setattr(programs.os, "cpu_count", lambda: 8)
    runs = make_runs(seeds=range(3))
    short = [Program(runs, [Phase("offline", 10, interacts=False)])]
    long = [Program(runs, [Phase("offline", 1_000_000, interacts=False)])]
    assert choose_workers("auto", short) == 1
    assert choose_workers("auto", long) == 3
    assert choose_workers(2, short) == 2
    assert choose_workers(64, long) == 3
    steps = [Phase("exploration", 20_000, interacts=True)]
    for algorithm, expected in (("dqn", 1), ("rnd", 3)):  # one update a step, or four
        runs = make_runs(seeds=(1, 2, 3), algorithm=algorithm)
        assert choose_workers("auto", [Program(runs, steps)]) == expected


def test_two_processes_collect_what_one_collects(options, tmp_path):
    runs = make_runs(seeds=(1, 2), algorithm="random")
    programs_ = [Program(runs, [Phase("exploration", 120, interacts=True)])]
    assert train_all(programs_, options, workers=1) == []
    alone = [dataset(options, seed) for seed in (1, 2)]
    for path in options.dataset_dir.iterdir():
        path.unlink()
    assert train_all(programs_, options, workers=2) == []
    for seed, expected in zip((1, 2), alone, strict=True):
        found = dataset(options, seed)
        assert found.keys() == expected.keys()
        for name, array in expected.items():
            np.testing.assert_array_equal(found[name], array)


def test_a_run_that_diverges_is_named_and_the_others_continue(options, monkeypatch):
    make_agent = trainer.make_agent

    def with_a_hole(config):
        agent = make_agent(config)
        if config.seed == 2:
            with torch.no_grad():
                next(agent.critic.parameters()).fill_(torch.nan)
        return agent

    monkeypatch.setattr(trainer, "make_agent", with_a_hole)
    runs = make_runs(seeds=(1, 2, 3), learning_starts=5)
    diverged = train_all([Program(runs, [Phase("exploration", 40, interacts=True)])], options)
    assert diverged == ["x_sd2"]
    assert [summary(options, seed)["status"] for seed in (1, 2, 3)] == [
        "finished",
        "diverged",
        "finished",
    ]
    for run in (1, 3):
        assert dataset(options, run)["actions"].size == 40


def fail_as(module):
    """Raises as a method of this module would in a worker."""

    def missing():
        raise NotImplementedError("f is missing")

    interruption.in_worker(FunctionType(missing.__code__, {"__name__": module}))


def test_an_unwritten_method_is_recognised_in_a_worker_too():
    """Exceptions of workers arrive without the traceback that shows who raised them."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        for module, expected in (("cs285.agents.dqn_agent", True), ("torch.nn", False)):
            error = pool.submit(fail_as, module).exception()
            assert str(error) == "f is missing"
            assert is_unwritten(error) is expected


def test_a_run_belongs_to_its_config():
    (run,) = make_runs(seeds=(7,))
    assert isinstance(run, Run)
    assert (run.info.seed, run.info.algorithm, run.info.env_id) == (7, "dqn", "PointmassEasy-v0")


@pytest.mark.parametrize(
    ("choice", "updates", "expected"),
    [("off", 10**9, False), ("on", 1, True), ("auto", 10**9, True), ("auto", 100, False)],
)
def test_auto_compiles_long_programs_only(choice, updates, expected):
    from cs285.learning import backends

    assert backends.pays(choice, updates) is expected
