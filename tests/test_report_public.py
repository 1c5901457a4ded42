"""The report on logs of public versions: no config, ten episodes per evaluation, a loop that logs
last before its last step, and folders as people rename, copy and nest them."""

import io
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.summary.writer.record_writer import RecordWriter

from cs285.envs.planner import plan
from cs285.report.collection import EXPLORATION_PICTURE, Collection, collect
from cs285.report.parts import Section
from cs285.report.sections import answer
from cs285.scripts import make_report

NOON = 1_717_236_000.0
MINUS = "\N{MINUS SIGN}"
ALPHA = "\N{GREEK SMALL LETTER ALPHA}"


def png(colour: str) -> bytes:
    file = io.BytesIO()
    Figure((1, 1), facecolor=colour).savefig(file, format="png")
    return file.getvalue()


def write_log(
    folder: Path,
    scalars: Mapping[str, Iterable[tuple[int, float]]],
    pictures: Mapping[int, bytes] | None = None,
    *,
    begins: float = NOON,
    seconds_per_step: float = 0.01,
) -> Path:
    """Makes a run folder with one event file, in the order of its steps."""
    folder.mkdir(parents=True)
    path = folder / f"events.out.tfevents.{begins:.0f}.laptop"
    entries = [
        (step, {"tag": tag, "simple_value": value})
        for tag, points in scalars.items()
        for step, value in points
    ] + [
        (step, {"tag": EXPLORATION_PICTURE, "image": {"encoded_image_string": picture}})
        for step, picture in (pictures or {}).items()
    ]
    with path.open("wb") as file:
        writer = RecordWriter(file)
        writer.write(Event(wall_time=begins, file_version="brain.Event:2").SerializeToString())
        for step, value in sorted(entries, key=lambda entry: entry[0]):
            event = Event(
                wall_time=begins + step * seconds_per_step, step=step, summary={"value": [value]}
            )
            writer.write(event.SerializeToString())
    return path


def evaluations(
    *last: float, first: float = -150.0, steps: int = 100_000, spread: float | None = None
) -> dict[str, list[tuple[int, float]]]:
    """Evaluations every 10,000 steps from step 0 on; the last ones have these returns."""
    at = range(0, steps, 10_000)
    returns = [*[first] * (len(at) - len(last)), *last][: len(at)]
    found = {"eval_return": list(zip(at, returns, strict=True))}
    if spread is not None:
        found["eval/return_std"] = [(step, spread) for step in at]
    return found


def learning(
    data_dir: Path, name: str, *last: float, begins: float = NOON, stage: str = "offline",
    steps: int = 100_000, spread: float | None = None,
    more: Mapping[str, Iterable[tuple[int, float]]] | None = None,
) -> Path:  # fmt: skip
    """Makes a run that learns, named as public versions do."""
    folder = data_dir / f"hw5_{stage}_{name}_01-06-2024_{begins - NOON:02.0f}-00-00"
    write_log(
        folder, evaluations(*last, steps=steps, spread=spread) | dict(more or {}), begins=begins
    )
    return folder


def section(collection: Collection, title: str) -> Section:
    (found,) = (one for one in answer(collection) if one.title == title)
    return found


def reasons(collection: Collection) -> dict[str, str]:
    return {Path(name).name: reason for name, reason in collection.left_out}


# Runs that were stopped


def test_a_run_that_stopped_is_not_pooled_with_one_that_finished(tmp_path: Path) -> None:
    learning(tmp_path, "PointmassMedium-v0_awac5.0", -30.0, -28.0, -26.0)
    stopped = learning(tmp_path, "PointmassMedium-v0_awac5.0", begins=NOON + 1, steps=40_000)
    collection = collect(tmp_path)
    (experiment,) = collection.experiments
    assert experiment.returns == [-28.0]
    curve = experiment.curve("eval_return")
    assert curve is not None
    assert curve.steps.tolist() == list(range(0, 100_000, 10_000))
    assert reasons(collection) == {stopped.name: "stopped at step 30,000 of 100,000"}


