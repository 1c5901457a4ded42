"""Logs that cannot be genuine get a remark with the numbers, and honest logs get none."""

import shutil
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from cs285.envs.planner import plan
from cs285.grading.hand_ins import submitted_runs
from cs285.grading.hand_ins.hand_in import grade_path
from cs285.grading.hand_ins.plausibility import Oddity, find_inconsistencies, find_remarks
from cs285.grading.hand_ins.scoring import leaderboard_score, normalised_score
from cs285.grading.hand_ins.unpacking import open_hand_in
from cs285.results.final_returns import final_return_in

sys.path.insert(0, str(Path(__file__).parents[1]))  # `tests` is not installed
from tests.hand_ins import START, Simulated, edit_log, set_values
from tests.public_logs import Entry, PublicRun, at_once, every_tenth, tag_by_tag, write_log

YEAR = 365 * 86_400
LATER = 1_900_000_000.0
"""A moment after all runs of these tests, except those that are in the future on purpose."""


def remarks(folder: Path, now: float = LATER) -> dict[str, list[tuple[Oddity, str]]]:
    with open_hand_in(folder) as hand_in:
        runs = submitted_runs.find_runs(hand_in).read
    return {run.name: [tuple(one) for one in find_remarks(run, now)] for run in runs}


def written(run: PublicRun, data: Path, change: Callable[[list[Entry]], list[Entry]]) -> None:
    folder = data / run.name
    folder.mkdir(parents=True)
    entries = change(run.entries)
    name = f"events.out.tfevents.{run.start + 2}.host"
    write_log(folder / name, entries, min(entry.wall_time for entry in entries))


def the_only(folder: Path, now: float = LATER) -> tuple[Oddity, str]:
    ((found,),) = remarks(folder, now).values()
    return found


# Exact returns


def with_exact(shift: float) -> Callable[[list[Entry]], list[Entry]]:
    """Adds exact returns of 100 episodes that differ from the measured ones by this much."""

    def change(entries: list[Entry]) -> list[Entry]:
        changed = []
        for entry in entries:
            changed.append(entry)
            if entry.tag == "eval_return" and isinstance(entry.value, float):
                added = {
                    "exact/return": entry.value + shift,
                    "exact/return_error": 0.1,
                    "eval/episodes": 100.0,
                }
                changed += [entry._replace(tag=tag, value=x) for tag, x in added.items()]
        return changed

    return change


@pytest.mark.parametrize(
    ("shift", "expected"),
    [(-1.5, None), (-60.0, "100 episodes return"), (40.0, "the best policy on")],
)
def test_exact_returns_far_from_those_of_episodes_get_a_remark(
    tmp_path: Path, shift: float, expected: str | None
) -> None:
    """Those that chance may explain get none; the leaderboard then has the exact score."""
    written(PublicRun("offline", "cql", "medium"), tmp_path / "data", with_exact(shift))
    (found,) = remarks(tmp_path).values()
    facts = [fact for oddity, fact in found if oddity is Oddity.EXACT]
    assert len(facts) == (expected is not None)
    assert expected is None or expected in facts[0]
    with open_hand_in(tmp_path) as hand_in:
        (run,) = submitted_runs.find_runs(hand_in).read
    limits = plan("PointmassMedium-v0")
    measured = normalised_score(run)
    assert measured is not None
    exact = final_return_in(run.log.series).exact
    assert exact is not None
    standing = (exact - limits.random_return) / (limits.optimal_return - limits.random_return)
    assert leaderboard_score(run) == pytest.approx(measured if expected else standing)


# Honest logs


def test_honest_logs_of_this_project_have_none(tmp_path: Path) -> None:
    kinds = [("explore", "random"), ("explore", "rnd"), ("offline", "cql"), ("offline", "awac"),
             ("offline", "iql"), ("finetune", "cql")]  # fmt: skip
    for number, (stage, algorithm) in enumerate(kinds):
        steps = 10_000 if stage == "explore" else 100_000
        Simulated(stage, algorithm, "easy", steps=steps, start=START + 1_037 * number).write(
            tmp_path / "data"
        )
    found = remarks(tmp_path)
    assert len(found) == len(kinds)
    assert {name: facts for name, facts in found.items() if facts} == {}


