"""Every key that a config accepts has an effect; the others are refused or named as ignored."""

import shutil
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
import yaml
from test_training import Lab

from cs285.env_configs.loading import load_config, load_sweep
from cs285.homework import STAGES, Stage, algorithms, keys_of_other_stages
from cs285.infrastructure.errors import UserError
from cs285.training import program_recorder
from cs285.training.rollouts import Evaluation

# Keys that say which run it is, and how long it lasts.
IDENTITY = {"base_config", "env_name", "exp_name", "dataset_name", "dataset_seed", "seed"}
FEW_STEPS = {
    Stage.EXPLORE: {"total_steps": 26, "learning_starts": 20},
    Stage.FINETUNE: {"offline_steps": 2, "online_steps": 8},
}
LEARN_FROM_WHOLE_EPISODES = {"filtered_bc", "awr", "rcsl"}
"""New transitions make no difference to these before their episode ends."""
UNTIL_AN_EPISODE_ENDS = {"online_steps": 53}
QUICK = ["-ei", 1_000, "-neval", 1]
OTHER_VALUES = {
    "learning_starts": 23, "num_exploration_steps": 23, "batch_size": 5, "epsilon": 1.0,
    "updates_per_step": 2, "discount": 0.5, "hidden_size": 7, "num_layers": 1, "input_scale": None,
    "learning_rate": 0.01, "target_update_period": 2, "clip_grad_norm": 0.001,
    "use_double_q": False, "rnd_weight": 3.0, "rnd_dim": 5, "rnd_hidden_size": 7,
    "rnd_num_layers": 1, "rnd_input_scale": 1.0, "rnd_learning_rate": 0.01, "use_reward": True,
    "cql_alpha": 2.0, "cql_temperature": 0.3, "temperature": 0.5, "actor_hidden_size": 7,
    "actor_num_layers": 1, "actor_learning_rate": 0.01, "expectile": 0.6, "value_hidden_size": 7,
    "value_num_layers": 1, "value_learning_rate": 0.01, "keep_fraction": 1.0, "threshold": 0.9,
    "target_return": -50.0,
    "divergence": "chi2", "placement": "reward", "divergence_weight": 3.0,
    "target_divergence": 0.01, "multiplier_learning_rate": 0.01,
}  # fmt: skip


def cases():
    """Each key of each algorithm, in the stage that reads most of its keys."""
    for name, algorithm in algorithms().items():
        stage = Stage.FINETUNE if Stage.FINETUNE in algorithm.stages else Stage.EXPLORE
        steps = STAGES[stage].step_keys
        unread = keys_of_other_stages(stage) | IDENTITY | set(steps)
        yield from (
            (stage, name, key) for key in algorithm.config.model_fields if key not in unread
        )


def unevaluated(learner, env_ids, seeds, episodes, step):
    return [Evaluation(np.zeros(episodes), np.ones(episodes, int), []) for _ in seeds]


@pytest.fixture(scope="module")
def lab(tmp_path_factory, untraced):
    """Its runs are not evaluated, which takes long and has no part in what they learn."""
    lab = Lab(tmp_path_factory.mktemp("lab"))
    lab.save_data(size=220)  # with several episodes that end
    with mock.patch.object(program_recorder, "evaluate", unevaluated):
        yield lab


def outcome(lab, stage, algorithm, **values):
    """Returns what a short run learned and collected."""
    config = lab.config(stage, algorithm, **(FEW_STEPS[stage] | values))
    (folder,) = lab.run(stage, config, flags=QUICK)
    left = {}
    if (folder / "agent.pt").exists():
        state = torch.load(folder / "agent.pt", weights_only=True)
        left = {name: tensor.numpy().tobytes() for name, tensor in state.items()}
    if stage == Stage.EXPLORE:
        arrays = lab.explored(f"{stage}_{algorithm}")
        left |= {name: np.asarray(array).tobytes() for name, array in arrays.items()}
    shutil.rmtree(lab.root / "data")
    return left


@pytest.fixture(scope="module")
def usual(lab):
    """Outcomes with the usual values, made when they are first asked for."""
    found = {}

    def usual(stage, algorithm):
        if algorithm not in found:
            found[algorithm] = outcome(lab, stage, algorithm)
        return found[algorithm]

    return usual


@pytest.mark.parametrize(("stage", "algorithm", "key"), list(cases()))
def test_a_key_changes_what_a_run_learns_or_collects(lab, usual, stage, algorithm, key):
    # Agents with an actor sample it whenever epsilon is above 0.
    samples = (
        key == "epsilon" and "actor_hidden_size" in algorithms()[algorithm].config.model_fields
    )
    value = 0.0 if samples else OTHER_VALUES[key]
    if key == "multiplier_learning_rate":  # of a multiplier that is learned
        expected = outcome(lab, stage, algorithm, target_divergence=0.01)
        found = outcome(lab, stage, algorithm, target_divergence=0.01, **{key: value})
    elif key in {"epsilon", "target_return"} and algorithm in LEARN_FROM_WHOLE_EPISODES:
        expected = outcome(lab, stage, algorithm, **UNTIL_AN_EPISODE_ENDS)
        found = outcome(lab, stage, algorithm, **UNTIL_AN_EPISODE_ENDS, **{key: value})
    else:
        expected = usual(stage, algorithm)
        found = outcome(lab, stage, algorithm, **{key: value})
    assert expected
    assert found != expected


