from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cs285.results import event_files
from cs285.results.folder_names import parse_folder_name
from cs285.results.run_folders import RunFolder, find_runs
from cs285.results.sinks import Logger

TAGS = ("eval_return", "critic_loss")


def write_events(folder: Path, values: dict[int, float], tag: str = "eval_return") -> Path:
    """Writes scalars into a new event file, and returns it."""
    folder.mkdir(exist_ok=True, parents=True)
    before = set(folder.glob("*tfevents*"))
    with Logger(RunFolder(folder)) as logger:
        for step, value in values.items():
            logger.scalars({tag: value}, step)
    (made,) = set(folder.glob("*tfevents*")) - before
    return made


def points(folder: Path, tag: str = "eval_return") -> dict[int, float]:
    curve = RunFolder(folder).read_log(TAGS).curves[tag]
    return dict(zip(curve.steps.tolist(), curve.values.tolist(), strict=True))


def test_scalars_equal_those_of_tensorboard(tmp_path: Path) -> None:
    write_events(tmp_path, {100 * step: -(step**1.5) for step in range(1, 30)})
    accumulator = EventAccumulator(str(tmp_path)).Reload()
    theirs = {event.step: event.value for event in accumulator.Scalars("eval_return")}
    assert points(tmp_path) == theirs
    assert RunFolder(tmp_path).read_log(TAGS).problems == []


def test_unwanted_and_missing_tags_are_passed_over(tmp_path: Path) -> None:
    write_events(tmp_path, {1: 2.0}, tag="unknown")
    assert RunFolder(tmp_path).read_log(TAGS).curves == {}


def test_empty_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "events.out.tfevents.1.host").touch()
    log = RunFolder(tmp_path).read_log(TAGS)
    assert log.curves == {}
    assert log.problems == ["events.out.tfevents.1.host is empty"]


def test_folder_without_event_files_is_reported(tmp_path: Path) -> None:
    assert RunFolder(tmp_path).read_log(TAGS).problems == ["it has no event file"]


@pytest.mark.parametrize("cut", [1, 5, 17, 30])
def test_file_cut_off_mid_record_keeps_what_comes_before(tmp_path: Path, cut: int) -> None:
    path = write_events(tmp_path, {1: -5.0, 2: -4.0, 3: -3.0})
    path.write_bytes(path.read_bytes()[:-cut])
    log = RunFolder(tmp_path).read_log(TAGS)
    assert log.curves["eval_return"].values.tolist() == [-5.0, -4.0]
    assert "cut off or damaged" in log.problems[0]


def test_damaged_byte_ends_the_file_there(tmp_path: Path) -> None:
    path = write_events(tmp_path, {1: -5.0, 2: -4.0})
    content = bytearray(path.read_bytes())
    content[-8] ^= 0xFF
    path.write_bytes(content)
    assert points(tmp_path) == {1: -5.0}


def test_file_of_other_bytes_is_reported(tmp_path: Path) -> None:
    (tmp_path / "events.out.tfevents.1.host").write_bytes(np.random.default_rng(0).bytes(4_000))
    log = RunFolder(tmp_path).read_log(TAGS)
    assert log.curves == {}
    assert "cut off or damaged after 0 of 4,000 bytes" in log.problems[0]


def test_values_that_are_not_finite_are_left_out_and_counted(tmp_path: Path) -> None:
    write_events(tmp_path, {1: float("nan"), 2: -4.0, 3: float("inf")})
    assert points(tmp_path) == {2: -4.0}
    assert RunFolder(tmp_path).read_log(TAGS).problems == ["2 values of eval_return not finite"]


def test_several_files_join_and_the_later_one_counts(tmp_path: Path) -> None:
    first = write_events(tmp_path, {1: -9.0, 2: -8.0, 3: -7.0})
    first.rename(tmp_path / "events.out.tfevents.0000000001.host")
    write_events(tmp_path, {3: -1.0, 4: 0.0})
    assert points(tmp_path) == {1: -9.0, 2: -8.0, 3: -1.0, 4: 0.0}


def test_long_logs_are_thinned_and_keep_their_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_files, "MAX_POINTS", 50)
    write_events(tmp_path, {step: float(step) for step in range(1_000)})
    kept = points(tmp_path)
    assert len(kept) <= 50
    assert max(kept) == 999
    assert all(step == value for step, value in kept.items())


def test_too_large_file_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_files, "MAX_FILE_BYTES", 10)
    write_events(tmp_path, {1: -5.0})
    log = RunFolder(tmp_path).read_log(TAGS)
    assert log.curves == {}
    assert "larger than 10 bytes" in log.problems[0]


def test_run_folders_are_found_at_any_depth(tmp_path: Path) -> None:
    write_events(tmp_path / "group" / "q1_run", {1: 0.0})
    (tmp_path / "hw5_offline_empty").mkdir()
    (tmp_path / "logs").mkdir()
    folders, problems = find_runs(tmp_path, nested=True)
    assert [folder.name for folder in folders] == ["q1_run", "hw5_offline_empty"]
    assert problems == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "hw5_offline_pointmass_medium_cql_rnd5000_sd2_2026-01-31_12-00-00-2",
            ("pointmass_medium_cql_rnd5000", "offline", "PointmassMedium-v0", "cql", 2, {}),
        ),
        (
            "hw5_offline_PointmassMedium-v0_cql0.1_31-01-2026_12-00-00",
            (
                "PointmassMedium-v0_cql0.1", "offline", "PointmassMedium-v0", "cql", None,
                {"cql_alpha": 0.1},
            ),
        ),
        (
            "hw5_explore_PointmassVeryHard-v0_rnd1.0_31-01-2026_12-00-00",
            (
                "PointmassVeryHard-v0_rnd1.0", "explore", "PointmassVeryHard-v0", "rnd", None,
                {"rnd_weight": 1.0},
            ),
        ),
        (
            "hw5_finetune_pointmass_hard_iql_offline_sd1_2026-01-31_12-00-00",
            ("pointmass_hard_iql_offline", "finetune", "PointmassHard-v0", "iql", 1, {}),
        ),
        ("hw3_dqn_LunarLander", ("dqn_LunarLander", None, None, "dqn", None, {})),
        ("tmp", ("tmp", None, None, None, None, {})),
    ],
)  # fmt: skip
def test_folder_name_says_what_it_can(name: str, expected: tuple[object, ...]) -> None:
    parsed = parse_folder_name(name)
    assert expected == (
        parsed.experiment, parsed.stage, parsed.env_id, parsed.algorithm, parsed.seed,
        parsed.settings,
    )  # fmt: skip
    assert parsed.homework == (int(name[2]) if name.startswith("hw") else None)
