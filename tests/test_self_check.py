"""The self check tells right methods from wrong ones without a formula."""

import ast
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from cs285.agents.random_agent import RandomAgent
from cs285.grading.starter.student_version import make_student_version, restore
from cs285.homework import Stage
from cs285.infrastructure.errors import UserError
from cs285.probing.classes import CLASSES
from cs285.probing.self_check import State, check_agent
from cs285.probing.student_files import check_files
from cs285.scripts import self_check as script
from cs285.scripts.run_hw5_finetune import finetune
from cs285.training.stages import FineTuning, phases_of

sys.path.insert(0, str(Path(__file__).parents[1]))  # `tests` is not installed
from tests.solutions import STYLES
from tests.solutions.generator.combinations import Combination
from tests.solutions.generator.numbers import load
from tests.solutions.generator.styles import random_style
from tests.solutions.mutants import MUTANTS
from tests.solutions.variants import VARIANTS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "cs285"
pytestmark = pytest.mark.filterwarnings("ignore")


def complaints(agent, files, methods=()):
    """Returns what is said against a file, by method."""
    classes = {one: load(files, one) for one in ({agent, "dqn"} if agent == "cql" else {agent})}
    items = check_agent(agent, classes, methods)
    return {item.method: item.texts for item in items if item.state is not State.FINE}


def with_patch(patch):
    """Returns the files of a patched solution, whose other files are as handed in."""
    folder = STYLES[patch.style]
    files = {f"{one}_agent.py": (folder / f"{one}_agent.py").read_text() for one in CLASSES}
    return files | {f"{patch.agent}_agent.py": patch.text}


def named(patches, *names):
    """Returns patched solutions by name, each of which exists."""
    found = {patch.name: patch for patch in patches}
    return [found[name] for name in names]


# Right and wrong solutions

RIGHT = (
    *(f"{agent}: as handed in" for agent in CLASSES),
    "dqn: loop over rows", "dqn: columns throughout", "dqn: deep copy", "dqn: copies first",
    "dqn: one more head", "cql: two means", "cql: its own Q",
    "awac: online next", "awac: sampled next", "awac: sampled baseline", "awac: always samples",
    "awac: advantage as a column", "iql: one loss a row", "iql: online V", "rnd: min-max",
    "rnd: learns before its bonus", "rnd: two critics",
)  # fmt: skip
"""Of the variants, those whose numbers are most unlike the others. All are tried by
`tools/try_self_check.py`."""


@pytest.mark.parametrize("name", RIGHT)
def test_right_solutions_pass_with_no_complaint(name):
    (patch,) = named(VARIANTS, name)
    assert complaints(patch.agent, with_patch(patch)) == {}


def test_right_solutions_of_many_styles_pass_with_no_complaint():
    rng = np.random.default_rng(7)
    for agent in CLASSES:
        # What the homework asks for: to act with the actor, and to return what is logged.
        style = random_style(rng).changed(metrics="full", actor_acts="mode", rnd_order="after")
        assert complaints(agent, Combination(style).files()) == {}, style


TOLD = {
    # name of the mistake: a part of what is said
    "random: never the last action": "never takes action 4",
    "dqn: ignores epsilon": "never explores",
    "dqn: acts on target": "it acts on the target critic",
    "dqn: no mask": "what follows a terminated transition",
    "dqn: mask inverted": "what follows a terminated transition",
    "dqn: mask on all": "check the terms of the target, and what `done` multiplies",
    "dqn: no discount": "the discount makes no difference",
    "dqn: no target network": "check which network to use",
    "dqn: never double": "use_double_q makes no difference",
    "dqn: broadcast": "print the shapes",
    "dqn: flipped": "check the signs",
    "dqn: no zero_grad": "check `zero_grad()`",
    "dqn: no clipping": "`clip_grad_norm_`",
    "dqn: never copies": "the target critic is never copied to",
    "dqn: always copies": "changes at steps 1, 2, 3, 4, 5, 6 of 6",
    "dqn: wrong name": "NameError",
    "cql: no term": "cql_alpha makes no difference",
    "cql: axis": "check its axes",
    "awac: acts on Q": "the actor should act",
    "awac: max next": "the actor would do next",
    "awac: pairs": "one advantage per row, (7,), not a tensor of shape (7, 7)",
    "awac: not detached": "gradient flows through the advantage",
    "awac: cloning": "advantages make no difference",
    "awac: the optimiser has the critic": "no optimiser has the parameters of the actor",
    "iql: no mask": "what follows a terminated transition",
    "iql: V pairs": "print the shapes",
    "iql: reversed": "which side gets which weight",
    "iql: V not copied": "the target V is never copied to",
    "iql: no update_q": "has no method `update_q`",
    "rnd: no bonus": "rnd_weight makes no difference",
    "rnd: target trained": "target network has an optimiser too",
}


