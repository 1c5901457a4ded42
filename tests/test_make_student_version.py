"""The starter lacks what students write and has everything else."""

import ast
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from types import FunctionType

import pytest
import torch
from test_training import random_walk

from cs285.agents.dqn_agent import DQNAgent
from cs285.datasets.dataset_files import save_dataset
from cs285.grading.sandbox.sandbox import Sandbox
from cs285.grading.solutions.checking import check_files
from cs285.grading.solutions.sources import read_solution
from cs285.grading.solutions.verdicts import Verdict
from cs285.grading.starter.student_version import (
    INHERITED,
    PUBLISHED,
    WITHHELD,
    WRITTEN,
    Gap,
    OptionalTodo,
    fill_readme,
    make_student_version,
    published_files,
    restore,
    strip,
    without_formulas,
)
from cs285.homework import algorithms_for
from cs285.infrastructure.errors import UserError, is_unwritten
from cs285.learning.agent import Agent
from cs285.scripts import make_student_version as script

ROOT = Path(__file__).parents[1]
STUDENT_FILES = Path(__file__).parent / "student_files"
REQUIRED = {
    (file.removeprefix("cs285/agents/"), name.split(".")[-1])
    for file, bodies in WRITTEN.items()
    for name, todo in bodies.items()
    if not isinstance(todo, OptionalTodo) and file.startswith("cs285/agents/")
}
HELPERS = {"compute_errors"}
"""Required, but the assignment does not name it, so the checker does not look for it."""
GIVEN = {
    "RandomAgent": {"__init__", "action_probabilities"},
    "DQNAgent": {"__init__", "critic_objective", "target_rules", "update_target_critic"},
    "CQLAgent": {"__init__"},
    "AWACAgent": {"__init__", "actor_objective"},
    "IQLAgent": {
        "__init__", "critic_objective", "value_objective", "target_rules", "update_target_critic",
        "update_target_value_critic",
    },
    "RNDAgent": {
        "__init__", "exploration_objective", "rnd_objective", "num_aux_plots", "plot_aux",
        "update_explorer",
    },
    "TwoCriticRNDAgent": {
        "__init__", "exploitation_objective", "get_action", "target_rules", "begin_phase",
        "derived_columns", "update_exploiter", "update_target_exploiter",
    },
}  # fmt: skip
ALONE = """
import sys
sys.meta_path[:] = [f for f in sys.meta_path if "editable" not in getattr(f, "__module__", "")]
"""
"""Keeps an editable install from finding what the starter does not have."""
DRIVER = f"""{ALONE}
import contextlib, io, json, runpy
ends = []
for script, *flags in json.loads(sys.argv[1]):
    sys.argv = [script, *flags]
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        try:
            runpy.run_path(script, run_name="__main__")
            status = 0
        except SystemExit as stopped:
            status = stopped.code
    ends.append((status, said.getvalue()))
print(json.dumps(ends))
"""
"""Runs scripts as `python` would, one after the other, and prints how each ended."""
QUICK = ("--compile", "off", "-neval", "1", "-ngpu", "--steps_fraction", "0.02")


@pytest.fixture(scope="module")
def starter(tmp_path_factory):
    """The starter of this repository."""
    folder = tmp_path_factory.mktemp("starter") / "hw5"
    make_student_version(ROOT, folder)
    return folder


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox() as sandbox:
        yield sandbox


