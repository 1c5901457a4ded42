"""Known traps in public versions of this homework; each has a test that code in the trap fails.

Two of them have their tests among the formulas, in `test_objectives.py`: the sixth, `(B, 1)`
against `(B,)`, and the thirteenth, an inverse temperature in the files of AWAC and IQL.
"""

import gc
import itertools
import pickle
import random
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from test_rollouts import LEFT, single_episode, solve_easy, stay_left
from test_training import EASY, Lab, assert_same_arrays, random_walk, read_events, read_scalars

from cs285.datasets.dataset_files import DATASET_FIELDS
from cs285.env_configs import load_config
from cs285.infrastructure.errors import UserError
from cs285.learning.objective import Batch
from cs285.learning.random_streams import derive_seed
from cs285.learning.replay_buffer import look_up
from cs285.training import trainer
from cs285.training.program_recorder import LAST_EVALUATION

pytestmark = pytest.mark.usefixtures("untraced")

OFFLINE_SIZE, OFFLINE_STEPS, ONLINE_STEPS = 80, 6, 55


@pytest.fixture
def lab(tmp_path):
    return Lab(tmp_path)


@pytest.fixture
def batches(monkeypatch):
    """Collects every batch that a program learns from."""
    seen = []
    make_learner = trainer.make_learner

    def make_spied_learner(*arguments, **options):
        learner = make_learner(*arguments, **options)
        learn = learner.learn

        def spied_learn(transitions, rows, step):
            seen.extend(Batch(**look_up(transitions, one)) for one in rows)
            return learn(transitions, rows, step)

        learner.learn = spied_learn
        return learner

    monkeypatch.setattr(trainer, "make_learner", make_spied_learner)
    return seen


@pytest.mark.parametrize(("algorithm", "steps"), [("random", 120), ("rnd", 60)])
def test_trap_1_evaluation_leaves_the_running_episode_alone(lab, algorithm, steps):
    few = {"updates_per_step": 1} if algorithm == "rnd" else {}
    config = lab.config("explore", algorithm, total_steps=steps, **few)
    data = []
    for interval in (7, 1000):
        lab.run("explore", config, flags=["--eval_interval", interval])
        data.append(lab.explored(f"explore_{algorithm}"))
    assert_same_arrays(*data)
    assert not data[0]["terminated"].any()
    assert np.flatnonzero(data[0]["truncated"]).tolist() == list(range(49, steps, 50))


class GlobalDrawer:
    """An agent that draws from every global generator, as a student's may."""

    def get_action(self, observation, epsilon=0.0):
        drawn = np.random.randint(5), random.randrange(5), torch.randint(5, ()).item()  # noqa: NPY002 - as students draw
        return sum(drawn) % 5

    def update(self, *batch_and_step):
        return {}


def test_trap_1_holds_for_agents_that_draw_from_global_generators(lab, monkeypatch):
    monkeypatch.setattr(trainer, "make_agent", lambda config: GlobalDrawer())
    config = lab.config("explore", "random")
    data = []
    for interval in (7, 1000):
        lab.run("explore", config, flags=["--eval_interval", interval])
        data.append(lab.explored("explore_random"))
    assert_same_arrays(*data)


def test_trap_2_timeouts_are_not_terminal(lab, batches):
    config = lab.config("explore", "rnd", updates_per_step=1)
    lab.run("explore", config)
    data = lab.explored("explore_rnd")
    assert np.flatnonzero(data["truncated"]).tolist() == [49]
    assert not data["terminated"].any()
    assert not any(batch.dones.any() for batch in batches)
    reached = {tuple(row) for batch in batches for row in batch.next_observations[0].tolist()}
    assert tuple(data["next_observations"][49].tolist()) in reached


