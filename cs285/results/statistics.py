"""Statistics over seeds: interquartile means with stratified bootstrap intervals.

With few seeds, one failure shifts the mean and makes the standard deviation meaningless. The
interquartile mean leaves out the best and the worst quarter, and the bootstrap estimates how much
it would vary with other seeds (Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the
Statistical Precipice").
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cs285.envs.tasks import describe_task

FloatArray = npt.NDArray[np.float64]

CONFIDENCE = 0.95
RESAMPLES = 2_000
"""With other random resamples, the ends of an interval move by about 3 % of its width."""
BATCH_VALUES = 4_000_000
"""Resampled values in memory at a time."""
FINAL_EPISODES = 100
"""The final return is the mean over the last evaluation episodes, this many if there are enough."""
FINAL_EVALUATIONS = 3
"""If the numbers of episodes are not known, it is the mean of this many last evaluations; a single
one is noisy."""
PUBLIC_EPISODES = 10
"""Episodes of an evaluation in public versions of the homework, which do not log the number."""


@dataclass(frozen=True)
class Estimate:
    """An interquartile mean and the bounds of its 95 % interval, which are NaN if it has none."""

    iqm: float
    low: float
    high: float
    count: int
    """Number of values: seeds, or seeds times environments."""
    error: float | None = None
    """Standard error due to the finite number of episodes alone; None if it is not known."""
    span: tuple[float, float] | None = None
    """The lowest and the highest value, if there is no interval because the values may depend on
    each other."""

    @property
    def has_interval(self) -> bool:
        """Whether there is an interval; a single seed has none."""
        return math.isfinite(self.low)

    def with_error(self, error: float | None) -> Estimate:
        """Return the estimate with this standard error; its interval is widened to cover it.

        The bootstrap cannot see noise that happens to be similar in two or three seeds.
        """
        if error is None or not self.has_interval:
            return replace(self, error=error)
        margin = 2 * error
        low, high = min(self.low, self.iqm - margin), max(self.high, self.iqm + margin)
        return replace(self, low=low, high=high, error=error)

    def without_interval(self, values: npt.ArrayLike) -> Estimate:
        """Return the estimate with the span of its values, as they may not be independent."""
        numbers = _checked(values)
        span = (float(numbers.min()), float(numbers.max())) if numbers.size > 1 else None
        return replace(self, low=math.nan, high=math.nan, span=span)


@dataclass(frozen=True, eq=False)
class CurveEstimate:
    """Interquartile means `(N,)` over seeds at N steps with their intervals, which may be NaN."""

    steps: npt.NDArray[np.int64]
    iqm: FloatArray
    low: FloatArray
    high: FloatArray


def final_return(returns: npt.ArrayLike, episodes: npt.ArrayLike | None = None) -> float:
    """Return the mean return of a run's last episodes.

    Args:
        returns: Mean returns `(N,)` of a run's evaluations.
        episodes: Number of episodes of each evaluation `(N,)`. As few of the last evaluations count
            as have `FINAL_EPISODES` together, or all; without this, the last `FINAL_EVALUATIONS`.

    Raises:
        ValueError: There are no evaluations, or one has no episodes.
    """
    values = _checked(returns)
    if episodes is None:
        return float(values[-FINAL_EVALUATIONS:].mean())
    counts = _checked(episodes)
    counted = counted_evaluations(counts)
    return float(np.average(values[counted], weights=counts[counted]))


def counted_evaluations(episodes: FloatArray) -> npt.NDArray[np.bool_]:
    """Return which evaluations `(N,)` count: the last ones, until they have `FINAL_EPISODES`.

    Args:
        episodes: Number of episodes of each evaluation `(N,)`.

    Raises:
        ValueError: An evaluation has no episodes.
    """
    if episodes.min() <= 0:
        raise ValueError("an evaluation has no episodes")
    later = episodes[::-1].cumsum()[::-1] - episodes
    counted: npt.NDArray[np.bool_] = later < FINAL_EPISODES
    return counted


def final_error(deviations: npt.ArrayLike, episodes: npt.ArrayLike | None = None) -> float | None:
    """Return the standard error of `final_return` over the episodes of the evaluated policies.

    Each evaluation's mean has the variance `deviation^2 / (episodes - 1)`, since the logged
    deviation is computed with division by the number of episodes. Means are weighted as in
    `final_return`.

    Args:
        deviations: Standard deviations `(N,)` of the returns within each evaluation.
        episodes: Number of episodes of each evaluation `(N,)`. Without it, evaluations are assumed
            to have `PUBLIC_EPISODES`, and the last `FINAL_EVALUATIONS` count.

    Returns:
        None if an evaluation that counts has only one episode.

    Raises:
        ValueError: There are no evaluations, or one has no episodes.
    """
    spreads = _checked(deviations)
    if episodes is None:
        spreads = spreads[-FINAL_EVALUATIONS:]
        counts = np.full(len(spreads), float(PUBLIC_EPISODES))
    else:
        counts = _checked(episodes)
        counted = counted_evaluations(counts)
        spreads, counts = spreads[counted], counts[counted]
    if counts.min() <= 1:
        return None
    weights = counts / counts.sum()
    return float(np.sqrt((weights**2 * spreads**2 / (counts - 1)).sum()))


def with_error(mean: float, error: float | None, digits: int = 1) -> str:
    """Format a mean with its standard error, which gets one more digit: `-20.3 ± 0.35`.

    Args:
        mean: The mean.
        error: Its standard error; if it is None, only the mean is returned.
        digits: Digits of the mean after the point.
    """
    text = f"{mean:z.{digits}f}"
    return text if error is None else f"{text} ± {error:.{digits + 1}f}"


def differs(one: float, other: float, *errors: float | None) -> bool:
    """Return whether two numbers differ by more than noise: by more than two standard errors.

    Args:
        one: A number.
        other: Another number.
        errors: Their standard errors, whose squares add up, as for independent numbers. If one is
            None, nothing can be said, so the answer is no.
    """
    known = [error for error in errors if error is not None]
    return len(known) == len(errors) and abs(one - other) > 2 * math.hypot(*known)


def end_of(steps: npt.ArrayLike, values: npt.ArrayLike) -> tuple[float, float]:
    """Return the mean and the standard deviation of a curve over its last tenth.

    Args:
        steps: Steps `(N,)`, which increase.
        values: Values `(N,)`; those after nine tenths of the last step count.
    """
    at, numbers = np.asarray(steps, dtype=np.float64), _checked(values)
    last = numbers[(at > 0.9 * at[-1]) | (at == at[-1])]
    return float(last.mean()), float(last.std())


def error_over(values: npt.ArrayLike) -> float | None:
    """Return half the 95 % margin of a mean of independent values, by Student's t distribution.

    It takes the place of a standard error, which it exceeds for few values: 6.4 times for two, 1.1
    times for ten.

    Returns:
        None for a single value.

    Raises:
        ValueError: There are no values, or some are not finite.
    """
    from scipy.stats import t

    numbers = _checked(values).ravel()
    count = len(numbers)
    if count == 1:
        return None
    margin = t.ppf(0.5 + CONFIDENCE / 2, count - 1) * numbers.std(ddof=1) / math.sqrt(count)
    return float(margin) / 2


def interquartile_mean(values: npt.ArrayLike) -> float:
    """Return the mean of the middle half: without the highest and the lowest quarter.

    A quarter is rounded down to a whole number of values, so fewer than four values all count.

    Raises:
        ValueError: There are no values, or some are not finite.
    """
    from scipy.stats import trim_mean

    return float(trim_mean(_checked(values).ravel(), 0.25))


def estimate(*strata: npt.ArrayLike) -> Estimate:
    """Return the interquartile mean over all values with its percentile bootstrap interval.

    Args:
        strata: Values per stratum, such as the scores of one environment's seeds. Resampling keeps
            the size of each stratum, so none can vanish by chance.

    Raises:
        ValueError: A stratum has no values, or some are not finite.
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