@pytest.mark.parametrize(
    ("stage", "name", "last", "gap", "reason"),
    [
        ("offline", "PointmassMedium-v0_cql0.1", 0, 0, "stopped at step 0 of 100,000"),
        ("offline", "PointmassMedium-v0_cql0.1", 95_321, 1, "stopped at step 95,321 of 100,000"),
        ("offline", "PointmassMedium-v0_cql0.1", 99_999, 1, None),
        ("offline", "PointmassMedium-v0_cql0.1", 99_000, 1_000, None),
        ("offline", "PointmassMedium-v0_cql0.1", 100_000, 1_000, None),
        ("offline", "PointmassMedium-v0_cql0.1", 250_000, 1_000, None),
        ("offline", "PointmassMedium-v0_cql0.1", 49_999, 1, None),  # as long as its owner chose
        ("offline", "PointmassHard-v0_iql0.99_temp10.0", 99_999, 1, None),
        ("offline", "PointmassHard-v0_iql0.99_temp10.0", 199_999, 1, None),
        ("offline", "PointmassHard-v0_iql0.99_temp10.0", 130_000, 1_000, "130,000 of 200,000"),
        ("finetune", "PointmassHard-v0_cql0.1", 0, 0, "stopped at step 0 of 200,000"),
        ("finetune", "PointmassHard-v0_cql0.1", 99_999, 1, "stopped at step 99,999 of 200,000"),
        ("finetune", "PointmassHard-v0_cql0.1", 199_999, 1, None),
        ("explore", "PointmassHard-v0_rnd1.0", 9_999, 1, None),
        ("explore", "PointmassHard-v0_rnd1.0", 9_900, 100, None),
        ("explore", "PointmassHard-v0_rnd1.0", 4_312, 1, "stopped at step 4,312 of 10,000"),
        ("explore", "PointmassHard-v0_rnd1.0_5000", 4_999, 1, None),
        ("explore", "PointmassHard-v0_rnd1.0_5000", 1_312, 1, "stopped at step 1,312 of 5,000"),
    ],
)
def test_the_handouts_length_tells_whether_a_run_finished(
    tmp_path: Path, stage: str, name: str, last: int, gap: int, reason: str | None
) -> None:
    """The losses end at `last`, and were logged `gap` steps before as well."""
    more = {"critic_loss": [(step, 1.0) for step in sorted({last - gap, last})]}
    made = learning(tmp_path, name, stage=stage, steps=last + 1, more=more)
    found = reasons(collect(tmp_path))
    assert list(found) == ([] if reason is None else [made.name])
    assert (reason or "") in found.get(made.name, "")


def test_fine_tuning_that_went_online_earlier_may_be_shorter(tmp_path: Path) -> None:
    online = {"train_return": [(step, -90.0) for step in range(50_100, 100_000, 100)],
              "q_values": [(step, -9.0) for step in (99_998, 99_999)]}  # fmt: skip
    learning(tmp_path, "PointmassHard-v0_cql0.1", -40.0, stage="finetune", more=online)
    (run,) = collect(tmp_path).runs
    assert (run.steps, run.online_start) == (100_000, 50_100)


def test_random_exploration_ends_with_its_last_episode(tmp_path: Path) -> None:
    for name, end in (("a", 9_980), ("b", 5_000)):
        episodes = {"train_return": [(step, -100.0) for step in range(99, end, 100)]}
        write_log(tmp_path / name / "hw5_explore_PointmassMedium-v0_random_1", episodes)
    collection = collect(tmp_path)
    assert [run.name[0] for run in collection.runs] == ["a"]
    assert collection.left_out[0].reason == "stopped at step 4,999 of 10,000"


def test_other_runs_of_the_experiment_tell_its_length(tmp_path: Path) -> None:
    dense = {"q_values": [(step, -9.0) for step in (49_998, 49_999)]}
    learning(tmp_path, "PointmassMedium-v0_cql0.1", steps=50_000, more=dense)
    stopped = learning(tmp_path, "PointmassMedium-v0_cql0.1", steps=30_000, begins=NOON + 1)
    assert reasons(collect(tmp_path)) == {stopped.name: "stopped at step 20,000 of 50,000"}


def test_runs_that_all_end_at_one_step_were_meant_to(tmp_path: Path) -> None:
    for index, name in enumerate(("cql0.1", "dqn", "awac10.0")):
        learning(tmp_path, f"PointmassMedium-v0_{name}", steps=60_000, begins=NOON + index)
    assert {run.steps for run in collect(tmp_path).runs} == {50_000}


def test_a_first_evaluation_is_no_result_and_the_run_is_asked_for(tmp_path: Path) -> None:
    learning(tmp_path, "PointmassHard-v0_cql2.0", stage="finetune", steps=1)
    found = section(collect(tmp_path), "Online fine-tuning")
    assert (found.plot, found.findings, found.table) == (None, (), None)
    commands = [command for _, command in found.missing]
    assert any("pointmass_hard_cql_finetune.yaml" in command for command in commands)


