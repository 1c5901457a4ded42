import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cs285.envs.planner import plan
from cs285.homework import Stage
from cs285.infrastructure.errors import UserError
from cs285.report.results_table import read_logs
from cs285.results.run_folders import RunFolder
from cs285.results.sinks import Logger
from cs285.results.summaries import (
    Result,
    explain_errors,
    explain_returns,
    format_results,
    read_summaries,
)
from cs285.scripts import show_results as script

sys.path.insert(0, str(Path(__file__).parents[1]))  # `tests` is not installed
from tests.public_logs import PublicRun, write_log

ROOT = Path(__file__).parent.parent


def write_run(data_dir: Path, **changes: object) -> Path:
    """Makes a run folder with a summary such as the scripts write."""
    summary: dict[str, object] = {
        "script": "offline",
        "exp_name": "pointmass_medium_cql",
        "env_name": "PointmassMedium-v0",
        "algorithm": "cql",
        "seed": 1,
        "status": "finished",
        "final_return": -23.0,
        "best_return": -22.0,
        "normalised_score": 0.95,
        "optimal_return": -21.04,
        "random_return": -140.0,
        "wall_time_s": 75.4,
        "total_steps": 100_000,
        "versions": {"torch": "2"},
        "git_revision": None,
        "started": "2026-02-01T10:00:00+00:00",
    } | changes
    name = f"hw5_{summary['script']}_{summary['exp_name']}_sd{summary['seed']}"
    folder = data_dir / f"{name}_{len(list(data_dir.glob('*')))}"
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def table(data_dir: Path) -> list[list[str]]:
    """The lines of the table, split at two or more spaces."""
    text = format_results(read_summaries(data_dir)[0])
    return [[cell for cell in line.split("  ") if cell.strip()] for line in text.splitlines()]


def cell(data_dir: Path, heading: str) -> str:
    """The cell below a heading in a table of one line."""
    _title, headings, line = table(data_dir)
    return line[[text.strip() for text in headings].index(heading)].strip()


def test_table_shows_return_next_to_optimum(tmp_path: Path) -> None:
    write_run(tmp_path)
    assert format_results(read_summaries(tmp_path)[0]) == (
        "Offline learning\n"
        "  environment         algorithm  experiment            seeds   steps  final return"
        "  best policy  score     time\n"
        "  PointmassMedium-v0  cql        pointmass_medium_cql  1      100000         -23.0"
        "        -21.0   0.95  0:01:15"
    )


def test_seeds_share_a_line_with_mean_and_standard_error(tmp_path: Path) -> None:
    """The standard deviation of -20, -22 and -24 is 2, so that of their mean is 2 / sqrt(3)."""
    for seed, final_return in ((3, -24.0), (1, -20.0), (2, -22.0)):
        write_run(tmp_path, seed=seed, final_return=final_return)
    assert cell(tmp_path, "seeds") == "1 2 3"
    assert cell(tmp_path, "final return") == "-22.0 ± 1.15"


def test_rounding_leaves_no_negative_zero(tmp_path: Path) -> None:
    write_run(tmp_path, normalised_score=-0.001)
    assert cell(tmp_path, "score") == "0.00"


def test_mean_over_seeds_needs_all_of_them(tmp_path: Path) -> None:
    write_run(tmp_path, seed=1, final_return=None)
    write_run(tmp_path, seed=2, final_return=-20.0)
    write_run(tmp_path, exp_name="other")
    assert [line[5].strip() for line in table(tmp_path)[2:]] == ["-23.0", "-"]


def test_last_of_repeated_runs_counts(tmp_path: Path) -> None:
    write_run(tmp_path, final_return=-22.0, started="2026-02-01T13:00:00+00:00")
    write_run(tmp_path, final_return=-30.0, started="2026-02-01T13:30:00+01:00")
    assert cell(tmp_path, "final return") == "-22.0"


def test_runs_of_different_length_stay_apart(tmp_path: Path) -> None:
    write_run(tmp_path, total_steps=100_000)
    write_run(tmp_path, total_steps=10_000)
    assert [line[4].strip() for line in table(tmp_path)[2:]] == ["10000", "100000"]


