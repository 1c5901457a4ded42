"""The lecture on coverage: what it counts, and how it ranks."""

import itertools
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest

from cs285.analysis.exact import Data
from cs285.envs.mazes import MAZES
from cs285.lectures import coverage as lecture
from cs285.lectures.shared import trained
from cs285.lectures.shared.trained import best_policy, collected

EASY = "PointmassEasy-v0"


def test_the_best_policys_own_data_has_what_the_best_policy_needs():
    best = lecture.best_evaluation(EASY)
    data = collected(EASY, best_policy(EASY), 3_000, seed=1)
    unseen = replace(best, data=Data(data.observations, data.actions)).unseen
    assert unseen < 0.01
    other = np.where(data.actions == 0, 1, 0)  # the same places, but never the best action
    assert replace(best, data=Data(data.observations, other)).unseen > 0.5


def test_rows_count_what_the_first_transitions_have():
    with mock.patch.object(trained, "EPISODES", 20):  # nothing here depends on exact returns
        few, many = lecture.measure((1,), (60, 1_500), 200, EASY, ("random",))
    settings = [{"base_config": "random", "env_name": EASY, "seed": 1}]
    ((first, data),) = itertools.pairwise(
        found.dataset for found in trained.explored(settings, [60, 1_500])
    )
    size = np.array([MAZES[EASY].height, MAZES[EASY].width])
    for row, dataset in ((few, first), (many, data)):
        states = np.concatenate([dataset.observations, dataset.next_observations])
        visited = {tuple(cell) for cell in np.floor(states * size * (1 - 1e-6)).astype(int)}
        assert row.coverage == pytest.approx(len(visited) / MAZES[EASY].free_cells)
        assert row.goals == dataset.terminated.sum()
    assert few.needed < many.needed


def test_the_rank_correlation_is_that_of_the_ranks():
    rows = [
        lecture.Row("rnd", 1, 100, share, 0, 1 - share, value, 0.0)
        for share, value in ((0.1, -100.0), (0.4, -90.0), (0.6, -95.0), (0.9, -30.0))
    ]
    # One pair of neighbouring ranks is swapped: 1 - 6 (1 + 1) / (4 (16 - 1)).
    assert lecture.rank_correlation(rows, "coverage") == pytest.approx(0.8)
    assert lecture.rank_correlation(rows, "needed") == pytest.approx(-0.8)
