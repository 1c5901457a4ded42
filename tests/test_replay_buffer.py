"""Replay buffers keep what they are given, separately for each run."""

import numpy as np
import pytest
import torch

from cs285.agents.exploration import hidden_task
from cs285.learning.objective import Batch
from cs285.learning.replay_buffer import ReplayBuffer, look_up


def insert(buffer, *numbers, terminated=False, truncated=False):
    """Inserts into ring k a transition with `numbers[k]` encoded in every part."""
    values = np.array(numbers)
    observations = np.stack([values, values + 0.5], axis=-1)
    flags = np.ones(len(values), bool)
    buffer.insert(
        observations, values % 5, -values, observations + 1, flags & terminated, flags & truncated
    )


def transitions(*numbers):
    """Makes the five arrays that `fill` takes, encoded as in `insert`."""
    values = np.array(numbers, dtype=np.float32)
    observations = np.stack([values, values + 0.5], axis=-1)
    dones = np.zeros(len(values), bool)
    return [observations, values.astype(np.int64) % 5, -values, observations + 1, dones]


def sample(buffer, uniforms):
    return Batch(**look_up(buffer.columns, buffer.rows(uniforms)))


def held(buffer, run):
    """Reads the numbers of one ring back, in the order of storage."""
    return (-buffer.contents(run).rewards).tolist()


def test_every_part_of_a_transition_is_stored_exactly():
    buffer = ReplayBuffer(2, 4, (2,))
    insert(buffer, 3, 7, terminated=True)
    batch = sample(buffer, np.array([[0.0, 0.9], [0.3, 0.6]]))
    assert batch.observations.tolist() == [[[3, 3.5]] * 2, [[7, 7.5]] * 2]
    assert batch.actions.tolist() == [[3, 3], [2, 2]]
    assert batch.rewards.tolist() == [[-3, -3], [-7, -7]]
    assert batch.next_observations.tolist() == [[[4, 4.5]] * 2, [[8, 8.5]] * 2]
    assert batch.dones.tolist() == [[True, True], [True, True]]


def test_batches_have_the_types_that_losses_expect():
    buffer = ReplayBuffer(1, 4, (2,))
    insert(buffer, 1)
    types = [field.dtype for field in sample(buffer, np.zeros((1, 3)))]
    assert types == [torch.float32, torch.int64, torch.float32, torch.float32, torch.bool]


def test_a_full_ring_overwrites_its_oldest_transition():
    buffer = ReplayBuffer(1, 3, (2,))
    for number in range(5):
        insert(buffer, number)
    assert sorted(held(buffer, 0)) == [2, 3, 4]
    insert(buffer, 5)
    assert sorted(held(buffer, 0)) == [3, 4, 5]
    assert buffer.sizes.tolist() == [3]


def test_a_timeout_is_not_terminal():
    buffer = ReplayBuffer(1, 3, (2,))
    insert(buffer, 0, truncated=True)
    insert(buffer, 1, terminated=True)
    insert(buffer, 2, terminated=True, truncated=True)
    assert buffer.contents(0).dones.tolist() == [False, True, True]
    assert buffer.truncated[0].tolist() == [True, False, True]


def test_an_overwritten_timeout_is_forgotten():
    buffer = ReplayBuffer(1, 1, (2,))
    insert(buffer, 0, truncated=True)
    insert(buffer, 1)
    assert buffer.truncated.tolist() == [[False]]


def test_runs_may_hold_different_numbers_of_transitions():
    buffer = ReplayBuffer(3, 4, (2,))
    buffer.fill(0, transitions(10, 11, 12))
    buffer.fill(2, transitions(20))
    insert(buffer, 1, 2, 3)
    assert buffer.sizes.tolist() == [4, 1, 2]
    assert [held(buffer, run) for run in range(3)] == [[10, 11, 12, 1], [2], [20, 3]]
    insert(buffer, 4, 5, 6)
    assert [held(buffer, run) for run in range(3)] == [[4, 11, 12, 1], [2, 5], [20, 3, 6]]


def test_samples_come_from_a_runs_own_ring_and_only_from_what_it_holds():
    buffer = ReplayBuffer(3, 100, (2,))
    for run, numbers in enumerate([range(1, 4), range(11, 18), range(21, 22)]):
        buffer.fill(run, transitions(*numbers))
    uniforms = np.append(np.arange(200) / 200, np.nextafter(1, 0))
    rewards = sample(buffer, np.tile(uniforms, (3, 1))).rewards
    assert [sorted(set((-row).tolist())) for row in rewards] == [
        list(range(1, 4)),
        list(range(11, 18)),
        [21],
    ]


def test_every_transition_is_equally_likely():
    buffer = ReplayBuffer(1, 50, (2,))
    buffer.fill(0, transitions(*range(7)))
    draws = 70_000
    uniforms = np.random.default_rng(0).random((1, draws))
    counts = np.bincount((-sample(buffer, uniforms).rewards[0]).long().numpy(), minlength=7)
    # Pearson's statistic has 6 degrees of freedom; it exceeds 22.5 with probability 0.001.
    expected = draws / 7
    assert ((counts - expected) ** 2 / expected).sum() < 22.5


