"""Logs of public versions of the homework are graded and shown for what they are."""

import sys
from pathlib import Path

import pytest

from cs285.grading.hand_ins import submitted_runs
from cs285.grading.hand_ins.hand_in import grade_path
from cs285.grading.hand_ins.plausibility import find_inconsistencies, why_written_again
from cs285.grading.hand_ins.unpacking import open_hand_in

sys.path.insert(0, str(Path(__file__).parents[1]))  # `tests` is not installed
from tests.public_logs import (
    ENV_IDS,
    LATER,
    Entry,
    PublicRun,
    at_once,
    every_tenth,
    tag_by_tag,
    write_log,
)

KINDS = [
    *(("explore", algorithm) for algorithm in ("random", "rnd")),
    *(("offline", algorithm) for algorithm in ("dqn", "cql", "awac", "iql")),
    *(("finetune", algorithm) for algorithm in ("cql", "awac", "iql")),
]


def every_run() -> list[PublicRun]:
    """Runs of every kind in every maze, each at a different time."""
    made = []
    for number, (maze, (stage, algorithm)) in enumerate(
        (maze, kind) for maze in ENV_IDS for kind in KINDS
    ):
        steps = 200_000 if (algorithm, maze, stage) == ("iql", "hard", "offline") else None
        start = 1_700_000_000 + 86_413 * number
        made.append(PublicRun(stage, algorithm, maze, steps=steps, start=start))
    for number, size in enumerate((1_000, 5_000)):
        start = 1_720_000_000 + 7_001 * number
        run = PublicRun("explore", "rnd", "hard", steps=size, start=start, setting=f"_{size}")
        run.entries = [entry for entry in run.entries if "train" not in entry.tag]
        made.append(run)  # no episode ended, as the first one has no limit
    made.append(PublicRun("offline", "cql", "medium", episodes=1, start=1_725_000_000))
    made.append(PublicRun("finetune", "cql", "easy", log_interval=1, steps=8_000))
    return made


@pytest.fixture(scope="module")
def runs() -> list[PublicRun]:
    """Made once, since they take a second; tests change copies of their entries."""
    return every_run()


def judge(folder: Path) -> dict[str, list[str]]:
    """Return what does not fit, by the name of the folder."""
    with open_hand_in(folder) as hand_in:
        found = find_inconsistencies(submitted_runs.find_runs(hand_in).read)
    return {run.name: [one.fact for one in facts] for run, facts in found.items()}


def rewritten(run: PublicRun, data: Path, rewrite, *, begins: float | None = None) -> Path:
    """Write a run's folder with its log written again, and return it."""
    entries = rewrite(run.entries)
    folder = data / run.name
    folder.mkdir(parents=True)
    begins = entries[0].wall_time if begins is None else begins
    write_log(folder / f"events.out.tfevents.{int(begins)}.host", entries, begins)
    return folder


def test_every_honest_log_fits(runs: list[PublicRun], tmp_path: Path) -> None:
    for run in runs:
        run.write(tmp_path / "data")
    found = judge(tmp_path)
    assert len(found) == len(runs) == 40
    assert {name: facts for name, facts in found.items() if facts} == {}


def test_the_simulated_episodes_are_what_they_should_be(runs: list[PublicRun]) -> None:
    """Random episodes on Medium are cut off at 100, and the first one of training has no limit."""
    by_kind = {(run.stage, run.algorithm, run.maze): run for run in runs[:36]}
    medium = by_kind["explore", "random", "medium"]
    lengths = [entry.value for entry in medium.entries if entry.tag == "eval/ep_len_max"]
    assert lengths == [100.0]
    longest = [
        max(entry.value for entry in run.entries if entry.tag == "train_ep_len") - run.limit
        for run in runs
        if run.stage == "finetune"
    ]
    assert max(longest) > 0


@pytest.mark.parametrize("rewrite", [every_tenth, tag_by_tag])
def test_logs_that_were_thinned_with_their_times_fit(
    runs: list[PublicRun], tmp_path: Path, rewrite
) -> None:
    """This holds even if the new file begins with the time at which it was written."""
    for number, run in enumerate(runs):
        later = run.start + LATER if number % 2 else None
        rewritten(run, tmp_path / "data", rewrite, begins=later)
    found = judge(tmp_path)
    assert {name: facts for name, facts in found.items() if facts} == {}