# Reruns and copies


def test_reruns_of_unknown_seed_are_runs_and_have_no_interval(tmp_path: Path) -> None:
    for index, last in enumerate((-30.0, -34.0)):
        learning(tmp_path, "PointmassMedium-v0_dqn", *[last] * 3, begins=NOON + index)
    collection = collect(tmp_path)
    (experiment,) = collection.experiments
    assert experiment.final is not None
    assert (experiment.final.iqm, experiment.final.has_interval) == (-32.0, False)
    found = section(collection, "CQL against DQN")
    assert found.table is not None
    assert "2 runs" in found.table.rows[0]
    assert f"{MINUS}32.0, runs {MINUS}34.0 to {MINUS}30.0" in found.table.rows[0]
    curve = experiment.curve("eval_return")
    assert curve is not None
    assert np.isnan(curve.low).all()
    assert "seeds" not in " ".join(found.findings)


def test_seeds_in_names_are_seeds(tmp_path: Path) -> None:
    for seed, last in ((3, -30.0), (4, -34.0), (5, -32.0)):
        learning(tmp_path, f"PointmassMedium-v0_dqn_seed{seed}", *[last] * 3, begins=NOON + seed)
    (experiment,) = collect(tmp_path).experiments
    assert experiment.counted() == "3 seeds"
    assert experiment.final is not None
    assert (experiment.final.low, experiment.final.high) == (-34.0, -30.0)


def test_a_copied_log_counts_once(tmp_path: Path) -> None:
    original = learning(tmp_path, "PointmassMedium-v0_dqn", -30.0)
    shutil.copytree(original, tmp_path / "backup" / f"q2_{original.name}")
    collection = collect(tmp_path)
    (run,) = collection.runs
    ((_, reason),) = collection.left_out
    assert reason == f"the same log as {run.name}, which counts once"


def test_a_folder_that_is_given_twice_or_within_another_counts_once(tmp_path: Path) -> None:
    learning(tmp_path / "all", "PointmassMedium-v0_dqn", -30.0)
    learning(tmp_path / "all" / "part", "PointmassMedium-v0_cql0.1", -30.0, begins=NOON + 1)
    collection = collect([tmp_path / "all" / "part", tmp_path / "all", tmp_path / "all"])
    assert sorted(run.algorithm for run in collection.runs) == ["cql", "dqn"]
    assert collection.left_out == ()


# Folders


def test_several_folders_hand_ins_and_nested_runs_make_one_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = learning(tmp_path / "mine", "PointmassMedium-v0_dqn", -30.0, spread=2.0)
    mine.rename(mine.with_name(f"q2_{mine.name}"))
    write_log(tmp_path / "theirs/q2/PointmassMedium-v0/cql0.1/seed4/tb", evaluations(-40.0))
    write_log(
        tmp_path / "theirs" / "hw5_explore_PointmassEasy-v0_rnd1.0_01-06-2024_09-00-00",
        {"rnd_loss": [(step, 1.0) for step in range(0, 10_000, 100)]}, {9_000: png("blue")},
    )  # fmt: skip
    out = tmp_path / "out"
    dirs = [str(tmp_path / "mine"), str(tmp_path / "theirs")]
    assert make_report.main(["--data_dir", dirs[0], "--data_dir", dirs[1], "--out", str(out)]) == 0
    assert "2 of 7 figures, from 3 runs." in capsys.readouterr().out
    text = (out / "index.html").read_text()
    assert all(folder in text for folder in dirs)
    assert "1 run<" in text
    assert "1 seed<" in text
    collection = collect([Path(folder) for folder in dirs])
    assert [(run.algorithm, run.seed, run.stage) for run in collection.runs] == [
        ("rnd", None, "explore"), ("dqn", None, "offline"), ("cql", 4, "offline"),
    ]  # fmt: skip
    assert collection.left_out == ()


def test_logs_in_folders_below_a_run_belong_to_it(tmp_path: Path) -> None:
    made = learning(tmp_path, "PointmassHard-v0_iql0.9_temp3.0", -40.0)
    log = next(made.glob("events*"))
    (made / "version_0").mkdir()
    log.rename(made / "version_0" / log.name)
    collection = collect(tmp_path)
    (run,) = collection.runs
    assert run.settings == {"expectile": 0.9, "temperature": 3.0}
    assert collection.left_out == ()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "Git LFS pointer"),
        (b"", "is empty"),
    ],
)
def test_files_that_are_no_logs_are_named(tmp_path: Path, content: bytes, reason: str) -> None:
    folder = tmp_path / "hw5_offline_PointmassMedium-v0_dqn_1"
    folder.mkdir()
    (folder / "events.out.tfevents.1.laptop").write_bytes(content)
    ((_, why),) = collect(tmp_path).left_out
    assert reason in why
    assert "damaged" not in why
    assert "none of the tags" not in why