# Keys without effect


@pytest.fixture
def read(tmp_path, capsys):
    """Reads a file of these lines; returns its configs and what was printed about it."""

    def read(algorithm, stage, name="run.yaml", **values):
        path = tmp_path / name
        values = {"base_config": algorithm, "env_name": "PointmassEasy-v0"} | values
        path.write_text(yaml.safe_dump(values))
        return load_sweep(path, stage), capsys.readouterr().err

    return read


@pytest.mark.parametrize("key", ["batch_size", "epsilon", "updates_per_step"])
def test_random_refuses_the_keys_of_agents_that_learn(read, key):
    with pytest.raises(UserError, match=f"unknown key `{key}`, which is for rnd, dqn, cql, awac"):
        read("random", "explore", **{key: 1})


def test_a_sweep_over_a_key_without_effect_is_refused(read):
    with pytest.raises(UserError, match="cannot sweep over 'batch_size'"):
        read("random", "explore", sweep={"batch_size": [1, 2]})
    with pytest.raises(UserError, match="cannot sweep over 'use_double_q'"):
        read("awac", "offline", sweep={"use_double_q": [True, False]})


@pytest.mark.parametrize(
    ("algorithm", "stage"), [("random", "explore"), ("awac", "offline"), ("iql", "finetune")]
)
def test_the_key_that_starter_files_set_for_any_algorithm_is_named_and_ignored(
    read, algorithm, stage
):
    (config,), said = read(algorithm, stage, use_double_q=True)
    assert said == f"`use_double_q` has no effect for `{algorithm}`; ignored\n"
    assert "use_double_q" not in config.model_dump()


def test_a_sweep_names_an_ignored_key_once(read):
    configs, said = read("iql", "offline", use_double_q=False, sweep={"seed": [1, 2, 3]})
    assert len(configs) == 3
    assert said.count("\n") == 1


@pytest.mark.parametrize("algorithm", ["rnd", "dqn", "cql"])
def test_algorithms_with_a_double_estimator_read_its_key(read, algorithm):
    stage = "explore" if algorithm == "rnd" else "offline"
    (config,), said = read(algorithm, stage, use_double_q=False)
    assert not said
    assert config.use_double_q is False


@pytest.mark.parametrize(
    ("stage", "key", "value"),
    [
        ("explore", "dataset_seed", 3),
        ("offline", "epsilon", 0.1),
        ("offline", "updates_per_step", 2),
    ],
)
def test_a_key_that_the_stage_does_not_read_is_named(read, stage, key, value):
    _, said = read("dqn", stage, **{key: value})
    assert said == f"`{key}` has no effect in run_hw5_{stage}.py; ignored\n"


# Files of the public starter, and of version 1.0


STARTER_FILES = {
    "random": ("explore", {"total_steps": 30, "discount": 0.95}),
    "rnd": (
        "explore",
        {"total_steps": 30, "rnd_weight": 50.0, "rnd_dim": 5, "rnd_network_size": 400},
    ),
    "dqn": ("offline", {"training_steps": 30, "total_steps": 30, "learning_starts": 5}),
    "cql": ("finetune", {"total_steps": 30, "offline_steps": 10, "training_steps": 20}),
    "awac": ("offline", {"training_steps": 30, "temperature": 10.0, "actor_hidden_size": 128}),
    "iql": (
        "offline",
        {"training_steps": 30, "expectile": 0.99, "temperature": 10.0, "value_hidden_size": 32},
    ),
}
LEARNED = {
    "hidden_size": 64, "num_layers": 2, "learning_rate": 1e-3,
    "discount": 0.95, "target_update_period": 300, "use_double_q": True, "clip_grad_norm": None,
}  # fmt: skip
ADDED = {"cql": {"cql_alpha": 1.0, "cql_temperature": 1.0}, "rnd": {"learning_starts": 20}}
NOTES = {
    "random": ["`clip_grad_norm`, `discount`, `hidden_size`, `learning_rate`, "],
    "rnd": ["`rnd_network_size` is called `rnd_hidden_size` here"],
    "dqn": ["`learning_starts` and `total_steps` have no effect in run_hw5_offline.py; ignored"],
    "cql": [
        "`total_steps` counts offline and online steps together here: `online_steps` is 20 (30 ",
        "`training_steps` has no effect in run_hw5_finetune.py; ignored",
    ],
    "awac": ["`use_double_q` has no effect for `awac`; ignored", "`temperature: 10` divides"],
    "iql": ["`use_double_q` has no effect for `iql`; ignored", "`temperature: 10` divides"],
}