@pytest.mark.parametrize("algorithm", ["cql", "iql"])
def test_trap_3_fine_tuning_sees_the_rewards_of_the_environment(lab, batches, algorithm):
    lab.save_data()
    lab.run("finetune", lab.config("finetune", algorithm))
    held = lab.trainers[0].buffer.contents(0)
    assert (held.rewards[OFFLINE_SIZE:] == -1).all()  # the goal was not reached
    assert not held.dones[OFFLINE_SIZE:].any()
    assert len(batches) == OFFLINE_STEPS + ONLINE_STEPS
    assert all((batch.rewards == -1).all() for batch in batches)


def test_trap_4_fine_tuning_keeps_its_offline_data_and_their_file(lab):
    sizes = {1: OFFLINE_SIZE, 2: 30}
    paths = [lab.save_data(size, seed) for seed, size in sizes.items()]
    contents = [path.read_bytes() for path in paths]
    lab.run("finetune", lab.config("finetune", "dqn"), flags=["--seeds", *sizes])
    (trainer,) = lab.trainers
    for run, (seed, size) in enumerate(sizes.items()):
        held, data = trainer.buffer.contents(run), random_walk(size, seed)
        assert len(held.rewards) == size + ONLINE_STEPS
        for field, name in zip(held, DATASET_FIELDS, strict=True):
            np.testing.assert_array_equal(field[:size], getattr(data, name))
        assert held.observations[size].tolist() == pytest.approx([0.1, 0.1])
        np.testing.assert_array_equal(
            held.observations[size + 1 : size + 50], held.next_observations[size : size + 49]
        )
    assert [path.read_bytes() for path in paths] == contents
    assert sorted((lab.root / "datasets").iterdir()) == paths


def prefer_down_at_the_right(network, *, solves):
    """Makes a network with one hidden layer prefer the way to the goal of Easy, or always left."""
    first, last = (module for module in network.modules() if isinstance(module, torch.nn.Linear))
    with torch.no_grad():
        for parameter in (first.weight, first.bias, last.weight, last.bias):
            parameter.zero_()
        if solves:
            first.weight[0, 1], first.bias[0] = 100.0, -85.0
            last.weight[:, 0] = torch.tensor([0.0, 0.0, -1.0, 0.0, 1.0])
        else:
            last.bias[LEFT] = 1.0


@pytest.mark.parametrize("algorithm", ["awac", "iql"])
@pytest.mark.parametrize("actor_solves", [True, False])
def test_trap_5_the_actor_is_evaluated_and_not_the_critic(
    lab, monkeypatch, algorithm, actor_solves
):
    make_agent = trainer.make_agent

    def make_crafted_agent(config):
        agent = make_agent(config)
        prefer_down_at_the_right(agent.actor, solves=actor_solves)
        prefer_down_at_the_right(agent.critic, solves=not actor_solves)
        return agent

    monkeypatch.setattr(trainer, "make_agent", make_crafted_agent)
    lab.save_data()
    layers = {"num_layers": 1, "actor_num_layers": 1, "input_scale": None}
    frozen = {"learning_rate": 1e-9, "actor_learning_rate": 1e-9}
    (folder,) = lab.run("offline", lab.config("offline", algorithm, **layers, **frozen))
    policy = solve_easy if actor_solves else stay_left
    *_, (last, _) = evaluations = read_scalars(folder)["eval_return"]
    for step, value in evaluations:
        lanes = range(2 * LAST_EVALUATION if step == last else 2)
        seeds = [derive_seed(1, "evaluation", step, lane) for lane in lanes]
        expected = np.mean([single_episode(EASY, seed, policy)[0] for seed in seeds])
        assert value == pytest.approx(expected, rel=1e-6)  # logs hold single precision
        assert (value > -50) == actor_solves


def test_trap_7_a_run_has_its_own_streams(lab, monkeypatch):
    config = lab.config("explore", "rnd", updates_per_step=1)
    lab.run("explore", config)
    expected = lab.explored("explore_rnd")

    def seed_otherwise(seed):
        for seed_generator in (random.seed, np.random.seed, torch.manual_seed):
            seed_generator(seed + 77)

    monkeypatch.setattr(trainer, "_seed_global_generators", seed_otherwise)
    lab.run("explore", config, flags=["--seeds", 3, 1])
    assert_same_arrays(lab.explored("explore_rnd"), expected, tolerance=1e-6)


