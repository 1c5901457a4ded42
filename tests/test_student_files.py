"""Agent files written against the assignment's interface work next to the package's own.

The files in `student_files/` know the two methods that the assignment asks for, its constructor
signatures and its helpers, and nothing of objectives, ensembles or streams.
"""

import importlib
import shutil
import sys
from pathlib import Path

import pytest
import torch
import yaml

import cs285.agents
from cs285.env_configs.loading import make_config
from cs285.homework import Stage
from cs285.learning.agent_loop import AgentLoop
from cs285.learning.ensemble import Ensemble
from cs285.learning.learner import make_learner
from cs285.scripts import training_flags
from cs285.training.runs import make_agent

pytestmark = pytest.mark.usefixtures("untraced")

FOLDER = Path(__file__).parent / "student_files"
ALGORITHMS = ("random", "rnd", "dqn", "cql", "awac", "iql")
MODULES = [f"cs285.agents.{name}_agent" for name in (*ALGORITHMS, "two_critic_rnd")]
OFFLINE = ("dqn", "cql", "awac", "iql")
MIXES = [*((name,) for name in ALGORITHMS), ("awac", "iql"), ("dqn", "rnd"), ALGORITHMS]


@pytest.fixture
def drop_in(tmp_path, monkeypatch):
    """Puts student files in place of the package's own: `drop_in("dqn", "cql")`."""
    folder = tmp_path / "agents"
    folder.mkdir()
    monkeypatch.setattr(cs285.agents, "__path__", [str(folder), *cs285.agents.__path__])
    kept = {name: module for name, module in sys.modules.items() if name in MODULES}

    def forget():
        for module in MODULES:
            sys.modules.pop(module, None)

    def drop(*names):
        for name in names:
            shutil.copy(FOLDER / f"{name}_agent.py", folder)
        importlib.invalidate_caches()
        forget()

    yield drop
    forget()
    sys.modules.update(kept)


def build(name, seed=1):
    values = {"base_config": name, "env_name": "PointmassEasy-v0", "seed": seed}
    return make_agent(make_config(values, Path("test.yaml"), "offline"))


def train(tmp_path, stage, name, **values):
    """Runs one script on one config with few steps; returns the tags that it logged."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = tmp_path / f"{stage}_{name}.yaml"
    fixed = {"base_config": name, "env_name": "PointmassEasy-v0", "dataset_name": "shared"}
    config.write_text(yaml.safe_dump(fixed | values), encoding="utf-8")
    flags = {
        "--dataset_dir": "datasets",
        "--data_dir": f"data/{stage}_{name}",
        "--visualization_dir": "pictures",
    }
    located = [text for flag, folder in flags.items() for text in (flag, str(tmp_path / folder))]
    arguments = training_flags.make_parser(stage, "").parse_args(
        ["-cfg", str(config), "-ngpu", "-neval", "2", "--log_interval", "5", *located]
    )
    training_flags.run(Stage(stage), arguments)
    (folder,) = (tmp_path / "data" / f"{stage}_{name}").iterdir()
    events = EventAccumulator(str(folder))
    events.Reload()
    return set(events.Tags()["scalars"])


@pytest.mark.parametrize("mix", MIXES, ids="+".join)
def test_every_agent_learns_next_to_the_students_files(drop_in, make_batch, mix):
    drop_in(*mix)
    for name in ALGORITHMS:
        agents = [build(name, seed) for seed in (1, 2)]
        learner = make_learner(agents)
        for step in range(1, 4):
            metrics = learner.update(make_batch(2, 7, seed=step), step)
        learner.sync_agents()
        assert all(torch.isfinite(value).all() for value in metrics.values()), name
        assert (name == "random") == (metrics == {})
        for agent in agents:
            assert agent.get_action(make_batch(1).observations[0].numpy(), 0.3) in range(5)


@pytest.mark.parametrize("mix", MIXES, ids="+".join)
def test_only_what_the_student_did_not_touch_is_stacked(drop_in, mix):
    drop_in(*mix)
    parents = {"cql": "dqn", "awac": "dqn", "rnd": "dqn", "iql": "awac"}
    for name in ALGORITHMS:
        lineage = [name]
        while lineage[-1] in parents:
            lineage.append(parents[lineage[-1]])
        # Random has nothing to train, so there is nothing to stack.
        plain = name == "random" or set(lineage) & set(mix)
        expected = AgentLoop if plain else Ensemble
        assert type(make_learner([build(name)])) is expected, name


def test_the_students_class_is_the_one_that_runs(drop_in, tmp_path):
    drop_in("cql")
    files = {name: Path(sys.modules[type(build(name)).__module__].__file__) for name in ALGORITHMS}
    assert files["cql"].parent == tmp_path / "agents"
    assert all(
        path.parent == Path(cs285.__path__[0]) / "agents"
        for name, path in files.items()
        if name != "cql"
    )


def test_six_student_files_go_through_all_three_scripts(drop_in, tmp_path):
    drop_in(*ALGORITHMS)
    assert "eval_return" in train(tmp_path, "explore", "random", total_steps=30)
    tags = train(tmp_path, "explore", "rnd", total_steps=60, learning_starts=20)
    assert {"eval_return", "rnd_loss", "critic_loss", "q_values", "grad_norm", "epsilon"} <= tags
    for name in OFFLINE:
        tags = train(tmp_path, "offline", name, training_steps=10)
        assert {"eval_return", "q_values", "target_values"} <= tags
    tags = train(tmp_path, "finetune", "iql", offline_steps=10, online_steps=10)
    assert {"q_loss", "v_loss", "vs", "vs_adv", "actor_loss", "phase"} <= tags


@pytest.mark.parametrize("mix", [("rnd",), ("dqn",), ("dqn", "rnd")], ids="+".join)
def test_student_files_explore_with_a_second_critic(drop_in, tmp_path, mix):
    drop_in(*mix)
    steps = {"total_steps": 60, "learning_starts": 20, "num_exploration_steps": 40}
    tags = train(tmp_path, "explore", "rnd", **steps)
    assert {"eval_return", "rnd_loss", "critic_loss", "exploitation_critic_loss"} <= tags


@pytest.mark.parametrize("name", OFFLINE)
def test_a_students_update_and_ours_agree(drop_in, make_batch, name):
    """One update from the same weights on the same batch moves them to the same place."""
    ours = build(name)
    drop_in(*OFFLINE)
    theirs = build(name)
    assert type(theirs) is not type(ours)
    shared = theirs.state_dict().keys() & ours.state_dict().keys()
    assert len(shared) > 6
    theirs.load_state_dict({key: ours.state_dict()[key] for key in shared}, strict=False)
    batch = make_batch(7)
    for agent in (ours, theirs):
        agent.update(*batch, 1)
    for key in shared:
        torch.testing.assert_close(ours.state_dict()[key], theirs.state_dict()[key])
