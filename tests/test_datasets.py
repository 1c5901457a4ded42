"""Datasets are read back exactly as they were saved; any other file is refused in one sentence."""

import io
import json
import shutil
import tracemalloc
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cs285.datasets.dataset_files import (
    FIELDS,
    MAX_TRANSITIONS,
    Dataset,
    dataset_path,
    episode_starts,
    find_dataset,
    load_dataset,
    make_manifest,
    save_dataset,
    set_aside,
)
from cs285.infrastructure.errors import UserError

ENV_ID = "PointmassEasy-v0"


def make_dataset(size=50, manifest=None, seed=0):
    rng = np.random.default_rng(seed)
    return Dataset(
        observations=rng.random((size, 2), np.float32),
        actions=rng.integers(0, 5, size),
        rewards=-rng.random(size, np.float32),
        next_observations=rng.random((size, 2), np.float32),
        terminated=rng.random(size) < 0.1,
        truncated=rng.random(size) < 0.1,
        manifest=manifest or {"format_version": 1, "env_id": ENV_ID},
    )


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "easy_seed1.npz"
    save_dataset(path, make_dataset())
    return path


def members_of(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_members(path, members, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def npy_header(shape, dtype):
    buffer = io.BytesIO()
    header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, header)
    return buffer.getvalue()


def change_manifest(path, **changes):
    members = members_of(path)
    manifest = {"format_version": 1, "env_id": ENV_ID, **changes}
    members["manifest.npy"] = npy(np.array(json.dumps(manifest)))
    write_members(path, members)


@settings(max_examples=25)
@given(data=st.data(), size=st.integers(1, 20))
def test_round_trip_is_bit_for_bit(tmp_path_factory, data, size):
    unit = st.floats(0, 1, width=32)
    finite = st.floats(allow_nan=False, allow_infinity=False, width=32)
    dataset = Dataset(
        data.draw(hnp.arrays(np.float32, (size, 2), elements=unit)),
        data.draw(hnp.arrays(np.int64, size, elements=st.integers(0, 4))),
        data.draw(hnp.arrays(np.float32, size, elements=finite)),
        data.draw(hnp.arrays(np.float32, (size, 2), elements=unit)),
        data.draw(hnp.arrays(np.bool_, size)),
        data.draw(hnp.arrays(np.bool_, size)),
        {"format_version": 1, "env_id": ENV_ID, "config": {"text": data.draw(st.text())}},
    )
    path = tmp_path_factory.mktemp("data") / "file.npz"
    save_dataset(path, dataset)
    loaded = load_dataset(path, ENV_ID)
    for name, array in dataset.arrays().items():
        assert getattr(loaded, name).tobytes() == array.tobytes()
        assert getattr(loaded, name).dtype == array.dtype
    assert loaded.manifest == dataset.manifest


def test_numpy_alone_reads_the_file_without_pickle(path):
    with np.load(path, allow_pickle=False) as file:
        assert set(file) == {*FIELDS, "manifest"}
        assert json.loads(str(file["manifest"]))["env_id"] == ENV_ID
        np.testing.assert_array_equal(file["actions"], make_dataset().actions)


def test_failed_save_keeps_the_old_file(path):
    before = path.read_bytes()
    with pytest.raises(TypeError):
        save_dataset(path, make_dataset(manifest={"env_id": ENV_ID, "not JSON": object()}))
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "bad", "message"),
    [
        ("observations", np.zeros((50, 2)), "observations is float64"),
        ("observations", np.zeros((50, 3), np.float32), "shape \\(50, 3\\)"),
        ("next_observations", np.zeros((49, 2), np.float32), "shape \\(49, 2\\)"),
        ("actions", np.zeros((50, 1), np.int64), "shape \\(50, 1\\)"),
        ("actions", np.zeros(50, np.int32), "actions is int32"),
        ("rewards", np.zeros((50, 1), np.float32), "shape \\(50, 1\\)"),
        ("terminated", np.zeros(50, np.int64), "terminated is int64"),
        ("observations", np.full((50, 2), 1.01, np.float32), "observations must be in"),
        ("next_observations", np.full((50, 2), -0.01, np.float32), "next_observations must be in"),
        ("observations", np.full((50, 2), np.nan, np.float32), "observations must be in"),
        ("rewards", np.full(50, np.inf, np.float32), "rewards must be finite"),
        ("actions", np.full(50, 5), "actions must be from 0 to 4"),
        ("actions", np.full(50, -1), "actions must be from 0 to 4"),
        ("terminated", np.full(50, 2, np.uint8).view(np.bool_), "terminated must be true or false"),
    ],
)
def test_wrong_arrays_are_refused_in_memory_and_in_files(path, name, bad, message):
    with pytest.raises(ValueError, match=message):
        replace(make_dataset(), **{name: bad})
    write_members(path, members_of(path) | {f"{name}.npy": npy(bad)})
    with pytest.raises(UserError, match=message):
        load_dataset(path, ENV_ID)