def test_honest_logs_of_the_public_starter_have_none(tmp_path: Path) -> None:
    """Even if thinned or with one episode per evaluation; if written again, they get another."""
    kinds = [("explore", "random"), ("explore", "rnd"), ("offline", "dqn"), ("offline", "cql"),
             ("offline", "iql"), ("finetune", "awac")]  # fmt: skip
    start = 1_700_000_000
    for number, (stage, algorithm) in enumerate(kinds):
        for change in (every_tenth, tag_by_tag, at_once):
            start += 86_413
            episodes = 1 if number % 2 else 10
            run = PublicRun(stage, algorithm, "easy", start=start, episodes=episodes)
            written(run, tmp_path / "data", change)
    PublicRun("finetune", "cql", "easy", log_interval=1, steps=8_000).write(tmp_path / "data")
    found = remarks(tmp_path)
    assert len(found) == 19
    assert {name: facts for name, facts in found.items() if facts} == {}


def test_evaluations_that_all_fail_get_no_remark(tmp_path: Path) -> None:
    run = Simulated("offline", "cql", "easy", steps=100_000, success=0.0)
    run.write(tmp_path / "data")
    assert list(remarks(tmp_path).values()) == [[]]


# Logs that cannot be genuine


def test_times_in_the_future(tmp_path: Path) -> None:
    start = int(datetime(2031, 5, 1, tzinfo=UTC).timestamp())
    now = datetime(2026, 11, 30, tzinfo=UTC).timestamp()
    Simulated("offline", "cql", "easy", steps=10_000, start=start).write(tmp_path / "data")
    oddity, fact = the_only(tmp_path, now)
    assert oddity is Oddity.FUTURE
    # From 30 November 2026 to 1 May 2031: 4 years with a leap day in 2028, and 152 days.
    assert "1,613 days after this check (2026-11-30 00:00 UTC)" in fact
    for place in ("first entry", "last entry", "event file", "folder's name", "summary.json"):
        assert place in fact
    # Clocks may be wrong by hours, and the time in a folder's name may be of another zone.
    for moment in (start + 3_600, start - 20 * 3_600):
        assert list(remarks(tmp_path, moment).values()) == [[]]


def test_a_future_time_in_one_place_is_enough(tmp_path: Path) -> None:
    run = Simulated("offline", "cql", "easy", steps=10_000)
    folder = run.write(tmp_path / "data")

    def last_is_late(event) -> None:
        if event.step == 10_000:
            event.wall_time += YEAR

    edit_log(folder, last_is_late)
    oddity, fact = the_only(tmp_path, run.start + 86_400)
    assert (oddity, fact.startswith("its last entry is in the future")) == (Oddity.FUTURE, True)
    assert "364 days after this check" in fact


def test_evaluations_without_variance(tmp_path: Path) -> None:
    run = PublicRun("offline", "cql", "easy", start=1_700_000_000)
    first = {e.tag: e.value for e in run.entries if e.step == 20_000 and "eval" in e.tag}

    def same_from_there(entries: list[Entry]) -> list[Entry]:
        return [
            e._replace(value=first[e.tag]) if e.step > 20_000 and e.tag in first else e
            for e in entries
        ]

    written(run, tmp_path / "data", same_from_there)
    oddity, fact = the_only(tmp_path)
    assert oddity is Oddity.VARIANCE
    # Evaluations come every 10,000 steps, and the last one is at 90,000.
    assert fact.startswith(
        "8 evaluations in a row, from step 20,000 to step 90,000, have the same numbers"
    )


def test_single_episodes_may_be_alike(tmp_path: Path) -> None:
    """Every third such evaluation equals the one before; eight in a row get no remark."""
    run = PublicRun("offline", "cql", "easy", episodes=1, start=1_700_000_000)
    value = {"eval_return": -13.0, "eval_ep_len": 14.0}

    def alike(entries: list[Entry]) -> list[Entry]:
        return [
            e._replace(value=value[e.tag]) if e.step > 20_000 and e.tag in value else e
            for e in entries
        ]

    written(run, tmp_path / "data", alike)
    assert list(remarks(tmp_path).values()) == [[]]


def test_steps_beyond_what_the_times_allow(tmp_path: Path) -> None:
    """The log lasts long enough, but for one part that no computer could do so fast."""
    run = PublicRun("offline", "cql", "easy", start=1_700_000_000)

    def hurried(entries: list[Entry]) -> list[Entry]:
        begins = entries[0].wall_time
        # Steps 20,000 to 60,000 within 0.4 s: 10 microseconds each.
        return [
            e._replace(wall_time=begins + 30 + (e.step - 20_000) * 1e-5)
            if 20_000 <= e.step < 60_000
            else e
            for e in entries
        ]

    written(run, tmp_path / "data", hurried)
    oddity, fact = the_only(tmp_path)
    assert oddity is Oddity.SPEED
    assert "10 microseconds each; no computer takes less than 100" in fact


