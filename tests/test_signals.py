"""Ctrl-C and SIGTERM stop training after its step; no worker outlives its parent."""

import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from unittest import mock

import pytest
from test_resume import await_, begun, end_of, make_lab, outcome, start

from cs285.training import interruption
from cs285.training.interruption import StoppedError, deferred_signals
from cs285.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("untraced")

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def _ctrl_c_is_heard():
    """Undoes what shells do to background jobs: they ignore Ctrl-C, and training would, too."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def lab(tmp_path):
    return make_lab(tmp_path / "lab")


def slowly(seconds=0.05):
    """Slows every step down."""
    advance = Trainer.advance

    def slow(trainer, phase, most):
        time.sleep(seconds)
        return advance(trainer, phase, 1)

    return mock.patch.object(Trainer, "advance", slow)


def is_training(lab):
    return list((lab.root / "data").glob("*/events*"))


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_a_checkpoint_and_its_status(lab, tmp_path, signum, status):
    config = lab.config("finetune", "cql")
    with slowly():
        pid = start(lambda: lab.run("finetune", config))
        await_(lambda: is_training(lab))
        os.kill(pid, signum)
        assert end_of(pid) == status
    assert list((lab.root / "data").glob("*/checkpoint.safetensors"))
    lab.resume("finetune")
    calm = make_lab(tmp_path / "calm")
    calm.run("finetune", config)
    assert outcome(lab) == outcome(calm)


def test_a_second_ctrl_c_stops_at_once(lab):
    with slowly(60):
        pid = start(lambda: lab.run("offline", lab.config("offline", "dqn")))
        await_(lambda: is_training(lab))
        began = time.monotonic()
        os.kill(pid, signal.SIGINT)
        time.sleep(0.3)
        assert os.waitpid(pid, os.WNOHANG) == (0, 0)
        os.kill(pid, signal.SIGINT)
        assert end_of(pid) == 130
        assert time.monotonic() - began < 50
    assert not list((lab.root / "data").glob("*/checkpoint.safetensors"))


def test_the_first_ctrl_c_leaves_a_checkpoint_whatever_came_before_it(lab):
    with slowly(2):
        pid = start(lambda: lab.run("offline", lab.config("offline", "dqn")))
        await_(lambda: is_training(lab))
        os.kill(pid, signal.SIGTERM)
        time.sleep(0.3)
        os.kill(pid, signal.SIGINT)
        assert end_of(pid) == 143
    assert list((lab.root / "data").glob("*/checkpoint.safetensors"))


def test_a_ctrl_c_that_arrives_twice_counts_once(monkeypatch):
    now, ended = [0.0], []
    monkeypatch.setattr(interruption._Request, "second_press_exits", True)
    monkeypatch.setattr(interruption.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(interruption.os, "_exit", ended.append)
    with deferred_signals():
        for moment in (5.0, 5.01, 5.09):
            now[0] = moment
            signal.raise_signal(signal.SIGINT)
        assert ended == []
        now[0] = 5.3
        signal.raise_signal(signal.SIGINT)
        assert ended == [130]


def test_a_signal_between_programs_starts_no_other(lab):
    configs = [lab.config("offline", name) for name in ("dqn", "cql")]

    def requested():
        return signal.SIGTERM if lab.trainers and lab.trainers[0].step == 12 else 0

    with mock.patch.object(interruption, "requested", requested), pytest.raises(StoppedError):
        lab.run("offline", *configs)
    assert len(lab.trainers) == 1
    lab.resume("offline")
    assert len(outcome(lab)) == 2 + 2  # runs and datasets


def test_handlers_are_put_back_and_ignored_signals_stay_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with deferred_signals():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            os.kill(os.getpid(), signal.SIGTERM)
            assert interruption.requested() == signal.SIGTERM
        assert interruption.requested() == 0
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGINT, before)


def workers_of(pid):
    """Lists the children that train; Python's resource tracker may be one, or belong to us."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    commands = {int(each): Path(f"/proc/{each}/cmdline") for each in children}
    return [each for each, path in commands.items() if b"spawn_main" in path.read_bytes()]


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_workers_stop_with_their_parent_and_never_outlive_it(lab, tmp_path):
    """With two workers: SIGTERM to the parent, then -9, then no signal until the end."""
    config = lab.config("explore", "random", total_steps=200_000)
    flags = ["--seeds", "1", "2", "--workers", "2", "--log_interval", 5_000, "-ei", 10_000]
    pid = start(lambda: lab.run("explore", config, flags=flags))
    await_(lambda: len(is_training(lab)) == 2)
    os.kill(pid, signal.SIGTERM)
    assert end_of(pid) == 143
    checkpoints = list((lab.root / "data").glob("*/checkpoint.safetensors"))
    assert len(checkpoints) == 2

    sizes = [path.stat().st_size for path in (lab.root / "data").glob("*/events*")]
    pid = start(lambda: lab.resume("explore"))
    await_(lambda: len(workers_of(pid)) == 2)
    time.sleep(0.5)
    workers = workers_of(pid)
    os.kill(pid, signal.SIGKILL)
    assert end_of(pid) == -signal.SIGKILL
    await_(lambda: not any(map(is_alive, workers)))
    assert len(sizes) == 2


