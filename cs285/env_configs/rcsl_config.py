"""Return-conditioned supervised learning."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import numpy as np

from cs285.env_configs.base_config import PolicyConfig
from cs285.envs.tasks import InputBounds, get_task
from cs285.homework import Stage, register
from cs285.infrastructure.errors import UserError


@register(
    "rcsl",
    title="RCSL",
    colour="#4E4E94",
    stages={Stage.OFFLINE, Stage.FINETUNE},
    tags=("actor_loss",),
    order=16,
)
class RCSLConfig(PolicyConfig):
    """An actor, and the return that it should get."""

    per_run: ClassVar[frozenset[str]] = PolicyConfig.per_run | {"target_return"}

    base_config: Literal["rcsl"]

    target_return: float | None = None
    """Return of an episode that the policy is asked for. Null: the best expected return, where it
    is known; elsewhere there is no default."""

    @property
    def return_bounds(self) -> tuple[float, float]:
        """The lowest and highest return that an episode can have; a guess where unknown."""
        task = get_task(self.env_name)
        limit = float(task.max_episode_steps)
        return task.return_bounds or (-limit, limit)

    def make_agent(self, observation_shape: tuple[int, ...], num_actions: int) -> Any:
        """Build an `RCSLAgent`."""
        from cs285.agents.rcsl_agent import RCSLAgent
        from cs285.networks.mlp_policy import MLPPolicy

        low, high = self.return_bounds
        bounds = self.input_bounds or InputBounds(
            np.zeros(observation_shape), np.ones(observation_shape)
        )
        with_return = InputBounds(np.append(bounds.low, low), np.append(bounds.high, high))

        def make_actor(input_shape: tuple[int, ...], num_actions: int) -> MLPPolicy:
            return MLPPolicy(
                num_actions,
                math.prod(input_shape),
                discrete=True,
                n_layers=self.actor_num_layers,
                layer_size=self.actor_hidden_size,
                input_scale=self.input_scale,
                input_bounds=with_return,
            )

        return RCSLAgent(
            observation_shape,
            num_actions,
            target_return=self._checked_target(),
            clip_grad_norm=self.clip_grad_norm,
            **self.policy_arguments() | {"make_actor": make_actor},
        )

    def _checked_target(self) -> float:
        task = get_task(self.env_name)
        if self.target_return is not None:
            low, high = task.return_bounds or (-math.inf, math.inf)
            if not low <= self.target_return <= high:
                raise UserError(
                    f"{self.exp_name}: `target_return: {self.target_return:g}` is outside what an "
                    f"episode of {self.env_name} can return; choose one from {low:g} to {high:g}"
                )
            return self.target_return
        reference = task.reference()
        if reference is None:
            raise UserError(
                f"`rcsl` needs a `target_return` in {self.env_name}, whose best one is not known"
            )
        return reference.optimal_return