def test_exploration_shows_coverage_and_goals(tmp_path: Path) -> None:
    no_returns = {"final_return": None, "normalised_score": None}
    found = {"coverage": 0.876, "goals_reached": 4}
    write_run(tmp_path, script="explore", algorithm="rnd", **no_returns, **found)
    assert cell(tmp_path, "coverage") == "88 %"
    assert cell(tmp_path, "goals") == "4"
    assert "final return" not in format_results(read_summaries(tmp_path)[0])


def test_stages_and_experiments_are_in_reading_order(tmp_path: Path) -> None:
    write_run(tmp_path, script="finetune", exp_name="tuned")
    for alpha in ("10", "2", "0.5"):
        write_run(tmp_path, exp_name=f"alpha{alpha}")
    write_run(tmp_path, exp_name="baseline", algorithm="dqn")
    write_run(tmp_path, exp_name="strange", env_name="CartPole-v1")
    write_run(tmp_path, exp_name="easy", env_name="PointmassEasy-v0", algorithm="iql")
    lines = table(tmp_path)
    experiments = [line[2].strip() for line in lines if len(line) > 1]
    assert lines[0] == ["Offline learning"]
    assert experiments == [
        *("experiment", "easy", "baseline", "alpha0.5", "alpha2", "alpha10", "strange"),
        *("experiment", "tuned"),
    ]


def test_since_leaves_out_earlier_runs(tmp_path: Path) -> None:
    write_run(tmp_path, exp_name="old", started="2026-02-01T09:59:59+00:00")
    write_run(tmp_path, exp_name="new", started="2026-02-01T10:00:00.5+00:00")
    abandoned = tmp_path / "hw5_offline_abandoned_sd1"
    abandoned.mkdir()
    since = datetime(2026, 2, 1, 10, tzinfo=UTC)
    os.utime(abandoned, (since.timestamp() - 1, since.timestamp() - 1))
    summaries, problems = read_summaries(tmp_path, since)
    assert [summary.exp_name for summary in summaries] == ["new"]
    assert problems == []


def test_broken_summaries_are_listed_and_the_rest_shown(tmp_path: Path) -> None:
    write_run(tmp_path, exp_name="valid")
    (tmp_path / "hw5_offline_gone_sd1").mkdir()
    (write_run(tmp_path, exp_name="cut") / "summary.json").write_text('{"script": "off')
    write_run(tmp_path, exp_name="odd", seed="one")
    write_run(tmp_path, exp_name="stopped", status="running")
    (tmp_path / "hw5_note.txt").write_text("not a run")
    summaries, problems = read_summaries(tmp_path)
    assert [summary.exp_name for summary in summaries] == ["valid"]
    assert len(problems) == 4
    cut, gone, odd, stopped = problems
    assert "cut" in cut
    assert "not valid" in cut
    assert "gone_sd1: no summary.json and no log: the run failed" in gone
    assert "seed:" in odd
    assert "status:" in stopped


def test_control_characters_do_not_reach_the_terminal(tmp_path: Path) -> None:
    write_run(tmp_path, exp_name="red\x1b[31m\nforged line", algorithm="cql\r", env_name="\x07")
    (tmp_path / "hw5_\x1b[2J").mkdir()
    summaries, problems = read_summaries(tmp_path)
    shown = format_results(summaries) + "\n" + "\n".join(problems)
    assert all(line.isprintable() for line in shown.split("\n"))
    assert "red\\x1b[31m\\nforged line" in shown
    assert "hw5_\\x1b[2J" in shown


def test_missing_folder_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--data_dir"):
        read_summaries(tmp_path / "nowhere")


def show_results(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "cs285/scripts/show_results.py"), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_script_prints_table_and_problems(tmp_path: Path) -> None:
    write_run(tmp_path)
    (tmp_path / "hw5_explore_gone_sd1").mkdir()
    done = show_results("--data_dir", str(tmp_path), "--since", "2026-02-01T10:00:00Z")
    assert done.returncode == 0
    assert done.stdout.startswith("Offline learning\n")
    assert "Runs without a result:\n  " in done.stdout


