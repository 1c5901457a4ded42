"""Hand-ins get the points they deserve and do no harm, whatever they contain."""

import contextlib
import json
import multiprocessing
import os
import re
import shutil
import signal
import stat
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

from cs285.datasets.dataset_files import Dataset, make_manifest, save_dataset
from cs285.envs.planner import plan
from cs285.envs.pointmass import PointmassEnv
from cs285.grading.hand_ins import plausibility, submitted_runs, unpacking
from cs285.grading.hand_ins.gradescope_results import as_gradescope
from cs285.grading.hand_ins.hand_in import _code, grade_path
from cs285.grading.hand_ins.logs import read_log
from cs285.grading.hand_ins.rubric import ENVIRONMENTS, load_rubric
from cs285.grading.solutions import code_check
from cs285.grading.solutions.reports import FileReport
from cs285.grading.solutions.verdicts import Finding, Verdict
from cs285.infrastructure.errors import UserError
from cs285.scripts import grade

sys.path.insert(0, str(Path(__file__).parents[1]))  # `tests` is not installed
from tests.hand_ins import START, Simulated, all_runs, edit_log, set_values, write_hand_in
from tests.solutions import STYLES

RUBRIC = Path(grade.__file__).parents[1] / "grading" / "hand_ins" / "rubric.yaml"


@pytest.fixture(scope="module")
def templates(tmp_path_factory):
    """Hand-ins that deserve full marks, one with this project's runs, one with public versions'."""
    root = tmp_path_factory.mktemp("hand_ins")
    return {ours: write_hand_in(root / str(ours), ours=ours) for ours in (True, False)}


@pytest.fixture
def ours(templates, tmp_path):
    """A copy of this project's hand-in, which tests may change."""
    return Path(shutil.copytree(templates[True], tmp_path / "submit"))


@pytest.fixture
def public(templates, tmp_path):
    """A copy of a public version's hand-in, without config.yaml and summary.json."""
    return Path(shutil.copytree(templates[False], tmp_path / "public"))


def graded(path, rubric=None):
    return grade_path(path, rubric, check_code=False)


def lost(result):
    """Return the items that lost points, with their messages."""
    return {item.name: item.message for item in result.items if item.score < item.maximum}


def logs_item(result):
    (item,) = (item for item in result.items if item.name == "Logs")
    return item


def zipped(folder, path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(folder))
    return path


def run_folder(hand_in, part):
    (folder,) = (hand_in / "data").glob(f"*{part}*")
    return folder


def rubric_with(tmp_path, **changes):
    """Write the rubric with a single experiment, changed as given."""
    experiment = {
        "stage": "offline",
        "algorithms": ["cql"],
        "environments": ["medium"],
        "steps": 100_000,
        "points": 10,
    }
    content = yaml.safe_load(RUBRIC.read_text(encoding="utf-8"))
    content["questions"] = {"q2": {"title": "CQL", "experiments": [experiment | changes]}}
    path = tmp_path / "rubric.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


# Full marks


@pytest.mark.parametrize("ours", [True, False], ids=["this project's", "a public version's"])
def test_whole_hand_in_gets_full_marks(templates, ours):
    result = graded(templates[ours])
    assert lost(result) == {}
    assert result.total == result.maximum == 64
    assert (
        f"{len(all_runs())} of {len(all_runs())} runs are consistent" in logs_item(result).message
    )


def test_a_zip_and_an_outer_folder_change_nothing(templates, tmp_path):
    assert lost(graded(zipped(templates[True], tmp_path / "submit.zip"))) == {}
    shutil.copytree(templates[True], tmp_path / "outer" / "submit")
    assert lost(graded(zipped(tmp_path / "outer", tmp_path / "wrapped.zip"))) == {}


# Files


def test_misplaced_and_missing_files_cost_points(ours):
    (ours / "cs285" / "agents" / "iql_agent.py").unlink()
    (ours / "data" / ".DS_Store").write_text("", encoding="utf-8")
    (ours / "data").rename(ours / "runs")
    items = lost(graded(ours))
    assert set(items) == {"Structure"}
    for part in ("no folder data/", "lacks iql_agent.py", "runs/.DS_Store"):
        assert part in items["Structure"]


@pytest.mark.parametrize("packed", [True, False])
def test_the_size_is_measured_as_a_zip(tmp_path, packed):
    folder = tmp_path / "submit"
    Simulated("offline", "cql", "medium", steps=100_000).write(folder / "data")
    rubric = rubric_with(tmp_path)
    rubric.write_text(
        rubric.read_text(encoding="utf-8").replace("max_megabytes: 15", "max_megabytes: 1"),
        encoding="utf-8",
    )
    # Two megabytes that pack to half a megabyte: one of four letters takes two bits.
    letters = np.random.default_rng(0).choice(list(b"acgt"), 2 << 20).astype(np.uint8)
    (folder / "notes.txt").write_bytes(letters.tobytes())
    path = zipped(folder, tmp_path / "a.zip") if packed else folder
    assert "Size" not in lost(graded(path, rubric))
    (folder / "noise").write_bytes(np.random.default_rng(0).bytes(3 << 19))
    path = zipped(folder, tmp_path / "b.zip") if packed else folder
    assert lost(graded(path, rubric))["Size"] == "2.2 MB packed, at most 1"


def test_prefixes_must_name_the_right_question(ours):
    folder = run_folder(ours, "medium_dqn")
    folder.rename(folder.with_name(folder.name.replace("q2_", "q3_")))
    folder = run_folder(ours, "hard_cql_finetune")
    folder.rename(folder.with_name(folder.name.replace("q5_", "")))
    (item,) = (item for item in graded(ours).items if item.name == "Names of run folders")
    assert item.score == round(3 * 18 / 20, 2)
    assert "starts with q3, not q2_" in item.message
    assert "starts with no question, not q5_" in item.message


