"""The lecture on CQL's lower bound: its equation against SciPy and linear algebra; its claims."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import logsumexp, softmax

from cs285.analysis.exact import Data
from cs285.analysis.markov import Chain, solve
from cs285.envs.mazes import MAZES
from cs285.envs.models import maze_model
from cs285.lectures import lower_bound as lecture
from cs285.lectures.shared.trained import best_policy, collected

EASY = "PointmassEasy-v0"


@pytest.fixture(scope="module")
def data():
    """Half of the actions are random, so that the data has all actions and prefers the best."""
    dataset = collected(EASY, best_policy(EASY, 0.5), 3_000, seed=1)
    return Data(dataset.observations, dataset.actions)


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_values_minimise_the_loss_as_scipy_does(temperature):
    rng = np.random.default_rng(0)
    targets, behaviour, alpha = rng.normal(-5, 1, (4, 5)), rng.dirichlet(np.ones(5), 4), 3.0
    found = lecture.minimise(targets, behaviour, alpha, temperature, np.zeros((4, 5)))
    for k in range(4):

        def loss(q, k=k):
            squares = behaviour[k] @ (q - targets[k]) ** 2
            penalty = temperature * logsumexp(q / temperature) - behaviour[k] @ q
            return squares + alpha * penalty

        best = minimize(loss, targets[k], method="BFGS", options={"gtol": 1e-8})
        assert loss(found[k]) <= best.fun + 1e-8
        np.testing.assert_allclose(found[k], best.x, atol=1e-3)


def test_the_penalty_changes_the_rewards_of_the_best_actions(data):
    """`max Q` is the value of its policy under `r - alpha / 2 (mu / pi_b - 1)`."""
    model = maze_model(MAZES[EASY], 2)
    behaviour = lecture.behaviour_of(model, data)
    for temperature, alpha in ((0.1, 1.0), (1.0, 5.0)):
        q = lecture.fixed_point(model, behaviour, alpha, temperature, tolerance=1e-5)
        chain = Chain(model, np.eye(5)[q.argmax(axis=1)])
        ratio = softmax(q / temperature, axis=1) / behaviour
        cost = alpha / 2 * (ratio - 1)[np.arange(len(q)), q.argmax(axis=1)]
        values = solve(chain.transitions, chain.rewards - cost, lecture.DISCOUNT)
        np.testing.assert_allclose(q.max(axis=1), values, atol=0.01)
        row = lecture.solved(data, temperature, alpha, 1, EASY)
        visits = chain.occupancy / chain.occupancy.sum()
        assert row.cost == pytest.approx(visits @ cost, abs=0.01)


def test_the_bound_holds_on_data_of_the_random_policy_at_any_temperature():
    """No softmax takes the best action less often than one in five."""
    behaviour = np.full((maze_model(MAZES[EASY], 2).num_states, 5), 0.2)
    for temperature in (0.1, 1.0, 10.0):
        row = lecture.row_at_fixed_point("uniform", EASY, behaviour, temperature, 1.0, 0)
        assert row.bounded == pytest.approx(1)
        assert row.raised == 0
        assert row.difference < -0.02


def test_without_a_penalty_values_are_those_of_the_policy(data):
    row = lecture.solved(data, 1.0, 0.0, 1, EASY)
    assert abs(row.difference) < 0.01
    assert row.bounded == pytest.approx(1)


def test_the_bound_holds_at_a_low_temperature_and_fails_at_a_high_one(data):
    low, high = (lecture.solved(data, t, 1.0, 1, EASY) for t in (0.1, 1.0))
    assert low.bounded > 0.99
    assert low.difference < -0.5
    assert low.raised < 0.1
    assert high.bounded < 0.1
    assert high.difference > 0.2
    assert high.raised > 0.8
    assert low.gap < 0.1
    assert 0.5 < high.gap < np.log(5)
