"""The checker's bounds on chance hold, and are tight."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import binom

from cs285.grading.solutions import chance
from cs285.grading.solutions.chance import FALSE_ALARM, are_samples, is_chance, is_chance_share


@pytest.mark.parametrize(("draws", "probability"), [(360, 0.8), (360, 0.2), (60, 0.01), (7, 0.5)])
def test_a_right_share_is_refused_more_rarely_than_promised(draws, probability):
    """By the exact binomial distribution."""
    counts = np.arange(draws + 1)
    refused = [not is_chance_share(count / draws, probability, draws) for count in counts]
    assert binom.pmf(counts, draws, probability)[refused].sum() <= FALSE_ALARM


def test_a_share_beyond_chance_is_refused():
    """The bound is at most 1,000 times the exact tail."""
    counts = np.arange(361)
    refused = np.array([not is_chance_share(count / 360, 0.8, 360) for count in counts])
    tail = binom.pmf(counts, 360, 0.8)[refused].sum()
    assert tail > FALSE_ALARM / 1_000


def draw(rng, policy, draws):
    """Return actions `(rows, draws)`."""
    return np.array([rng.choice(len(row), draws, p=row) for row in policy])


@pytest.fixture
def policies():
    """Rows of action probabilities in 400 made-up cases, `(400, 5, 5)`."""
    logits = np.random.default_rng(0).normal(0.0, 1.15, (400, 5, 5))
    return np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)


def test_means_of_right_samples_are_refused_at_most_as_often_as_promised(monkeypatch, policies):
    """At a rate high enough to count: one in five."""
    monkeypatch.setattr(chance, "FALSE_ALARM", 0.2)
    rng = np.random.default_rng(1)
    refused = together = averages = 0
    for policy in policies:
        values, actions = rng.normal(0.0, 1.4, policy.shape), draw(rng, policy, 60)
        samples = np.take_along_axis(values, actions, 1)
        refused += not is_chance(samples.mean(1), values, policy, 60)
        averages += not is_chance(samples.mean(1), values, policy, 6)  # of ten each
        together += not are_samples(actions, policy)
    assert refused <= 0.2 * len(policies)
    assert averages <= refused
    assert together <= 0.4 * len(policies)  # which are two tests


def test_samples_of_another_policy_are_refused(policies):
    rng = np.random.default_rng(2)
    for policy, other in pairwise(policies[:51]):
        assert are_samples(draw(rng, policy, 200), policy)
        assert not are_samples(draw(rng, other, 200), policy)
        assert not are_samples(rng.integers(0, 5, (5, 200)), policy)


def test_rounding_does_not_count_as_deviation():
    """An almost deterministic policy leaves no room for chance, but some for rounding."""
    values, policy = np.array([[0.0, 3.0]]), np.array([[1.0 - 1e-12, 1e-12]])
    assert is_chance(np.array([0.005]), values, policy, 200, slack=0.01)
    assert not is_chance(np.array([0.05]), values, policy, 200, slack=0.01)