def test_trap_8_output_folders_are_made(tmp_path):
    lab = Lab(tmp_path, draws=True)
    names = {"--data_dir": "a/b", "--dataset_dir": "c/d", "--visualization_dir": "e/f"}
    located = {flag: tmp_path / name for flag, name in names.items()}
    flags = list(itertools.chain(*located.items()))
    lab.run("explore", lab.config("explore", "random"), flags=flags)
    written = [[path.name for path in folder.iterdir()] for folder in located.values()]
    assert written[0][0].startswith("hw5_explore_explore_random_sd1_")
    assert written[1:] == [["explore_random_seed1.npz"], ["explore_random_seed1.png"]]


def test_trap_9_every_run_of_a_sweep_has_a_folder_that_identifies_it(lab, monkeypatch):
    monkeypatch.setattr("time.strftime", lambda _form: "2026-01-31_09-00-00")
    for seed in (1, 2):
        lab.save_data(seed=seed)
    alphas = {"sweep_alpha0": 0.0, "sweep_alpha10": 10.0}
    configs = [
        lab.config("offline", "cql", name, cql_alpha=alpha) for name, alpha in alphas.items()
    ]
    folders = [
        *lab.run("offline", *configs, flags=["--seeds", 1, 2]),
        *lab.run("offline", *configs, flags=["--seeds", 1, 2]),
    ]
    assert len(set(folders)) == 8
    for folder in folders:
        saved = yaml.safe_load((folder / "config.yaml").read_text())
        name = f"hw5_offline_{saved['exp_name']}_sd{saved['seed']}_"
        assert folder.name.startswith(name)
        assert alphas[saved["exp_name"]] == saved["cql_alpha"]
        assert len(list(folder.glob("events.out.tfevents.*"))) == 1
        assert len(read_scalars(folder)["eval_return"]) == 3


def test_trap_10_figures_do_not_pile_up(tmp_path, monkeypatch):
    alive = weakref.WeakSet()
    initialise = Figure.__init__

    def noted_initialise(figure, *arguments, **options):
        initialise(figure, *arguments, **options)
        alive.add(figure)

    monkeypatch.setattr(Figure, "__init__", noted_initialise)
    lab = Lab(tmp_path, draws=True)
    plt.close("all")
    (folder,) = lab.run("explore", lab.config("explore", "random"), flags=["-vi", 20])
    assert len(read_events(folder).Images("exploration_trajectories_eval")) == 3
    gc.collect()
    assert plt.get_fignums() == []
    assert len(alive) == 0


@pytest.mark.parametrize("flags", [[], ["--use_reward"]])
def test_trap_11_use_reward_decides_what_rnd_learns_from(lab, batches, flags):
    (folder,) = lab.run("explore", lab.config("explore", "rnd", total_steps=30), flags=flags)
    assert len(batches) == 10 * 4  # updates a step
    expected = -1.0 if flags else 0.0
    assert all((batch.rewards == expected).all() for batch in batches)
    assert (lab.explored("explore_rnd")["rewards"] == -1).all()
    assert load_config(folder / "config.yaml", "explore").use_reward == bool(flags)


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return Path.touch, (self.canary,)


@pytest.mark.parametrize("disguise", ["pickle", "object array"])
def test_trap_12_pickles_are_not_loaded(lab, disguise):
    path, canary = lab.save_data(), lab.root / "canary"
    if disguise == "pickle":
        path.write_bytes(pickle.dumps(Bomb(canary)))
    else:
        with np.load(path) as arrays:
            forged = dict(arrays) | {"rewards": np.array([Bomb(canary)] * OFFLINE_SIZE)}
        np.savez(path, **forged)
    with pytest.raises(UserError, match="cannot be used"):
        lab.run("offline", lab.config("offline", "dqn"))
    assert not canary.exists()
    assert not (lab.root / "data").exists()
