"""Solutions in many styles: what they compute, and what the checker says of their mistakes."""

import sys
from pathlib import Path

import numpy as np
import pytest

from cs285.grading.sandbox.sandbox import Sandbox

sys.path.insert(0, str(Path(__file__).parents[1]))  # `tests` is not installed
from tests.solutions.generator.combinations import FILES, MATTERS, Combination
from tests.solutions.generator.mistakes import MISTAKES
from tests.solutions.generator.numbers import faults_of_right_file
from tests.solutions.generator.styles import CHOICES, Covering, make_style, random_style
from tests.solutions.generator.trials import Plan, tried

SEED = 20

FILES_IN_THE_SUITE = {"random": 7, "dqn": 12, "cql": 4, "awac": 4, "iql": 5, "rnd": 10}
"""How many wrong files the suite has time for; `tools/check_generator.py` makes thousands."""


@pytest.mark.parametrize("agent", FILES)
def test_right_files_have_the_numbers_of_the_formulas_in_every_style(agent):
    covering = Covering(np.random.default_rng(SEED), candidates=16)
    seen = set()
    for _ in range(8):
        style = covering.draw(MATTERS[agent])
        assert faults_of_right_file(agent, style) == []
        seen |= {(choice, style[choice]) for choice in MATTERS[agent]}
    missing = {(choice, value) for choice in MATTERS[agent] for value in CHOICES[choice]} - seen
    for choice, value in missing:
        style = random_style(np.random.default_rng(SEED)).changed(**{choice: value})
        assert faults_of_right_file(agent, style) == []


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox() as sandbox:
        yield sandbox


@pytest.mark.parametrize("agent", FILES)
def test_the_checker_finds_and_names_mistakes_and_accuses_no_right_method(agent, sandbox):
    plan = Plan(np.random.default_rng(SEED))
    queues = plan.queues(agent)
    problems = []
    for _ in range(FILES_IN_THE_SUITE[agent]):
        outcome = tried(sandbox, plan.packed(agent, queues), agent, plan.rng)
        problems += [f"{one}: {outcome.as_told}" for one in outcome.problems]
    assert problems == []


@pytest.mark.parametrize("agent", FILES)
def test_the_checker_accepts_right_files_in_every_style(agent, sandbox):
    plan = Plan(np.random.default_rng(SEED))
    for _ in range(2):
        outcome = tried(sandbox, plan.right(agent), agent, plan.rng)
        assert outcome.problems == [], outcome.as_told


def test_every_value_of_a_choice_gives_another_text():
    for choice, options in CHOICES.items():
        if choice == "context":
            continue  # says which files are handed in, not what stands in them
        base = {"comments": "none", "cql_base": "recomputed"}
        gap = (next(one for one in MISTAKES if one.kind == "unsolved"),) if choice == "gaps" else ()
        styles = [make_style(base | {choice: one}) for one in options]
        texts = {str(Combination(style, gap).files()) for style in styles}
        assert len(texts) == len(options), choice
