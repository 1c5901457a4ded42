"""Objectives, under the path from which agent files for version 1.0 import them."""

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
