"""Overestimation: the maximum over noisy values is too large, and what double Q-learning changes.

`docs/lectures.md` explains the figure and the numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cs285.datasets.dataset_files import Dataset
from cs285.infrastructure.palette import BLUE, INK, VERMILION
from cs285.lectures.shared.outputs import column, draw_range, rounded, select, spread, write
from cs285.lectures.shared.trained import best_policy, collected, known, learned
from cs285.report.plots import Plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FloatArray = npt.NDArray[np.float64]

ENVIRONMENT = "PointmassMedium-v0"
SEEDS = (1, 2, 3)
TRANSITIONS = 5_000
EPSILON = 0.7
"""Random actions of the data's policy, which is otherwise the best one."""
UPDATES = 10_000
NOISES = (0.0, 1.0, 2.0, 4.0)
"""Standard deviations of the noise that is added to the rewards of the data."""


@dataclass(frozen=True)
class Row:
    """One agent at one moment.

    Attributes:
        noise: Standard deviation of the noise in its rewards.
        double: 1 for double Q-learning, 0 for the plain maximum of the target network.
        seed: Of the data, the noise and the agent.
        expected_return: Of its policy.
        overestimation: Mean of its largest estimate minus the exact value of its policy, over its
            visits.
        q_error: Root mean square of its estimates' errors over its visits.
    """

    noise: float
    double: int
    seed: int
    expected_return: float
    overestimation: float
    q_error: float


def with_noise(dataset: Dataset, deviation: float, seed: int) -> Dataset:
    """Return data whose rewards have Gaussian noise of mean 0, which changes no true value."""
    noise = np.random.default_rng(seed).normal(0.0, deviation, len(dataset))
    return replace(dataset, rewards=(dataset.rewards + noise).astype(np.float32))


def measure(
    seeds: Sequence[int] = SEEDS,
    updates: int = UPDATES,
    noises: Sequence[float] = NOISES,
    transitions: int = TRANSITIONS,
    env_id: str = ENVIRONMENT,
) -> Iterator[Row]:
    """Train with and without double Q-learning; yield the numbers of all agents."""
    policy = best_policy(env_id, EPSILON)
    clean = {seed: collected(env_id, policy, transitions, seed) for seed in seeds}
    cases = [(noise, seed) for noise in noises for seed in seeds]
    data = [with_noise(clean[seed], noise, seed) for noise, seed in cases]
    for double in (False, True):
        settings = [
            {"base_config": "dqn", "env_name": env_id, "seed": seed, "use_double_q": double}
            for _, seed in cases
        ]
        for found in learned(settings, data, [updates]):
            exact = found.exact
            yield Row(
                cases[found.index][0], int(double), found.config.seed,
                exact.expected_return, known(exact.overestimation), known(exact.q_error_occupancy),
            )  # fmt: skip


COLOURS = {0: VERMILION, 1: BLUE}
NAMES = {0: "maximum", 1: "double Q"}


def claims(rows: Sequence[Row]) -> list[str]:
    """Return what the page says of the rows."""
    clean, *noisy = NOISES
    middle, high = noisy[1:]

    def of(name: str, noise: float, double: int) -> FloatArray:
        return column(select(rows, noise=noise, double=double), name)

    def over(noise: float, double: int) -> str:
        return spread(of("overestimation", noise, double))

    def returns(noise: float, double: int) -> str:
        return spread(of("expected_return", noise, double))

    saved = np.concatenate(
        [of("overestimation", noise, 0) - of("overestimation", noise, 1) for noise in noisy]
    )
    return [
        (
            f"Without noise, the maximum overestimates by {over(clean, 0)} where its policy goes, "
            f"and double Q-learning by {over(clean, 1)}."
        ),
        (
            f"Noise changes no true value, but with a standard deviation of {middle:g} the "
            f"maximum overestimates by {over(middle, 0)} and double Q-learning by "
            f"{over(middle, 1)}; with {high:g}, it is {over(high, 0)} and {over(high, 1)}."
        ),
        (
            f"With noise, double Q-learning overestimates less in {(saved > 0).sum()} of "
            f"{len(saved)} cases, by {saved.mean():.1f} on average. It reduces overestimation and "
            "does not remove it."
        ),
        (
            f"Too high values of the wrong actions cost return: it is {returns(clean, 0)} without "
            f"noise and {returns(middle, 0)} with a deviation of {middle:g} for the maximum, and "
            f"{returns(clean, 1)} and {returns(middle, 1)} for double Q-learning."
        ),
    ]


def plot_of(rows: Sequence[Row]) -> Plot:
    """Return the figure."""
    return Plot(
        "double_q",
        "Overestimation of DQN with and without double Q-learning",
        (
            lambda ax: _draw(ax, rows, "overestimation", "Overestimation"),
            lambda ax: _draw(ax, rows, "q_error", "RMS error of Q on the policy's path"),
            lambda ax: _draw(ax, rows, "expected_return", "Exact return"),
        ),
        3,
    )


def _draw(ax: Axes, rows: Sequence[Row], name: str, title: str) -> None:
    for double, colour in COLOURS.items():
        draw_range(ax, select(rows, double=double), "noise", name, colour, NAMES[double])
    if name == "overestimation":
        ax.axhline(0, color=INK, linewidth=1, linestyle="dashed")
    ax.set(title=title, xlabel="Deviation of the noise in rewards")


def make(out: Path) -> list[str]:
    """Write the table and the figure into a folder; return the claims."""
    rows = rounded(list(measure()))
    write(out, rows, plot_of(rows))
    return claims(rows)
