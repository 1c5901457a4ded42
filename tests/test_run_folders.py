"""A run folder knows its files, their contents, and what to delete before a run starts over."""

import json
import re
from pathlib import Path

import pytest

from cs285.infrastructure.errors import UserError
from cs285.infrastructure.yaml_text import InvalidYamlError, parse_yaml
from cs285.results.run_folders import RunFolder, find_runs

ROOT = Path(__file__).parent.parent
SUMMARY = {
    "script": "offline",
    "exp_name": "x",
    "env_name": "PointmassEasy-v0",
    "algorithm": "cql",
    "seed": 1,
    "status": "finished",
    "started": "2026-02-01T10:00:00+00:00",
    "total_steps": 10,
    "wall_time_s": 1.0,
}


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


def files_with(pattern: str) -> set[str]:
    """Returns the files of the package in which a pattern occurs."""
    return {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "cs285").rglob("*.py")
        if re.search(pattern, path.read_text(encoding="utf-8"))
    }


def test_only_the_owner_spells_the_names_of_the_files() -> None:
    files = (
        r"config\.yaml|summary\.json|(agent|checkpoint|diverged)\.pt|\w+\.safetensors"
        r"|sweep\.json|scalars\.csv"
    )
    assert files_with(rf'"({files})"|tfevents') == {"cs285/results/run_folders.py"}


def test_a_run_without_files_has_not_begun(folder: RunFolder) -> None:
    assert not folder.has_ended
    assert not folder.has_checkpoint
    assert not folder.can_resume
    assert not folder.has_diverged
    assert folder.began == 0
    assert folder.event_files() == []


def test_an_interrupted_run_can_resume_until_it_has_ended(folder: RunFolder) -> None:
    folder.sweep_record.touch()
    assert folder.can_resume
    folder.write_summary(SUMMARY)
    assert folder.has_ended
    assert not folder.can_resume


@pytest.mark.parametrize(("status", "diverged"), [("finished", False), ("diverged", True)])
def test_summary_says_how_a_run_ended(folder: RunFolder, status: str, *, diverged: bool) -> None:
    folder.write_summary(SUMMARY | {"status": status})
    assert folder.has_diverged is diverged


@pytest.mark.parametrize("text", ["", "[]", '{"status": "diverged"}', "\0"])
def test_an_invalid_summary_says_nothing(folder: RunFolder, text: str) -> None:
    folder.summary.write_text(text)
    with pytest.raises(ValueError, match="validation error"):
        folder.read_summary()
    assert not folder.has_diverged


def test_summary_reads_back_as_it_was_written(folder: RunFolder) -> None:
    folder.write_summary(SUMMARY | {"final_return": float("nan"), "best_return": -2.5})
    summary = folder.read_summary()
    assert summary.final_return is None
    assert summary.best_return == -2.5
    assert json.loads(summary.model_dump_json())["script"] == "offline"


def test_starting_over_keeps_what_defines_the_run(folder: RunFolder) -> None:
    kept = {"config.yaml", "sweep.json", "notes.txt", "checkpoint.safetensors"}
    results = {
        "events.out.tfevents.1.host", "scalars.csv", "trajectories.png", "learning_curve.png",
        "summary.json", "agent.pt", "diverged.safetensors", "diverged.pt",
    }  # fmt: skip
    for name in kept | results:
        (folder.path / name).touch()
    folder.delete_results()
    assert {path.name for path in folder.path.iterdir()} == kept


def test_half_written_files_are_deleted(folder: RunFolder) -> None:
    (folder.path / ".0123456789abcdef.tmp").touch()
    folder.summary.touch()
    folder.delete_unfinished()
    assert list(folder.path.iterdir()) == [folder.summary]


def test_a_file_that_cannot_be_deleted_is_a_user_error(folder: RunFolder) -> None:
    folder.weights.mkdir()
    with pytest.raises(UserError, match="cannot clear"):
        folder.delete_results()


def test_a_run_began_when_its_first_event_file_says(folder: RunFolder) -> None:
    for name in ("events.out.tfevents.20.host", "events.out.tfevents.3.host.1"):
        (folder.path / name).touch()
    assert folder.began == 3


def test_runs_are_found_at_any_depth_and_by_links(tmp_path: Path) -> None:
    for name in ("hw5_offline_b", "hw5_offline_a", "other", "group/hw5_offline_c", "group/logs"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "hw5_notes.txt").touch()
    (tmp_path / "group/logs/events.out.tfevents.1.host").touch()

    for name in ("q2_hw5_offline_d", "q3.1_hw5_offline_e", "quarter_hw5"):
        (tmp_path / name).mkdir()
    elsewhere = tmp_path.parent / f"{tmp_path.name}_elsewhere"
    elsewhere.mkdir()
    (tmp_path / "hw5_offline_f").symlink_to(elsewhere)
    (tmp_path / "link").symlink_to(tmp_path)
    folders, problems = find_runs(tmp_path)
    assert problems == []
    assert [str(folder.path.relative_to(tmp_path)) for folder in folders] == [
        "group/hw5_offline_c", "group/logs", "hw5_offline_a", "hw5_offline_b", "hw5_offline_f",
        "q2_hw5_offline_d", "q3.1_hw5_offline_e",
    ]  # fmt: skip


def test_a_saved_config_may_have_no_alias(folder: RunFolder) -> None:
    folder.config.write_text("a: &x 1\nb: *x\n")
    with pytest.raises(UserError, match="alias"):
        folder.read_config()


@pytest.mark.parametrize(
    "text", ["a: [1]\nb: [[2]]", "a: &x 1", "a: !!int 1", "a:\n  b: 1\n", "a: {b: 1}", "[1]"]
)
def test_plain_settings_nest_and_tag_nothing(text: str) -> None:
    assert parse_yaml(b"a: 1\nb: two words\n  and more\n", plain=True) == {
        "a": 1, "b": "two words and more",
    }  # fmt: skip
    with pytest.raises(InvalidYamlError, match="plain list of settings"):
        parse_yaml(text.encode(), plain=True)


def test_only_one_module_reads_yaml() -> None:
    assert files_with(r"yaml\.(safe_)?load|SafeLoader") == {"cs285/infrastructure/yaml_text.py"}


def test_only_one_module_decodes_events() -> None:
    assert files_with(r"\.FromString\(|EventAccumulator") == {"cs285/results/event_blocks.py"}
