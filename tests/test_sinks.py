"""All sinks of a run log the same values, through failures and interruptions."""

import csv
import errno
import json
import math
import re
import struct
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from test_resume import Interrupted, make_lab, outcome
from test_training import read_events, read_scalars

from cs285.homework import RegistrationError
from cs285.infrastructure.errors import UserError
from cs285.results import sinks
from cs285.results.run_folders import RunFolder
from cs285.results.sinks import Logger, appended_file, check_names
from cs285.results.sinks import wandb as wandb_sink
from cs285.results.sinks.csv import CsvSink, read_curves
from cs285.scripts import training_flags

ROOT = Path(__file__).parent.parent


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path)


def read_csv(folder):
    """Reads `scalars.csv` as `{tag: [(step, value), ...]}`."""
    found = {}
    with folder.scalars.open(newline="") as file:
        for row in csv.DictReader(file):
            found.setdefault(row["tag"], []).append((int(row["step"]), float(row["value"])))
    return found


# CSV


def test_csv_is_one_line_per_value(folder):
    with Logger(folder, ["csv"]) as logger:
        logger.scalars({"eval_return": -20.5, 'odd "tag", quoted': 1}, 100)
        logger.scalars({"eval_return": math.nan}, 200)
        logger.scalars({"eval_return": -math.inf}, 300)
    assert folder.scalars.read_text() == (
        "step,tag,value\n"
        "100,eval_return,-20.5\n"
        '100,"odd ""tag"", quoted",1.0\n'
        "200,eval_return,nan\n"
        "300,eval_return,-inf\n"
    )


def test_csv_keeps_all_digits(folder):
    values = np.random.default_rng(0).normal(size=50) * 10.0 ** np.arange(-25, 25)
    with Logger(folder, ["csv"]) as logger:
        for step, value in enumerate(values):
            logger.scalars({"x": value}, step)
    assert [value for _, value in read_csv(folder)["x"]] == values.tolist()


def test_curves_are_read_from_csv_with_all_digits(folder):
    with Logger(folder, ["csv"]) as logger:
        for step, value in ((10, 1 / 3), (20, math.nan), (30, 1e-300)):
            logger.scalars({"x": value, 'odd "tag", quoted': step}, step)
    with folder.scalars.open("a") as file:
        file.write("40,x,1.2")  # a kill cut the line off
    curves = read_curves(folder.scalars)
    assert curves.keys() == {"x", 'odd "tag", quoted'}
    assert curves["x"].steps.tolist() == [10, 30]
    assert curves["x"].values.tolist() == [1 / 3, 1e-300]
    assert curves['odd "tag", quoted'].values.tolist() == [10.0, 20.0, 30.0]


@pytest.mark.parametrize(
    "text",
    ["a,b\n1,2\n", "step,tag,value\n1,x\n", "step,tag,value\n1,x,high\n", 'step,tag,value\n"1\n'],
)
def test_another_table_is_no_csv_of_scalars(folder, text):
    folder.scalars.write_text(text)
    with pytest.raises(UserError, match=r"scalars\.csv is not a table of scalars: "):
        read_curves(folder.scalars)


def test_a_csv_that_cannot_be_opened_is_a_user_error(folder):
    with pytest.raises(UserError, match=r"cannot read .*scalars\.csv: no such file"):
        read_curves(folder.scalars)


def test_a_run_that_starts_over_replaces_the_csv(folder):
    for value in (1.0, 2.0):
        with Logger(folder, ["csv"]) as logger:
            logger.scalars({"x": value}, 1)
    assert read_csv(folder) == {"x": [(1, 2.0)]}


# Positions


@pytest.mark.parametrize("name", ["csv", "tensorboard"])
def test_rewinding_drops_what_came_after_the_flush(folder, name):
    with Logger(folder, [name]) as logger:
        logger.scalars({"x": 1.0}, 1)
        position = json.loads(json.dumps(logger.flush()))
        logger.scalars({"x": 99.0}, 2)
    with Logger(folder, [name]) as logger:
        logger.rewind(position)
        logger.scalars({"x": 2.0}, 2)
    read = read_csv(folder) if name == "csv" else read_scalars(folder.path)
    assert read == {"x": [(1, 1.0), (2, 2.0)]}
    assert len(list(folder.path.iterdir())) == 1


