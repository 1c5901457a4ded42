"""The hand-in contains the runs for every question, is small enough, and lists what is left out."""

import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hand_ins import all_runs
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from test_report import write_run

from cs285.homework import Question
from cs285.infrastructure.errors import UserError
from cs285.report.collection import collect
from cs285.results.run_folders import RunFolder
from cs285.results.sinks import Logger
from cs285.scripts import make_submission as script
from cs285.submission import bundle
from cs285.submission.bundle import make_submission
from cs285.submission.selection import choose
from cs285.submission.thinning import Limits, keeps, take_inventory, thin


@pytest.fixture
def root(tmp_path):
    """A repository with one module, and things that do not belong in a hand-in."""
    folder = tmp_path / "repository"
    code = ("cs285/__init__.py", "cs285/agents/dqn_agent.py", "experiments/offline/a.yaml",
            "requirements.txt")  # fmt: skip
    others = ("cs285/agents/__pycache__/dqn_agent.cpython-311.pyc", "cs285/.DS_Store",
              "cs285/__MACOSX/dqn_agent.py", "cs285/._dqn_agent.py", "cs285/data/run/events.txt",
              "cs285/notes.zip", "secret.py", "datasets/a.npz")  # fmt: skip
    for name in (*code, *others):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"# {name}\n")
    (folder / "cs285" / "link.py").symlink_to(folder / "secret.py")
    return folder


@pytest.fixture
def hand_in(root, tmp_path):
    """Makes a hand-in from the runs in `data`: `hand_in(allow_missing=False)`."""

    def make(*, allow_missing=True):
        return make_submission(
            tmp_path / "data", root, tmp_path / "submit.zip", allow_missing=allow_missing
        )

    return make


def draw(logger, step):
    """Logs a picture of many colours, which packing does not make smaller."""
    figure = Figure((1, 1))
    figure.figimage(np.random.default_rng(step).random((100, 100, 3)))
    logger.figure(figure, "trajectories_eval", step)


def write_log(folder, points, pictures=0):
    """Adds a log to a folder: scalars at every step, evaluations at every tenth, pictures."""
    before, rng = set(folder.glob("*tfevents*")), np.random.default_rng(0)
    with Logger(RunFolder(folder)) as logger:
        for step in range(1, points + 1):
            logger.scalars({"critic_loss": rng.normal(), "grad_norm": rng.normal()}, step)
            if step % 10 == 0:
                logger.scalars({"eval_return": -step, "eval/return_std": rng.normal()}, step)
        for step in range(1, pictures + 1):
            draw(logger, step)
    (made,) = set(folder.glob("*tfevents*")) - before
    return made


def load(path):
    return EventAccumulator(str(path), size_guidance={"scalars": 0, "images": 0}).Reload()


def points_of(path, tag="critic_loss"):
    return {event.step: event.value for event in load(path).Scalars(tag)}


def pictures_of(path):
    return [event.encoded_image_string for event in load(path).Images("trajectories_eval")]


def unpacked(made, folder):
    """Unpacks a hand-in; returns its logs by the names of their folders."""
    with zipfile.ZipFile(made.out) as archive:
        assert archive.testzip() is None
        archive.extractall(folder)
    return {path.parent.name: path for path in folder.rglob("*tfevents*")}


# The product


def test_hand_in_of_realistic_runs_gets_full_marks(tmp_path, capsys):
    for run in all_runs():
        run.write(tmp_path / "data", run.name)
    out = tmp_path / "submit.zip"
    arguments = ["--data_dir", str(tmp_path / "data"), "--out", str(out), "--json"]
    status = script.main([*arguments, "--allow_missing"])
    said = json.loads(capsys.readouterr().out)
    assert said["grade"]["total"] == pytest.approx(said["grade"]["maximum"]), said["grade"]
    assert status == 0
    assert said["left_out"] == []
    assert said["bytes"] == out.stat().st_size < 15_000_000
    assert len(said["runs"]) == len(all_runs())


def test_zip_holds_runs_code_and_readme_and_nothing_else(hand_in, tmp_path):
    folder = write_run(tmp_path / "data", "offline", "pointmass_easy_cql")
    (folder / "summary.json").write_text("{}")
    for name in ("agent.pt", "learning_curve.png", ".DS_Store", "._config.yaml"):
        (folder / name).touch()
    (event_file,) = folder.glob("*tfevents*")
    (folder / "events.out.tfevents.1.link").symlink_to(event_file)
    made = hand_in()
    handed = f"data/q2_{folder.name}"
    with zipfile.ZipFile(made.out) as archive:
        assert sorted(archive.namelist()) == sorted([
            "README.md", "requirements.txt", "experiments/offline/a.yaml", "cs285/__init__.py",
            "cs285/agents/dqn_agent.py", f"{handed}/config.yaml", f"{handed}/summary.json",
            f"{handed}/{event_file.name}",
        ])  # fmt: skip
        assert archive.read(f"{handed}/{event_file.name}") == event_file.read_bytes()
        assert f"`q2_{folder.name}` | PointmassEasy-v0 | CQL | 1 | 400 | -50.0" in (
            archive.read("README.md").decode()
        )
    links = {Path(name).name for name, reason in made.left_out if "is a link" in reason}
    assert links == {"link.py", "events.out.tfevents.1.link"}