@pytest.mark.parametrize("algorithm", STARTER_FILES)
def test_the_keys_of_the_starters_files_are_read_and_what_differs_is_said(read, algorithm):
    stage, values = STARTER_FILES[algorithm]
    values = values | LEARNED | ADDED.get(algorithm, {})
    (config,), said = read(algorithm, stage, dataset_name="pointmass_easy_rnd", **values)
    lines = said.splitlines()
    assert len(lines) == len(NOTES[algorithm])
    for line, start in zip(lines, NOTES[algorithm], strict=True):
        assert line.startswith(start)
    kept = config.model_dump()
    assert kept.get("rnd_hidden_size", 400) == 400
    of_a_stage = {"total_steps", "training_steps", "learning_starts"}
    for key in values.keys() & kept.keys() - of_a_stage:
        assert kept[key] == values[key]


def test_a_key_under_both_of_its_names_is_refused(read):
    with pytest.raises(UserError, match="`rnd_network_size` is the same as `rnd_hidden_size`"):
        read("rnd", "explore", rnd_network_size=3, rnd_hidden_size=3)


def test_a_sweep_knows_the_names_of_the_starter_and_its_total_steps(read):
    configs, said = read("rnd", "explore", sweep={"rnd_network_size": [4, 5]})
    assert [config.rnd_hidden_size for config in configs] == [4, 5]
    assert said == "`rnd_network_size` is called `rnd_hidden_size` here\n"
    configs, _ = read("cql", "finetune", total_steps=50, sweep={"offline_steps": [10, 20]})
    assert [(one.offline_steps, one.online_steps) for one in configs] == [(10, 40), (20, 30)]
    configs, _ = read("cql", "finetune", offline_steps=10, sweep={"total_steps": [30, 40]})
    assert [(one.offline_steps, one.online_steps) for one in configs] == [(10, 20), (10, 30)]
    with pytest.raises(UserError, match=r"`training_steps` is for run_hw5_offline\.py"):
        read("cql", "finetune", offline_steps=10, sweep={"training_steps": [30, 40]})
    with pytest.raises(UserError, match=r"`total_steps` is for run_hw5_explore\.py"):
        read("cql", "finetune", online_steps=10, sweep={"total_steps": [30, 40]})


def test_a_temperature_that_fits_the_formula_needs_no_words(read):
    for values in ({"temperature": 1.0}, {}, {"sweep": {"temperature": [0.1, 10.0]}}):
        assert not read("awac", "offline", **values)[1]
    (config,), said = read("awac", "offline", temperature=10)
    assert config.temperature == 10
    assert said.endswith("for the IQL paper's inverse temperature 10, write `temperature: 0.1`\n")


def test_total_steps_of_a_starter_file_for_fine_tuning_counts_both_phases(read):
    (config,), said = read("cql", "finetune", total_steps=100_000, offline_steps=30_000)
    assert (config.offline_steps, config.online_steps) == (30_000, 70_000)
    assert "`online_steps` is 70,000" in said


@pytest.mark.parametrize("offline_steps", [100, 101])
def test_total_steps_that_leave_nothing_to_do_online_are_refused(read, offline_steps):
    with pytest.raises(UserError, match="must be larger than `offline_steps`"):
        read("cql", "finetune", total_steps=100, offline_steps=offline_steps)


# The relevant part of a run folder of version 1.0.
SAVED = {
    "random": {
        "dataset_seed": None, "seed": 4, "total_steps": 700, "batch_size": 128, "discount": 0.98,
        "epsilon": 0.3, "learning_starts": 35, "updates_per_step": 1,
    },
    "awac": {
        "dataset_seed": None, "seed": 4, "training_steps": 700, "batch_size": 128, "epsilon": 0.3,
        "updates_per_step": 1, "use_double_q": True, "temperature": 0.2,
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("algorithm", "stage", "dropped"),
    [
        ("random", "explore", "`batch_size`, `discount`, `epsilon` and `updates_per_step` have"),
        ("awac", "offline", "`use_double_q` has"),
    ],
)
def test_the_saved_config_of_an_older_run_loads_and_names_what_it_drops(
    read, algorithm, stage, dropped
):
    values = SAVED[algorithm] | {"exp_name": "x", "dataset_name": "y"}
    (config,), said = read(algorithm, stage, "config.yaml", **values)
    assert said == f"{dropped} no effect for `{algorithm}`; ignored\n"
    kept = config.model_dump()
    assert all(kept[key] == value for key, value in values.items() if key in kept)


def test_a_misspelt_key_of_a_saved_config_is_still_an_error(read):
    with pytest.raises(UserError, match=r"did you mean `temperature`\?"):
        read("awac", "offline", "config.yaml", temprature=0.1)


def test_notes_are_left_to_a_caller_who_asks_for_them(tmp_path, capsys):
    path = Path(tmp_path, "run.yaml")
    path.write_text("base_config: iql\nenv_name: PointmassEasy-v0\nuse_double_q: true\n")
    notes = []
    load_config(path, "offline", notes=notes)
    assert notes == ["`use_double_q` has no effect for `iql`; ignored"]
    assert not capsys.readouterr().err
