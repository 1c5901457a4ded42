"""Whatever stops a run, it can be resumed, and ends as if it had never stopped."""

import json
import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from test_training import Lab, read_scalars

from cs285.homework import Stage
from cs285.infrastructure.errors import DivergenceError, UserError
from cs285.results.run_folders import RunFolder
from cs285.results.sinks.appended_file import AppendedFile
from cs285.scripts import training_flags
from cs285.training import interruption, trainer
from cs285.training.checkpoints import load_checkpoint, save_checkpoint
from cs285.training.interruption import StoppedError
from cs285.training.program_recorder import ProgramRecorder
from cs285.training.trainer import Trainer

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.usefixtures("untraced")
"""Whatever is resumed would be traced anew."""


class Interrupted(Lab):
    """A lab that stops its runs at some steps and resumes them each time, until they end."""

    def run(self, stage, *configs, flags=(), stops=()):
        if not stops:
            return super().run(stage, *configs, flags=flags)
        with mock.patch.object(interruption, "requested", self.request(stops)):
            with pytest.raises(StoppedError, match="--resume"):
                super().run(stage, *configs, flags=flags)
            for _ in stops[1:]:
                with pytest.raises(StoppedError, match="--resume"):
                    self.resume(stage)
            return self.resume(stage)

    def stop(self, step, stage, *configs, flags=()):
        """Starts runs and stops them at a step."""
        request = mock.patch.object(interruption, "requested", self.request([step]))
        with request, pytest.raises(StoppedError):
            super().run(stage, *configs, flags=flags)

    def request(self, stops):
        waiting = list(stops)

        def requested():
            step = max((trainer.step for trainer in self.trainers), default=0)
            if waiting and step >= waiting[0]:
                waiting.pop(0)
                return signal.SIGINT
            return 0

        return requested

    def resume(self, stage, folder=None):
        """Resumes runs by the first of their folders, or by another one."""
        self.trainers = []

        def make_trainer(*arguments):
            self.trainers.append(Trainer(*arguments))
            return self.trainers[-1]

        folder = folder or next((self.root / "data").glob("hw5_*"))
        with (
            mock.patch("cs285.training.programs.Trainer", make_trainer),
            mock.patch.object(ProgramRecorder, "draw"),
            mock.patch("cs285.training.run_recorder.RunRecorder.draw_learning_curve"),
        ):
            arguments = training_flags.make_parser(Stage(stage), "").parse_args(
                ["--resume", str(folder)]
            )
            training_flags.run(Stage(stage), arguments)
        return sorted((self.root / "data").iterdir())


@pytest.fixture
def labs(tmp_path):
    """Two equal laboratories; the second one interrupts its runs."""
    both = [Lab(tmp_path / "calm"), Interrupted(tmp_path / "stormy")]
    for lab in both:
        lab.root.mkdir()
        for seed in (1, 2):
            lab.save_data(seed=seed)
    return both


def outcome(lab):
    """Returns everything that runs leave behind except times, by name of run or dataset."""
    left = {}
    for folder in (lab.root / "data").iterdir():
        summary = json.loads((folder / "summary.json").read_text())
        for key in ("wall_time_s", "started"):
            del summary[key]
        name = (summary["exp_name"], summary["seed"])
        left[name] = summary, read_scalars(folder), read_tensors(folder / "agent.pt")
        curves = RunFolder(folder).read_log(set(read_scalars(folder))).curves
        for tag, series in read_scalars(folder).items():
            steps = [step for step, _ in series]
            assert len(steps) == len(set(steps)), f"{tag} has a step twice"
            if np.isfinite([value for _, value in series]).all():
                assert curves[tag].steps.tolist() == sorted(steps)
    for path in (lab.root / "datasets").glob("*.npz"):
        with np.load(path) as file:
            left[path.name] = {k: file[k].tobytes() for k in file.files if k != "manifest"}
    return left


def read_tensors(path):
    if not path.exists():
        return None
    state = torch.load(path, weights_only=True)
    return {name: tensor.numpy().tobytes() for name, tensor in state.items()}


FEWER_UPDATES = {"rnd": {"updates_per_step": 2}}
"""Instead of four, by algorithm: without tracing they take long."""

