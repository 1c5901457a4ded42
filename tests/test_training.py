"""The training loop, run by the three scripts: what a run writes, alone or with others.

Runs are short and their networks small: what they learn does not matter here.
"""

import json
import random
from contextlib import ExitStack, redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
import yaml

from cs285.agents.iql_agent import IQLAgent
from cs285.datasets.dataset_files import FIELDS, Dataset, load_dataset, make_manifest, save_dataset
from cs285.env_configs import load_config
from cs285.envs.mazes import get_maze
from cs285.envs.planner import plan
from cs285.envs.pointmass import PointmassEnv
from cs285.envs.tasks import get_task
from cs285.homework import Stage
from cs285.results.run_folders import RunFolder
from cs285.results.run_summary import RunStatus
from cs285.scripts import training_flags
from cs285.training import programs, trainer
from cs285.training.policies import Policy
from cs285.training.program_recorder import ProgramRecorder
from cs285.training.rollouts import Evaluation
from cs285.training.run_recorder import RunRecorder
from cs285.training.runs import RunInfo, make_agent
from cs285.training.trainer import Trainer

EASY = "PointmassEasy-v0"
TOTAL_STEPS = {"explore": 60, "offline": 12, "finetune": 61}
EVALUATION_INTERVAL = {"explore": 20, "offline": 4, "finetune": 20}
STEPS = {
    "explore": {"total_steps": 60, "learning_starts": 20},
    "offline": {"training_steps": 12},
    "finetune": {"offline_steps": 6, "online_steps": 55},
}
OFFLINE = ("dqn", "cql", "awac", "iql")
RUNS = [
    *(("explore", algorithm) for algorithm in ("random", "rnd")),
    *((stage, algorithm) for stage in ("offline", "finetune") for algorithm in OFFLINE),
]
NETWORKS = {
    "rnd": {"rnd_hidden_size": 8, "hidden_size": 8},
    **{name: {"hidden_size": 8} for name in ("dqn", "cql")},
    **{name: {"hidden_size": 8, "actor_hidden_size": 8} for name in ("awac", "iql")},
    **{name: {"hidden_size": 8, "actor_hidden_size": 8} for name in ("sarsa", "brac")},
    "rcsl": {"actor_hidden_size": 8, "target_return": -14.0},
    "bcq": {"hidden_size": 8, "actor_hidden_size": 8, "learning_rate": 0.02},
    "awr": {"actor_hidden_size": 8, "value_hidden_size": 8},
    "bc": {"actor_hidden_size": 8},
    "filtered_bc": {"actor_hidden_size": 8, "keep_fraction": 0.5},
}


class Lab:
    """Runs the scripts in this process, in a separate folder.

    Args:
        root: The folder; data, datasets and pictures go below it.
        draws: Whether runs draw their pictures, which takes most of the time of a short run.
    """

    def __init__(self, root, *, draws=False):
        self.root = root
        self.draws = draws
        self.trainers = []
        """The trainers of the last call of `run`."""

    def config(self, stage, algorithm, name=None, **values):
        """Writes a YAML file for few steps on Easy with small networks."""
        path = self.root / f"{name or f'{stage}_{algorithm}'}.yaml"
        data = {} if stage == "explore" else {"dataset_name": "shared"}
        values = STEPS[stage] | NETWORKS.get(algorithm, {}) | data | values
        path.write_text(yaml.safe_dump({"base_config": algorithm, "env_name": EASY} | values))
        return path

    def run(self, stage, *configs, flags=()):
        """Runs a script on files; returns the new run folders in the order of the runs."""
        folders = {"data_dir": "data", "dataset_dir": "datasets", "visualization_dir": "pictures"}
        located = [x for flag, name in folders.items() for x in (f"--{flag}", self.root / name)]
        often = ["-neval", 2, "-ei", EVALUATION_INTERVAL[stage], "--log_interval", 2]
        defaults = [*often, "--compile", "off", *located]
        command = ["-cfg", *configs, "--no_gpu", *defaults, *flags]
        self.trainers = []

        def make_trainer(*arguments):
            self.trainers.append(Trainer(*arguments))
            return self.trainers[-1]

        with ExitStack() as patches:
            patches.enter_context(mock.patch.object(programs, "Trainer", make_trainer))
            if not self.draws:
                patches.enter_context(mock.patch.object(ProgramRecorder, "draw"))
                patches.enter_context(mock.patch.object(RunRecorder, "draw_learning_curve"))
            arguments = training_flags.make_parser(stage, "").parse_args(
                [str(word) for word in command]
            )
            training_flags.run(Stage(stage), arguments)
        return [
            recorder.folder.path
            for trainer in self.trainers
            for recorder in trainer.recorder.recorders
        ]

    def explored(self, name, seed=1):
        """Reads the arrays of a dataset that exploration wrote."""
        return load_dataset(self.root / "datasets" / f"{name}_seed{seed}.npz", EASY).arrays()

    def save_data(self, size=80, seed=1):
        """Writes the dataset that configs of the other two stages read; returns its path."""
        path = self.root / "datasets" / f"shared_seed{seed}.npz"
        path.parent.mkdir(exist_ok=True)
        save_dataset(path, random_walk(size, seed))
        return path


