"""A course is graded hand-in by hand-in: whatever happens to one, the others get their grades."""

import csv
import io
import json
import os
import re
import signal
import stat
import subprocess
import sys
import tempfile
import time
import zipfile
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from cs285.grading.copies import Evidence, Excerpt, Fingerprint, Kind
from cs285.grading.copies.pairs import make_pair
from cs285.grading.course import overview, tables
from cs285.grading.course.course import Comparison, Course, Entry, compare_hand_ins
from cs285.grading.course.pages import Pages
from cs285.grading.course.records import (
    Outcome,
    Record,
    fingerprint_path_of,
    read_record,
    write_fingerprint,
    write_record,
)
from cs285.grading.course.roster import CourseHandIn, Student, find_hand_ins, is_course
from cs285.grading.course.worker import Task, grade
from cs285.grading.course.workers import grade_all, scratch_folder
from cs285.grading.hand_ins import hand_in
from cs285.grading.hand_ins.hand_in import (
    DEFAULT_LIMITS,
    Flag,
    GradeResult,
    Item,
    Limits,
    OutOfTimeError,
    grade_by,
    processor_time,
)
from cs285.grading.hand_ins.rubric import load_rubric
from cs285.grading.solutions.code_check import CodeVerdict
from cs285.grading.solutions.verdicts import Verdict
from cs285.infrastructure.errors import UserError
from cs285.scripts import grade as script

ROOT = Path(__file__).parents[1]
EXPORT = """---
submission_11:
  :submitters:
  - :name: Ada Lovelace
    :sid: '0301'
    :email: ada@example.edu
  - :name: Grace Hopper
    :sid: '0302'
    :email: grace@example.edu
  :created_at: 2026-11-10 22:30:11.123456789 -08:00
  :score: 81.5
  :status: processed
  :results: !ruby/hash:ActiveSupport::HashWithIndifferentAccess
    tests: &1 []
    more: *1
  :history: []
submission_12:
  :submitters:
  - :name: "=HYPERLINK(\\"http://example.com\\")"
    :sid:
    :email: x@example.edu
  :created_at: !ruby/object:ActiveSupport::TimeWithZone
    utc: 2026-11-11
  :score:
submission_13:
  :submitters:
  - :name: Nobody
"""


def small_hand_in(folder):
    """Make a hand-in without a usable log, which is graded quickly."""
    run = folder / "data" / "q2_hw5_offline_x"
    run.mkdir(parents=True)
    (run / "events.out.tfevents.1.host").write_bytes(b"")
    return folder


def zipped(folder, path):
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder))
    return path


@pytest.fixture
def export(tmp_path):
    """An export from Gradescope with three submissions, one of them missing."""
    folder = tmp_path / "assignment_7_export"
    small_hand_in(folder / "submission_11")
    small_hand_in(tmp_path / "inner")
    (folder / "submission_12").mkdir()
    zipped(tmp_path / "inner", folder / "submission_12" / "submit.zip")
    (folder / "submission_metadata.yml").write_text(EXPORT)
    return folder


# Finding hand-ins and their students


def test_an_export_names_the_students_of_each_hand_in(export):
    roster = find_hand_ins([export])
    second, first = roster.hand_ins  # in the order of names
    assert first.students == (
        Student("Ada Lovelace", "0301", "ada@example.edu"),
        Student("Grace Hopper", "0302", "grace@example.edu"),
    )
    assert (first.handed_in, first.earlier_score) == ("2026-11-11 06:30", 81.5)
    assert first.key == "submission_11"
    # A single zip in a folder is the hand-in.
    assert second.path == export / "submission_12" / "submit.zip"
    assert (second.handed_in, second.earlier_score, second.students[0].sid) == ("", None, "")
    (problem,) = roster.problems
    assert "Nobody" in problem
    assert "submission_13" in problem


