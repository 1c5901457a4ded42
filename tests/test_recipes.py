"""Each recipe of CONTRIBUTING.md, followed to the letter in a copy of the tree.

The recipe for algorithms has a file of tests for itself, `test_adding_an_algorithm.py`.
"""

import json
import re

import pytest
from recipes import PAGE, files_of
from test_adding_an_algorithm import QUICK, Tree
from test_training import random_walk

from cs285.datasets.dataset_files import save_dataset

HEADINGS = [
    "Add an algorithm",
    "Add an environment",
    "Add a log sink",
    "Add a figure to the report",
    "Add a tool for graders",
]


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the tree with the files of four recipes, and what its scripts said.

    A run of DQN logs to the documented sink; everything is called in one process.
    """
    files = {}
    for heading in HEADINGS[1:]:
        own = files_of(heading)
        assert not files.keys() & own.keys()
        files |= own
    tree = Tree(tmp_path_factory.mktemp("recipes") / "tree", files)
    (tree.root / "datasets").mkdir()
    save_dataset(tree.root / "datasets/pointmass_easy_rnd_seed1.npz", random_walk(60, 1))
    (tree.root / "dqn.yaml").write_text(
        "base_config: dqn\nenv_name: PointmassEasy-v0\ntraining_steps: 20\n"
    )
    apart = [*QUICK, "--data_dir", "corridor"]
    explore = "experiments/exploration/corridor_random.yaml"
    learn = "experiments/offline/corridor_dqn.yaml"
    calls = {
        "explored": ["run_hw5_explore", "-cfg", explore, *apart],
        "learned": ["run_hw5_offline", "-cfg", learn, *apart],
        "logged": ["run_hw5_offline", "-cfg", "dqn.yaml", *QUICK, "--log", "tensorboard,json"],
        "report": ["make_report", "--data_dir", "data", "--out", "report"],
        "list": ["list_steps", "--data_dir", "data"],
        "json": ["list_steps", "--data_dir", "data", "--json"],
        "mistake": ["list_steps", "--data_dir", "nowhere"],
    }
    tree.said = dict(zip(calls, tree.call(*calls.values()), strict=True))
    for name, (status, said) in tree.said.items():
        assert status == (2 if name == "mistake" else 0), (name, said)
    return tree


def test_every_recipe_is_tested():
    assert re.findall(r"^## (Add .*)$", PAGE.read_text(), re.MULTILINE) == HEADINGS


def test_an_environment_is_explored_and_learned(tree):
    assert (tree.root / "datasets/corridor_seed1.npz").is_file()
    (folder,) = (tree.root / "corridor").glob("hw5_offline_corridor_dqn_*")
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["status"] == "finished"
    assert -50 <= summary["final_return"] <= -9  # nine steps are the fewest
    assert summary["optimal_return"] is None


def test_a_sink_logs_what_tensorboard_does(tree):
    (run,) = (tree.root / "data").iterdir()
    lines = [json.loads(line) for line in (run / "scalars.jsonl").read_text().splitlines()]
    evaluations = [line for line in lines if "eval_return" in line]
    assert [line["step"] for line in evaluations] == [20]
    assert any("critic_loss" in line for line in lines)


def test_a_figure_is_in_the_report(tree):
    assert "Episode lengths" in (tree.root / "report/index.html").read_text()
    assert (tree.root / "report/figures/lengths.png").stat().st_size > 5_000


def test_a_tool_for_graders_reads_runs_and_reports_mistakes_in_a_sentence(tree):
    assert tree.said["list"] == [0, "dqn, seed 1: 20\n"]
    status, printed = tree.said["json"]
    assert status == 0
    assert json.loads(printed) == {"dqn, seed 1": 20}
    status, said = tree.said["mistake"]
    assert status == 2
    assert said.startswith("error: ")
