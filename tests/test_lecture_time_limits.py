"""Time limits that count as ends: the formula, samples, the exact solution on Hard, and flags."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import sparse

from cs285.analysis.markov import Chain
from cs285.lectures import time_limits as lecture
from cs285.lectures.shared import outputs
from cs285.scripts import lectures

MEDIUM, HARD = "PointmassMedium-v0", "PointmassHard-v0"


def model_of(transitions, rewards, start):
    """Returns a model from probabilities `(N, A, N)`."""
    flat = np.array(transitions, np.float32).reshape(-1, len(rewards))
    return SimpleNamespace(
        transitions=sparse.csr_array(flat),
        rewards=np.array(rewards, np.float32),
        start=np.array(start, float),
        horizon=100,
        num_actions=len(rewards[0]),
        num_states=len(rewards),
    )


def test_one_state_that_costs_for_ever():
    """Its value is -1 / (1 - g); each step that may be an end has a discount of g (1 - p)."""
    model = model_of([[[1.0]]], [[-1.0]], [1.0])
    chain = Chain(model, np.ones((1, 1)))
    shares, cut = lecture.last_shares(chain, 10)
    assert (shares, cut) == (pytest.approx([0.1]), 1.0)
    values = lecture.learned_values(model, shares, 0.98)
    assert values.item() == pytest.approx(-1 / (1 - 0.98 * 0.9), abs=1e-4)
    excess = -1 / (1 - 0.98 * 0.9) + 1 / (1 - 0.98)
    assert lecture.bias(chain, shares, 0.98).item() == pytest.approx(excess, abs=1e-3)


@pytest.fixture(scope="module")
def chance():
    """Five states and two actions, with an end that one state reaches."""
    rng = np.random.default_rng(0)
    transitions = rng.dirichlet(np.ones(5), (5, 2))
    transitions[4] *= 0.5
    rewards = -rng.random((5, 2))
    return model_of(transitions, rewards, [1, 0, 0, 0, 0])


def test_learning_from_samples_converges_to_the_solution(chance):
    """Count transitions of sampled episodes, flag their last steps, and solve what was counted."""
    limit, episodes, discount = 6, 40_000, 0.9
    probabilities = chance.transitions.toarray().reshape(5, 2, 5)
    rng = np.random.default_rng(1)
    visits, continued = np.zeros((5, 2)), np.zeros((5, 2, 5))
    states = np.zeros(episodes, int)
    for step in range(limit):
        actions = rng.integers(2, size=len(states))
        edges = np.cumsum(probabilities[states, actions], axis=1)
        following = (rng.random((len(states), 1)) >= edges).sum(axis=1)
        np.add.at(visits, (states, actions), 1)
        going = following < 5
        if step < limit - 1:
            np.add.at(continued, (states[going], actions[going], following[going]), 1)
        states = following[going]
    found = np.zeros((5, 2))
    for _ in range(500):
        found = chance.rewards + discount * (continued / visits[..., None]) @ found.max(axis=1)
    uniform = Chain(chance, np.full((5, 2), 0.5))
    shares, _ = lecture.last_shares(uniform, limit)
    np.testing.assert_allclose(lecture.learned_values(chance, shares, discount), found, rtol=0.03)
    # Bootstrapping through the limit leaves the values as they are, which the limit raises.
    true = lecture.learned_values(chance, np.zeros(5), discount)
    assert (lecture.learned_values(chance, shares, discount) > true + 0.1).all()


def test_the_formula_is_the_difference_of_the_solutions(chance):
    shares = np.array([0.1, 0.3, 0.0, 0.2, 0.5])
    values = lecture.learned_values(chance, shares, 0.9).max(axis=1)
    chosen = lecture.learned_values(chance, shares, 0.9).argmax(axis=1)
    chain = Chain(chance, np.eye(2)[chosen])
    probabilities = chance.transitions.toarray().reshape(5, 2, 5)[np.arange(5), chosen]
    true = np.linalg.solve(np.eye(5) - 0.9 * probabilities, chain.rewards)
    np.testing.assert_allclose(lecture.bias(chain, shares, 0.9), values - true, atol=1e-4)


def test_on_hard_the_policy_fails_where_limits_are_ends():
    truth = lecture.Truth.of(HARD, 2)
    through = truth.exact(40, lecture.RANDOMNESS, "bootstrap")
    assert through.expected_return == pytest.approx(-33.0, abs=0.2)  # the best policy's
    assert through.value == pytest.approx(through.true_value, abs=0.01)
    end = truth.exact(40, lecture.RANDOMNESS, "end")
    assert end.value > through.value + 5
    assert end.true_value < through.true_value - 2
    assert end.expected_return < through.expected_return - 5


def test_the_command_writes_figure_and_numbers(tmp_path, monkeypatch, capsys):
    values = {
        "ENVIRONMENT": MEDIUM, "COARSE": 2, "RESOLUTION": 2, "LIMITS": (15, 20), "MAPPED": 15,
        "OWN_LIMIT": 20,
    }  # fmt: skip
    for name, value in values.items():
        monkeypatch.setattr(lecture, name, value)
    assert lectures.main(["time_limits", "--out", str(tmp_path)]) == 0
    assert {path.suffix for path in tmp_path.iterdir()} == {".csv", ".pdf", ".png"}
    rows = outputs.read((tmp_path / "time_limits.csv").read_text(), lecture.Row)
    assert len(rows) == 2 * 2 * 2
    assert lecture.coarseness(rows) == 0.0  # both grids are the same here
    assert lecture.claims(rows)[0] in capsys.readouterr().out
