"""Solutions in one style with some mistakes, and the truth about every method."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tests.solutions.generator.actor_files import awac_file, iql_file
from tests.solutions.generator.mistakes import Mistake
from tests.solutions.generator.q_files import cql_file, dqn_file, random_file
from tests.solutions.generator.rnd_file import rnd_file
from tests.solutions.generator.styles import Style
from tests.solutions.generator.writing import HELPER_MODULE, Writer, helper_module

FILES: dict[str, Callable[[Writer], str]] = {
    "random": random_file,
    "dqn": dqn_file,
    "cql": cql_file,
    "awac": awac_file,
    "iql": iql_file,
    "rnd": rnd_file,
}

MATTERS: dict[str, tuple[str, ...]] = {
    "random": ("random_draw",),
    "dqn": (
        *("td_shape", "gradient", "pick", "squares", "mask", "bootstrap", "max", "double"),
        *("helpers", "greedy", "targets", "copy"),
    ),
    "cql": ("cql_base", "lse", "cql_temperature", "td_shape", "gradient", "squares", "mask"),
    "awac": (
        *("td_shape", "gradient", "pick", "squares", "mask", "bootstrap", "expectation"),
        *("awac_next", "baseline", "advantage_gradient", "log_prob", "exponential"),
        *("actor_mean", "advantage_use", "actor_acts", "context"),
    ),
    "iql": (
        *("v_shape", "v_target", "v_regresses", "expectile", "iql_actor", "advantage_use"),
        *("advantage_gradient", "gradient", "pick", "squares", "mask", "context", "targets"),
    ),
    "rnd": ("rnd_error", "rnd_scale", "rnd_state", "rnd_rewards", "rnd_step", "rnd_order"),
}
"""The choices that change what is computed in a file; the others change only how it looks."""


@dataclass(frozen=True)
class Combination:
    """A solution: a style, and at most one mistake in each method."""

    style: Style
    mistakes: tuple[Mistake, ...] = ()

    def text(self, agent: str) -> str:
        """Return one file."""
        wrong = {one.method: one.kind for one in self.mistakes if one.agent == agent}
        return FILES[agent](Writer(agent, self.style, wrong))

    def files(self, agents: Iterable[str] = FILES) -> dict[str, str]:
        """Return the text of some files, and of the student's module of helpers if there is one."""
        files = {f"{agent}_agent.py": self.text(agent) for agent in agents}
        if self.style["helpers"] == "module":
            files[f"{HELPER_MODULE}.py"] = helper_module(self.style)
        return files

    def mistakes_in(self, agent: str) -> tuple[Mistake, ...]:
        """Return the mistakes in one file."""
        return tuple(one for one in self.mistakes if one.agent == agent)

    @property
    def name(self) -> str:
        """The mistakes, for a table."""
        return " and ".join(one.name for one in self.mistakes) or "right"


def changes_text(style: Style, mistake: Mistake) -> bool:
    """Return whether a mistake can be made in a style at all."""
    style = style.changed(asserts="no")  # these are left out where a mistake would break them
    right, wrong = Combination(style), Combination(style, (mistake,))
    return right.text(mistake.agent) != wrong.text(mistake.agent)