def test_question_may_be_a_folder_around_the_runs(ours):
    for folder in list((ours / "data").iterdir()):
        question, name = folder.name.split("_", 1)
        (ours / "data" / question).mkdir(exist_ok=True)
        folder.rename(ours / "data" / question / name)
    assert lost(graded(ours)) == {}


# Results


def test_points_follow_the_score_below_its_threshold(tmp_path):
    run = Simulated("offline", "cql", "medium", steps=100_000, success=0.0)
    run.write(tmp_path / "submit" / "data")
    rubric = rubric_with(tmp_path, score=0.8)
    # Every episode fails: -150, which is below the random policy's return.
    item = graded(tmp_path / "submit", rubric).items[-1]
    assert item.score == 0
    best = plan("PointmassMedium-v0")
    needed = best.random_return + 0.8 * (best.optimal_return - best.random_return)
    assert f"final return -150.0 on medium, required {needed:.1f}" in item.message
    assert f"best possible {best.optimal_return:.1f}" in item.message


def test_half_the_score_is_half_the_points(tmp_path):
    run = Simulated("offline", "cql", "medium", steps=100_000, ours=False)
    best = plan("PointmassMedium-v0")
    wanted = best.random_return + 0.4 * (best.optimal_return - best.random_return)
    folder = run.write(tmp_path / "submit" / "data")
    only = {"eval_return": wanted, "eval_ep_len": 1 - wanted}

    def constant(event):
        if any(entry.tag.startswith("eval") for entry in event.summary.value):
            del event.summary.value[:]
            for tag, value in only.items():
                event.summary.value.add(tag=tag, simple_value=value)

    edit_log(folder, constant)
    item = graded(tmp_path / "submit", rubric_with(tmp_path, score=0.8)).items[-1]
    assert item.score == pytest.approx(5, abs=0.01), item.message


def test_a_tenth_of_the_steps_is_a_tenth_of_the_points(tmp_path):
    Simulated("offline", "cql", "medium", steps=10_000).write(tmp_path / "submit" / "data")
    item = graded(tmp_path / "submit", rubric_with(tmp_path)).items[-1]
    assert item.score == 1
    assert "ends at step 10,000 of 100,000" in item.message


def test_missing_tags_cost_their_share_of_the_points(tmp_path):
    run = Simulated("offline", "cql", "medium", steps=100_000)
    folder = run.write(tmp_path / "submit" / "data")

    def drop(event):
        return not any(entry.tag == "q_values" for entry in event.summary.value)

    edit_log(folder, drop)  # also drops critic_loss, which is in the same events
    item = graded(tmp_path / "submit", rubric_with(tmp_path)).items[-1]
    assert item.score == 5
    assert "tags missing: critic_loss, q_values" in item.message


def test_every_required_seed_counts(tmp_path):
    for seed in (1, 2):
        run = Simulated("offline", "cql", "medium", steps=100_000, seed=seed, start=START + seed)
        run.write(tmp_path / "submit" / "data")
    two = graded(tmp_path / "submit", rubric_with(tmp_path, seeds=2)).items[-1]
    three = graded(tmp_path / "submit", rubric_with(tmp_path, seeds=3)).items[-1]
    assert (two.score, three.score) == (10, 6.67)
    assert "2 of 3 seeds" in three.message


def test_more_runs_never_cost_points(ours):
    worse = Simulated("offline", "cql", "medium", steps=1_000, seed=5, success=0.0)
    worse.write(ours / "data")
    assert lost(graded(ours)) == {}


def test_alphas_are_counted_with_dqn_as_zero(ours):
    shutil.rmtree(run_folder(ours, "cql_alpha10_"))
    (message,) = lost(graded(ours)).values()
    assert message == "alphas: 0, 0.1, 1; 4 are required"


def test_algorithms_are_compared_in_one_environment(ours):
    shutil.rmtree(run_folder(ours, "easy_awac"))
    Simulated("offline", "awac", "medium", steps=100_000, start=1_795_300_000).write(ours / "data")
    (name,) = lost(graded(ours))
    assert name.startswith("q3")


@pytest.mark.parametrize("prefix", ["extra_", "q2_", ""])
def test_runs_of_algorithms_outside_the_rubric_cost_nothing(ours, prefix):
    """This holds even if their names and logs are wrong; they earn nothing either."""
    run = Simulated("offline", "dqn", "medium", steps=50_000, start=1_795_300_000)
    folder = run.write(ours / "data", f"{prefix}{run.name.replace('_dqn', '_behaviour')}")
    notes = (
        ("config.yaml", "base_config", yaml.safe_dump),
        ("summary.json", "algorithm", json.dumps),
    )
    for name, key, dump in notes:
        text = (folder / name).read_text(encoding="utf-8").replace("pointmass_medium_dqn", "other")
        content = yaml.safe_load(text) | {key: "behaviour"}
        (folder / name).write_text(dump(content), encoding="utf-8")
    (path,) = folder.glob("*tfevents*")
    path.write_bytes(path.read_bytes()[:-20])
    result = graded(ours)
    assert lost(result) == {}
    assert folder.name not in "\n".join(item.message for item in result.items)


# Datasets


