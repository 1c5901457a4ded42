"""Solutions in many styles: what they compute, and what the checker says of their mistakes."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # `tests` is not installed
from tests.solutions.generator.combinations import FILES, MATTERS, Combination
from tests.solutions.generator.mistakes import MISTAKES
from tests.solutions.generator.numbers import faults_of_right_file
from tests.solutions.generator.styles import CHOICES, Covering, make_style, random_style

SEED = 20


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


def test_every_value_of_a_choice_gives_another_text():
    for choice, options in CHOICES.items():
        if choice == "context":
            continue  # says which files are handed in, not what stands in them
        base = {"comments": "none", "cql_base": "recomputed"}
        gap = (next(one for one in MISTAKES if one.kind == "unsolved"),) if choice == "gaps" else ()
        styles = [make_style(base | {choice: one}) for one in options]
        texts = {str(Combination(style, gap).files()) for style in styles}
        assert len(texts) == len(options), choice
