"""Gradescope gets what its documentation asks for, and its metadata gives times of submission."""

import json
from datetime import timedelta

import pytest
import yaml
from test_make_gradescope import Results

from cs285.grading.hand_ins.gradescope_results import (
    Submission,
    as_gradescope,
    in_words,
    read_submission,
)
from cs285.grading.hand_ins.hand_in import GradeResult, Item, Standing
from cs285.grading.hand_ins.rubric import load_rubric
from cs285.infrastructure.errors import UserError
from cs285.scripts import grade

METADATA = {
    "id": 123456,
    "created_at": "2026-11-10T14:22:32.365935-08:00",
    "assignment": {
        "due_date": "2026-11-10T12:00:00.000000-08:00",
        "group_size": 2,
        "late_due_date": None,
        "title": "Homework 5",
        "total_points": "100.0",
    },
    "submission_method": "upload",
    "users": [
        {"email": "a@example.edu", "id": 1, "name": "Ada"},
        {"email": "b@example.edu", "id": 2, "name": "Bob"},
    ],
    "previous_submissions": [
        {"submission_time": "2026-11-09T12:00:00-08:00", "score": 12.5, "results": {}},
        {"submission_time": "2026-11-09T13:00:00-08:00", "score": 80.0},
        {"submission_time": "2026-11-09T14:00:00-08:00", "score": None, "autograder_error": True},
    ],
}
GRADE = GradeResult(
    "submission",
    (
        Item("Logs", 5.0, 6.0, "<b>19 of 20</b>", "logs"),
        Item("q2 (4.1 CQL): CQL on Medium", 4.0, 4.0, "complete", "q2"),
        Item("Code: dqn_agent.py", 6.0, 6.0, "correct", "code"),
    ),
    12.34,
    standings=(Standing("q2 CQL on Medium", 0.98765),),
    part_seconds={"files": 2.34, "code": 10.0},
)


def metadata(tmp_path, **changes):
    path = tmp_path / "submission_metadata.json"
    path.write_text(json.dumps(METADATA | changes))
    return path


def test_lateness_and_earlier_submissions(tmp_path):
    found = read_submission(metadata(tmp_path))
    assert found.late == timedelta(hours=2, minutes=22, seconds=32, microseconds=365935)
    assert (found.number, found.best_before) == (4, 80.0)
    assert found.lines == [
        "Handed in 2 h 22 min after the due date.",
        "Submission 4; the best earlier one got 80 points.",
    ]


def test_the_longest_extension_of_a_group_counts(tmp_path):
    users = [
        {"name": "Ada", "assignment": {"due_date": "2026-11-10T22:22:00+00:00"}},
        {"name": "Bob", "assignment": {"due_date": "2026-11-10T23:22:00+00:00"}},
    ]
    found = read_submission(metadata(tmp_path, users=users, previous_submissions=[]))
    assert found.late < timedelta()
    assert found.lines == []


def test_an_assignment_without_a_due_date_is_never_late(tmp_path):
    assert read_submission(metadata(tmp_path, assignment={"due_date": None})).late == timedelta()


@pytest.mark.parametrize(
    ("span", "words"),
    [
        (timedelta(seconds=20), "less than a minute"), (timedelta(minutes=5), "5 min"),
        (timedelta(hours=3), "3 h"), (timedelta(days=2, hours=4, minutes=9), "2 d 4 h"),
        (timedelta(days=1, minutes=9), "1 d"),
    ],
)  # fmt: skip
def test_spans_in_words(span, words):
    assert in_words(span) == words


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"created_at": "soon"}'])
def test_other_files_are_refused_with_one_sentence(tmp_path, text):
    path = tmp_path / "m.json"
    path.write_text(text)
    with pytest.raises(UserError, match="not Gradescope's metadata"):
        read_submission(path)


def test_results_have_only_documented_fields(tmp_path):
    content = yaml.safe_load(grade.DEFAULT.read_text())
    content["gradescope"] = {"visibility": {"code": "after_due_date", "q2": "hidden"}}
    (tmp_path / "rubric.yaml").write_text(yaml.safe_dump(content))
    rubric = load_rubric(tmp_path / "rubric.yaml")
    late = Submission(timedelta(minutes=3), 2, None)
    text = json.dumps(as_gradescope(GRADE, rubric, late))
    results = Results.model_validate_json(text)  # only the documented fields
    assert [test.visibility for test in results.tests] == ["visible", "hidden", "after_due_date"]
    assert {test.output_format for test in results.tests} == {"text"}
    assert [test.tags for test in results.tests] == [["logs"], ["q2"], ["code"]]
    assert (results.score, results.execution_time) == (15, 12.3)
    assert results.output == ("15 of 16 points\nHanded in 3 min after the due date.\nSubmission 2.")
    assert results.leaderboard == [
        {"name": "q2 CQL on Medium", "value": 0.988, "order": "desc"},
    ]  # fmt: skip
    assert results.extra_data == {
        "seconds": {"files": 2.3, "code": 10.0}, "flags": [], "seconds_late": 180.0,
        "submission": 2,
    }  # fmt: skip


def test_a_leaderboard_can_be_left_out_and_an_unknown_part_is_an_error(tmp_path):
    content = yaml.safe_load(grade.DEFAULT.read_text())
    path = tmp_path / "rubric.yaml"
    path.write_text(yaml.safe_dump(content | {"gradescope": {"leaderboard": False}}))
    assert "leaderboard" not in as_gradescope(GRADE, load_rubric(path))
    path.write_text(yaml.safe_dump(content | {"gradescope": {"visibility": {"cod": "hidden"}}}))
    with pytest.raises(UserError, match="unknown part 'cod'; the parts are size, structure"):
        load_rubric(path)


def test_unreadable_metadata_does_not_cost_the_grade(tmp_path, capsys):
    (tmp_path / "submission").mkdir()
    out = tmp_path / "results.json"
    given = ["--gradescope", str(out), "--submission_metadata", str(tmp_path / "none.json")]
    assert grade.main([str(tmp_path / "submission"), "--no_code", *given]) == 0
    assert Results.model_validate_json(out.read_text()).score == 3
    assert "cannot read" in capsys.readouterr().err
