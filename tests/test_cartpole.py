"""CartPole-v1 represents every Gymnasium environment that is not a maze of the homework."""

import json
import re
import sys
from unittest import mock

import numpy as np
import pytest
import torch
import yaml
from test_resume import Interrupted, outcome
from test_training import Lab, read_scalars

from cs285.compiling.compiled_update import CompiledUpdate
from cs285.datasets.dataset_files import load_dataset
from cs285.env_configs import load_config
from cs285.homework import Stage
from cs285.infrastructure.errors import UserError
from cs285.learning.ensemble import Ensemble
from cs285.report import build
from cs285.results.summaries import format_results, read_summaries
from cs285.scripts import training_flags
from cs285.training.runs import make_agent

pytestmark = pytest.mark.usefixtures("untraced")

CARTPOLE = "CartPole-v1"
LEARNERS = ("dqn", "cql", "awac", "iql")
NEEDS_A_MAZE = {"eval/normalised_score", "coverage", "goals_reached"}


def needing_a_maze(tags):
    """Return the tags that only a task with a known optimum or known transitions can have."""
    return {tag for tag in tags if tag in NEEDS_A_MAZE or tag.startswith("exact/")}


class CartPoleLab(Interrupted):
    """Writes configs for CartPole, whose dataset the random agent collects first."""

    def config(self, stage, algorithm, name=None, **values):
        few = {"updates_per_step": 1} if algorithm == "rnd" else {}
        return super().config(stage, algorithm, name, **{"env_name": CARTPOLE} | few | values)

    def run(self, stage, *configs, flags=(), stops=()):
        # An evaluation takes longer than in a maze, where the environments step together.
        return super().run(stage, *configs, flags=["-ei", 20, *flags], stops=stops)

    def collect(self, seeds=(1,), steps=90):
        config = self.config("explore", "random", total_steps=steps, dataset_name="shared")
        Lab.run(self, "explore", config, flags=["-ei", steps, "--seeds", *seeds])
        for folder in (self.root / "data").iterdir():
            folder.rename(self.root / f"explored_{folder.name}")


@pytest.fixture
def lab(tmp_path):
    lab = CartPoleLab(tmp_path)
    lab.collect(seeds=(1, 2))
    return lab


def dataset(lab, name, seed=1):
    return load_dataset(lab.root / "datasets" / f"{name}_seed{seed}.npz", CARTPOLE)


# What a run writes


@pytest.mark.parametrize(
    ("algorithm", "values"),
    [
        ("random", {}),
        ("rnd", {}),
        ("rnd", {"use_reward": True}),
        ("rnd", {"num_exploration_steps": 30}),
        ("dqn", {}),
    ],
)
def test_cartpole_is_explored(lab, algorithm, values):
    (folder,) = lab.run("explore", lab.config("explore", algorithm, "trial", **values))
    scalars = read_scalars(folder)
    assert {"eval_return", "train_return", "train_ep_len"} <= scalars.keys()
    assert not needing_a_maze(scalars)
    data = dataset(lab, "trial")
    assert (data.observations.shape, data.actions.max()) == ((60, 4), 1)
    assert (data.rewards == 1).all()
    # Within an episode, the next observation is where the next transition starts.
    continues = ~(data.terminated | data.truncated)[:-1]
    np.testing.assert_array_equal(
        data.next_observations[:-1][continues], data.observations[1:][continues]
    )
    # After 12 degrees or 2.4 units an episode ends, and only then.
    far = (np.abs(data.next_observations[:, 0]) > 2.4) | (
        np.abs(data.next_observations[:, 2]) > 12 * 2 * np.pi / 360
    )
    np.testing.assert_array_equal(data.terminated, far)
    assert data.terminated.any()
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["optimal_return"] is summary["normalised_score"] is None
    assert not {"coverage", "goals_reached"} & summary.keys()
    assert not list(lab.root.glob("pictures/*"))