def test_a_log_of_another_year_is_called_one(tmp_path: Path) -> None:
    points = [(step, -30.0) for step in range(10)]
    write_log(
        tmp_path / "hw5_offline_PointmassMedium-v0_cql0.1_1",
        {"Eval_AverageReturn": points, "Train_EnvstepsSoFar": points},
    )
    ((_, why),) = collect(tmp_path).left_out
    assert why == "a log of another year's homework, which has the tag Eval_AverageReturn"


def test_times_of_a_log_that_was_written_again_are_not_shown(tmp_path: Path) -> None:
    (honest, again) = (
        tmp_path / f"hw5_offline_PointmassMedium-v0_{name}" for name in ("dqn", "cql")
    )
    write_log(honest, evaluations(-30.0))
    write_log(again, evaluations(-30.0), begins=NOON + 5, seconds_per_step=1e-6)
    runs = {run.algorithm: run for run in collect(tmp_path).runs}
    assert runs["dqn"].wall_time_s == pytest.approx(900)
    assert runs["dqn"].notes == ()
    assert runs["cql"].wall_time_s is None
    assert "written again" in runs["cql"].notes[0]


# Settings


def test_the_default_alpha_is_shown_and_any_other_one_is_told(tmp_path: Path) -> None:
    for index, (alpha, last) in enumerate((("0.1", -50.0), ("1", -25.0), ("10", -140.0))):
        learning(tmp_path, f"PointmassMedium-v0_cql{alpha}", *[last] * 3, begins=NOON + index)
    found = section(collect(tmp_path), "CQL against DQN")
    assert found.table is not None
    assert [row[0] for row in found.table.rows] == ["PointmassMedium-v0_cql0.1"]
    shutil.rmtree(next(tmp_path.glob("*cql0.1_*")))
    found = section(collect(tmp_path), "CQL against DQN")
    assert f"CQL, {ALPHA} = 1 ended at {MINUS}25.0" in found.findings[0]
    assert found.plot is not None
    (ax,) = found.plot.figure().axes
    assert f"CQL, {ALPHA} = 1" in [line.get_label() for line in ax.get_lines()]


def test_sizes_of_datasets_are_not_mixed_into_the_sweep_of_alpha(tmp_path: Path) -> None:
    names = ("cql0.1", "cql1", "cql5_rnd1000", "cql5_rnd5000")
    for index, name in enumerate(names):
        learning(tmp_path, f"PointmassMedium-v0_{name}", -30.0, begins=NOON + index)
    collection = collect(tmp_path)
    alphas, sizes = (section(collection, title).table for title in
                     ("Alpha of CQL", "Size of the dataset"))  # fmt: skip
    assert alphas is not None
    assert sizes is not None
    assert [row[2] for row in alphas.rows] == ["0.1", "1"]
    assert [row[0][-7:] for row in sizes.rows] == ["rnd1000", "rnd5000"]


# Pictures


def test_the_picture_is_that_of_the_longest_run_under_the_name_of_its_maze(tmp_path: Path) -> None:
    dead, alive = png("red"), png("lime")
    for index, (end, picture) in enumerate(((20, dead), (9_999, alive))):
        write_log(
            tmp_path / f"hw5_explore_PointmassHard-v0_rnd1.0_01-06-2024_{index:02}-00-00",
            {"rnd_loss": [(step, 1.0) for step in (end - 1, end)]},
            {end: picture}, begins=NOON + index,
        )  # fmt: skip
    found = section(collect(tmp_path), "Random network distillation")
    assert found.plot is not None
    (ax,) = found.plot.figure().axes
    assert ax.get_title() == "Hard"
    assert ax.images[0].get_array()[50, 50].tolist()[:3] == [0, 1, 0]
    assert found.table is not None
    assert found.table.rows[0][:4] == ("Hard", "RND", "1 run", "10,000")
    caption = " ".join(found.caption)
    assert "as the runs logged them" in caption
    assert not re.search("colour|step of the visit|start|goal|grey", caption)


