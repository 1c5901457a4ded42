"""Numbers over seeds: interquartile means with stratified bootstrap intervals.

A few seeds with one failure among them make means jump and standard deviations meaningless. The
interquartile mean leaves out the best and the worst quarter, and the bootstrap asks how far it
would move had other seeds of the same kind been drawn (Agarwal et al. 2021, "Deep Reinforcement
Learning at the Edge of the Statistical Precipice").
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cs285.envs.tasks import describe_task

FloatArray = npt.NDArray[np.float64]

CONFIDENCE = 0.95
RESAMPLES = 2_000
"""The ends of an interval move by about 3 % of its width with other resamples."""
FINAL_EPISODES = 100
"""The final return is the mean over so many last episodes, if the last evaluations have them."""
FINAL_EVALUATIONS = 3
"""Where nobody knows their episodes, it is the mean of so many evaluations: one alone is noisy."""


@dataclass(frozen=True)
class Estimate:
    """An interquartile mean and the bounds of its 95 % interval, NaN where there is none."""

    iqm: float
    low: float
    high: float
    count: int
    """Values that went in: seeds, or seeds times environments."""

    @property
    def has_interval(self) -> bool:
        """Tell whether there were seeds enough: one alone says nothing about the others."""
        return math.isfinite(self.low)


@dataclass(frozen=True, eq=False)
class CurveEstimate:
    """Interquartile means (N,) over seeds at N steps, with their intervals; NaN as above."""

    steps: npt.NDArray[np.int64]
    iqm: FloatArray
    low: FloatArray
    high: FloatArray


def final_return(returns: npt.ArrayLike, episodes: npt.ArrayLike | None = None) -> float:
    """Return the mean return of a run's last episodes.

    Args:
        returns: Mean returns (N,) of a run's evaluations.
        episodes: How many episodes each of them had (N,). As few of the last evaluations count as
            make up `FINAL_EPISODES`, or all; without this, the last `FINAL_EVALUATIONS` do.

    Raises:
        ValueError: There are no evaluations, or one without episodes.
    """
    values = _checked(returns)
    if episodes is None:
        return float(values[-FINAL_EVALUATIONS:].mean())
    counts = _checked(episodes)
    if counts.min() <= 0:
        raise ValueError("an evaluation has no episodes")
    later = counts[::-1].cumsum()[::-1] - counts
    counted = later < FINAL_EPISODES
    return float(np.average(values[counted], weights=counts[counted]))


def interquartile_mean(values: npt.ArrayLike) -> float:
    """Return the mean of the middle half: a quarter of the values, rounded down, goes on each side.

    Fewer than four values keep them all.

    Raises:
        ValueError: There are no values, or not only finite ones.
    """
    from scipy.stats import trim_mean

    return float(trim_mean(_checked(values).ravel(), 0.25))


def estimate(*strata: npt.ArrayLike) -> Estimate:
    """Return the interquartile mean over all values with its percentile bootstrap interval.

    Args:
        strata: Values per stratum, such as the scores of one environment's seeds. Resampling draws
            as many values from each stratum as it has, so none can vanish by chance.

    Raises:
        ValueError: A stratum has no values, or not only finite ones.
    """
    values = [_checked(stratum).ravel() for stratum in strata]
    pooled = np.concatenate(values)
    low, high = _interval(values)
    return Estimate(interquartile_mean(pooled), float(low), float(high), len(pooled))


def estimate_scores(returns: Mapping[str, npt.ArrayLike]) -> Estimate | None:
    """Return the estimate of normalised scores: 0 is the random policy, 1 the best one.

    Args:
        returns: Returns per environment id; every environment is a stratum.

    Returns:
        None if the best or the random return of an environment is not known.

    Raises:
        ValueError: The returns are unusable as in `estimate`.
    """
    strata = [describe_task(env_id).normalised_score(own) for env_id, own in returns.items()]
    known = [scores for scores in strata if scores is not None]
    return estimate(*known) if len(known) == len(strata) else None


def estimate_curve(steps: npt.ArrayLike, values: npt.ArrayLike) -> CurveEstimate:
    """Return the estimate over seeds at every step.

    Args:
        steps: Shape (N,).
        values: Shape (seeds, N).

    Raises:
        ValueError: There are no seeds, or not only finite values.
    """
    from scipy.stats import trim_mean

    rows = _checked(values)
    low, high = _interval([rows])
    return CurveEstimate(np.asarray(steps, dtype=np.int64), trim_mean(rows, 0.25), low, high)


def _interval(strata: list[FloatArray]) -> tuple[FloatArray, FloatArray]:
    """Bootstrap along the first axis; NaN if a stratum has but one value to draw."""
    from scipy.stats import bootstrap, trim_mean

    if min(map(len, strata)) < 2:  # noqa: PLR2004 - one value has no spread
        nothing = np.full(strata[0].shape[1:], np.nan)
        return nothing, nothing

    def statistic(*samples: FloatArray, axis: int) -> Any:
        return trim_mean(np.concatenate(samples, axis=axis), 0.25, axis=axis)

    # SciPy draws from every sample by itself, which is what stratified means.
    interval = bootstrap(
        strata,
        statistic,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        vectorized=True,
        axis=0,
        random_state=np.random.default_rng(0),
    ).confidence_interval
    return interval.low, interval.high


def _checked(values: npt.ArrayLike) -> FloatArray:
    array = np.atleast_1d(np.asarray(values, dtype=np.float64))
    if not array.size:
        raise ValueError("there are no values to take a mean of")
    if not np.isfinite(array).all():
        raise ValueError("not all values are finite")
    return array