def test_the_same_runs_give_the_same_zip(hand_in, tmp_path):
    for algorithm in ("iql", "awac"):
        write_run(tmp_path / "data", "offline", f"pointmass_easy_{algorithm}")
    first = hand_in().out.read_bytes()
    for path in tmp_path.rglob("*"):
        os.utime(path, follow_symlinks=False)
    assert hand_in().out.read_bytes() == first


@pytest.mark.parametrize(
    ("stage", "name", "prefix"),
    [
        ("explore", "pointmass_hard_random", "q1"),
        ("explore", "pointmass_veryhard_rnd", "q1"),
        ("offline", "pointmass_easy_dqn", "q2"),
        ("offline", "pointmass_medium_cql_alpha0.5", "q2"),
        ("offline", "pointmass_medium_awac", "q3"),
        ("offline", "pointmass_hard_iql", "q3"),
        ("explore", "pointmass_medium_rnd_5000", "q4"),
        ("offline", "pointmass_hard_cql_rnd20000", "q4"),
        ("finetune", "pointmass_hard_iql_finetune", "q5"),
    ],
)
def test_folder_gets_the_prefix_of_its_question(hand_in, tmp_path, stage, name, prefix):
    folder = write_run(tmp_path / "data", stage, name)
    (entry,) = hand_in().entries
    assert entry.folder == f"{prefix}_{folder.name}"
    folder.rename(folder.with_name(f"q7_{folder.name}"))
    (entry,) = hand_in().entries
    assert entry.folder == f"{prefix}_{folder.name}"


def test_report_reads_what_was_handed_in(hand_in, tmp_path):
    for stage, name in (
        ("explore", "pointmass_easy_rnd"), ("offline", "pointmass_easy_cql"),
        ("finetune", "pointmass_hard_cql_finetune"),
    ):  # fmt: skip
        write_run(tmp_path / "data", stage, name, config=name.endswith("cql"))
    unpacked(hand_in(), tmp_path / "out")
    before, after = (collect(tmp_path / place / "data") for place in (".", "out"))
    for one in (before, after):
        assert one.left_out == ()
    known = [[(run.stage, run.env_id, run.algorithm, run.seed) for run in one.runs]
            for one in (before, after)]  # fmt: skip
    assert known[0] == known[1]


# Which runs


def test_newest_of_several_runs_is_taken(hand_in, tmp_path):
    folders = []
    for number, time in ((3, "2026-01-31_14-00-00"), (1, "2026-01-31_12-00-00"),
                         (2, "2026-01-31_13-00-00")):  # fmt: skip
        folder = write_run(tmp_path / "data", "offline", "pointmass_easy_cql", time=time)
        (event_file,) = folder.glob("*tfevents*")
        event_file.rename(folder / f"events.out.tfevents.{number}.host")
        folders.append(folder.name)
    (entry,) = hand_in().entries
    assert entry.source.name == folders[0]
    assert entry.passed_over == (folders[2], folders[1])


def test_longer_run_is_taken_before_a_newer_one(hand_in, tmp_path):
    """A quick trial after the real run does not replace it."""
    real = write_run(tmp_path / "data", "offline", "pointmass_easy_cql", steps=4_000)
    write_run(tmp_path / "data", "offline", "pointmass_easy_cql", time="2026-02-01_12-00-00")
    (entry,) = hand_in().entries
    assert entry.source == real


def test_runs_with_other_seeds_or_settings_are_all_taken(hand_in, tmp_path):
    for number, (seed, alpha) in enumerate(((1, 0.1), (2, 0.1), (1, 5.0))):
        time = f"2026-01-31_12-00-0{number}"
        name = "pointmass_easy_cql"
        write_run(tmp_path / "data", "offline", name, seed=seed, time=time, cql_alpha=alpha)
    entries = hand_in().entries
    assert len(entries) == 3
    assert not any(entry.passed_over for entry in entries)


def test_stopped_run_is_left_out_and_reported(hand_in, tmp_path):
    write_run(tmp_path / "data", "offline", "pointmass_easy_cql", training_steps=1_000_000)
    made = hand_in()
    assert made.entries == []
    assert "step 400 of 1,000,000" in made.left_out[0].reason


