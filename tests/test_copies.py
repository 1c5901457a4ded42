"""Copies within a course are found, and honest work is not put on top."""

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from cs285.grading.copies import Fingerprint, Kind, Pair, compare, fingerprint
from cs285.grading.copies.code import Given, read_code
from cs285.grading.copies.tokens import grams, read_tokens
from cs285.grading.starter.student_version import make_student_version

sys.path.insert(0, str(Path(__file__).parents[1]))  # `tests` is not installed
from tests.course.hands import disguised, usual_style, write_solution
from tests.hand_ins import START, Simulated, edit_log

ROOT = Path(__file__).parents[1]


def test_one_log_in_two_hand_ins_is_found(tmp_path: Path) -> None:
    for name, seed, start in (("ann", 1, 1_795_266_000), ("ben", 2, 1_795_277_777)):
        run = Simulated("offline", "cql", "easy", steps=100_000, seed=seed, start=start)
        run.write(tmp_path / name / "data")
        if name == "ann":
            run.write(tmp_path / "cleo" / "data", "q2_my_run")
    prints = {path.name: fingerprint(path) for path in sorted(tmp_path.iterdir())}
    stored = {name: json.dumps(one.as_json()) for name, one in prints.items()}
    prints = {name: Fingerprint.from_json(json.loads(text)) for name, text in stored.items()}
    first, *others = compare(prints)
    assert {first.first, first.second} == {"ann", "cleo"}
    assert first.strength > 0.9
    assert not [pair for pair in others if pair.strength > 0.2]


def test_what_cannot_be_read_is_listed(tmp_path: Path) -> None:
    assert fingerprint(tmp_path / "nothing").problems
    (tmp_path / "broken.zip").write_bytes(b"PK\3\4")
    assert fingerprint(tmp_path / "broken.zip").problems
    assert compare({}) == []
    assert compare({"one": Fingerprint(), "other": Fingerprint()}) == []


# Texts


def hashes(text: str) -> list[int]:
    return grams(read_tokens(text)).tolist()


TEXT = """
class Agent:
    def loss(self, q_values, targets):
        # the Bellman error
        error = q_values - targets.detach()
        squares = error * error
        return squares.mean(dim=0) + self.alpha * torch.logsumexp(q_values, dim=-1)
"""


def test_names_comments_and_layout_do_not_count() -> None:
    other = '''
class Learner:
    def objective(self, predicted, y):
        """Mean of squares."""
        gap = (predicted -
               y.detach())

        s = gap*gap     # squared
        return s.mean(dim=0)+self.weight*torch.logsumexp(predicted, dim=-1)
'''.replace("(predicted -\n               y.detach())", "predicted - \\\n            y.detach()")
    assert len(hashes(TEXT)) > 30
    assert hashes(other) == hashes(TEXT)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("error * error", "error * targets"),  # it matters which name it is, not how it is spelt
        ("error * error", "error + error"),
        ("dim=0", "dim=1"),
        ("torch.logsumexp", "torch.logcumsumexp"),  # the names of a library cannot be changed
        ("self.alpha * ", ""),
    ],
)
def test_what_is_computed_counts(old: str, new: str) -> None:
    assert hashes(TEXT.replace(old, new)) != hashes(TEXT)


def test_texts_that_are_not_python_are_compared_as_words() -> None:
    broken = TEXT.replace("def loss(", "def loss((")
    assert hashes(broken)
    assert hashes(broken) == hashes(broken.replace("squares", "s"))
    for odd in ("", "\x00", "'''", "(" * 5_000, "\tx\n  y\n\tz", "é" * 100, "a\r\nb\r\n" * 50):
        read_tokens(odd)


def test_copied_lines_are_found_wherever_they_are() -> None:
    """Winnowing keeps a hash of any 18 tokens that two files share."""
    lines = [f"    x{k} = f{k}(y{k}) * {k} + z[{k}] - {k + 1}" for k in range(40)]
    given = Given(frozenset(), np.array([], dtype=np.uint64))
    rng = np.random.default_rng(1)
    for _ in range(20):
        begin = int(rng.integers(0, 36))
        taken = lines[begin : begin + 4]
        other = [f"    w = g(v) if {k} else h[{k}:]" for k in range(10)]
        place = int(rng.integers(0, 10))
        one, two = (
            read_code("a.py", "\n".join(["def f():", *text]), given)
            for text in (lines, [*other[:place], *taken, *other[place:]])
        )
        assert one
        assert two
        assert set(one.hashes.tolist()) & set(two.hashes.tolist())


