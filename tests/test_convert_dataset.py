"""Old pickled buffers become datasets for offline learning, and hostile pickles never run."""

import contextlib
import io
import os
import pickle
import struct
import sys
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from numpy._core.multiarray import _reconstruct, scalar
from numpy._core.numeric import _frombuffer
from test_rollouts import solve_easy
from test_training import EASY, Lab

from cs285.datasets import pickled_buffers
from cs285.datasets.dataset_files import Dataset, load_dataset
from cs285.datasets.oddities import impossible_moves
from cs285.datasets.pickled_buffers import read_pickled_buffer
from cs285.envs.mazes import MAZES, positions_of
from cs285.envs.pointmass import PointmassEnv, PointmassVectorEnv
from cs285.infrastructure import replay_buffer
from cs285.infrastructure.errors import UserError
from cs285.scripts.convert_dataset import convert, main

MEDIUM = "PointmassMedium-v0"


class OldBuffer:
    """The buffer of public versions: arrays of its capacity, and a `size` that never stops growing.

    It pickles under the name that it has there.
    """

    def __init__(self, max_size):
        self.max_size = max_size
        self.size = 0

    def insert(self, **transition):
        for name, value in transition.items():
            row = np.asarray(value)
            if not hasattr(self, name):
                setattr(self, name, np.full((self.max_size, *row.shape), 77, row.dtype))
            getattr(self, name)[self.size % self.max_size] = row
        self.size += 1


OldBuffer.__module__ = replay_buffer.__name__
OldBuffer.__name__ = OldBuffer.__qualname__ = "ReplayBuffer"