def explored(folder, *, steps=400):
    """Write an exploration run on Easy with a random walk as its dataset.

    Returns:
        The run folder, the dataset, its coverage, and how often it reaches the goal.
    """
    env = PointmassEnv("PointmassEasy-v0")
    rng = np.random.default_rng(0)
    rows, visited, goals = [], set(), 0
    state, info = env.reset(seed=0)
    for _ in range(steps):
        action = int(rng.integers(5))
        visited.add(tuple(info["position"].astype(int)))
        after, reward, terminated, truncated, info = env.step(action)
        visited.add(tuple(np.minimum(info["position"].astype(int), 9)))
        rows.append((state, action, reward, after, terminated, truncated))
        goals += terminated
        state, info = env.reset() if terminated or truncated else (after, info)
    names = ("observations", "actions", "rewards", "next_observations", "terminated", "truncated")
    kinds = (np.float32, np.int64, np.float32, np.float32, np.bool_, np.bool_)
    columns = zip(*rows, strict=True)
    arrays = {n: np.array(c, dtype=k) for n, c, k in zip(names, columns, kinds, strict=True)}
    free = int((~env.maze.walls).sum())
    run = Simulated("explore", "rnd", "easy", steps=steps)
    written = run.write(folder / "data")
    manifest = make_manifest(run.env_id, {}, 1, arrays)
    path = folder / "datasets" / f"{run.exp_name}_seed1.npz"
    path.parent.mkdir()
    save_dataset(path, Dataset(**arrays, manifest=manifest))
    return written, path, len(visited) / free, goals


def exploration_rubric(tmp_path):
    return rubric_with(
        tmp_path,
        stage="explore",
        algorithms=["rnd"],
        environments=["easy"],
        steps=400,
        coverage=0.9,
    )


def test_coverage_is_computed_from_the_dataset(tmp_path):
    folder, _, coverage, goals = explored(tmp_path / "submit")
    edit_log(folder, set_values("coverage", lambda _: coverage))
    edit_log(folder, set_values("goals_reached", lambda _: goals))
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    summary |= {"coverage": coverage, "goals_reached": goals}
    (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    item = graded(tmp_path / "submit", exploration_rubric(tmp_path)).items[-1]
    assert 0.2 < coverage < 0.9
    assert item.score == pytest.approx(10 * coverage / 0.9, abs=0.01), item.message
    assert f"coverage {coverage:.0%} (from the dataset), required 90%" in item.message


def test_a_dataset_is_matched_with_the_run_that_wrote_it(tmp_path):
    """It is not matched with a run that stopped early, nor with a shorter one elsewhere, later."""
    folder, _, coverage, goals = explored(tmp_path / "submit")
    edit_log(folder, set_values("coverage", lambda _: coverage))
    edit_log(folder, set_values("goals_reached", lambda _: goals))
    (folder / "summary.json").unlink()
    stopped, _ = (
        Simulated("explore", "rnd", "easy", steps=steps, start=START + later).write(folder.parent)
        for steps, later in ((400, 1_000), (200, 2_000))
    )
    edit_log(stopped, lambda event: event.step <= 200)
    (stopped / "summary.json").unlink()
    result = graded(tmp_path / "submit", exploration_rubric(tmp_path))
    assert "3 of 3 runs are consistent" in logs_item(result).message
    assert f"coverage {coverage:.0%} (from the dataset)" in result.items[-1].message


@pytest.mark.parametrize("place", ["another", "zz/another"])
def test_the_dataset_of_a_shorter_attempt_does_not_count_against_the_run(tmp_path, place):
    """All of `datasets/` is handed in, with the attempts in a separate folder."""
    folder, path, coverage, goals = explored(tmp_path / "submit")
    edit_log(folder, set_values("coverage", lambda _: coverage))
    edit_log(folder, set_values("goals_reached", lambda _: goals))
    (folder / "summary.json").unlink()
    _, short, _, _ = explored(tmp_path / "tried", steps=40)
    (path.parent / place).mkdir(parents=True)
    shutil.copy(short, path.parent / place)
    result = graded(tmp_path / "submit", exploration_rubric(tmp_path))
    assert "1 of 1 runs are consistent" in logs_item(result).message
    assert f"coverage {coverage:.0%} (from the dataset)" in result.items[-1].message


def test_a_dataset_whose_coverage_differs_from_the_log_is_inconsistent(tmp_path):
    _, _, coverage, _ = explored(tmp_path / "submit")
    item = logs_item(graded(tmp_path / "submit", exploration_rubric(tmp_path)))
    assert item.score == 0
    assert f"coverage is {coverage:.6g} in its dataset and 0.97 in the log" in item.message


@pytest.mark.parametrize("harm", ["pickled", "bomb", "broken"])
def test_harmful_dataset_is_not_read(tmp_path, harm):
    _, path, _, _ = explored(tmp_path / "submit")
    if harm == "pickled":
        np.savez(path, observations=np.array([Harmful()], dtype=object), manifest=np.array("{}"))
    elif harm == "bomb":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("actions.npy", bytes(100 << 20))
    else:
        path.write_bytes(path.read_bytes()[:500])
    item = logs_item(graded(tmp_path / "submit", exploration_rubric(tmp_path)))
    assert "pointmass_easy_rnd_seed1.npz: " in item.message
    assert not Harmful.ran


class Harmful:
    ran = False

    def __reduce__(self):
        return (setattr, (Harmful, "ran", True))


# Inconsistent logs


@pytest.mark.parametrize(("made", "fits"), [("2026-01-31_12-00-00", False), (None, True)])
def test_a_run_may_wait_for_others_of_its_command(ours, made, fits):
    folder = run_folder(ours, "easy_cql")
    name, _, written = folder.name.rpartition("_sd1_")
    waited = datetime.strptime(f"{written}+0000", "%Y-%m-%d_%H-%M-%S%z") - timedelta(minutes=77)
    made = made or f"{waited:%Y-%m-%d_%H-%M-%S}"
    folder.rename(folder.with_name(f"{name}_sd1_{made}"))
    assert ("20 of 20 runs are consistent" in logs_item(graded(ours)).message) is fits


def swap_logs(hand_in, one, other):
    first, second = run_folder(hand_in, one), run_folder(hand_in, other)
    (a,), (b,) = first.glob("*tfevents*"), second.glob("*tfevents*")
    a.rename(hand_in / "a")
    b.rename(first / b.name)
    (hand_in / "a").rename(second / a.name)


SWAPS = [
    ("medium_dqn", "easy_awac", "actor_loss, which dqn does not write"),
    ("rnd1000", "rnd5000", "in summary.json and"),
    ("rnd_1000", "rnd_20000", "steps"),
    ("cql_alpha10", "hard_cql_finetune", "train_return, but offline"),
    ("easy_cql", "alpha1_", "episodes here last 1 to 50 steps"),
]


@pytest.mark.parametrize(("one", "other", "says"), SWAPS, ids=[f"{a}/{b}" for a, b, _ in SWAPS])
def test_logs_swapped_between_questions_lose_points(ours, one, other, says):
    swap_logs(ours, one, other)
    result = graded(ours)
    assert says in logs_item(result).message
    assert len(lost(result)) >= 2, "the runs no longer count for their questions, either"
    assert "18 of 20 runs are consistent" in logs_item(result).message


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Medium-v0_dqn", "Easy-v0_awac"),
        ("cql0.1_rnd1000", "cql0.1_rnd5000"),
        ("offline_PointmassMedium-v0_cql10", "finetune"),
        ("Easy-v0_cql", "Medium-v0_cql1_"),
    ],
)
def test_logs_of_public_versions_swapped_lose_points(public, one, other):
    swap_logs(public, one, other)
    result = graded(public)
    assert "18 of 20 runs are consistent" in logs_item(result).message
    assert len(lost(result)) >= 2


