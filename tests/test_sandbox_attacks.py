"""No attack by a hand-in reaches the grader or another hand-in, whether the grader is root or not.

`sandbox_attacks.py` tries every attack twice, on separate victims: unconfined, where it works, and
confined, where it must not.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from sandbox_attacks import ATTACKS, DONE, SECRET

from cs285.grading.sandbox import layers

PROGRAM = Path(__file__).parent / "sandbox_attacks.py"
ROLES = [("root", name) for name in ATTACKS]
# What an ordinary user cannot do even unconfined shows nothing.
ROLES += [("user", name) for name, one in ATTACKS.items() if not one.root]
NOT_IN_THIS_KERNEL = ("ENOSYS", "ENODEV", "EOPNOTSUPP")

pytestmark = pytest.mark.skipif(
    layers.Layer.CALLS not in layers.active() or layers.Layer.FILES not in layers.active(),
    reason="this system has no seccomp or no Landlock",
)


@pytest.fixture(scope="module")
def outcomes():
    """The outcomes of all attacks, by the role of the grader."""
    found = {}

    def of(role):
        if role not in found:
            done = subprocess.run(
                [sys.executable, "-B", str(PROGRAM), role], capture_output=True, text=True,
                env=os.environ | {"SECRET_OF_THE_GRADER": SECRET}, timeout=300, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            found[role] = json.loads(done.stdout)
        return found[role]

    return of


@pytest.mark.parametrize(("role", "name"), ROLES, ids=lambda value: value)
def test_an_attack_works_unconfined_and_not_when_confined(outcomes, role, name):
    if role == "root" and os.geteuid() != 0:
        pytest.skip("these tests do not run as root")
    unconfined, confined = outcomes(role)[name]["unconfined"], outcomes(role)[name]["confined"]
    if any(word in unconfined["result"] for word in NOT_IN_THIS_KERNEL):
        pytest.skip(f"this kernel cannot do it: {unconfined['result']}")
    works = bool(unconfined["changed"]) if ATTACKS[name].harms else unconfined["result"] == DONE
    assert works, f"shows nothing: {unconfined}"
    assert not confined["changed"]
    assert confined["result"], "the confined process ended before it could try"
    assert ATTACKS[name].harms or confined["result"] != DONE


def test_there_are_many_attacks():
    assert len(ATTACKS) >= 60
    assert sum(not one.root for one in ATTACKS.values()) >= 60