@pytest.mark.parametrize("name", ["csv", "tensorboard"])
def test_a_closed_log_keeps_its_position(folder, name):
    """Like that of a run that has diverged while others of its program continue."""
    logger = Logger(folder, [name])
    logger.scalars({"x": 1.0}, 1)
    logger.close()
    position = logger.flush()
    resumed = Logger(folder, [name])
    resumed.rewind(position)
    assert resumed.flush() == position
    read = read_csv(folder) if name == "csv" else read_scalars(folder.path)
    assert read == {"x": [(1, 1.0)]}


@pytest.mark.parametrize("name", ["csv", "tensorboard"])
def test_rewinding_to_before_the_first_value_leaves_an_empty_log(folder, name):
    position = Logger(folder, [name]).flush()
    with Logger(folder, [name]) as logger:
        logger.scalars({"x": 99.0}, 2)
    with Logger(folder, [name]) as logger:
        logger.rewind(position)
        logger.scalars({"x": 1.0}, 1)
    read = read_csv(folder) if name == "csv" else read_scalars(folder.path)
    assert read == {"x": [(1, 1.0)]}


@pytest.mark.parametrize("name", ["csv", "tensorboard"])
def test_a_log_that_has_lost_its_end_is_a_user_error(folder, name):
    with Logger(folder, [name]) as logger:
        logger.scalars({"x": 1.0}, 1)
        position = logger.flush()
    (file,) = folder.path.iterdir()
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(UserError, match="shorter than at the last checkpoint"):
        Logger(folder, [name]).rewind(position)


@pytest.mark.parametrize("name", ["csv", "tensorboard"])
def test_a_full_disk_is_a_user_error(folder, name, monkeypatch):
    def fail(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with Logger(folder, [name]) as logger:
        logger.scalars({"x": 1.0}, 1)
        monkeypatch.setattr(appended_file.os, "fsync", fail)
        with pytest.raises(UserError, match=r"cannot write to .*no space left on device"):
            logger.flush()


@pytest.mark.parametrize("name", ["../events.out.tfevents.1", "agent.pt", ".events.out.tfevents.1"])
def test_a_forged_position_reaches_no_other_file(folder, name):
    with pytest.raises(UserError, match=r"event file"):
        Logger(folder).rewind({"tensorboard": {"name": name, "size": 0}})


# Several sinks


def test_two_sinks_log_the_same_values(folder):
    rng = np.random.default_rng(0)
    with Logger(folder, ["tensorboard", "csv"]) as logger:
        for step in range(0, 2_000, 100):
            logger.scalars({"eval_return": rng.normal(), "critic_loss": rng.exponential()}, step)
    events = read_scalars(folder.path)
    rows = read_csv(folder)
    assert set(events) == set(rows) == {"eval_return", "critic_loss"}
    for tag, series in rows.items():
        # TensorBoard stores single precision.
        assert [(step, float(np.float32(value))) for step, value in series] == events[tag]


def test_a_figure_is_open_for_every_sink_and_closed_after_the_last(folder):
    from matplotlib import pyplot as plt

    plt.close("all")
    with Logger(folder, ["csv", "tensorboard"]) as logger:
        logger.figure(plt.figure(figsize=(1, 1)), "trajectories_eval", 3)
    assert plt.get_fignums() == []
    assert read_events(folder.path).Images("trajectories_eval")[0].step == 3


@pytest.mark.parametrize(
    ("stage", "algorithm", "stop"), [("explore", "rnd", 33), ("offline", "cql", 7)]
)
def test_an_interrupted_run_has_the_same_csv_as_the_uninterrupted_one(
    tmp_path, stage, algorithm, stop
):
    tables = []
    for name, stops in (("calm", ()), ("stormy", (stop,))):
        lab = make_lab(tmp_path / name)
        flags = ["--log", "tensorboard,csv"]
        values = {"updates_per_step": 1} if algorithm == "rnd" else {}
        config = lab.config(stage, algorithm, **values)
        (folder,) = lab.run(stage, config, flags=flags, stops=stops)
        record = json.loads((folder / "sweep.json").read_text())
        assert record["options"]["log"] == ["tensorboard", "csv"]
        tables.append(RunFolder(folder).scalars.read_bytes())
        logged, expected = read_csv(RunFolder(folder)), read_scalars(folder)
        single = {tag: [(s, float(np.float32(v))) for s, v in x] for tag, x in logged.items()}
        assert repr(single) == repr({tag: expected[tag] for tag in single})
        assert set(single) == set(expected)
    assert tables[0] == tables[1]


def test_what_a_run_logs_does_not_depend_on_its_sinks(tmp_path):
    outcomes = []
    for name, flags in (("one", []), ("two", ["--log", "csv,tensorboard"])):
        lab = make_lab(tmp_path / name)
        lab.run("explore", lab.config("explore", "rnd", updates_per_step=1), flags=flags)
        outcomes.append(outcome(lab))
    assert outcomes[0] == outcomes[1]


# Names


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ("csv", ("csv",)),
        ("tensorboard, csv", ("tensorboard", "csv")),
        ("csv,csv,", ("csv",)),
    ],
)
def test_names_are_separated_by_commas(given, names):
    arguments = ["-cfg", "x.yaml", "--log", given]
    assert training_flags.make_parser("explore", "").parse_args(arguments).log == names


