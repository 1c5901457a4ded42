"""The options of a training command. `--help` shows them, so nothing here needs PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from cs285.results import sinks

Compile = Literal["auto", "on", "off"]
"""When to compile updates: if the program is long enough, always, or never."""


@dataclass(frozen=True)
class Options:
    """Folders and intervals, for all runs of one command.

    The types restrict what `sweep.json` may contain.
    """

    data_dir: Path = Path("data")
    """Where run folders are created."""
    dataset_dir: Path = Path("datasets")
    """Where exploration writes datasets and the other stages read them."""
    picture_dir: Path = Path("exploration_visualization")
    """Where pictures of explored datasets are written."""
    eval_interval: PositiveInt = 2_500
    """Steps between evaluations."""
    visualize_interval: PositiveInt = 25_000
    """Steps between pictures."""
    log_interval: PositiveInt = 1_000
    """Steps between logged metrics."""
    num_eval_trajectories: PositiveInt = 20
    """Episodes per evaluation; in learning, the last evaluation takes five times as many."""
    compile: Compile = "auto"
    """Whether updates are compiled; see `choose_backend`."""
    checkpoint_interval: NonNegativeInt | None = None
    """Steps between checkpoints; 0 for none, None for one per minute."""
    log: Annotated[tuple[str, ...], Field(min_length=1, max_length=100)] = sinks.DEFAULT
    """Names of the sinks that every run logs to."""
