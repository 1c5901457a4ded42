"""Copies within a course are found, and honest work is not put on top."""

import json
import sys
from pathlib import Path

from cs285.grading.copies import Fingerprint, compare, fingerprint

sys.path.insert(0, str(Path(__file__).parents[1]))  # `tests` is not installed
from tests.hand_ins import Simulated


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


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    assert fingerprint(tmp_path / "nothing").problems
    (tmp_path / "broken.zip").write_bytes(b"PK\3\4")
    assert fingerprint(tmp_path / "broken.zip").problems
    assert compare({}) == []
    assert compare({"one": Fingerprint(), "other": Fingerprint()}) == []
