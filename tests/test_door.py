"""The package from Python: `train`, `resume`, `load_run` and `load_policy`."""

import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
import yaml
from test_training import EASY, Lab, assert_same_arrays, read_scalars

import cs285
from cs285 import load_policy, load_run, resume, train
from cs285.datasets.dataset_files import load_dataset
from cs285.homework import Stage
from cs285.infrastructure import pytorch_util as ptu
from cs285.infrastructure.errors import UserError
from cs285.training import door, interruption, trainer
from cs285.training.interruption import StoppedError
from cs285.training.preparation import read_configs
from cs285.training.runs import make_agent

pytestmark = pytest.mark.usefixtures("untraced")

ROOT = Path(__file__).parents[1]
SMALL = {"hidden_size": 8}
ALGORITHMS = {
    "random": {},
    "rnd": SMALL | {"rnd_hidden_size": 8, "updates_per_step": 1},
    "dqn": SMALL,
    "cql": SMALL,
    "awac": SMALL | {"actor_hidden_size": 8},
    "iql": SMALL | {"actor_hidden_size": 8},
}


@pytest.fixture
def room(tmp_path, monkeypatch):
    """A working folder with a dataset of seeds 1 and 2 in `datasets/`, and nothing to draw."""
    lab = Lab(tmp_path)
    for seed in (1, 2):
        lab.save_data(seed=seed)
    monkeypatch.chdir(tmp_path)
    for name in ("program_recorder.ProgramRecorder.draw",):
        monkeypatch.setattr(f"cs285.training.{name}", lambda *_: None)
    monkeypatch.setattr(
        "cs285.training.run_recorder.RunRecorder.draw_learning_curve", lambda *_: None
    )
    return lab


def settings(algorithm="cql", **values):
    data = {} if algorithm in {"random", "rnd"} else {"dataset_name": "shared"}
    return {"base_config": algorithm, "env_name": EASY, **ALGORITHMS[algorithm], **data, **values}


QUICK = {"num_eval_trajectories": 2, "eval_interval": 4, "log_interval": 2, "compile": "off"}


# The package's own names


