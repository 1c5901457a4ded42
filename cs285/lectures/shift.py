"""Distribution shift: DQN on narrow data trusts values of actions that it has never seen.

`docs/lectures.md` explains the figure and the numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cs285.datasets.dataset_files import Dataset
from cs285.envs.planner import plan
from cs285.infrastructure.palette import BLUE, ORANGE
from cs285.lectures.shared.outputs import (
    column,
    draw_range,
    rounded,
    select,
    spread,
    use_logarithm,
    write,
)
from cs285.lectures.shared.trained import best_policy, collected, explored, known, learned
from cs285.report.plots import SMALL, Plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ENVIRONMENT = "PointmassMedium-v0"
SEEDS = (1, 2, 3, 4, 5)
TRANSITIONS = 2_000
MOMENTS = (1_000, 5_000, 20_000)
ALPHA = 1.0
TEMPERATURE = 0.1
"""Of CQL: a strong and nearly hard penalty, since the data has few actions."""
EPSILON = 0.05
"""Random actions of the good policy, so that the data is narrow but not a single path."""
DATA = ("narrow", "wide")
COLOURS = {"dqn": ORANGE, "cql": BLUE}
AGENTS = {"dqn": {}, "cql": {"cql_alpha": ALPHA, "cql_temperature": TEMPERATURE}}


@dataclass(frozen=True)
class Row:
    """One agent at one moment.

    Attributes:
        data: `narrow`: of a good policy; `wide`: of RND, as many transitions.
        agent: `dqn` or `cql`.
        seed: Of the data and of the agent.
        step: Updates.
        expected_return: Of its policy.
        largest_learned: Mean of its largest estimate over its visits.
        value: Mean of the exact value of its policy over its visits.
        unseen: Share of its visits on actions in cells where the data never took them.
        shift: Total variation distance between its visits and the data.
    """

    data: str
    agent: str
    seed: int
    step: int
    expected_return: float
    largest_learned: float
    value: float
    unseen: float
    shift: float

    @property
    def overestimation(self) -> float:
        """By how much its largest estimate exceeds the value of its policy."""
        return self.largest_learned - self.value


def datasets(name: str, env_id: str, seeds: Sequence[int], transitions: int) -> list[Dataset]:
    """Return data of a kind, one set for each seed."""
    if name == "narrow":
        policy = best_policy(env_id, EPSILON)
        return [collected(env_id, policy, transitions, seed) for seed in seeds]
    settings = [{"base_config": "rnd", "env_name": env_id, "seed": seed} for seed in seeds]
    return [found.dataset for found in explored(settings, [transitions])]


def measure(
    seeds: Sequence[int] = SEEDS,
    moments: Sequence[int] = MOMENTS,
    transitions: int = TRANSITIONS,
    kinds: Sequence[str] = DATA,
    env_id: str = ENVIRONMENT,
) -> Iterator[Row]:
    """Train on every kind of data and yield the numbers of all agents at all moments."""
    for kind in kinds:
        data = datasets(kind, env_id, seeds, transitions)
        for agent, own in AGENTS.items():
            settings = [
                {"base_config": agent, "env_name": env_id, "seed": seed, **own} for seed in seeds
            ]
            for found in learned(settings, data, moments):
                exact = found.exact
                visits = exact.chain.occupancy / exact.chain.occupancy.sum()
                yield Row(
                    kind, agent, found.config.seed, found.step, exact.expected_return,
                    float(visits @ known(exact.learned).max(axis=1)), float(visits @ exact.values),
                    known(exact.unseen), known(exact.shift),
                )  # fmt: skip


def plot_of(rows: Sequence[Row]) -> Plot:
    """Return the figure."""
    return Plot(
        "shift",
        "DQN and CQL on narrow and wide data: what they believe, what is true, where they go",
        (
            lambda ax: _draw_values(ax, select(rows, data="narrow"), "Narrow data: values"),
            lambda ax: _draw_values(ax, select(rows, data="wide"), "Wide data: values"),
            lambda ax: _draw_kinds(ax, rows, "unseen", "Visits without data"),
            lambda ax: _draw_kinds(ax, rows, "expected_return", "Exact return"),
        ),
        2,
        has_legend=False,
    )


def _draw_values(ax: Axes, rows: Sequence[Row], title: str) -> None:
    for agent, colour in COLOURS.items():
        own, name = select(rows, agent=agent), agent.upper()
        draw_range(ax, own, "step", "largest_learned", colour, f"{name}: learned max Q")
        draw_range(ax, own, "step", "value", colour, f"{name}: exact V", line="dashed")
    _finish(ax, title, named=rows[0].data == "narrow")


def _draw_kinds(ax: Axes, rows: Sequence[Row], name: str, title: str) -> None:
    for agent, colour in COLOURS.items():
        for data, line in (("narrow", "solid"), ("wide", "dotted")):
            own = select(rows, agent=agent, data=data)
            draw_range(ax, own, "step", name, colour, f"{agent.upper()}, {data} data", line=line)
    _finish(ax, title, named=name == "expected_return")


def _finish(ax: Axes, title: str, *, named: bool) -> None:
    use_logarithm(ax, "x")
    if named:
        ax.legend(frameon=False, fontsize=SMALL)
    ax.set(title=title, xlabel="Updates")


def claims(rows: Sequence[Row]) -> list[str]:
    """Return what the page says of the rows."""
    last = max(row.step for row in rows)

    def of(name: str, form: str = ".1f", data: str = "narrow") -> tuple[str, str]:
        own = select(rows, data=data, step=last)
        dqn, cql = (spread(column(select(own, agent=agent), name), form) for agent in AGENTS)
        return dqn, cql

    learned_dqn, learned_cql = of("largest_learned")
    value_dqn, value_cql = of("value")
    unseen_dqn, unseen_cql = of("unseen", ".0%")
    shift_dqn, shift_cql = of("shift", ".2f")
    return_dqn, return_cql = of("expected_return")
    best = plan(ENVIRONMENT).optimal_return
    wide_return, wide_cql = of("expected_return", data="wide")
    wide_over, _ = of("overestimation", data="wide")
    wide_unseen, _ = of("unseen", ".0%", data="wide")
    return [
        (
            f"After {last:,} updates on the narrow data, DQN expects {learned_dqn} where its "
            f"policy goes, and its policy is worth {value_dqn} there. CQL on the same data "
            f"expects {learned_cql} and is worth {value_cql}."
        ),
        (
            f"{unseen_dqn} of DQN's visits use an action in a cell where the data never took it, "
            f"and {unseen_cql} of CQL's. The total variation distance to the data is {shift_dqn} "
            f"and {shift_cql}."
        ),
        (
            f"So DQN's exact return is {return_dqn}, and CQL's {return_cql}; the best policy's is "
            f"{best:.1f}."
        ),
        (
            f"On wide data of the same size, DQN's return is {wide_return}, it overestimates by "
            f"{wide_over}, and {wide_unseen} of its visits are without data. A penalty as strong "
            f"as this is no help there: CQL's return is {wide_cql}."
        ),
    ]


def make(out: Path) -> list[str]:
    """Write the table and the figure into a folder; return the claims."""
    rows = rounded(list(measure()))
    write(out, rows, plot_of(rows))
    return claims(rows)