@pytest.mark.parametrize("arguments", [("--data_dir", "no/such"), ("--since", "yesterday")])
def test_script_answers_bad_arguments_with_status_2(arguments: tuple[str, str]) -> None:
    done = show_results(*arguments)
    assert done.returncode == 2
    assert arguments[1] in done.stderr
    assert "Traceback" not in done.stderr


def test_script_says_how_many_folders_it_looked_at(tmp_path: Path) -> None:
    (tmp_path / "hw5_explore_gone_sd1").mkdir()
    for folder, count in ((tmp_path, 1), (ROOT / "experiments", 0)):
        done = show_results("--data_dir", str(folder))
        assert (done.returncode, done.stderr) == (0, "")
        assert f"No finished runs among {count} run folders in {folder}." in done.stdout


def test_an_infinite_wall_time_is_invalid(tmp_path: Path) -> None:
    write_run(tmp_path, wall_time_s=float("inf"))
    summaries, (problem,) = read_summaries(tmp_path)
    assert not summaries
    assert "wall_time_s" in problem


# Errors


def test_a_run_shows_the_standard_error_of_its_evaluation_episodes(tmp_path: Path) -> None:
    """Evaluations of 20, 60 and 60 episodes: the last two make 100, their deviation is 3.5.

    So the standard error is sqrt(2 * (1/2)^2 * 3.5^2 / 59) = 0.322, or 0.0027 of the score's unit.
    """
    folder = write_run(tmp_path, final_return=-20.3, normalised_score=1.003)
    with Logger(RunFolder(folder)) as logger:
        for step, (value, episodes) in enumerate([(-30.0, 20), (-20.4, 60), (-20.2, 60)]):
            tags = {"eval_return": value, "eval/return_std": 3.5, "eval/episodes": episodes}
            logger.scalars(tags, step)
    assert cell(tmp_path, "final return") == "-20.3 ± 0.32"
    assert cell(tmp_path, "episodes") == "120"
    assert cell(tmp_path, "best policy") == "-21.0"
    assert cell(tmp_path, "score") == "1.00 ± 0.003"
    results = read_summaries(tmp_path)[0]
    assert explain_errors(results).startswith("After ±: the standard error, of one run over")


def test_an_exact_return_is_shown_in_place_of_the_measured_one(tmp_path: Path) -> None:
    limits = plan("PointmassMedium-v0")
    write_run(tmp_path, exact_return=-22.5, exact_return_error=0.04)
    assert cell(tmp_path, "final return") == "-22.5 ± 0.04"
    score = (-22.5 - limits.random_return) / (limits.optimal_return - limits.random_return)
    assert cell(tmp_path, "score").startswith(f"{score:.2f} ± ")
    results = read_summaries(tmp_path)[0]
    assert explain_returns(results).startswith("Final returns are exact. Exact: the expected")
    assert "return is" not in format_results(results)


def test_a_table_of_both_kinds_says_which_is_which(tmp_path: Path) -> None:
    """A line is exact only if all of its runs are: a mean over both kinds would be neither."""
    write_run(tmp_path, exp_name="a", exact_return=-22.5, exact_return_error=0.04)
    write_run(tmp_path, exp_name="b", seed=1, exact_return=-22.5, exact_return_error=0.04)
    write_run(tmp_path, exp_name="b", seed=2, final_return=-25.0)
    _, headings, *lines = table(tmp_path)
    place = [text.strip() for text in headings].index("return is")
    assert [line[place].strip() for line in lines] == ["exact", "measured"]
    assert [line[place + 1].strip() for line in lines] == ["-22.5 ± 0.04", "-24.0 ± 1.00"]
    said = explain_returns(read_summaries(tmp_path)[0])
    assert said.startswith("Final returns are exact or measured. Exact: ")
    assert "; measured: the mean" in said