@pytest.mark.parametrize("algorithm", LEARNERS)
def test_cartpole_is_learned_offline_in_a_compiled_sweep_as_alone(lab, algorithm):
    config = lab.config("offline", algorithm)
    seen = []
    call = CompiledUpdate.__call__

    def noted(self, *arguments):
        seen.append(self)
        return call(self, *arguments)

    with mock.patch.object(CompiledUpdate, "__call__", noted):
        together = lab.run("offline", config, flags=["--seeds", 1, 2, "--compile", "on"])
    assert seen, "nothing was compiled"
    assert len(lab.trainers) == 1, "both seeds train as one program"
    (alone,) = lab.run("offline", config, flags=["--seed", 2])
    one, other = read_scalars(together[1]), read_scalars(alone)
    assert one.keys() == other.keys()
    assert not needing_a_maze(one)
    for tag in ("eval_return", "q_values", "critic_loss", "q_loss"):
        np.testing.assert_allclose(one.get(tag, []), other.get(tag, []), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("algorithm", LEARNERS)
def test_cartpole_is_fine_tuned(lab, algorithm):
    (folder,) = lab.run("finetune", lab.config("finetune", algorithm))
    scalars = read_scalars(folder)
    assert {"eval_return", "train_return"} <= scalars.keys()
    assert not needing_a_maze(scalars)
    buffer = lab.trainers[0].buffer
    assert buffer.inserted.tolist() == [90 + 55]
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["status"], summary["normalised_score"]) == ("finished", None)


def test_learning_improves_on_the_data(tmp_path):
    lab = CartPoleLab(tmp_path)
    lab.collect(steps=1_500)
    config = lab.config("offline", "cql", training_steps=800, hidden_size=32, learning_rate=0.003)
    (folder,) = lab.run("offline", config, flags=["-ei", 200, "-neval", 10])
    data = dataset(lab, "shared")
    mean_length = len(data) / (data.terminated.sum() + 1)
    # Returns flicker; those of a random policy would stay within a few steps of the mean.
    assert max(value for _, value in read_scalars(folder)["eval_return"]) > 2 * mean_length


def test_mazes_and_cartpole_train_in_one_sweep(lab):
    maze = lab.config("explore", "rnd", "maze", env_name="PointmassEasy-v0")
    pole = lab.config("explore", "rnd", "pole")
    folders = lab.run("explore", maze, pole)
    assert len(lab.trainers) == 2
    tags = [read_scalars(folder).keys() for folder in folders]
    assert tags[0] - tags[1] == needing_a_maze(tags[0]) > NEEDS_A_MAZE
    assert not needing_a_maze(tags[1])


# Resuming

CASES = [
    ("explore", ["rnd"], [7, 33, 50], []),
    ("explore", ["random"], [30], ["--seeds", "1", "2"]),
    ("offline", ["iql"], [5], []),
    ("finetune", ["dqn"], [3, 20, 40], []),
    ("finetune", ["cql"], [31], ["--seeds", "1", "2", "--compile", "on"]),
]


@pytest.mark.parametrize(("stage", "algorithms", "stops", "flags"), CASES)
def test_a_resumed_run_ends_as_the_uninterrupted_one(tmp_path, stage, algorithms, stops, flags):
    results = []
    for name, own_stops in (("calm", []), ("stormy", stops)):
        lab = CartPoleLab(tmp_path / name)
        lab.root.mkdir()
        lab.collect(seeds=(1, 2))
        configs = [lab.config(stage, algorithm) for algorithm in algorithms]
        lab.run(stage, *configs, flags=flags, stops=own_stops)
        results.append(outcome(lab))
    assert results[0] == results[1]


def test_an_environment_that_has_changed_is_not_resumed(lab):
    from gymnasium.envs.classic_control import CartPoleEnv

    config = lab.config("explore", "random", "trial")
    lab.stop(30, "explore", config)
    original = CartPoleEnv.__init__

    def heavier(self, *arguments, **options):
        original(self, *arguments, **options)
        self.gravity = 20.0

    with (
        mock.patch.object(CartPoleEnv, "__init__", heavier),
        pytest.raises(UserError, match="CartPole-v1 cannot be resumed"),
    ):
        lab.resume("explore")
    lab.resume("explore")


# Tables, reports and pictures


def test_tables_and_reports_do_without_an_optimum(lab, tmp_path):
    lab.draws = True
    Lab.run(lab, "explore", lab.config("explore", "rnd", "seen"))
    Lab.run(lab, "offline", lab.config("offline", "dqn", "learned"))
    (learned,) = (lab.root / "data").glob("*learned*")
    assert {path.name for path in learned.glob("*.png")} == {"learning_curve.png"}
    summaries, problems = read_summaries(lab.root / "data")
    assert not problems
    table = format_results(summaries)
    assert "CartPole-v1" in table
    assert not re.search("optimum|score|coverage|goals", table)
    build.build(lab.root / "data", tmp_path / "report")
    page = (tmp_path / "report" / "index.html").read_text()
    assert "On CartPole-v1 DQN ended at" in page
    assert "the optimum" not in page
    assert "best possible policy" not in page