def test_a_folder_of_zips_and_folders_is_a_course_but_a_hand_in_is_not(tmp_path):
    course = tmp_path / "course"
    one = small_hand_in(course / "ann" / "homework")  # with a folder around it
    zipped(one, course / "bob.zip")
    zipped(one, course / "Bob.ZIP")
    (course / "broken.zip").write_bytes(b"PK")
    (course / "notes.txt").write_text("x")
    (course / "__MACOSX").mkdir()
    (course / "link").symlink_to(one)
    assert is_course(course)
    assert not is_course(course / "ann")
    assert not is_course(course / "bob.zip")
    assert not is_course(one)
    roster = find_hand_ins([course])
    assert sorted(one.name for one in roster.hand_ins) == [
        "Bob.ZIP", "ann", "bob.zip", "broken.zip",
    ]  # fmt: skip
    keys = [one.key.lower() for one in roster.hand_ins]
    assert len(set(keys)) == 4
    assert all(re.fullmatch(r"[\w.-]+", key) for key in keys)
    assert "notes.txt" in roster.problems[0]
    (course / "grades").mkdir()
    assert len(find_hand_ins([course]).hand_ins) == 5
    assert find_hand_ins([course], course / "grades") == roster


@pytest.mark.parametrize(
    ("text", "says"),
    [("a: [", "not YAML"), ("", "no submissions"), ("- a", "no submissions"), ("\0", "not YAML")],
)
def test_unusable_metadata_is_an_error_of_one_sentence(export, text, says):
    (export / "submission_metadata.yml").write_text(text)
    with pytest.raises(UserError, match=says):
        find_hand_ins([export])