def test_a_run_logs_to_tensorboard_by_default():
    assert training_flags.make_parser("offline", "").parse_args(["-cfg", "x"]).log == (
        "tensorboard",
    )


@pytest.mark.parametrize(
    ("given", "answer"),
    [
        ("tensorbord", "did you mean `tensorboard`?"),
        ("csv,nothing", "choose from csv, tensorboard, wandb"),
        (",", "at least one of"),
    ],
)
def test_an_unknown_sink_is_refused(capsys, given, answer):
    with pytest.raises(SystemExit) as ended:
        training_flags.make_parser("explore", "").parse_args(["-cfg", "x", "--log", given])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert answer in said
    assert said.count("\n") == 1


def test_a_name_belongs_to_one_sink(monkeypatch):
    sinks.sinks()
    monkeypatch.setattr(sinks, "_registered", dict(sinks._registered))

    class Rival:
        pass

    with pytest.raises(
        RegistrationError,
        match=r"the sink `csv` is registered twice, by cs285\.results\.sinks\.csv and by test_sink",
    ):
        sinks.register("csv")(Rival)
    assert sinks._registered["csv"].make is CsvSink
    assert sinks.register("csv")(CsvSink) is CsvSink  # as when a notebook reloads the module


def test_a_missing_package_is_one_sentence_with_the_command_that_installs_it(tmp_path):
    program = (
        "import importlib.util, sys\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *a: None if name == 'wandb' else find(name, *a)\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from cs285.scripts import training_flags\n"
        "training_flags.main(training_flags.Stage.EXPLORE, '')"
    )
    config = ROOT / "experiments/exploration/pointmass_easy_random.yaml"
    command = [sys.executable, "-c", program, "-cfg", config, "--log", "tensorboard,wandb"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "needs the package wandb; install it with: pip install wandb" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_run_whose_sink_is_gone_does_not_resume(tmp_path):
    lab = make_lab(tmp_path / "lab")
    lab.stop(7, "offline", lab.config("offline", "cql"))
    (folder,) = (lab.root / "data").iterdir()
    record = json.loads((folder / "sweep.json").read_text())
    record["options"]["log"] = ["tensorboard", "elsewhere"]
    (folder / "sweep.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match="'elsewhere' is unknown"):
        lab.resume("offline", folder)


def test_importing_the_sinks_imports_none_of_their_packages():
    program = (
        "import sys; from cs285.results.sinks import sinks; sinks();"
        "print([m for m in ('tensorboard', 'matplotlib', 'wandb') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == "[]"


def test_the_documented_sink_is_one_file(tmp_path, folder, monkeypatch):
    text = (ROOT / "docs" / "logging.md").read_text(encoding="utf-8")
    (code,) = re.findall(
        r"## Your own sink\n.*?^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE
    )
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "lines.py").write_text(code)
    monkeypatch.setattr(sinks, "__path__", [*sinks.__path__, str(tmp_path / "more")])
    monkeypatch.setattr(sinks, "_registered", dict(sinks._registered))
    sinks.sinks.cache_clear()
    try:
        assert check_names("lines,csv") == ("lines", "csv")
        with Logger(folder, ["lines", "csv"]) as logger:
            logger.scalars({"a": 1.5, "b": 2.0}, 7)
            position = json.loads(json.dumps(logger.flush()))
            logger.scalars({"a": 99.0}, 8)
        with Logger(folder, ["lines", "csv"]) as logger:
            logger.rewind(position)
            logger.scalars({"a": 3.0}, 8)
        assert (folder.path / "lines.txt").read_text() == "7 a 1.5\n7 b 2.0\n8 a 3.0\n"
        assert read_csv(folder) == {"a": [(7, 1.5), (8, 3.0)], "b": [(7, 2.0)]}
    finally:
        sinks.sinks.cache_clear()
        sys.modules.pop("cs285.results.sinks.lines", None)


# Weights & Biases


def wandb_records(path):
    """Reads a `.wandb` file, which is in the format of LevelDB's logs."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, at, parts = path.read_bytes(), 7, []
    while at + 7 <= len(content):
        room = 32_768 - at % 32_768
        if room < 7:
            at += room
            continue
        length, kind = struct.unpack("<HB", content[at + 4 : at + 7])
        parts.append(content[at + 7 : at + 7 + length])
        at += 7 + length
        if kind in {1, 4}:
            yield Record.FromString(b"".join(parts))
            parts.clear()


def wandb_rows(path):
    """Returns all logged values as `{tag: [(step, value), ...]}`."""
    found = {}
    deadline = time.monotonic() + 20
    while not (records := list(wandb_records(path))) or not records[-1].HasField("exit"):
        # The service of W&B writes the end of the file shortly after the run has ended.
        assert time.monotonic() < deadline, f"{path} has no end"
        time.sleep(0.05)
    for record in records:
        items = {"/".join(x.nested_key) or x.key: x.value_json for x in record.history.item}
        for tag, value in items.items():
            if not tag.startswith("_"):
                found.setdefault(tag, []).append((int(items["_step"]), json.loads(value)))
    return found


@pytest.fixture
def offline(monkeypatch, tmp_path):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "wandb_home"))


def test_wandb_logs_the_same_values_as_tensorboard(tmp_path, offline):
    lab = make_lab(tmp_path / "lab")
    lab.draws = True
    flags = ["--log", "tensorboard,wandb", "-vi", 60, "--seeds", 1, 2]
    config = lab.config("explore", "rnd", updates_per_step=1)
    for folder in lab.run("explore", config, flags=flags):
        (file,) = folder.glob("wandb/offline-run-*/*.wandb")
        logged = wandb_rows(file)
        pictures = [tag for tag in logged if tag.startswith("exploration_trajectories_eval/")]
        assert (60, "image-file") in logged["exploration_trajectories_eval/_type"]
        single = {
            tag: [(step, float(np.float32(value))) for step, value in series]
            for tag, series in logged.items()
            if tag not in pictures
        }
        assert single == read_scalars(folder)
        assert list(folder.glob("wandb/offline-run-*/files/media/images/*.png"))


def test_wandb_changes_nothing_else(tmp_path, offline):
    outcomes = []
    for name, flags in (("without", []), ("with", ["--log", "wandb,tensorboard"])):
        lab = make_lab(tmp_path / name)
        lab.run("explore", lab.config("explore", "random"), flags=flags)
        outcomes.append(outcome(lab))
    assert outcomes[0] == outcomes[1]


def test_a_resumed_run_continues_its_wandb_run(tmp_path, offline):
    lab = make_lab(tmp_path / "lab")
    flags = ["--log", "tensorboard,wandb"]
    (folder,) = lab.run("offline", lab.config("offline", "cql"), flags=flags, stops=(7,))
    files = sorted(folder.glob("wandb/offline-run-*/*.wandb"), key=lambda x: x.stat().st_mtime_ns)
    assert len({file.name for file in files}) == 1
    first, second = ([step for step, _ in wandb_rows(file)["critic_loss"]] for file in files)
    assert first + second == [step for step, _ in read_scalars(folder)["critic_loss"]]


class FakeWandb:
    """Stands for the package: a run that already has some steps, or a server that is down."""

    def __init__(self, step=0, broken=None):
        self.step, self.broken, self.offline = step, broken, True
        self.logged, self.arguments = [], {}
        self.Settings = SimpleNamespace

    def init(self, **arguments):
        self.arguments = arguments
        self.fail("init")
        return self

    def log(self, values, step):
        self.fail("log")
        self.logged.append((step, values))

    def finish(self):
        self.fail("finish")

    def fail(self, where):
        if self.broken == where:
            raise ConnectionError("no route\nto host")


def test_wandb_gets_only_the_steps_that_it_lacks(folder, monkeypatch):
    fake = FakeWandb(step=20)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    with Logger(folder, ["wandb"]) as logger:
        logger.rewind({"wandb": {"id": "abc", "step": 10}})
        for step in (15, 20, 30):
            logger.scalars({"x": step}, step)
    assert fake.arguments["id"] == "abc"
    assert fake.arguments["resume"] == "allow"
    assert fake.logged == [(20, {"x": 20.0}), (30, {"x": 30.0})]


@pytest.mark.parametrize("broken", ["init", "log", "finish"])
def test_a_failing_wandb_ends_no_run_and_is_reported_once(folder, monkeypatch, capsys, broken):
    monkeypatch.setitem(sys.modules, "wandb", FakeWandb(broken=broken))
    with Logger(folder, ["wandb", "tensorboard"]) as logger:
        for step in (1, 2):
            logger.scalars({"x": float(step)}, step)
        position = logger.flush()
    assert read_scalars(folder.path)["x"] == [(1, 1.0), (2, 2.0)]
    said = capsys.readouterr().out
    assert said == f"{folder.name} is no longer logged to wandb: no route to host\n"
    # The resumed run tries again.
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    with Logger(folder, ["wandb", "tensorboard"]) as logger:
        logger.rewind(position)
        logger.scalars({"x": 3.0}, 3)
    assert fake.logged == [(3, {"x": 3.0})]
    assert read_scalars(folder.path)["x"] == [(1, 1.0), (2, 2.0), (3, 3.0)]


def test_an_unreachable_wandb_is_waited_for_once(folder, monkeypatch, capsys):
    """Of runs that start one after the other only the first waits; later ones try again."""
    now, tried = [1000.0], []

    class Unreachable(FakeWandb):
        def init(self, **arguments):
            tried.append(now[0])
            now[0] += 30.0
            raise TimeoutError("no answer")

    monkeypatch.setattr(wandb_sink, "_paused_until", -math.inf)
    monkeypatch.setattr(wandb_sink, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setitem(sys.modules, "wandb", Unreachable())
    for _ in range(35):
        with Logger(folder, ["wandb"]) as logger:
            logger.scalars({"x": 1.0}, 1)
    assert tried == [1000.0]
    said = capsys.readouterr().out.splitlines()
    assert said == [f"{folder.name} is no longer logged to wandb: no answer"] + 34 * [
        f"{folder.name} is no longer logged to wandb: W&B could not be reached for an earlier run"
    ]
    now[0] = 1630.0  # 20 times 30 seconds after the failure
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    with Logger(folder, ["wandb"]) as logger:
        logger.scalars({"x": 2.0}, 1)
    assert fake.logged == [(1, {"x": 2.0})]


def test_the_lab_of_these_tests_can_resume(tmp_path):
    assert isinstance(make_lab(tmp_path / "lab"), Interrupted)
