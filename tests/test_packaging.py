"""The pins, and the two shell commands with a stand-in for the interpreter of `.venv`."""

import os
import re
import shutil
import signal
import subprocess
import time
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

# Notes how it was called; fails when one of its arguments contains $BROKEN.
STAND_IN = """#!/bin/sh
[ "$1" = -c ] && exit 0
[ "$*" = "-m pip --version" ] && exit 0
echo "$*" >> calls.txt
echo "threads: $OMP_NUM_THREADS"
case "$*" in *"$BROKEN"*) echo "this run has no data" >&2; exit 3;; esac
"""


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text().splitlines()
    plain = [line for line in lines if line and not line.startswith(("#", "-r "))]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in plain), "not an exact pin"
    return {canonicalize_name(name): version for name, version in (x.split("==") for x in plain)}


def needed(names: list[str]) -> set[str]:
    """Returns everything that packages need, themselves included, from their metadata."""
    found: set[str] = set()
    waiting = [canonicalize_name(name) for name in names]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            for requirement in map(Requirement, metadata.requires(name) or []):
                # A GPU build of torch brings its own libraries, which are not pinned.
                is_for_gpu = re.match("nvidia|cuda|triton", requirement.name)
                marker = requirement.marker
                if not is_for_gpu and (marker is None or marker.evaluate({"extra": ""})):
                    waiting.append(canonicalize_name(requirement.name))
    return found


def test_pins_cover_all_that_the_package_needs() -> None:
    direct = [Requirement(text).name for text in PROJECT["dependencies"]]
    assert set(pins("requirements.txt")) == needed(direct)


def test_development_pins_cover_all_that_the_checks_need() -> None:
    assert "-r requirements.txt" in (ROOT / "requirements-dev.txt").read_text().splitlines()
    direct = PROJECT["optional-dependencies"]["dev"]
    assert set(pins("requirements-dev.txt")) == needed(direct) - set(pins("requirements.txt"))


def test_pins_are_within_the_ranges_of_the_project() -> None:
    pinned = pins("requirements.txt")
    for requirement in map(Requirement, PROJECT["dependencies"]):
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)])