def test_no_score_is_above_one_without_its_error(tmp_path: Path) -> None:
    write_run(tmp_path, final_return=-20.0, normalised_score=1.02)
    assert cell(tmp_path, "score") == "1.00 ± ?"


def test_episodes_may_be_noisier_than_the_difference_between_runs() -> None:
    """Two runs with a difference of 0.2 and standard errors of 0.6: sqrt(2 * 0.6^2) / 2 = 0.42."""
    runs = [
        Result("offline", "x", "PointmassEasy-v0", "cql", str(seed), seed, 10,
               final_return=-20 - 0.2 * seed, error=0.6)
        for seed in (0, 1)
    ]  # fmt: skip
    assert "-20.1 ± 0.42" in format_results(runs)


# Public versions, and hand-ins


def test_public_runs_are_read_from_their_logs(tmp_path: Path) -> None:
    run = PublicRun("offline", "cql", "medium")
    run.write(tmp_path)
    returns = [entry.value for entry in run.entries if entry.tag == "eval_return"][-3:]
    stds = [entry.value for entry in run.entries if entry.tag == "eval/return_std"][-3:]
    error = sum(std**2 / 9 for std in stds) ** 0.5 / 3
    ((result,), problems) = read_logs([tmp_path])
    assert problems == []
    assert result.final_return == pytest.approx(sum(returns) / 3, abs=1e-5)
    assert result.error == pytest.approx(error, rel=1e-5)
    assert (result.episodes, result.are_assumed, result.seed) == (30, True, None)
    assert (result.total_steps, result.optimal_return) == (100_000, pytest.approx(-20.7, abs=0.1))
    text = format_results([result])
    assert f"{sum(returns) / 3:.1f} ± {error:.2f}" in text
    assert " ~30 " in text
    assert " 1 run " in text
    assert "10 each are assumed" in explain_errors([result])


def test_reruns_of_unknown_seed_are_runs_and_not_seeds(tmp_path: Path) -> None:
    for attempt in range(2):
        PublicRun("offline", "cql", "easy", start=1_700_000_000 + 5_000 * attempt).write(tmp_path)
    text = format_results(read_logs([tmp_path])[0])
    assert text.count("PointmassEasy-v0_cql0.1") == 1
    assert " 2 runs " in text


def test_a_run_that_was_stopped_is_told_and_not_pooled(tmp_path: Path) -> None:
    PublicRun("offline", "cql", "easy").write(tmp_path)
    stopped = PublicRun("offline", "cql", "easy", start=1_700_009_000, steps=30_000)
    stopped.write(tmp_path)
    results, problems = read_logs([tmp_path])
    assert [result.total_steps for result in results] == [100_000]
    # The last loss is of step 28,000.
    assert problems == [f"{stopped.name}: stopped at step 28,000 of 100,000"]


def test_an_evaluation_of_step_0_is_no_result(tmp_path: Path) -> None:
    PublicRun("explore", "rnd", "easy").write(tmp_path)
    ((result,), _) = read_logs([tmp_path])
    assert result.final_return is None
    assert "final return" not in format_results([result])


def test_hand_ins_and_several_folders_are_read(tmp_path: Path, capsys) -> None:
    """Folders of a hand-in have the question in front, and one folder may hold another."""
    folder = write_run(tmp_path / "hand_in" / "data")
    folder.rename(folder.with_name(f"q2_{folder.name}"))
    PublicRun("offline", "dqn", "easy").write(tmp_path / "public" / "data", "q2_")
    write_run(tmp_path / "third", exp_name="third")
    dirs = [str(tmp_path / name) for name in ("hand_in", "public", "third", "third")]
    for flags in (["--data_dir", *dirs], [part for name in dirs for part in ("--data_dir", name)]):
        assert script.main(flags) == 0
        said = capsys.readouterr().out
        assert [said.count(name) for name in ("_medium_cql", "Easy-v0_dqn", " third ")] == [1, 1, 1]
        assert "Runs without a result" not in said


