"""Pointmass gridworlds; importing this package registers them with Gymnasium."""

import gymnasium as gym

from cs285.envs.mazes import MAZES

for _maze in MAZES.values():
    if _maze.env_id not in gym.registry:
        gym.register(
            id=_maze.env_id,
            entry_point="cs285.envs.pointmass:PointmassEnv",
            vector_entry_point="cs285.envs.pointmass:PointmassVectorEnv",
            max_episode_steps=_maze.max_episode_steps,
            kwargs={"env_id": _maze.env_id},
        )
