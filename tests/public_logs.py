"""Logs as public versions of the homework write them, from episodes in the real mazes.

What these versions do differently: they have no `config.yaml`; evaluate 10 episodes every 10,000
steps, first at step 0; cut off their random agent at 100 steps in every maze; evaluate in the
environment that they train in, so that the first episode there begins anywhere and has no limit.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from gymnasium.vector import AutoresetMode
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary

from cs285.envs.mazes import MAZES
from cs285.envs.planner import plan
from cs285.envs.pointmass import PointmassVectorEnv
from cs285.results.tfrecords import pack_record

ENV_IDS = {maze.name: env_id for env_id, maze in MAZES.items()}
LONGEST = 400
EPISODES = 10
INTERVAL = 10_000
LOSSES = {
    "random": (),
    "rnd": ("critic_loss", "q_values", "target_values", "grad_norm", "rnd_loss"),
    "dqn": ("critic_loss", "q_values", "target_values", "grad_norm"),
    "cql": ("critic_loss", "q_values", "target_values", "grad_norm"),
    "awac": ("critic_loss", "q_values", "target_values", "grad_norm", "actor_loss"),
    "iql": ("q_loss", "q_values", "q_grad_norm", "v_loss", "vs_adv", "vs", "v_grad_norm",
            "target_values", "actor_loss"),
}  # fmt: skip
SETTINGS = {"rnd": "1.0", "cql": "0.1", "awac": "10.0", "iql": "0.9"}


class Entry(NamedTuple):
    """A value in a log."""

    step: int
    tag: str
    value: float | bytes
    wall_time: float


@lru_cache
def times_to_goal(env_id: str, skill: float) -> np.ndarray:
    """Steps to the goal of 100 episodes without a limit; infinite for more than `LONGEST`.

    Args:
        env_id: The maze.
        skill: Fraction of actions that are the best ones; the others are random.
    """
    lanes = 100
    env = PointmassVectorEnv(env_id, lanes, AutoresetMode.SAME_STEP, max_episode_steps=LONGEST)
    rng = np.random.default_rng(0)
    found = np.full(lanes, np.inf)
    maze, best = MAZES[env_id], plan(env_id)
    observations, _ = env.reset(seed=7)
    for step in range(1, LONGEST + 1):
        wise = best.actions(observations * maze.scale, 0)
        actions = np.where(rng.random(lanes) < skill, wise, rng.integers(5, size=lanes))
        observations, _, terminated, _, _ = env.step(actions.astype(np.int64))
        found[terminated & np.isinf(found)] = step
        if np.isfinite(found).all():
            break
    return found


class PublicRun:
    """A run of a public version, with the length used there unless `steps` says otherwise."""

    def __init__(
        self,
        stage: str,
        algorithm: str,
        maze: str,
        *,
        steps: int | None = None,
        start: int = 1_700_000_000,
        setting: str | None = None,
        episodes: int = EPISODES,
        log_interval: int = 4_000,
        seed: int = 0,
    ) -> None:
        self.stage, self.algorithm, self.maze = stage, algorithm, maze
        self.env_id = ENV_IDS[maze]
        self.start, self.seed = start, seed
        usual = {"explore": 10_000, "offline": 100_000, "finetune": 200_000}[stage]
        self.steps = steps or usual
        self.setting = SETTINGS.get(algorithm, "") if setting is None else setting
        self.episodes = episodes
        self.rng = np.random.default_rng([start % 1_000, seed])
        self.limit = MAZES[self.env_id].max_episode_steps
        if algorithm == "random":
            self.limit = 100
        interval = min(log_interval, 250) if stage == "explore" else log_interval
        self.entries = sorted(
            (*self._losses(interval), *self._evaluations(), *self._online(), *self._pictures()),
            key=lambda entry: entry.wall_time,
        )

    def _time(self, step: int) -> float:
        # A loop of about 1,000 steps a second, that begins after some seconds.
        return self.start + 3.0 + step / 900

    def _losses(self, interval: int) -> Iterator[Entry]:
        for step in range(0, self.steps, interval):
            for tag in LOSSES[self.algorithm]:
                value = float(self.rng.normal())
                yield Entry(step, tag, value, self._time(step))

    def play(self, skill: float, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns and lengths of some episodes."""
        times = self.rng.choice(times_to_goal(self.env_id, skill), count)
        lengths = np.minimum(times, self.limit)
        return np.where(times <= self.limit, 1 - lengths, -lengths), lengths

    def _evaluations(self) -> Iterator[Entry]:
        for step in range(0, self.steps, INTERVAL):
            learnt = step > 0 and self.algorithm != "random" and self.stage != "explore"
            returns, lengths = self.play(1.0 if learnt else 0.0, self.episodes)
            values = {"eval_return": returns.mean(), "eval_ep_len": lengths.mean()}
            if self.episodes > 1:
                for name, numbers in (("return", returns), ("ep_len", lengths)):
                    for which in ("std", "max", "min"):
                        values[f"eval/{name}_{which}"] = getattr(numbers, which)()
            for tag, value in values.items():
                yield Entry(step, tag, float(value), self._time(step) + 0.2)

    def _online(self) -> Iterator[Entry]:
        """The first episodes of training; the very first has no limit."""
        if self.stage == "offline":
            return
        step = 0 if self.stage == "explore" else self.steps // 2
        first = True
        for _ in range(60):
            skill = 0.0 if self.algorithm == "random" else 0.3
            time = float(self.rng.choice(times_to_goal(self.env_id, skill)))
            limit = np.inf if first and self.algorithm != "random" else self.limit
            length = min(time, limit)
            step += length
            if step >= self.steps:
                return
            gained = 1 - length if time <= limit else -length
            yield Entry(int(step), "train_return", gained, self._time(int(step)) + 0.1)
            yield Entry(int(step), "train_ep_len", length, self._time(int(step)) + 0.1)
            first = False

    def _pictures(self) -> Iterator[Entry]:
        tag = "exploration_trajectories_eval" if self.stage == "explore" else "trajectories_eval"
        for step in range(0, self.steps, 1_000 if self.stage == "explore" else INTERVAL):
            yield Entry(step, tag, b"picture", self._time(step) + 0.3)

    @property
    def name(self) -> str:
        """The name of its folder."""
        time = datetime.fromtimestamp(self.start, UTC)
        label = f"{self.algorithm}{self.setting}"
        return f"hw5_{self.stage}_{self.env_id}_{label}_{time:%d-%m-%Y_%H-%M-%S}"

    def write(self, data: Path, prefix: str = "") -> Path:
        """Write its folder below `data`, and return it."""
        folder = data / f"{prefix}{self.name}"
        folder.mkdir(parents=True)
        name = f"events.out.tfevents.{self.start + 2}.host"
        write_log(folder / name, self.entries, self.start + 2.0)
        return folder