def test_ctrl_c_while_workers_start_is_one_sentence(lab, tmp_path):
    """A terminal sends it to all processes, even to those that are not set up yet."""
    said = tmp_path / "said"

    def work():
        os.setpgid(0, 0)
        os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT), 2)
        lab.run("offline", config, flags=["--seeds", "1", "2", "--workers", "2"])

    config = lab.config("offline", "dqn")
    pid = start(work)
    await_(lambda: len(workers_of(pid)) == 2)
    os.killpg(pid, signal.SIGINT)
    assert end_of(pid) == 130
    assert said.read_bytes() == interruption.POLITE
    assert begun(lab)


def test_ctrl_c_that_first_ends_the_reader_of_the_output_leaves_a_checkpoint(lab):
    """As in `script 2>&1 | tee log`: the terminal sends it to both."""
    config = lab.config("explore", "random", total_steps=200_000)
    script = ROOT / "cs285" / "scripts" / "run_hw5_explore.py"
    flags = ["-cfg", config, "--no_gpu", "-ei", "1000000", "-neval", "1"]
    process = subprocess.Popen(
        [sys.executable, script, *flags],
        cwd=lab.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    await_(lambda: is_training(lab))
    process.stdout.close()
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130
    assert list((lab.root / "data").glob("*/checkpoint.safetensors"))


def test_the_script_says_how_to_resume_and_that_works(lab):
    config = lab.config("explore", "random", total_steps=200_000)
    command = [sys.executable, str(ROOT / "cs285" / "scripts" / "run_hw5_explore.py")]
    flags = ["-cfg", config, "--no_gpu", "-ei", "1000000", "-neval", "1"]
    process = subprocess.Popen(
        [*command, *flags],
        cwd=lab.root,
        env=os.environ
        # Without the folder of this interpreter.
        | {"PATH": "/usr/bin:/bin", "CS285_RESUME_FILE": str(lab.root / "resume.txt")},
        stderr=subprocess.PIPE,
        text=True,
    )
    await_(lambda: is_training(lab))
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130
    (printed,) = re.findall(r"^Stopped\. Resume with: (.*)$", said, re.MULTILINE)
    assert (lab.root / "resume.txt").read_text() == f"{printed}\n"
    *program, flag, folder = shlex.split(printed)
    assert (program, flag) == (command, "--resume")  # this is not where the scripts are
    assert (lab.root / folder / "checkpoint.safetensors").exists()
    refused = subprocess.run(
        [*command, flag, folder, "--seed", "3"],
        cwd=lab.root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 2
    assert "give it alone" in refused.stderr


def test_a_request_in_another_thread_is_forgotten_at_its_end():
    def train():
        with deferred_signals():
            interruption.stop_workers()
            asked.append(interruption.requested())

    asked = []
    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert asked == [signal.SIGTERM]
    assert interruption.requested() == 0