# Numbers


def test_a_return_has_its_standard_error_and_the_best_policy_next_to_it(tmp_path: Path) -> None:
    optimum = plan("PointmassMedium-v0").optimal_return
    learning(
        tmp_path, "PointmassMedium-v0_cql0.1", *[optimum + 0.4] * 3, spread=1.8,
        more={"q_values": [(99_998, -9.0), (99_999, -9.0)]},
    )  # fmt: skip
    found = section(collect(tmp_path), "CQL against DQN")
    # Three evaluations of ten episodes: 1.8 / sqrt(9) / sqrt(3) = 0.346.
    shown = f"{optimum + 0.4:.1f} \N{PLUS-MINUS SIGN} 0.35 (best policy {optimum:.1f})"
    assert shown.replace("-", MINUS) in found.findings[0]
    assert "above" not in found.findings[0]
    assert found.table is not None
    assert re.fullmatch("1.00 \N{PLUS-MINUS SIGN} 0.003", found.table.rows[0][-1])


def test_a_score_above_one_is_not_shown_without_its_error(tmp_path: Path) -> None:
    optimum = plan("PointmassMedium-v0").optimal_return
    learning(tmp_path, "PointmassMedium-v0_cql0.1", *[optimum + 5] * 3)
    found = section(collect(tmp_path), "CQL against DQN")
    assert found.table is not None
    assert found.table.rows[0][-1] == "\N{ALMOST EQUAL TO} 1"


@pytest.mark.parametrize(
    ("returns", "remark"),
    [
        # Each mean has the error 3 / sqrt(27) = 0.58, and their difference 0.82.
        ((-30.0, -31.5), "No difference between them exceeds the noise."),
        ((-30.0, -31.8), "IQL, expectile 0.8, temperature 3 ended lower than AWAC, temperature 2"),
    ],
)
def test_only_differences_beyond_the_noise_are_ranked(
    tmp_path: Path, returns: Sequence[float], remark: str
) -> None:
    for index, (name, last) in enumerate(zip(("awac2.0", "iql0.8_temp3.0"), returns, strict=True)):
        learning(
            tmp_path, f"PointmassMedium-v0_{name}", *[last] * 3, spread=3.0, begins=NOON + index
        )
    assert remark in section(collect(tmp_path), "AWAC against IQL").findings[0]


def test_equal_returns_have_no_best_alpha(tmp_path: Path) -> None:
    for index, alpha in enumerate(("0.1", "1", "2")):
        learning(
            tmp_path, f"PointmassMedium-v0_cql{alpha}", *[-30.0] * 3, spread=1.0,
            begins=NOON + index,
        )  # fmt: skip
    found = section(collect(tmp_path), "Alpha of CQL")
    (finding,) = found.findings
    assert "no difference between these exceeds the noise" in finding
    assert not re.search("best|worst|lowest|highest", finding)
    # Without Q-values there are no panels for them.
    assert found.plot is not None
    titles = [ax.get_title() for ax in found.plot.figure().axes]
    assert titles == ["Medium: returns", "Medium: final return"]


def test_q_values_at_the_end_are_means_over_the_last_tenth(tmp_path: Path) -> None:
    for index, alpha in enumerate(("0.1", "1")):
        values = [(step, -float(step == 99_000) - 5) for step in range(0, 100_000, 1_000)]
        learning(
            tmp_path, f"PointmassMedium-v0_cql{alpha}", -30.0, begins=NOON + index,
            more={"q_values": values},
        )  # fmt: skip
    found = section(collect(tmp_path), "Alpha of CQL")
    # After nine tenths of 99,000 steps there are nine values of -5, and at last one of -6.
    assert f"{MINUS}5.1 at" in found.findings[0]


def test_runs_with_other_steps_of_evaluation_still_have_a_curve(tmp_path: Path) -> None:
    learning(tmp_path, "PointmassMedium-v0_dqn", *[-30.0] * 9)
    shifted = [(step, -40.0) for step in range(4_999, 100_000, 5_000)]
    folder = tmp_path / "hw5_offline_PointmassMedium-v0_dqn_01-06-2024_05-00-00"
    write_log(folder, {"eval_return": shifted}, begins=NOON + 5)
    (experiment,) = collect(tmp_path).experiments
    curve = experiment.curve("eval_return")
    assert curve is not None
    assert curve.steps.tolist() == list(range(10_000, 100_000, 10_000))
    assert curve.iqm == pytest.approx([-35.0] * 9)
