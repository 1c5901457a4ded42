"""Tries the self check on all right and wrong solutions of the tests; takes hours.

    python tools/try_self_check.py --styles 100 --seed 1

Prints its complaints about right solutions, and the mistakes that it does not report. It knows no
formula, so there are such mistakes: other numbers with the same properties.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from cs285.probing.classes import CLASSES
from cs285.probing.self_check import Item, State, check_agent
from tests.solutions import STYLES, Patched
from tests.solutions.generator.combinations import Combination, changes_text
from tests.solutions.generator.mistakes import MISTAKES
from tests.solutions.generator.numbers import effect, load
from tests.solutions.generator.styles import Style, random_style
from tests.solutions.mutants import MUTANTS
from tests.solutions.variants import VARIANTS


def odd(agent: str, files: Mapping[str, str]) -> list[Item]:
    """Return the complaints about a file."""
    classes = {one: load(files, one) for one in ({agent, "dqn"} if agent == "cql" else {agent})}
    return [item for item in check_agent(agent, classes) if item.state is not State.FINE]


def files_of(patch: Patched) -> dict[str, str]:
    """Return the files of a patched solution."""
    folder = STYLES[patch.style]
    files = {
        f"{one}_agent.py": (folder / f"{one}_agent.py").read_text(encoding="utf-8")
        for one in CLASSES
    }
    return files | {f"{patch.agent}_agent.py": patch.text}


def as_asked(style: Style) -> Style:
    """Return the style with which the agent acts with its actor and returns all metrics."""
    return style.changed(metrics="full", actor_acts="mode", rnd_order="after")


def print_right(name: str, agent: str, files: Mapping[str, str]) -> int:
    """Print the complaints about a right file; return their number."""
    found = odd(agent, files)
    for item in found:
        print(f"ODD {name}: {item.method}: {'; '.join(item.texts)}")
    return len(found)


def print_wrong(name: str, agent: str, methods: Collection[str], files: Mapping[str, str]) -> int:
    """Print a mistake that was not reported in its methods; return 1 if it was, else 0."""
    found = odd(agent, files)
    if any(item.method.partition(".")[2] in methods for item in found):
        return 1
    elsewhere = ", ".join(item.method for item in found)
    print(f"SILENT {name}{f' (reported in {elsewhere})' if elsewhere else ''}")
    return 0


def main() -> None:
    """Try everything."""
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--styles", type=int, default=20, help="random styles of right files")
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    rng = np.random.default_rng(chosen.seed)
    accused = sum(print_right(one.name, one.agent, files_of(one)) for one in VARIANTS)
    for _ in range(chosen.styles):
        files = Combination(as_asked(random_style(rng))).files()
        accused += sum(print_right(f"a style of {agent}", agent, files) for agent in CLASSES)
    reported = [print_wrong(one.name, one.agent, {one.method}, files_of(one)) for one in MUTANTS]
    for mistake in MISTAKES:
        style = as_asked(random_style(rng)).changed(asserts="no")
        if changes_text(style, mistake) and effect(style, mistake):
            files = Combination(style, (mistake,)).files()
            methods = {mistake.method, *mistake.also}
            reported.append(print_wrong(mistake.name, mistake.agent, methods, files))
    print(
        f"{accused} complaints about right files; "
        f"{sum(reported)} of {len(reported)} mistakes were reported"
    )


if __name__ == "__main__":
    main()
