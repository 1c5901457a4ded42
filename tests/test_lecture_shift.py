"""The lecture on distribution shift: its claims on a small maze, after a short training."""

import pytest

from cs285.lectures import shift as lecture
from cs285.lectures.shared.outputs import select

EASY = "PointmassEasy-v0"


@pytest.fixture(scope="module")
def rows():
    return list(lecture.measure((1,), (1_500,), 500, ("narrow",), EASY))


def test_dqn_on_narrow_data_expects_more_than_it_gets_and_cql_does_not(rows):
    (dqn,), (cql,) = (select(rows, agent=agent) for agent in ("dqn", "cql"))
    assert dqn.overestimation > 10
    assert abs(cql.overestimation) < 4  # its values have not yet fallen as far as they will
    assert dqn.unseen > 0.1 > cql.unseen
    assert dqn.shift > cql.shift + 0.3
    assert dqn.expected_return < cql.expected_return - 10


def test_narrow_data_is_of_the_good_policy():
    (data,) = lecture.datasets("narrow", EASY, [1], 500)
    assert data.terminated.sum() > 20  # the best policy needs fourteen steps