def run_scripts(folder, *commands):
    """Runs scripts of a starter with a small dataset; returns their statuses and outputs."""
    (folder / "datasets").mkdir(exist_ok=True)
    save_dataset(folder / "datasets" / "pointmass_easy_rnd_seed1.npz", random_walk(300, seed=0))
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    commands = [(f"cs285/scripts/{script}.py", *flags) for script, *flags in commands]
    done = subprocess.run(
        [sys.executable, "-B", "-c", DRIVER, json.dumps(commands)],
        cwd=folder, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


def functions(text):
    """Returns functions and methods by name, as the assignment names them."""
    found = {}
    for node in ast.parse(text).body:
        members = node.body if isinstance(node, ast.ClassDef) else [node]
        prefix = f"{node.name}." if isinstance(node, ast.ClassDef) else ""
        found |= {prefix + f.name: f for f in members if isinstance(f, ast.FunctionDef)}
    return found


def body_lines(node):
    """Returns where the lines after the docstring begin and end."""
    return slice(node.body[0].end_lineno, node.end_lineno)


# What is published


def test_files_equal_the_source_except_for_the_chosen_bodies(starter):
    changed = set()
    for path in filter(Path.is_file, starter.rglob("*")):
        relative = path.relative_to(starter).as_posix()
        if path.read_bytes() != (ROOT / relative).read_bytes():
            changed.add(relative)
    assert changed == {*WRITTEN, "README.md"}


@pytest.mark.parametrize(
    ("marker", "optional"), [("TODO(student)", False), ("OPTIONAL(student)", True)]
)
def test_todos_are_in_exactly_the_chosen_bodies(starter, marker, optional):
    """Optional ones are separate: a search for TODO does not find them."""
    found = {
        (path.relative_to(starter).as_posix(), name)
        for path in starter.rglob("*.py")
        for name, node in functions(path.read_text()).items()
        if marker in "\n".join(path.read_text().splitlines()[body_lines(node)])
    }
    chosen = {
        (file, name)
        for file, bodies in WRITTEN.items()
        for name, todo in bodies.items()
        if isinstance(todo, OptionalTodo) == optional
    }
    assert found == chosen
    text = "".join(path.read_text() for path in starter.rglob("*.py"))
    assert text.count(marker) == len(chosen)


def test_todos_name_the_tools_and_the_tags_that_they_need(starter):
    tools = {
        "DQNAgent.get_action": ("ptu.from_numpy",),
        "DQNAgent.update_critic": (
            "self.lr_scheduler.step()", "clip_grad_norm", "critic_loss", "grad_norm"
        ),
        "AWACAgent.update": ("actor_loss",),
        "IQLAgent.update_q": ("lr_scheduler.step()", "clip_grad_norm", "q_loss", "q_grad_norm"),
        "IQLAgent.update_v": ("v_loss", "vs_adv"),
        "RNDAgent.update": ("rnd_loss",),
    }  # fmt: skip
    todos = {name: todo for bodies in WRITTEN.values() for name, todo in bodies.items()}
    for name, words in tools.items():
        assert all(f"{word}" in todos[name] for word in words), name
    lines = (starter / "cs285/agents/dqn_agent.py").read_text().splitlines()
    assert max(map(len, lines)) <= 100
    assert any("`self.lr_scheduler.step()`" in line for line in lines)


def test_putting_the_bodies_back_restores_the_files(starter):
    for file in WRITTEN:
        source = without_formulas((ROOT / file).read_text(), file)
        text = (starter / file).read_text()
        lines, originals = text.splitlines(keepends=True), source.splitlines(keepends=True)
        sources = functions(source)
        for name, node in sorted(functions(text).items(), key=lambda one: -one[1].lineno):
            if "(student): " in "".join(lines[body_lines(node)]):
                if name in sources:
                    lines[body_lines(node)] = originals[body_lines(sources[name])]
                else:  # inherited by the reference
                    lines[node.lineno - 1 : node.end_lineno] = ["    update = Agent.update\n"]
        assert "".join(lines) == source


def test_no_line_of_a_solution_is_published(starter):
    files = [path for path in starter.rglob("*") if path.is_file() and path.suffix != ".png"]
    published = [path.read_text() for path in files]
    for file in WRITTEN:
        lines = (ROOT / file).read_text().splitlines()
        for name, node in functions((ROOT / file).read_text()).items():
            if name in WRITTEN[file]:
                for line in (line.strip() for line in lines[body_lines(node)]):
                    if len(line) > 45 and ("=" in line or line.startswith("return")):
                        assert not any(line in text for text in published), (name, line)


def normal(node):
    """Returns a statement as text that does not depend on its layout."""
    return ast.unparse(node)


def test_no_statement_of_a_solution_is_published_in_another_layout(starter):
    published = {
        normal(node)
        for path in starter.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.stmt)
    }
    for file, bodies in WRITTEN.items():
        for name, node in functions((ROOT / file).read_text()).items():
            if name in bodies:
                for statement in ast.walk(node):
                    text = normal(statement) if isinstance(statement, ast.stmt) else ""
                    calculates = any(
                        isinstance(part, ast.BinOp | ast.Attribute) for part in ast.walk(statement)
                    )
                    if statement is not node and len(text) > 45 and calculates:
                        assert text not in published, (name, text)