def estimate_curve(
    steps: npt.ArrayLike, values: npt.ArrayLike, *, has_interval: bool = True
) -> CurveEstimate:
    """Return the estimate over seeds at every step.

    Args:
        steps: Shape (N,).
        values: Shape (seeds, N).
        has_interval: Whether to estimate an interval; not for values that depend on each other.

    Raises:
        ValueError: There are no seeds, or some values are not finite.
    """
    from scipy.stats import trim_mean

    rows = _checked(values)
    low, high = _interval([rows] if has_interval else [rows[:1]])
    return CurveEstimate(np.asarray(steps, dtype=np.int64), trim_mean(rows, 0.25), low, high)


def _interval(strata: list[FloatArray]) -> tuple[FloatArray, FloatArray]:
    """Bootstrap along the first axis; the bounds are NaN if a stratum has only one value."""
    if min(map(len, strata)) < 2:  # noqa: PLR2004 - one value has no spread
        nothing = np.full(strata[0].shape[1:], np.nan)
        return nothing, nothing
    from scipy.stats import bootstrap, trim_mean

    def statistic(*samples: FloatArray, axis: int) -> Any:
        return trim_mean(np.concatenate(samples, axis=axis), 0.25, axis=axis)

    # SciPy resamples every sample separately, which makes the bootstrap stratified.
    interval = bootstrap(
        strata,
        statistic,
        n_resamples=RESAMPLES,
        batch=max(1, BATCH_VALUES // sum(stratum.size for stratum in strata)),
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
        raise ValueError("there are no values to average")
    if not np.isfinite(array).all():
        raise ValueError("not all values are finite")
    return array
