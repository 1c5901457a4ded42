"""Twelve copies of six kinds are at the top of a course's list, and honest work is not."""

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from cs285.grading.copies import Fingerprint, Kind, Pair, compare, fingerprint

sys.path.insert(0, str(Path(__file__).parents[1]))  # `tests` is not installed
from tests.course.copying import Way
from tests.course.logs import Base
from tests.course.students import Course

KINDS = {
    Way.RENAMED: Kind.RUN_RENAMED,
    Way.RETIMED: Kind.RUN_RETIMED,
    Way.EDITED: Kind.RUN_EDITED,
    Way.THINNED: Kind.RUN_THINNED,
    Way.CODE: Kind.CODE,
    Way.PART: Kind.CODE_PART,
}


def base(algorithm: str, stage: str = "offline") -> Base:
    """A run like those trained by `tools/make_course.py`, except that its numbers are drawn."""
    rng = np.random.default_rng(len(algorithm))
    losses = np.exp(np.cumsum(rng.normal(0, 0.1, (60, 3)), axis=0)).tolist()
    events = [
        (1_000 * k, dict(zip(("critic_loss", "q_values", "grad_norm"), own, strict=True)))
        for k, own in enumerate(losses, 1)
    ]
    events += [(2_500 * k, {"eval_return": 0.0, "eval/episodes": 20.0}) for k in range(1, 25)]
    events.sort(key=lambda event: event[0])
    config = {
        "base_config": algorithm,
        "env_name": "PointmassEasy-v0",
        "exp_name": f"pointmass_easy_{algorithm}",
        "training_steps": 60_000,
    }
    return Base(stage, config, tuple(events), tuple(rng.uniform(0.2, 2.0, len(events)).tolist()))


@pytest.fixture(scope="module")
def course() -> Course:
    return Course([base("cql")], 30, seed=3, equal=1.0)


@pytest.fixture(scope="module")
def prints(course: Course, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Fingerprint]:
    folder = tmp_path_factory.mktemp("course")
    paths = [student.write(folder) for student in course.students()]
    return {path.stem: fingerprint(path) for path in paths}


@pytest.fixture(scope="module")
def pairs(prints: Mapping[str, Fingerprint]) -> list[Pair]:
    return compare(prints)


def test_the_copies_are_on_top(course: Course, pairs: list[Pair]) -> None:
    planted = {frozenset((one.source, one.copier)): one.way for one in course.planted}
    assert len(planted) == 12
    top = {frozenset((pair.first, pair.second)): pair for pair in pairs[:12]}
    assert top.keys() == planted.keys()
    # Kinds may be combined: an edited log may have been re-timed as well.
    assert {key: pair.kind for key, pair in top.items()} == {
        key: KINDS[way] for key, way in planted.items()
    }
    assert pairs[11].strength > 2 * pairs[12].strength


def test_the_course_has_honest_equal_runs(prints: Mapping[str, Fingerprint]) -> None:
    """Several hand-ins have the same numbers, which come from a deterministic program."""
    keys = [one.runs[0].keys.tobytes() for one in prints.values() if one.runs]
    assert max(keys.count(key) for key in keys) >= 6


def test_evidence_is_side_by_side(pairs: list[Pair]) -> None:
    for pair in pairs[:12]:
        strongest = pair.evidence[0]
        assert strongest.fact
        assert strongest.first.place
        assert strongest.second.place
        assert strongest.first.lines
        assert strongest.second.lines
        if pair.kind not in {Kind.CODE, Kind.CODE_PART}:
            # The same points of the same tags, in the same order.
            points = [
                [line.partition(":")[0] for line in one.lines if " at " in line]
                for one in (strongest.first, strongest.second)
            ]
            assert points[0] == points[1] != []


def test_the_order_of_hand_ins_does_not_matter(
    prints: Mapping[str, Fingerprint], pairs: list[Pair]
) -> None:
    few = {name: prints[name] for pair in pairs[:2] for name in (pair.first, pair.second)}
    there, back = (
        {frozenset((pair.first, pair.second)): pair.strength for pair in compare(prints_of)}
        for prints_of in (few, dict(reversed(few.items())))
    )
    assert there == back