def test_no_formula_of_the_references_docstrings_is_published(starter):
    texts = [path.read_text() for path in starter.rglob("*") if path.suffix in {".py", ".md"}]
    formulas = [
        line.strip()
        for path in (ROOT / "cs285/agents").glob("*_agent.py")
        for line in ast.get_docstring(ast.parse(path.read_text())).splitlines()
        if line.startswith("    ") and " = " in line
    ]
    assert len(formulas) >= 14
    for formula in formulas:
        assert not any(formula in text for text in texts), formula


def test_formulas_are_cut_from_the_first_docstring_only():
    source = '"""One.\n\n    y = r + 1\n    a  b\n\nTwo.\n\n    no equation\n"""\nx = 1\n'
    assert without_formulas(source, "a.py") == ('"""One.\n\nTwo.\n\n    no equation\n"""\nx = 1\n')
    assert without_formulas("x = 1\n", "a.py") == "x = 1\n"


def test_every_method_is_either_given_or_written_by_students():
    """A new method of an agent must be listed as one or the other."""
    for file, bodies in WRITTEN.items():
        names = set(functions((ROOT / file).read_text()))
        for cls in GIVEN.keys() & {name.split(".")[0] for name in names}:
            given = {f"{cls}.{method}" for method in GIVEN[cls]}
            written = {name for name in bodies if name.startswith(f"{cls}.")}
            inherited = written - names
            assert inherited <= {f"{cls}.update"}
            own = {name for name in names if name.startswith(f"{cls}.")}
            assert own == (given | written) - inherited
            assert not given & written


def test_graders_and_solutions_are_not_published(starter):
    names = {path.relative_to(starter).as_posix() for path in starter.rglob("*")}
    assert {"cs285/scripts/self_check.py", "README.md", "run_hw5.sh"} <= names
    assert "cs285/probing/self_check.py" in names
    at_home = ("tests", "benchmarks", "cs285/grading", "docs/grading.md", ".git")
    scripts = ("check_solution", "grade", "make_gradescope", "make_student_version")
    assert names.isdisjoint({*at_home, *(f"cs285/scripts/{name}.py" for name in scripts)})


def test_answers_to_the_questions_of_the_handout_are_not_published(starter):
    names = {path.relative_to(starter).as_posix() for path in starter.rglob("*")}
    answers = {
        "docs/theory.md", "docs/images/bonus.png", "cs285/learning/divergences.py",
        "cs285/analysis/constrained.py", "cs285/lectures/bonus.py", "cs285/scripts/lectures.py",
    }  # fmt: skip
    assert all((ROOT / name).exists() for name in answers)
    assert names.isdisjoint(answers)
    texts = [path.read_text() for path in starter.rglob("*") if path.suffix in {".py", ".md"}]
    for words in ("theory.md", "divergences", "marginal_bonus", "StatePenalty", "lectures.py"):
        assert not any(words in text for text in texts)


