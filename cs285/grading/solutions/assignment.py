"""The six agent files that the handout asks for, and what the checks of each need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from cs285.probing.classes import CLASSES, MAKERS


@dataclass(frozen=True)
class AgentFile:
    """One of the files."""

    algorithm: str
    judge: str
    """`module.Class` in `solutions/judges`; imported by name, since judges import PyTorch."""
    parents: tuple[str, ...] = ()
    """Algorithms whose classes it inherits from."""

    @property
    def class_name(self) -> str:
        """The name of its class."""
        return CLASSES[self.algorithm]

    @property
    def makers(self) -> tuple[str, ...]:
        """Arguments of its constructor that make networks and optimisers."""
        return MAKERS[self.algorithm]

    @property
    def module(self) -> str:
        """The name of its module in `cs285/agents`."""
        return f"{self.algorithm}_agent"

    @property
    def file(self) -> str:
        """The name of the file."""
        return f"{self.module}.py"


AGENTS: Mapping[str, AgentFile] = MappingProxyType(
    {
        agent.algorithm: agent
        for agent in (
            AgentFile("random", "actions.RandomJudge"),
            AgentFile("rnd", "bonus.RNDJudge", ("dqn",)),
            AgentFile("dqn", "critics.DQNJudge"),
            AgentFile("cql", "critics.CQLJudge", ("dqn",)),
            AgentFile("awac", "actors.AWACJudge", ("dqn",)),
            AgentFile("iql", "expectiles.IQLJudge", ("awac", "dqn")),
        )
    }
)
"""The files by algorithm, in the order of the handout."""
AGENT_FILES = tuple(agent.file for agent in AGENTS.values())
