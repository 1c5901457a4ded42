"""The lecture on overestimation: noise that changes no value, and what maxima make of it."""

from unittest import mock

import numpy as np
import pytest

from cs285.lectures import double_q as lecture
from cs285.lectures.shared import trained
from cs285.lectures.shared.outputs import column, select
from cs285.lectures.shared.trained import best_policy, collected

EASY = "PointmassEasy-v0"


def test_noise_changes_rewards_alone_and_has_mean_zero():
    data = collected(EASY, best_policy(EASY, 1.0), 4_000, seed=1)
    noisy = lecture.with_noise(data, 2.0, seed=5)
    difference = noisy.rewards - data.rewards
    assert abs(difference.mean()) < 3 * 2.0 / 4_000**0.5
    assert difference.std() == pytest.approx(2.0, rel=0.05)
    for name, values in data.arrays().items():
        if name != "rewards":
            np.testing.assert_array_equal(values, noisy.arrays()[name])
    np.testing.assert_array_equal(lecture.with_noise(data, 0.0, seed=5).rewards, data.rewards)


def test_noise_makes_estimates_too_large_and_double_q_less_so():
    with mock.patch.object(trained, "EPISODES", 20):  # nothing here depends on exact returns
        rows = list(lecture.measure((1, 2), 2_500, (0.0, 3.0), 1_500, EASY))
    plain, double = (
        {noise: column(select(rows, noise=noise, double=k), "overestimation") for noise in (0, 3)}
        for k in (0, 1)
    )
    assert plain[3].mean() > plain[0].mean() + 1
    assert double[3].mean() > double[0].mean()
    assert double[3].mean() < plain[3].mean()