def test_methods_beyond_the_handout_are_not_published(starter):
    """They contain what students write: a weighted imitation, a double estimator."""
    beyond = algorithms_for(None)
    assert "bc" in beyond
    names = {path.relative_to(starter).as_posix() for path in starter.rglob("*")}
    for name in beyond:
        owned = {f"cs285/agents/{name}_agent.py", f"cs285/env_configs/{name}_config.py"}
        owned |= {
            path.relative_to(ROOT).as_posix()
            for path in (ROOT / "experiments").rglob(f"*_{name}*.yaml")
        }
        assert len(owned) > 2
        assert all((ROOT / one).is_file() for one in owned)
        assert names.isdisjoint(owned)
    assert "experiments/offline/pointmass_medium_cql.yaml" in names


def test_withheld_names_exist():
    for name in WITHHELD:
        path = ROOT / name.replace(".", "/")
        assert path.is_dir() or path.with_suffix(".py").is_file()


def test_what_imports_a_withheld_module_is_withheld_too(tmp_path):
    files = {
        "cs285/a.py": "from cs285.learning import divergences",
        "cs285/b.py": "import cs285.learning.divergences as d",
        "cs285/c.py": "from cs285.learning.divergences import KL",
        "cs285/d.py": "from cs285.learning import divergences_of_others",
        "cs285/grading/rubric.yaml": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert [str(path) for path in published_files(tmp_path)] == ["cs285/d.py"]


def test_caches_hidden_files_and_links_are_not_published(tmp_path):
    files = ("cs285/a.py", "cs285/__pycache__/a.pyc", "cs285/.cache/b.py", "cs285/.DS_Store",
             "secret.py", "data/README.md", "data/hw5_run/config.yaml")  # fmt: skip
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "cs285" / "link.py").symlink_to(tmp_path / "secret.py")
    (tmp_path / "cs285" / "folder").symlink_to(tmp_path / "data")
    found = [str(path) for path in published_files(tmp_path)]
    assert found == ["cs285/a.py", "data/README.md"]


def test_published_names_exist():
    assert all((ROOT / name).exists() for name in PUBLISHED)


# What the starter does


def test_scripts_name_the_method_to_write(starter, tmp_path):
    folder = tmp_path / "hw5"
    shutil.copytree(starter, folder)
    ends = run_scripts(
        folder,
        ("run_hw5_explore", "-cfg", "experiments/exploration/pointmass_easy_random.yaml", *QUICK),
        ("run_hw5_explore", "-cfg", "experiments/exploration/pointmass_easy_rnd.yaml", *QUICK),
        ("run_hw5_offline", "-cfg", "experiments/offline/pointmass_easy_iql.yaml", *QUICK),
        ("run_hw5_finetune", "-cfg", "experiments/offline/pointmass_easy_cql.yaml", *QUICK),
        ("make_submission", "--allow_missing"),
    )  # fmt: skip
    methods = (
        "RandomAgent.get_action", "DQNAgent.get_action", "IQLAgent.update", "finetune",
    )  # fmt: skip
    for (status, said), method in zip(ends, methods, strict=False):
        file = f"{method.split('Agent')[0].lower()}_agent.py"
        file = "run_hw5_finetune.py" if method == "finetune" else file
        assert said.splitlines()[-1] == f"error: {method} is yours to write ({file})"
        assert status == 1
        assert "Traceback" not in said
    assert ends[-1][0] == 0, ends[-1][1]
    assert "Not graded" in ends[-1][1]


def in_module(function, module, **names):
    """Returns the function as if it stood in another module."""
    return FunctionType(function.__code__, {"__name__": module, **names})


def fails():
    raise NotImplementedError("f is yours to write")


def calls():
    library()  # noqa: F821 - a name of the module that it is put into


def raised_by(function):
    with pytest.raises(NotImplementedError) as caught:
        function()
    return caught.value


def test_the_module_that_raises_shows_whether_a_method_is_unwritten():
    """The exception alone does not: libraries raise the same one for their own reasons."""
    agent, library = "cs285.agents.dqn_agent", in_module(fails, "torch.nn")
    assert is_unwritten(raised_by(in_module(fails, agent)))
    assert not is_unwritten(raised_by(library))
    assert not is_unwritten(raised_by(in_module(calls, agent, library=library)))
    assert not is_unwritten(NotImplementedError("never raised"))