# Names and datasets


def test_learning_reads_by_default_what_rnd_explored(tmp_path):
    path = tmp_path / "pole.yaml"
    path.write_text(yaml.safe_dump({"base_config": "cql", "env_name": CARTPOLE}))
    assert load_config(path, "offline").dataset_name == "cartpole_rnd"


@pytest.mark.parametrize(
    ("name", "place", "value", "reason"),
    [
        ("observations", (3, 1), np.nan, "observations must be finite"),
        ("observations", (3, 1), np.inf, "observations must be finite"),
        ("next_observations", (0, 0), -np.inf, "next_observations must be finite"),
        ("actions", (2,), 2, "actions must be from 0 to 1"),
    ],
)
def test_a_dataset_stays_within_the_spaces(lab, name, place, value, reason):
    data = dataset(lab, "shared")
    # Velocities are unbounded, and positions up to 4.8 may be beyond their bounds.
    data.observations[0, 1] = data.observations[0, 3] = 1e30
    data.next_observations[1, 0] = 5.0
    type(data)(**data.arrays(), manifest=data.manifest)
    data.arrays()[name][place] = value
    with pytest.raises(ValueError, match=reason):
        type(data)(**data.arrays(), manifest=data.manifest)


def test_data_of_another_environment_are_refused(lab):
    with pytest.raises(UserError, match="collected in 'CartPole-v1', not in 'PointmassEasy-v0'"):
        lab.run("offline", lab.config("offline", "cql", env_name="PointmassEasy-v0"))


# Networks


def test_networks_see_bounded_coordinates_rescaled(lab):
    config = load_config(lab.config("offline", "dqn", input_scale=2.0), "offline")
    agent = make_agent(config)
    rescaled = agent.critic.net[0](torch.tensor([[4.8, 7.0, -0.41887903, -9.0]]))
    torch.testing.assert_close(rescaled, torch.tensor([[2.0, 7.0, -2.0, -9.0]]))
    # The bounds are those of the environment and are not saved with the weights.
    assert not [name for name in agent.state_dict() if "centre" in name or "stretch" in name]


def test_rnd_draws_no_map_of_four_dimensions(lab):
    agent = make_agent(load_config(lab.config("explore", "rnd"), "explore"))
    assert agent.num_aux_plots() == 0


def test_stacked_agents_share_the_bounds(lab):
    agents = [
        make_agent(load_config(lab.config("offline", "iql"), "offline", {"seed": seed}))
        for seed in (1, 2)
    ]
    rng = np.random.default_rng(0)
    observations = (rng.uniform(-1, 1, (2, 50, 4)) * [4.8, 5, 0.4, 5]).astype(np.float32)
    actions = Ensemble(agents).act(observations, np.zeros(2), rng.random((2, 50)))
    for k, agent in enumerate(agents):
        greedy = agent.action_probabilities(torch.from_numpy(observations[k]), torch.tensor(0.0))
        assert actions[k].tolist() == greedy.argmax(-1).tolist()
    assert set(actions.ravel()) == {0, 1}


# Bad input


@pytest.mark.parametrize(
    ("env_id", "reason"),
    [
        ("Pendulum-v1", "agents here need Discrete"),
        ("FrozenLake-v1", "agents here need a flat Box"),
        ("CartPole-v8", "did you mean `CartPole-v"),
        ("LunarLander-v3", "needs a package that is not installed"),
    ],
)
@pytest.mark.parametrize("stage", Stage)
def test_other_environments_are_refused_before_anything_is_written(
    tmp_path, monkeypatch, capsys, stage, env_id, reason
):
    monkeypatch.chdir(tmp_path)
    algorithm = "random" if stage == "explore" else "dqn"
    (tmp_path / "run.yaml").write_text(f"base_config: {algorithm}\nenv_name: {env_id}\n")
    monkeypatch.setattr(sys, "argv", ["script", "-cfg", "run.yaml"])
    with pytest.raises(SystemExit) as stopped:
        training_flags.main(stage, "")
    said = capsys.readouterr().err
    assert stopped.value.code == 2
    assert said.startswith("error: run.yaml: `env_name`: ")
    assert reason in said
    assert said.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["run.yaml"]
