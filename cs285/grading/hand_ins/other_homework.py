"""Recognises hand-ins for another homework of the course, or for another year's.

What counts is what a hand-in has, never what it lacks: a run or files that belong to another
homework, and no run of this one.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import PurePosixPath

from cs285.grading.archives import printable
from cs285.grading.hand_ins.submitted_runs import Run
from cs285.grading.hand_ins.unpacking import is_junk
from cs285.grading.solutions.editions import THIS, homework_of_tree
from cs285.results.foreign_logs import tag_of_other_years

_NUMBER = re.compile(r"(?:^|_)hw([1-4])(?=[_-]|$)")
_EARLIER_RUN = re.compile(r"hw5_expl_|_env\d_(?:rnd|random)")
_ENVIRONMENTS = re.compile(
    r"(?i)(?:^|[_-])(ant|hopper|walker2d|humanoid|halfcheetah|cartpole|invertedpendulum|lunarlander"
    r"|reacher|mountaincar|pendulum|swimmer|mspacman|pong|obstacles|cheetah)(?:-?v\d)?(?=[_-]|$)"
)
"""Environments of the other homework."""


def other_homework(files: Collection[PurePosixPath], runs: Sequence[Run]) -> str:
    """Return a sentence on which other homework a hand-in is; empty if it may be this one."""
    if any(_is_of_this(run) for run in runs):
        return ""
    sources = [path for path in files if path.suffix == ".py" and not is_junk(path)]
    if evidence := _by_names(runs):
        return f"Nothing was judged: {evidence}; only {THIS} can be graded."
    if sentence := homework_of_tree(sources):
        return f"Nothing was judged: by its files, {sentence}."
    if evidence := _by_environments(runs) or _by_tags(runs):
        return f"Nothing was judged: {evidence}; only {THIS} can be graded."
    return ""


def _is_of_this(run: Run) -> bool:
    return (run.config is not None or bool(run.env_id)) and not _is_earlier(run)


def _is_earlier(run: Run) -> bool:
    return bool(tag_of_other_years(run.log.series) or _EARLIER_RUN.search(str(run.folder)))


def _by_names(runs: Sequence[Run]) -> str:
    for run in runs:
        if found := _NUMBER.search(run.folder.name):
            return f"the run {run.name} is from homework {found[1]} of the course"
    for run in runs:
        # Logs of the first homework of 2023 have such tags as well.
        if _is_earlier(run) and (run.env_id or _EARLIER_RUN.search(str(run.folder))):
            return f"the run {run.name} is from another year (2019 to 2022)"
    return ""


def _by_environments(runs: Sequence[Run]) -> str:
    for run in runs:
        if found := _ENVIRONMENTS.search(run.folder.name):
            return f"the run {run.name} is from another homework, in {printable(found[1])}"
    return ""


def _by_tags(runs: Sequence[Run]) -> str:
    earlier = next((run for run in runs if _is_earlier(run)), None)
    return f"the run {earlier.name} is from another homework or another year" if earlier else ""