def test_logs_that_were_written_again_at_once_are_recognised(
    runs: list[PublicRun], tmp_path: Path
) -> None:
    for run in runs:
        rewritten(run, tmp_path / "data", at_once)
    with open_hand_in(tmp_path) as hand_in:
        read = submitted_runs.find_runs(hand_in).read
    assert not any(find_inconsistencies(read).values())
    for run in read:
        assert "written again" in why_written_again(run), run.name
        assert "ask for the original" in why_written_again(run)


def test_a_log_written_again_earns_half_without_the_original(
    runs: list[PublicRun], tmp_path: Path
) -> None:
    (run,) = [run for run in runs[:36] if (run.stage, run.algorithm, run.maze) == (
        "offline", "cql", "easy")]  # fmt: skip
    rewritten(run, tmp_path / "data", at_once)
    items = {item.name: item for item in grade_path(tmp_path, check_code=False).items}
    item = items["q2 (4.1 CQL): CQL on Easy"]
    assert item.score == item.maximum / 2
    assert "were written again" not in item.message
    assert "span only 0.0" in item.message
    assert "ask for the original; until then, 50% of the points" in item.message
    assert items["Logs"].score == items["Logs"].maximum / 2
    assert "1 of 1 runs are consistent" in items["Logs"].message
    assert "is inconsistent" not in items["Logs"].message


def test_different_logs_written_again_are_not_copies(tmp_path: Path) -> None:
    """If a log has only one time, the times and steps of all runs are the same."""
    for maze in ("easy", "medium"):
        run = PublicRun("offline", "cql", maze, start=1_700_000_000)
        run.entries = [entry._replace(wall_time=1_700_000_002.5) for entry in run.entries]
        run.write(tmp_path / "data")
    assert not any(judge(tmp_path).values())


def test_reruns_are_not_copies(tmp_path: Path) -> None:
    for attempt in range(2):
        start = 1_700_000_000 + 4_000 * attempt
        PublicRun("offline", "cql", "easy", start=start).write(tmp_path / "data")
    assert not any(judge(tmp_path).values())


# What does not fit is still found


def values_of(tag: str, number):
    """Return a change of all values of a tag."""

    def change(entries: list[Entry]) -> list[Entry]:
        return [
            entry._replace(value=number(entry.value)) if entry.tag == tag else entry
            for entry in entries
        ]

    return change


def without_step(entries: list[Entry]) -> list[Entry]:
    return [entry for entry in entries if entry.step != 50_000]


def back_and_forth(entries: list[Entry]) -> list[Entry]:
    return [
        entry._replace(wall_time=entry.wall_time - 4_000 * (entry.step // 10_000 % 2))
        for entry in entries
    ]


def with_actor(entries: list[Entry]) -> list[Entry]:
    return [
        entry._replace(tag="actor_loss") if entry.tag == "grad_norm" else entry for entry in entries
    ]


def in_one_minute(entries: list[Entry]) -> list[Entry]:
    """Three days later: neither the log of this folder nor written at once."""
    begins = entries[0].wall_time
    return [
        entry._replace(wall_time=begins + LATER + 600 + (entry.wall_time - begins) / 2)
        for entry in entries
    ]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (values_of("eval_return", lambda old: old + 4), "minus the length, plus at most 1"),
        (values_of("eval_ep_len", lambda old: old - 9), "minus the length, plus at most 1"),
        (values_of("eval/return_std", lambda old: old / 2 + 1), "the spread of returns"),
        (values_of("eval/return_max", lambda old: old + 2), "the shortest the highest"),
        (values_of("eval/ep_len_max", lambda old: min(old, 149)), "the mean must be between"),
        (without_step, "for example the one at step 50,000"),
        (back_and_forth, "the log's clock jumps back 5 times"),
        (with_actor, "contains actor_loss, which cql does not write"),
        (in_one_minute, "is not the time at which the log begins"),
    ],
)
def test_an_edited_log_does_not_fit(tmp_path: Path, change, says: str) -> None:
    run = PublicRun("offline", "cql", "medium")
    # The untrained policy of step 0 misses the goal.
    rewritten(run, tmp_path / "data", change, begins=None)
    ((_, facts),) = judge(tmp_path).items()
    assert any(says in fact for fact in facts), facts


