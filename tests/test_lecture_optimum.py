"""The distribution of the best policy's return: by hand, in episodes, and what Hard allows."""

import csv
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import sparse, stats

from cs285.envs.mazes import MAZES
from cs285.envs.models import maze_model
from cs285.envs.pointmass import PointmassVectorEnv
from cs285.lectures import optimum as lecture
from cs285.scripts import lectures

EASY, HARD = "PointmassEasy-v0", "PointmassHard-v0"


@pytest.fixture(scope="module")
def fork():
    """Two states; from the first, a gamble of 0.3 or a detour over the second, which arrives."""
    transitions = [[0.7, 0.0], [0.0, 1.0], [0.0, 0.0], [0.0, 0.0]]  # state 0: gamble, detour; ...
    return SimpleNamespace(
        transitions=sparse.csr_array(np.array(transitions, np.float32)),
        rewards=np.array([[0.3 - 1, -1], [0.0, 0.0]], np.float32),
        start=np.array([1.0, 0.0]),
        horizon=4,
    )


def test_the_detour_is_better_and_the_gamble_is_quicker(fork):
    values = lecture.best_action_values(fork)
    # The detour costs one step. The gamble costs one with chance 0.7, and then the detour's.
    np.testing.assert_allclose(values[0, 0], [0.7 * (-1 - 1), -1.0], rtol=1e-6)
    np.testing.assert_allclose(
        lecture.arrival_chances(fork, values.argmax(axis=2)), [0, 1, 0, 0, 0], atol=1e-7
    )
    np.testing.assert_allclose(lecture.best_arrival_chances(fork), [0.3, 1, 1, 1], rtol=1e-6)


def test_gambling_for_ever_arrives_with_a_geometric_distribution(fork):
    chances = lecture.arrival_chances(fork, np.zeros((4, 2), int))
    np.testing.assert_allclose(chances[:4], stats.geom(0.3).pmf([1, 2, 3, 4]), rtol=1e-6)
    assert chances[4] == pytest.approx(0.7**4)


def rows(chances):
    return [lecture.Row("maze", -k, c, 0.0, 0.0, 0.0, 0.0) for k, c in enumerate(chances)]


def test_moments_quantiles_and_means_of_several_episodes():
    table = rows([0.1, 0.2, 0.3, 0.4])  # of returns 0, -1, -2, -3
    assert lecture.mean(table) == pytest.approx(-2.0)
    assert lecture.deviation(table) == pytest.approx(1.0)
    quantiles = [lecture.quantile(table, share) for share in (0.01, 0.4, 0.41, 0.7, 0.95)]
    assert quantiles == [-3, -3, -2, -2, 0]
    # Two episodes sum to 0 with chance 0.1^2, and to -2 or more with this one:
    chance = 0.1**2 + 2 * 0.1 * 0.2 + 0.2**2 + 2 * 0.1 * 0.3
    np.testing.assert_allclose(lecture.mean_chances(table, 2)[:2], [0.01, chance])
    assert lecture.mean_chances(table, 2)[3] == pytest.approx(1.0)


def test_episodes_in_the_environment_return_what_the_distribution_says():
    episodes = 4_000
    model = maze_model(MAZES[EASY], 3)
    values = lecture.best_action_values(model)
    env = PointmassVectorEnv(EASY, episodes)
    observations, _ = env.reset(seed=0)
    returns, running = np.zeros(episodes), np.full(episodes, fill_value=True)
    for options in values:
        actions = (model.interpolation(observations) @ options).argmax(axis=1)
        observations, rewards, terminated, truncated, _ = env.step(actions)
        returns += rewards * running
        running &= ~(terminated | truncated)
        if not running.any():
            break
    assert returns.mean() == pytest.approx(-13.5, abs=0.2)  # the planner's return
    chances = lecture.arrival_chances(model, values.argmax(axis=2))
    assert chances.sum() == pytest.approx(1, abs=1e-5)
    shares = np.array([(returns >= -k).mean() for k in range(len(chances))])
    # Kolmogorov's bound, which chance exceeds once in a thousand times
    assert abs(shares - chances.cumsum()).max() < 1.95 / episodes**0.5
    own = lecture.simulated_returns(model, values, episodes)
    assert own.mean() == pytest.approx(returns.mean(), abs=4 * 2.2 * (2 / episodes) ** 0.5)


def test_minus_20_on_hard_is_out_of_reach_of_any_policy():
    model = maze_model(MAZES[HARD], 2)
    chances = lecture.arrival_chances(model, lecture.best_action_values(model).argmax(axis=2))
    table = [lecture.Row(HARD, -k, c, 0.0, 0.0, 0.0, 0.0) for k, c in enumerate(chances)]
    assert lecture.mean(table) == pytest.approx(-33.0, abs=0.15)  # the planner's return
    assert lecture.quantile(table, 0.99) <= -25
    any_policy = lecture.best_arrival_chances(model)
    assert (any_policy >= chances.cumsum()[:-1] - 1e-6).all()
    # A return of -20 is an arrival with the 21st step.
    assert 2e-5 < any_policy[20] < 1e-4
    assert lecture.mean_chances(table, 10)[20] < 1e-30


def test_the_command_writes_figure_and_numbers(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(lecture, "ENVIRONMENTS", (EASY,))
    monkeypatch.setattr(lecture, "HARD", EASY)
    monkeypatch.setattr(lecture, "resolutions_of", lambda maze: (2, 3))
    monkeypatch.setattr(lecture, "EPISODES", 200)
    assert lectures.main(["optimum", "--out", str(tmp_path)]) == 0
    assert {path.suffix for path in tmp_path.iterdir()} == {".csv", ".pdf", ".png"}
    with (tmp_path / "optimum.csv").open() as file:
        found = [row for row in csv.DictReader(file) if row["environment"] == EASY]
    returned = sum(float(row["chance"]) * int(row["returned"]) for row in found)
    assert returned == pytest.approx(-13.5, abs=0.2)
    assert "98 %" in capsys.readouterr().out