@pytest.mark.parametrize("name", TOLD)
def test_mistakes_are_told_in_the_method_where_they_were_made(name):
    (patch,) = named(MUTANTS, name)
    found = complaints(patch.agent, with_patch(patch), {patch.method})
    ((method, texts),) = found.items()
    assert method.partition(".")[2] in {patch.method, "__init__"}
    assert TOLD[name] in texts[0]


def test_missing_tags_are_told():
    folder = STYLES["student"]
    files = {f"{one}_agent.py": (folder / f"{one}_agent.py").read_text() for one in CLASSES}
    files["iql_agent.py"] = files["iql_agent.py"].replace('"v_loss"', '"loss_of_v"')
    assert complaints("iql", files) == {
        "IQLAgent.update": ("what it returns lacks `v_loss`; check the tags",)
    }


# It knows no formula

OTHER_NUMBERS = {
    "dqn": ("reward + self.discount * ~done", "3 * reward + self.discount**2 * ~done"),
    "cql": ('loss + self.cql_alpha * ', 'loss + 5 * self.cql_alpha * '),
    "awac": ("torch.exp(advantages / self.temperature)",
             "torch.exp(advantages / self.temperature) ** 2"),
    "iql": ("torch.abs(expectile - (u < 0).float()) * u**2",
            "torch.abs(expectile - (u < 0).float()) ** 3 * u**2"),
    "rnd": ("rewards + self.rnd_weight * bonus", "2 * rewards + 7 * self.rnd_weight * bonus"),
}  # fmt: skip


@pytest.mark.parametrize("agent", OTHER_NUMBERS)
def test_other_numbers_with_the_same_properties_pass(agent):
    """So no change to the self check can make it print the right ones: it does not know them."""
    folder = STYLES["student"]
    files = {f"{one}_agent.py": (folder / f"{one}_agent.py").read_text() for one in CLASSES}
    right, other = OTHER_NUMBERS[agent]
    assert right in files[f"{agent}_agent.py"]
    files[f"{agent}_agent.py"] = files[f"{agent}_agent.py"].replace(right, other)
    assert complaints(agent, files) == {}


def test_it_imports_no_agent_and_no_grader():
    for path in (PACKAGE / "probing").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                continue
            assert not any(name.startswith("cs285.grading") for name in names)
            # The package alone, through which students' classes are looked up by name.
            assert not any(name.startswith("cs285.agents.") for name in names)


# In a starter