# Code of hand-ins


def write_code(folder: Path, files: Mapping[str, str]) -> Path:
    agents = folder / "cs285" / "agents"
    agents.mkdir(parents=True)
    for name, text in files.items():
        (agents / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def solutions() -> list[dict[str, str]]:
    """Solutions of four people."""
    drawn = [np.random.default_rng([5, number]) for number in range(4)]
    return [write_solution(usual_style(rng, 0.4, helpers="none"), rng) for rng in drawn]


def test_the_starter_does_not_count(tmp_path: Path) -> None:
    """Two who hand in the starter, unchanged or with one line added, have nothing in common."""
    make_student_version(ROOT, tmp_path / "starter")
    for name in ("ann", "ben"):
        shutil.copytree(tmp_path / "starter" / "cs285", tmp_path / name / "cs285")
        with (tmp_path / name / "cs285" / "agents" / "dqn_agent.py").open("a") as file:
            file.write(f"\n\n{name} = 1\n")
    prints = {name: fingerprint(tmp_path / name) for name in ("ann", "ben")}
    assert compare(prints) == []
    assert sum(len(file.hashes) for file in prints["ann"].files) < 5


def test_another_starter_can_be_named(tmp_path: Path, solutions: list[dict[str, str]]) -> None:
    for name in ("given", "ann", "ben"):
        write_code(tmp_path / name, solutions[0])
    alone = {name: fingerprint(tmp_path / name) for name in ("ann", "ben")}
    assert [pair.kind for pair in compare(alone)] == [Kind.CODE]
    prints = {name: fingerprint(tmp_path / name, (tmp_path / "given",)) for name in ("ann", "ben")}
    assert compare(prints) == []


def test_what_everybody_has_counts_little(tmp_path: Path, solutions: list[dict[str, str]]) -> None:
    """Twenty with the same file are not 190 pairs at the top, though two alone would be one."""
    name = "iql_agent.py"
    for number in range(20):
        write_code(tmp_path / f"{number:02}", {name: solutions[0][name]})
    every = {path.name: fingerprint(path) for path in sorted(tmp_path.iterdir())}
    alone = {key: every[key] for key in ("00", "01")}
    assert compare(alone)[0].strength > 0.5
    assert compare(every) == []


def test_a_zip_and_its_folder_are_alike(tmp_path: Path, solutions: list[dict[str, str]]) -> None:
    folder = write_code(tmp_path / "ann", disguised(solutions[1], np.random.default_rng(0)))
    shutil.make_archive(str(tmp_path / "ann"), "zip", folder)
    write_code(tmp_path / "ben", solutions[1])
    write_code(tmp_path / "cleo", solutions[2])
    names = ("ann", "ann.zip", "ben", "cleo")
    prints = {name: fingerprint(tmp_path / name) for name in names}
    assert prints["ann"].as_json() == prints["ann.zip"].as_json()
    first = compare({name: prints[name] for name in ("ann.zip", "ben", "cleo")})[0]
    assert {first.first, first.second} == {"ann.zip", "ben"}
    assert first.kind is Kind.CODE
    shown = first.evidence[0].first.lines + first.evidence[0].second.lines
    assert all(line.isprintable() for line in shown)


def test_too_much_code_is_left_out_and_listed(tmp_path: Path) -> None:
    line = "x = [y * 2 for y in range(10)] + [z - 1 for z in range(3)]\n"
    folder = write_code(tmp_path / "ann", {"dqn_agent.py": line * 9, "large.py": line * 9_000})
    found = fingerprint(folder)
    assert [file.path for file in found.files] == ["cs285/agents/dqn_agent.py"]
    assert found.problems == ("cs285/agents/large.py: 0.5 MB is too large to compare",)


# Runs


def offline(seed: int = 1, start: int = START) -> Simulated:
    """A run whose losses vary, as those of real runs do."""
    run = Simulated("offline", "cql", "easy", steps=100_000, seed=seed, start=start)
    rng = np.random.default_rng([seed, start])
    for _, event in run.events:
        for entry in event.summary.value:
            if entry.tag in {"critic_loss", "q_values", "grad_norm"}:
                entry.simple_value = float(rng.lognormal())
    return run


def at_other_times(folder: Path, seed: int) -> None:
    """Change the times as on another computer: each step takes a different time."""
    rng = np.random.default_rng(seed)
    late = [10_000.0 * seed]

    def move(event) -> None:
        late[0] += float(rng.exponential(0.5))
        event.wall_time += late[0]

    edit_log(folder, move)
    (path,) = folder.glob("*tfevents*")
    path.rename(folder / f"events.out.tfevents.{START + 10_000 * seed}.computer{seed}.{seed}.0")
    summary = folder / "summary.json"
    content = json.loads(summary.read_text(encoding="utf-8"))
    content["wall_time_s"] += late[0]
    summary.write_text(json.dumps(content), encoding="utf-8")


def of_runs(tmp_path: Path) -> dict[frozenset[str], Pair]:
    prints = {path.name: fingerprint(path) for path in sorted(tmp_path.iterdir())}
    return {frozenset((one.first, one.second)): one for one in compare(prints)}


def test_equal_numbers_alone_are_at_the_end(tmp_path: Path) -> None:
    """The same seed gives everybody the same numbers; a copy has more in common."""
    for name, seed in (("ann", 0), ("ben", 1), ("cleo", 2), ("copy", 0)):
        folder = offline().write(tmp_path / name / "data")
        if name != "copy":
            at_other_times(folder, seed)
        else:
            shutil.rmtree(folder)
            (original,) = (tmp_path / "ann" / "data").iterdir()
            shutil.copytree(original, folder)
    found = of_runs(tmp_path)
    assert len(found) == 6
    top = found.pop(frozenset(("ann", "copy")))
    assert (top.strength, top.kind) == (1.0, Kind.RUN_RENAMED)
    assert {one.kind for one in found.values()} == {Kind.RUN_EQUAL}
    assert max(one.strength for one in found.values()) <= 0.1


@pytest.mark.parametrize(
    ("change", "kind"),
    [("duration", Kind.RUN_RETIMED), ("process", Kind.RUN_RETIMED), ("seed", Kind.RUN_RENAMED),
     ("value", Kind.RUN_EDITED), ("computer", Kind.RUN_RETIMED)],
)  # fmt: skip
def test_any_trace_of_the_source_is_enough(tmp_path: Path, change: str, kind: Kind) -> None:
    """Equal numbers at unrelated times, and one more thing that two separate runs do not share."""
    folders = [offline().write(tmp_path / name / "data") for name in ("ann", "ben")]
    for number, folder in enumerate(folders, 1):
        at_other_times(folder, number)
    ann, ben = folders
    if change == "duration":
        content = json.loads((ben / "summary.json").read_text())
        content["wall_time_s"] = json.loads((ann / "summary.json").read_text())["wall_time_s"]
        (ben / "summary.json").write_text(json.dumps(content))
    elif change == "process":
        next(ben.glob("*tfevents*")).rename(ben / next(ann.glob("*tfevents*")).name)
    elif change == "computer":
        next(ben.glob("*tfevents*")).rename(ben / "events.out.tfevents.1795300000.computer1.77.0")
    elif change == "seed":
        text = (ben / "config.yaml").read_text()
        (ben / "config.yaml").write_text(text.replace("seed: 1", "seed: 2"))
    else:

        def by_one_in_ten_million(event) -> None:
            for entry in event.summary.value:
                if entry.tag == "critic_loss" and event.step == 50_000:
                    entry.simple_value *= 1 + 1.2e-7

        edit_log(ben, by_one_in_ten_million)
    (pair,) = of_runs(tmp_path).values()
    assert pair.kind is kind
    assert pair.strength >= 0.5


def test_runs_with_the_same_beginning_are_different_runs(tmp_path: Path) -> None:
    """A longer run begins with the numbers of a shorter one, and so does fine-tuning."""
    ann = offline().write(tmp_path / "ann" / "data")
    ben = offline().write(tmp_path / "ben" / "data")
    at_other_times(ann, 1)
    at_other_times(ben, 2)
    edit_log(ben, lambda event: event.step <= 60_000)
    assert of_runs(tmp_path) == {}


def test_runs_that_all_fail_are_not_equal(tmp_path: Path) -> None:
    """If no episode reaches the goal, every evaluation has the same return."""
    for name, seed in (("ann", 1), ("ben", 2)):
        run = Simulated("explore", "random", "easy", steps=10_000, seed=seed, success=0.0)
        run.write(tmp_path / name / "data")
    assert of_runs(tmp_path) == {}
