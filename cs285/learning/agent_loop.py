"""A learner that loops over agents of any kind.

It is for agents that cannot be stacked, such as those written against the homework's starter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from cs285.infrastructure import pytorch_util as ptu
from cs285.learning import agent_state, student_code
from cs285.learning.agent import Agent
from cs285.learning.objective import Batch, Tensors
from cs285.learning.replay_buffer import look_up


class AgentLoop:
    """S agents, each of which updates itself."""

    def __init__(self, agents: Sequence[Any]) -> None:
        self.agents = list(agents)
        self._born = list(map(agent_state.outline, self.agents))

    def act(
        self, observations: np.ndarray, epsilon: np.ndarray, uniforms: np.ndarray
    ) -> np.ndarray:
        """See `Learner.act`; the agents draw their own numbers."""
        del uniforms
        return np.array(
            [
                [student_code.get_action(agent, observation, float(e)) for observation in row]
                for agent, row, e in zip(self.agents, observations, epsilon, strict=True)
            ]
        )

    def learn(self, columns: Mapping[str, torch.Tensor], rows: np.ndarray, step: int) -> Tensors:
        """See `Learner.learn`."""
        metrics: Tensors = {}
        for k in range(len(rows)):
            metrics |= self.update(look_up(columns, rows[k]), step + k)
        return metrics

    def update(self, batch: Batch | Mapping[str, torch.Tensor], step: int) -> Tensors:
        """Take one update on a batch with columns `(S, batch, ...)`."""
        columns = batch._asdict() if isinstance(batch, Batch) else batch
        results = [
            _update(agent, {name: column[run] for name, column in columns.items()}, step)
            for run, agent in enumerate(self.agents)
        ]
        return {
            tag: torch.stack(
                [
                    student_code.scalar(agent, tag, own[tag], ptu.device)
                    for agent, own in zip(self.agents, results, strict=True)
                ]
            )
            for tag in results[0]
        }

    def sync_agents(self) -> None:
        """Do nothing: the agents hold their own state."""

    def begin_phase(self, name: str) -> None:
        """See `Learner.begin_phase`."""
        for agent in self.agents:
            begin = getattr(agent, "begin_phase", None)  # a student's agent may lack this method
            if callable(begin):
                begin(name)

    def get_state(self) -> dict[str, Any]:
        """See `Learner.get_state`."""
        return {"agents": list(map(agent_state.get_state, self.agents, self._born))}

    def set_state(self, state: dict[str, Any]) -> None:
        """See `Learner.set_state`."""
        for agent, own in zip(self.agents, state["agents"], strict=True):
            agent_state.set_state(agent, own)

    def state_of(self, run: int) -> dict[str, Any]:
        """See `Learner.state_of`."""
        return agent_state.get_state(self.agents[run])


def _update(agent: Any, batch: Mapping[str, torch.Tensor], step: int) -> Mapping[str, Any]:
    """Let an agent learn from a batch: from all columns if it supports them."""
    learn_from = getattr(type(agent), "learn_from", Agent.learn_from)
    knows_columns = getattr(getattr(agent, "update", None), "__func__", None) is Agent.update
    if knows_columns or learn_from is not Agent.learn_from:
        learned: Mapping[str, Any] = agent.learn_from(batch, step)
        return learned
    return student_code.update(agent, (*(batch[name] for name in Batch._fields), step))