def test_every_module_of_the_starter_imports_without_the_graders(starter):
    everything = (
        f"{ALONE}import cs285, importlib, pkgutil\n"
        "for module in pkgutil.walk_packages(cs285.__path__, 'cs285.'):\n"
        "    importlib.import_module(module.name)\n"
        "print(cs285.__path__[0])"
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", everything],
        env={**os.environ, "PYTHONPATH": str(starter)}, cwd=starter, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == str(starter / "cs285")


def test_checker_reports_every_method_unsolved(starter, sandbox):
    reports = check_files(sandbox, read_solution(starter).files)
    assert {report.verdict for report in reports} == {Verdict.UNSOLVED}
    unsolved = {
        (report.file, finding.method)
        for report in reports
        for finding in report.findings
        if finding.verdict == Verdict.UNSOLVED
    }
    assert unsolved == {one for one in REQUIRED if one[1] not in HELPERS}
    others = {f.verdict for report in reports for f in report.findings} - {Verdict.UNSOLVED}
    assert others <= {Verdict.CORRECT, Verdict.UNJUDGED}


def test_methods_in_the_style_of_the_public_starter_solve_it(starter, sandbox, tmp_path):
    """They replace only the required methods: the loop calls them, and they are right."""
    folder = tmp_path / "hw5"
    shutil.copytree(starter, folder)
    agents = folder / "cs285" / "agents"
    both = "{**self.update_q(observations, actions, rewards, next_observations, dones), "
    both += "**self.update_v(observations, actions)}"
    for file in {file for file, _ in REQUIRED}:
        theirs = (STUDENT_FILES / file).read_text().replace("errors(", "compute_errors(")
        theirs = theirs.replace(
            "self.update_critic(observations, actions, rewards, next_observations, dones)\n"
            "        metrics[\"actor_loss\"]", f"{both}\n        metrics[\"actor_loss\"]"
        ) if file == "iql_agent.py" else theirs  # fmt: skip
        text = (agents / file).read_text()
        lines, solutions = text.splitlines(), functions(theirs)
        for name, node in sorted(functions(text).items(), key=lambda one: -one[1].lineno):
            if (file, name.split(".")[-1]) in REQUIRED:
                solution = solutions[name]
                part = theirs.splitlines()[solution.lineno - 1 : solution.end_lineno]
                lines[node.lineno - 1 : node.end_lineno] = part
        extra = "import cs285.infrastructure.pytorch_util as ptu\nfrom torch import nn\n"
        solved = "\n".join(lines).replace("import torch\n", f"import torch\n{extra}", 1) + "\n"
        (agents / file).write_text(solved)
    reports = check_files(sandbox, read_solution(folder).files)
    verdicts = {f.verdict for report in reports for f in report.findings}
    assert verdicts <= {Verdict.CORRECT, Verdict.VARIANT}, [r.as_json() for r in reports]
    ends = run_scripts(
        folder,
        ("run_hw5_explore", "-cfg", "experiments/exploration/pointmass_easy_rnd.yaml",
         *QUICK[:-1], "0.016"),  # learning starts after 150 of these 160 steps
        ("run_hw5_offline", "-cfg", "experiments/offline/pointmass_easy_iql.yaml",
         *QUICK[:-1], "0.0005"),
    )  # fmt: skip
    assert [status for status, _ in ends] == [0, 0], ends


# What students read first


def test_the_readme_lists_what_is_to_be_written_file_by_file(starter):
    """Each list follows the first link to its file; the optional ones are separate."""
    text = (starter / "README.md").read_text()
    asked, optional = text.split("### Optional\n")
    optional = optional.split("\n## ")[0]
    for file, bodies in WRITTEN.items():
        required = {name for name, todo in bodies.items() if not isinstance(todo, OptionalTodo)}
        for name, todo in bodies.items():
            line = f"- `{name}`: {todo}\n"
            assert (line in asked) == (name in required)
            assert (f"`{name}`" in optional) == (name not in required)
        if required:
            _, behind = asked.split(f"]({file})", 1)
            listed = [line.split("`")[1] for line in behind.splitlines() if line.startswith("- `")]
            assert set(listed[: len(required)]) == required


def test_the_readme_mentions_nothing_unpublished(starter):
    text = (starter / "README.md").read_text()
    for name in ("check_solution", "grade.py", "make_gradescope", "run_tests", "<!--", "tests/"):
        assert name not in text
    results = (ROOT / "README.md").read_text().split("## What the agents here achieve\n")[1]
    rows = [line for line in results.split("\n## ")[0].splitlines() if line.startswith("| Hard")]
    assert rows
    assert not any(row in text for row in rows)


def test_the_readme_shares_sections_with_that_of_the_repository(starter):
    text, source = ((folder / "README.md").read_text() for folder in (starter, ROOT))
    for heading in ("How good can it get?", "Flags", "What comes out", "Settings"):
        section = source.split(f"\n## {heading}\n")[1].split("\n## ")[0].strip()
        assert f"\n## {heading}\n\n{section}\n" in text


@pytest.fixture
def readme_example(tmp_path, monkeypatch):
    """Runs an example as a freshly imported module, which needs no separate process."""
    monkeypatch.syspath_prepend(tmp_path)

    def run(block):
        (tmp_path / "readme_example.py").write_text(block)
        sys.modules.pop("readme_example", None)
        import readme_example  # noqa: F401 - importing runs it

    yield run
    sys.modules.pop("readme_example", None)


def test_the_readmes_example_of_trying_a_method_works(starter, monkeypatch, capsys, readme_example):
    """The method is missing in the starter and exists in the repository."""
    (block,) = re.findall(
        r"^```python\n(from .*?)^```", (starter / "README.md").read_text(), re.MULTILINE | re.DOTALL
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", block], cwd=starter, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(starter), "OMP_NUM_THREADS": "1"}, check=False,
    )  # fmt: skip
    assert done.stderr.splitlines()[-1] == (
        "NotImplementedError: DQNAgent.compute_critic_loss is yours to write (dqn_agent.py)"
    )

    monkeypatch.chdir(ROOT)
    readme_example(block)
    printed = capsys.readouterr().out
    assert printed.startswith("torch.Size([]) {")
    assert printed.endswith("torch.Size([4])\n")

    def without_mask(self, obs, action, reward, next_obs, done):
        with torch.no_grad():
            target = reward + self.discount * self.target_critic(next_obs).max(-1).values
        q = self.critic(obs).gather(1, action[:, None])[:, 0]
        return (q - target).square().mean(), {}, {"q_values": q}

    monkeypatch.setattr(DQNAgent, "compute_critic_loss", without_mask)
    with pytest.raises(AssertionError, match="look at dones"):
        readme_example(block)


def test_placeholders_of_the_readme_are_filled():
    gaps = [Gap("a.py", "A.f", "do it"), Gap("a.py", "A.g", OptionalTodo("a helper")),
            Gap("b.py", "h", OptionalTodo("another")), Gap("a.py", "A.i", "and that")]  # fmt: skip
    gaps.sort(key=lambda gap: gap.file)
    template = "x\n<!-- to write: a.py -->\ny\n<!-- to write: optional -->\n<!-- section: S -->\n"
    assert fill_readme(template, "# T\n\nt\n\n## S\n\ns\n\n### u\n\n## V\n", gaps) == (
        "x\n- `A.f`: do it\n- `A.i`: and that\ny\n"
        "- [a.py](a.py): `A.g`\n- [b.py](b.py): `h`\n## S\n\ns\n\n### u\n"
    )


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("", "has no `<!-- to write: a.py -->`"),
        (
            "<!-- to write: a.py --><!-- x -->\n<!-- section: T -->",
            "<!-- section: T -->` does not stand",
        ),
        (
            "<!-- to write: a.py -->\n<!-- to write: b.py -->",
            "<!-- to write: b.py -->` does not stand",
        ),
    ],
)
def test_an_outdated_readme_is_an_error(template, says):
    with pytest.raises(UserError, match="student_readme") as caught:
        fill_readme(template, "## S\n", [Gap("a.py", "f", "do it")])
    assert says in str(caught.value)


