import itertools

import numpy as np
import pytest
from scipy.stats import trim_mean

from cs285.envs.planner import plan
from cs285.results.statistics import (
    differs,
    end_of,
    estimate,
    estimate_curve,
    estimate_scores,
    final_error,
    final_return,
    interquartile_mean,
    with_error,
)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([8, 1, 7, 2, 6, 3, 5, 4], 4.5),  # the mean of 3, 4, 5, 6
        ([-100, -40, -36, -35], -38.0),  # the mean of -40 and -36
        ([-100, -35, -34, -33, -32], -34.0),  # one is dropped on each side
        ([-40, -30, -20], -30.0),  # a quarter of three is none
        ([7.0], 7.0),
    ],
)
def test_interquartile_mean_equals_hand_calculation(values: list[float], expected: float) -> None:
    assert interquartile_mean(values) == pytest.approx(expected)


def test_one_failed_seed_does_not_move_the_interquartile_mean() -> None:
    normal = [-36.0, -35.0, -34.0, -33.0]
    assert interquartile_mean([*normal, -100]) == interquartile_mean([*normal, -1_000])


def test_interval_equals_that_of_all_resamples() -> None:
    values = np.array([-37.0, -35.5, -34.0, -31.0])
    # All 256 resamples of four values, which random ones only sample.
    every = [trim_mean(draw, 0.25) for draw in itertools.product(values, repeat=4)]
    found = estimate(values)
    assert found.low == pytest.approx(np.quantile(every, 0.025), abs=0.3)
    assert found.high == pytest.approx(np.quantile(every, 0.975), abs=0.3)
    assert found.iqm == pytest.approx(-34.75)
    assert found.count == 4


def test_interval_of_equal_values_is_a_point() -> None:
    found = estimate([-30.0, -30.0, -30.0])
    assert (found.low, found.iqm, found.high) == (-30.0, -30.0, -30.0)


def test_strata_are_resampled_separately() -> None:
    # Without strata a resample can hold anything from eight zeros to eight ones.
    stratified = estimate([0.0] * 4, [1.0] * 4)
    pooled = estimate([0.0] * 4 + [1.0] * 4)
    assert (stratified.low, stratified.high) == (0.5, 0.5)
    assert pooled.low < 0.2
    assert pooled.high > 0.8


def test_single_seed_has_no_interval() -> None:
    found = estimate([-35.0])
    assert found.iqm == -35.0
    assert not found.has_interval
    assert not estimate([-35.0, -34.0], [-20.0]).has_interval
    assert estimate([-35.0, -34.0]).has_interval


def test_scores_are_zero_for_random_and_one_for_the_best_policy() -> None:
    easy, hard = plan("PointmassEasy-v0"), plan("PointmassHard-v0")
    returns = {
        "PointmassEasy-v0": [easy.optimal_return] * 2,
        "PointmassHard-v0": [hard.random_return] * 2,
    }
    # The middle half of 0, 0, 1, 1 is 0, 1.
    scores = estimate_scores(returns)
    assert scores is not None
    assert scores.iqm == pytest.approx(0.5)
    assert scores.count == 4


def test_scores_need_the_best_and_the_random_return_of_every_environment() -> None:
    assert estimate_scores({"CartPole-v1": [200.0, 500.0]}) is None
    assert estimate_scores({"PointmassEasy-v0": [-20.0], "CartPole-v1": [200.0]}) is None


def test_curve_is_estimated_at_every_step() -> None:
    rows = np.array([[-50.0, -40.0], [-48.0, -30.0], [-46.0, -36.0], [-10.0, -34.0]])
    curve = estimate_curve([100, 200], rows)
    assert curve.steps.tolist() == [100, 200]
    assert curve.iqm == pytest.approx([-47.0, -35.0])
    alone = estimate(rows[:, 1])
    assert (curve.low[1], curve.high[1]) == pytest.approx((alone.low, alone.high))


def test_final_return_is_the_mean_of_the_last_hundred_episodes() -> None:
    assert final_return([-50, -40, -30], episodes=[20, 20, 100]) == pytest.approx(-30)
    assert final_return([-50, -40, -30], episodes=[100, 25, 50]) == pytest.approx(-7_500 / 175)
    assert final_return([-90, -40, -30], episodes=[50, 75, 25]) == pytest.approx(-37.5)
    assert final_return([-40, -30], episodes=[10, 30]) == pytest.approx(-32.5)


def test_final_return_is_the_mean_of_the_last_three_evaluations_of_unknown_episodes() -> None:
    assert final_return([-100, -40, -38, -36]) == pytest.approx(-38)
    assert final_return([-40, -30]) == pytest.approx(-35)


def test_final_error_is_that_of_the_mean_over_all_episodes_that_count() -> None:
    rng = np.random.default_rng(3)
    parts = [rng.normal(-30, 5, count) for count in (20, 50, 100)]
    # The mean of 100 episodes of one policy has the textbook's standard error.
    spreads, counts = [part.std() for part in parts], [len(part) for part in parts]
    assert final_error(spreads, counts) == pytest.approx(parts[2].std(ddof=1) / 10)
    # 20 and 50 episodes: the mean weighs them by 2/7 and 5/7.
    expected = np.hypot(
        2 / 7 * parts[0].std(ddof=1) / 20**0.5, 5 / 7 * parts[1].std(ddof=1) / 50**0.5
    )
    assert final_error(spreads[:2], counts[:2]) == pytest.approx(expected)


def test_final_error_of_unknown_episodes_takes_the_public_versions_ten() -> None:
    # Three means of ten episodes: sqrt(3 * 6^2 / 9) / 3.
    assert final_error([100.0, 6.0, 6.0, 6.0]) == pytest.approx(12**0.5 / 3)
    assert final_error([6.0], episodes=[1]) is None


def test_a_mean_is_written_with_its_error() -> None:
    assert with_error(-20.32, 0.351) == "-20.3 ± 0.35"
    assert with_error(0.9831, 0.0124, 2) == "0.98 ± 0.012"
    assert with_error(-0.01, None) == "0.0"


def test_numbers_differ_if_it_takes_more_than_two_standard_errors() -> None:
    assert differs(-20.0, -21.1, 0.3, 0.4)  # their difference has the error 0.5
    assert not differs(-20.0, -20.9, 0.3, 0.4)
    assert not differs(-20.0, -90.0, 0.3, None)


def test_the_end_of_a_curve_is_its_last_tenth() -> None:
    assert end_of([0, 50, 90, 91, 100], [7.0, 7.0, 7.0, -1.0, -3.0]) == (-2.0, 1.0)
    assert end_of([0], [4.0]) == (4.0, 0.0)


def test_an_evaluation_without_episodes_has_no_mean() -> None:
    with pytest.raises(ValueError, match="no episodes"):
        final_return([-40, -30], episodes=[20, 0])


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [float("inf")]])
def test_values_without_a_mean_are_refused(values: list[float]) -> None:
    for function in (interquartile_mean, estimate, final_return):
        with pytest.raises(ValueError, match="values"):
            function(values)