def random_walk(size, seed):
    """Collects a dataset with a single environment, one step after the other."""
    env, rng, rows = PointmassEnv(EASY), np.random.default_rng(seed), []
    observation, _ = env.reset(seed=seed)
    for action in rng.integers(0, 5, size):
        before = observation
        observation, reward, terminated, truncated, _ = env.step(action)
        rows.append((before, action, reward, observation, terminated, truncated))
        if terminated or truncated:
            observation, _ = env.reset()
    columns = zip(*rows, strict=True)
    arrays = {
        name: np.array(column, dtype=dtype)
        for (name, dtype), column in zip(FIELDS.items(), columns, strict=True)
    }
    return Dataset(**arrays, manifest=make_manifest(EASY, {}, seed, arrays))


def read_events(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0}).Reload()


def read_scalars(folder):
    """Reads every scalar as `{tag: [(step, value), ...]}`."""
    events = read_events(folder)
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def assert_similar_scalars(first, second):
    ours, theirs = read_scalars(first), read_scalars(second)
    assert ours.keys() == theirs.keys()
    for tag, series in ours.items():
        np.testing.assert_allclose(series, theirs[tag], rtol=1e-3, atol=1e-4, err_msg=tag)


def assert_same_arrays(first, second, tolerance=0.0):
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_allclose(first[name], second[name], rtol=0, atol=tolerance)