def test_a_copied_log_counts_only_for_its_original(public):
    """Folder and file may carry any time in their names; the contents decide."""
    original = run_folder(public, "Easy-v0_iql")
    copy = Simulated("offline", "iql", "medium", steps=100_000, ours=False)
    folder = copy.write(public / "data")
    (path,) = folder.glob("*tfevents*")
    (source,) = original.glob("*tfevents*")
    path.write_bytes(source.read_bytes())
    message = logs_item(graded(public)).message
    assert (
        f"{folder.name} is inconsistent: its log is the same as that of {original.name}" in message
    )
    assert f"{original.name} is inconsistent" not in message, "the log belongs there"
    assert "20 of 21 runs are consistent" in message


def test_a_run_may_be_handed_in_for_two_questions(ours, public):
    for hand_in, part in ((ours, "medium_cql_alpha0.1"), (public, "Medium-v0_cql0.1_2")):
        folder = run_folder(hand_in, part)
        shutil.copytree(folder, folder.with_name(folder.name.replace("q2_", "q4_")))
        assert lost(graded(hand_in)) == {}


def test_a_run_and_its_copy_count_as_one_seed(tmp_path):
    run = Simulated("offline", "cql", "medium", steps=100_000, ours=False)
    for question in ("q2", "q4"):
        run.write(tmp_path / "submit" / "data", f"{question}_{run.name}")
    item = graded(tmp_path / "submit", rubric_with(tmp_path, seeds=2)).items[-1]
    assert item.score == 5
    assert "1 of 2 seeds" in item.message


@pytest.mark.parametrize("part", [0.3, 0.7, 0.99])
def test_a_log_that_is_cut_off_loses_the_points_of_the_missing_steps(public, part):
    folder = run_folder(public, "finetune")
    (path,) = folder.glob("*tfevents*")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    result = graded(public)
    assert "cut off after" in logs_item(result).message
    # Only missing steps cost points.
    assert any(name.startswith("q5") for name in lost(result)) == (part < 0.9)


@pytest.mark.parametrize("name", ["ours", "public"])
def test_a_log_that_ends_early_loses_points(request, name):
    hand_in = request.getfixturevalue(name)
    edit_log(run_folder(hand_in, "finetune"), lambda event: event.step <= 60_000)
    result = graded(hand_in)
    (lost_here,) = (text for item, text in lost(result).items() if item.startswith("q5"))
    assert "60,000" in lost_here


def consistent(returns):
    """Return a change after which every episode of all evaluations has this return."""
    numbers = {
        "eval_return": returns, "eval_ep_len": 1 - returns, "eval/return_std": 0,
        "eval/return_min": returns, "eval/return_max": returns, "eval/ep_len_std": 0,
        "eval/ep_len_min": 1 - returns, "eval/ep_len_max": 1 - returns,
    }  # fmt: skip

    def change(event):
        for entry in event.summary.value:
            entry.simple_value = numbers.get(entry.tag, entry.simple_value)

    return change


def late(change):
    return lambda event: change(event) if event.step > 5_000 else None


def at_once(event):
    event.wall_time = 1_795_266_000


def earlier(event):
    if event.step > 50_000:
        event.wall_time -= 4_000


