"""The six agent files that the handout asks for, and what is needed to check each of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

_CRITIC = ("make_critic", "make_optimizer", "make_lr_schedule")
_ACTOR = (*_CRITIC, "make_actor", "make_actor_optimizer")
_VALUE = (*_ACTOR, "make_value_critic", "make_value_critic_optimizer")
_RND = (
    *_CRITIC,
    "make_rnd_network",
    "make_rnd_network_optimizer",
    "make_target_rnd_network",
)


@dataclass(frozen=True)
class AgentFile:
    """One of the files."""

    algorithm: str
    class_name: str
    judge: str
    """`module.Class` in `solutions/judges`; imported by name, since judges import PyTorch."""
    makers: tuple[str, ...] = ()
    """Arguments of its constructor that make networks and optimisers."""
    parents: tuple[str, ...] = ()
    """Algorithms whose classes it builds on."""

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
            AgentFile("random", "RandomAgent", "actions.RandomJudge"),
            AgentFile("rnd", "RNDAgent", "bonus.RNDJudge", _RND, ("dqn",)),
            AgentFile("dqn", "DQNAgent", "critics.DQNJudge", _CRITIC),
            AgentFile("cql", "CQLAgent", "critics.CQLJudge", _CRITIC, ("dqn",)),
            AgentFile("awac", "AWACAgent", "actors.AWACJudge", _ACTOR, ("dqn",)),
            AgentFile("iql", "IQLAgent", "expectiles.IQLJudge", _VALUE, ("awac", "dqn")),
        )
    }
)
"""The files by the name of their algorithm, in the order of the handout."""
AGENT_FILES = tuple(agent.file for agent in AGENTS.values())