def test_a_random_agent_is_cut_off_at_100_steps_or_at_the_limit(tmp_path: Path) -> None:
    for number, limit in enumerate((90, 100, 101, 130, 150, 151)):
        run = PublicRun("explore", "random", "medium", start=1_700_000_000 + 86_400 * number)
        run.limit = limit
        run.entries = sorted(run._evaluations(), key=lambda entry: entry.wall_time)
        run.write(tmp_path / "data", f"q1_{limit}_")
    # At 101 and 151, a loop takes one step too many.
    misfits = {name.split("_")[1] for name, facts in judge(tmp_path).items() if facts}
    assert misfits == {"90", "130"}


# What was not read


def test_what_was_not_read_is_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submitted_runs, "MAX_RUNS", 1)
    for maze in ("easy", "medium"):
        start = 1_700_000_000 + (maze == "medium") * 86_400
        PublicRun("offline", "cql", maze, start=start).write(tmp_path / "data", "q2_")
    items = {item.name: item.message for item in grade_path(tmp_path, check_code=False).items}
    assert "1 folders were not read, such as q2_hw5_offline_PointmassMedium" in items["Logs"]
    message = items["q2 (4.1 CQL): CQL on Medium"]
    assert message == (
        f"q2_{PublicRun('offline', 'cql', 'medium', start=1_700_086_400).name} was not read; see "
        "the item on logs"
    )
    assert items["q2 (4.1 CQL): DQN on Easy or Medium"] == "no such run"


def test_a_log_that_is_too_large_is_not_called_missing(tmp_path: Path) -> None:
    folder = tmp_path / "data" / PublicRun("offline", "cql", "easy").name
    folder.mkdir(parents=True)
    with (folder / "events.out.tfevents.1700000002.host").open("wb") as file:
        file.truncate(70_000_000)
    items = {item.name: item.message for item in grade_path(tmp_path, check_code=False).items}
    assert "was not read" in items["q2 (4.1 CQL): CQL on Easy"]
    assert "70.000 MB is too large to read" in items["Logs"]