def back_and_forth(event):
    event.wall_time -= 4_000 * (event.step // 10_000 % 2)


def drop_evaluation(event):
    return event.step != 50_000 or "eval_return" not in str(event)


EDITS = {
    "return": (set_values("eval_return", lambda old: old + 5), "minus the length, plus at most 1"),
    "length": (set_values("eval_ep_len", lambda old: old - 10), "minus the length, plus at most 1"),
    "best": (
        set_values("eval/return_max", lambda old: old + 3),
        "have the lowest return, and the shortest the highest",
    ),
    "worst": (
        late(set_values("eval/ep_len_max", lambda _: 149)),
        "that misses the goal lasts 150 steps here",
    ),
    "mean": (set_values("eval/return_min", lambda _: -1), "between minimum and maximum"),
    "spread": (set_values("eval/return_std", lambda old: old / 2 + 1), "the spread of returns"),
    "long": (set_values("eval_ep_len", lambda _: 500), "last 1 to 150 steps"),
    "not a number": (set_values("eval_return", lambda _: float("nan")), "is inconsistent"),
    "optimum": (consistent(-12), "is expected to return -20.7"),
    "clock": (back_and_forth, "jumps back 5 times, by up to 3,995 s"),
    "gap": (drop_evaluation, "for example the one at step 50,000"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_log_is_inconsistent(public, edit):
    change, says = EDITS[edit]
    if edit == "not a number":
        # A tag without valid values counts as missing.
        says = "tags missing: eval_return"
    folder = run_folder(public, "Medium-v0_cql10_")
    edit_log(folder, change)
    result = graded(public)
    assert any(item.startswith("q2") for item in lost(result)), edit
    assert says in "\n".join(lost(result).values())


@pytest.mark.parametrize("name", ["ours", "public"])
def test_a_clock_may_be_corrected_during_a_run(request, name):
    hand_in = request.getfixturevalue(name)
    edit_log(run_folder(hand_in, "finetune"), earlier)
    result = graded(hand_in)
    assert not lost(result)
    assert "the clock jumps back once, by 4,000 s" in logs_item(result).message


@pytest.mark.parametrize(
    ("steps", "ends", "is_whole"),
    [
        ([700, 1185, 1400, 2100, 2370], (1185, 2370), True),  # two phases, evaluated every 700
        ([600, 700, 1200, 1400, 1800, 2000], (0, 2000), True),  # pictures every 600 as well
        ([700, 1000, 1400, 2000, 2100, 2800, 3000], (1000, 3000), True),
        ([1000, 2000, 3000, 5000, 6000], (0, 6000), False),
        ([2000, 3000, 4000, 5000, 6000], (0, 6000), False),
        ([0, 1, 10**9], (0, 10**9), False),
    ],
)
def test_evaluations_come_at_their_interval_with_pictures_and_at_the_end_of_a_phase(
    steps, ends, is_whole
):
    assert plausibility._is_union_of_grids(np.array(steps), ends) is is_whole


@pytest.mark.parametrize("name", ["ours", "public"])
def test_a_run_may_pause_for_a_night(request, name):
    """A run was stopped and resumed, or a laptop slept: `wall_time_s` counts neither."""

    def after_the_night(event):
        if event.step > 50_000:
            event.wall_time += 30_000

    hand_in = request.getfixturevalue(name)
    edit_log(run_folder(hand_in, "finetune"), after_the_night)
    assert lost(graded(hand_in)) == {}


def test_data_of_another_size_than_the_name_says_do_not_count(ours):
    folder = run_folder(ours, "medium_cql_rnd20000")
    edit_log(folder, set_values("dataset_transitions", lambda _: 2_000))
    message = lost(graded(ours))
    assert [text for item, text in message.items() if "20,000 steps of data" in item] == [
        "no such run"
    ]


NOTES = {
    "final return": ("summary.json", "final_return", -21.0, "final_return is -21 in summary.json"),
    "best return": ("summary.json", "best_return", -1.0, "best_return is -1 in summary.json"),
    "algorithm": ("summary.json", "algorithm", "dqn", "algorithm is dqn in summary.json and cql"),
    "seed": ("config.yaml", "seed", 7, "with seed 7, not to this folder"),
    "name": ("config.yaml", "exp_name", "other", "config.yaml belongs to other with seed 1"),
    "steps": (
        "config.yaml",
        "training_steps",
        50_000,
        "config.yaml sets 50,000 steps",
    ),
}


@pytest.mark.parametrize("note", NOTES)
def test_records_of_another_run_are_inconsistent(ours, note):
    name, key, value, says = NOTES[note]
    path = run_folder(ours, "alpha10_") / name
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    path.write_text(
        (yaml.safe_dump if name == "config.yaml" else json.dumps)(content | {key: value})
    )
    result = graded(ours)
    assert says in logs_item(result).message
    assert any(item.startswith("q2") for item in lost(result))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            set_values("eval/normalised_score", lambda old: old + 0.1),
            "normalised_score does not match",
        ),
        (set_values("train_return", lambda _: -3), "train_return does not match train_ep_len"),
        (lambda event: "train" not in str(event) or crowd(event), "closer together than"),
    ],
)
def test_tags_that_only_this_project_logs_are_checked_too(ours, change, says):
    edit_log(run_folder(ours, "finetune"), change)
    assert says in logs_item(graded(ours)).message


def crowd(event):
    """Move the ends of episodes closer together."""
    event.step = 50_000 + (event.step - 50_000) // 2
    return True


def test_messages_state_facts_and_accuse_no_one(public, ours):
    swap_logs(public, "Medium-v0_dqn", "Easy-v0_awac")
    edit_log(run_folder(ours, "alpha10_"), consistent(-12))
    for hand_in in (public, ours):
        text = "\n".join(item.message for item in graded(hand_in).items).lower()
        assert "is inconsistent" in text
        assert not re.search(r"cheat|forg|fake|fraud|manipul|tamper|dishonest|suspic|copied", text)


# Rubrics


def test_a_rubric_can_name_only_environments_that_exist(tmp_path):
    assert load_rubric(rubric_with(tmp_path, environments=list(ENVIRONMENTS)))
    with pytest.raises(UserError, match=r"the environments are easy, medium, hard, veryhard$"):
        load_rubric(rubric_with(tmp_path, environments=["esay"]))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("points: [", "is not usable: line 1: "),
        ("# Homework\n\nText: more: text\n", "is not usable: line 3: a colon too many"),
        ("max_megabytes: 15\n", "Field required"),
        ("- 1\n", "must hold `key: value` lines"),
    ],
)
def test_unusable_rubric_is_an_error(tmp_path, text, says):
    path = tmp_path / "rubric.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=says) as caught:
        graded(tmp_path, path)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="cannot read the rubric"):
        graded(tmp_path, tmp_path / "nothing.yaml")


def test_misspelt_key_of_a_rubric_is_named(tmp_path):
    path = rubric_with(tmp_path, scroe=0.8)
    with pytest.raises(UserError, match=r"q2\.experiments\.0\.scroe"):
        graded(tmp_path, path)


