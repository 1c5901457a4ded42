"""Statistics over seeds, under the path from which notebooks for version 1.0 import them."""

from cs285.results.statistics import (
    CurveEstimate,
    Estimate,
    estimate,
    estimate_curve,
    estimate_scores,
    final_return,
    interquartile_mean,
)

__all__ = [
    "CurveEstimate",
    "Estimate",
    "estimate",
    "estimate_curve",
    "estimate_scores",
    "final_return",
    "interquartile_mean",
]
