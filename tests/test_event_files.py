from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.tensorflow_stub import pywrap_tensorflow
from tensorboard.summary.writer.record_writer import RecordWriter

from cs285.results import checksums, event_files, tfrecords
from cs285.results.event_blocks import DamagedFileError, decode_events, read_event_blocks
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


POINTER = """version https://git-lfs.github.com/spec/v1
oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393
size 84977953
"""


@pytest.mark.parametrize("spec", ["git-lfs.github.com/spec/v1", "hawser.github.com/spec/v1"])
def test_a_pointer_of_git_lfs_is_called_one(tmp_path: Path, spec: str) -> None:
    text = POINTER.replace("git-lfs.github.com/spec/v1", spec)
    (tmp_path / "events.out.tfevents.1.host").write_text(text)
    (problem,) = RunFolder(tmp_path).read_log(TAGS).problems
    assert problem == (
        "events.out.tfevents.1.host is a Git LFS pointer, not the log: `git lfs pull` fetches "
        "the log"
    )


def test_a_file_with_nothing_but_its_version_has_no_events(tmp_path: Path) -> None:
    """What a writer leaves of a run that was stopped before its first log."""
    path = tmp_path / "events.out.tfevents.1.host"
    with path.open("wb") as file:
        version = Event(wall_time=1_704_110_400.0, file_version="brain.Event:2")
        RecordWriter(file).write(version.SerializeToString())
    assert path.stat().st_size == 40
    log = RunFolder(tmp_path).read_log(TAGS)
    assert log.problems == [
        "events.out.tfevents.1.host contains no events: the run was stopped before its first log"
    ]
    assert (log.last_step, log.begins) == (0, 1_704_110_400.0)


def test_steps_and_times_are_those_of_all_tags(tmp_path: Path) -> None:
    path = tmp_path / "events.out.tfevents.1.host"
    picture = Summary.Image(height=1, width=1, encoded_image_string=b"picture")
    with path.open("wb") as file:
        writer = RecordWriter(file)
        for step, entry in (
            (5, Summary.Value(tag="eval_return", simple_value=-3)),
            (70, Summary.Value(tag="unknown", simple_value=1)),
            (90, Summary.Value(tag="map", image=picture)),
        ):
            event = Event(wall_time=1_000 + step, step=step, summary=Summary(value=[entry]))
            writer.write(event.SerializeToString())
    log = RunFolder(tmp_path).read_log(TAGS, ["map"])
    assert (log.last_step, log.begins, log.ends) == (90, 1_005, 1_090)
    assert (log.pictures, log.picture_steps) == ({"map": b"picture"}, {"map": 90})


@pytest.mark.parametrize("cut", [1, 5, 17, 30])
def test_file_cut_off_mid_record_keeps_what_comes_before(tmp_path: Path, cut: int) -> None:
    path = write_events(tmp_path, {1: -5.0, 2: -4.0, 3: -3.0})
    path.write_bytes(path.read_bytes()[:-cut])
    log = RunFolder(tmp_path).read_log(TAGS)
    assert log.curves["eval_return"].values.tolist() == [-5.0, -4.0]
    assert "is cut off after" in log.problems[0]


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
    assert "is damaged after 0 of 4,000 bytes" in log.problems[0]


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
    folders, problems = find_runs(tmp_path)
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


# Blocks, compared with TensorBoard's decoder and checksum, one event at a time


@pytest.mark.parametrize("length", [1, 3, 64, 127, 128, 129, 1_000, 70_001])
@pytest.mark.parametrize("count", [1, 60])
def test_checksums_equal_those_of_tensorboard(length: int, count: int) -> None:
    size = max(4_096, length + count)
    data = np.random.default_rng(length).bytes(size)
    starts = np.arange(count if length < 70_000 else 1)
    found = checksums.masked_crc32c_of(data, starts, np.full(len(starts), length))
    texts = [data[start : start + length] for start in starts]
    assert found.tolist() == [pywrap_tensorflow.masked_crc32c(text) for text in texts]
    assert checksums.masked_crc32c(texts[0]) == found[0]


