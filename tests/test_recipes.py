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


def make_tree(folder, heading):
    return Tree(folder, files_of(heading))


@pytest.fixture
def with_runs(tmp_path):
    """Makes a copy of the tree with the files of a recipe and one run of DQN."""

    def make(heading, *flags):
        tree = make_tree(tmp_path / "tree", heading)
        (tree.root / "datasets").mkdir()
        save_dataset(tree.root / "datasets/pointmass_easy_rnd_seed1.npz", random_walk(60, 1))
        (tree.root / "dqn.yaml").write_text(
            "base_config: dqn\nenv_name: PointmassEasy-v0\ntraining_steps: 20\n"
        )
        ((status, said),) = tree.call(["run_hw5_offline", "-cfg", "dqn.yaml", *QUICK, *flags])
        assert status == 0, said
        (tree.run,) = (tree.root / "data").iterdir()
        return tree

    return make


def test_every_recipe_is_tested():
    headings = re.findall(r"^## (Add .*)$", PAGE.read_text(), re.MULTILINE)
    assert headings == [
        "Add an algorithm",
        "Add an environment",
        "Add a log sink",
        "Add a figure to the report",
        "Add a tool for graders",
    ]


def test_an_environment_is_explored_and_learned(tmp_path):
    tree = make_tree(tmp_path / "tree", "Add an environment")
    explored, learned = tree.call(
        ["run_hw5_explore", "-cfg", "experiments/exploration/corridor_random.yaml", *QUICK],
        ["run_hw5_offline", "-cfg", "experiments/offline/corridor_dqn.yaml", *QUICK],
    )
    assert explored[0] == learned[0] == 0, explored[1] + learned[1]
    assert (tree.root / "datasets/corridor_seed1.npz").is_file()
    (folder,) = (tree.root / "data").glob("hw5_offline_corridor_dqn_*")
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["status"] == "finished"
    assert -50 <= summary["final_return"] <= -9  # nine steps are the fewest
    assert summary["optimal_return"] is None


def test_a_sink_logs_what_tensorboard_does(with_runs):
    tree = with_runs("Add a log sink", "--log", "tensorboard,json")
    lines = [json.loads(line) for line in (tree.run / "scalars.jsonl").read_text().splitlines()]
    evaluations = [line for line in lines if "eval_return" in line]
    assert [line["step"] for line in evaluations] == [20]
    assert any("critic_loss" in line for line in lines)


def test_a_figure_is_in_the_report(with_runs):
    tree = with_runs("Add a figure to the report")
    ((status, said),) = tree.call(["make_report", "--data_dir", "data", "--out", "report"])
    assert status == 0, said
    assert "Episode lengths" in (tree.root / "report/index.html").read_text()
    assert (tree.root / "report/figures/lengths.png").stat().st_size > 5_000


def test_a_tool_for_graders_reads_runs_and_reports_mistakes_in_a_sentence(with_runs):
    tree = with_runs("Add a tool for graders")
    text, parsed, mistake = tree.call(
        ["list_steps", "--data_dir", "data"],
        ["list_steps", "--data_dir", "data", "--json"],
        ["list_steps", "--data_dir", "nowhere"],
    )
    assert text == [0, "dqn, seed 1: 20\n"]
    assert parsed[0] == 0
    assert json.loads(parsed[1]) == {"dqn, seed 1": 20}
    assert mistake[0] == 2
    assert mistake[1].startswith("error: ")
