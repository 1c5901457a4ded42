"""The lecture on RND: its fits against known powers, and its claims on a small exploration."""

import numpy as np
import pytest
import torch

from cs285.envs.mazes import get_maze
from cs285.lectures import rnd as lecture
from cs285.lectures.shared.outputs import column, select
from cs285.lectures.shared.trained import explored

HARD = "PointmassHard-v0"


def test_fits_recover_known_powers():
    rng = np.random.default_rng(0)
    own, around = rng.integers(1, 100, 400), rng.integers(1, 100, 400)
    error = 3 * own**-0.5 * (around + lecture.FEW) ** -0.2
    rows = [
        lecture.Row(1, 10, 0, 0, int(n), float(m), float(e))
        for n, m, e in zip(own, around, error, strict=True)
    ]
    unvisited = lecture.Row(1, 10, 0, 0, 0, 5.0, 100.0)
    found = lecture.fit([*rows, unvisited])
    assert (found.own, found.around) == pytest.approx((-0.5, -0.2))
    assert found.explained_by_both == pytest.approx(1)
    expected = np.polyfit(np.log(own), np.log(error), 1)[0]
    assert found.alone == pytest.approx(expected)
    correlation = np.corrcoef(np.log(own), np.log(error))[0, 1]
    assert found.explained == pytest.approx(correlation**2)


def test_visits_around_a_cell_are_means_over_its_free_neighbours():
    visits = np.array([[1.0, 2, 3], [4, 5, 6], [7, 8, 0]])
    walls = np.zeros((3, 3), bool)
    walls[2, 2] = True
    found = lecture.around_of(visits, walls)
    assert found[0, 0] == pytest.approx((2 + 4 + 5) / 3)
    assert found[1, 1] == pytest.approx((1 + 2 + 3 + 4 + 6 + 7 + 8) / 7)


@pytest.fixture(scope="module")
def explorations():
    settings = [{"base_config": "rnd", "env_name": HARD, "seed": seed} for seed in (1, 2)]
    return list(explored(settings, [150, 600]))


def test_errors_and_visits_are_those_of_the_cell(explorations):
    found, maze = explorations[-1], get_maze(HARD)
    rows = list(lecture.cells(found, maze))
    assert sum(row.visits for row in rows) == 600
    row = rows[7]
    size = np.array([maze.height, maze.width])
    rng = np.random.default_rng(0)
    points = (np.array([row.row, row.column]) + rng.random((4_000, 2))) / size
    inputs = torch.tensor(points, dtype=torch.float32)
    agent = found.policy.agent
    with torch.no_grad():
        differences = agent.rnd_net(inputs) - agent.rnd_target_net(inputs)
    expected = float(differences.norm(dim=1).square().mean().sqrt())
    assert row.error == pytest.approx(expected, rel=0.05)


def test_the_error_falls_more_slowly_than_visits_and_falls_where_no_visit_was(explorations):
    rows = [row for found in explorations for row in lecture.cells(found, get_maze(HARD))]
    for found in lecture.fits(rows, 600):
        assert -0.4 < found.alone < -0.05
        assert found.around < found.own - 0.1
        assert found.explained_by_both > found.explained + 0.1
    unvisited = [row for row in select(rows, step=600) if row.visits == 0]
    before = np.median(column(select(rows, step=150), "error"))
    assert np.median(column(unvisited, "error")) < before / 2