def test_two_runs_with_one_name_are_an_error(hand_in, tmp_path):
    for number, alpha in enumerate((0.1, 5.0)):
        folder = tmp_path / "data" / str(number)
        write_run(folder, "offline", "pointmass_easy_cql", cql_alpha=alpha)
    with pytest.raises(UserError, match=r"2 different runs are called q2_hw5_offline"):
        hand_in()


# Missing runs


def test_missing_runs_are_an_error_with_their_commands(root, tmp_path, capsys):
    write_run(tmp_path / "data", "explore", "pointmass_medium_rnd_5000", steps=5_000)
    write_run(tmp_path / "data", "offline", "pointmass_medium_cql_rnd1000",
              dataset_name="pointmass_medium_rnd_1000")  # fmt: skip
    write_run(tmp_path / "data", "offline", "pointmass_medium_dqn")
    out = tmp_path / "submit.zip"
    assert script.main(["--data_dir", str(tmp_path / "data"), "--out", str(out)]) == 2
    assert not out.exists()
    said = capsys.readouterr().err
    assert "--allow_missing" in said
    asked = [line.strip() for line in said.splitlines() if "python cs285/scripts" in line]
    assert any("pointmass_hard_random.yaml" in line for line in asked)
    assert any("run_hw5_finetune.py" in line for line in asked)
    sizes = [line for line in asked if "_rnd_" in line or "_cql_rnd" in line]
    assert [line.rpartition("medium_")[2] for line in sizes] == [
        "rnd_1000.yaml", "rnd_10000.yaml", "rnd_20000.yaml",
        "cql_rnd5000.yaml", "cql_rnd10000.yaml", "cql_rnd20000.yaml",
    ]  # fmt: skip
    configs = {word for line in asked for word in line.split() if word.endswith(".yaml")}
    assert all((Path(__file__).parents[1] / config).is_file() for config in configs)


def test_missing_runs_are_listed_in_the_readme(hand_in, tmp_path):
    write_run(tmp_path / "data", "offline", "pointmass_easy_cql")
    made = hand_in()
    assert {missing.section.split()[0] for missing in made.missing} == {
        "3.1", "3.2", "4.1", "4.2", "4.3", "5",
    }  # fmt: skip
    with zipfile.ZipFile(made.out) as archive:
        assert "- 5 Online fine-tuning: CQL on hard" in archive.read("README.md").decode()


def test_a_missing_folder_of_runs_is_an_error(root, tmp_path, capsys):
    assert script.main(["--data_dir", str(tmp_path / "nowhere")]) == 2
    assert "does not exist" in capsys.readouterr().err


# Size


def test_scalars_are_thinned_evenly_and_the_rest_is_kept(hand_in, tmp_path, monkeypatch):
    folder = write_run(tmp_path / "data", "offline", "pointmass_easy_cql", steps=1_500)
    log = write_log(folder, points=1_500, pictures=2)
    (small,) = set(folder.glob("*tfevents*")) - {log}
    whole = {tag: points_of(log, tag) for tag in ("critic_loss", "grad_norm", "eval_return")}
    limit = hand_in().size
    monkeypatch.setattr(bundle, "LIMIT", limit)
    made = hand_in()
    assert made.size < limit
    assert made.limits == Limits(points=1_000)
    name = f"q2_{folder.name}"
    assert made.thinned == {name: dict.fromkeys(("critic_loss", "grad_norm"), (1_500, 750))}
    unpacked(made, tmp_path / "out")
    result = tmp_path / "out" / "data" / name / log.name
    assert points_of(result, "eval_return") == whole["eval_return"]
    assert len(points_of(result, "eval/return_std")) == 150
    assert pictures_of(result) == pictures_of(log)
    for tag in ("critic_loss", "grad_norm"):
        kept = points_of(result, tag)
        assert list(kept) == list(range(2, 1_501, 2))
        assert kept.items() <= whole[tag].items()
    # TensorBoard's reader stops at the first record with a wrong checksum.
    records = list(RawEventFileLoader(str(result)).Load())
    assert sum(len(record) + 16 for record in records) == result.stat().st_size
    assert result.with_name(small.name).read_bytes() == small.read_bytes()
    assert "thinned: at most 1,000 points" in (tmp_path / "out" / "README.md").read_text()


