"""The policies of finished runs, as functions of observations."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from cs285.env_configs import load_config
from cs285.envs.tasks import Task, get_task
from cs285.infrastructure import pytorch_util as ptu
from cs285.infrastructure.errors import UserError
from cs285.learning import student_code
from cs285.learning.contexts import context_of
from cs285.results.run_folders import RunFolder
from cs285.training.run_results import load_run
from cs285.training.runs import make_agent

FORMER_NETWORKS = ("target_critic.",)
"""Networks that version 1.0 saved with agents that never read them."""


class Policy:
    """Action probabilities of one agent.

    Args:
        agent: The agent.
        task: Its environment.
        epsilon: Exploration, as in training; 0 gives the policy of evaluations.
    """

    def __init__(self, agent: Any, task: Task, epsilon: float = 0.0) -> None:
        self.agent = agent
        self.task = task
        self.epsilon = epsilon

    @cached_property
    def has_probabilities(self) -> bool:
        """Whether the agent gives its probabilities; others can only choose one action."""
        if not _has_probabilities(self.agent):
            return False
        observation = np.zeros((1, *self.task.observation_shape), np.float32)
        context = context_of(self.agent, 1)
        inputs = ptu.from_numpy(observation if context is None else context.inputs(observation))
        try:
            self.agent.action_probabilities(inputs, torch.tensor(0.0, device=ptu.device))
        except NotImplementedError:  # optional in a starter
            return False
        except Exception:  # noqa: BLE001 - whoever asks for probabilities gets the error
            return True
        return True

    @cached_property
    def has_values(self) -> bool:
        """Whether the agent estimates the values of actions."""
        observation = np.zeros((1, *self.task.observation_shape), np.float32)
        try:
            found = self.action_values(observation)
        except Exception:  # noqa: BLE001 - a student's agent may keep anything under this name
            return False
        return bool(found.shape == (1, self.task.num_actions))

    @torch.no_grad()
    def action_values(self, observations: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Return the agent's own estimates of Q `(n, num_actions)` at n observations.

        Only for agents that have such estimates: `has_values`. A student's agent may lack the
        method; its network is called `critic`, as the homework has it.
        """
        inputs = ptu.from_numpy(np.asarray(observations, dtype=np.float32))
        try:
            estimates = self.agent.action_values(inputs)
        except (AttributeError, NotImplementedError):  # optional in a starter
            estimates = self.agent.critic(inputs)
        found: npt.NDArray[np.float32] = ptu.to_numpy(estimates)
        return found

    @cached_property
    def changes(self) -> bool:
        """Whether the policy changes during an episode, because its agent has a context."""
        return context_of(self.agent, 1) is not None

    def at_step(self, step: int) -> Callable[[npt.ArrayLike], npt.NDArray[np.float32]]:
        """Return the policy at a step of an episode, counted from 0, as a function like this one.

        Raises:
            ValueError: If it depends on more than the rewards so far, or these are not known.
        """
        reward, context = self.task.step_reward, context_of(self.agent, 1)
        if context is not None and step and (reward is None or not context.follows_rewards_alone):
            raise ValueError("the policy at a step depends on what happened before")

        def probabilities(observations: npt.ArrayLike) -> npt.NDArray[np.float32]:
            return self._probabilities(np.asarray(observations, dtype=np.float32), step)

        return probabilities

    def __call__(self, observations: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Return pi(. | s) `(n, num_actions)` at observations `(n, *observation_shape)`.

        If the policy changes during an episode, this is the one of the first step.

        Raises:
            ValueError: If the observations have another shape.
        """
        return self._probabilities(np.asarray(observations, dtype=np.float32), 0)

    @torch.no_grad()
    def _probabilities(self, inputs: npt.NDArray[np.float32], step: int) -> npt.NDArray[np.float32]:
        if inputs.ndim == 0 or inputs.shape[1:] != self.task.observation_shape:
            expected = ", ".join(map(str, ("n", *self.task.observation_shape)))
            raise ValueError(f"observations must have the shape ({expected}), not {inputs.shape}")
        if (context := context_of(self.agent, len(inputs))) is not None:
            still = np.zeros(len(inputs))
            rewards = np.full(len(inputs), self.task.step_reward or 0.0)
            for _ in range(step):
                context.record(inputs, still, rewards, still > 0)
            inputs = context.inputs(inputs)
        if not self.has_probabilities:
            return self._chosen(inputs)
        epsilon = torch.tensor(self.epsilon, device=ptu.device)
        with student_code.reported():
            found = self.agent.action_probabilities(ptu.from_numpy(inputs), epsilon)
        probabilities: npt.NDArray[np.float32] = ptu.to_numpy(found)
        return probabilities

    def _chosen(self, observations: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return probability 1 for the actions of an agent that can only choose one at a time."""
        probabilities = np.zeros((len(observations), self.task.num_actions), np.float32)
        with student_code.reported():
            for row, observation in zip(probabilities, observations, strict=True):
                row[student_code.get_action(self.agent, observation, self.epsilon)] = 1.0
        return probabilities

    def __repr__(self) -> str:
        return f"<policy of {type(self.agent).__name__} in {self.task.env_id}>"


def _has_probabilities(agent: Any) -> bool:
    """Return whether an agent acts according to its `action_probabilities`.

    A student's class may override only `get_action` of a class here that defines both.
    """
    for own in map(vars, type(agent).__mro__):
        if "action_probabilities" in own or "get_action" in own:
            return "action_probabilities" in own
    return False


def load_policy(path: str | PathLike[str], *, epsilon: float = 0.0) -> Policy:
    """Return the policy that a run has learned.

    Args:
        path: The run folder, or its `agent.pt`; `config.yaml` must be next to it.
        epsilon: Exploration, as in training. At 0 it is the policy of evaluations: DQN and CQL take
            the best action, AWAC and IQL the most probable action of their actor.

    Returns:
        A function from observations `(n, *observation_shape)` to action probabilities
        `(n, num_actions)`, both NumPy arrays.

    Raises:
        UserError: If the run has saved no agent, or its settings and weights do not match.
    """
    if not 0 <= epsilon <= 1:
        raise UserError(f"`epsilon` must be from 0 to 1, not {epsilon}")
    given = Path(path)
    folder = RunFolder(given if given.is_dir() else given.parent)
    config = load_config(folder.config, load_run(folder.path).stage)
    agent = make_agent(config)
    weights = folder.weights if given.is_dir() else given
    if isinstance(agent, torch.nn.Module):
        agent.eval()
        if agent.state_dict() or weights.exists():
            _load_weights(agent, weights)
    return Policy(agent, get_task(config.env_name), epsilon)


def _load_weights(agent: torch.nn.Module, path: Path) -> None:
    if not path.is_file():
        raise UserError(f"there is no {path}; a run saves its agent when it finishes")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # Damaged files make PyTorch raise errors of many kinds.
        raise UserError(f"{path} cannot be read: it is damaged, or not an agent") from error
    try:
        known = agent.state_dict()
        agent.load_state_dict(
            {k: x for k, x in state.items() if k in known or not k.startswith(FORMER_NETWORKS)}
        )
    except (RuntimeError, AttributeError, TypeError) as error:
        raise UserError(
            f"the weights in {path} do not fit the agent in the config.yaml next to it: "
            + " ".join(str(error).split())
        ) from error
