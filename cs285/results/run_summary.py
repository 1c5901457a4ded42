"""The contents of `summary.json`, which describes a run that has ended."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field

from cs285.homework import Stage
from cs285.infrastructure.errors import printable

Name = Annotated[str, AfterValidator(printable)]


class RunStatus(StrEnum):
    """How a run ended."""

    FINISHED = "finished"
    DIVERGED = "diverged"


class RunSummary(BaseModel, frozen=True):
    """The summary of one run; None for numbers that do not apply to it."""

    script: Stage
    exp_name: Name
    env_name: Name
    algorithm: Name
    seed: int
    status: RunStatus
    started: datetime
    total_steps: int
    wall_time_s: Annotated[float, Field(ge=0, le=1e9)]
    final_return: float | None = None
    """Mean of the last 100 evaluation episodes."""
    exact_return: float | None = None
    """Expected return of the last policy, computed; see `docs/exact.md`."""
    exact_return_error: float | None = None
    """How far off `exact_return` may be."""
    best_return: float | None = None
    """Highest mean return of any evaluation."""
    optimal_return: float | None = None
    normalised_score: float | None = None
    """0 for the random policy, 1 for the best one; of `exact_return` where it is known."""
    coverage: float | None = None
    """Fraction of the free cells that exploration visited."""
    goals_reached: int | None = None
