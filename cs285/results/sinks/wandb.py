"""Weights & Biases: one W&B run per training run, with its resolved config.

W&B's own settings decide where the values go: `wandb login`, `WANDB_PROJECT`, `WANDB_MODE=offline`.
Offline, they stay in the folder `wandb` in the run's folder until `wandb sync` uploads them.
"""

from __future__ import annotations

import importlib
import math
import os
import secrets
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from cs285.results.run_folders import RunFolder
from cs285.results.sinks import register

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PROJECT = "cs285"
"""The W&B project, unless `WANDB_PROJECT` names another one."""
INIT_SECONDS = 30.0
"""Time to wait for an answer from W&B before training continues without it."""
PAUSE_PER_WAIT = 20
"""When W&B fails to start a run, no other run tries for this many times as long as the failure
took. Runs that start one after another would otherwise wait `INIT_SECONDS` each."""


_paused_until = -math.inf
"""The time, by `time.monotonic`, before which no run of this process tries to reach W&B."""


@register("wandb", package="wandb", may_fail=True)
class WandbSink:
    """Logs to W&B.

    A run that resumes continues the same W&B run. It repeats the steps after its checkpoint with
    equal values; online, only the steps that W&B does not have are sent. Offline, every process
    writes a separate folder, and `wandb sync --append` joins them.

    Args:
        folder: The run's folder.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        # W&B would draw an id from the global generators, which agents may use.
        self._id = secrets.token_hex(8)
        self._step = 0
        self._run: Any = None

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Log values at a step."""
        self._log({tag: float(value) for tag, value in values.items()}, step)

    def figure(self, figure: Figure, tag: str, step: int) -> None:
        """Log a picture of the figure."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from PIL import Image

        canvas = FigureCanvasAgg(figure)
        canvas.draw()  # type: ignore[no-untyped-call]  # Matplotlib has no types for these two
        picture = Image.fromarray(np.asarray(canvas.buffer_rgba()))  # type: ignore[no-untyped-call]
        self._log({tag: _wandb().Image(picture)}, step)

    def _log(self, values: Mapping[str, Any], step: int) -> None:
        if self._run is None:
            self._run = self._start()
        self._step = step
        if step >= self._run.step:  # W&B already has the earlier ones
            self._run.log(values, step=step)

    def _start(self) -> Any:
        """Create the W&B run, or continue it.

        Raises:
            ConnectionError: If W&B has just failed to start another run.
        """
        global _paused_until  # noqa: PLW0603 - all runs of a process share the connection
        began = time.monotonic()
        if began < _paused_until:
            raise ConnectionError("W&B could not be reached for an earlier run")
        wandb = _wandb()
        try:
            run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", PROJECT),
                id=self._id,
                name=self._folder.name,
                dir=str(self._folder),
                config=self._folder.read_config() if self._folder.config.exists() else None,
                resume="allow",
                reinit="create_new",  # the runs of a program are open at the same time
                settings=wandb.Settings(console="off", silent=True, init_timeout=INIT_SECONDS),
            )
        except Exception:
            ended = time.monotonic()
            _paused_until = ended + PAUSE_PER_WAIT * (ended - began)
            raise
        if not run.offline:
            tqdm.write(f"{self._folder.name} is logged to {run.url}")
        return run

    def flush(self) -> dict[str, Any]:
        """Return the id and the last step; W&B's own process makes values durable."""
        return {"id": self._id, "step": self._step}

    def rewind(self, position: Mapping[str, Any]) -> None:
        """Continue the W&B run of an earlier process."""
        self.close()
        self._id, self._step = str(position["id"]), int(position["step"])

    def close(self) -> None:
        """Wait until all values are uploaded, or stored if offline."""
        if self._run is not None:
            self._run.finish()
            self._run = None


def _wandb() -> Any:
    return importlib.import_module("wandb")