def test_pointers_and_stubs_are_called_so(tmp_path: Path, capsys) -> None:
    for name, text in (("cql", "version https://git-lfs.github.com/spec/v1\n"), ("dqn", None)):
        folder = PublicRun("offline", name, "easy", start=1_700_000_000).write(tmp_path)
        (path,) = folder.iterdir()
        if text is None:
            write_log(path, [], 1.7e9)
        else:
            path.write_text(text)
    assert script.main(["--data_dir", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "No finished runs among 2 run folders" in said
    assert "is a Git LFS pointer, not the log: `git lfs pull` fetches the log" in said
    assert "contains no events: the run was stopped before its first log" in said


def test_since_holds_for_logs_as_well(tmp_path: Path) -> None:
    for start in (1_700_000_000, 1_700_090_000):
        PublicRun("offline", "cql", "easy", start=start).write(tmp_path)
    since = datetime.fromtimestamp(1_700_050_000, UTC)
    ((result,), _) = read_logs([tmp_path], since)
    assert result.started is not None
    assert abs(result.started.timestamp() - 1_700_090_000) < 120


# What a hand that did not know the code wrote, and what went wrong with it


def with_config(folder, **values):
    lines = "".join(f"{key}: {value}\n" for key, value in values.items())
    (folder / "config.yaml").write_text(lines)


def test_public_runs_with_a_config_end_before_their_last_step(tmp_path):
    """They log last at N - log_interval; namesakes with other settings have lines of their own."""
    config = {"base_config": "cql", "env_name": "PointmassMedium-v0", "exp_name": "medium_cql"}
    for number, alpha in enumerate((0.5, 3.0)):
        run = PublicRun("offline", "cql", "medium", start=1_700_000_000 + 5_000 * number)
        folder = run.write(tmp_path)
        with_config(folder, **config, seed=1, cql_alpha=alpha, training_steps=100_000)
    stopped = PublicRun("offline", "cql", "medium", start=1_700_050_000, steps=60_000)
    with_config(stopped.write(tmp_path), **config, seed=1, cql_alpha=0.5, training_steps=100_000)
    results, problems = read_logs([tmp_path])
    assert [run.total_steps for run in results] == [100_000, 100_000]
    assert [run.exp_name for run in results] == [
        "medium_cql cql_alpha=0.5",
        "medium_cql cql_alpha=3.0",
    ]
    assert problems == [f"{stopped.name}: stopped, or still running, at step 56,000 of 100,000"]


def test_fine_tuning_by_total_steps_has_that_many(tmp_path):
    run = PublicRun("finetune", "cql", "easy", steps=40_000)
    with_config(
        run.write(tmp_path), base_config="cql", env_name="PointmassEasy-v0", exp_name="ft",
        seed=1, offline_steps=20_000, total_steps=40_000,
    )  # fmt: skip
    ((result,), problems) = read_logs([tmp_path])
    assert (result.total_steps, problems) == (40_000, [])


def test_the_number_of_a_question_makes_no_learner_an_explorer(tmp_path):
    for number, algorithm in enumerate(("cql", "dqn")):
        start = 1_700_000_000 + 5_001 * number
        folder = PublicRun("offline", algorithm, "easy", start=start).write(tmp_path)
        folder.rename(tmp_path / f"q1_{algorithm}_easy_14-11-2023_11-11-11")
    results, problems = read_logs([tmp_path])
    assert {run.script for run in results} == {Stage.OFFLINE}
    assert problems == []


def test_a_return_that_no_policy_reaches_has_a_remark(tmp_path, capsys):
    honest = PublicRun("offline", "cql", "easy")
    other = PublicRun("offline", "awac", "easy", start=1_700_500_000)
    other.entries = [
        entry._replace(value=entry.value + 5.0) if entry.tag == "eval_return" else entry
        for entry in other.entries
    ]
    for run in (honest, other):
        run.write(tmp_path)
    assert script.main(["--data_dir", str(tmp_path)]) == 0
    remarks = capsys.readouterr().out.partition("On runs in the table:")[2]
    assert f"{other.name}: its final return is" in remarks
    assert honest.name not in remarks