CASES = [
    ("explore", ["rnd"], [7, 20, 33], []),
    ("explore", ["random"], [30], []),
    ("explore", ["rnd"], [29], ["--seeds", "1", "2"]),
    ("offline", ["cql"], [1, 7], []),
    ("offline", ["iql"], [5], []),
    ("offline", ["cql", "iql", "awac"], [3, 8, 8], ["--seeds", "1", "2"]),
    ("offline", ["iql"], [5], ["--compile", "on"]),
    ("finetune", ["dqn"], [3, 6, 40], []),
    ("finetune", ["iql"], [31], ["--seeds", "1", "2"]),
]


@pytest.mark.parametrize(("stage", "algorithms", "stops", "flags"), CASES)
def test_an_interrupted_run_ends_as_the_uninterrupted_one(labs, stage, algorithms, stops, flags):
    calm, stormy = labs
    configs = [
        calm.config(stage, algorithm, **FEWER_UPDATES.get(algorithm, {}))
        for algorithm in algorithms
    ]
    calm.run(stage, *configs, flags=flags)
    stormy.run(stage, *configs, flags=flags, stops=stops)
    assert outcome(calm) == outcome(stormy)
    assert not list((stormy.root / "data").rglob("checkpoint.safetensors"))


def test_the_critic_that_acts_still_acts_after_resuming(labs):
    calm, stormy = labs
    config = calm.config("explore", "rnd", num_exploration_steps=40, **FEWER_UPDATES["rnd"])
    calm.run("explore", config)
    stormy.run("explore", config, stops=[30, 40, 50])
    assert outcome(calm) == outcome(stormy)


def test_rings_never_wrap_however_often_a_run_is_resumed(labs):
    _, stormy = labs
    for stage, algorithm, given in (("explore", "random", 0), ("finetune", "dqn", 80)):
        config = stormy.config(stage, algorithm)
        stormy.run(stage, config, stops=[25, 40, 50])
        buffer = stormy.trainers[0].buffer
        assert buffer.inserted.tolist() == [given + (60 if stage == "explore" else 55)]
        assert buffer.capacity == buffer.inserted[0], "room for all, and for no more"
        shutil.rmtree(stormy.root / "data")


def test_intervals_change_nothing_but_the_moments_of_checkpoints(labs):
    calm, other = labs
    saved = []
    with mock.patch.object(Trainer, "_checkpoint", lambda self: saved.append(self.step)):
        other.run("finetune", other.config("finetune", "cql"), flags=["--checkpoint_interval", 5])
    calm.run("finetune", calm.config("finetune", "cql"), flags=["--checkpoint_interval", 0])
    assert outcome(calm) == outcome(other)
    assert saved == list(range(5, 61, 5))


def test_checkpoints_come_each_minute_but_never_take_a_hundredth_of_the_time(labs):
    lab, _ = labs
    now, saved = [0.0], []
    advance = Trainer.advance

    def clock():
        return now[0]

    def last_half_a_minute(trainer, phase, most):
        now[0] += 30
        return advance(trainer, phase, most)

    def save(path, state):
        saved.append(now[0])
        now[0] += 0.125 if len(saved) == 1 else 2

    with (
        mock.patch.object(time, "monotonic", clock),
        mock.patch.object(Trainer, "advance", last_half_a_minute),
        mock.patch.object(trainer, "save_checkpoint", save),
    ):
        lab.run("finetune", lab.config("finetune", "dqn"))
    assert saved[:4] == [60, 120.125, 542.125, 964.125]  # at least 60 and 400 s apart


def test_neither_open_files_nor_threads_grow_with_steps(labs):
    lab, _ = labs
    go_on, seen = Trainer._checkpoint_or_stop, []

    def count(trainer):
        go_on(trainer)
        lowest = os.dup(0)  # of the numbers that are free
        os.close(lowest)
        seen.append((lowest, threading.active_count()))

    with mock.patch.object(Trainer, "_checkpoint_or_stop", count):
        lab.run("finetune", lab.config("finetune", "dqn"), flags=["--checkpoint_interval", 5])
    assert len(seen) > 55
    assert all(max(counts) == counts[0] for counts in zip(*seen, strict=True))


# Kills


