"""Full disks, vanished and read-only folders, odd clocks: one sentence, and nothing lost."""

import itertools
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

import pytest
from test_resume import end_of, make_lab, outcome, read_tensors, start
from test_training import read_scalars

from cs285.infrastructure.errors import UserError
from cs285.training import checkpoints
from cs285.training.checkpoints import load_checkpoint
from cs285.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("untraced")


@pytest.fixture
def labs(tmp_path):
    """Two equal laboratories; something goes wrong in the second one."""
    return [make_lab(tmp_path / "calm"), make_lab(tmp_path / "stormy")]


def test_a_full_disk_ends_with_a_sentence_and_the_run_resumes_once_there_is_space(labs):
    calm, stormy = labs
    config = calm.config("finetune", "cql")
    calm.run("finetune", config)
    stormy.stop(10, "finetune", config, flags=["--checkpoint_interval", 1])

    def cramped():
        resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, 5_000))
        with pytest.raises(UserError, match=r"cannot write .* --resume"):
            stormy.resume("finetune")

    assert end_of(start(cramped)) == 0
    assert end_of(start(lambda: stormy.resume("finetune"))) == 0
    assert outcome(calm) == outcome(stormy)


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(labs, capsys):
    calm, other = labs
    config = calm.config("offline", "cql")
    calm.run("offline", config)
    save, failed = checkpoints.write_atomically, []

    def fail_later(path, write):
        failed.append(load_checkpoint(path)["step"] if path.exists() else None)
        if len(failed) in {3, 4}:
            raise UserError(f"cannot write {path}: read-only file system")
        save(path, write)

    with mock.patch.object(checkpoints, "write_atomically", fail_later):
        other.run("offline", config, flags=["--checkpoint_interval", 2])
    assert failed == [None, 2, 4, 4, 4]
    assert "read-only file system; no checkpoint was written at step 6" in capsys.readouterr().out
    assert outcome(calm) == outcome(other)


def test_a_folder_that_vanishes_costs_no_data(labs, capsys):
    calm, other = labs
    config = calm.config("explore", "rnd", updates_per_step=1)
    calm.run("explore", config)
    advance = Trainer.advance

    def vanish(trainer, phase, most):
        if trainer.step == 30:
            for path in trainer.recorder.recorders[0].folder.path.iterdir():
                path.unlink()
            trainer.recorder.recorders[0].folder.path.rmdir()
        return advance(trainer, phase, most)

    with (
        mock.patch.object(Trainer, "advance", vanish),
        pytest.raises(UserError, match=r"cannot write .*no such file"),
    ):
        other.run("explore", config, flags=["--checkpoint_interval", 20])
    assert "no checkpoint was written at step 40" in capsys.readouterr().out
    expected, found = (lab.explored("explore_rnd") for lab in labs)
    assert all((found[name] == expected[name]).all() for name in expected)


def test_a_disk_too_full_for_the_log_does_not_end_a_run():
    code = "from cs285.training import console; console.forgive()\n"
    with Path("/dev/full").open("wb") as full:
        for forgives in (False, True):
            done = subprocess.run(
                [sys.executable, "-c", f"{code * forgives}print('progress', flush=True)"],
                stdout=full,
                stderr=full,
                check=False,
            )
            assert (done.returncode == 0) == forgives


def test_what_can_be_shown_is_shown_in_order(capfd):
    code = "import sys; from cs285.training import console; print('a'); console.forgive()\n"
    code += "print('b', 'ä' * 9, flush=True); print('c', file=sys.stderr); sys.stdout.isatty()"
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert capfd.readouterr() == ("a\nb " + "\\xe4" * 9 + "\n", "c\n")


@pytest.fixture
def shared_folder():
    """A folder that other users can enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def without_privileges(folder):
    """Drops root's right to write anywhere in this process, and hands over a folder."""
    if os.geteuid() == 0:
        for path in [folder, *folder.rglob("*")]:
            shutil.chown(path, 65534)
        os.seteuid(65534)


def test_a_read_only_folder_ends_with_a_sentence_and_the_run_resumes_once_it_is_writable(
    tmp_path, shared_folder, capfd
):
    calm, stormy = make_lab(tmp_path / "calm"), make_lab(shared_folder / "stormy")
    config = calm.config("finetune", "dqn")
    calm.run("finetune", config)
    stormy.stop(10, "finetune", config)
    (folder,) = (stormy.root / "data").iterdir()
    folder.chmod(0o555)

    def barred():
        without_privileges(stormy.root)
        with pytest.raises(UserError, match=r"cannot write .*permission denied.* --resume"):
            stormy.resume("finetune")

    assert end_of(start(barred)) == 0
    folder.chmod(0o755)
    assert load_checkpoint(folder / "checkpoint.safetensors")["step"] == 10
    stormy.resume("finetune")
    assert outcome(calm) == outcome(stormy)


def test_a_clock_that_is_set_back_changes_nothing(labs):
    calm, other = labs
    config = calm.config("explore", "random")
    calm.run("explore", config)
    moments = itertools.count(2_000_000_000, -3_600)
    with mock.patch.object(time, "time", side_effect=moments):
        other.run("explore", config, stops=[30])
    assert outcome(calm) == outcome(other)


def test_eight_processes_with_one_config_in_one_second_lose_nothing(labs):
    calm, lab = labs
    config = calm.config("explore", "random")
    (expected,) = calm.run("explore", config)
    with mock.patch.object(time, "strftime", return_value="now"):
        processes = [start(lambda: lab.run("explore", config)) for _ in range(8)]
    assert [end_of(pid) for pid in processes] == [0] * 8
    folders = list((lab.root / "data").iterdir())
    assert len(folders) == 8
    for folder in folders:
        assert (folder / "summary.json").exists()
        assert read_scalars(folder) == read_scalars(expected)
        assert read_tensors(folder / "agent.pt") == read_tensors(expected / "agent.pt")
    found, wanted = (each.explored("explore_random") for each in (lab, calm))
    assert all((found[name] == wanted[name]).all() for name in wanted)
    assert not list((lab.root / "datasets").glob("*replaced*"))