# Harmful archives


def archive(path, *names, content=b"x"):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name in names:
            file.writestr(name, content)
    return path


def with_kind(path, kind):
    member = zipfile.ZipInfo("data/q1_run/events.out.tfevents.1.host")
    member.external_attr = (kind | 0o777) << 16
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(member, "/etc/passwd")
    return path


def patched(path, *patches):
    """Write an archive with one file, then change bytes at offsets from signatures."""
    data = bytearray(archive(path, "data/events.out.tfevents.1.host").read_bytes())
    for signature, offset, form, value in patches:
        struct.pack_into(form, data, data.index(signature) + offset, value)
    path.write_bytes(data)
    return path


def many_names(path):
    with zipfile.ZipFile(path, "w") as file:
        for number in range(20_000):
            file.writestr(zipfile.ZipInfo(f"data/{'q' * 180}{number}"), b"")
    return path


ZIP64_LOCATOR = b"PK\6\7" + bytes(16)
ARCHIVES = {
    "slip": (lambda path: archive(path, "data/../../../evil"), "leads out"),
    "backslash": (lambda path: archive(path, "..\\evil"), "leads out"),
    "absolute": (lambda path: archive(path, "/tmp/evil"), "absolute"),
    "link": (lambda path: with_kind(path, stat.S_IFLNK), "symbolic link"),
    "device": (lambda path: with_kind(path, stat.S_IFBLK), "device"),
    "pipe": (lambda path: with_kind(path, stat.S_IFIFO), "device"),
    "ratio": (lambda path: archive(path, "data/events", content=bytes(8 << 20)), "zip bomb"),
    "total": (
        lambda path: patched(path, (b"PK\1\2", 20, "<L", 3 << 30), (b"PK\1\2", 24, "<L", 3 << 30)),
        "zip bomb: it would unpack to 3,221 MB",
    ),
    "count": (many_names, "table of contents is too long"),
    "zip64": (
        lambda path: insert(archive(path, "a"), ZIP64_LOCATOR), "table of contents is too long",
    ),
    "twice": (lambda path: archive(path, "data/a", "data\\a"), "appears twice"),
    "encrypted": (
        lambda path: patched(path, (b"PK\1\2", 8, "<H", 1), (b"PK\3\4", 6, "<H", 1)), "encrypted",
    ),
    "method": (
        lambda path: patched(path, (b"PK\1\2", 10, "<H", 14), (b"PK\3\4", 8, "<H", 14)),
        "unsupported",
    ),
    "checksum": (lambda path: patched(path, (b"PK\1\2", 16, "<L", 1)), "readable zip (Bad CRC"),
    "file and folder": (
        lambda path: archive(path, "config.yaml", "config.yaml/config.yaml"), "not a readable zip",
    ),
    "long name": (
        lambda path: archive(path, f"data/{'a' * 300}/config.yaml"), "not a readable zip",
    ),
    "text": (lambda path: write(path, b"not a zip at all"), "not a readable zip"),
    "empty": (lambda path: write(path, b""), "not a readable zip"),
    "giant": (lambda path: sparse(path, 5 << 30), "5,369 MB is too large for a hand-in"),
}  # fmt: skip


def write(path, content):
    path.write_bytes(content)
    return path


def sparse(path, size):
    with path.open("wb") as file:
        file.truncate(size)
    return path


def insert(path, record):
    data = path.read_bytes()
    end = data.rindex(b"PK\5\6")
    return write(path, data[:end] + record + data[end:])


@pytest.mark.parametrize("attack", ARCHIVES)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_harmful_archive_gets_a_verdict_and_writes_nothing_outside(tmp_path, attack):
    make, says = ARCHIVES[attack]
    inside = tmp_path / "inside"
    inside.mkdir()
    result = grade_path(make(inside / "a.zip"))
    assert result.total == 0
    (item,) = result.items
    assert (item.name, item.maximum) == ("Hand-in", 100)
    assert says in item.message
    assert [path.name for path in tmp_path.rglob("*")] == ["inside", "a.zip"]
    assert not list(Path("/tmp").glob("evil"))


def test_links_and_pipes_in_a_folder_are_not_followed(ours):
    folder = ours / "data" / "q2_hw5_offline_pointmass_easy_dqn_sd1_2026-11-21_13-00-00"
    folder.mkdir()
    (folder / "events.out.tfevents.1795266000.a").symlink_to("/dev/zero")
    os.mkfifo(folder / "events.out.tfevents.1795266000.b")
    (folder / "config.yaml").symlink_to("/etc/passwd")
    (ours / "data" / "q1_loop").symlink_to(ours)
    result = graded(ours)
    assert lost(result) == {}
    assert logs_item(result).message.count("not read because it is a link or a device") == 4


def test_folder_of_too_many_files_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(unpacking, "MAX_ENTRIES", 10)
    for number in range(11):
        (tmp_path / str(number)).touch()
    (item,) = graded(tmp_path).items
    assert "more than 10 files" in item.message


# Harmful event files and records


def claiming(length):
    """Return a record with a valid header that claims this length."""
    header = struct.pack("<Q", length)
    return header + struct.pack("<I", masked_crc32c(header)) + b"short"


@pytest.mark.parametrize("length", [1 << 62, (1 << 64) - 1, 1 << 33, 15 << 20])
def test_a_record_that_claims_gigabytes_counts_as_damage(tmp_path, length):
    path = write(tmp_path / "events.out.tfevents.1.host", claiming(length))
    assert read_log([path]).damage == (f"damaged after 0 of {17} bytes",)