@pytest.mark.parametrize("script", ["run_hw5.sh", "run_tests.sh", ".ci/run"])
def test_commands_can_be_executed(script: str) -> None:
    assert os.access(ROOT / script, os.X_OK)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what the commands need, below a folder with a space in its name."""
    folder = tmp_path / "my homework" / "repo"
    folder.mkdir(parents=True)
    for name in (".ci", "tools"):
        shutil.copytree(ROOT / name, folder / name)
    for name in ("run_hw5.sh", "run_tests.sh", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    for name in ("requirements.txt", "requirements-dev.txt"):
        shutil.copy(ROOT / name, folder)
    interpreter = folder / ".venv/bin/python"
    interpreter.parent.mkdir(parents=True)
    interpreter.write_text(STAND_IN)
    interpreter.chmod(0o755)
    return folder


def command(checkout: Path, script: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "JOBS": "20", "BROKEN": "nothing", **variables}
    return subprocess.run(
        [checkout / script], cwd="/", env=environment, capture_output=True, text=True, check=False
    )


def calls(checkout: Path) -> list[str]:
    return (checkout / "calls.txt").read_text().splitlines()


def configs(checkout: Path) -> dict[str, set[str]]:
    """The experiments, by script, of all programs that were started."""
    found: dict[str, set[str]] = {"explore": set(), "offline": set(), "finetune": set()}
    for call in calls(checkout):
        if started := re.match(r"cs285/scripts/run_hw5_(\w+)\.py", call):
            found[started[1]] |= set(re.findall(r"experiments/\w+/pointmass_(\S+)\.yaml", call))
    return found


def test_homework_command_runs_every_experiment_and_then_the_table(checkout: Path) -> None:
    done = command(checkout, "run_hw5.sh", SKIP_INSTALL="1", SEEDS="1 2")
    assert done.returncode == 0, done.stderr
    alphas = ("0", "0.1", "0.5", "1", "2", "5", "10")
    mazes = ("easy", "medium", "hard")
    sizes = (1000, 5000, 10000, 20000)
    assert configs(checkout) == {
        "explore": {
            *(f"{maze}_{agent}" for maze in mazes for agent in ("random", "rnd")),
            *(f"{maze}_rnd_{size}" for maze in ("medium", "hard") for size in sizes),
        },
        "offline": {
            *(f"{maze}_{agent}" for maze in mazes for agent in ("dqn", "cql", "awac", "iql")),
            *(f"medium_cql_alpha{alpha}" for alpha in alphas),
            *(f"{maze}_cql_rnd{size}" for maze in ("medium", "hard") for size in sizes),
        },
        "finetune": {f"hard_{agent}_finetune" for agent in ("dqn", "cql", "awac", "iql")},
    }
    *programs, table = calls(checkout)
    assert all("--seeds 1 2 --data_dir data --dataset_dir datasets " in call for call in programs)
    assert not any("--steps_fraction" in call for call in programs)
    assert table.startswith("cs285/scripts/show_results.py --data_dir data --since 2")
    files = [file for call in programs for file in re.findall(r"experiments/\S+", call)]
    assert [file for file in files if not (ROOT / file).is_file()] == []


def test_the_bonus_environment_is_run_on_request(checkout: Path) -> None:
    done = command(checkout, "run_hw5.sh", SKIP_INSTALL="1", BONUS="1")
    assert done.returncode == 0, done.stderr
    bonus = {
        stage: {x for x in all_ if "veryhard" in x} for stage, all_ in configs(checkout).items()
    }
    assert bonus == {
        "explore": {"veryhard_rnd"},
        "offline": {f"veryhard_{agent}" for agent in ("dqn", "cql", "awac", "iql")},
        "finetune": {f"veryhard_{agent}_finetune" for agent in ("cql", "iql")},
    }


def test_stages_can_be_skipped_and_shortened(checkout: Path) -> None:
    skips = {"RUN_EXPLORATION": "0", "RUN_OFFLINE": "0"}
    done = command(checkout, "run_hw5.sh", SKIP_INSTALL="1", QUICK="1", **skips)
    assert done.returncode == 0, done.stderr
    assert not configs(checkout)["explore"]
    assert not configs(checkout)["offline"]
    *programs, table = calls(checkout)
    assert len(programs) == 4
    folders = "--data_dir quick/data --dataset_dir quick/datasets "
    assert all(f"--steps_fraction 0.1 {folders}" in call for call in programs)
    assert all("--eval_interval 500 --log_interval 500" in call for call in programs)
    assert "--data_dir quick/data" in table
    assert "make_report.py --data_dir quick/data --out quick/report" in done.stdout.splitlines()[-1]
    assert not (checkout / "data").exists()


def test_failing_program_is_named_with_its_log_and_the_rest_runs(checkout: Path) -> None:
    skips = {"RUN_EXPLORATION": "0", "RUN_OFFLINE": "0"}
    done = command(checkout, "run_hw5.sh", SKIP_INSTALL="1", BROKEN="hard_iql_finetune", **skips)
    assert done.returncode == 1
    named = re.search(r"FAILED: finetune_iql \(exit status 3, see (\S+)\)", done.stderr)
    assert named
    assert (checkout / named[1]).read_text() == "threads: 1\nthis run has no data\n"
    assert "    this run has no data" in done.stdout
    assert calls(checkout)[-1].startswith("cs285/scripts/show_results.py")


STOPPABLE = """#!/bin/sh
[ "$1" = -c ] && exit 0
trap 'echo "python $1 --resume data/of_$$" >>"$CS285_RESUME_FILE"; exit 143' TERM
echo "$$" >> started.txt
while :; do sleep 0.05; done
"""


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_command_prints_the_commands_that_resume(
    checkout: Path, signum: signal.Signals, status: int
) -> None:
    (checkout / ".venv/bin/python").write_text(STOPPABLE)
    process = subprocess.Popen(
        [checkout / "run_hw5.sh"],
        env={"PATH": os.environ["PATH"], "JOBS": "2", "SKIP_INSTALL": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no threads; shells cannot trap what is ignored
    )
    started = checkout / "started.txt"
    while not (started.exists() and len(started.read_text().split()) == 2):
        time.sleep(0.05)
    process.send_signal(signum)
    _, said = process.communicate()
    assert process.returncode == status
    printed = re.findall(r"^  python (\S+) --resume data/of_(\d+)$", said, re.MULTILINE)
    assert sorted(printed) == sorted(
        ("cs285/scripts/run_hw5_explore.py", pid) for pid in started.read_text().split()
    )


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        *(("SEEDS", "1 two"), ("JOBS", "many"), ("JOBS", "0"), ("QUICK", "yes"), ("BONUS", "2")),
        *(("RUN_EXPLORATION", "no"), ("RUN_OFFLINE", "off"), ("RUN_FINETUNE", "false")),
        ("SKIP_INSTALL", "true"),
    ],
)
def test_bad_variable_is_named_before_anything_runs(
    checkout: Path, variable: str, value: str
) -> None:
    done = command(checkout, "run_hw5.sh", **{"SKIP_INSTALL": "1", variable: value})
    assert done.returncode == 2
    assert re.fullmatch(f"error: {variable} is .*\n", done.stderr)
    assert not (checkout / "calls.txt").exists()


def test_empty_switches_mean_their_defaults(checkout: Path) -> None:
    names = ("QUICK", "BONUS", "RUN_EXPLORATION", "RUN_OFFLINE", "RUN_FINETUNE")
    done = command(checkout, "run_hw5.sh", SKIP_INSTALL="1", **dict.fromkeys(names, ""))
    assert done.returncode == 0, done.stderr
    assert all(configs(checkout).values())
    assert not any("--steps_fraction" in call for call in calls(checkout))


def test_second_run_installs_nothing(checkout: Path) -> None:
    for _ in range(2):
        assert command(checkout, ".ci/run").returncode == 0
    installs = [call for call in calls(checkout) if call.startswith("-m pip install")]
    assert [call.split()[-1] for call in installs] == ["requirements-dev.txt", "."]


def test_changed_pins_are_installed(checkout: Path) -> None:
    command(checkout, "run_tests.sh")
    with (checkout / "requirements.txt").open("a") as file:
        file.write("more==1.0\n")
    command(checkout, "run_tests.sh")
    assert sum("-r requirements-dev.txt" in call for call in calls(checkout)) == 2


@pytest.mark.parametrize("broken", ["ruff format", "ruff check", "mypy", "imports", "pytest"])
def test_checks_all_run_and_any_failure_counts(checkout: Path, broken: str) -> None:
    done = command(checkout, "run_tests.sh", SKIP_INSTALL="1", BROKEN=broken)
    assert done.returncode == 1
    assert "FAILED:" in done.stdout
    assert calls(checkout) == [
        "-m ruff format --check",
        "-m ruff check",
        "-m mypy",
        "tools/check_imports.py",
        "-m pytest -n 2 --dist worksteal",
    ]


def test_missing_environment_is_explained(checkout: Path) -> None:
    shutil.rmtree(checkout / ".venv")
    skipped = command(checkout, "run_hw5.sh", SKIP_INSTALL="1")
    assert skipped.returncode == 2
    assert "SKIP_INSTALL" in skipped.stderr
    too_old = command(checkout, "run_tests.sh", PYTHON=shutil.which("false") or "false")
    assert too_old.returncode == 2
    assert "Python 3.11 or newer is needed" in too_old.stderr
    assert not (checkout / ".venv").exists()