def test_a_duration_that_is_too_short(tmp_path: Path) -> None:
    folder = Simulated("offline", "cql", "easy", steps=100_000).write(tmp_path / "data")
    summary = (folder / "summary.json").read_text(encoding="utf-8")
    changed = summary.replace('"wall_time_s": 102.0', '"wall_time_s": 0.5')
    assert changed != summary
    (folder / "summary.json").write_text(changed, encoding="utf-8")
    oddity, fact = the_only(tmp_path)
    assert oddity is Oddity.SPEED
    assert "100,000 steps took 0.5 s, 5 microseconds each" in fact


def test_lengths_of_episodes_are_whole_numbers(tmp_path: Path) -> None:
    """Twenty episodes of 14 to 15 steps can last 14.5 on average, but not 14.52."""
    for number, mean in enumerate((14.5, 14.52)):
        run = Simulated("offline", "cql", "easy", steps=100_000, start=1_795_000_000 + number)
        folder = run.write(tmp_path / str(number) / "data")
        for tag, value in (
            ("eval_ep_len", mean),
            ("eval_return", 1 - mean),
            *((f"eval/return_{which}", {"min": -14.0, "max": -13.0, "std": 0.5}[which])
              for which in ("min", "max", "std")),
            *((f"eval/ep_len_{which}", {"min": 14.0, "max": 15.0, "std": 0.5}[which])
              for which in ("min", "max", "std")),
        ):  # fmt: skip
            edit_log(folder, set_values(tag, lambda old, value=value: value))
    facts = []
    for number in range(2):
        with open_hand_in(tmp_path / str(number)) as hand_in:
            (found,) = find_inconsistencies(submitted_runs.find_runs(hand_in).read).values()
        facts.append([one.fact for one in found if "whole number" in one.fact])
    assert facts[0] == []
    assert "violated at step 5,000 (eval_ep_len 14.52)" in facts[1][0]


def test_the_grade_shows_remarks_and_takes_no_points_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Simulated("offline", "cql", "easy", steps=100_000)
    run.write(tmp_path / "data")
    before = {one.name: one for one in grade_path(tmp_path, check_code=False).items}["Logs"]
    monkeypatch.setattr("cs285.grading.hand_ins.plausibility.time.time", lambda: 1_600_000_000.0)
    after = {one.name: one for one in grade_path(tmp_path, check_code=False).items}["Logs"]
    assert after.score == before.score == after.maximum
    assert "in the future" not in before.message
    assert "are in the future: up to 2026-11-21" in after.message
    assert "a person should look at this, but it costs no points" in after.message


def as_other_seed(tmp_path: Path, folder: Path, seed: int) -> Path:
    """Copy a run's folder so that it claims another seed, a day later."""
    copied = folder.with_name(folder.name.replace("_sd1_", f"_sd{seed}_"))
    shutil.copytree(folder, copied)
    config = copied / "config.yaml"
    config.write_text(config.read_text().replace("seed: 1\n", f"seed: {seed}\n"))
    summary = copied / "summary.json"
    summary.write_text(summary.read_text().replace('"seed": 1,', f'"seed": {seed},'))
    return copied


@pytest.mark.parametrize("values", ["equal", "edited", "other"])
def test_one_run_is_not_two_seeds(tmp_path: Path, values: str) -> None:
    """Not even at other times, or with one value changed by one part in ten million."""
    rng = np.random.default_rng(1)
    folder = Simulated("offline", "cql", "easy", steps=100_000).write(tmp_path / "data")
    edit_log(folder, set_values("critic_loss", lambda old: float(rng.lognormal())))
    copied = as_other_seed(tmp_path, folder, 2)

    def a_day_later(event) -> None:
        event.wall_time += 86_400 + event.step / 777

    edit_log(copied, a_day_later)
    if values == "other":
        edit_log(copied, set_values("critic_loss", lambda old: float(rng.lognormal())))
    if values == "edited":
        edit_log(copied, set_values("critic_loss", lambda old: old * (1 + 1e-7 * (old > 1))))
    with open_hand_in(tmp_path) as hand_in:
        found = find_inconsistencies(submitted_runs.find_runs(hand_in).read)
    losses = [one.fact for facts in found.values() for one in facts if "its losses" in one.fact]
    assert len(losses) == (0 if values == "other" else 2)
    if losses:
        assert losses[1] == f"its losses are those of {folder.name}, at the same steps"