# One file

EXAMPLE = '''
class A:
    @staticmethod
    def f(
        x,  # the input
    ):
        """Says what it does."""
        # A comment before.

        def inner():
            return x

        return inner()
        # A comment behind.

    # A heading.

    def g(self): return 1


def h():
    # The only comment.
    return 2
'''


def test_everything_except_the_body_stays():
    text, gaps = strip(EXAMPLE, "a.py", {"A.f": "write it", "h": "this too"})
    assert (
        text
        == '''
class A:
    @staticmethod
    def f(
        x,  # the input
    ):
        """Says what it does."""
        # TODO(student): write it
        raise NotImplementedError("A.f is yours to write (a.py)")

    # A heading.

    def g(self): return 1


def h():
    # TODO(student): this too
    raise NotImplementedError("h is yours to write (a.py)")
'''
    )
    assert [gap.name for gap in gaps] == ["A.f", "h"]
    assert restore(text, EXAMPLE, ["A.f", "h"]) == EXAMPLE


@pytest.mark.parametrize("end", ["\r\n", "\n"])
def test_line_ends_and_a_missing_last_one_are_kept(end):
    source = EXAMPLE.rstrip().replace("\n", end)
    text, _ = strip(source, "a.py", {"A.f": "write it", "h": "this too"})
    assert text.count(end) == text.count("\n")
    assert restore(text, source, ["A.f", "h"]) == source


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (EXAMPLE, "has no B.f"),
        ("class B:\n    def f(self): return 1\n", "put it on separate lines"),
        ('class B:\n    def f(self):\n        """Doc."""; return 1\n', "put it on separate lines"),
        ('class B:\n    def f(self):\n        """Doc."""\n', "only a docstring"),
        ("class B:\n    def f(self):\n        return 1  # TODO(student)\n", "already"),
        ("class B:\n    def f(self)\n", "not valid Python (line 2)"),
    ],
)
def test_what_cannot_be_removed_is_an_error(source, says):
    with pytest.raises(UserError, match=r"b\.py") as caught:
        strip(source, "b.py", {"B.f": "write it"})
    assert says in str(caught.value)


