"""Writes the results of one run: scalars and pictures, weights and a summary."""

from __future__ import annotations

import io
import time
from dataclasses import InitVar, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm import tqdm

from cs285.datasets.versions import git_revision, versions
from cs285.envs.tasks import get_task
from cs285.infrastructure.files import write_atomically
from cs285.results import figures
from cs285.results.run_folders import RunFolder
from cs285.results.sinks import DEFAULT, Logger
from cs285.results.statistics import final_return
from cs285.training.runs import RunInfo

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cs285.results.run_summary import RunStatus
    from cs285.training.rollouts import Evaluation

DRAWN_TRAJECTORIES = 5
"""Number of evaluation episodes in a picture; more would hide each other."""


@dataclass
class RunRecorder:
    """Logs one run and writes its results to the run's folder.

    Args:
        info: Identity and settings of the run.
        data_dir: Where run folders are created.
        total_steps: Number of steps that the run will take.
        online_start: The first step of online fine-tuning, or None.
        existing_folder: The run's folder, with its config; by default a new one is created.
        sinks: Names of the sinks that the run logs to.

    Raises:
        UserError: If the folder cannot be created.
    """

    info: RunInfo
    data_dir: Path
    total_steps: int
    online_start: int | None = None
    existing_folder: InitVar[RunFolder | None] = None
    sinks: Sequence[str] = DEFAULT

    folder: RunFolder = field(init=False)
    steps: list[int] = field(default_factory=list)
    """Step of every evaluation."""
    returns: list[float] = field(default_factory=list)
    """Mean return of every evaluation."""
    episodes: list[int] = field(default_factory=list)
    """Number of episodes of every evaluation."""
    exact: dict[str, float] = field(default_factory=dict)
    """Exact tags of the latest evaluation."""
    last_finite: dict[str, float] = field(default_factory=dict)
    """The last metrics with finite losses, and their `step`."""
    diverged_at: int | None = None
    """Step at which a loss was found not to be finite, which ended the run."""

    def __post_init__(self, existing_folder: RunFolder | None) -> None:
        self.folder = existing_folder or self.info.make_folder(self.data_dir)
        self.logger = Logger(self.folder, self.sinks)
        self.task = get_task(self.info.env_id)
        self.started = datetime.now(UTC)
        self._clock = time.perf_counter()

    def get_state(self) -> dict[str, Any]:
        """Make everything logged durable; return its positions and what the summary needs.

        Raises:
            UserError: If a log cannot be written.
        """
        return {
            "logs": self.logger.flush(),
            "steps": np.array(self.steps, np.int64),
            "returns": np.array(self.returns, np.float64),
            "episodes": np.array(self.episodes, np.int64),
            "exact": self.exact,
            "finite": self.last_finite,
            "diverged_at": self.diverged_at,
            "started": self.started.isoformat(),
            "seconds": time.perf_counter() - self._clock,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Restore a state that `get_state` returned, and rewind the logs to it.

        Raises:
            UserError: If a log cannot be rewound.
        """
        self.logger.rewind(state["logs"])
        self.steps, self.returns = state["steps"].tolist(), state["returns"].tolist()
        self.episodes = state["episodes"].tolist()
        self.exact = state.get("exact", {})
        self.last_finite, self.diverged_at = state["finite"], state["diverged_at"]
        self.started = datetime.fromisoformat(state["started"])
        self._clock = time.perf_counter() - state["seconds"]

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Log scalars by tag.

        Raises:
            UserError: If a log cannot be written.
        """
        self.logger.scalars(values, step)

    def log_evaluation(
        self, evaluation: Evaluation, step: int, exact: Mapping[str, float] | None = None
    ) -> None:
        """Log the returns and lengths of an evaluation, and what is known exactly, by tag."""
        returns, lengths = evaluation.returns, evaluation.lengths
        self.steps.append(step)
        self.returns.append(float(returns.mean()))
        self.episodes.append(len(returns))
        values = {
            "eval/episodes": len(returns),
            "eval_return": returns.mean(),
            "eval_ep_len": lengths.mean(),
        }
        if (scores := self.task.normalised_score(returns)) is not None:
            values["eval/normalised_score"] = scores.mean()
        for name, numbers in (("return", returns), ("ep_len", lengths)):
            values[f"eval/{name}_std"] = numbers.std()
            values[f"eval/{name}_max"] = numbers.max()
            values[f"eval/{name}_min"] = numbers.min()
        self.exact = dict(exact or {})
        self.log({**values, **self.exact}, step)

    # Pictures

    def draw_exploration(
        self, observations: np.ndarray, agent: object, step: int, png: Path | None = None
    ) -> None:
        """Draw visited states `(N, ...)` and the agent's own plots, if the task has drawings."""
        if (drawing := self.task.drawing) is None:
            return
        title = f"{self.info.name}, step {step:,}"
        try:
            figure = drawing.exploration(observations, agent, title)
        except Exception as error:  # noqa: BLE001 - the agent's own plots may fail in any way
            tqdm.write(f"{self.info.name}: the agent's picture at step {step:,} failed: {error}")
            figure = drawing.exploration(observations, None, title)
        if png is not None:
            figures.save_png(figure, png)
        self.logger.figure(figure, "exploration_trajectories_eval", step)

    def draw_trajectories(self, evaluation: Evaluation, step: int, png: Path | None = None) -> None:
        """Draw some episodes of an evaluation, if the task has drawings."""
        if (drawing := self.task.drawing) is None:
            return
        is_online = self.online_start is not None and step > self.online_start
        online_start = self.online_start if is_online else None
        figure = drawing.trajectories(
            evaluation.paths[:DRAWN_TRAJECTORIES],
            evaluation.returns[:DRAWN_TRAJECTORIES].tolist(),
            title=f"{self.info.name}, step {step:,}",
            online_start=online_start,
        )
        if png is not None:
            figures.save_png(figure, png)
        self.logger.figure(figure, "trajectories_eval", step)

    def draw_learning_curve(self) -> None:
        """Draw all evaluations, and the returns of the random and best policies if known."""
        figure = figures.learning_curve_figure(
            self.steps,
            self.returns,
            *(self.task.reference() or (None, None)),
            title=self.info.name,
            online_start=self.online_start,
        )
        figures.save_png(figure, self.folder.learning_curve)
        self.logger.figure(figure, "learning_curve", self.total_steps)

    # The end

    def save_weights(self, agent: Any, step: int | None = None) -> None:
        """Write `agent.pt`, which loads with `weights_only=True`, if the agent is a module.

        Args:
            agent: The agent.
            step: Write the snapshot of this step instead.
        """
        path = self.folder.weights if step is None else self.folder.snapshot(step)
        if isinstance(agent, torch.nn.Module):
            content = io.BytesIO()  # PyTorch's file writer does not survive a full disk
            torch.save(agent.state_dict(), content)
            write_atomically(path, lambda file: file.write(content.getbuffer()))

    def write_summary(self, status: RunStatus, extra: Mapping[str, Any]) -> None:
        """Write `summary.json`, after everything logged is durable."""
        self.logger.flush()
        optimal_return, random_return = self.task.reference() or (None, None)
        final = final_return(self.returns, self.episodes) if self.returns else None
        exact = self.exact.get("exact/return")
        best_known = final if exact is None else exact
        score = None if best_known is None else self.task.normalised_score(best_known)
        self.folder.write_summary(
            {
                "script": self.info.stage,
                "exp_name": self.info.exp_name,
                "env_name": self.info.env_id,
                "algorithm": self.info.algorithm,
                "seed": self.info.seed,
                "status": status,
                **self._divergence(),
                "final_return": final,
                "exact_return": exact,
                "exact_return_error": self.exact.get("exact/return_error"),
                "best_return": max(self.returns, default=None),
                "normalised_score": None if score is None else float(score),
                "optimal_return": optimal_return,
                "random_return": random_return,
                "wall_time_s": time.perf_counter() - self._clock,
                "total_steps": self.total_steps,
                **extra,
                "versions": versions(),
                "git_revision": git_revision(),
                "started": self.started.isoformat(timespec="seconds"),
            }
        )

    def _divergence(self) -> dict[str, Any]:
        if self.diverged_at is None:
            return {}
        return {"diverged_at_step": self.diverged_at, "last_finite_metrics": self.last_finite}

    def close(self) -> None:
        """Close the logs."""
        self.logger.close()


def mean_of_latest(recorders: Sequence[RunRecorder]) -> float:
    """Return the mean over runs of the return in the latest evaluation."""
    return float(np.mean([recorder.returns[-1] for recorder in recorders]))
