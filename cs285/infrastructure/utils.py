"""Trajectories of one agent in one environment, with the names that the homework's files import.

Training here does not use them, because it acts in many environments at once. The environments are
Gymnasium's. A trajectory is a dict of arrays, one row per step: `observation`, `action`, `reward`,
`next_observation`, `terminal` (True at the last step, whether the episode terminated there or was
truncated) and `image_obs` (pictures, if requested); `episode_statistics` holds its length `l` and
its return `r`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Trajectory = dict[str, Any]


def sample_trajectory(
    env: Any,
    policy: Any,
    max_length: int,
    render: bool = False,  # noqa: FBT001, FBT002 - the homework's signature
) -> Trajectory:
    """Play one episode.

    Args:
        env: A Gymnasium environment.
        policy: Its `get_action(observation)` chooses the actions.
        max_length: Steps after which the trajectory is truncated.
        render: Whether to keep what `env.render()` returns before every step.
    """
    observation, _ = env.reset()
    names = ("observation", "action", "reward", "next_observation", "terminal", "image_obs")
    rows: dict[str, list[Any]] = {name: [] for name in names}
    is_over = False
    while not is_over:
        if render:
            rows["image_obs"].append(env.render())
        action = policy.get_action(observation)
        next_observation, reward, terminated, truncated, _ = env.step(action)
        is_over = bool(terminated or truncated or len(rows["reward"]) + 1 >= max_length)
        step = (observation, action, reward, next_observation, is_over)
        for name, value in zip(names, step, strict=False):
            rows[name].append(value)
        observation = next_observation
    types = {"image_obs": np.uint8, "terminal": np.bool_, "action": None}
    arrays = {k: np.array(values, types.get(k, np.float32)) for k, values in rows.items()}
    statistics = {"l": len(rows["reward"]), "r": float(np.sum(rows["reward"]))}
    return {**arrays, "episode_statistics": statistics}


def sample_trajectories(
    env: Any,
    policy: Any,
    min_timesteps_per_batch: int,
    max_length: int,
    render: bool = False,  # noqa: FBT001, FBT002 - the homework's signature
) -> tuple[list[Trajectory], int]:
    """Play episodes until they have at least this many steps; return them and their total steps."""
    trajectories: list[Trajectory] = []
    steps = 0
    while steps < min_timesteps_per_batch:
        trajectories.append(sample_trajectory(env, policy, max_length, render))
        steps += get_traj_length(trajectories[-1])
    return trajectories, steps


def sample_n_trajectories(
    env: Any,
    policy: Any,
    ntraj: int,
    max_length: int,
    render: bool = False,  # noqa: FBT001, FBT002 - the homework's signature
) -> list[Trajectory]:
    """Play this many episodes."""
    return [sample_trajectory(env, policy, max_length, render) for _ in range(ntraj)]


def compute_trajectory_metrics(
    trajs: Sequence[Trajectory], eval_trajs: Sequence[Trajectory]
) -> dict[str, float]:
    """Return mean, standard deviation and extremes of returns, and mean lengths, by log tag."""
    logs: dict[str, float] = {}
    for prefix, group in (("Eval", eval_trajs), ("Train", trajs)):
        returns = [float(np.sum(trajectory["reward"])) for trajectory in group]
        logs |= {
            f"{prefix}_AverageReturn": float(np.mean(returns)),
            f"{prefix}_StdReturn": float(np.std(returns)),
            f"{prefix}_MaxReturn": max(returns),
            f"{prefix}_MinReturn": min(returns),
            f"{prefix}_AverageEpLen": float(np.mean(list(map(get_traj_length, group)))),
        }
    return logs


def convert_listofrollouts(trajs: Sequence[Trajectory]) -> tuple[Any, ...]:
    """Join trajectories.

    Returns:
        The observations, actions, next observations, terminals and rewards of all steps, one array
        each, and the rewards again as a list with one array per trajectory.
    """
    names = ("observation", "action", "next_observation", "terminal", "reward")
    joined = (np.concatenate([trajectory[name] for trajectory in trajs]) for name in names)
    return (*joined, [trajectory["reward"] for trajectory in trajs])


def get_traj_length(traj: Trajectory) -> int:
    """Return the number of steps of a trajectory."""
    return len(traj["reward"])