# Markers


def test_a_marked_part_is_removed():
    source = '''def f(x):
    """Marks: # STUDENT: begin"""
    y = "# STUDENT: end"
    if x:
        # STUDENT: begin
        # How it goes.
        y = x + 1

        y *= 2
        # STUDENT: end
    return y
'''
    text, gaps = strip(source, "a.py", {})
    assert (
        text
        == '''def f(x):
    """Marks: # STUDENT: begin"""
    y = "# STUDENT: end"
    if x:
        # TODO(student): the missing part
        raise NotImplementedError("f is yours to write (a.py)")
    return y
'''
    )
    assert [(gap.file, gap.name) for gap in gaps] == [("a.py", "f")]
    assert restore(text, source, ["f"]) == source


BEGIN, END = "    # STUDENT: begin\n", "    # STUDENT: end\n"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (f"{BEGIN}    x = 1\n", "line 2: '# STUDENT: begin' has no matching marker"),
        (f"    x = 1\n{END}", "line 3: '# STUDENT: end' has no matching marker"),
        (f"{BEGIN}{BEGIN}    x = 1\n{END}", "line 2: '# STUDENT: begin' has no matching marker"),
        (f"{BEGIN}    x = 1\n{END}{END}", "line 5: '# STUDENT: end' has no matching marker"),
        (f"{END}    x = 1\n{BEGIN}", "line 2: '# STUDENT: end' has no matching marker"),
        (f"    # STUDENT: start\n    x = 1\n{END}", "'# STUDENT: start' is not a marker"),
        (f"    # student: begin\n    x = 1\n{END}", "'# student: begin' is not a marker"),
        (f"    #STUDENT begin\n    x = 1\n{END}", "'#STUDENT begin' is not a marker"),
        (f"    x = 0  # STUDENT: begin\n    x = 1\n{END}", "is not a marker"),
        (f"{BEGIN}    x = 1\n  # STUDENT: end\n", "not indented like its match"),
        (f"{BEGIN}{END}    x = 1\n", "does not contain whole statements"),
        (f"    if x:\n    {BEGIN}        x = 1\n    else:\n    {END}        x = 2\n",
         "does not contain whole statements"),
        (f"    x = (\n{BEGIN}    1\n{END}    )\n", "does not contain whole statements"),
        (f"{BEGIN}    if x:\n{END}        x = 1\n", "does not contain whole statements"),
        ("    x = 1\n\n# STUDENT: begin\ny = 2\n# STUDENT: end\n", "not inside a function"),
    ],
)  # fmt: skip
def test_invalid_markers_are_errors(body, says):
    with pytest.raises(UserError, match=r"a\.py, line") as caught:
        strip(f"def f(x):\n{body}", "a.py", {})
    assert says in str(caught.value)


