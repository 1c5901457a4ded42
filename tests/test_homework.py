"""The records of stages and algorithms, and what is derived from them."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cs285.env_configs.base_config import BaseConfig
from cs285.grading.hand_ins.plausibility import foreign_tags
from cs285.homework import (
    STAGES,
    Question,
    RegistrationError,
    Stage,
    algorithms,
    algorithms_for,
    algorithms_of,
    keys_of_other_stages,
    keys_without_effect,
    register,
    usual_stage,
)

ROOT = Path(__file__).parents[1]
LEARNERS = ["rnd", "dqn", "cql", "awac", "iql"]
NOTES = ["bc", "filtered_bc", "awr", "sarsa", "bcq", "brac", "rcsl"]


def test_algorithms_of_each_stage():
    assert algorithms_of(Stage.EXPLORE) == ["random", "rnd", "dqn"]
    assert algorithms_of(Stage.OFFLINE) == algorithms_of(Stage.FINETUNE)
    assert algorithms_of(Stage.OFFLINE) == [*LEARNERS[1:], *algorithms_for(None)]


def test_code_compares_stages_with_their_record():
    """A word in quotes would stay behind if a stage got another name."""
    words = set(Stage)
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in (ROOT / "cs285").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Compare)
        for side in (node.left, *node.comparators)
        if isinstance(side, ast.Constant) and side.value in words
    ]
    assert found == []


def test_algorithms_of_each_question_of_the_handout():
    assert algorithms_for(Question.EXPLORATION) == ["random", "rnd"]
    assert algorithms_for(Question.CQL) == ["dqn", "cql"]
    assert algorithms_for(Question.ACTORS) == ["awac", "iql"]


def test_methods_of_the_course_notes_belong_to_no_question():
    assert algorithms_for(None) == NOTES


@pytest.mark.parametrize("name", ["BC", "2bc", "b c", "b.c", "", "../bc"])
def test_a_name_that_is_not_a_plain_word_is_refused(name):
    with pytest.raises(RegistrationError, match="lower-case letters, digits and underscores"):
        register(name, title="BC", colour="#000000", stages={Stage.OFFLINE})(BaseConfig)
    assert name not in algorithms()


def test_a_name_that_is_taken_is_refused():
    decorate = register("cql", title="Other", colour="#000000", stages={Stage.OFFLINE})
    with pytest.raises(
        RegistrationError, match=r"`cql` is registered twice, by .*cql_config and by"
    ):
        decorate(BaseConfig)
    assert algorithms()["cql"].title == "CQL"


@pytest.mark.parametrize("name", [*LEARNERS, *NOTES])
def test_tags_match_the_losses_that_the_agent_minimises(make_agent, name):
    losses = {objective.loss_tag for objective in make_agent(name).objectives}
    # CQL also logs one term of its loss.
    assert set(algorithms()[name].tags) - {"cql_term"} == losses


OF_ONE = ("cql_term", "behaviour_loss")
"""Tags that CQL or BRAC alone write."""


def test_random_minimises_nothing():
    assert algorithms()["random"].tags == ()


@pytest.mark.parametrize(
    ("name", "foreign"),
    [
        ("random", {"critic_loss", "q_loss", "rnd_loss", "actor_loss", "v_loss", *OF_ONE}),
        ("rnd", {"actor_loss", "v_loss", *OF_ONE}),
        ("dqn", {"actor_loss", "v_loss", "rnd_loss", *OF_ONE}),
        ("cql", {"actor_loss", "v_loss", "rnd_loss", "behaviour_loss"}),
        ("awac", {"v_loss", "rnd_loss", *OF_ONE}),
        ("iql", {"rnd_loss", *OF_ONE}),
        ("brac", {"v_loss", "rnd_loss", "cql_term"}),
        ("an algorithm that the grader does not know", set()),
    ],
)
def test_tags_that_only_other_algorithms_write(name, foreign):
    assert set(foreign_tags(name)) == foreign


def test_a_stage_reads_no_key_of_another_stage():
    assert keys_of_other_stages(Stage.OFFLINE) == {
        "total_steps", "learning_starts", "num_exploration_steps", "offline_steps", "online_steps",
    }  # fmt: skip
    for stage in Stage:
        assert not keys_of_other_stages(stage) & STAGES[stage].own_keys


def test_keys_without_effect_are_keys_of_other_algorithms():
    keys = ["seed", "batch_size", "use_double_q", "expectile", "no_such_key"]
    assert keys_without_effect("random", keys) == ["batch_size", "use_double_q", "expectile"]
    assert keys_without_effect("iql", keys) == ["use_double_q"]


def test_a_run_of_unknown_stage_explores_if_its_algorithm_does_nothing_else():
    assert [usual_stage(name) for name in ("random", "rnd")] == [Stage.EXPLORE] * 2
    assert [usual_stage(name) for name in ("dqn", "iql", "")] == [Stage.OFFLINE] * 3


def test_scripts_and_folders_of_the_stages_exist():
    for stage, record in STAGES.items():
        assert (ROOT / "cs285" / "scripts" / stage.script).is_file()
        assert list((ROOT / "experiments" / record.experiments).glob("*.yaml"))


def test_readme_names_every_algorithm_and_every_tag():
    text = (ROOT / "README.md").read_text()
    for algorithm in algorithms().values():
        file = f"{algorithm.name}_agent.py"
        assert (ROOT / "cs285" / "agents" / file).is_file()
        assert re.search(rf"\b{algorithm.title}\b", text, re.IGNORECASE)
        assert [tag for tag in algorithm.tags if f"`{tag}`" not in text] == []


def test_listing_algorithms_imports_no_torch():
    """Scripts that only read results would otherwise take seconds longer."""
    code = (
        "import sys; from cs285.homework import algorithms; import cs285.scripts.show_results; "
        "assert len(algorithms()) > 6; assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    assert done.returncode == 0