def test_an_event_file_of_gigabytes_is_not_read(ours):
    (path,) = run_folder(ours, "medium_dqn").glob("*tfevents*")
    sparse(path, 5 << 30)
    result = graded(ours)
    assert "5,368.709 MB is too large to read" in logs_item(result).message
    assert "Size" in lost(result)


def test_logs_that_are_too_large_in_total_are_read_in_part(ours, monkeypatch):
    monkeypatch.setattr(submitted_runs, "MAX_LOGS", 20_000)
    message = logs_item(graded(ours)).message
    assert "18 folders were not read, such as q1_hw5_explore_pointmass_easy_rnd_sd1" in message


def far(event):
    event.step = 10**9 if event.step == 100_000 else event.step // 5_000


def beyond(event):
    event.step += 2**62


def before(event):
    event.step -= 10**6


def timeless(event):
    event.wall_time *= float("nan")


def long_ago(event):
    event.wall_time *= -1e290


@pytest.mark.parametrize("change", [far, beyond, before, timeless, long_ago])
@pytest.mark.parametrize("version", ["ours", "public"])
def test_absurd_steps_and_times_get_a_verdict(request, version, change):
    hand_in = request.getfixturevalue(version)
    edit_log(run_folder(hand_in, "cql10_" if version == "public" else "alpha10_"), change)
    result = graded(hand_in)
    assert "19 of 20 runs are consistent" in logs_item(result).message
    json.dumps(as_gradescope(result, load_rubric()), allow_nan=False)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("config.yaml", "a: &a [x, x]\n" + "".join(
            f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]\n" for i in range(20)
        )),
        ("config.yaml", "[" * 4_000),
        ("config.yaml", "seed: !!python/object/apply:os.system ['touch /tmp/evil']"),
        ("config.yaml", "seed: !!timestamp x"),
        ("config.yaml", "a: " + "9" * 4_050),
        ("config.yaml", "\0\1\2"),
        ("summary.json", "[" * 4_000),
        ("summary.json", '{"seed": 1e400}'),
        ("summary.json", '{"seed": "\\ud800"}'),
    ],
)  # fmt: skip
def test_harmful_records_are_not_used(ours, name, text):
    (run_folder(ours, "alpha10_") / name).write_text(text, encoding="utf-8")
    message = logs_item(graded(ours)).message
    assert f"{name} cannot be used" in message
    assert not Path("/tmp/evil").exists()


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.tuples(st.integers(0, 60_000), st.integers(0, 255)), min_size=1, max_size=20))
def test_a_log_with_any_bytes_gets_a_grade(templates, tmp_path, changes):
    source = run_folder(templates[True], "easy_iql")
    folder = tmp_path / "fuzzed" / "data" / source.name
    shutil.copytree(source, folder, dirs_exist_ok=True)
    for path in sorted(folder.iterdir()):
        content = bytearray(path.read_bytes())
        for position, byte in changes:
            content[position % len(content)] = byte
        path.write_bytes(content)
    result = graded(tmp_path / "fuzzed")
    assert 0 <= result.total <= result.maximum


def test_names_are_shown_without_control_characters(ours):
    folder = run_folder(ours, "medium_dqn")
    folder.rename(folder.with_name("q2_\x1b[31mred\n\udcff" + "x" * 150))
    text = grade.format_grade(graded(ours))
    assert "\x1b" not in text
    assert r"q2_\x1b[31mred\n" in text
    assert text.encode()


# Code


def test_checking_code_always_ends(tmp_path):
    agents = tmp_path / "cs285" / "agents"
    agents.mkdir(parents=True)
    (agents / "dqn_agent.py").write_text(
        "class DQNAgent:\n    while True:\n        pass\n", encoding="utf-8"
    )
    verdicts = code_check.check_code(tmp_path, seconds=1.0)
    assert [verdict.file for verdict in verdicts] == list(code_check.AGENT_FILES)
    assert all(verdict.share == 0 for verdict in verdicts)
    assert verdicts[2].verdict is Verdict.UNJUDGED
    assert "took longer than 1 s" in verdicts[2].summary