def test_figures_lose_colours_before_any_is_dropped(hand_in, tmp_path, monkeypatch):
    folder = write_run(tmp_path / "data", "offline", "pointmass_easy_cql")
    log = write_log(folder, points=50, pictures=8)
    size = sum(map(len, pictures_of(log)))
    monkeypatch.setattr(bundle, "LIMIT", size * 3 // 4)
    made = hand_in()
    assert made.limits == Limits(colours=256)
    assert made.thinned == {}
    unpacked(made, tmp_path / "out")
    result = tmp_path / "out" / "data" / f"q2_{folder.name}" / log.name
    (tmp_path / "picture.png").write_bytes(pictures_of(result)[0])
    with Image.open(tmp_path / "picture.png") as picture:
        assert len(set(picture.convert("RGB").get_flattened_data())) <= 256
        assert picture.size == (100, 100)
    assert len(pictures_of(result)) == 8
    assert points_of(result) == points_of(log)
    monkeypatch.setattr(bundle, "LIMIT", size // 4)
    made = hand_in()
    assert made.limits == Limits(figures=3, colours=256)
    unpacked(made, tmp_path / "out")
    images = load(result).Images("trajectories_eval")
    assert [image.step for image in images] == [2, 5, 8]


def test_a_hand_in_that_cannot_fit_is_an_error_and_leaves_the_old_zip(
    hand_in, tmp_path, monkeypatch
):
    folder = write_run(tmp_path / "data", "offline", "pointmass_easy_cql")
    write_log(folder, points=50, pictures=2)
    (tmp_path / "submit.zip").write_text("the old one")
    monkeypatch.setattr(bundle, "LIMIT", 5_000)
    with pytest.raises(UserError, match="do not fit into 5,000 bytes"):
        hand_in()
    assert (tmp_path / "submit.zip").read_text() == "the old one"
    assert not list(tmp_path.glob(".*"))


def test_thinning_ends_where_a_log_is_damaged(tmp_path):
    log = write_log(tmp_path, points=100)
    content = bytearray(log.read_bytes())
    content[len(content) // 2] ^= 0xFF
    log.write_bytes(content)
    valid = points_of(log)
    assert 0 < len(valid) < 100
    result = tmp_path / "thin" / log.name
    result.parent.mkdir()
    result.write_bytes(thin(log, take_inventory(log), Limits(points=10)))
    kept = points_of(result)
    assert 0 < len(kept) <= 10
    assert kept.items() <= valid.items()
    (tmp_path / "other.tfevents").write_bytes(b"not an event file at all")
    assert thin(tmp_path / "other.tfevents", take_inventory(log), Limits(points=10)) == b""


@given(st.integers(1, 400), st.integers(1, 50))
def test_kept_points_are_evenly_spaced_and_include_the_last(count, limit):
    kept = [index for index in range(count) if keeps(index, count, limit)]
    assert kept[-1] == count - 1
    assert len(kept) <= limit
    assert len(kept) > limit // 2 or len(kept) == count
    assert len(set(np.diff(kept))) <= 1
    assert all(keeps(index, count, None) for index in range(count))


# The script


def test_script_reports_what_was_chosen_and_thinned(tmp_path, monkeypatch, capsys):
    for time in ("2026-01-31_12-00-00", "2026-01-31_13-00-00"):
        folder = write_run(tmp_path / "data", "offline", "pointmass_easy_cql", time=time)
        write_log(folder, points=1_500)
    monkeypatch.setattr(bundle, "LIMIT", 35_000)
    monkeypatch.setattr(bundle, "CODE", ("setup.py",))
    monkeypatch.setattr(script, "grade_own", lambda path: None)
    arguments = ["--data_dir", str(tmp_path / "data"), "--out", str(tmp_path / "submit.zip")]
    assert script.main([*arguments, "--allow_missing"]) == 0
    said = capsys.readouterr().out
    assert "chosen    hw5_offline_pointmass_easy_cql_sd1_2026-01-31_13-00-00, not " in said
    assert "critic_loss in 1 runs, from up to 1,500 to" in said
    assert "missing   5 Online fine-tuning: CQL on hard" in said
    for prefix in Question:
        assert f"  {prefix}_    {int(prefix == 'q2')}  {prefix.section}" in said


def test_unwritable_target_is_an_error(tmp_path, monkeypatch, capsys):
    write_run(tmp_path / "data", "offline", "pointmass_easy_cql")
    monkeypatch.setattr(bundle, "CODE", ())
    out = tmp_path / "nowhere" / "submit.zip"
    arguments = ["--data_dir", str(tmp_path / "data"), "--allow_missing", "--out", str(out)]
    assert script.main(arguments) == 2
    assert f"cannot write {out}" in capsys.readouterr().err


def test_the_choice_does_not_depend_on_how_the_folder_is_written(tmp_path, monkeypatch):
    write_run(tmp_path / "data", "offline", "pointmass_easy_cql")
    monkeypatch.chdir(tmp_path / "data")
    (entry,) = choose(collect(Path()), Path())
    assert entry.source.parent == tmp_path / "data"