def test_stubs_are_read_last_and_cost_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that was stopped at once leaves a file of 40 bytes; its folder comes first here."""
    monkeypatch.setattr(submitted_runs, "MAX_RUNS", 3)
    for number in range(5):
        stub = tmp_path / "data" / f"q1_hw5_explore_PointmassEasy-v0_rnd1.0_{number}"
        stub.mkdir(parents=True)
        write_log(stub / f"events.out.tfevents.{1_700_000_000 + number}.host", [], 1.7e9)
    run = PublicRun("offline", "cql", "easy")
    run.write(tmp_path / "data", "q2_")
    items = {item.name: item for item in grade_path(tmp_path, check_code=False).items}
    item = items["q2 (4.1 CQL): CQL on Easy"]
    assert item.score == item.maximum
    assert items["Logs"].score == items["Logs"].maximum
    assert "2 folders such as q1_hw5_explore" in items["Logs"].message
    assert "hold no events" in items["Logs"].message
    message = items["q1 (3 Exploration): RND on Easy"].message
    assert "contains no events: the run was stopped before its first log" in message


def test_a_git_lfs_pointer_is_reported_as_one(tmp_path: Path) -> None:
    folder = PublicRun("offline", "cql", "easy").write(tmp_path / "data", "q2_")
    (path,) = folder.iterdir()
    path.write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0a' * 32}\nsize 7\n")
    items = {item.name: item.message for item in grade_path(tmp_path, check_code=False).items}
    for name in ("Logs", "q2 (4.1 CQL): CQL on Easy"):
        assert "is a Git LFS pointer, not the log: `git lfs pull` fetches the log" in items[name]
        assert "cut off" not in items[name]


def test_an_exploration_without_an_episode_gets_its_points(tmp_path: Path) -> None:
    run = PublicRun("explore", "rnd", "hard", steps=1_000, setting="_1000", log_interval=50)
    run.entries = [entry for entry in run.entries if "train" not in entry.tag]
    run.write(tmp_path / "data", "q4_")
    items = {item.name: item for item in grade_path(tmp_path, check_code=False).items}
    item = items["q4 (4.3 Data ablations): RND on Medium or Hard, 1,000 steps of data"]
    assert item.score == item.maximum, item.message
    assert "no episode ended" in item.message


@pytest.mark.parametrize(("steps", "share"), [(1_000, 1.0), (600, 0.5)])
def test_a_sparse_log_may_end_an_interval_before_its_run(
    tmp_path: Path, steps: int, share: float
) -> None:
    """If logged every 250 steps, a run of 1,000 steps ends at 750, and one of 600 at 500."""
    run = PublicRun("explore", "rnd", "hard", steps=steps, setting="_1000", log_interval=250)
    run.entries = [entry for entry in run.entries if "episode" not in entry.tag]
    run.write(tmp_path / "data", "q4_")
    items = {item.name: item for item in grade_path(tmp_path, check_code=False).items}
    item = items["q4 (4.3 Data ablations): RND on Medium or Hard, 1,000 steps of data"]
    assert (item.score == item.maximum) == (share == 1), item.message


def test_names_of_folders_around_a_run_count(tmp_path: Path) -> None:
    run = PublicRun("offline", "cql", "easy")
    run.write(tmp_path).rename(tmp_path / "log")
    folder = tmp_path / "data" / "q2" / "PointmassEasy-v0" / "cql0.1"
    folder.parent.mkdir(parents=True)
    (tmp_path / "log").rename(folder)
    items = {item.name: item for item in grade_path(tmp_path, check_code=False).items}
    for name in ("q2 (4.1 CQL): CQL on Easy", "Names of run folders"):
        assert items[name].score == items[name].maximum, items[name].message


# Other homework


OTHERS = {
    "homework 3": ["data/hw3_dqn_dqn_CartPole-v1_sd1_01-10-2023/events.out.tfevents.1.h"],
    "homework 4": ["cs285/scripts/run_hw4.py", "cs285/agents/model_based_agent.py"],
    "homework 1": ["cs285/agents/bc_agent.py", "run_logs/q1_bc_ant/events.out.tfevents.1.h"],
    "homework 2": ["data/q2_pg_cartpole/events.out.tfevents.1.h", "cs285/agents/pg_agent.py"],
    "is from another year (2019 to 2022)": [
        "data/hw5_expl_q1_env1_rnd_PointmassEasy-v0_01-11-2021_10-00-00/events.out.tfevents.1.h",
        "cs285/agents/iql_agent.py",
    ],
    "another homework": ["data/q1_HalfCheetah-v4_01-10-2023/events.out.tfevents.1.h"],
}


@pytest.mark.parametrize("what", OTHERS)
def test_another_homework_is_recognised(tmp_path: Path, what: str) -> None:
    for number, name in enumerate(OTHERS[what]):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if "tfevents" in name:
            entry = Entry(1, "eval_return", -3.0, 1.7e9 + number)
            write_log(path, [entry], 1.7e9)
        else:
            path.write_text("")
    (item,) = grade_path(tmp_path, check_code=False).items
    assert item.score == 0
    assert item.maximum == 64
    assert item.message.startswith("Nothing was judged: ")
    assert what in item.message
    assert "; only the Fall 2023 edition of homework 5 can be " in item.message
    assert "\n" not in item.message


def test_tags_of_other_years_show_the_year(tmp_path: Path) -> None:
    run = PublicRun("offline", "cql", "easy")
    run.entries = [entry._replace(tag="Eval_AverageReturn") for entry in run.entries]
    run.write(tmp_path / "data")
    (item,) = grade_path(tmp_path, check_code=False).items
    assert f"the run {run.name} is from another year (2019 to 2022)" in item.message


def test_files_of_other_homework_next_to_this_one_do_not_matter(tmp_path: Path) -> None:
    PublicRun("offline", "cql", "easy").write(tmp_path / "data", "q2_")
    for name in ("run_hw1.py", "run_hw4.py", "bc_agent.py", "rl_trainer.py"):
        (tmp_path / name).write_text("")
    assert len(grade_path(tmp_path, check_code=False).items) > 5
