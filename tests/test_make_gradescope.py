"""The autograder's zip contains everything it needs and writes results that Gradescope can read."""

import json
import os
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Literal

import pytest
import yaml
from pydantic import BaseModel, ConfigDict

from cs285.envs.mazes import MAZES
from cs285.envs.planner import plan
from cs285.scripts import make_gradescope

sys.path.insert(0, str(Path(__file__).parents[1]))  # `tests` is not installed
from tests.hand_ins import write_hand_in

Visibility = Literal["hidden", "after_due_date", "after_published", "visible"]
Format = Literal["text", "html", "simple_format", "md", "ansi"]


class Documented(BaseModel):
    """Fields of results.json as Gradescope's autograder documentation lists them; no others."""

    model_config = ConfigDict(extra="forbid", strict=True)


class GradedItem(Documented):
    score: float | int | None = None
    max_score: float | int | None = None
    status: Literal["passed", "failed"] | None = None
    name: str | None = None
    name_format: Format | None = None
    number: str | None = None
    output: str | None = None
    output_format: Format | None = None
    tags: list[str] | None = None
    visibility: Visibility | None = None
    extra_data: dict[str, object] | None = None


class Results(Documented):
    score: float | int | None = None
    execution_time: float | int | None = None
    output: str | None = None
    output_format: Format | None = None
    test_output_format: Format | None = None
    test_name_format: Format | None = None
    visibility: Visibility | None = None
    stdout_visibility: Visibility | None = None
    extra_data: dict[str, object] | None = None
    tests: list[GradedItem] = []
    leaderboard: list[dict[str, object]] | None = None


def unpack(archive: Path, autograder: Path) -> None:
    """Do what Gradescope does with an autograder's zip."""
    with zipfile.ZipFile(archive) as bundle:
        for member in bundle.infolist():
            path = Path(bundle.extract(member, autograder / "source"))
            path.chmod(member.external_attr >> 16)
    program = (autograder / "source" / "run_autograder").read_bytes()
    (autograder / "run_autograder").write_bytes(program)
    (autograder / "run_autograder").chmod(0o755)


def start(program: Path, autograder: Path, python: str = sys.executable) -> None:
    """Run a program as the container does: from another folder, with few variables set."""
    environment = {
        "PATH": os.defpath,
        "HOME": str(autograder / "home"),
        "AUTOGRADER_ROOT": str(autograder),
        "AUTOGRADER_PYTHON": python,
    }
    subprocess.run([program], cwd="/", env=environment, check=True, timeout=300)


@pytest.fixture
def autograder(tmp_path: Path) -> Path:
    """A stand-in for /autograder, with a changed rubric and without a submission."""
    rubric = Path(make_gradescope.DEFAULT).read_text(encoding="utf-8")
    changed = rubric.replace("3 Exploration", "3 Exploring this bundle")
    (tmp_path / "rubric.yaml").write_text(changed, encoding="utf-8")
    out = tmp_path / "autograder.zip"
    arguments = ["--out", str(out), "--rubric", str(tmp_path / "rubric.yaml")]
    assert make_gradescope.main(arguments) == 0
    folder = tmp_path / "auto grader"
    unpack(out, folder)
    return folder


def test_the_bundle_installs_itself_and_grades_a_submission(autograder: Path) -> None:
    # Plans cached by other tests save time here; only VeryHard is planned again.
    plans = autograder / "cache" / "cs285"
    plans.mkdir(parents=True)
    for maze in ("easy", "medium", "hard"):
        plan(next(env_id for env_id in MAZES if MAZES[env_id].name == maze))
    for path in (Path(os.environ["XDG_CACHE_HOME"]) / "cs285").glob("plan-*.npz"):
        if "veryhard" not in path.name:
            shutil.copy(path, plans)
    start(autograder / "source" / "setup.sh", autograder)
    assert len(list(plans.glob("plan-*.npz"))) == 4
    write_hand_in(autograder / "submission")
    start(autograder / "run_autograder", autograder)
    text = (autograder / "results" / "results.json").read_text(encoding="utf-8")
    results = Results.model_validate_json(text)
    said = {test.name: test.output for test in results.tests if test.score != test.max_score}
    assert said == {}
    assert results.score == 100
    assert results.score == pytest.approx(sum(test.score for test in results.tests))
    # It used the bundle's rubric, and so the bundle's code, not that of this repository.
    assert any("Exploring this bundle" in (test.name or "") for test in results.tests)
    assert {path.name for path in autograder.iterdir()} == {
        "source", "cache", "submission", "results", "run_autograder",
    }  # fmt: skip


def test_a_submission_that_cannot_be_graded_still_gets_results(autograder: Path) -> None:
    (autograder / "submission").mkdir()
    (autograder / "submission" / "report.pdf").write_bytes(b"%PDF")
    metadata = {
        "created_at": "2026-11-10T20:05:00Z",
        "assignment": {"due_date": "2026-11-10T12:00:00-08:00"},
    }
    (autograder / "submission_metadata.json").write_text(json.dumps(metadata))
    start(autograder / "run_autograder", autograder)
    path = autograder / "results" / "results.json"
    empty = Results.model_validate_json(path.read_text(encoding="utf-8"))
    assert empty.score == 3  # small, and no clutter
    assert "Handed in 5 min after the due date." in (empty.output or "")
    start(autograder / "run_autograder", autograder, python="/bin/false")
    failed = Results.model_validate_json(path.read_text(encoding="utf-8"))
    assert failed.score == 0
    assert "contact the staff" in (failed.output or "")


def test_programs_are_executable_and_at_the_root(tmp_path: Path) -> None:
    out = tmp_path / "a.zip"
    assert make_gradescope.main(["--out", str(out)]) == 0
    with zipfile.ZipFile(out) as bundle:
        members = {member.filename: member.external_attr >> 16 for member in bundle.infolist()}
    assert members["setup.sh"] == members["run_autograder"] == stat.S_IFREG | 0o755
    assert {"requirements.txt", "cs285/scripts/grade.py", "cs285/agents/dqn_agent.py"} <= set(
        members
    )
    assert not any("__pycache__" in name for name in members)
    assert make_gradescope.main(["--out", str(tmp_path / "b.zip")]) == 0
    assert out.read_bytes() == (tmp_path / "b.zip").read_bytes()


@pytest.mark.parametrize("program", make_gradescope.PROGRAMS)
def test_programs_are_valid_bash(program: str) -> None:
    path = Path(make_gradescope.DEFAULT).parent / "gradescope" / program
    subprocess.run(["/bin/bash", "-n", path], check=True)


def test_the_script_reports_its_output_and_refuses_bad_rubrics(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a.zip"
    assert make_gradescope.main(["--out", str(out), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["out"] == str(out)
    assert printed["bytes"] == out.stat().st_size
    rubric = tmp_path / "rubric.yaml"
    rubric.write_text(yaml.safe_dump({"points": {}}), encoding="utf-8")
    assert make_gradescope.main(["--out", str(tmp_path / "b.zip"), "--rubric", str(rubric)]) == 2
    assert "rubric" in capsys.readouterr().err
    assert not (tmp_path / "b.zip").exists()
    with pytest.raises(SystemExit, match="0"):
        make_gradescope.main(["--help"])
    assert "--rubric" in capsys.readouterr().out
