"""Coverage: what an agent can learn from data depends on where the data has been.

`docs/lectures.md` explains the figure and the numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cs285.analysis.exact import Data, ExactEvaluation, evaluate
from cs285.envs.planner import plan
from cs285.envs.tasks import get_task
from cs285.infrastructure.palette import GREEN, INK, PURPLE, thousands
from cs285.lectures.shared.outputs import column, percent, rounded, select, spread, write
from cs285.lectures.shared.trained import best_policy, explored, first, known, learned
from cs285.report.plots import Plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ENVIRONMENT = "PointmassMedium-v0"
SEEDS = (1, 2, 3)
SIZES = (500, 1_000, 2_000, 5_000)
UPDATES = 8_000
ALPHA = 1.0
"""Of CQL: with the default of 0.1, learning takes twice as many updates."""
WIDE = 0.9
"""Share of the cells from which on data counts as wide."""
EXPLORERS = ("random", "rnd")


@dataclass(frozen=True)
class Row:
    """One dataset, and the agent that has learned from it.

    Attributes:
        explorer: Who collected the data: `random` or `rnd`.
        seed: Of the explorer and of the agent.
        transitions: Size of the data.
        coverage: Share of the free cells in which the data has been.
        goals: How often the data reaches the goal.
        needed: Share of the best policy's visits on actions in cells where the data took them.
        expected_return: Exact return of CQL's policy.
        return_error: How far off that may be.
    """

    explorer: str
    seed: int
    transitions: int
    coverage: float
    goals: int
    needed: float
    expected_return: float
    return_error: float


def measure(
    seeds: Sequence[int] = SEEDS,
    sizes: Sequence[int] = SIZES,
    updates: int = UPDATES,
    env_id: str = ENVIRONMENT,
    kinds: Sequence[str] = EXPLORERS,
) -> Iterator[Row]:
    """Explore, train CQL on the first transitions of every exploration, and yield the numbers."""
    cases = [(explorer, seed) for explorer in kinds for seed in seeds]
    explorers = [
        {"base_config": explorer, "env_name": env_id, "seed": seed} for explorer, seed in cases
    ]
    complete = {found.index: found.dataset for found in explored(explorers, [sizes[-1]])}
    parts = [(index, size) for index in range(len(cases)) for size in sizes]
    data = [first(complete[index], size) for index, size in parts]
    settings = [
        {**explorers[index], "base_config": "cql", "cql_alpha": ALPHA} for index, _ in parts
    ]
    task, best = get_task(env_id), best_evaluation(env_id)
    for found in learned(settings, data, [updates]):
        index, size = parts[found.index]
        own = found.dataset
        facts = task.statistics(own.observations, own.next_observations, own.terminated)
        unseen = known(replace(best, data=Data(own.observations, own.actions)).unseen)
        yield Row(
            *cases[index], size, facts["coverage"], int(facts["goals_reached"]), 1 - unseen,
            found.exact.expected_return, found.exact.return_error,
        )  # fmt: skip


def best_evaluation(env_id: str) -> ExactEvaluation:
    """Return the exact evaluation of the best policy."""
    models = get_task(env_id).models()
    return evaluate(models, best_policy(env_id), discount=None, rng=np.random.default_rng(0))


def rank_correlation(rows: Sequence[Row], name: str) -> float:
    """Return Spearman's rank correlation of a field with the exact return."""
    from scipy.stats import spearmanr

    return float(spearmanr(column(rows, name), column(rows, "expected_return")).statistic)


def claims(rows: Sequence[Row]) -> list[str]:
    """Return what the page says of the rows."""
    most = max(row.transitions for row in rows)
    ranks = {name: rank_correlation(rows, name) for name in ("coverage", "needed", "goals")}
    random, rnd = (select(rows, explorer=explorer, transitions=most) for explorer in EXPLORERS)
    wide = [row for row in rows if row.coverage >= WIDE]
    returns = column(wide, "expected_return")
    best = plan(ENVIRONMENT).optimal_return
    return [
        (
            f"Over all {len(rows)} datasets, the rank correlation (Spearman) of the exact return "
            f"with the share of cells in the data is {ranks['coverage']:.2f}, with the share of "
            f"the best policy's visits in the data {ranks['needed']:.2f}, and with the number of "
            f"arrivals at the goal {ranks['goals']:.2f}."
        ),
        (
            f"{most:,} steps of the random policy cover "
            f"{spread(column(random, 'coverage'), '.0%')} of the cells, and CQL returns "
            f"{spread(column(random, 'expected_return'))}; as many of RND cover "
            f"{spread(column(rnd, 'coverage'), '.0%')}, and CQL returns "
            f"{spread(column(rnd, 'expected_return'))}. The best policy returns {best:.1f}."
        ),
        (
            f"Coverage is not sufficient: where the data covers at least {percent(WIDE)}, returns "
            f"are still between {returns.min():.1f} and {returns.max():.1f} ({len(wide)} "
            "datasets)."
        ),
    ]


COLOURS = {"random": PURPLE, "rnd": GREEN}
NAMES = {"random": "random", "rnd": "RND"}


def plot_of(rows: Sequence[Row]) -> Plot:
    """Return the figure."""
    return Plot(
        "coverage",
        "Coverage of data on Medium, and the exact return of what CQL learns from it",
        (
            lambda ax: _draw(ax, rows, "coverage", "Share of the cells in the data"),
            lambda ax: _draw(ax, rows, "needed", "Share of the best policy's visits in the data"),
            lambda ax: _draw(ax, rows, "goals", "Arrivals at the goal in the data"),
        ),
        3,
    )


def _draw(ax: Axes, rows: Sequence[Row], x: str, label: str) -> None:
    sizes = sorted({row.transitions for row in rows})
    for explorer, colour in COLOURS.items():
        own = select(rows, explorer=explorer)
        ax.scatter(
            column(own, x), column(own, "expected_return"),
            s=[12 + 14 * sizes.index(row.transitions) for row in own],
            color=colour, alpha=0.6, linewidths=0, label=f"data of {NAMES[explorer]}",
        )  # fmt: skip
    best = plan(ENVIRONMENT).optimal_return
    ax.axhline(best, color=INK, linewidth=1, linestyle="dashed", label="best policy")
    ax.set(xlabel=label, ylabel="Exact return")
    if x == "goals":
        ax.set_xscale("symlog", linthresh=1)
        ax.set_xlim(left=-0.3)
        ax.xaxis.set_major_formatter(lambda count, _: thousands(count))


def make(out: Path) -> list[str]:
    """Write the table and the figure into a folder; return the claims."""
    rows = rounded(list(measure()))
    write(out, rows, plot_of(rows))
    return claims(rows)
