"""A script runs with the `cs285` next to it, or says that it cannot."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "cs285"
SCRIPTS = sorted(
    path.name for path in (PACKAGE / "scripts").glob("*.py") if "__main__" in path.read_text()
)


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """Two copies of the package, each in a separate tree."""
    folders = [tmp_path_factory.mktemp(name) for name in ("starter", "reference")]
    for folder in folders:
        shutil.copytree(PACKAGE, folder / "cs285", ignore=shutil.ignore_patterns("__pycache__"))
    return folders


def python(*arguments, imports_from, folder=None):
    """Runs Python so that it finds one tree, as an editable install of that tree would."""
    environment = {**os.environ, "PYTHONPATH": str(imports_from), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-B", *map(str, arguments)],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_of_another_tree_stops_with_one_sentence(trees, name):
    starter, reference = trees
    script = starter / "cs285" / "scripts" / name
    done = python(script, "--help", imports_from=reference)
    assert done.returncode == 2
    assert not done.stdout
    (said,) = done.stderr.splitlines()
    assert said == (
        f"error: {script} is a script of {starter}, but this Python imports `cs285` from "
        f"{reference}; run `pip install -e .` in {starter}, or use a separate .venv"
    )


def test_a_relative_path_makes_no_difference(trees):
    starter, reference = trees
    flags = ("cs285/scripts/show_results.py", "--help")
    assert python(*flags, imports_from=reference, folder=starter).returncode == 2
    assert python(*flags, imports_from=starter, folder=starter).returncode == 0


def test_links_to_a_script_or_a_tree_are_followed(trees, tmp_path):
    starter, reference = trees
    (tmp_path / "linked").symlink_to(starter)
    (tmp_path / "results").symlink_to(starter / "cs285" / "scripts" / "show_results.py")
    linked = tmp_path / "linked" / "cs285" / "scripts" / "show_results.py"
    for script in (linked, tmp_path / "results"):
        assert python(script, "--help", imports_from=starter).returncode == 0
        assert python(script, "--help", imports_from=tmp_path / "linked").returncode == 0
        assert python(script, "--help", imports_from=reference).returncode == 2


def test_modules_zips_and_programs_of_others_are_left_alone(trees, tmp_path):
    _, reference = trees
    packed = shutil.make_archive(str(tmp_path / "packed"), "zip", reference, "cs285")
    notebook = tmp_path / "scripts" / "mine.py"
    notebook.parent.mkdir()
    notebook.write_text("import cs285.infrastructure.errors")
    for tree in (reference, packed):
        for arguments in (
            ("-m", "cs285.scripts.show_results", "--help"),
            ("-c", "import cs285.infrastructure.errors"),
            (notebook,),
        ):
            done = python(*arguments, imports_from=tree, folder=tmp_path)
            assert done.returncode == 0, done.stderr