def start(work):
    """Starts some work in a forked process, which need not import anything again."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        sys.stderr = sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - until the end
        work()
        status = 0
    except StoppedError as error:
        status = 128 + error.signum
    except (UserError, DivergenceError):
        status = 2
    finally:
        os._exit(status)


def end_of(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def begun(lab):
    """Returns whether all folders of a sweep exist and are recorded."""
    folders = list((lab.root / "data").glob("hw5_*"))
    return folders and all((folder / "sweep.json").exists() for folder in folders)


def await_(condition, seconds=300):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def start_or_resume(lab, stage, configs, flags):
    if begun(lab):
        return start(lambda: lab.resume(stage))
    for folder in (lab.root / "data").glob("hw5_*"):  # killed before anything was recorded
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
    return start(lambda: lab.run(stage, *configs, flags=flags))


STORMS = [
    ("explore", ["rnd"], []),
    ("offline", ["cql", "iql"], ["--seeds", "1", "2"]),
    ("finetune", ["awac"], ["--seeds", "1", "2"]),
    ("explore", ["rnd", "random"], ["--seeds", "1", "2"]),
    ("offline", ["dqn"], ["--compile", "on"]),
    ("finetune", ["cql"], []),
    ("offline", ["cql", "iql"], ["--seeds", "1", "2", "--workers", "2"]),
]
LONGER = {
    "explore": {"total_steps": 120},
    "offline": {"training_steps": 120},
    "finetune": {"offline_steps": 40, "online_steps": 80},
}
KILLS = int(os.environ.get("KILLS", "3"))
"""`tools/kill_test.sh` sets a larger number."""
SEED = int(os.environ.get("KILL_SEED", "1"))


@pytest.mark.parametrize("number", range(min(KILLS, len(STORMS))))
def test_kills_at_random_moments_change_nothing(tmp_path, number):
    stage, algorithms, flags = STORMS[number]
    flags = [*flags, "--checkpoint_interval", 20, "-ei", 40]
    rng = np.random.default_rng([SEED, number])
    calm = make_lab(tmp_path / "calm")
    configs = [
        calm.config(stage, algorithm, **LONGER[stage] | FEWER_UPDATES.get(algorithm, {}))
        for algorithm in algorithms
    ]
    began = time.monotonic()
    assert end_of(start(lambda: calm.run(stage, *configs, flags=flags))) == 0
    duration = time.monotonic() - began
    expected = outcome(calm)
    wanted, kills, rounds = len(range(number, KILLS, len(STORMS))), 0, 0
    while kills < wanted:
        stormy = make_lab(tmp_path / f"stormy{rounds}")
        rounds += 1
        status = None
        while status != 0:
            pid = start_or_resume(stormy, stage, configs, flags)
            time.sleep(rng.uniform(0, 0.7 * duration))
            if kills < wanted:
                os.kill(pid, signal.SIGKILL)
            status = end_of(pid)
            assert status in {0, -signal.SIGKILL}
            kills += status != 0
        assert outcome(stormy) == expected
    print(
        f"{stage} {' '.join(algorithms)} {' '.join(map(str, flags))}: {kills} kills, all identical"
    )


def make_lab(root):
    lab = Interrupted(root)
    root.mkdir()
    for seed in (1, 2):
        lab.save_data(seed=seed)
    return lab


@pytest.mark.parametrize("stage", ["explore", "finetune"])
def test_kills_within_any_write_change_nothing(labs, stage):
    """Every attempt gets one flush to disk or one rename further, then kills itself."""
    calm, stormy = labs
    config = calm.config(stage, {"explore": "random", "finetune": "dqn"}[stage])
    calm.run(stage, config)
    stormy.stop(3, stage, config, flags=["--checkpoint_interval", 20])
    attempts, status = 0, None
    while status != 0:
        attempts += 1
        with kill_at(attempts):
            status = end_of(start(lambda: stormy.resume(stage)))
    assert attempts > 6
    assert outcome(calm) == outcome(stormy)
    assert not list((stormy.root / "data").rglob("*.tmp"))


@pytest.mark.parametrize("number", [1, 20])
def test_a_kill_within_an_event_leaves_no_part_of_it(labs, number):
    calm, stormy = labs
    config = calm.config("finetune", "dqn")
    calm.run("finetune", config)
    stormy.stop(10, "finetune", config)
    (path,) = (stormy.root / "data").rglob("events*")
    whole = path.stat().st_size
    with kill_within_record(number):
        assert end_of(start(lambda: stormy.resume("finetune"))) == -signal.SIGKILL
    assert RunFolder(path.parent).read_log(["eval_return"]).problems
    assert path.stat().st_size > whole
    stormy.resume("finetune")
    assert outcome(calm) == outcome(stormy)


def kill_within_record(number):
    append, left = AppendedFile.append, [number]

    def dying(file, content):
        left[0] -= 1
        if left[0] == 0:
            append(file, content[:-6])
            os.kill(os.getpid(), signal.SIGKILL)
        append(file, content)

    return mock.patch.object(AppendedFile, "append", dying)


def kill_at(number):
    left = [number]

    def dying(function):
        def call(*arguments, **names):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **names)

        return call

    return mock.patch.multiple("os", fsync=dying(os.fsync), replace=dying(os.replace))


# What is refused


@pytest.fixture
def stopped(tmp_path):
    """A laboratory with a stopped offline run, and its folder."""
    lab = make_lab(tmp_path / "lab")
    lab.stop(5, "offline", lab.config("offline", "cql"))
    (folder,) = (lab.root / "data").iterdir()
    return lab, folder


def test_the_dataset_may_be_deleted_once_a_checkpoint_exists(stopped):
    lab, folder = stopped
    for path in (lab.root / "datasets").iterdir():
        path.unlink()
    assert lab.resume("offline") == [folder]
    assert (folder / "summary.json").exists()


def test_finished_runs_are_left_alone(stopped, capsys):
    lab, folder = stopped
    lab.resume("offline")
    assert "already ended" not in capsys.readouterr().out
    before = {path: path.read_bytes() for path in folder.iterdir()}
    lab.resume("offline")
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    assert capsys.readouterr().out == "offline_cql_sd1: already ended\n"
    # Version 1, killed between the last two things it did, left this.
    (folder / "checkpoint.pt").touch()
    lab.resume("offline")
    assert capsys.readouterr().out == "offline_cql_sd1: already ended\n"


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda folder: (folder / "sweep.json").unlink(), "cannot open"),
        (lambda folder: (folder / "sweep.json").write_text("[]"), "not a valid record of runs"),
        (lambda folder: (folder / "sweep.json").write_text('{"first": "../x"}'), "plain name"),
        (lambda folder: (folder / "sweep.json").write_text('{"first": "gone"}'), "cannot open"),
        (lambda folder: (folder / "checkpoint.safetensors").write_bytes(b"PK"), "cannot be used"),
        (
            lambda folder: save_checkpoint(folder / "checkpoint.safetensors", {}),
            "does not fit its config.yaml",
        ),
        (
            lambda folder: (folder / "checkpoint.safetensors").rename(folder / "checkpoint.pt"),
            "is a checkpoint of version 1",
        ),
        (lambda folder: lower(folder / "config.yaml"), "with other settings"),
        (lambda folder: [path.unlink() for path in folder.glob("events*")], "the log"),
        (lambda folder: [os.truncate(p, 9) for p in folder.glob("events*")], "shorter than"),
    ],
)
def test_one_sentence_says_what_cannot_be_resumed(stopped, damage, expected):
    lab, folder = stopped
    damage(folder)
    with pytest.raises(UserError, match=expected):
        lab.resume("offline")


def lower(path):
    path.write_text(path.read_text().replace("discount: 0.98", "discount: 0.9"))


def test_a_folder_of_another_stage_names_its_script(stopped):
    lab, _ = stopped
    with pytest.raises(UserError, match=r"belongs to run_hw5_offline.py; resume it with that"):
        lab.resume("explore")


@pytest.mark.parametrize(
    ("place", "named"),
    [
        ("data/run", "."),
        ("data/run", "../run/"),
        ("data/run/deeper", ".."),
        (".", "data/run/"),
        (".", "data/other/../run"),
        (".", "latest"),
        ("elsewhere", "../data/latest"),
    ],
)
def test_a_run_folder_may_be_named_in_any_way_from_anywhere(labs, monkeypatch, place, named):
    calm, lab = labs
    monkeypatch.chdir(lab.root)
    config = lab.config("explore", "random")
    for each, more in ((calm, {}), (lab, {"stops": [30]})):
        with mock.patch.object(Interrupted, "resume"):
            each.run("explore", config, flags=["--seeds", "1", "2"], **more)
    first, second = sorted((lab.root / "data").iterdir())
    place, named = (text.replace("run", second.name) for text in (place, named))
    for path in (second / "deeper", lab.root / "elsewhere", lab.root / "data" / "other"):
        path.mkdir()
    for path in (lab.root / "latest", lab.root / "data" / "latest"):
        path.symlink_to(second)
    monkeypatch.chdir(lab.root / place)
    lab.resume("explore", Path(named))
    for seed in (1, 2):
        expected, found = (each.explored("explore_random", seed) for each in labs)
        assert all((found[name] == expected[name]).all() for name in expected)
    assert not (lab.root / place / "datasets").exists() or place == "."
    assert not (first / "checkpoint.safetensors").exists()


def test_a_moved_folder_that_left_a_link_resumes(labs):
    _, lab = labs
    lab.stop(5, "offline", lab.config("offline", "dqn"), flags=["--seeds", "1", "2"])
    folder = next((lab.root / "data").iterdir())
    moved = folder.rename(lab.root / "moved")
    folder.symlink_to(moved)
    lab.resume("offline", folder)
    assert (moved / "summary.json").exists()


def test_two_processes_do_not_train_one_run(stopped, monkeypatch):
    from cs285.infrastructure import files

    lab, folder = stopped
    monkeypatch.setattr(files, "LOCK_PATIENCE_S", 0.1)
    with files.locked(folder), pytest.raises(UserError, match="in use by another process"):
        lab.resume("offline")


# Agents of any kind


def test_agents_without_objectives_resume_too(labs):
    make_agent = trainer.make_agent

    def loose(config):
        agent = make_agent(config)
        agent.__class__ = type("Loose", (type(agent),), {})  # not declared stackable
        agent.counts = {"seen": 0}
        agent.update = counting(agent)
        return agent

    def counting(agent):
        def update(*batch):
            agent.counts["seen"] += 1
            return type(agent).update(agent, *batch)

        return update

    with mock.patch.object(trainer, "make_agent", loose):
        for lab, more in zip(labs, ({}, {"stops": [4, 30]}), strict=True):
            lab.run("finetune", lab.config("finetune", "iql"), **more)
            assert lab.trainers[0].learner.agents[0].counts == {"seen": 61}
    calm, stormy = map(outcome, labs)
    assert calm == stormy


def test_an_agent_that_cannot_be_saved_starts_over(labs, capsys):
    make_agent = trainer.make_agent

    def opaque(config):
        agent = make_agent(config)
        agent.__class__ = type("Opaque", (type(agent),), {})
        agent.memory = memoryview(b"what it saw")
        return agent

    with mock.patch.object(trainer, "make_agent", opaque):
        for lab, more in zip(labs, ({}, {"stops": [4]}), strict=True):
            lab.run("offline", lab.config("offline", "cql"), **more)
    assert (
        "Opaque.memory is a memoryview. If stopped, the run starts over." in capsys.readouterr().out
    )
    calm, stormy = map(outcome, labs)
    assert calm == stormy


def test_an_agent_that_can_no_longer_be_saved_resumes_from_the_last_checkpoint(labs, capsys):
    make_agent = trainer.make_agent

    def closing(config):
        agent = make_agent(config)
        agent.__class__ = type("Closing", (type(agent),), {"update": update})
        return agent

    def update(agent, *batch):
        if batch[-1] == 6:
            agent.memory = memoryview(b"what it saw")
        return super(type(agent), agent).update(*batch)

    flags = ["--checkpoint_interval", 2]
    with mock.patch.object(trainer, "make_agent", closing):
        for lab, more in zip(labs, ({}, {"stops": [9]}), strict=True):
            lab.run("offline", lab.config("offline", "cql"), flags=flags, **more)
    assert labs[1].trainers[0].step == 12
    said = capsys.readouterr().out
    expected = (
        "step 6 on: Closing.memory is a memoryview. If stopped, the run continues from the last"
    )
    assert said.count(expected) == 3  # once each: calm, stopped, resumed
    assert "resuming at step 4" in said
    calm, stormy = map(outcome, labs)
    assert calm == stormy


# Divergence


def test_a_run_that_diverges_ends_with_its_step_and_last_metrics(labs):
    calm, lab = labs
    learn = trainer.Trainer._learn

    def spoil(trainer, most):
        if trainer.updates == 6 and 2 in trainer.program.seeds:
            trainer.learner.state["critic.net.1.weight"][trainer.program.seeds.index(2)] = torch.nan
        return learn(trainer, 1)

    flags = ["--seeds", 1, 2, 3]
    for each in labs:
        each.save_data(seed=3)
    config = lab.config("offline", "cql")
    with mock.patch.object(Trainer, "_learn", spoil), pytest.raises(DivergenceError, match="sd2"):
        Lab.run(lab, "offline", config, flags=flags)
    calm.run("offline", config, flags=flags)
    expected, found = outcome(calm), outcome(lab)
    name = ("offline_cql", 2)
    summary, scalars, weights = found.pop(name)
    assert found == {key: expected[key] for key in found}  # the others, bit for bit
    assert (summary["status"], summary["diverged_at_step"]) == ("diverged", 8)
    assert summary["last_finite_metrics"]["step"] == 6
    last = dict(expected[name][1]["critic_loss"])[6]
    assert summary["last_finite_metrics"]["critic_loss"] == pytest.approx(last)
    assert weights is None
    assert max(step for series in scalars.values() for step, _ in series) == 8
    (path,) = (lab.root / "data").rglob("diverged.safetensors")
    kept = load_checkpoint(path)
    assert (kept["step"], kept["updates"]) == (8, 8)


@pytest.mark.parametrize("stop", [7, 9])
def test_a_sweep_resumes_before_and_after_one_of_its_runs_diverged(labs, stop):
    calm, stormy = labs
    learn = trainer.Trainer._learn

    def spoil(trainer, most):
        if trainer.updates == 6:
            trainer.learner.state["critic.net.1.weight"][1] = torch.nan
        return learn(trainer, 1)

    config, flags = calm.config("offline", "cql"), ["--seeds", "1", "2"]
    with mock.patch.object(Trainer, "_learn", spoil):
        with pytest.raises(DivergenceError, match="sd2"):
            Lab.run(calm, "offline", config, flags=flags)
        stormy.stop(stop, "offline", config, flags=flags)
        for _ in range(2):  # the second time there is nothing left to do
            with pytest.raises(DivergenceError, match="sd2"):
                stormy.resume("offline")
            found, expected = ({str(k): repr(v) for k, v in outcome(lab).items()} for lab in labs)
            assert found == expected  # as text: NaN differs from itself


def test_a_run_that_diverges_alone_stops_at_once_and_saves_no_dataset(labs):
    _, lab = labs
    lab.trainers = []
    learn = trainer.Trainer._learn

    def spoil(trainer, most):
        for tensor in trainer.learner.state.values():
            tensor.fill_(torch.nan)
        return learn(trainer, most)

    with mock.patch.object(Trainer, "_learn", spoil), pytest.raises(DivergenceError):
        Lab.run(lab, "explore", lab.config("explore", "rnd"))
    assert lab.trainers[0].step == 22  # the first look after the warm-up of 20 steps
    assert not list((lab.root / "datasets").glob("explore*"))


def test_an_agent_that_logs_no_loss_is_judged_by_all_that_it_logs(labs):
    _, lab = labs
    make_agent = trainer.make_agent

    def quiet(config):
        agent = make_agent(config)
        agent.__class__ = type("Quiet", (type(agent),), {"update": update})
        return agent

    def update(agent, *batch):
        metrics = super(type(agent), agent).update(*batch)
        lost = batch[-1] >= 7 and agent.discount < 0.95
        return {"q_values": torch.tensor(torch.inf) if lost else metrics["q_values"]}

    configs = [
        lab.config("offline", "dqn", name, discount=x) for name, x in (("a", 0.9), ("b", 0.99))
    ]
    with (
        mock.patch.object(trainer, "make_agent", quiet),
        pytest.raises(DivergenceError, match="diverged: a_sd1; all other runs are complete"),
    ):
        Lab.run(lab, "offline", *configs)
    found = outcome(lab)
    summary, scalars, _ = found["a", 1]
    assert (summary["status"], summary["diverged_at_step"]) == ("diverged", 8)
    last = summary["last_finite_metrics"]
    assert last == {"step": 6, "q_values": pytest.approx(dict(scalars["q_values"])[6])}
    assert found["b", 1][0]["status"] == "finished"
    (path,) = (lab.root / "data").rglob("diverged.safetensors")
    assert path.parent.name.startswith("hw5_offline_a")
