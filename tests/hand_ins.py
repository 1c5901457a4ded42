"""Makes hand-ins with logs like those of real runs, for the tests of grading."""

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import yaml
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

import cs285
from cs285.envs.mazes import MAZES
from cs285.envs.planner import plan

ENV_IDS = {maze.name: env_id for env_id, maze in MAZES.items()}
START = 1_795_266_000
EPISODES = 20
LOSSES = {
    "random": (),
    "rnd": ("critic_loss", "q_values", "rnd_loss"),
    "dqn": ("critic_loss", "q_values", "target_values", "grad_norm"),
    "cql": ("critic_loss", "q_values", "target_values", "grad_norm"),
    "awac": ("critic_loss", "q_values", "actor_loss"),
    "iql": ("q_loss", "v_loss", "q_values", "critic_loss", "actor_loss"),
}


class Simulated:
    """A made-up run whose numbers are as consistent as those of a real one."""

    def __init__(
        self,
        stage,
        algorithm,
        maze,
        *,
        steps,
        seed=1,
        start=START,
        success=0.97,
        ours=True,
        **extra,
    ):
        self.stage, self.algorithm, self.maze, self.steps = stage, algorithm, maze, steps
        self.seed, self.start, self.ours, self.extra = seed, start, ours, extra
        self.success = success
        self.env_id = ENV_IDS[maze]
        self.limit = MAZES[self.env_id].max_episode_steps
        self.rng = np.random.default_rng([seed, start % 1_000])
        self.events = [(float(start), Event(wall_time=start, file_version="brain.Event:2"))]
        self.returns = []
        self._simulate()

    def log(self, step, **values):
        """Add scalars, `eval__return_std` for `eval/return_std`, at a time that fits the step."""
        entries = [
            Summary.Value(tag=tag.replace("__", "/"), simple_value=float(value))
            for tag, value in values.items()
        ]
        # A thousand steps take a second; these runs begin at once, as public versions do.
        wall = self.start + 0.5 + step / 1_000
        self.events.append((wall, Event(wall_time=wall, step=step, summary=Summary(value=entries))))

    def episodes(self, success, count):
        """Return the returns and lengths of some episodes."""
        shortest = round(-plan(self.env_id).optimal_return) + 1
        lengths = self.rng.integers(shortest, min(shortest + 6, self.limit), count)
        failed = self.rng.random(count) >= success
        lengths[failed] = self.limit
        return np.where(failed, -self.limit, 1 - lengths), lengths

    def evaluate(self, step, success):
        count = EPISODES
        if self.ours and self.stage != "explore" and step == self.steps:
            count *= 5
        returns, lengths = self.episodes(success, count)
        values = {"eval_return": returns.mean(), "eval_ep_len": lengths.mean()}
        for name, numbers in (("return", returns), ("ep_len", lengths)):
            for which in ("std", "max", "min"):
                values[f"eval__{name}_{which}"] = getattr(numbers, which)()
        if self.ours:
            values["eval__episodes"] = count
            best = plan(self.env_id)
            values["eval__normalised_score"] = (returns.mean() - best.random_return) / (
                best.optimal_return - best.random_return
            )
        self.log(step, **values)
        self.returns.append(float(returns.mean()))

    def _simulate(self):
        interval = max(1, self.steps // (20 if self.steps > 10_000 else 4))
        if self.ours and self.stage != "explore":
            self.log(1, dataset_transitions=self.extra.get("size", 10_000))
        for step in range(interval, self.steps + 1, interval):
            self.log(step, **dict.fromkeys(LOSSES[self.algorithm], 1.5))
            # No episode succeeds at first.
            self.evaluate(step, self.success if step > interval else 0.0)
            if self.stage == "explore" and self.ours:
                self.log(step, coverage=0.97, goals_reached=12)
        online = {"explore": 0, "offline": self.steps, "finetune": self.steps // 2}[self.stage]
        for step in range(online + self.limit, self.steps + 1, self.limit):
            self.log(step, train_return=-self.limit, train_ep_len=self.limit)
        if self.stage == "explore":
            tag = "exploration_trajectories_eval"
            picture = Summary.Image(height=1, width=1, encoded_image_string=b"picture")
            summary = Summary(value=[Summary.Value(tag=tag, image=picture)])
            wall = self.start + 1 + self.steps / 1_000
            self.events.append((wall, Event(wall_time=wall, step=self.steps, summary=summary)))
        self.events.sort(key=lambda event: event[0])

    @property
    def final_return(self):
        """The mean return of the last hundred episodes, in evaluations of twenty or a hundred."""
        return float(np.mean(self.returns[-5:] if self.stage == "explore" else self.returns[-1:]))

    @property
    def exp_name(self):
        suffix = "_finetune" if self.stage == "finetune" else ""
        alpha = f"_alpha{self.extra['cql_alpha']:g}" if "cql_alpha" in self.extra else ""
        size = self.extra.get("size")
        size = "" if not size else f"_{size}" if self.stage == "explore" else f"_rnd{size}"
        return f"pointmass_{self.maze}_{self.algorithm}{suffix}{alpha}{size}"

    @property
    def name(self):
        """The name that a script gives to its folder."""
        time = datetime.fromtimestamp(self.start, UTC)
        if self.ours:
            return f"hw5_{self.stage}_{self.exp_name}_sd{self.seed}_{time:%Y-%m-%d_%H-%M-%S}"
        alpha = self.extra.get("cql_alpha", 0.1)
        setting = {"cql": f"{alpha:g}", "rnd": "1.0"}.get(self.algorithm, "")
        size = (
            f"_rnd{self.extra['size']}" if self.stage == "offline" and "size" in self.extra else ""
        )
        env_id = self.env_id
        return f"hw5_{self.stage}_{env_id}_{self.algorithm}{setting}{size}_{time:%d-%m-%Y_%H-%M-%S}"

    @property
    def question(self):
        if self.stage == "finetune":
            return "q5"
        if "size" in self.extra:
            return "q4"
        if self.stage == "explore":
            return "q1"
        return "q3" if self.algorithm in {"awac", "iql"} else "q2"

    def write(self, data, name=None):
        """Write the run's folder below `data` and return it."""
        folder = data / (name or f"{self.question}_{self.name}")
        folder.mkdir(parents=True)
        write_events(folder / f"events.out.tfevents.{self.start}.host", self.events)
        if self.ours:
            self._write_notes(folder)
        return folder

    def _write_notes(self, folder):
        steps = {
            "explore": {"total_steps": self.steps},
            "offline": {"training_steps": self.steps},
            "finetune": {"offline_steps": self.steps // 2, "online_steps": self.steps // 2},
        }[self.stage]
        size = f"_{self.extra['size']}" if "size" in self.extra else ""
        data = self.exp_name if self.stage == "explore" else f"pointmass_{self.maze}_rnd{size}"
        config = {
            "base_config": self.algorithm,
            "env_name": self.env_id,
            "exp_name": self.exp_name,
            "dataset_name": data,
            "seed": self.seed,
            **steps,
            **({"cql_alpha": self.extra.get("cql_alpha", 0.1)} if self.algorithm == "cql" else {}),
        }
        (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
        summary = {
            "script": self.stage,
            "exp_name": self.exp_name,
            "env_name": self.env_id,
            "algorithm": self.algorithm,
            "seed": self.seed,
            "status": "finished",
            "started": datetime.fromtimestamp(self.start, UTC).isoformat(),
            "total_steps": self.steps,
            "wall_time_s": 2 + self.steps / 1_000,
            "final_return": self.final_return,
            "best_return": max(self.returns),
        }
        if self.stage == "explore":
            summary |= {"coverage": 0.97, "goals_reached": 12}
        (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")


def write_events(path, events):
    """Write pairs of wall time and event as an event file."""
    with path.open("wb") as file:
        writer = RecordWriter(file)
        for _, event in events:
            writer.write(event.SerializeToString())


def edit_log(folder, change):
    """Rewrite a run's event file: `change(event)` alters an event, or returns False to drop it."""
    (path,) = folder.glob("*tfevents*")
    events = [Event.FromString(record) for record in RawEventFileLoader(str(path)).Load()]
    kept = [event for event in events if change(event) is not False]
    write_events(path, [(event.wall_time, event) for event in kept])


def set_values(tag, number):
    """Return a change of a log that replaces each value of a tag by `number(old)`."""

    def change(event):
        for entry in event.summary.value:
            if entry.tag == tag:
                entry.simple_value = number(entry.simple_value)

    return change


def all_runs(*, ours=True):
    """Return runs that answer every question, each with a different start time."""
    asked = [
        *(("explore", "random", maze, 10_000, {}) for maze in ("easy", "medium", "hard")),
        *(("explore", "rnd", maze, 10_000, {}) for maze in ("easy", "medium", "hard")),
        *(("explore", "rnd", "medium", size, {"size": size}) for size in (1_000, 5_000, 20_000)),
        ("offline", "dqn", "medium", 100_000, {}),
        ("offline", "cql", "easy", 100_000, {}),
        *(("offline", "cql", "medium", 100_000, {"cql_alpha": a}) for a in (0.1, 1.0, 10.0)),
        ("offline", "awac", "easy", 100_000, {}),
        ("offline", "iql", "easy", 100_000, {}),
        *(("offline", "cql", "medium", 100_000, {"size": s}) for s in (1_000, 5_000, 20_000)),
        ("finetune", "cql", "hard", 100_000, {}),
    ]
    return [
        Simulated(
            stage, algorithm, maze, steps=steps, ours=ours, start=START + 1_037 * number, **extra
        )
        for number, (stage, algorithm, maze, steps, extra) in enumerate(asked)
    ]


def write_hand_in(folder: Path, *, ours: bool = True) -> Path:
    """Write a hand-in that deserves full marks, and return its folder."""
    for run in all_runs(ours=ours):
        run.write(folder / "data")
    package = Path(next(iter(cs285.__path__)))
    shutil.copytree(
        package / "agents",
        folder / "cs285" / "agents",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    (folder / "README.md").write_text("Everything runs as in the handout.\n", encoding="utf-8")
    return folder
