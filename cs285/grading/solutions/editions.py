"""Recognises hand-ins of another homework: another year's edition, or another number.

The editions of 2019 to 2022 have the same file names, but other classes: agents take an environment
and a dict of parameters, and losses live in `critics/` and `policies/`. Judging them by this
edition's assignment would give a list of crashes.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection
from pathlib import PurePosixPath

from cs285.grading.solutions.agent_source import AgentSource
from cs285.grading.solutions.assignment import AGENT_FILES, AgentFile

THIS = "the Fall 2023 edition of homework 5"
_EARLIER = f"it is homework 5 of another year (2019 to 2022); only {THIS} can be checked"
_LATER = f"it is another edition of the homework; only {THIS} can be checked"
_EARLIER_FOLDERS = {"critics", "policies", "exploration"}
_EARLIER_FILES = {
    "explore_or_exploit_agent.py",
    "rnd_model.py",
    "cql_critic.py",
    "iql_critic.py",
    "run_hw5_expl.py",
    "run_hw5_awac.py",
    "run_hw5_iql.py",
}
_EARLIER_IMPORTS = re.compile(
    r"^\s*(?:from|import)\s+[\w.]*(?:cs285|\.)\.?(?:critics|policies|exploration|"
    r"infrastructure\.(?:rl_trainer|dqn_utils|memory_optimized))\b",
    re.MULTILINE,
)
_LATER_FILES = {"sacbc_agent.py", "fql_agent.py", "sacbc.py", "fql.py", "iql.py"}
_SCRIPT = re.compile(r"run_hw(\d)")
_OTHER_AGENTS = {
    "bc_agent.py": 1,
    "pg_agent.py": 2,
    "soft_actor_critic.py": 3,
    "sac_agent.py": 3,
    "ac_agent.py": 3,
    "model_based_agent.py": 4,
    "mb_agent.py": 4,
    "mbpo_agent.py": 4,
}
_FEW = 2
"""With fewer of this homework's agent files, the other files decide which homework it is."""


def homework_of_tree(names: Collection[PurePosixPath]) -> str:
    """Return a sentence that says which other homework a hand-in is; empty if it is this one.

    Args:
        names: Paths of its Python files, below the folder that holds its package.
    """
    files = {name.name for name in names}
    ours = files & set(AGENT_FILES)
    folders = {part for name in names for part in name.parts[:-1]}
    if files & _EARLIER_FILES or ("critics" in folders and "exploration" in folders):
        return _EARLIER
    if len(ours) < _FEW:
        numbers = {int(found[1]) for file in files if (found := _SCRIPT.match(file))}
        numbers -= {5}
        numbers = numbers or {_OTHER_AGENTS[file] for file in files & _OTHER_AGENTS.keys()}
        if numbers and not any(
            _SCRIPT.match(file) and file.startswith("run_hw5") for file in files
        ):
            return f"it is homework {max(numbers)} of the course; only {THIS} can be checked"
    if not ours and (files & _LATER_FILES or "src" in folders):
        return _LATER
    return ""


def homework_of_file(source: AgentSource, agent: AgentFile) -> str:
    """Return a sentence that says which other homework an agent file is from; empty if from none.

    Raises:
        SyntaxError: If the file is not valid Python.
    """
    if _EARLIER_IMPORTS.search(source.text):
        return _EARLIER
    constructor = source.methods.get("__init__")
    if constructor is None:
        return ""
    taken = _names(constructor.args)
    if "agent_params" in taken or (taken and taken[0] == "env"):
        return _EARLIER
    if constructor.args.kwarg is None and len(set(agent.makers) - set(taken)) > 1:
        return f"{_LATER} (its constructor takes {', '.join(taken)})"
    return ""


def _names(arguments: ast.arguments) -> list[str]:
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return [one.arg for one in every if one.arg != "self"]