def processes_with(text):
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if text.encode() in path.read_bytes():
                found.append(path.parent.name)
    return found


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """Where checkers have their folders, which they leave empty and without processes."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    folder.chmod(0o711)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert not list(folder.iterdir())
    assert not processes_with(str(folder))
    assert not multiprocessing.active_children()


def with_agents(folder, **texts):
    agents = folder / "cs285" / "agents"
    agents.mkdir(parents=True)
    for name, text in texts.items():
        (agents / f"{name}_agent.py").write_text(text, encoding="utf-8")
    return folder


def test_a_forked_checker_finds_what_a_separate_one_finds(tmp_path, scratch):
    right = (STYLES["student"] / "random_agent.py").read_text(encoding="utf-8")
    critic = (STYLES["student"] / "dqn_agent.py").read_text(encoding="utf-8")
    wrong = critic.replace("* ~done ", "")
    child = (STYLES["student"] / "cql_agent.py").read_text(encoding="utf-8")
    child = child.replace("from __future__ import annotations", "")
    assert wrong != critic
    mixed = with_agents(
        tmp_path / "mixed", random=right, dqn=wrong, cql=f"import nowhere\n{child}", awac="def ("
    )
    other = with_agents(tmp_path / "other")
    (other / "notes.py").write_text("", encoding="utf-8")
    for hand_in in (mixed, other):
        forked, separate = (code_check.check_code(hand_in, in_fork=fork) for fork in (True, False))
        assert forked == separate
        if hand_in is mixed:
            assert [one.verdict for one in forked] == [
                Verdict.CORRECT, Verdict.MISSING, Verdict.WRONG, Verdict.UNJUDGED, Verdict.CRASHES,
                Verdict.MISSING,
            ]  # fmt: skip


def loop_for_ever(*_):
    while True:
        with contextlib.suppress(BaseException):
            while True:
                pass


def raise_memory_error(*_):
    raise MemoryError


@pytest.mark.parametrize(
    ("what", "says"),
    [
        (loop_for_ever, "took longer than 1 s"),
        (lambda _: os.kill(os.getpid(), signal.SIGKILL), "stopped before it reached this file"),
        (raise_memory_error, "stopped before it reached this file"),
        (lambda _: os._exit(0), "stopped before it reached this file"),
    ],
    ids=["loops and cannot be interrupted", "is killed", "has no memory", "exits"],
)
def test_whatever_happens_to_a_forked_checker_ends_it_alone(
    tmp_path, scratch, monkeypatch, what, says
):
    monkeypatch.setattr(code_check, "read_solution", what)
    monkeypatch.setattr(code_check, "_CLEAN_UP_SECONDS", 0.2)
    verdicts = code_check.check_code(tmp_path, seconds=1.0, in_fork=True)
    assert [one.file for one in verdicts] == list(code_check.AGENT_FILES)
    assert all(one.verdict is Verdict.UNJUDGED and says in one.summary for one in verdicts)


def test_a_forked_checker_ends_with_what_it_started(tmp_path, scratch):
    with_agents(tmp_path, random="class RandomAgent:\n    while True:\n        pass\n")
    began = time.monotonic()
    verdicts = code_check.check_code(tmp_path, seconds=1.0, in_fork=True)
    assert "took longer than 1 s" in verdicts[0].summary
    assert time.monotonic() - began < code_check.LONGEST / 10


@pytest.mark.parametrize(
    ("elapsed", "processor_time", "states", "counts"),
    [(1.0, 1.0, "SR", 1.0), (1.0, 0.1, "SR", 0.1), (1.0, 0.0, "SD", 0.0), (1.0, 0.1, "SS", 1.0)],
    ids=["alone", "on a busy machine", "on a slow disk", "asleep"],
)
def test_waiting_for_a_processor_does_not_count(elapsed, processor_time, states, counts):
    assert code_check.charged(elapsed, processor_time, states) == counts


BUSY_TWINS = """
import os, time
os.fork()
while time.process_time() < 0.3:
    pass
print(flush=True)
time.sleep(60)
"""


def test_the_time_of_a_process_includes_its_children():
    process = subprocess.Popen(
        [sys.executable, "-c", BUSY_TWINS], stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        for _ in range(2):
            process.stdout.readline()
        states, processor_time = code_check.family_of(process.pid)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert len(states) == 2
    assert 0.5 < processor_time < 5


@pytest.mark.parametrize(
    ("verdicts", "share"),
    [
        ("correct, accepted variant, correct, correct", 1),
        ("correct, wrong, correct, correct", 3 / 4),
        # A mistake costs points once, not again in the methods that depend on it.
        ("correct, wrong, not judged, correct", 2 / 3),
        # An unwritten method does not hide the failure of methods that need it.
        ("correct, unsolved, not judged, not judged", 1 / 4),
        ("correct, crashes, not judged, wrong", 1 / 4),
        ("missing, not judged", 0),
        ("not judged", 0),
    ],
)
def test_the_share_of_a_file_is_the_fraction_of_its_methods_that_are_right(verdicts, share):
    findings = [
        Finding(f"method {number}", Verdict(verdict))
        for number, verdict in enumerate(verdicts.split(", "))
    ]
    assert code_check.share_right(findings) == share
    remark = Finding("", Verdict.VARIANT, "a remark on the file")
    assert code_check.share_right([*findings, remark]) == share
    unread = Finding("", Verdict.UNJUDGED, "the numbers cannot be read")
    assert code_check.share_right([unread]) == 0


def test_only_what_counts_against_a_file_is_a_loss():
    """Whatever the texts say, some of which quote what a student wrote."""
    findings = (
        Finding("get_action", Verdict.CORRECT),
        Finding("update_critic", Verdict.VARIANT, "wrong: no"),
        Finding("update", Verdict.WRONG, "correct: no"),
        Finding("", Verdict.UNJUDGED, "wrong: no"),
        Finding("", Verdict.CRASHES, "at once"),
    )
    report = FileReport("dqn_agent.py", findings).as_json()
    (item,) = _code([code_check._verdict(report)], 6.0)
    assert item.losses == ("update: wrong: correct: no", "crashes: at once")


def test_a_hand_in_without_code_is_reported(tmp_path):
    (tmp_path / "empty").mkdir()
    verdicts = code_check.check_code(tmp_path / "empty")
    assert {verdict.share for verdict in verdicts} == {0.0}
    assert verdicts[0].summary.startswith("not judged: contains none of random_agent.py")


# The command


def test_script_prints_a_grade_for_people_and_for_programs(ours, capsys):
    assert grade.main([str(ours), "--no_code"]) == 0
    printed = capsys.readouterr().out
    assert " 64.00 / 64.00  in all" in printed
    assert grade.main([str(ours), str(ours), "--no_code", "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert first["total"] == second["maximum"] == 64
    keys = {"name", "score", "maximum", "message", "part", "losses"}
    assert keys == set(first["items"][0])


def test_script_refuses_what_it_cannot_grade(tmp_path, capsys):
    assert grade.main([str(tmp_path / "nothing.zip")]) == 2
    assert "no such folder or zip file" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        grade.main([str(tmp_path), str(tmp_path), "--gradescope", "results.json"])
    target = tmp_path / "no" / "such" / "results.json"
    assert grade.main([str(tmp_path), "--no_code", "--gradescope", str(target)]) == 2
    assert "cannot write" in capsys.readouterr().err


def test_help_shows_every_flag(capsys):
    with pytest.raises(SystemExit, match="0"):
        grade.main(["--help"])
    shown = capsys.readouterr().out
    assert all(flag in shown for flag in ("--rubric", "--json", "--gradescope", "--no_code"))
