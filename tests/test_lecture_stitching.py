"""Stitching: what the data contain, what imitation of them does, and what they allow."""

import numpy as np
import pytest

from cs285.analysis.markov import Chain
from cs285.envs.mazes import MAZES, positions_of
from cs285.envs.models import maze_model
from cs285.lectures import stitching as lecture
from cs285.lectures.shared import outputs
from cs285.lectures.shared.episodes import joined, return_in
from cs285.scripts import lectures

HARD = "PointmassHard-v0"


@pytest.fixture(scope="module")
def case():
    return lecture.Case.of(HARD, 2)


@pytest.fixture(scope="module")
def halves(case):
    return case.halves(1)


def test_no_episode_goes_from_the_start_to_the_goal(halves):
    maze, (one, two) = MAZES[HARD], halves
    begins = positions_of(maze, one.observations[one.episode_starts])
    np.testing.assert_allclose(begins, np.tile(maze.start, (lecture.EPISODES, 1)), atol=1e-5)
    assert not one.terminated.any()
    # The others begin in the room top right, beyond the wall, and reach the goal.
    assert positions_of(maze, two.observations[two.episode_starts])[:, 1].min() > 12
    assert two.terminated.sum() > 0.9 * lecture.EPISODES
    both = joined(one, two)
    starts = both.episode_starts
    ends = np.append(starts[1:], len(both)) - 1
    at_start = np.linalg.norm(both.observations[starts] - one.observations[0], axis=1) < 1e-6
    assert at_start.sum() == lecture.EPISODES
    assert not both.terminated[ends[at_start]].any()


def test_the_first_kind_ends_in_the_corner(halves):
    one, _ = halves
    ends = positions_of(MAZES[HARD], one.next_observations[one.truncated])
    near = np.linalg.norm(ends - lecture.CORNER, axis=1) < 4
    assert near.mean() > 0.7


def test_actions_of_the_data_suffice_and_their_frequencies_do_not(case, halves):
    data = joined(*halves)
    supported = Chain(case.model, lecture.supported_policy(case.model, data, lecture.DISCOUNT))
    assert supported.expected_return == pytest.approx(-33.0, abs=0.6)  # the best policy's
    counts = Chain(case.model, lecture.counts_policy(case.model, data))
    assert counts.expected_return < -70
    # Without the second kind, nothing leads to the goal.
    alone = Chain(case.model, lecture.supported_policy(case.model, halves[0], lecture.DISCOUNT))
    assert alone.expected_return < -99


def test_counts_are_frequencies_in_the_cell(case, halves):
    data = joined(*halves)
    policy = lecture.counts_policy(case.model, data)
    np.testing.assert_allclose(policy.sum(axis=1), 1)
    cell = np.floor(positions_of(MAZES[HARD], data.observations))
    state = int(case.model.interpolation(data.observations[:1]).argmax())
    own = (cell == np.floor(case.model.grid.layout.nodes[state])).all(axis=1)
    expected = np.bincount(data.actions[own], minlength=5) / own.sum()
    np.testing.assert_allclose(policy[state], expected)


def test_the_error_of_a_return_is_what_the_finer_grid_changes():
    models = [maze_model(MAZES["PointmassMedium-v0"], n) for n in (2, 3)]

    def always_right(observations):
        return np.eye(5, dtype=np.float32)[[2] * len(observations)]

    found, error = return_in(models, always_right)
    returns = [Chain(m, np.eye(5)[[2] * m.num_states]).expected_return for m in models]
    assert found == pytest.approx(returns[1])
    assert error == pytest.approx(abs(returns[1] - returns[0]))


def test_the_command_writes_figure_and_numbers(tmp_path, monkeypatch, capsys, untraced):
    few = {name: lecture.LEARNERS[name] for name in ("imitation", "cql")}
    values = {
        "RESOLUTION": 2, "EPISODES": 5, "LIMIT": 30, "SEEDS": (1,), "UPDATES": 5, "SHOWN": 2,
        "LEARNERS": few,
    }  # fmt: skip
    for name, value in values.items():
        monkeypatch.setattr(lecture, name, value)
    assert lectures.main(["stitching", "--out", str(tmp_path)]) == 0
    assert {path.suffix for path in tmp_path.iterdir()} == {".csv", ".pdf", ".png"}
    rows = outputs.read((tmp_path / "stitching.csv").read_text(), lecture.Row)
    assert len(rows) == 1 + 2 + len(few)
    assert lecture.claims(rows)[0] in capsys.readouterr().out
