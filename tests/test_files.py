"""Files are written whole or not at all, and no two runs share a folder."""

import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cs285.infrastructure import files
from cs285.infrastructure.errors import UserError
from cs285.infrastructure.files import check_name, locked, prepare_folder, write_atomically
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
def test_names_that_are_not_plain_are_refused(name):
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
    folder = make_run_folder(tmp_path / "new" / "data", "hw5_explore", "easy_rnd").path
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


def test_prepare_folder_refuses_the_path_of_a_file(tmp_path):
    (tmp_path / "file").write_bytes(b"kept")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match="cannot write to the folder"):
            prepare_folder(path)
    assert (tmp_path / "file").read_bytes() == b"kept"


def test_unwritable_data_dir_is_refused(tmp_path, monkeypatch):
    # Permission bits do not stop root, who may be running this.
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(UserError, match="permission denied"):
        make_run_folder(tmp_path, "hw5_explore", "easy")
    assert not list(tmp_path.iterdir())


# Locks

HOLDER = """
import sys, time
from pathlib import Path
from cs285.infrastructure.files import locked
with locked(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that has locked `tmp_path`."""
    command = [sys.executable, "-c", HOLDER, tmp_path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "locked\n"
        yield process
        process.kill()


def test_a_locked_folder_is_refused_until_its_process_is_killed(tmp_path, holder, monkeypatch):
    monkeypatch.setattr(files, "LOCK_PATIENCE_S", 0.1)
    with pytest.raises(UserError, match="in use by another process"), locked(tmp_path):
        pytest.fail("two processes have one folder")
    holder.kill()
    holder.wait()
    with locked(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_a_process_that_ends_within_a_few_seconds_is_waited_for(tmp_path, holder):
    os.kill(holder.pid, signal.SIGSTOP)
    threading.Timer(0.3, holder.kill).start()
    with locked(tmp_path):
        assert holder.poll() is not None or holder.wait(5) is not None


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSYS, errno.ENOLCK])
def test_a_folder_that_cannot_be_locked_is_used_unlocked(tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuse)
    used = False
    with locked(tmp_path):
        used = True
    assert used


def test_an_error_inside_a_lock_passes_and_frees_the_folder(tmp_path):
    for error in (OSError("mine"), NotImplementedError("mine"), ValueError("mine")):
        with pytest.raises(type(error), match="mine"), locked(tmp_path):
            raise error
        assert not list(tmp_path.iterdir())


def test_only_folders_can_be_locked(tmp_path):
    with pytest.raises(UserError, match="no such directory"), locked(tmp_path / "missing"):
        pytest.fail("a missing folder was locked")
