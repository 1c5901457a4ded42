"""What agents carry through an episode when they act on more than the current observation.

An agent whose policy also depends on the rewards received so far, say, returns a `Context` from
`make_context`. Whoever runs episodes asks it for the inputs of the policy, tells it what happened,
and so need not know what it keeps. It starts anew with every episode.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class Context(Protocol):
    """What one agent carries through n episodes side by side."""

    follows_rewards_alone: bool
    """Whether it depends on nothing but the rewards so far. Where these are known in advance, as
    in a maze until the goal, the policy at each step of an episode is then known, too."""

    def inputs(self, observations: Array) -> Array:
        """Return what the policy acts on `(n, *input_shape)` at observations `(n, ...)`."""
        ...

    def record(self, observations: Array, actions: Array, rewards: Array, ended: Array) -> None:
        """Take note of one step of all episodes, each argument `(n, ...)`; restart ended ones."""
        ...

    def get_state(self) -> dict[str, Any]:
        """Return everything that the future depends on."""
        ...

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore a state that `get_state` returned."""
        ...


def context_of(agent: Any, episodes: int) -> Context | None:
    """Return a new context of an agent for so many episodes, or None if it needs none."""
    make = getattr(agent, "make_context", None)  # a student's agent lacks the method
    context: Context | None = make(episodes) if callable(make) else None
    return context


class Contexts:
    """The contexts of S agents of one class, each with n episodes.

    Args:
        agents: The agents.
        episodes: n.
    """

    def __init__(self, agents: Sequence[Any], episodes: int) -> None:
        made = [context_of(agent, episodes) for agent in agents]
        self._contexts = [context for context in made if context is not None]

    def __bool__(self) -> bool:
        """Return whether the agents have contexts."""
        return bool(self._contexts)

    def inputs(self, observations: Array) -> Array:
        """Return what the policies act on `(S, n, ...)` at observations `(S, n, ...)`."""
        if not self._contexts:
            return observations
        pairs = zip(self._contexts, observations, strict=True)
        return np.stack([context.inputs(own) for context, own in pairs])

    def record(self, observations: Array, actions: Array, rewards: Array, ended: Array) -> None:
        """Take note of one step of all episodes, each argument `(S, n, ...)`."""
        for run, context in enumerate(self._contexts):
            context.record(observations[run], actions[run], rewards[run], ended[run])

    def get_state(self) -> list[dict[str, Any]]:
        """Return everything that the future depends on."""
        return [context.get_state() for context in self._contexts]

    def set_state(self, state: Sequence[dict[str, Any]]) -> None:
        """Restore a state that `get_state` returned for as many agents."""
        for context, own in zip(self._contexts, state, strict=True):
            context.set_state(own)
