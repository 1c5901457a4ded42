"""Runs the self check on the files that students complete."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import cs285.agents
from cs285.probing.classes import CLASSES, FINETUNE
from cs285.probing.self_check import Item, State, check_agent, judged
from cs285.probing.subject import StoppedError, errors_translated
from cs285.training.stages import FineTuning, Plan

FINETUNE_FILE = "run_hw5_finetune.py"
_OFFLINE, _ONLINE = 5, 3


def check_files(names: Sequence[str], load_plan: Callable[[], Plan]) -> list[Item]:
    """Check agents, and the fine-tuning plan if `finetune` is among the names.

    Args:
        names: Names of agents, and `finetune`.
        load_plan: Imports the plan; it is the student's code and may fail.
    """
    items: list[Item] = []
    for name in names:
        if name == FINETUNE:
            items.append(_check_plan(load_plan))
            continue
        needed = {name, "dqn"} if name == "cql" else {name}
        classes = {}
        try:
            with errors_translated():
                for one in needed:
                    classes[one] = getattr(cs285.agents, CLASSES[one])
        except StoppedError as error:
            items.append(Item(f"{name}_agent.py", CLASSES[name], State.LOOK, (str(error),)))
            continue
        items += check_agent(name, classes)
    return items


def _check_plan(load_plan: Callable[[], Plan]) -> Item:
    state, texts = judged(lambda: _fine_tuning(load_plan), FINETUNE)
    return Item(FINETUNE_FILE, FINETUNE, state, texts)


def _fine_tuning(load_plan: Callable[[], Plan]) -> Iterator[str]:
    """Yield what is odd about a fine-tuning plan."""
    run = FineTuning()
    with errors_translated():
        plan = load_plan()
        plan(run, _OFFLINE, _ONLINE)
        run.phases()
    for name, steps, wanted in (
        ("offline", run.offline, _OFFLINE),
        ("online", run.online, _ONLINE),
    ):
        if steps != wanted:
            yield (
                f"with {name}_steps = {wanted} it takes {steps} {name} steps; check what it counts"
            )