def test_a_marked_part_of_a_chosen_body_is_an_error():
    with pytest.raises(UserError, match="removed as a whole"):
        strip(f"def f(x):\n{BEGIN}    x = 1\n{END}", "a.py", {"f": "write it"})


# The output folder


@pytest.mark.parametrize("where", ["", "starter", "cs285/starter", ".."])
def test_a_folder_in_the_repository_or_around_it_is_refused(where, capsys):
    before = set(ROOT.iterdir())
    assert script.main(["--out", str(ROOT / where)]) == 2
    assert "inside the repository or contains it" in capsys.readouterr().err
    assert set(ROOT.iterdir()) == before


def test_a_folder_in_use_is_refused_and_unchanged(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("mine")
    assert script.main(["--out", str(tmp_path)]) == 2
    assert script.main(["--out", str(tmp_path / "mine.txt")]) == 2
    assert capsys.readouterr().err.count("choose a new one") == 2
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_nothing_is_written_if_a_marker_is_invalid(tmp_path):
    root = tmp_path / "repository"
    shutil.copytree(ROOT / "cs285" / "agents", root / "cs285" / "agents")
    (root / "cs285" / "extra.py").write_text("def f():\n    # STUDENT: begin\n    return 1\n")
    with pytest.raises(UserError, match=r"cs285/extra\.py, line 2"):
        make_student_version(root, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (root / "cs285" / "extra.py").unlink()
    (root / "cs285" / "agents" / "rnd_agent.py").unlink()
    with pytest.raises(UserError, match=r"cs285/agents/rnd_agent\.py is missing"):
        make_student_version(root, tmp_path / "out")


def test_a_package_without_its_repository_makes_no_starter(tmp_path):
    shutil.copytree(ROOT / "cs285", tmp_path / "site" / "cs285")
    with pytest.raises(UserError, match=r"README\.md is missing; a starter can only"):
        make_student_version(tmp_path / "site", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_script_says_what_is_to_be_written(tmp_path, capsys):
    assert script.main(["--out", str(tmp_path), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    written = {(gap["file"], gap["name"]) for gap in said["to_write"]}
    optional = {gap["name"] for gap in said["to_write"] if gap["optional"]}
    assert {"DQNAgent.objectives", "epsilon_greedy"} <= optional
    assert not {"DQNAgent.update", "finetune"} & optional
    assert written == {(file, name) for file, bodies in WRITTEN.items() for name in bodies}
    assert os.access(tmp_path / "run_hw5.sh", os.X_OK)


def test_the_method_that_students_write_takes_what_the_reference_inherits():
    (function,) = ast.parse(f"{textwrap.dedent(INHERITED['update'])}    ...").body
    assert [argument.arg for argument in function.args.args] == list(
        inspect.signature(Agent.update).parameters
    )
