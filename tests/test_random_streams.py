"""Every run has its own random numbers, whatever trains with it."""

import itertools

import numpy as np
import pytest

from cs285.learning.random_streams import PURPOSES, UniformStreams, derive_seed


def draw(streams, steps):
    return np.stack([streams.next().copy() for _ in range(steps)])


@pytest.mark.parametrize("block", [1, 3, 64, 1000])
def test_a_stream_is_numpys_own_whatever_the_block(block):
    streams = UniformStreams([5, 8], width=4, block=block)
    numbers = draw(streams, 130)
    for run, seed in enumerate([5, 8]):
        generator = np.random.default_rng(seed)
        expected = np.stack([generator.random(4) for _ in range(130)])
        assert np.array_equal(numbers[:, run], expected)


def test_a_run_draws_the_same_numbers_alone_and_with_others():
    together = draw(UniformStreams([1, 2, 3], width=2), 100)
    for run, seed in enumerate([1, 2, 3]):
        assert np.array_equal(together[:, [run]], draw(UniformStreams([seed], width=2), 100))


def test_numbers_fill_the_unit_interval_evenly():
    numbers = draw(UniformStreams([0], width=100), 500).ravel()
    assert numbers.min() >= 0
    assert numbers.max() < 1
    counts = np.histogram(numbers, bins=10, range=(0, 1))[0]
    # Pearson's statistic has 9 degrees of freedom; it exceeds 27.9 with probability 0.001.
    assert ((counts - 5000) ** 2 / 5000).sum() < 27.9


def test_streams_ignore_the_global_generator():
    np.random.seed(1)  # noqa: NPY002 - the generator that must not matter
    first = draw(UniformStreams([4], width=3), 10)
    np.random.seed(2)  # noqa: NPY002 - the generator that must not matter
    state = np.random.get_state()[1].copy()  # noqa: NPY002 - the generator that must not matter
    assert np.array_equal(first, draw(UniformStreams([4], width=3), 10))
    assert np.array_equal(state, np.random.get_state()[1])  # noqa: NPY002 - as above


def test_the_same_question_gets_the_same_seed():
    assert derive_seed(7, "evaluation", 2500, 3) == derive_seed(7, "evaluation", 2500, 3)


def test_seeds_of_runs_purposes_and_steps_all_differ():
    parts = [(), *((step,) for step in range(1, 20)), *itertools.product(range(1, 5), range(5))]
    seeds = [
        derive_seed(seed, purpose, *extra)
        for seed in range(10)
        for purpose in PURPOSES
        for extra in parts
    ]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_an_unknown_purpose_is_refused():
    with pytest.raises(ValueError, match="not in"):
        derive_seed(1, "weather")