def test_importing_the_package_imports_nothing_else():
    code = """
        import sys
        before = set(sys.modules)
        import cs285
        assert {"train", "load_run", "load_policy", "resume"} <= set(dir(cs285))
        new = {name.partition(".")[0] for name in set(sys.modules) - before}
        print(sorted(new - sys.stdlib_module_names))
        from cs285 import *
        print(train.__module__, load_policy.__module__)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [
        "['cs285']",
        "cs285.training.door cs285.training.policies",
    ]


def test_other_names_are_missing_as_usual():
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        cs285.trian  # noqa: B018 - the access is the test


# Training


def test_a_sweep_returns_the_results_of_all_runs_in_order(room):
    room.config("offline", "cql", training_steps=100)
    results = train("offline_cql.yaml", stage="offline", seeds=[2, 1], steps_fraction=0.1, **QUICK)
    assert [run.seed for run in results] == [2, 1]
    assert len(results) == 2
    for run in results:
        assert run.folder.parent.name == "data"
        assert (run.name, run.stage, run.status) == ("offline_cql", "offline", "finished")
        assert run.config["training_steps"] == 10
        assert run.config == yaml.safe_load((run.folder / "config.yaml").read_text())
        assert run.dataset is None
        logged = read_scalars(run.folder)
        assert run.curves.keys() == logged.keys()
        for tag, series in logged.items():
            steps, values = zip(*series, strict=True)
            assert run.curves[tag].steps.tolist() == list(steps)
            np.testing.assert_array_equal(run.curves[tag].values, values)
        # 100 episodes count; the last evaluation has five times the two of the others.
        weights = run.curves["eval/episodes"].values
        expected = np.average(run.curves["eval_return"].values, weights=weights)
        assert run.final_return == pytest.approx(expected)
        assert run.summary["final_return"] == run.final_return
        assert f"final return {run.final_return:.1f}" in repr(run)
    assert results.summary == {"offline_cql": [run.final_return for run in results]}
    assert results.diverged == []
    assert repr(results[1]) in repr(results)
    assert [run.seed for run in results[1:]] == [1]


def test_a_run_that_logs_to_csv_alone_has_the_same_curves(room):
    values = settings("cql", training_steps=10)
    (usual,) = train(values | {"exp_name": "usual"}, **QUICK)
    (table,) = train(values | {"exp_name": "table"}, log="csv", **QUICK)
    assert not list(table.folder.glob("*tfevents*"))
    assert table.curves.keys() == usual.curves.keys() >= {"eval_return", "critic_loss"}
    for tag, curve in usual.curves.items():
        assert table.curves[tag].steps.tolist() == curve.steps.tolist()
        # TensorBoard stores single precision.
        assert table.curves[tag].values.astype(np.float32).tolist() == curve.values.tolist()


def test_exploration_names_its_dataset(room):
    (run,) = train(settings("random", total_steps=30, dataset_name="mine"), **QUICK)
    assert run.dataset == room.root / "datasets" / "mine_seed1.npz"
    assert len(load_dataset(run.dataset, EASY)) == 30
    assert run.stage is Stage.EXPLORE
    again = load_run(run.folder)
    assert again.dataset.samefile(run.dataset)
    run.dataset.unlink()
    assert load_run(run.folder).dataset is None


def test_the_door_and_the_script_do_the_same(room):
    config = room.config("finetune", "dqn")
    (scripted,) = room.run("finetune", config, flags=["-ei", QUICK["eval_interval"]])
    (run,) = train(config, stage="finetune", **QUICK)
    assert read_scalars(run.folder) == read_scalars(scripted)
    weights = [torch.load(x / "agent.pt", weights_only=True) for x in (run.folder, scripted)]
    assert_same_arrays(*weights)


def test_a_dict_may_hold_a_sweep(room):
    values = settings("cql", training_steps=4, sweep={"cql_alpha": [0.0, 1.0], "seed": [1, 2]})
    results = train(values, **QUICK)
    assert [(run.config["cql_alpha"], run.seed) for run in results] == [
        (0.0, 1), (0.0, 2), (1.0, 1), (1.0, 2),
    ]  # fmt: skip
    assert list(results.summary) == [
        "pointmass_easy_cql_cql_alpha0.0",
        "pointmass_easy_cql_cql_alpha1.0",
    ]
    assert "sweep" in values


def test_several_workers_train_without_a_main_guard(room):
    """In a program that spawn would run again, read from a file or from the standard input."""
    program = f"""
        import sys
        sys.path.insert(0, {str(room.root)!r})
        print("begins")
        from cs285 import train
        results = train({settings("random", total_steps=3)!r}, seeds=[1, 2], workers=2,
                        num_eval_trajectories=1, eval_interval=9)
        print([run.status for run in results])
    """
    path = room.root / "program.py"
    path.write_text(textwrap.dedent(program))
    for command, text in (
        ([sys.executable, path], None),
        ([sys.executable, "-"], path.read_text()),
    ):
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        lines = done.stdout.splitlines()
        assert lines.count("begins") == 1, done.stderr
        assert lines[-1] == "['finished', 'finished']", done.stderr


def test_workers_need_an_environment_that_they_can_import(room):
    """Here the program registers `My-v0`, directly or by importing the module `my_module`."""
    registration = """
        import gymnasium
        from gymnasium.envs.classic_control import CartPoleEnv
        gymnasium.register("My-v0", entry_point=CartPoleEnv, max_episode_steps=9)
    """
    values = settings("random", total_steps=20)
    training = f"""
        import sys
        from pathlib import Path
        from cs285 import train
        before = sorted(Path().rglob("*"))
        for workers in sys.argv[2:]:
            try:
                results = train({values!r} | {{"env_name": sys.argv[1]}}, seeds=[1, 2],
                                eval_interval=20, workers=int(workers), num_eval_trajectories=1)
            except Exception as error:
                print(f"{{type(error).__name__}}: {{error}}")
                assert sorted(Path().rglob("*")) == before
            else:
                print([run.status for run in results])
    """
    program = room.root / "program.py"
    (room.root / "my_module.py").write_text(textwrap.dedent(registration))
    program.write_text(textwrap.dedent(registration) + textwrap.dedent(training))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(["", str(ROOT)])}
    finished = "['finished', 'finished']"
    refused = (
        "UserError: My-v0 is registered only in this process, so others "
        "cannot train in it; use one worker (`workers=1`), or write `module:My-v0` with an "
        "importable module that registers it"
    )
    for arguments, expected in (
        (("My-v0", "2", "1"), [refused, finished]),
        (("my_module:My-v0", "2"), [finished]),
    ):
        done = subprocess.run(
            [sys.executable, "-B", program, *arguments],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
        )
        lines = done.stdout.splitlines()
        assert [line for line in lines if line in {refused, finished}] == expected, done.stderr
        assert done.returncode == 0, done.stderr


def test_it_works_in_a_thread_and_calls_take_turns(room):
    results = {}

    def work(name):
        (results[name],) = train(settings("dqn", training_steps=6, exp_name=name), **QUICK)

    threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [results[name].status for name in "ab"] == ["finished", "finished"]
    assert read_scalars(results["a"].folder) == read_scalars(results["b"].folder)


def test_the_callers_process_is_left_as_it_was(room, monkeypatch):
    monkeypatch.setattr(ptu, "device", torch.device("meta"))  # not one that training chooses
    handler = signal.getsignal(signal.SIGINT)
    threads = torch.get_num_threads()

    def draw():
        return random.random(), np.random.rand(), torch.rand(()).item()  # noqa: NPY002

    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(5)
    expected = draw()
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(5)
    train(settings("dqn", training_steps=2), no_gpu=True, **QUICK)
    assert draw() == expected
    assert ptu.device.type == "meta"
    assert torch.get_num_threads() == threads
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_run_that_diverges_is_a_result(room, monkeypatch):
    def with_a_hole(config):
        agent = make_agent(config)
        if config.seed == 2:
            with torch.no_grad():
                next(agent.critic.parameters()).fill_(torch.nan)
        return agent

    monkeypatch.setattr(trainer, "make_agent", with_a_hole)
    results = train(settings("dqn", training_steps=4, exp_name="x"), seeds=[1, 2], **QUICK)
    assert [run.status for run in results] == ["finished", "diverged"]
    assert results.diverged == ["x_sd2"]
    assert results[1].summary["diverged_at_step"] == 2


def test_a_stopped_run_can_be_loaded_and_resumed(room, monkeypatch):
    values = settings("iql", training_steps=12, exp_name="x")
    (whole,) = train(values | {"exp_name": "whole"}, **QUICK)
    requested = mock.Mock(side_effect=[0, 0, 0, 0, signal.SIGINT])
    with (
        mock.patch.object(interruption, "requested", requested),
        pytest.raises(StoppedError, match=r"Stopped\. Resume with: .* --resume data") as stopped,
    ):
        train(values, seeds=[1], **QUICK)
    assert stopped.value.signum == signal.SIGINT
    (folder,) = room.root.glob("data/hw5_offline_x_*")
    part = load_run(folder)
    assert (part.status, part.final_return, part.summary) == ("unfinished", None, {})
    assert 0 < part.curves["eval_return"].steps[-1] < 12
    assert "unfinished" in repr(part)
    (run,) = resume(folder)
    assert run.status == "finished"
    assert read_scalars(run.folder) == read_scalars(whole.folder)


def test_a_second_ctrl_c_in_a_notebook_interrupts_but_does_not_end_it(room, monkeypatch):
    monkeypatch.setattr(interruption._Request, "second_press_exits", False)
    monkeypatch.setattr(interruption, "SAME_PRESS_S", 0.0)
    monkeypatch.setattr(interruption.os, "_exit", lambda _: pytest.fail("the process ended"))
    advance = trainer.Trainer.advance

    def pressed(self, phase, most):
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)
        return advance(self, phase, most)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with (
            mock.patch.object(trainer.Trainer, "advance", pressed),
            pytest.raises(KeyboardInterrupt),
        ):
            train(settings("dqn", training_steps=4), **QUICK)
    finally:
        signal.signal(signal.SIGINT, before)


# The stage


def stage_of(*configs, stage=None):
    return door._choose_stage(door._sources(list(configs)), stage)


def test_the_folder_of_a_file_says_which_stage_it_belongs_to():
    root = ROOT / "experiments"
    for folder, stage in (
        ("exploration", "explore"),
        ("offline", "offline"),
        ("finetune", "finetune"),
    ):
        assert {stage_of(path) for path in (root / folder).glob("*.yaml")} == {stage}


@pytest.mark.parametrize(
    ("seeds", "expected"),
    [
        (3, [3]),
        (np.int64(3), [3]),
        (np.array(3), [3]),
        (np.arange(1, 3), [1, 2]),
        ((np.uint8(4), 5), [4, 5]),
        (range(2), [0, 1]),
        (None, None),
    ],
)
def test_seeds_are_integers_of_any_type(seeds, expected):
    found = door._as_list(seeds)
    assert found == expected
    assert {type(seed) for seed in found or ()} <= {int}


@pytest.mark.parametrize(
    "seeds", [3.0, np.array([1.0]), "1", [[1, 2]], np.ones((2, 2), int), True, [True]]
)
def test_seeds_of_other_types_are_refused(seeds):
    with pytest.raises(UserError, match="`seeds` must be an integer or a list of integers, not"):
        door._as_list(seeds)


def test_numpy_seeds_train_like_others(room):
    results = train(settings("random", total_steps=20), seeds=np.arange(1, 3), **QUICK)
    assert [run.seed for run in results] == [1, 2]


@pytest.mark.parametrize(
    ("values", "stage"),
    [
        ({"base_config": "rnd"}, "explore"),
        ({"base_config": "dqn", "total_steps": 5}, "explore"),
        ({"base_config": "cql", "training_steps": 5}, "offline"),
        ({"base_config": "cql", "online_steps": 5}, "finetune"),
        ({"base_config": "cql", "sweep": {"training_steps": [1, 2]}}, "offline"),
    ],
)
def test_settings_say_which_stage_they_belong_to(values, stage, tmp_path):
    assert stage_of(values) == stage
    path = tmp_path / "a.yaml"
    path.write_text(yaml.safe_dump(values))
    assert stage_of(path) == stage_of(str(path)) == stage


@pytest.mark.parametrize(
    ("configs", "arguments", "said"),
    [
        ([settings("cql")], {}, r'its stage is unclear; add stage="offline" or stage="finetune"'),
        (
            [settings("cql", training_steps=3), settings("rnd")],
            {},
            "several stages, explore and offline; train them separately",
        ),
        (settings("cql"), {"stage": "ofline"}, r"must be one of .*did you mean `offline`"),
        (settings("rnd"), {"stage": "offline"}, "`rnd` cannot .*run_hw5_explore.py"),
        (settings("cql", training_steps=3, cql_alhpa=1), {}, "settings: unknown key `cql_alhpa`"),
        ({"env_name": EASY}, {}, "`base_config` is missing"),
        ("missing.yaml", {}, "no such config file"),
        ([], {}, "a config is a YAML file, a dict of settings or a list of these"),
        (5, {}, "a config is a YAML file"),
        (settings("rnd"), {"seeds": []}, "`seeds` is empty"),
        (settings("rnd"), {"seeds": [1, 1]}, "requested twice"),
        (settings("rnd"), {"seeds": -1}, "`seed` must be"),
        (settings("rnd"), {"steps_fraction": 0}, "`steps_fraction` must be above 0"),
        (settings("rnd"), {"steps_fraction": "all"}, "`steps_fraction` must be above 0"),
        (settings("rnd"), {"workers": 0}, "`workers` must be auto or"),
        (settings("rnd"), {"eval_interval": 0}, "`eval_interval` must be greater than 0, not 0"),
        (settings("rnd"), {"visualize_interval": 0}, "`visualize_interval` must be"),
        (settings("rnd"), {"compile": "maybe"}, "`compile` must be"),
        (settings("rnd"), {"log_interval": "often"}, "`log_interval` must be a valid integer"),
        (settings("cql", dataset_name="no", training_steps=1), {}, "there is no dataset no_seed1"),
    ],
    ids=lambda x: None,
)  # fmt: skip
def test_what_cannot_be_trained_is_one_sentence_and_nothing_is_written(
    room, configs, arguments, said
):
    before = sorted(room.root.rglob("*"))
    with pytest.raises(UserError, match=said):
        train(configs, **arguments)
    assert sorted(room.root.rglob("*")) == before


# Existing runs


def test_what_is_not_a_run_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match="is not a run folder"):
        load_run(tmp_path)
    (tmp_path / "config.yaml").write_text("a: 1\n")
    with pytest.raises(UserError, match="not the config of a run"):
        load_run(tmp_path)
    with pytest.raises(UserError, match="is not a run folder"):
        load_policy(tmp_path / "deeper" / "agent.pt")


def test_a_run_folder_can_be_copied_alone(room, tmp_path):
    (run,) = train(settings("dqn", training_steps=2), **QUICK)
    (run.folder / "sweep.json").unlink()
    moved = run.folder.rename(tmp_path / "elsewhere")
    assert load_run(moved).stage is Stage.OFFLINE
    assert load_policy(moved)(np.zeros((1, 2))).shape == (1, 5)
    (moved / "summary.json").write_text("[")
    with pytest.raises(UserError, match=r"summary\.json cannot be read"):
        load_run(moved)


@pytest.mark.parametrize(
    ("stage", "algorithm"),
    [("explore", "rnd"), ("explore", "dqn"), ("offline", "dqn"), ("finetune", "dqn")],
)
def test_an_agent_needs_only_its_config(room, tmp_path, stage, algorithm):
    (folder,) = room.run(stage, room.config(stage, algorithm, **ALGORITHMS[algorithm]))
    (tmp_path / "alone").mkdir()
    for name in ("config.yaml", "agent.pt"):
        (tmp_path / "alone" / name).write_bytes((folder / name).read_bytes())
    assert load_run(tmp_path / "alone").stage == stage
    expected = load_policy(folder)(OBSERVATIONS)
    for path in (tmp_path / "alone", tmp_path / "alone" / "agent.pt"):
        np.testing.assert_array_equal(load_policy(path)(OBSERVATIONS), expected)


def test_a_config_of_no_stage_is_refused(tmp_path):
    (tmp_path / "config.yaml").write_text("exp_name: a\nseed: 1\n")
    with pytest.raises(UserError, match=r"neither its name nor its summary\.json or config\.yaml"):
        load_run(tmp_path)


# Policies

OBSERVATIONS = np.random.default_rng(0).random((40, 2), dtype=np.float32)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, untraced):
    """A finished run of each algorithm."""
    lab = Lab(tmp_path_factory.mktemp("policies"))
    lab.save_data()
    folders = {}
    for algorithm, values in ALGORITHMS.items():
        stage = "explore" if algorithm in {"random", "rnd"} else "offline"
        config = lab.config(stage, algorithm, **values)
        (folders[algorithm],) = lab.run(stage, config)
    return folders


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_policy_says_what_its_agent_does(trained, algorithm):
    folder = trained[algorithm]
    policy = load_policy(folder)
    probabilities = policy(OBSERVATIONS)
    assert isinstance(probabilities, np.ndarray)
    assert probabilities.shape == (40, 5)
    np.testing.assert_allclose(probabilities.sum(1), 1.0, rtol=1e-6)
    if algorithm == "random":
        np.testing.assert_allclose(probabilities, 0.2)
        return
    stage = load_run(folder).stage
    (config,) = read_configs(stage, [folder / "config.yaml"])
    agent = make_agent(config)
    agent.load_state_dict(torch.load(folder / "agent.pt", weights_only=True))
    acted = [agent.get_action(one, 0.0) for one in OBSERVATIONS]
    assert probabilities.argmax(1).tolist() == acted
    assert set(probabilities.max(1)) == {1.0}
    np.testing.assert_array_equal(load_policy(folder / "agent.pt")(OBSERVATIONS), probabilities)
    assert policy(np.empty((0, 2))).shape == (0, 5)


@pytest.mark.parametrize("algorithm", ["rnd", "dqn", "cql"])
def test_epsilon_mixes_in_random_actions(trained, algorithm):
    """The greedy action has probability 1 - 0.5 + 0.5 / 5, each other one 0.5 / 5."""
    greedy = load_policy(trained[algorithm])(OBSERVATIONS)
    mixed = load_policy(trained[algorithm], epsilon=0.5)(OBSERVATIONS)
    np.testing.assert_allclose(mixed, np.where(greedy == 1, 0.6, 0.1), rtol=1e-6)


@pytest.mark.parametrize("algorithm", ["awac", "iql"])
def test_actors_that_explore_sample_their_distribution(trained, algorithm):
    probabilities = load_policy(trained[algorithm], epsilon=0.1)(OBSERVATIONS)
    assert probabilities.min() > 0
    greedy = load_policy(trained[algorithm])(OBSERVATIONS)
    assert (probabilities.argmax(1) == greedy.argmax(1)).all()


def test_agents_of_version_1_load(trained):
    """Its IQL also saved a target critic that it never read."""
    path = trained["iql"] / "agent.pt"
    before, expected = path.read_bytes(), load_policy(path)(OBSERVATIONS)
    state = torch.load(path, weights_only=True)
    critic = {k: x for k, x in state.items() if k.startswith("critic.")}
    state |= {f"target_{name}": torch.zeros_like(tensor) for name, tensor in critic.items()}
    try:
        torch.save(state, path)
        np.testing.assert_array_equal(load_policy(path)(OBSERVATIONS), expected)
    finally:
        path.write_bytes(before)


def test_weights_that_do_not_fit_are_refused(trained, room):
    (run,) = train(settings("dqn", training_steps=2), **QUICK)
    path = run.folder / "agent.pt"
    for content, said in (
        ((trained["iql"] / "agent.pt").read_bytes(), "do not fit"),
        (path.read_bytes()[:300], "cannot be read"),
        (b"", "cannot be read"),
    ):
        path.write_bytes(content)
        with pytest.raises(UserError, match=said):
            load_policy(run.folder)
    path.unlink()
    with pytest.raises(UserError, match="a run saves its agent when it finishes"):
        load_policy(run.folder)


def test_observations_and_epsilon_are_checked(trained):
    policy = load_policy(trained["dqn"])
    for wrong in (np.zeros(2), np.zeros((3, 4)), 0.0):
        with pytest.raises(ValueError, match=r"must have the shape \(n, 2\)"):
            policy(wrong)
    with pytest.raises(UserError, match="from 0 to 1"):
        load_policy(trained["dqn"], epsilon=1.5)


def test_an_agent_that_states_no_probabilities_is_asked_for_actions(trained, monkeypatch):
    class Stubborn:
        def get_action(self, observation, epsilon=0.0):
            return int(5 * observation[0])

    monkeypatch.setattr("cs285.training.policies.make_agent", lambda _: Stubborn())
    probabilities = load_policy(trained["dqn"])([[0.1, 0.0], [0.9, 0.0]])
    assert probabilities.tolist() == [[1, 0, 0, 0, 0], [0, 0, 0, 0, 1]]
