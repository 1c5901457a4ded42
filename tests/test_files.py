"""Files are written whole or not at all, and no two runs share a folder."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cs285.infrastructure.errors import UserError
from cs285.infrastructure.files import check_name, prepare_folder, write_atomically
from cs285.results.run_folders import make_run_folder

FAULTS = {
    "error in the writer": ZeroDivisionError(),
    "interrupt": KeyboardInterrupt(),
    "disk full": OSError(errno.ENOSPC, "No space left on device"),
}


def test_write_replaces_the_old_contents(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"a much longer old text")
    write_atomically(path, lambda file: file.write(b"new"))
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, fault):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def write(file):
        file.write(b"half of the new")
        raise fault

    with pytest.raises(UserError if isinstance(fault, OSError) else type(fault)):
        write_atomically(path, write)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_killed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    program = f"""
import os, pathlib, signal
from cs285.infrastructure.files import write_atomically
def write(file):
    file.write(b"half of the new")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
write_atomically(pathlib.Path({str(path)!r}), write)
"""
    done = subprocess.run([sys.executable, "-c", program], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    assert all(other.suffix == ".tmp" for other in tmp_path.iterdir() if other != path)


def test_contents_are_complete_before_they_get_the_name(tmp_path):
    path = tmp_path / "file"

    def write(file):
        file.write(b"data")
        assert not path.exists()

    write_atomically(path, write)
    assert path.read_bytes() == b"data"


def test_written_file_has_ordinary_permissions(tmp_path):
    ordinary = tmp_path / "ordinary"
    ordinary.write_bytes(b"")
    write_atomically(tmp_path / "atomic", lambda file: file.write(b""))
    assert (tmp_path / "atomic").stat().st_mode == ordinary.stat().st_mode


def test_write_into_a_missing_folder_names_the_path(tmp_path):
    path = tmp_path / "missing" / "file"
    with pytest.raises(UserError, match=r"missing/file.*no such file or directory"):
        write_atomically(path, lambda file: file.write(b""))


@pytest.mark.parametrize(
    "name", ["easy_rnd", "PointmassHard-v0", "cql alpha=0.1", "a..b", "größe", "x" * 200]
)
def test_plain_names_pass(name):
    assert check_name(name, "dataset_name") == name


@pytest.mark.parametrize(
    "name",
    [
        "", " ", ".", "..", ".hidden", "../up", "a/b", "/root", "a\\b", "a\nb", "a\0b", "a\x7f",
        "\udcff", "x" * 201, "ü" * 101,
    ],
)  # fmt: skip
def test_names_that_are_no_plain_names_are_refused(name):
    with pytest.raises(UserError, match="dataset_name"):
        check_name(name, "dataset_name")


@given(
    st.text(st.characters(codec=None, categories=None) | st.sampled_from("/\\.\0\n"), max_size=9)
)
def test_an_accepted_name_stays_in_its_folder(name):
    try:
        check_name(name, "name")
    except UserError:
        return
    folder = Path("/data")
    assert Path(os.path.normpath(folder / f"{name}.npz")).parent == folder
    assert (folder / f"{name}.npz").name == f"{name}.npz"


def test_run_folder_is_named_after_prefix_and_name(tmp_path):
    folder = make_run_folder(tmp_path / "new" / "data", "hw5_explore", "easy_rnd")
    assert folder.is_dir()
    assert folder.parent == tmp_path / "new" / "data"
    assert folder.name.startswith("hw5_explore_easy_rnd_2")


def test_taken_run_folders_are_numbered(tmp_path, monkeypatch):
    monkeypatch.setattr("time.strftime", lambda _: "now")
    names = [make_run_folder(tmp_path, "hw5_offline", "cql").name for _ in range(3)]
    assert names == [f"hw5_offline_cql_now{suffix}" for suffix in ("", "-2", "-3")]


def test_eight_processes_in_the_same_second_get_eight_folders(tmp_path):
    program = """
import pathlib, sys, time
from cs285.results.run_folders import make_run_folder
time.strftime = lambda _: "now"
sys.stdin.read()
print(make_run_folder(pathlib.Path(sys.argv[1]), "hw5_explore", "same").name)
"""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, tmp_path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(8)
    ]
    for process in processes:
        process.stdin.close()
        process.stdin = None
    names = {process.communicate()[0].strip() for process in processes}
    assert len(names) == 8
    assert names == {path.name for path in tmp_path.iterdir()}


def test_run_name_with_a_path_creates_nothing(tmp_path):
    with pytest.raises(UserError, match="path separator"):
        make_run_folder(tmp_path / "data", "hw5_explore", "../../escape")
    assert not list(tmp_path.iterdir())


def test_prepare_folder_creates_parents_and_leaves_no_trace(tmp_path):
    folder = prepare_folder(tmp_path / "a" / "b")
    assert folder.is_dir()
    assert not list(folder.iterdir())


def test_prepare_folder_where_a_file_stands_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"kept")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match="cannot write to the folder"):
            prepare_folder(path)
    assert (tmp_path / "file").read_bytes() == b"kept"


def test_unwritable_data_dir_is_refused(tmp_path, monkeypatch):
    # Permission bits don't stop a superuser, who may well be the one to run this.
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(UserError, match="permission denied"):
        make_run_folder(tmp_path, "hw5_explore", "easy")
    assert not list(tmp_path.iterdir())