def test_empty_dataset_is_refused(path):
    empty = {name: np.zeros(0, dtype) for name, dtype in FIELDS.items()}
    with pytest.raises(ValueError, match="no transitions"):
        Dataset(**empty, manifest={"env_id": ENV_ID})
    members = {f"{name}.npy": npy(array) for name, array in empty.items()}
    write_members(path, members_of(path) | members)
    with pytest.raises(UserError, match="no transitions"):
        load_dataset(path, ENV_ID)


def test_a_missing_file_or_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"gone\.npz: No such file"):
        load_dataset(tmp_path / "gone.npz", ENV_ID)
    with pytest.raises(UserError, match="directory"):
        load_dataset(tmp_path, ENV_ID)


@pytest.mark.parametrize("contents", [b"", b"text", b"PK\x03\x04", b"\x80\x04]\x94."])
def test_a_file_that_is_not_an_archive_is_refused(path, contents):
    path.write_bytes(contents)
    with pytest.raises(UserError, match="cannot be used"):
        load_dataset(path, ENV_ID)


def test_file_cut_short_anywhere_is_refused(path):
    whole = path.read_bytes()
    for length in range(0, len(whole), 23):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match="damaged, truncated or not a dataset file"):
            load_dataset(path, ENV_ID)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_damaged_byte_is_refused_or_harmless(path, data):
    contents = bytearray(path.read_bytes())
    position = data.draw(st.integers(0, len(contents) - 1))
    contents[position] ^= data.draw(st.integers(1, 255))
    damaged = path.with_name("damaged.npz")
    damaged.write_bytes(contents)
    try:
        loaded = load_dataset(damaged, ENV_ID)
    except UserError:
        return
    saved = make_dataset()
    for name, array in saved.arrays().items():
        np.testing.assert_array_equal(getattr(loaded, name), array)
    assert loaded.manifest == saved.manifest


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(member=st.sampled_from([*FIELDS, "manifest"]), header=st.binary(max_size=80), data=st.data())
def test_nonsense_within_an_intact_archive_is_refused(path, member, header, data):
    magic = data.draw(st.sampled_from([b"", b"\x93NUMPY\x01\x00", b"\x93NUMPY\x02\x00"]))
    array = magic + len(header).to_bytes(2, "little") + header
    forged = path.with_name("forged.npz")
    write_members(forged, members_of(path) | {f"{member}.npy": array})
    with pytest.raises(UserError, match="cannot be used"):
        load_dataset(forged, ENV_ID)


@pytest.mark.parametrize("name", [*FIELDS, "manifest"])
def test_missing_array_is_named(path, name):
    members = members_of(path)
    del members[f"{name}.npy"]
    write_members(path, members)
    with pytest.raises(UserError, match=f"lacks {name}"):
        load_dataset(path, ENV_ID)


@pytest.mark.parametrize("name", ["actions", "manifest"])
def test_pickled_member_is_refused_and_not_run(path, name, tmp_path):
    class Trap:
        def __reduce__(self):
            return (shutil.rmtree, (str(tmp_path),))

    buffer = io.BytesIO()
    np.save(buffer, np.array([Trap()] * 50, object), allow_pickle=True)
    write_members(path, members_of(path) | {f"{name}.npy": buffer.getvalue()})
    with pytest.raises(UserError, match=f"{name} is pickled"):
        load_dataset(path, ENV_ID)
    assert path.exists()


@pytest.mark.parametrize(
    ("claimed", "stored"),
    [(10**12, 10), (MAX_TRANSITIONS, 10), (MAX_TRANSITIONS + 1, MAX_TRANSITIONS + 1)],
)
def test_huge_claim_is_refused_before_memory_is_allocated(path, claimed, stored):
    array = npy_header((claimed,), np.int64) + bytes(8 * stored)
    write_members(path, members_of(path) | {"actions.npy": array})
    del array
    tracemalloc.start()
    with pytest.raises(UserError, match="claims"):
        load_dataset(path, ENV_ID)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**21


@pytest.mark.parametrize("shape", [(-50,), (2**40, 2**40), (-1, -50), (50, 2**63)])
def test_absurd_shapes_are_refused(path, shape):
    write_members(path, members_of(path) | {"actions.npy": npy_header(shape, np.int64)})
    with pytest.raises(UserError, match="cannot be used"):
        load_dataset(path, ENV_ID)


def test_array_format_with_unlimited_headers_is_refused(path):
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, make_dataset().actions, version=(2, 0))
    write_members(path, members_of(path) | {"actions.npy": buffer.getvalue()})
    with pytest.raises(UserError, match="actions is in an array format"):
        load_dataset(path, ENV_ID)


def test_endless_manifest_is_refused(path):
    change_manifest(path, padding="x" * 1_000_000)
    with pytest.raises(UserError, match="not one short text"):
        load_dataset(path, ENV_ID)