def test_checksum_of_the_standard() -> None:
    """RFC 3720, B.4: the checksum of 32 bytes of zeros is 8a9136aa, that of ones 62a8ab43."""

    def plain(data: bytes) -> int:
        rotated = (checksums.masked_crc32c(data) - 0xA282EAD8) & 0xFFFFFFFF
        return (rotated << 15 | rotated >> 17) & 0xFFFFFFFF

    assert (plain(bytes(32)), plain(b"\xff" * 32)) == (0x8A9136AA, 0x62A8AB43)


def odd_events(rng: np.random.Generator, count: int) -> list[Event]:
    """Events as logs have them, and as they might have: all kinds in any order."""
    steps = [0, 1, 127, 128, 16_383, 100_000, 2**31, 2**34, 2**35, 2**62, -1]
    tags = ["q", "eval_return", "critic_loss", "Umlaut ä", "x" * 100, "", "y" * 300]
    events = []
    for _ in range(count):
        tag, step = str(rng.choice(tags)), int(rng.choice(steps))
        value = float(rng.choice([0.0, -1.5, np.nan, np.inf, 1e-30]))
        entries = {
            0: [Summary.Value(tag=tag, simple_value=value)] * 4,
            1: [Summary.Value(tag=tag, image=Summary.Image(encoded_image_string=rng.bytes(200)))],
            2: [],
            3: [Summary.Value(tag=tag, node_name="n", simple_value=value)],
            4: [Summary.Value(tag=tag)],
        }.get(int(rng.integers(12)), [Summary.Value(tag=tag, simple_value=value)])
        wall_time = float(rng.choice([0.0, 1.7e9, 1.7e9 + 0.25, np.nan]))
        events.append(Event(wall_time=wall_time, step=step, summary=Summary(value=entries)))
    return events


@pytest.mark.parametrize("block_bytes", [300, 4_000_000])
@pytest.mark.parametrize("seed", range(3))
def test_blocks_hold_what_the_events_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, block_bytes: int
) -> None:
    monkeypatch.setattr(tfrecords, "BLOCK_BYTES", block_bytes)
    events = odd_events(np.random.default_rng(seed), 700)
    path = tmp_path / "events.out.tfevents.1.host"
    with path.open("wb") as file:
        writer = RecordWriter(file)
        for event in events:
            writer.write(event.SerializeToString())
    assert [stored.event for stored in decode_events(path)] == events
    columns: list[list[float]] = [[], []]
    scalars: dict[str, list[tuple[int, float]]] = {}
    pictures = []
    before = 0
    for block in read_event_blocks(path):
        columns[0] += block.wall_times.tolist()
        columns[1] += block.steps.tolist()
        for tag, points in block.scalars.items():
            scalars.setdefault(tag, []).extend(
                zip((points.events + before).tolist(), points.values.tolist(), strict=True)
            )
        pictures += [(row + before, tag, encoded) for row, tag, encoded in block.pictures]
        before += len(block)
    expected: dict[str, list[tuple[int, float]]] = {}
    shown = []
    for row, event in enumerate(events):
        for entry in event.summary.value:
            if entry.WhichOneof("value") == "simple_value":
                expected.setdefault(entry.tag, []).append((row, entry.simple_value))
            elif entry.WhichOneof("value") == "image":
                shown.append((row, entry.tag, entry.image.encoded_image_string))
    assert repr(columns) == repr([[e.wall_time for e in events], [e.step for e in events]])
    assert repr(sorted(scalars.items())) == repr(sorted(expected.items()))
    assert pictures == shown


@pytest.mark.parametrize("at", [0.1, 0.5, 0.93])
def test_blocks_end_at_the_damaged_event(tmp_path: Path, at: float) -> None:
    path = write_events(tmp_path, {step: float(step) for step in range(300)})
    content = bytearray(path.read_bytes())
    place = int(len(content) * at)
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedFileError, match=r"^after [0-9,]+ of ") as caught:
        list(read_event_blocks(path))
    first = int(str(caught.value).split()[1].replace(",", ""))
    # The altered byte is in the record that begins there.
    assert first <= place < first + 60
    accumulator = EventAccumulator(str(tmp_path)).Reload()
    theirs = {event.step: event.value for event in accumulator.Scalars("eval_return")}
    assert points(tmp_path) == theirs
    assert 0 < len(theirs) < 300
