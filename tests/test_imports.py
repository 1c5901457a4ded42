"""The order of imports in pyproject.toml holds, and the check notices when it does not."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def check(tree):
    command = [sys.executable, "-I", tree / "tools/check_imports.py"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def tree(tmp_path):
    """A copy of what the check reads."""
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("cs285", "tools"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_declared_order_holds():
    done = check(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("module", "statement", "contract"),
    [
        ("envs/mazes.py", "from cs285.learning import objective", "Rooms"),
        ("compiling/target.py", "from cs285.infrastructure import errors", "compiler"),
        ("learning/objective.py", "from cs285.infrastructure import files", "no disk"),
        ("infrastructure/errors.py", "from cs285.infrastructure import files", "No cycles"),
        ("report/words.py", "def f():\n    from cs285.scripts import grade", "Rooms"),
        ("attic/__init__.py", "from cs285 import homework", "Rooms"),
    ],
)
def test_an_import_against_the_order_is_noticed(tree, module, statement, contract):
    (tree / "cs285" / module).parent.mkdir(exist_ok=True)
    with (tree / "cs285" / module).open("a", encoding="utf-8") as file:
        file.write(f"\n\n{statement}\n")
    done = check(tree)
    assert done.returncode == 1
    broken = [line for line in done.stdout.splitlines() if " BROKEN" in line]
    assert any(contract in line for line in broken), done.stdout
