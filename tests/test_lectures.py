"""What lectures share: agents trained in memory, tables, and a page with the tables' numbers."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from cs285 import load_policy, train
from cs285.datasets.dataset_files import save_dataset
from cs285.envs.mazes import MAZES, observe
from cs285.envs.planner import plan
from cs285.envs.tasks import MazeTask
from cs285.lectures import lectures, load
from cs285.lectures.shared import outputs
from cs285.lectures.shared.trained import best_policy, collected, explored, first, learned
from cs285.report.plots import Plot

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "lectures.md").read_text()
LECTURES = {name: load(name) for name in lectures()}
ON_THE_PAGE = [name for name, module in LECTURES.items() if hasattr(module, "claims")]

EASY = "PointmassEasy-v0"
SMALL = {"env_name": EASY, "hidden_size": 8, "seed": 3}


def uniform(observations):
    return np.full((len(observations), 5), 0.2, np.float32)


# The page


def flat(text):
    return " ".join(text.split())


@pytest.mark.parametrize("name", ON_THE_PAGE)
def test_the_page_says_what_the_table_of_a_lecture_says(name):
    """Every claim is computed from the table, and is on the page with its numbers."""
    module = LECTURES[name]
    command = f"python cs285/scripts/lectures.py {name} --out lectures"
    (section,) = [part for part in re.split(r"^## ", PAGE, flags=re.MULTILINE) if command in part]
    rows = outputs.read((ROOT / "docs" / "lectures" / f"{name}.csv").read_text(), module.Row)
    claims = module.claims(rows)
    assert claims
    for claim in claims:
        assert re.search(r"\d", claim)
        assert flat(claim) in flat(section)
    assert f"(images/lecture_{name}.png)" in section
    assert (ROOT / "docs" / "images" / f"lecture_{name}.png").stat().st_size < 150_000


def test_every_lecture_has_a_page():
    assert set(LECTURES) - set(ON_THE_PAGE) == {"bonus"}  # which docs/theory.md explains


# Tables


@dataclass(frozen=True)
class Row:
    name: str
    steps: int
    share: float


def test_tables_are_read_as_they_were_written(tmp_path):
    rows = [Row("a, b", 5, 1 / 3), Row("c", 100_000, float("nan"))]
    plot = Plot("small", "Two points", (lambda ax: ax.plot([1, 2]),), 1)
    outputs.write(tmp_path, rows, plot)
    found = outputs.read((tmp_path / "small.csv").read_text(), Row)
    assert [(row.name, row.steps) for row in found] == [("a, b", 5), ("c", 100_000)]
    assert found[0].share == 0.333333
    assert np.isnan(found[1].share)
    assert outputs.rounded(rows)[0] == found[0]
    assert {path.suffix for path in tmp_path.iterdir()} == {".csv", ".png", ".pdf"}


def test_rows_are_selected_and_summarised():
    rows = [Row("a", 1, 0.5), Row("a", 2, 1.5), Row("b", 1, -0.04)]
    assert outputs.select(rows, name="a", steps=2) == [rows[1]]
    assert outputs.spread(outputs.column(outputs.select(rows, name="a"), "share")) == "1.0 ± 0.7"
    assert outputs.spread(np.array([-0.04, -0.04])) == "0.0 ± 0.0"
    assert outputs.spread(np.array([0.6, 0.62, 0.64]), ".0%") == "62 ± 2 %"
    assert outputs.percent(0.625) == "62 %"
    with pytest.raises(ValueError, match="no rows"):
        outputs.column(outputs.select(rows, name="c"), "share")


# Agents


def test_agents_are_those_that_the_scripts_train(tmp_path, untraced, monkeypatch):
    """The same weights, although other runs train beside them and they are looked at on the way."""
    settings = [
        {**SMALL, "base_config": "cql", "cql_alpha": 0.5},
        {**SMALL, "base_config": "dqn"},
        {**SMALL, "base_config": "cql", "seed": 4},
    ]
    data = [collected(EASY, uniform, 200, seed) for seed in (3, 3, 4)]
    found = list(learned(settings, data, [10, 40]))
    assert [(one.index, one.step) for one in found] == [
        (0, 10), (2, 10), (0, 40), (2, 40), (1, 10), (1, 40),
    ]  # fmt: skip
    save_dataset(tmp_path / "walk_seed3.npz", data[0])
    monkeypatch.setattr(MazeTask, "models", lambda task: ())  # exact evaluation takes long
    (run,) = train(
        {**settings[0], "dataset_name": "walk", "training_steps": 40}, stage="offline",
        dataset_dir=tmp_path, data_dir=tmp_path, num_eval_trajectories=1,
    )  # fmt: skip
    observations = data[0].observations
    expected = load_policy(run.folder).action_values(observations)
    np.testing.assert_allclose(found[2].policy.action_values(observations), expected, atol=1e-5)
    assert abs(found[0].policy.action_values(observations) - expected).max() > 1e-3


def test_explorers_are_yielded_with_what_they_have_collected(untraced):
    settings = [{"env_name": EASY, "base_config": "random", "seed": seed} for seed in (1, 2)]
    found = list(explored(settings, [60, 150]))
    assert [(one.index, len(one.dataset)) for one in found] == [
        (0, 60),
        (1, 60),
        (0, 150),
        (1, 150),
    ]
    early, late = found[0].dataset, found[2].dataset
    for name, values in early.arrays().items():
        np.testing.assert_array_equal(values, first(late, 60).arrays()[name])
    assert late.truncated.sum() == 3  # every fifty steps, if the goal is not found by chance
    # The random policy is as far from its data as chance will have it, and has no values.
    assert 0 < found[2].exact.shift < 1
    assert found[2].exact.overestimation is None


def test_collected_data_are_episodes_of_the_policy():
    always_right = lambda observations: np.eye(5, dtype=np.float32)[[2] * len(observations)]  # noqa: E731
    data = collected(EASY, always_right, 120, seed=1)
    assert (data.actions == 2).all()
    (ends,) = np.nonzero(data.truncated | data.terminated)
    assert list(ends) == [49, 99]
    steps = np.delete(np.arange(119), ends)
    np.testing.assert_array_equal(data.observations[steps + 1], data.next_observations[steps])
    np.testing.assert_array_equal(data.observations[50], data.observations[0])


def test_the_best_policy_is_the_planners_with_random_actions():
    maze = MAZES[EASY]
    observation = observe(maze, np.array([maze.start]))
    (best,) = plan(EASY).actions(np.array([maze.start]), 0)
    np.testing.assert_allclose(best_policy(EASY)(observation), np.eye(5)[[best]])
    expected = np.where(np.arange(5) == best, 0.84, 0.04)
    np.testing.assert_allclose(best_policy(EASY, 0.2)(observation)[0], expected, atol=1e-6)