def write_log(path: Path, entries: Iterable[Entry], begins: float) -> None:
    """Write an event file with one event per value."""
    records = [Event(wall_time=begins, file_version="brain.Event:2")]
    for step, tag, value, wall_time in entries:
        entry = (
            Summary.Value(tag=tag, image=Summary.Image(encoded_image_string=value))
            if isinstance(value, bytes)
            else Summary.Value(tag=tag, simple_value=value)
        )
        records.append(Event(wall_time=wall_time, step=step, summary=Summary(value=[entry])))
    path.write_bytes(b"".join(pack_record(record.SerializeToString()) for record in records))


Rewrite = Callable[[list[Entry]], list[Entry]]
LATER = 86_400.0 * 3


def every_tenth(entries: list[Entry]) -> list[Entry]:
    """Losses thinned, with their times."""
    return [
        entry for number, entry in enumerate(entries) if "eval" in entry.tag or number % 10 == 0
    ]


def at_once(entries: list[Entry]) -> list[Entry]:
    """Every tenth loss, written again three days later in a fraction of a second."""
    kept = every_tenth(entries)
    begins = entries[0].wall_time + LATER
    return [kept[k]._replace(wall_time=begins + 2e-5 * k) for k in range(len(kept))]


def tag_by_tag(entries: list[Entry]) -> list[Entry]:
    """One tag after the other, with their times."""
    return sorted(every_tenth(entries), key=lambda entry: entry.tag)