def test_a_place_without_hand_ins_is_an_error(tmp_path, capsys):
    assert script.main([str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "no hand-ins" in capsys.readouterr().err
    assert script.main([str(tmp_path / "nowhere"), "--out", str(tmp_path / "out")]) == 2
    assert "no such folder" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("number", ["0", "-1", "two", "1.5"])
def test_the_number_of_workers_is_a_number_or_auto(number, capsys):
    with pytest.raises(SystemExit, match="2"):
        script.main(["x", "--workers", number])
    assert re.search(r"whole number of at least 1, not .*, or auto", capsys.readouterr().err)


# What happens to workers


def hostile(task):
    """Do to this process what the task's name says; other tasks leave a record."""
    os.setsid()
    match task.key:
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "killed once" if not task.path.exists():
            task.path.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        case "exits":
            os._exit(3)
        case "hangs":
            subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", str(task.path)])
            time.sleep(60)
    write_record(task.target, Record(task.key, "", "", Outcome.GRADED, 0.0))


def task(folder, key):
    rubrics = [load_rubric()]
    return Task(
        key, folder / f"{key} path", folder / f"{key}.json", "", "", rubrics, False,
        DEFAULT_LIMITS, folder / f"{key} scratch",
    )  # fmt: skip


def test_whatever_happens_to_a_worker_affects_only_its_own_hand_in(tmp_path):
    names = ["killed", "fine", "killed once", "exits", "hangs", "fine too"]
    tasks = [task(tmp_path, name) for name in names]
    records = {record.key: record for record in grade_all(tasks, 2, 8.0, hostile)}
    assert {name: record.outcome for name, record in records.items()} == {
        "fine": Outcome.GRADED,
        "fine too": Outcome.GRADED,
        "killed once": Outcome.GRADED,
        "killed": Outcome.KILLED,
        "exits": Outcome.KILLED,
        "hangs": Outcome.TIMED_OUT,
    }
    for name in names:  # all of them are on disk, too
        assert read_record(tmp_path / f"{name}.json") == records[name]
    assert "memory" in records["killed"].reason
    assert "status 3" in records["exits"].reason
    assert "8 s" in records["hangs"].reason
    assert not list(tmp_path.glob("* scratch"))
    assert processes_with(str(tmp_path / "hangs path")) == []


def processes_with(text):
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes()
        except OSError:
            continue
        if text.encode() in line and int(path.parent.name) != os.getpid():
            found.append(line)
    return found


def test_what_a_killed_grading_has_left_is_removed_by_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    out, other = tmp_path / "out", tmp_path / "other"
    out.mkdir()
    other.mkdir()
    killed = scratch_folder(out)
    left = killed.__enter__()
    (left / "s1" / "closed").mkdir(parents=True)
    (left / "s1" / "closed").chmod(0)
    link = left.with_name(f"{left.name}-link")
    link.symlink_to(other)
    with scratch_folder(other) as used, scratch_folder(out) as scratch:
        assert {path for path in tmp_path.iterdir() if path.is_dir()} == {
            out, other, used, scratch, link,
        }  # fmt: skip
        assert stat.S_IMODE(scratch.stat().st_mode) == 0o711
    assert {path for path in tmp_path.iterdir() if path.is_dir()} == {out, other, link}


def test_a_crash_of_the_grader_leaves_a_record_that_says_where(tmp_path):
    record = grade(task(tmp_path, "nowhere"))
    assert record.outcome is Outcome.CRASHED
    assert "no such folder or zip file" in record.reason
    assert "hand_in" in record.reason  # the module


def loop_forever():
    while True:
        pass


def test_a_part_has_a_limit_and_the_others_are_graded(tmp_path):
    with pytest.raises(OutOfTimeError), processor_time(0.05):
        loop_forever()
    with processor_time(60):
        pass
    assert signal.getitimer(signal.ITIMER_PROF) == (0.0, 0.0)


def test_logs_that_take_too_long_cost_only_their_part(tmp_path, monkeypatch):
    monkeypatch.setattr(hand_in, "find_runs", lambda _: loop_forever())
    verdict = CodeVerdict("dqn_agent.py", Verdict.CORRECT, share=1.0)
    monkeypatch.setattr(hand_in, "check_agent_files", lambda *_, **__: [verdict])
    folder = small_hand_in(tmp_path / "slow")
    (result,) = grade_by(folder, [load_rubric()], limits=Limits(files=0.05))
    assert [(item.part, item.score, item.maximum) for item in result.items] == [
        ("logs", 0, 64), ("code", 6, 6),
    ]  # fmt: skip
    assert result.flags == (Flag.TIME,)


# A course from end to end


def run(arguments, **options):
    command = [sys.executable, ROOT / "cs285" / "scripts" / "grade.py", *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def test_a_reader_that_leaves_early_is_no_error(tmp_path):
    process = run([small_hand_in(tmp_path / "one"), "--no_code"])
    process.stdout.close()
    complained = process.stderr.read()
    assert (process.wait(), complained) == (0, "")


def test_a_killed_grading_loses_nothing_and_is_resumed(tmp_path, capsys):
    course, out = tmp_path / "course", tmp_path / "out"
    for number in range(4):
        small_hand_in(course / f"s{number}")
    arguments = [course, "--out", out, "--no_code", "--workers", "1"]
    process = run(arguments)
    deadline = time.monotonic() + 120
    while not list(out.glob("results/*.json")):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.kill()
    process.communicate()
    done = list(out.glob("results/*.json"))
    kept = {path: path.stat().st_mtime_ns for path in done}
    assert all(read_record(path) for path in done)
    # Another grading does not overwrite it unasked, nor does one with other settings.
    given = list(map(str, arguments))
    assert script.main(given) == 2
    assert "--resume" in capsys.readouterr().err
    assert script.main([*given, "--resume", "--file_seconds", "9"]) == 2
    assert "other flags" in capsys.readouterr().err
    (course / "s4").mkdir()  # a late hand-in
    interrupted = run([*arguments, "--resume"])
    while len(list(out.glob("results/*.json"))) == len(done) and interrupted.poll() is None:
        time.sleep(0.005)
    interrupted.send_signal(signal.SIGINT)
    complained = interrupted.communicate(timeout=240)[1]
    if interrupted.returncode == 128 + signal.SIGINT:  # it may have finished by then
        assert re.match(r"Stopped. \d of 5 hand-ins are graded", complained)
        assert "not graded yet" in (out / "index.html").read_text()
    process = run([*arguments, "--resume"])
    said, complained = process.communicate(timeout=240)
    assert process.returncode == 0, complained
    assert complained == ""  # no progress bar without a terminal
    assert said.startswith("5 of 5 hand-ins graded")
    assert {path: path.stat().st_mtime_ns for path in done} == kept
    rows = list(csv.DictReader((out / "grades.csv").read_text("utf-8-sig").splitlines()))
    assert [row["hand_in"] for row in rows] == ["s0", "s1", "s2", "s3", "s4"]
    assert json.loads((out / "grades.json").read_text())["is_complete"]
    for folder in ("students", "fingerprints"):
        assert {path.stem for path in (out / folder).iterdir()} == {f"s{n}" for n in range(5)}
    assert json.loads((out / "copies.json").read_text()) == []
    assert "No two hand-ins" in (out / "copies.html").read_text()


def test_what_was_not_compared_is_told(tmp_path):
    course = made_course()
    (tmp_path / "fingerprints").mkdir()
    for entry in course.entries[:2]:
        large = Fingerprint(problems=("a.py: too large",) if entry.hand_in.key == "ann" else ())
        write_fingerprint(fingerprint_path_of(tmp_path, entry.hand_in), large)
    (tmp_path / "fingerprints" / "cas.json").write_text("{")
    assert compare_hand_ins(course, tmp_path) == (
        [],
        [
            "<i>ann</i>: a.py: too large",
            "<i>cas</i>: the grader did not finish",
            "<i>dan</i>: the grader did not finish",
        ],
    )


# Tables


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("=1+1", "'=1+1"), ("+1", "'+1"), ("-1", "'-1"), ("@SUM(A1)", "'@SUM(A1)"),
        (" =1", "' =1"), ("\t=1", r"\t=1"), ("\uff1d1", "'\uff1d1"), ("Jo=sé", "Jo=sé"),
        ("", ""), (-1.5, -1.5), (None, None), ("a\nb", r"a\nb"),
    ],
)  # fmt: skip
def test_no_cell_is_a_formula(text, shown):
    assert tables.cell(text) == shown


def made_course(rubrics=None):
    """Return a course whose numbers can be computed by hand."""
    rubrics = rubrics or (load_rubric(),)
    parts = [("q1", 4.0, "Random on Easy"), ("q1", 8.0, "RND on Easy"), ("code", 10.0, "Code: a")]

    def graded(*scores, flags=(), losses=()):
        items = tuple(
            Item(name, score, maximum, f"<b>{name}</b>", part, losses if score < maximum else ())
            for (part, maximum, name), score in zip(parts, scores, strict=True)
        )
        return GradeResult("x", items, 1.0, flags)

    def entry(key, *grades, outcome=Outcome.GRADED, seconds=1.0, reason=""):
        whose = CourseHandIn(Path(key), key, key, (Student(f"<i>{key}</i>", "1", "=a"),))
        return Entry(whose, Record(key, "", "", outcome, seconds, 1.0, grades, reason))

    def twice(*scores, **more):
        before = [graded(scores[0] / 2, *scores[1:], **more)] if len(rubrics) > 1 else []
        return (*before, graded(*scores, **more))

    entries = (
        entry("ann", *twice(4, 8, 10), seconds=9.0),
        entry("bob", *twice(2, 8, 3, losses=("loss: 0.25 rather than 0.5",))),
        entry(
            "cas", *twice(0, 0, 3, flags=(Flag.INCONSISTENT,), losses=("loss: 7 rather than 1e3",))
        ),
        entry("dan", outcome=Outcome.KILLED, reason="</pre><script>x</script>"),
    )
    return Course(entries, rubrics, ("left & out",))


def test_statistics_of_a_course_are_those_computed_by_hand():
    course = made_course()
    total, first, code = overview.distributions(course)
    assert (total.points, total.maximum) == ((22, 13, 3), 22)
    assert total.counts == [0, 1, 0, 0, 0, 1, 0, 0, 0, 1]  # 3/22 = .14, 13/22 = .59
    assert (total.mean, total.median, total.full, total.none) == (38 / 3, 13, 1, 0)
    assert (first.points, first.counts[8], first.counts[0], first.none) == ((12, 10, 0), 1, 1, 1)
    assert code.counts[3] == 2  # 0.3 begins the fourth interval
    found = {(one.where, len(one.entries)): one.lost for one in overview.mistakes(course)}
    assert found == {("Random on Easy", 2): 6, ("RND on Easy", 1): 8, ("Code: a", 2): 14}
    assert overview.slowest(course)[0].hand_in.key == "ann"
    assert [overview.flags_of(entry) for entry in course.entries] == [
        [], [], ["inconsistent logs"], ["the grader was killed"],
    ]  # fmt: skip
    assert overview.quartiles([1, 2, 3, 4, 5]) == (2, 4)


def test_the_table_has_a_row_for_each_student(tmp_path):
    tables.write_csv(tmp_path, made_course())
    rows = list(csv.DictReader(io.StringIO((tmp_path / "grades.csv").read_text("utf-8-sig"))))
    numbers = [[float(row[key] or -1) for key in ("q1", "code", "total")] for row in rows]
    assert numbers == [[12, 10, 22], [10, 3, 13], [0, 3, 3], [-1, -1, -1]]
    assert [row["flags"] for row in rows] == ["", "", "inconsistent logs", "the grader was killed"]
    assert {row["email"] for row in rows} == {"'=a"}


def test_two_rubrics_are_compared():
    course = made_course((load_rubric(), load_rubric()))
    found = [(one.entry.hand_in.key, one.difference, one.parts) for one in overview.changes(course)]
    assert found == [("ann", 2.0, (("q1", 2.0),)), ("bob", 1.0, (("q1", 1.0),))]


def test_logs_are_read_once_for_two_rubrics(tmp_path):
    content = yaml.safe_load(script.DEFAULT.read_text())
    content["points"]["size"] = 7
    (tmp_path / "new.yaml").write_text(yaml.safe_dump(content))
    rubrics = [load_rubric(), load_rubric(tmp_path / "new.yaml")]
    folder = small_hand_in(tmp_path / "one")
    before, after = grade_by(folder, rubrics, check_code=False)
    assert after.total - before.total == 5
    assert before.total == grade_by(folder, rubrics[:1], check_code=False)[0].total


# Pages


class Page(HTMLParser):
    """Collects the elements of a page and their references."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [value for name, value in attributes if name in {"href", "src", "srcset"}]

    def handle_data(self, data):
        self.text += data


def test_pages_show_everything_and_let_nothing_in(tmp_path):
    course = made_course((load_rubric(), load_rubric()))
    excerpts = Excerpt("a.py, lines 1 to 2", ("<u>x</u>",)), Excerpt("b.py", ())
    evidence = Evidence(Kind.CODE, 0.9, "The same <u>text</u>.", *excerpts)
    pair = make_pair("bob", "ann", [evidence] * 9)
    Pages(tmp_path).write(course, Comparison([pair], ["<u>ann</u>: too large"]))
    copies = Page((tmp_path / "copies.html").read_text())
    assert copies.tags.count("h2") == 2
    assert not {"script", "u"} & set(copies.tags)
    assert "<u>ann</u>: too large" in copies.text
    assert copies.text.count("The same <u>text</u>.") == 4
    assert "and 5 more" in copies.text
    assert "<i>bob</i> and <i>ann</i>" in copies.text
    index = Page((tmp_path / "index.html").read_text())
    assert index.tags.count("script") == 1  # its own
    assert "i" not in index.tags
    for shown in ("<i>ann</i>", "left & out", "</pre><script>x</script>", "0.25 rather than 0.5"):
        assert shown in index.text
    for link in index.links:
        assert link == "data:," or link.startswith("#") or (tmp_path / link).is_file()
    for path in (tmp_path / "students").iterdir():
        page = Page(path.read_text())
        assert "script" not in page.tags
        assert page.links == ["data:,"]
        others = {"ann", "bob", "cas", "dan"} - {path.stem}
        assert not any(f"<i>{other}</i>" in page.text for other in others)
    assert "<b>RND on Easy</b>" in Page((tmp_path / "students" / "ann.html").read_text()).text
    # Only the staff sees what broke the grader.
    assert "script" not in (tmp_path / "students" / "dan.html").read_text()
