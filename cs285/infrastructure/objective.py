"""Objectives, under the path that agent files written for version 1.0 import them from."""

from cs285.learning.objective import (
    Batch,
    MakeOptimizer,
    MakeSchedule,
    Metrics,
    Objective,
    Tensors,
    hyperparameter,
)

__all__ = [
    "Batch",
    "MakeOptimizer",
    "MakeSchedule",
    "Metrics",
    "Objective",
    "Tensors",
    "hyperparameter",
]