def test_other_compression_is_refused(path):
    write_members(path, members_of(path), zipfile.ZIP_LZMA)
    with pytest.raises(UserError, match="compressed with a method"):
        load_dataset(path, ENV_ID)


def test_dataset_of_another_environment_is_refused_by_name(path):
    with pytest.raises(UserError, match=r"collected in 'PointmassEasy-v0', not in 'PointmassHard"):
        load_dataset(path, "PointmassHard-v0")


@pytest.mark.parametrize("version", [2, 0, None, "1"])
def test_other_format_version_is_refused(path, version):
    change_manifest(path, format_version=version)
    with pytest.raises(UserError, match=f"format version {version}, but this code reads 1"):
        load_dataset(path, ENV_ID)


@pytest.mark.parametrize("manifest", ["[]", "null", "{", "[" * 100_000, '{"format_version": 1}'])
def test_nonsense_manifest_is_refused(path, manifest):
    write_members(path, members_of(path) | {"manifest.npy": npy(np.array(manifest))})
    with pytest.raises(UserError, match="cannot be used"):
        load_dataset(path, ENV_ID)


def test_episodes_start_after_their_ends():
    terminated = np.array([0, 0, 1, 0, 0, 0, 0], bool)
    truncated = np.array([0, 0, 0, 0, 1, 0, 0], bool)
    assert episode_starts(terminated, truncated).tolist() == [0, 3, 5]
    assert episode_starts(terminated[:5], truncated[:5]).tolist() == [0, 3]
    assert episode_starts(terminated[:1], truncated[:1]).tolist() == [0]


def test_manifest_counts_by_hand():
    # Easy is 10 x 10 cells, of which the top two rows and the last two columns, 36, are free.
    observations = np.array([[0.05, 0.05], [0.05, 0.05], [0.05, 0.15], [0.05, 0.05]], np.float32)
    next_observations = np.array([[0.05, 0.06], [0.05, 0.15], [0.95, 1], [0.19, 0.05]], np.float32)
    manifest = make_manifest(
        ENV_ID,
        {"exp_name": "easy_rnd", "rnd_weight": 5.0},
        seed=3,
        arrays={
            "observations": observations,
            "next_observations": next_observations,
            "terminated": np.array([0, 0, 1, 0], bool),
            "truncated": np.array([1, 0, 0, 0], bool),
        },
    )
    assert manifest["env_id"] == ENV_ID
    assert manifest["config"] == {"exp_name": "easy_rnd", "rnd_weight": 5.0}
    assert manifest["seed"] == 3
    assert manifest["transitions"] == 4
    assert manifest["episodes"] == 3
    assert manifest["goals_reached"] == 1
    assert manifest["coverage"] == pytest.approx(4 / 36)
    assert {"python", "torch", "numpy", "gymnasium", "cs285"} <= set(manifest["versions"])
    assert json.loads(json.dumps(manifest)) == manifest


def test_dataset_of_the_seed_is_preferred_to_the_shared_one(tmp_path):
    assert find_dataset(tmp_path, "easy", 1) is None
    (tmp_path / "easy.npz").touch()
    assert find_dataset(tmp_path, "easy", 1) == tmp_path / "easy.npz"
    own = dataset_path(tmp_path, "easy", 1)
    own.touch()
    assert own.name == "easy_seed1.npz"
    assert find_dataset(tmp_path, "easy", 1) == own
    assert find_dataset(tmp_path, "easy", 2) == tmp_path / "easy.npz"


@pytest.mark.parametrize("name", ["../easy", "/etc/easy", "a/b", ""])
def test_dataset_name_with_a_path_in_it_is_refused(tmp_path, name):
    for function in (find_dataset, dataset_path):
        with pytest.raises(UserError, match="dataset_name"):
            function(tmp_path, name, 1)


def test_a_dataset_of_another_config_is_kept_under_another_name(tmp_path):
    path = tmp_path / "maze_rnd_seed1.npz"
    assert set_aside(path, {"total_steps": 10}) is None
    old = make_dataset(manifest=make_dataset().manifest | {"config": {"total_steps": 10}})
    save_dataset(path, old)
    assert set_aside(path, {"total_steps": 10}) is None
    contents = path.read_bytes()
    aside = set_aside(path, {"total_steps": 20})
    assert aside.read_bytes() == contents
    assert not path.exists()
    path.write_bytes(b"not a dataset")
    second = set_aside(path, {"total_steps": 20})
    assert second.read_bytes() == b"not a dataset"
    assert second != aside


def test_keys_without_effect_do_not_make_a_dataset_another(tmp_path):
    """Version 1 saved them with the datasets of random exploration."""
    config = {"base_config": "random", "total_steps": 10}
    saved = config | {"batch_size": 128, "epsilon": 0.3}
    path = tmp_path / "maze_random_seed1.npz"
    save_dataset(path, make_dataset(manifest=make_dataset().manifest | {"config": saved}))
    assert set_aside(path, config) is None
    assert set_aside(path, config | {"total_steps": 11}) is not None
