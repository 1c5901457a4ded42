"""Recognises hand-ins of another homework of the course, or of another year's.

Only what a hand-in has counts, never what it lacks: a folder or a file that belongs to another
homework, while no run is one of this homework.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import PurePosixPath

from cs285.grading.archives import printable
from cs285.grading.hand_ins.submitted_runs import Run
from cs285.grading.hand_ins.unpacking import is_junk

THIS = "homework 5 of Fall 2023"
_EARLIER = "another year (2019 to 2022)"
_SCRIPT = re.compile(r"(?:run|train)_hw(\d)")
_NUMBER = re.compile(r"(?:^|_)hw([1-4])(?=[_-]|$)")
_EARLIER_RUN = re.compile(r"hw5_expl_|_env\d_(?:rnd|random)")
_EARLIER_TAG = re.compile(r"(?:Eval|Train|Initial)_[A-Z]")
"""Tags of 2019 to 2022, such as Eval_AverageReturn."""
_EARLIER_FILES = {
    "explore_or_exploit_agent.py",
    "run_hw5_expl.py",
    "run_hw5_awac.py",
    "run_hw5_iql.py",
    "rl_trainer.py",
    "cql_critic.py",
    "iql_critic.py",
}
_FILES = {
    "bc_agent.py": 1,
    "bc_trainer.py": 1,
    "pg_agent.py": 2,
    "soft_actor_critic.py": 3,
    "sac_agent.py": 3,
    "ac_agent.py": 3,
    "model_based_agent.py": 4,
    "mb_agent.py": 4,
    "mbpo_agent.py": 4,
}
"""Files of one homework only, and its number."""
_ENVIRONMENTS = re.compile(
    r"(?i)(?:^|[_-])(ant|hopper|walker2d|humanoid|halfcheetah|cartpole|invertedpendulum|lunarlander|reacher"
    r"|mspacman|pong|obstacles|cheetah)(?:-?v\d)?(?=[_-]|$)"
)
"""Environments of the other homework."""


def other_homework(files: Collection[PurePosixPath], runs: Sequence[Run]) -> str:
    """Return in a sentence which other homework a hand-in is; empty if it may be this one."""
    if any(_is_of_this(run) for run in runs):
        return ""
    names = {path.name for path in files if not is_junk(path)}
    what, evidence = _by_runs(runs) or _by_files(names) or _by_environments(runs) or ("", "")
    if not what:
        return ""
    return (
        f"This hand-in is of {what}, as {evidence} shows, but only {THIS} is graded here; nothing "
        "of it was judged."
    )


def _is_of_this(run: Run) -> bool:
    known = run.config is not None or bool(run.env_id)
    return known and not _is_earlier(run)


def _is_earlier(run: Run) -> bool:
    tags = any(map(_EARLIER_TAG.match, run.log.series))
    return tags or bool(_EARLIER_RUN.search(str(run.folder)))


def _by_runs(runs: Sequence[Run]) -> tuple[str, str] | None:
    for run in runs:
        if found := _NUMBER.search(run.folder.name):
            return f"homework {found[1]}", f"the run {run.name}"
    earlier = next((run for run in runs if _is_earlier(run)), None)
    return (_EARLIER, f"the run {earlier.name}") if earlier else None


def _by_files(names: Collection[str]) -> tuple[str, str] | None:
    if earlier := sorted(_EARLIER_FILES.intersection(names)):
        return _EARLIER, f"the file {earlier[0]}"
    scripts = {name: match[1] for name in sorted(names) if (match := _SCRIPT.match(name))}
    if scripts:
        # The repository of the course has the scripts of every homework up to one's own.
        name = max(scripts, key=lambda name: scripts[name])
        return None if scripts[name] == "5" else (f"homework {scripts[name]}", f"the file {name}")
    own = sorted(_FILES.keys() & names)
    return (f"homework {_FILES[own[0]]}", f"the file {own[0]}") if own else None


def _by_environments(runs: Sequence[Run]) -> tuple[str, str] | None:
    for run in runs:
        if found := _ENVIRONMENTS.search(run.folder.name):
            return "another homework", f"the run {run.name} in {printable(found[1])}"
    return None