DRIVER = """
import sys
sys.meta_path[:] = [f for f in sys.meta_path if "editable" not in getattr(f, "__module__", "")]
from cs285.scripts.self_check import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def starter(tmp_path_factory):
    folder = tmp_path_factory.mktemp("starter") / "hw5"
    gaps = make_student_version(ROOT, folder)
    return folder, gaps


def run(folder, *arguments):
    """Runs the script in a starter; returns its status, output and errors."""
    done = subprocess.run(
        [sys.executable, "-B", "-c", DRIVER, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_an_untouched_starter_is_not_written_yet(starter):
    folder, gaps = starter
    files = {path.name: path.read_text() for path in (folder / "cs285/agents").glob("*_agent.py")}
    items = []
    for agent in CLASSES:
        items += check_agent(agent, {one: load(files, one) for one in {agent, "dqn"}})
    assert {item.state for item in items} == {State.UNWRITTEN}
    required = {gap.name for gap in gaps if not gap.is_optional}
    assert required - {"finetune"} <= {item.method for item in items}


def test_methods_are_told_apart_as_they_are_written(starter, tmp_path):
    """What is written is tried; what needs another method says which; errors have their place."""
    folder, _ = starter
    copy = tmp_path / "hw5"
    subprocess.run(["cp", "-r", folder, copy], check=True)
    file = "cs285/agents/dqn_agent.py"
    source = (ROOT / file).read_text()
    helpers = ["DQNAgent.action_probabilities", "DQNAgent.get_action", "DQNAgent.update_critic"]
    text = restore((copy / file).read_text(), source, helpers, file)
    (copy / file).write_text(text)
    acting = "cs285/agents/acting.py"
    (copy / acting).write_text((ROOT / acting).read_text())
    random = copy / "cs285/agents/random_agent.py"
    random.write_text(random.read_text().replace("raise NotImplementedError", "return 1 / 0  # "))
    (copy / "cs285/agents/iql_agent.py").write_text("import nothing_like_this\n")
    status, said, errors = run(copy, "random", "dqn", "iql", "finetune")
    assert (status, errors) == (1, "")
    lines = said.splitlines()
    assert "  not written yet  finetune" in lines
    assert "  nothing odd      DQNAgent.get_action" in lines
    assert "  not written yet  DQNAgent.compute_critic_loss" in lines
    place = lines.index("  not written yet  DQNAgent.update_critic")
    assert "DQNAgent.compute_critic_loss is yours to write" in lines[place + 1]
    place = lines.index("  look again       RandomAgent.get_action")
    assert "random_agent.py, line" in lines[place + 1]
    assert "ZeroDivisionError" in lines[place + 1]
    assert "  look again       IQLAgent" in lines
    assert "nothing_like_this" in said
    assert "Traceback" not in said


# The script


def test_the_reference_has_nothing_odd():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        items = check_files(script.NAMES, lambda: finetune)
    assert {item.state for item in items} == {State.FINE}
    assert {item.file for item in items} == {
        *(f"{name}_agent.py" for name in CLASSES),
        "run_hw5_finetune.py",
    }


def test_the_status_says_whether_anything_is_odd(capsys):
    assert script.main(["random", "finetune"]) == 0
    assert "nothing odd      finetune" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stopped:
        script.main(["dnq"])
    assert stopped.value.code == 2
    assert "none of random, dqn" in capsys.readouterr().err


# Fine-tuning


def swapped(run, offline_steps, online_steps):
    finetune(run, online_steps, offline_steps)


def without_data(run, offline_steps, online_steps):
    run.learn()


def only_offline(run, offline_steps, online_steps):
    run.load_dataset()
    for _ in range(offline_steps + online_steps):
        run.learn()


def reloads(run, offline_steps, online_steps):
    finetune(run, offline_steps, 0)
    run.load_dataset()


def acts_twice(run, offline_steps, online_steps):
    finetune(run, offline_steps, online_steps)
    run.act()
    run.act()


@pytest.mark.parametrize(
    ("plan", "says"),
    [
        (swapped, "with offline_steps = 5 it takes 3 offline steps"),
        (without_data, "call load_dataset() first"),
        (only_offline, "it takes 0 online steps"),
        (reloads, "once"),
        (acts_twice, "must follow each act()"),
        (lambda *_: None, "no steps were requested"),
    ],
)
def test_plans_of_fine_tuning_that_are_odd_are_told(plan, says):
    (item,) = check_files(["finetune"], lambda: plan)
    assert item.state is State.LOOK
    assert any(says in text for text in item.texts), item.texts


def test_a_plan_that_cannot_be_imported_is_told():
    (item,) = check_files(["finetune"], lambda: compile("def f(:", "run_hw5_finetune.py", "exec"))
    assert item.state is State.LOOK
    assert "run_hw5_finetune.py, line 1" in item.texts[0]


def test_what_methods_print_is_no_part_of_the_report(capsys, monkeypatch):
    act = RandomAgent.get_action
    monkeypatch.setattr(RandomAgent, "get_action", lambda *a, **k: print("shape") or act(*a, **k))
    assert script.main(["random", "--json"]) == 0
    seen = capsys.readouterr()
    assert json.loads(seen.out)[0]["state"] == "nothing odd"
    assert seen.err.startswith("shape\n")


class Steps:
    """A config, as far as plans see it."""

    offline_steps = 7
    online_steps = 4


def test_the_scripts_plan_is_what_training_does_by_default():
    planned = phases_of(Stage.FINETUNE, Steps(), finetune)
    assert planned == phases_of(Stage.FINETUNE, Steps())
    assert [(phase.steps, phase.interacts) for phase in planned] == [(7, False), (4, True)]


def test_a_plan_cannot_go_offline_again():
    run = FineTuning()
    finetune(run, 2, 2)
    with pytest.raises(UserError, match=r"an act\(\) must precede"):
        run.learn()
