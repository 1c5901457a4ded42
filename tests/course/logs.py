"""Logs like those of real runs with other seeds, computers and times."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import yaml
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary

from cs285.envs.mazes import MAZES
from cs285.envs.planner import plan
from cs285.results.event_files import Curve, final_return_of
from tests.hand_ins import write_events

STEPS = ("total_steps", "training_steps", "offline_steps", "online_steps")
KEPT = {"phase", "dataset_transitions", "eval/episodes", "epsilon"}
"""Tags that have the same values in all runs of a kind."""
PICTURE = "exploration_trajectories_eval"


@dataclass(frozen=True)
class Base:
    """A real run, with its steps stretched to the number that the handout asks for."""

    stage: str
    config: Mapping[str, object]
    events: tuple[tuple[int, Mapping[str, float]], ...]
    """Steps, and the values that were logged together."""
    seconds: tuple[float, ...]
    """Between each event and the one before."""
    picture: bytes = b""

    @property
    def total(self) -> int:
        """The number of steps in all."""
        return sum(int(self.config.get(name, 0)) for name in STEPS)


def read_base(folder: Path, scale: int) -> Base:
    """Read a run that took a fraction of its steps, one in `scale`."""
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    config |= {name: config[name] * scale for name in STEPS if name in config}
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    events, times, picture = [], [], b""
    (path,) = folder.glob("*tfevents*")
    for record in RawEventFileLoader(str(path)).Load():
        event = Event.FromString(record)
        for entry in event.summary.value:
            if entry.tag == PICTURE:
                picture = entry.image.encoded_image_string
        values = {
            entry.tag: entry.simple_value * (scale if entry.tag == "dataset_transitions" else 1)
            for entry in event.summary.value
            if entry.WhichOneof("value") == "simple_value" and not entry.tag.startswith("train_")
        }
        if values:
            step = event.step if event.step == 1 else event.step * scale
            events.append((step, values))
            times.append(event.wall_time)
    seconds = np.maximum(np.diff(times, prepend=times[0]), 1e-3).tolist()
    return Base(summary["script"], config, tuple(events), tuple(seconds), picture)


@dataclass(frozen=True)
class CourseRun:
    """A run of a student."""

    base: Base
    events: tuple[tuple[int, Mapping[str, float]], ...]
    times: tuple[float, ...]
    """Seconds since 1970, of every event."""
    host: str
    process: int
    seed: int = 1
    folder_time: float = 0.0
    """When its folder was created; 0 for just before the first event."""

    @property
    def name(self) -> str:
        """The name of its folder."""
        when = datetime.fromtimestamp(self.folder_time or self.times[0] - 0.7, UTC)
        config = self.base.config
        bare = f"hw5_{self.base.stage}_{config['exp_name']}_sd{self.seed}"
        return f"{question_of(self.base)}_{bare}_{when:%Y-%m-%d_%H-%M-%S}"

    def write(self, data: Path) -> None:
        """Write its folder below `data`."""
        folder = data / self.name
        folder.mkdir(parents=True)
        begins = self.times[0] - 0.01
        events = [(begins, Event(wall_time=begins, file_version="brain.Event:2"))]
        for time, (step, values) in zip(self.times, self.events, strict=True):
            entries = [Summary.Value(tag=tag, simple_value=v) for tag, v in values.items()]
            event = Event(wall_time=time, step=step, summary=Summary(value=entries))
            events.append((time, event))
        if self.base.picture:
            image = Summary.Image(height=1, width=1, encoded_image_string=self.base.picture)
            summary = Summary(value=[Summary.Value(tag=PICTURE, image=image)])
            last = self.times[-1] + 0.2
            events.append((last, Event(wall_time=last, step=self.base.total, summary=summary)))
        name = f"events.out.tfevents.{int(begins)}.{self.host}.{self.process}.0"
        write_events(folder / name, events)
        config = {**self.base.config, "seed": self.seed}
        (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
        (folder / "summary.json").write_text(json.dumps(self._summary()), encoding="utf-8")

    def _summary(self) -> dict[str, object]:
        curves = {}
        for tag in dict.fromkeys(tag for _, values in self.events for tag in values):
            points = [(step, values[tag]) for step, values in self.events if tag in values]
            steps, numbers = zip(*points, strict=True)
            curves[tag] = Curve(np.array(steps), np.array(numbers, np.float32).astype(float))
        config = self.base.config
        summary: dict[str, object] = {
            "script": self.base.stage,
            "exp_name": config["exp_name"],
            "env_name": config["env_name"],
            "algorithm": config["base_config"],
            "seed": self.seed,
            "status": "finished",
            "final_return": final_return_of(curves),
            "best_return": float(curves["eval_return"].values.max()),
            "wall_time_s": self.times[-1] - self.times[0] + 0.0123,
            "total_steps": self.base.total,
            "started": datetime.fromtimestamp(self.times[0] - 0.5, UTC).isoformat(),
        }
        if "coverage" in curves:
            summary |= {
                "coverage": curves["coverage"].last,
                "goals_reached": int(curves["goals_reached"].last),
            }
        return summary


def question_of(base: Base) -> str:
    """Return the question that a run answers."""
    name = str(base.config["exp_name"])
    if base.stage == "finetune":
        return "q5"
    if any(size in name for size in ("1000", "5000", "20000")):
        return "q4"
    if base.stage == "explore":
        return "q1"
    return "q3" if base.config["base_config"] in {"awac", "iql"} else "q2"


def other_seed(base: Base, rng: np.random.Generator) -> tuple[tuple[int, dict[str, float]], ...]:
    """Return the events of the run with another seed: other episodes, and losses with noise."""
    walk: dict[str, float] = {}
    final, middle = rng.beta(9, 1.2), rng.uniform(0.1, 0.5)
    events = []
    most: dict[str, float] = {}
    for step, values in base.events:
        new = {}
        for tag, value in values.items():
            walk[tag] = 0.7 * walk.get(tag, 0.0) + 0.12 * rng.standard_normal()
            new[tag] = value if tag in KEPT else value * np.exp(walk[tag])
        if "eval_return" in values:
            chance = 0.02
            if base.stage != "explore":
                chance = final / (1 + np.exp(-12 * (step / base.total - middle)))
            new |= _evaluate(base, rng, chance, int(values.get("eval/episodes", 20)))
        if "coverage" in values:
            most["coverage"] = max(most.get("coverage", 0.0), min(1.0, new["coverage"]))
            goals = float(rng.poisson(values["goals_reached"]))
            most["goals_reached"] = max(most.get("goals_reached", 0.0), goals)
            new |= most
        events.append((step, {tag: float(np.float32(value)) for tag, value in new.items()}))
    online = {"explore": 0, "offline": base.total, "finetune": base.total // 2}[base.stage]
    events += _episodes(base, rng, online)
    return tuple(sorted(events, key=lambda event: event[0]))


def _play(
    base: Base, rng: np.random.Generator, chance: float, count: int
) -> tuple[np.ndarray, np.ndarray]:
    env_id = str(base.config["env_name"])
    limit = MAZES[env_id].max_episode_steps
    shortest = round(-plan(env_id).optimal_return) + 1
    lengths = rng.integers(shortest, min(shortest + 8, limit), count)
    failed = rng.random(count) >= chance
    lengths[failed] = limit
    return np.where(failed, -limit, 1 - lengths), lengths


def _evaluate(base: Base, rng: np.random.Generator, chance: float, count: int) -> dict[str, float]:
    returns, lengths = _play(base, rng, chance, count)
    best = plan(str(base.config["env_name"]))
    found = {
        "eval_return": returns.mean(),
        "eval_ep_len": lengths.mean(),
        "eval/normalised_score": (returns.mean() - best.random_return)
        / (best.optimal_return - best.random_return),
    }
    for name, numbers in (("return", returns), ("ep_len", lengths)):
        found |= {
            f"eval/{name}_{which}": getattr(numbers, which)() for which in ("std", "max", "min")
        }
    return found


def _episodes(
    base: Base, rng: np.random.Generator, step: int
) -> list[tuple[int, dict[str, float]]]:
    events = []
    while step < base.total:
        (gained,), (length,) = _play(base, rng, 0.15, 1)
        step += int(length)
        if step <= base.total:
            events.append((step, {"train_return": float(gained), "train_ep_len": float(length)}))
    return events[:: max(1, len(events) // 100)]


def own_times(
    base: Base,
    events: tuple[tuple[int, Mapping[str, float]], ...],
    rng: np.random.Generator,
    begins: float,
) -> tuple[float, ...]:
    """Return the times of a run on another computer: slower or faster, and never regular."""
    known = {step: seconds for (step, _), seconds in zip(base.events, base.seconds, strict=True)}
    pace = rng.lognormal(0, 0.5)
    usual = float(np.median(base.seconds))
    between = np.array([known.get(step, 0.1 * usual) for step, _ in events])
    between *= pace * rng.lognormal(0, 0.2, len(events))
    between[rng.random(len(events)) < 0.01] += 3 * usual  # something else ran
    return tuple((begins + 1.0 + np.cumsum(between)).tolist())


HOSTS = ("DESKTOP-{}", "LAPTOP-{}", "{}s-MacBook-Pro.local", "{}-ThinkPad", "{}")


def own_host(rng: np.random.Generator) -> str:
    """Return the name of a computer; some names are common."""
    if rng.random() < 0.15:
        return str(rng.choice(["vm", "ubuntu", "localhost.localdomain"]))
    name = "".join(rng.choice(list("ABCDEFGHJKLMNPQRSTUVWXYZ0123456789"), 7))
    return str(rng.choice(HOSTS)).format(name)
