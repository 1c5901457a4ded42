"""Checks that students can run on their methods, without revealing what to compute.

Each check tries one method on made-up networks and transitions. It compares what the method does
before and after a change of its inputs, so it knows no right number.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any

import numpy as np

from cs285.probing import acting, actors, bonus, critics, expectiles, updating
from cs285.probing.classes import CLASSES
from cs285.probing.subject import NotWrittenYetError, StoppedError, Subject

_SEED = 5
_OPTIONAL_HELPERS = {"compute_errors"}
"""Not part of the homework's interface, so files from elsewhere may lack them."""


_UNREADABLE = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What may be raised when unexpected results are read."""


class State(StrEnum):
    """The state of a method; the values appear in the output."""

    FINE = "nothing odd"
    UNWRITTEN = "not written yet"
    LOOK = "look again"


@dataclass(frozen=True)
class Item:
    """The result for one method."""

    file: str
    method: str
    """`Class.method`, or the name of a function."""
    state: State
    texts: tuple[str, ...] = ()

    @property
    def as_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "file": self.file,
            "method": self.method,
            "state": str(self.state),
            "texts": list(self.texts),
        }


Check = Callable[[Subject], Iterator[str]]
_CHECKS: Mapping[str, Mapping[str, Check]] = {
    "random": {"get_action": acting.random_actions},
    "dqn": {
        "get_action": acting.epsilon_greedy,
        "compute_critic_loss": critics.loss_of_dqn,
        "update_critic": critics.step_of_critic,
        "update": updating.update,
    },
    "rnd": {
        "compute_errors": bonus.errors,
        "update_rnd": bonus.step_of_predictor,
        "update": bonus.update_with_bonus,
    },
    "awac": {
        "get_action": acting.with_the_actor,
        "compute_critic_loss": critics.loss_of_awac,
        "compute_advantage": partial(actors.advantage, on_actor=True),
        "update_actor": actors.step_of_actor,
        "update": updating.update,
    },
    "iql": {
        "iql_expectile_loss": expectiles.expectile_loss,
        "update_q": expectiles.step_of_q,
        "update_v": expectiles.step_of_v,
        "compute_advantage": partial(actors.advantage, on_actor=False),
        "update_actor": actors.step_of_actor,
        "update": updating.update,
    },
}


def check_agent(
    algorithm: str, classes: Mapping[str, type], methods: Collection[str] = ()
) -> list[Item]:
    """Try the methods of one agent.

    Args:
        algorithm: The agent's algorithm, such as `dqn`.
        classes: The classes by algorithm; CQL is compared with DQN.
        methods: The methods to try; by default all.
    """

    def subject(name: str) -> Subject:
        return Subject(name, classes[name], np.random.default_rng(_SEED))

    state, texts = judged(partial(_construction, subject(algorithm)), "")
    if state is not State.FINE:
        return [Item(f"{algorithm}_agent.py", f"{CLASSES[algorithm]}.__init__", state, texts)]
    checks = dict(_CHECKS.get(algorithm, {}))
    if algorithm == "cql":
        checks["compute_critic_loss"] = partial(critics.loss_of_cql, parent=subject("dqn"))
    if algorithm == "rnd":
        checks["update"] = _both(bonus.update_with_bonus, updating.update)
    items: list[Item] = []
    for method, check in checks.items():
        if methods and method not in methods:
            continue
        if method in _OPTIONAL_HELPERS and not hasattr(classes[algorithm], method):
            continue
        items.append(_item(algorithm, method, partial(check, subject(algorithm)), items))
    return items


def _construction(subject: Subject) -> Iterator[str]:
    """Yield a complaint for each network without an optimiser."""
    roles = subject.build().roles()
    for kind in sorted({role.partition("/")[0] for role in roles}):
        if f"{kind}/online" not in roles:
            yield f"no optimiser has the parameters of the {kind} network; check its arguments"


def _both(*checks: Check) -> Check:
    def check(subject: Subject) -> Iterator[str]:
        for one in checks:
            yield from one(subject)

    return check


def _item(
    algorithm: str, method: str, check: Callable[[], Iterator[str]], before: Sequence[Item]
) -> Item:
    file, name = f"{algorithm}_agent.py", f"{CLASSES[algorithm]}.{method}"
    state, texts = judged(check, name)
    reported = {text for item in before for text in item.texts}
    if state is State.LOOK and reported.intersection(texts):
        texts = ("a method that it calls fails; see above",)
    return Item(file, name, state, texts)


def judged(check: Callable[[], Iterator[str]], method: str) -> tuple[State, tuple[str, ...]]:
    """Run one check; an error becomes a text, except if the method itself is not written."""
    texts: list[str] = []
    try:
        texts += check()
    except NotWrittenYetError as error:
        return State.UNWRITTEN, () if error.method == method else (str(error),)
    except StoppedError as error:
        texts.append(str(error))
    except _UNREADABLE as error:
        texts.append(
            f"its results cannot be read ({type(error).__name__}: {error}); check what it "
            "returns, and try it by hand"
        )
    return (State.LOOK if texts else State.FINE), tuple(dict.fromkeys(texts))
