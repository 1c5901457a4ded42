"""Logs as people hand them in: renamed, copied, cut off, packed, and two runs in one folder."""

import gzip
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from tensorboard.compat.proto.event_pb2 import Event

from cs285.grading.hand_ins.hand_in import grade_path
from cs285.grading.hand_ins.logs import read_log
from cs285.homework import Stage
from cs285.report import page, parts
from cs285.report.collection import Collection, collect
from cs285.report.sections import answer
from cs285.results.event_files import Extent, read_events, separate_runs
from cs285.results.folder_names import parse_folder_name, size_in_name
from cs285.results.run_folders import is_event_file
from cs285.results.run_lengths import progress_of, shared_length
from cs285.results.tfrecords import pack_record
from cs285.scripts import show_results

NOON = datetime(2023, 11, 20, 12, tzinfo=UTC).timestamp()
MINUS = "\N{MINUS SIGN}"
TAGS = ("eval_return", "critic_loss")


def write_log(
    folder: Path, returns: Iterable[float], *, begins: float = NOON, every: int = 100,
    steps: range = range(0, 100_000, 10_000), q_value: float = -10.0, host: str = "laptop",
) -> Path:  # fmt: skip
    """Writes the log of a run that learns: a loss at regular intervals, 10 steps a second."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"events.out.tfevents.{begins:.0f}.{host}"
    values = dict(zip(steps, returns, strict=True))
    records = [
        pack_record(Event(wall_time=begins, file_version="brain.Event:2").SerializeToString())
    ]
    for step in range(steps.start, steps.stop, every):
        scalars = {"critic_loss": 1.0, "q_values": q_value}
        if step in values:
            scalars["eval_return"] = values[step]
            scalars["eval_ep_len"] = -values[step]
        for tag, value in scalars.items():
            event = Event(
                wall_time=begins + (step - steps.start) / 10, step=step,
                summary={"value": [{"tag": tag, "simple_value": value}]},
            )  # fmt: skip
            records.append(pack_record(event.SerializeToString()))
    path.write_bytes(b"".join(records))
    return path


def named(stem: str, begins: float = NOON) -> str:
    return f"{stem}_{datetime.fromtimestamp(begins, UTC):%d-%m-%Y_%H-%M-%S}"


CQL = "hw5_offline_PointmassMedium-v0_cql0.1"
LEARNED = [-150.0] * 7 + [-30.0] * 3
BETTER = [-150.0] * 7 + [-24.0] * 3


def returns_of(collection: Collection) -> dict[str, list[float]]:
    return {one.name: one.returns for one in collection.experiments}


def reasons(collection: Collection) -> dict[str, str]:
    return dict(collection.left_out)


# Names


@pytest.mark.parametrize(
    "name",
    [
        f"q2_{CQL}_20-11-2023_12-00-00",
        f"Q2-{CQL}_20-11-2023_12-00-00",
        f"q2 {CQL}_20-11-2023_12-00-00_1",
        f"q4_1_{CQL}_20-11-2023_12-00-00 (1)",
        f"{CQL}_2023-11-20_12-00-00 - Kopie",
        f"{CQL}_20-11-2023_12-00-00_old",
    ],
)
def test_what_surrounds_a_name_is_not_part_of_the_experiment(name: str) -> None:
    parsed = parse_folder_name(name)
    assert parsed.experiment == "PointmassMedium-v0_cql0.1"
    assert (parsed.stage, parsed.settings) == (Stage.OFFLINE, {"cql_alpha": 0.1})


def test_what_says_something_about_the_run_stays_in_the_name() -> None:
    parsed = parse_folder_name(f"{CQL}_20-11-2023_12-00-00 lr 0.01")
    assert parsed.settings == {"cql_alpha": 0.1, "learning_rate": 0.01}


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("PointmassMedium-v0_cql0.1_1000", 1_000),
        ("pointmass_medium_cql_5000", 5_000),
        ("PointmassMedium-v0_rnd1.0_20k", 20_000),
        ("PointmassMedium-v0_cql0.1_200000", None),
        ("PointmassMedium-v0_cql_2023", None),
        ("PointmassMedium-v0_iql0.9_10", None),
    ],
)
def test_a_round_number_is_the_size_of_the_dataset(name: str, size: int | None) -> None:
    assert size_in_name(name) == size


def test_datasets_named_only_by_their_size_are_the_ablation(tmp_path: Path) -> None:
    for index, (size, last) in enumerate([(1_000, -150.0), (5_000, -60.0), (10_000, -26.0)]):
        begins = NOON + 3600 * index
        folder = tmp_path / named(f"{CQL}_{size}", begins)
        write_log(folder, [-150.0] * 7 + [last] * 3, begins=begins)
    sections = {one.title: one for one in answer(collect(tmp_path))}
    (finding,) = sections["Size of the dataset"].findings
    assert finding.replace(MINUS, "-") == (
        "On Medium 1k steps give -150.0, 5k steps give -60.0 and 10k steps give -26.0."
    )
    # The comparison with DQN takes the handout's size.
    table = sections["CQL against DQN"].table
    assert table is not None
    assert table.rows[0][2] == "10,000"


def test_a_number_in_two_spellings_is_one_setting_and_sweeps_are_ordered(tmp_path: Path) -> None:
    names = ("cql0", "cql0.0", "cql1e-3", "cql0.001", "cql10", "cql1.0_temp1.0")
    for index, name in enumerate(names):
        begins = NOON + 3600 * index
        folder = tmp_path / named(f"hw5_offline_PointmassMedium-v0_{name}", begins)
        write_log(folder, [-150.0] * 7 + [-30.0 - index] * 3, begins=begins)
    (sweep,) = (one for one in answer(collect(tmp_path)) if one.title == "Alpha of CQL")
    assert sweep.table is not None
    shown = [(row[2], row[5], row[6]) for row in sweep.table.rows]
    assert shown == [
        ("0", "2 runs", f"{MINUS}30.5, runs {MINUS}31.0 to {MINUS}30.0"),
        ("0.001", "2 runs", f"{MINUS}32.5, runs {MINUS}33.0 to {MINUS}32.0"),
        ("1", "1 run", f"{MINUS}35.0"),
        ("10", "1 run", f"{MINUS}34.0"),
    ]


# Lengths


def extents(last: int, gap: int, **others: tuple[int, int]) -> dict[str, Extent]:
    return {"loss": Extent(last, gap)} | {tag: Extent(*ends) for tag, ends in others.items()}


def test_fine_tuning_without_online_steps_is_not_fine_tuning() -> None:
    lengths = (100_000, 200_000)
    progress = progress_of(extents(99_900, 100), 99_900, Stage.FINETUNE, "", lengths)
    assert (progress.length, progress.went_online) == (None, False)
    online = extents(99_900, 100, train_return=(99_950, 50))
    progress = progress_of(online, 99_950, Stage.FINETUNE, "", lengths)
    assert (progress.length, progress.went_online) == (100_000, True)


@pytest.mark.parametrize(
    ("stage", "last", "gap", "length"),
    [
        (Stage.FINETUNE, 149_900, 100, 150_000),
        (Stage.FINETUNE, 130_400, 100, None),
        (Stage.OFFLINE, 60_000, 100, None),
        (Stage.OFFLINE, 49_000, 1_000, None),
        (Stage.EXPLORE, 19_900, 100, 20_000),
        (Stage.EXPLORE, 2_140, 10, None),
    ],
)
def test_a_round_length_may_be_meant(stage: Stage, last: int, gap: int, length: int | None) -> None:
    usual = (10_000,) if stage is Stage.EXPLORE else (100_000, 200_000)
    tags = extents(last, gap, train_return=(last, 50))
    assert progress_of(tags, last, stage, "", usual).length == length


def test_three_runs_may_share_a_length_although_they_log_at_other_steps() -> None:
    ends = [(49_000, 1_000), (49_500, 500), (49_000, 1_000), (20_300, 100)]
    runs = [progress_of(extents(*one), one[0], Stage.OFFLINE, "", (100_000,)) for one in ends]
    assert [run.may_end for run in runs] == [50_000, 50_000, 50_000, None]
    assert shared_length(runs, 50_000) == 50_000
    assert shared_length(runs, 60_000) is None
    assert shared_length(runs[1:], 50_000) is None


def test_runs_that_share_an_unusual_length_are_shown_with_it(tmp_path: Path) -> None:
    for index, (name, every) in enumerate((("cql0.1", 1_000), ("dqn", 1_000), ("awac1.0", 500))):
        begins = NOON + 3600 * index
        folder = tmp_path / named(f"hw5_offline_PointmassMedium-v0_{name}", begins)
        write_log(folder, [-40.0] * 5, begins=begins, steps=range(0, 50_000, 10_000), every=every)
    collection = collect(tmp_path)
    assert collection.left_out == ()
    assert [run.steps for run in collection.runs] == [50_000] * 3


def test_a_single_run_that_may_have_ended_as_planned_is_not_reported_as_stopped(
    tmp_path: Path,
) -> None:
    folder = tmp_path / named(CQL)
    write_log(folder, [-150.0] * 5, steps=range(0, 50_000, 10_000), every=1_000)
    (reason,) = reasons(collect(tmp_path)).values()
    assert reason == ("ends at step 49,000: stopped, or meant to have 50,000 steps and not 100,000")


# Files


def test_files_of_operating_systems_and_exports_are_not_logs() -> None:
    log = "events.out.tfevents.1700503201.laptop.1.0"
    assert is_event_file(log)
    for name in (f"._{log}", f"{log}:Zone.Identifier", f"{log}.csv", f"{log}.png"):
        assert not is_event_file(name)


def test_a_packed_log_is_reported_as_packed(tmp_path: Path) -> None:
    path = write_log(tmp_path / named(CQL), LEARNED)
    path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    (reason,) = reasons(collect(tmp_path)).values()
    assert reason.endswith("is packed, so it cannot be read: unpack it")


@pytest.mark.parametrize("end", ["within a record", "zeros"])
def test_a_log_whose_end_is_missing_is_cut_off_but_not_altered(tmp_path: Path, end: str) -> None:
    path = write_log(tmp_path / named(CQL), LEARNED)
    content = path.read_bytes()
    path.write_bytes(content[:-17] if end == "within a record" else content + bytes(4_096))
    whole = len(content) if end == "zeros" else None
    log = read_log([path])
    assert log.damage == ()
    (cut,) = log.cuts
    assert cut.startswith("cut off after")
    if whole:
        assert cut == f"cut off after {whole:,} of {whole + 4_096:,} bytes"
    # The remaining times count: 99,900 steps at ten a second.
    assert log.ends - log.begins == pytest.approx(9_990)
    (problem,) = read_events([path], TAGS).problems
    assert "cut off after" in problem
    items = {item.name: item for item in grade_path(tmp_path, check_code=False).items}
    assert "1 of 1 runs are consistent" in items["Logs"].message
    assert items["Logs"].score == items["Logs"].maximum
    asked = items["q2 (4.1 CQL): CQL on Medium"]
    assert asked.score == asked.maximum


def test_a_changed_byte_is_damage_and_keeps_the_times_before_it(tmp_path: Path) -> None:
    path = write_log(tmp_path / named(CQL), LEARNED)
    content = bytearray(path.read_bytes())
    content[len(content) * 3 // 5] ^= 0xFF
    path.write_bytes(content)
    log = read_log([path])
    assert log.cuts == ()
    assert log.damage[0].startswith("damaged after")
    assert 5_900 < log.ends - log.begins < 6_100


def test_a_pointer_next_to_a_complete_log_costs_nothing(tmp_path: Path) -> None:
    path = write_log(tmp_path / named(CQL), LEARNED)
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    path.with_name("events.out.tfevents.1.other").write_text(pointer)
    log = read_log(sorted(path.parent.iterdir()))
    assert log.damage == ()
    assert "Git LFS pointer" in log.stubs[0]


def test_two_runs_in_a_folder_are_two_runs(tmp_path: Path) -> None:
    folder = tmp_path / named(CQL)
    write_log(folder, LEARNED)
    write_log(folder, BETTER, begins=NOON + 86_400)
    collection = collect(tmp_path)
    assert returns_of(collection) == {"PointmassMedium-v0_cql0.1": [-30.0, -24.0]}
    (first, second) = collection.runs
    assert first.name.endswith("(log 1 of 2 in this folder)")
    assert (first.wall_time_s, second.wall_time_s) == (9_990, 9_990)


def test_a_run_continued_in_a_second_file_is_one_run_without_the_pause(tmp_path: Path) -> None:
    folder = tmp_path / named(CQL)
    write_log(folder, LEARNED[:5], steps=range(0, 45_000, 10_000))
    write_log(folder, LEARNED[5:], begins=NOON + 50_000, steps=range(50_000, 100_000, 10_000))
    assert [len(files) for files in [separate_runs(sorted(folder.iterdir()))]] == [1]
    (run,) = collect(tmp_path).runs
    assert len(run.curves["eval_return"].steps) == 10
    # 45,000 and 50,000 steps at ten a second, each less the last interval.
    assert run.wall_time_s == 4_490 + 4_990
    # 50,000 s from one beginning to the other, of which a run took 4,490 s.
    hours = (50_000 - 4_490) / 3600
    assert run.notes == (f"a pause of {hours:.1f} hours in its log, which its duration excludes",)


def test_a_copy_within_a_folder_is_not_another_run(tmp_path: Path) -> None:
    path = write_log(tmp_path, LEARNED)
    path.with_name(f"{path.name} (1)").write_bytes(path.read_bytes())
    assert separate_runs(sorted(tmp_path.iterdir())) == [[path]]


# What the report says


def test_many_runs_without_events_take_one_line(tmp_path: Path) -> None:
    version = pack_record(Event(wall_time=NOON, file_version="brain.Event:2").SerializeToString())
    for index in range(20):
        folder = tmp_path / f"{CQL}_20-11-2023_12-00-{index:02}"
        folder.mkdir()
        (folder / "events.out.tfevents.1700481600.laptop").write_bytes(version)
    ((name, reason),) = collect(tmp_path).left_out
    assert name == f"20 folders, such as {CQL}_20-11-2023_12-00-00"
    assert "no events" in reason


def test_environments_of_other_homework_are_named(tmp_path: Path) -> None:
    write_log(tmp_path / named("hw5_explore_MountainCar-v0_rnd1.0"), LEARNED)
    (reason,) = reasons(collect(tmp_path)).values()
    assert reason == "its environment, MountainCar-v0, does not belong to this homework"


def test_the_list_of_runs_has_every_result(tmp_path: Path) -> None:
    write_log(tmp_path / named(CQL), [-150.0] * 7 + [-30.0, -29.0, -25.0])
    write_log(tmp_path / named(f"{CQL}_lr0.0003", NOON + 60), BETTER, begins=NOON + 60)
    rows = {row[0]: row[-2:] for row in page._runs(collect(tmp_path).runs).rows}
    assert rows == {
        named(CQL): (f"{MINUS}28.0", f"{MINUS}25.0 at 90,000"),
        named(f"{CQL}_lr0.0003", NOON + 60): (f"{MINUS}24.0", f"{MINUS}24.0 at 90,000"),
    }


def test_reruns_that_differ_are_shown_with_their_range(tmp_path: Path) -> None:
    for index, last in enumerate((-35.0, -14.0, -14.0)):
        folder = tmp_path / named(CQL, NOON + 3600 * index)
        write_log(folder, [-150.0] * 7 + [last] * 3, begins=NOON + 3600 * index)
    (experiment,) = collect(tmp_path).experiments
    assert parts.format_final(experiment).endswith(f", runs {MINUS}35.0 to {MINUS}14.0")


def test_diverged_q_values_are_reported_and_do_not_hide_others(tmp_path: Path) -> None:
    for index, (name, q_value) in enumerate((("cql0.1", -24.0), ("cql5.0", 5e7))):
        begins = NOON + 3600 * index
        folder = tmp_path / named(f"hw5_offline_PointmassMedium-v0_{name}", begins)
        write_log(folder, LEARNED, begins=begins, q_value=q_value)
    collection = collect(tmp_path)
    notes = {run.experiment: run.notes for run in collection.runs}
    assert notes["PointmassMedium-v0_cql0.1"] == ()
    (note,) = notes["PointmassMedium-v0_cql5.0"]
    assert note == "its Q-values diverged: 5.0e07 on average over the last tenth"
    (sweep,) = (one for one in answer(collection) if one.title == "Alpha of CQL")
    assert sweep.plot is not None
    scales = [ax.get_yscale() for ax in sweep.plot.figure().axes]
    assert scales == ["symlog", "symlog", "linear", "linear"]


def test_the_table_says_which_results_come_from_logs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "my data"
    write_log(data / named(CQL), LEARNED)
    assert show_results.main(["--data_dir", str(data)]) == 0
    text = capsys.readouterr().out
    assert "1 run has no summary.json" in text
    assert f"cs285/scripts/make_report.py --data_dir '{data}'" in text


# What the grader says


def graded(path: Path) -> dict[str, str]:
    return {item.name: item.message for item in grade_path(path, check_code=False).items}


def test_a_copy_of_a_log_is_reported_as_a_copy(tmp_path: Path) -> None:
    path = write_log(tmp_path / "data" / f"q2_{named(CQL)}", LEARNED)
    other = tmp_path / "data" / f"q2_{named(CQL, NOON + 86_400)}"
    other.mkdir()
    (other / path.name).write_bytes(path.read_bytes())
    message = graded(tmp_path)["Logs"]
    assert "1 of 1 runs are consistent" in message
    assert f"{other.name}: a copy of the log of {path.parent.name}, which counts once" in message
    assert "inconsistent" not in message


def test_changed_names_are_reported(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_log(data / f"Q2-{named(CQL)}", LEARNED)
    write_log(data / "q2_cql_medium", BETTER)
    write_log(data / "q3_final_run", BETTER, begins=NOON + 60)
    items = graded(tmp_path)
    names = items["Names of run folders"]
    assert f"Q2-{named(CQL)}: does not start with q2_ or q4_ exactly" in names
    assert "q2_cql_medium: was renamed; taken for cql on medium, offline" in names
    assert "q3_final_run: the name does not give the algorithm" in names


def test_folders_without_logs_are_reported_and_not_called_missing(tmp_path: Path) -> None:
    folder = tmp_path / "data" / f"q2_{named(CQL)}"
    folder.mkdir(parents=True)
    (folder / "eval_return.csv").write_text("step,value\n0,-150\n")
    (tmp_path / "data" / f"q3_{named('hw5_offline_PointmassMedium-v0_iql0.9')}").mkdir()
    items = graded(tmp_path)
    assert "2 folders such as q2_" in items["Logs"]
    for name in ("q2 (4.1 CQL): CQL on Medium", "q3 (4.2 IQL and AWAC): IQL on Easy or Medium"):
        assert "its folder holds no event file" in items[name]


def test_other_homework_of_the_same_year_is_not_called_another_year(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "q1_bc_ant_Ant-v4_11-09-2023_20-13-09"
    folder.mkdir(parents=True)
    event = Event(
        wall_time=NOON, summary={"value": [{"tag": "Eval_AverageReturn", "simple_value": 4_000.0}]}
    )
    (folder / "events.out.tfevents.1700481600.laptop").write_bytes(
        pack_record(event.SerializeToString())
    )
    (message,) = graded(tmp_path).values()
    assert "another homework, in ant" in message.lower()
    assert "year" not in message.replace("homework 5 of Fall 2023", "")


def test_logs_outside_the_data_folder_are_found(tmp_path: Path) -> None:
    write_log(tmp_path / "my data" / f"q2_{named(CQL)}", LEARNED)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "readme.txt").write_text("x")
    assert (
        "no folder data/ with event files; they are in 'my data'" in graded(tmp_path)["Structure"]
    )


def test_numbers_of_a_simulated_log_are_as_intended(tmp_path: Path) -> None:
    """What the helper of these tests writes, TensorBoard's reader can read."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    path = write_log(tmp_path / "run", LEARNED, every=10_000)
    found = EventAccumulator(str(path)).Reload().Scalars("eval_return")
    assert [event.step for event in found] == list(range(0, 100_000, 10_000))
    np.testing.assert_allclose([event.value for event in found], LEARNED)