@pytest.fixture
def lab(tmp_path):
    return Lab(tmp_path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Trains on demand, once for all tests: `folder, trainer = finished("offline", "cql")`.

    `finished.said` has what each run printed.
    """
    lab = Lab(tmp_path_factory.mktemp("lab"), draws=True)
    lab.save_data()
    runs = {}

    def finished(stage, algorithm):
        if (stage, algorithm) not in runs:
            with redirect_stdout(StringIO()) as printed:
                (folder,) = lab.run(stage, lab.config(stage, algorithm))
            runs[stage, algorithm] = folder, lab.trainers[0]
            finished.said[stage, algorithm] = printed.getvalue()
        return runs[stage, algorithm]

    finished.lab, finished.said = lab, {}
    return finished


each_run = pytest.mark.parametrize(("stage", "algorithm"), RUNS)

# What a run writes

EVALUATION_TAGS = {"eval_return", "eval_ep_len"} | {
    f"eval/{name}_{what}" for name in ("return", "ep_len") for what in ("std", "max", "min")
}
CRITIC_TAGS = {"critic_loss", "q_values", "target_values", "grad_norm"}
IQL_TAGS = {"q_loss", "v_loss", "vs", "vs_adv", "q_grad_norm", "v_grad_norm", "actor_loss"}
LEARNING_TAGS = {
    "random": set(),
    "rnd": CRITIC_TAGS | {"rnd_loss"},
    "dqn": CRITIC_TAGS,
    "cql": CRITIC_TAGS,
    "awac": CRITIC_TAGS | {"actor_loss"},
    "iql": IQL_TAGS | {"q_values", "target_values"},
}


@each_run
def test_tensorboard_finds_the_agreed_tags(finished, stage, algorithm):
    expected = EVALUATION_TAGS | LEARNING_TAGS[algorithm] | {"phase"}
    if stage != "offline":
        expected |= {"train_return", "train_ep_len"}
        if algorithm != "random":
            expected.add("epsilon")
    scalars = read_scalars(finished(stage, algorithm)[0])
    assert scalars.keys() >= expected
    assert np.isfinite([value for series in scalars.values() for _, value in series]).all()


@each_run
def test_pictures_are_in_tensorboard_and_in_folders(finished, stage, algorithm):
    folder, _ = finished(stage, algorithm)
    images = read_events(folder).Tags()["images"]
    if stage == "explore":
        assert images == ["exploration_trajectories_eval"]
        png = finished.lab.root / "pictures" / f"explore_{algorithm}_seed1.png"
        assert png.read_bytes().startswith(b"\x89PNG")
    else:
        assert set(images) == {"trajectories_eval", "learning_curve"}
        assert {path.name for path in folder.glob("*.png")} == {
            "trajectories.png",
            "learning_curve.png",
        }


@each_run
def test_the_summary_says_what_the_events_say(finished, stage, algorithm):
    folder, _ = finished(stage, algorithm)
    summary = json.loads((folder / "summary.json").read_text())
    scalars = read_scalars(folder)
    returns = [value for _, value in scalars["eval_return"]]
    episodes = [value for _, value in scalars["eval/episodes"]]
    assert sum(episodes) < 100, "they all count"
    limits = plan(EASY)
    assert summary["final_return"] == pytest.approx(np.average(returns, weights=episodes))
    assert summary["best_return"] == pytest.approx(max(returns))
    assert summary["exact_return"] == pytest.approx(scalars["exact/return"][-1][1], rel=1e-6)
    assert summary["normalised_score"] == pytest.approx(
        (summary["exact_return"] - limits.random_return)
        / (limits.optimal_return - limits.random_return)
    )
    assert summary["total_steps"] == TOTAL_STEPS[stage]
    assert summary["wall_time_s"] > 0
    assert summary["versions"].keys() >= {"python", "torch", "numpy", "gymnasium"}
    assert "git_revision" in summary
    expected = {"script": stage, "algorithm": algorithm, "env_name": EASY, "status": "finished"}
    expected |= {"seed": 1, "exp_name": f"{stage}_{algorithm}"}
    assert {key: summary[key] for key in expected} == expected


@each_run
def test_the_resolved_config_is_in_the_run_folder(finished, stage, algorithm):
    folder, trainer = finished(stage, algorithm)
    assert load_config(folder / "config.yaml", stage) == trainer.program.runs[0].config


@pytest.mark.parametrize(("stage", "algorithm"), [run for run in RUNS if run[1] != "random"])
def test_the_saved_agent_acts_and_learns_like_the_trained_one(
    finished, make_batch, stage, algorithm
):
    folder, trainer = finished(stage, algorithm)
    config = trainer.program.runs[0].config
    initial = make_agent(config)
    restored = make_agent(config.model_copy(update={"seed": 9}))
    restored.load_state_dict(torch.load(folder / "agent.pt", weights_only=True))
    grid = np.stack(np.meshgrid(*[np.linspace(0, 1, 12)] * 2), axis=-1).reshape(1, -1, 2)
    greedy = trainer.learner.act(grid.astype(np.float32), np.zeros(1), np.zeros((1, 144)))[0]
    assert [restored.get_action(observation) for observation in grid[0]] == greedy.tolist()
    trained, batch = trainer.learner.agents[0], make_batch(7)
    objectives = (agent.objectives for agent in (restored, trained, initial))
    for ours, theirs, before in zip(*objectives, strict=True):
        inputs = [getattr(batch, name) for name in ours.inputs]
        assert torch.equal(ours.loss(*inputs)[0], theirs.loss(*inputs)[0])
        assert not torch.equal(ours.loss(*inputs)[0], before.loss(*inputs)[0])


def test_exploration_saves_every_transition_in_order(finished):
    finished("explore", "rnd")
    data = finished.lab.explored("explore_rnd")
    assert len(data["actions"]) == 60
    ended = data["terminated"] | data["truncated"]
    assert ended.any()
    goes_on = ~ended[:-1]
    np.testing.assert_array_equal(
        data["observations"][1:][goes_on], data["next_observations"][:-1][goes_on]
    )
    start = np.float32([0.1, 0.1])
    assert (data["observations"][1:][~goes_on] == start).all()


def test_train_returns_match_the_episodes_in_the_dataset(lab):
    (folder,) = lab.run("explore", lab.config("explore", "random", total_steps=130))
    data, scalars = lab.explored("explore_random"), read_scalars(folder)
    ends = np.flatnonzero(data["terminated"] | data["truncated"])
    episodes = np.split(data["rewards"], ends + 1)[:-1]
    assert len(episodes) >= 2
    assert scalars["train_return"] == [
        (end + 1, episode.sum()) for end, episode in zip(ends, episodes, strict=True)
    ]
    assert [length for _, length in scalars["train_ep_len"]] == [len(e) for e in episodes]


def test_coverage_is_that_of_the_transitions_so_far(finished):
    folder, _ = finished("explore", "rnd")
    data, scalars = finished.lab.explored("explore_rnd"), read_scalars(folder)
    assert [step for step, _ in scalars["coverage"]] == list(range(1, 61))
    walls = get_maze(EASY).walls
    size = np.array(walls.shape)
    for step, logged in scalars["coverage"]:
        visited = np.concatenate([data["observations"][:step], data["next_observations"][:step]])
        cells = {tuple(np.minimum(size - 1, np.floor(size * place)).tolist()) for place in visited}
        assert logged == pytest.approx(len(cells) / (~walls).sum())


@pytest.mark.parametrize("stage", ["offline", "finetune"])
def test_the_log_shows_how_many_transitions_learning_starts_from(finished, stage):
    folder, _ = finished(stage, "iql")
    assert read_scalars(folder)["dataset_transitions"] == [(1, 80)]


@pytest.mark.parametrize("stage", ["explore", "offline", "finetune"])
def test_every_evaluation_logs_what_the_policy_is_worth(finished, stage):
    folder, _ = finished(stage, "rnd" if stage == "explore" else "iql")
    scalars = read_scalars(folder)
    steps = [step for step, _ in scalars["eval_return"]]
    everywhere = {"return", "return_error", "normalised_score", "unseen", "shift"}
    of_values = {"overestimation", "q_error", "q_error_occupancy", "regret"}
    expected = everywhere if stage == "explore" else everywhere | of_values
    found = {tag.removeprefix("exact/") for tag in scalars if tag.startswith("exact/")}
    assert found == expected
    for tag in expected:
        assert [step for step, _ in scalars[f"exact/{tag}"]] == steps
    limit = get_maze(EASY).max_episode_steps
    for (_, exact), (_, error), (_, rolled), (_, spread), (_, count) in zip(
        *(
            scalars[tag]
            for tag in (
                "exact/return", "exact/return_error", "eval_return", "eval/return_std",
                "eval/episodes",
            )
        ),
        strict=True,
    ):  # fmt: skip
        assert -limit <= exact <= 0
        # A few episodes have a standard deviation that is itself a rough estimate.
        assert abs(exact - rolled) < 5 * (spread + 3) / count**0.5 + 3 * error


def test_an_agent_whose_outputs_are_not_numbers_has_no_exact_results(lab, capsys):
    lab.save_data()

    def broken(self, observations):
        return np.full((len(observations), 5), np.nan, np.float32)

    with mock.patch.object(Policy, "action_values", broken):
        (folder,) = lab.run("offline", lab.config("offline", "cql"))
    assert not [tag for tag in read_scalars(folder) if tag.startswith("exact/")]
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["status"], summary["exact_return"]) == ("finished", None)
    assert summary["normalised_score"] == pytest.approx(
        get_task(EASY).normalised_score(summary["final_return"])
    )
    lines = [x for x in capsys.readouterr().out.splitlines() if "no exact results" in x]
    assert len(lines) == 1
    assert lines[0].startswith("offline_cql_sd1: no exact results at step 4: the agent's outputs")


def test_the_final_return_is_that_of_the_last_hundred_episodes(tmp_path):
    info = RunInfo("offline", "dqn", EASY, "offline_dqn", 1, {})
    recorder = RunRecorder(info, tmp_path, total_steps=20)
    for step, count, value in ((10, 20, -50.0), (20, 100, -20.0)):
        recorder.log_evaluation(Evaluation(np.full(count, value), np.full(count, 20), []), step)
    recorder.write_summary(RunStatus.FINISHED, {})
    recorder.close()
    assert json.loads(recorder.folder.summary.read_text())["final_return"] == -20
    assert read_scalars(recorder.folder.path)["eval/episodes"] == [(10, 20), (20, 100)]


@each_run
def test_a_run_ends_with_a_line_on_its_result(finished, stage, algorithm):
    folder, _ = finished(stage, algorithm)
    summary = json.loads((folder / "summary.json").read_text())
    line = finished.said[stage, algorithm].splitlines()[-1]
    assert line.startswith(f"{stage}_{algorithm}_sd1: ")
    if stage == "explore":
        path = finished.lab.root / "datasets" / f"explore_{algorithm}_seed1.npz"
        assert line.endswith(f"goal reached {summary['goals_reached']} times; {path}")
        assert f"{summary['coverage']:.1%} of the free cells" in line
    else:
        assert line.endswith(f"at best {plan(EASY).optimal_return:.1f} is possible; {folder}")
        assert f"final return {summary['final_return']:.1f}," in line


# Phases


def test_the_phase_switches_at_the_first_online_step(finished):
    phase = dict(read_scalars(finished("finetune", "cql")[0])["phase"])
    assert phase.keys() >= {1, 6, 7, 61}
    assert phase == {step: float(step > 6) for step in phase}


def test_epsilon_and_episodes_are_logged_only_online(finished):
    scalars = read_scalars(finished("finetune", "cql")[0])
    assert min(step for step, _ in scalars["q_values"]) == 2
    assert min(step for step, _ in scalars["epsilon"]) == 8
    assert [step for step, _ in scalars["train_return"]] == [6 + 50]


def test_offline_training_takes_no_step_in_the_environment(finished):
    _, trainer = finished("offline", "cql")
    assert trainer.buffer.inserted.tolist() == [80]
    assert "train_return" not in read_scalars(finished("offline", "cql")[0])


def test_exploration_learns_only_after_its_warm_up(finished):
    scalars = read_scalars(finished("explore", "rnd")[0])
    assert [step for step, _ in scalars["rnd_loss"]] == list(range(22, 61, 2))


def test_evaluations_come_at_their_interval_and_at_the_end_of_each_phase(finished, lab):
    scalars = read_scalars(finished("finetune", "iql")[0])
    assert [step for step, _ in scalars["eval_return"]] == [6, 20, 40, 60, 61]
    lab.save_data()
    config = lab.config("finetune", "dqn", online_steps=5)
    (folder,) = lab.run("finetune", config, flags=["-ei", 4])
    assert [step for step, _ in read_scalars(folder)["eval_return"]] == [4, 6, 8, 11]


def test_pictures_mark_the_switch_to_online(finished):
    starts = [
        finished(stage, algorithm)[1].recorder.recorders[0].online_start
        for stage, algorithm in (("explore", "rnd"), ("offline", "dqn"), ("finetune", "dqn"))
    ]
    assert starts == [None, None, 6]


# Repeated, and with others


@pytest.mark.parametrize(("stage", "algorithm"), [("explore", "rnd"), ("finetune", "iql")])
def test_the_same_seed_twice_gives_the_same_data_and_scalars(finished, lab, stage, algorithm):
    lab.save_data()
    (folder,) = lab.run(stage, lab.config(stage, algorithm))
    first, trainer = finished(stage, algorithm)
    assert read_scalars(folder) == read_scalars(first)
    for field, expected in zip(lab.trainers[0].buffer.storage, trainer.buffer.storage, strict=True):
        assert torch.equal(field, expected)
    if stage == "explore":
        name = f"explore_{algorithm}"
        assert_same_arrays(lab.explored(name), finished.lab.explored(name))


def test_another_seed_gives_other_data(lab):
    config = lab.config("explore", "random")
    lab.run("explore", config, flags=["--seeds", 1, 2])
    first, second = (lab.explored("explore_random", seed) for seed in (1, 2))
    assert (first["actions"] != second["actions"]).any()
    assert (first["next_observations"] != second["next_observations"]).all()


def test_seeds_in_one_program_explore_what_they_explore_alone(lab):
    config = lab.config("explore", "random")
    together = lab.run("explore", config, flags=["--seeds", 1, 2, 3])
    for seed, folder in zip((1, 2, 3), together, strict=True):
        written = lab.explored("explore_random", seed)
        (alone,) = lab.run("explore", config, flags=["--seed", seed])
        assert_same_arrays(written, lab.explored("explore_random", seed))
        assert read_scalars(folder) == read_scalars(alone)


def test_seeds_in_one_program_learn_what_they_learn_alone_up_to_rounding(finished, lab):
    config = lab.config("explore", "rnd")
    _, with_others, _ = lab.run("explore", config, flags=["--seeds", 2, 1, 3])
    alone, _ = finished("explore", "rnd")
    assert_same_arrays(
        lab.explored("explore_rnd"), finished.lab.explored("explore_rnd"), tolerance=1e-6
    )
    assert_similar_scalars(with_others, alone)


def test_runs_of_one_program_may_have_data_of_different_lengths(lab):
    for seed, size in ((1, 30), (2, 80)):
        lab.save_data(size, seed)
    config = lab.config("offline", "dqn")
    together = lab.run("offline", config, flags=["--seeds", 1, 2])
    assert lab.trainers[0].buffer.sizes.tolist() == [30, 80]
    (alone,) = lab.run("offline", config, flags=["--seed", 1])
    assert_similar_scalars(together[0], alone)


def test_files_that_cannot_train_as_one_program_are_split(lab):
    lab.save_data()
    configs = [
        lab.config("offline", "cql", "a", cql_alpha=1.0),
        lab.config("offline", "dqn", "b"),
        lab.config("offline", "cql", "c", hidden_size=16),
        lab.config("offline", "cql", "d", cql_alpha=5.0),
    ]
    folders = lab.run("offline", *configs, flags=["--steps_fraction", 0.2])
    names = [[run.config.exp_name for run in trainer.program.runs] for trainer in lab.trainers]
    assert names == [["a", "d"], ["b"], ["c"]]
    assert len(set(folders)) == 4
    assert all((folder / "summary.json").is_file() for folder in folders)


def test_a_fraction_shortens_every_phase(lab):
    lab.save_data()
    lab.run("finetune", lab.config("finetune", "dqn"), flags=["--steps_fraction", 0.1])
    assert [phase.steps for phase in lab.trainers[0].program.phases] == [1, 6]


def test_a_batch_may_be_larger_than_the_data(lab):
    lab.save_data(3)
    (folder,) = lab.run("offline", lab.config("offline", "dqn", batch_size=500))
    assert np.isfinite([loss for _, loss in read_scalars(folder)["critic_loss"]]).all()


def test_a_dataset_for_all_seeds_serves_each(lab):
    path = lab.save_data()
    path.rename(path.with_name("shared.npz"))
    lab.run("offline", lab.config("offline", "dqn"), flags=["--seeds", 3, 4])
    assert lab.trainers[0].buffer.sizes.tolist() == [80, 80]


def test_a_run_can_read_the_dataset_of_another_seed(lab):
    lab.save_data(30, seed=1)
    lab.run("offline", lab.config("offline", "dqn", dataset_seed=1), flags=["--seed", 4])
    assert lab.trainers[0].buffer.sizes.tolist() == [30]


def test_initial_weights_depend_on_the_seed_of_the_run_alone(tmp_path):
    path = Lab(tmp_path).config("offline", "cql")

    def weights(seed):
        agent = trainer.make_agent(load_config(Path(path), "offline", {"seed": seed}))
        return torch.nn.utils.parameters_to_vector(agent.parameters())

    first = weights(1)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    assert torch.equal(weights(1), first)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(weights(2), first)


def drawing(make_agent, seen):
    """Makes agents that draw from every generator for each action, and record the draws."""

    def get_action(agent, observation, epsilon=0.0):
        del observation
        drawn = (
            float(torch.rand(())),
            float(torch.rand((), generator=agent.generator)),
            float(np.random.rand()),  # noqa: NPY002 - as students do
            random.random(),
        )
        seen.append((epsilon, drawn))
        return int(5 * sum(drawn)) % 5

    def make(config):
        agent = make_agent(config)
        agent.__class__ = type("Drawing", (type(agent),), {"get_action": get_action})
        return agent

    return make


def test_evaluating_an_agent_does_not_change_what_it_does(lab, monkeypatch):
    seen, data = [], []
    monkeypatch.setattr(trainer, "make_agent", drawing(trainer.make_agent, seen))
    config = lab.config("explore", "rnd", epsilon=0.5)
    for interval in (4, 60):
        lab.run("explore", config, flags=["-ei", interval])
        data.append(lab.explored("explore_rnd"))
    assert_same_arrays(*data)


@pytest.mark.parametrize("stage", ["explore", "offline"])
def test_each_evaluation_draws_separate_numbers(lab, monkeypatch, stage):
    lab.save_data()
    seen = []
    monkeypatch.setattr(trainer, "make_agent", drawing(trainer.make_agent, seen))
    algorithm = {"explore": "rnd", "offline": "iql"}[stage]
    lab.run(stage, lab.config(stage, algorithm, epsilon=0.5))
    assert {epsilon for epsilon, _ in seen} == ({0.0, 0.5} if stage == "explore" else {0.0})
    for numbers in zip(*(drawn for _, drawn in seen), strict=True):
        assert len(set(numbers)) > 0.99 * len(numbers)  # PyTorch's have 24 bits


def test_an_objective_with_a_period_is_logged_at_every_step(lab, monkeypatch):
    """Online, every call takes one update, which most of the time does not include it."""

    class Patient(IQLAgent):
        stackable = True

        @property
        def value_objective(self):
            return replace(super().value_objective, period=5)

    def make_patient(config):
        agent = make_agent(config)
        agent.__class__ = Patient
        return agent

    monkeypatch.setattr(trainer, "make_agent", make_patient)
    lab.save_data()
    config = lab.config("finetune", "iql", offline_steps=6, online_steps=6)
    (folder,) = lab.run("finetune", config, flags=["--log_interval", 1])
    curves = RunFolder(folder).read_log({"v_loss", "q_loss"}).curves
    assert curves["q_loss"].steps.tolist() == list(range(1, 13))
    # Logged from the first update of its own on; after that as often as the others.
    assert curves["v_loss"].steps.tolist()[-7:] == list(range(6, 13))