def dump(value, protocol=4):
    """Pickles a value under the class name of public versions."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replay_buffer, "ReplayBuffer", OldBuffer)
        return pickle.dumps(value, protocol)


def collect(steps, capacity=None, *, timeouts_are_done=True, dtype=np.float64, seed=0):
    """Explores Easy; returns an old buffer and all transitions, as `(steps, ...)` arrays.

    Half of the episodes reach the goal within the step limit of 20.
    """
    env, rng = PointmassEnv(EASY, max_episode_steps=20), np.random.default_rng(seed)
    buffer, seen = OldBuffer(capacity or steps), []
    observation = env.reset(seed=seed)[0].astype(dtype)
    for _ in range(steps):
        action = int(rng.integers(5)) if rng.random() < 0.4 else solve_easy(observation)
        after, reward, terminated, truncated, _ = env.step(action)
        after = after.astype(dtype)
        buffer.insert(
            observations=observation,
            actions=action,
            rewards=reward,
            next_observations=after,
            dones=terminated or (truncated and timeouts_are_done),
        )
        seen.append((observation, action, reward, after, terminated, truncated and not terminated))
        ended = terminated or truncated
        observation = env.reset()[0].astype(dtype) if ended else after
    names = ("observations", "actions", "rewards", "next_observations", "terminated", "truncated")
    columns = map(np.array, zip(*seen, strict=True))
    return buffer, dict(zip(names, columns, strict=True))


def crafted(next_positions, rewards, dones, env_id=EASY):
    """Makes an old buffer of single steps from the start, in positions (row, column)."""
    maze, count = MAZES[env_id], len(rewards)
    buffer = OldBuffer(count)
    buffer.size = count
    buffer.observations = np.tile(np.array(maze.start) / maze.scale, (count, 1))
    buffer.actions = np.zeros(count, np.int64)
    buffer.rewards = np.array(rewards, np.float64)
    buffer.next_observations = np.array(next_positions) / maze.scale
    buffer.dones = np.array(dones)
    return buffer


@pytest.fixture
def place(tmp_path):
    return SimpleNamespace(old=tmp_path / "old.pkl", new=tmp_path / "new.npz", folder=tmp_path)


@pytest.fixture
def converted(place):
    """Converts a buffer, or bytes: `converted(buffer)`; returns the arrays of the new file."""

    def converted(old, env_name=EASY, protocol=4):
        place.old.write_bytes(old if isinstance(old, bytes) else dump(old, protocol))
        convert(place.old, place.new, env_name)
        return load_dataset(place.new, env_name).arrays()

    return converted


@pytest.fixture
def refusal(place, capsys):
    """Runs the script on a pickle that it must refuse; returns the one sentence of its error."""

    def refusal(old, *flags):
        if old is not None:
            place.old.write_bytes(old if isinstance(old, bytes) else dump(old))
        before = sorted(place.folder.iterdir())
        assert main([str(place.old), str(place.new), *flags]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.startswith("error: ")
        assert said.err.count("\n") == 1
        assert len(said.err) - len(str(place.old)) < 600
        assert sorted(place.folder.iterdir()) == before
        return said.err

    return refusal


# Valid buffers


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize("timeouts_are_done", [True, False])
def test_the_data_are_kept_as_they_were_collected(converted, protocol, timeouts_are_done):
    buffer, seen = collect(400, 1000, timeouts_are_done=timeouts_are_done)
    assert seen["terminated"].sum() > 3
    assert seen["truncated"].sum() > 3
    for name, array in converted(buffer, protocol=protocol).items():
        np.testing.assert_array_equal(array, seen[name])


def test_observations_may_have_32_bits(converted):
    buffer, seen = collect(200, dtype=np.float32)
    arrays = converted(buffer)
    np.testing.assert_array_equal(arrays["terminated"], seen["terminated"])
    np.testing.assert_array_equal(arrays["observations"], seen["observations"])


@pytest.mark.parametrize("steps", [149, 150, 151, 290, 300, 460])
def test_a_full_ring_is_put_into_the_order_of_collection(converted, steps):
    buffer, seen = collect(steps, 150)
    for name, array in converted(buffer).items():
        np.testing.assert_array_equal(array, seen[name][-150:])


def test_names_of_numpy_1_are_known(converted):
    buffer, seen = collect(60)
    old = dump(buffer, 3).replace(b"numpy._core", b"numpy.core")
    assert b"_core" not in old
    np.testing.assert_array_equal(converted(old)["actions"], seen["actions"])


@pytest.mark.parametrize("protocol", [4, 5])
def test_other_layouts_of_arrays_are_read(converted, protocol):
    buffer, seen = collect(60)
    buffer.observations = np.asfortranarray(buffer.observations)
    buffer.next_observations = buffer.next_observations.astype(">f8")
    buffer.actions = buffer.actions.astype(np.int8)
    buffer.rewards = buffer.rewards.astype(np.float32)
    buffer.size = np.int64(60)
    arrays = converted(buffer, protocol=protocol)
    for name in ("observations", "next_observations", "actions", "rewards"):
        np.testing.assert_array_equal(arrays[name], seen[name].astype(arrays[name].dtype))


def test_offline_learning_reads_a_converted_dataset(tmp_path):
    lab = Lab(tmp_path)
    (tmp_path / "datasets").mkdir()
    (tmp_path / "old.pkl").write_bytes(dump(collect(300)[0]))
    new = tmp_path / "datasets" / "converted.npz"
    assert main([str(tmp_path / "old.pkl"), str(new)]) == 0
    lab.run("offline", lab.config("offline", "dqn", dataset_name="converted"))
    held = lab.trainers[0].buffer.contents(0)
    stored = load_dataset(new, EASY)
    np.testing.assert_array_equal(held.observations, stored.observations)
    np.testing.assert_array_equal(held.dones, stored.terminated)


def test_the_manifest_says_where_the_data_are_from(converted, place):
    buffer, seen = collect(200)
    converted(buffer)
    manifest = load_dataset(place.new, EASY).manifest
    assert manifest["config"]["converted_from"] == "old.pkl"
    assert len(manifest["config"]["sha256"]) == 64
    assert (manifest["env_id"], manifest["seed"], manifest["transitions"]) == (EASY, None, 200)
    assert manifest["goals_reached"] == seen["terminated"].sum()


# Ends of episodes; the goal of Easy is the disc of radius 2 around (9, 9)


def test_step_limit_and_goal_are_distinguished_by_position(converted):
    arrays = converted(crafted([(9, 8), (1, 2), (8, 8)], [0, -1, 0], [True, True, True]))
    assert arrays["terminated"].tolist() == [True, False, True]
    assert arrays["truncated"].tolist() == [False, True, False]


def test_an_episode_without_a_flag_ends_where_the_next_one_begins_elsewhere(converted):
    arrays = converted(crafted([(1, 2), (1, 1), (2, 1.5)], [-1, -1, -1], [False, False, False]))
    assert arrays["truncated"].tolist() == [True, False, False]


def test_the_goal_terminates_even_at_the_step_limit_of_versions_that_flag_neither(converted):
    arrays = converted(crafted([(9, 8.5)], [0], [False]))
    assert arrays["terminated"].tolist() == [True]


@pytest.mark.parametrize("reward", [0, -1])
def test_on_the_edge_of_the_goal_the_reward_decides(converted, reward):
    arrays = converted(crafted([(7 + 1e-7, 9), (7 - 1e-7, 9)], [reward, reward], [True, True]))
    assert arrays["terminated"].tolist() == [reward == 0] * 2
    assert arrays["truncated"].tolist() == [reward == -1] * 2


# What a maze does not allow; Medium has a limit of 150 steps, and walls below its first row


def episode(positions, env_id=MEDIUM):
    """An old buffer of one episode through positions (row, column), which stays at each."""
    buffer = crafted(positions[1:], [-1] * (len(positions) - 1), [False] * (len(positions) - 1))
    buffer.observations = np.array(positions[:-1]) / MAZES[env_id].scale
    buffer.next_observations = np.array(positions[1:]) / MAZES[env_id].scale
    return buffer


def converted_text(place, capsys, buffer, env_id=MEDIUM):
    place.old.write_bytes(dump(buffer))
    assert main([str(place.old), str(place.new), "--env_name", env_id]) == 0
    return capsys.readouterr().out, load_dataset(place.new, env_id)


def test_a_move_across_the_maze_is_told(place, capsys):
    """As after an evaluation in the same environment: from the start to (5.5, 2.5)."""
    buffer = episode([(0.5, 0.5), (0.6, 0.7), (5.5, 2.5), (5.5, 2.7), (5.4, 2.6)])
    text, dataset = converted_text(place, capsys, buffer)
    assert "through a wall: 1, the first at index 1. Public versions make one" in text
    assert "They were converted unchanged" in text
    assert dataset.manifest["conversion"]["impossible_moves"] == 1
    np.testing.assert_allclose(dataset.next_observations[1] * 6, [5.5, 2.5], rtol=1e-6)


@pytest.mark.parametrize(
    ("after", "action", "impossible"),
    [
        ((0.5, 1.5), 2, False),  # one cell to the right
        ((0.5, 1.9), 1, False),  # against an action to the left: 4.8 standard deviations of noise
        ((2.5, 0.5), 4, True),  # through the wall at (1, 0)
        ((2.5, 1.5), 4, False),  # around it, by way of (0, 1) and (1, 1)
    ],
)
def test_a_step_goes_as_far_as_noise_and_walls_let_it(place, capsys, after, action, impossible):
    buffer = episode([(0.5, 0.5), after])
    buffer.actions[:] = action
    _, dataset = converted_text(place, capsys, buffer)
    assert dataset.manifest["conversion"]["impossible_moves"] == impossible


def test_distance_alone_makes_a_move_impossible(place, capsys):
    """Easy is open along its first rows: 4.5 cells are 7 standard deviations beyond an action."""
    for number, (column, impossible) in enumerate(((4.9, 0), (5.5, 1))):
        buffer = episode([(1.0, 1.0), (1.0, column)], EASY)
        buffer.actions[:] = 2
        place.new = place.folder / f"{number}.npz"
        _, dataset = converted_text(place, capsys, buffer, EASY)
        assert dataset.manifest["conversion"]["impossible_moves"] == impossible


def test_no_real_step_counts_as_impossible():
    """40,000 steps of the environment itself, in all mazes."""
    for env_id, maze in MAZES.items():
        env = PointmassVectorEnv(env_id, 100, AutoresetMode.SAME_STEP)
        rng = np.random.default_rng(3)
        before, _ = env.reset(seed=3)
        for _ in range(100):
            actions = rng.integers(5, size=100)
            after, _, terminated, truncated, infos = env.step(actions)
            ended = terminated | truncated
            ends = after.copy()
            if ended.any():
                ends[ended] = np.stack(infos["final_obs"][ended])
            moves = impossible_moves(
                maze, positions_of(maze, before), actions, positions_of(maze, ends)
            )
            assert not moves.any()
            before = after


def test_episodes_that_are_too_long_are_told(place, capsys):
    positions = [(0.5, 0.5 + 0.001 * step) for step in range(401)]
    text, dataset = converted_text(place, capsys, episode(positions))
    assert "Episodes longer than the limit of 150 steps: 1, the longest with 400." in text
    assert "across the maze" not in text
    assert dataset.manifest["conversion"]["overlong_episodes"] == 1


@pytest.mark.parametrize("timeouts_are_done", [True, False])
def test_the_meaning_of_the_flags_is_told(place, capsys, timeouts_are_done):
    """The limit of 20 steps is not that of Easy, so that nothing is too long."""
    buffer, seen = collect(400, timeouts_are_done=timeouts_are_done)
    text, _ = converted_text(place, capsys, buffer, EASY)
    marks = "the goal and truncation" if timeouts_are_done else "only the goal"
    cut = seen["truncated"].sum()
    assert f"Truncated episodes: {cut}; the flags in the pickle mark {marks}." in text
    assert "They were converted" not in text


def test_training_names_the_pickle_beside_a_missing_dataset(tmp_path):
    lab = Lab(tmp_path)
    (tmp_path / "datasets").mkdir()
    for name in ("rnd_data.pkl", "rnd_data_seed1.pkl"):
        (tmp_path / "datasets" / name).write_bytes(b"x")
        with pytest.raises(UserError) as caught:
            lab.run("offline", lab.config("offline", "dqn", dataset_name="rnd_data"))
        said = str(caught.value)
        new = name.replace(".pkl", ".npz")
        assert f"a pickled buffer of a public version, {name}; convert it with" in said
        assert "`python cs285/scripts/convert_dataset.py " in said
        assert f"datasets/{name} " in said
        assert f"datasets/{new} --env_name PointmassEasy-v0`" in said
        assert "run_hw5_explore" not in said


# The environment


def test_the_environment_is_recognised_by_the_data(place, capsys):
    place.old.write_bytes(dump(collect(300)[0]))
    assert main([str(place.old), str(place.new)]) == 0
    said = capsys.readouterr().out
    assert "300 transitions of PointmassEasy-v0" in said
    assert load_dataset(place.new, EASY).manifest["env_id"] == EASY


def test_data_that_fit_several_environments_need_a_name(refusal):
    # The corner of the start is free in Easy and in Medium.
    buffer = crafted([(1, 1.2)], [-1], [False])
    assert "PointmassEasy-v0 and PointmassMedium-v0" in refusal(buffer)


def test_data_of_another_environment_are_refused(refusal):
    buffer = collect(300)[0]
    for env_id in MAZES.keys() - {EASY}:
        assert f"not from {env_id} because transition" in refusal(buffer, "--env_name", env_id)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"rewards": np.zeros(3)}, "transition 0 has reward 0 instead of -1"),
        ({"rewards": np.array([-1, 0.5, -1])}, "transition 1 has reward 0.5 instead of -1"),
        ({"next_observations": np.array([[0.1, 0.1], [0.1, 0.1], [0.9, 0.1]])}, "2 is in a wall"),
        ({"observations": np.array([[0.1, 0.1], [0.9, 0.1], [0.1, 0.1]])}, "1 is in a wall"),
        (
            {"observations": np.array([[0.1, 0.1], [0.15, 0.15], [0.1, 0.1]])},
            "transition 1 begins an episode away from the start",
        ),
    ],
)
def test_data_that_contradict_the_environment_are_refused(refusal, change, reason):
    buffer = crafted([(1, 2), (1, 2), (1, 2)], [-1, -1, -1], [True, True, True])
    vars(buffer).update(change)
    assert reason in refusal(buffer, "--env_name", EASY)


# Invalid buffers


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"size": 0}, "no transitions"),
        ({"size": -3}, "no transitions"),
        ({"max_size": 0}, "no transitions"),
        ({"size": 1 << 600, "max_size": 1 << 600}, "more than 2,000,000"),
        ({"size": 2_000_001, "max_size": 2_000_001}, "more than 2,000,000"),
        ({"size": 4, "max_size": 4}, "cannot hold 4 transitions"),
        ({"size": 3.0}, "BINFLOAT"),
        ({"size": True}, "not a whole number"),
        ({"size": None}, "not a whole number"),
        ({"size": np.float64(3)}, "not a whole number"),
        ({"actions": np.zeros((3, 1), int)}, "actions is int64 of shape (3, 1)"),
        ({"actions": np.zeros(3)}, "actions is float64"),
        ({"actions": np.full(3, 5)}, "actions must be from 0 to 4"),
        ({"actions": np.full(3, 2**64 - 1, np.uint64)}, "actions must be from 0 to 4"),
        ({"observations": np.zeros((3, 3))}, "observations is float64 of shape (3, 3)"),
        ({"observations": np.zeros((3, 2, 1))}, "does not have one or two axes"),
        ({"observations": np.full((3, 2), np.nan)}, "observations must be in [0, 1]"),
        ({"next_observations": np.full((3, 2), 1.1)}, "next_observations must be in [0, 1]"),
        ({"dones": np.array([0, 1, 2])}, "dones must be true or false"),
        ({"dones": [False, True, False]}, "EMPTY_LIST"),
        ({"dones": None}, "dones is not an array"),
        ({"dones": np.array(True)}, "does not have one or two axes"),
        ({"rewards": np.zeros(3, complex)}, "not plain numbers"),
        ({"rewards": np.zeros(3, "datetime64[s]")}, "not plain numbers"),
        ({"rewards": np.zeros(3, "U3")}, "not plain numbers"),
        ({"rewards": np.zeros(0)}, "rewards is float64 of shape (0,)"),
        ({"position": 3}, "attribute 'position'"),
        ({"framed_observations": np.zeros(3)}, "attribute 'framed_observations'"),
    ],
)
def test_invalid_buffers_are_refused(refusal, change, reason):
    buffer = crafted([(1, 2), (1, 2), (1, 2)], [-1, -1, -1], [True, True, True])
    vars(buffer).update(change)
    assert reason in refusal(buffer, "--env_name", EASY)


def test_a_missing_array_is_named(refusal):
    buffer = collect(5)[0]
    del buffer.rewards
    assert "lacks rewards" in refusal(buffer)


@pytest.mark.parametrize(
    "value", [None, 3, "text", {}, (), np.zeros(3), collect(5)[0].dones, {"size": 3}]
)
def test_other_pickles_are_refused(refusal, value):
    refusal(dump(value))


@pytest.mark.parametrize(
    "content", [b"", b".", b"text", b"\x80\x04", b"PK\x03\x04", b"}}s.", b"t."]
)
def test_a_file_that_is_not_a_pickle_is_refused(refusal, content):
    assert "cannot be used" in refusal(content)


def test_a_pickle_cut_short_anywhere_is_refused(place):
    whole = dump(collect(20)[0])
    for length in range(0, len(whole), 17):
        place.old.write_bytes(whole[:length])
        with pytest.raises(UserError, match="cannot be used"):
            read_pickled_buffer(place.old)


def test_a_dataset_needs_no_conversion(refusal, converted, place):
    converted(collect(5)[0])
    place.new.rename(place.old)
    assert "datasets need no conversion" in refusal(None)


def test_missing_files_folders_and_pipes_are_refused(refusal, place):
    assert "no file" in refusal(None)
    place.old.mkdir()
    assert "no file" in refusal(None)
    place.old.rmdir()
    os.mkfifo(place.old)
    assert "no file" in refusal(None)


def test_a_file_that_is_too_large_is_not_read_to_its_end(refusal, monkeypatch):
    monkeypatch.setattr(pickled_buffers, "MAX_BYTES", 100)
    assert "larger than 100 bytes" in refusal(collect(20)[0])


# The new file


def test_an_existing_file_is_kept(refusal, place):
    place.new.write_bytes(b"years of work")
    assert "already exists" in refusal(collect(5)[0])
    assert place.new.read_bytes() == b"years of work"


def test_the_new_file_must_be_named_like_a_dataset(refusal, place):
    place.new = place.folder / "new.pkl"
    assert "must end in .npz, such as" in refusal(collect(5)[0])


def test_a_missing_folder_is_named(refusal, place):
    place.new = place.folder / "gone" / "new.npz"
    assert "no such file or directory" in refusal(collect(300)[0])


def test_an_unknown_environment_is_refused(place, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([str(place.old), str(place.new), "--env_name", "../PointmassEasy-v0"])
    assert stopped.value.code == 2
    assert "invalid choice" in capsys.readouterr().err


# Hostile pickles


class Reduced:
    """Is pickled as a call of a function with arguments and, if given, a state."""

    def __init__(self, *parts):
        self.parts = parts

    def __reduce__(self):
        return self.parts


def short(text):
    return b"\x8c" + bytes([len(text)]) + text.encode()


def hidden_in(attribute, value):
    buffer = collect(5)[0]
    setattr(buffer, attribute, value)
    return dump(buffer)


def hostile(path):
    """Returns pickles that make the folder `path` when they are loaded, by their method."""
    mkdir = Reduced(os.mkdir, (path,))
    numbers = np.zeros(5)
    owner = b"ccs285.infrastructure.replay_buffer\nReplayBuffer\n"
    return {
        "call": dump(mkdir, 3),
        "call by a name on the stack": dump(mkdir, 4),
        "call by a name in the text": f"cposix\nmkdir\n(V{path}\ntR.".encode(),
        "call by a type": b"\x80\x03cposix\nmkdir\n" + short(path) + b"\x85R.",
        "INST": f"(V{path}\niposix\nmkdir\n.".encode(),
        "OBJ": f"(cposix\nmkdir\nV{path}\no.".encode(),
        "built-in function": dump(Reduced(eval, (f"__import__('os').mkdir({path!r})",))),
        "state that is a method": b"\x80\x04" + owner + b")\x81}" + short("__setstate__")
        + b"cposix\nmkdir\nsb" + short(path) + b"b.",
        "attribute of the buffer": hidden_in("size", mkdir),
        "array of the buffer": hidden_in("actions", mkdir),
        "in the shape of an array": hidden_in(
            "actions",
            Reduced(_reconstruct, (np.ndarray, (0,), b"b"), (1, mkdir, numbers.dtype, False, b"")),
        ),
        "elements of an array": hidden_in("actions", np.array([mkdir] * 5, object)),
        "fields of an array": hidden_in("actions", np.array([(mkdir,)] * 5, [("field", object)])),
        "metadata of a type": hidden_in(
            "actions",
            Reduced(
                np.dtype, ("f8", False, True), (4, "<", None, None, None, -1, -1, 0, {"x": mkdir})
            ),
        ),
        "number": hidden_in("size", Reduced(scalar, (np.dtype(object), mkdir))),
        "thrown away": b"\x80\x04" + dump(mkdir, 4)[2:-1] + b"0" + dump(collect(5)[0], 4)[2:],
        "name with dots": b"\x80\x04" + short("cs285.infrastructure.files") + short("os.mkdir")
        + b"\x93" + short(path) + b"\x85R.",
    }  # fmt: skip


WAYS = list(hostile("canary"))


@pytest.mark.parametrize("way", WAYS)
def test_hostile_pickles_do_not_run(refusal, place, monkeypatch, way):
    canary = place.folder / "canary"
    content = hostile(str(canary))[way]
    # The pickle is as dangerous as it claims.
    with monkeypatch.context() as patch:
        patch.setattr(replay_buffer, "ReplayBuffer", OldBuffer)
        with contextlib.suppress(Exception):
            pickle.loads(content)
    canary.rmdir()
    refusal(content)
    assert not canary.exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"Pwho\n.", "PERSID"),
        (b"\x8c\x03whoQ.", "BINPERSID"),
        (b"\x80\x02\x82\x01.", "EXT1"),
        (b"\x80\x04\x8c\x02osN\x93.", "a name is missing"),
        (b"cnumpy\nndarray\n}b.", "changes something that it did not create"),
        (b"cnumpy\nndarray\nN}\x86b.", "changes something that it did not create"),
        (b"\x80\x05\x97.", "NEXT_BUFFER"),
        (b"\x85.", "a value is missing"),
        (b"h\x07.", "a value is missing"),
        (b"t.", "a mark is missing"),
        (b"N(0t.", "POP"),
        (b"N(\x85t.", "not a replay buffer"),
        (b"}(Nu.", "a dictionary is missing"),
        (b"NK\x01Ns.", "a dictionary is missing"),
        (b"\x80\x04" * 1_000 + b"N.", "more than 1,000 instructions"),
        (dump(np.ndarray), "not a replay buffer"),
        (dump(Reduced(np.ndarray, ((10**15,),))), "not a replay buffer"),
        (dump(np.random.default_rng(0)), "asks for 'numpy.random"),
        (dump(Dataset), "asks for 'cs285.datasets.dataset_files.Dataset'"),
        (dump(collect(5)[0], 0), "asks for 'copy_reg._reconstructor'"),
        (dump(collect(5)[0], 2), "asks for '_codecs.encode'"),
    ],
)
def test_instructions_and_names_that_no_buffer_needs_are_refused(refusal, content, reason):
    assert reason in refusal(content)


def claiming(shape, dtype="f8", content=b"12345678"):
    return Reduced(
        _reconstruct, (np.ndarray, (0,), b"b"), (1, shape, np.dtype(dtype), False, content)
    )


def nested(levels):
    """A tuple of two of a tuple of two ...: 2^levels items in a few bytes."""
    return b"N" + b"\x94h\x00\x86" + b"".join(b"q%ch%c\x86" % (k, k) for k in range(1, levels))


BOMBS = {
    "shape of terabytes": hidden_in("actions", claiming((10**12,))),
    "shape that overflows": hidden_in("actions", claiming((2**40, 2**40))),
    "shape that overflows to the true size": hidden_in("actions", claiming((2**63, 2**63))),
    "negative shape": hidden_in("actions", claiming((-1,))),
    "shape of truths": hidden_in("actions", claiming((True,))),
    "wide elements": hidden_in("actions", claiming((1,), "V999999999")),
    "endless text type": hidden_in("actions", claiming((0,), "U200000000")),
    "protocol 5": hidden_in(
        "actions", Reduced(_frombuffer, (bytearray(8), np.dtype("i8"), (10**12,), "C"))
    ),
    "many transitions": hidden_in("max_size", 10**15),
    "missing bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"x.",
    "bytes beyond all memory": b"\x80\x05\x96" + struct.pack("<Q", 2**64 - 1) + b"x.",
    "missing text": b"\x80\x04\x8d" + struct.pack("<Q", 2**40) + b"x.",
    "memo": b"\x80\x04Nr\xff\xff\xff\xff.",
    "memo by a number in letters": b"Np999999999999\n.",
    "digits": b"I" + b"9" * 100_000 + b"\n.",
    "long number": b"\x8b" + struct.pack("<i", 1_000_000) + b"\x7f" * 1_000_000 + b".",
    "long program": b"N0" * 100_000 + b".",
    "marks": b"(" * 100_000 + b"t" * 100_000 + b".",
    "depth": b")" + b"\x85" * 100_000 + b".",
    "depth within the limit": b")" + b"\x85" * 900 + b".",
    "aliases": nested(99) + b".",
    "aliases as a key": b"}" + nested(99) + b"Ns.",
    "aliases as a shape": b"\x80\x03cnumpy.core.multiarray\n_reconstruct\n)R(K\x01" + nested(99)
    + b"NNNtb.",
    "a buffer in itself": b"ccs285.infrastructure.replay_buffer\nReplayBuffer\n)\x81\x94}"
    + short("size") + b"h\x00sb.",
}  # fmt: skip


@pytest.mark.parametrize("bomb", BOMBS)
def test_bombs_are_refused_before_memory_is_allocated(refusal, bomb):
    tracemalloc.start()
    refusal(BOMBS[bomb])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20 + 3 * len(BOMBS[bomb])


def test_nothing_is_imported_by_a_name_in_a_pickle(refusal, place):
    module = place.folder / "hostile_module.py"
    module.write_text("raise SystemExit('imported')")
    sys.path.insert(0, str(place.folder))
    try:
        refusal(b"chostile_module\nName\n.")
    finally:
        sys.path.remove(str(place.folder))
    assert "hostile_module" not in sys.modules


def test_a_valid_pickle_is_read_as_pickle_would(place):
    """The reader here and the standard one agree on which pickles are valid."""
    buffer, _ = collect(30, 40)
    place.old.write_bytes(dump(buffer))
    ours = read_pickled_buffer(place.old)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replay_buffer, "ReplayBuffer", OldBuffer)
        theirs = pickle.load(io.BytesIO(place.old.read_bytes()))
    for name in ("observations", "actions", "rewards", "next_observations", "dones"):
        array = getattr(theirs, name)[:30]
        assert getattr(ours, name).dtype == array.dtype
        np.testing.assert_array_equal(getattr(ours, name), array)