def test_the_parts_of_a_sampled_transition_belong_together():
    buffer = ReplayBuffer(2, 40, (2,))
    for run in range(2):
        buffer.fill(run, transitions(*range(100 * run, 100 * run + 30)))
    batch = sample(buffer, np.random.default_rng(0).random((2, 64)))
    numbers = -batch.rewards
    torch.testing.assert_close(batch.observations, torch.stack([numbers, numbers + 0.5], -1))
    torch.testing.assert_close(batch.next_observations, batch.observations + 1)
    assert torch.equal(batch.actions, numbers.long() % 5)


def test_a_batch_may_be_larger_than_the_data():
    buffer = ReplayBuffer(1, 10, (2,))
    buffer.fill(0, transitions(1, 2))
    batch = sample(buffer, np.random.default_rng(0).random((1, 128)))
    assert batch.observations.shape == (1, 128, 2)
    assert set((-batch.rewards[0]).tolist()) == {1, 2}


def test_a_sample_is_a_copy():
    buffer = ReplayBuffer(1, 1, (2,))
    insert(buffer, 1)
    batch = sample(buffer, np.zeros((1, 1)))
    insert(buffer, 2)
    assert batch.rewards.tolist() == [[-1]]


def test_fill_takes_exactly_what_fits():
    buffer = ReplayBuffer(1, 3, (2,))
    buffer.fill(0, transitions(1, 2, 3))
    assert held(buffer, 0) == [1, 2, 3]


def test_fill_refuses_more_than_fits():
    buffer = ReplayBuffer(1, 3, (2,))
    with pytest.raises(ValueError, match=r"capacity 3.*cannot take 4"):
        buffer.fill(0, transitions(1, 2, 3, 4))
    assert buffer.sizes.tolist() == [0]


def test_fill_refuses_a_ring_that_holds_data():
    buffer = ReplayBuffer(2, 9, (2,))
    buffer.fill(1, transitions(1, 2))
    with pytest.raises(ValueError, match=r"ring 1.*holds 2"):
        buffer.fill(1, transitions(3))
    assert held(buffer, 1) == [1, 2]


def test_a_ring_without_room_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        ReplayBuffer(1, 0, (2,))


def test_the_ring_of_a_run_does_not_depend_on_the_other_rings():
    alone, among = ReplayBuffer(1, 3, (2,)), ReplayBuffer(3, 3, (2,))
    for number in range(5):
        insert(alone, number)
        insert(among, 50 + number, number, 90 + number)
    uniforms = np.random.default_rng(0).random((1, 20))
    others = np.random.default_rng(1).random((2, 20))
    expected = sample(alone, uniforms)
    batch = sample(among, np.stack([others[0], uniforms[0], others[1]]))
    for ours, theirs in zip(batch, expected, strict=True):
        assert torch.equal(ours[1], theirs[0])


def test_the_task_can_be_hidden_from_a_run_while_its_ring_keeps_it():
    buffer = ReplayBuffer(2, 3, (2,), [hidden_task(), ()])
    insert(buffer, 5, 5)
    insert(buffer, 7, 7, terminated=True)
    batch = sample(buffer, np.tile([0.0, 0.5], (2, 1)))
    assert batch.rewards.tolist() == [[0, 0], [-5, -7]]
    assert batch.dones.tolist() == [[False, False], [False, True]]
    assert batch.observations[0].tolist() == [[5, 5.5], [7, 7.5]]
    for run in range(2):
        assert held(buffer, run) == [5, 7]
        assert buffer.contents(run).dones.tolist() == [False, True]


def test_where_the_task_is_hidden_an_episode_ends_in_an_absorbing_state():
    buffer = ReplayBuffer(2, 4, (2,), [hidden_task(), ()])
    insert(buffer, 5, 5, terminated=True)
    insert(buffer, 7, 7)
    insert(buffer, 9, 9)
    batch = sample(buffer, np.tile([0.0, 0.4, 0.9], (2, 1)))
    end = [6, 6.5]
    own = buffer.contents(0)
    assert batch.observations[0].tolist() == [own.observations[0].tolist(), end, [9, 9.5]]
    assert batch.next_observations[0].tolist() == [end, end, own.next_observations[2].tolist()]
    for shown, kept in zip(batch, buffer.contents(1), strict=True):
        assert torch.equal(shown[1], kept)
    assert held(buffer, 0) == [5, 7, 9]


def test_a_ring_with_derived_columns_overwrites_nothing():
    buffer = ReplayBuffer(1, 2, (2,), [hidden_task()])
    insert(buffer, 5)
    insert(buffer, 7)
    with pytest.raises(ValueError, match="a ring of 2 is full"):
        insert(buffer, 9)
    assert held(buffer, 0) == [5, 7]


def test_a_ring_that_has_overwritten_something_is_not_taken_for_a_shorter_one():
    """Training never asks for it: its rings have room for all that will come."""
    full = ReplayBuffer(1, 3, (2,))
    for number in range(5):
        insert(full, number)
    for capacity in (3, 6):
        with pytest.raises(ValueError, match="cannot hold"):
            ReplayBuffer(1, capacity, (2,)).set_state(full.get_state())
