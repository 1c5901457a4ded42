"""Time limits that are stored as ends of episodes: what a learner then believes and does.

Data come from episodes of at most L steps. With `p(s)` the share of the visits to s that are the
last step before the limit, temporal differences that take the limit for an end converge to

    Q(s, a) = r(s, a) + discount (1 - p(s)) sum_s' P(s'|s, a) max_a' Q(s', a')

as if every step from s ended the episode with chance p(s), at no further cost. Their error in the
value V of a policy with the transition probabilities P is

    V_limit - V = -discount (1 - discount diag(1 - p) P)^-1 diag(p) P V

which is positive wherever V is negative. Bootstrapping through the limit has p = 0 and no error
(Pardo 2018, partial-episode bootstrapping). `docs/lectures.md` explains the figure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cs285.analysis.maps import Squares, squares_per_unit
from cs285.analysis.markov import Chain, action_values, best_values
from cs285.envs.maze_figures import draw_maze
from cs285.envs.mazes import MAZES, observe
from cs285.envs.models import MazeModel, Model, maze_model
from cs285.infrastructure.palette import BLUE, INK, LABEL_SIZE, VERMILION
from cs285.lectures.shared.episodes import mixed
from cs285.lectures.shared.outputs import percent, rounded, select, write
from cs285.report.plots import Plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FloatArray = npt.NDArray[np.float64]

ENVIRONMENT = "PointmassHard-v0"
COARSE, RESOLUTION = 2, 3
"""Nodes per unit of the two grids."""
DISCOUNT = 0.98
LIMITS = (30, 40, 50, 75, 100)
RANDOMNESS = 0.5
"""The data's policy takes the best action, but with this probability any action."""
RANDOM = 1.0
"""The random policy, whose data are solved exactly, too."""
OWN_LIMIT = 100
"""Hard's own time limit."""
MAPPED = 50
"""The time limit of the maps."""
ACCURACY = 1e-6


@dataclass(frozen=True)
class Row:
    """One solution, with all data of a policy.

    Attributes:
        limit: Steps per episode of the data.
        randomness: Probability with which the data's policy takes any action, not the best one.
        treatment: `end`: the limit is stored as an end; `bootstrap`: it is not.
        cut: Share of the data's episodes that the limit cuts.
        value: What the learner expects at the start, discounted.
        true_value: What its policy gets there.
        expected_return: Undiscounted return of its policy in an episode of the task.
        coarse_return: The same on a coarser grid.
    """

    limit: int
    randomness: float
    treatment: str
    cut: float
    value: float
    true_value: float
    expected_return: float
    coarse_return: float


def last_shares(chain: Chain, limit: int) -> tuple[FloatArray, float]:
    """Return for each state the share of its visits that are the last step before the limit.

    Returns:
        The shares `(N,)`, and the chance that the limit cuts an episode.
    """
    now = chain.model.start.astype(np.float64)
    visits = np.zeros_like(now)
    for _ in range(limit):
        last = now
        visits += last
        now = chain.transitions.T @ last
    shares = np.divide(last, visits, out=np.zeros_like(last), where=visits > 0)
    return shares, float(now.sum())


def learned_values(model: Model, shares: FloatArray, discount: float) -> FloatArray:
    """Return the values of actions that Q-learning converges to `(N, A)`.

    Args:
        model: The task.
        shares: Share of the visits to each state after which the data say that the episode ended.
        discount: The learner's.
    """
    found: FloatArray = np.zeros(model.rewards.shape)
    transitions = model.transitions.astype(np.float64)
    going_on = discount * (1 - shares)[:, None]
    while True:
        following = (transitions @ found.max(axis=1)).reshape(found.shape)
        better = model.rewards + going_on * following
        change, found = np.abs(better - found).max(), better
        if change < ACCURACY:
            return found


def bias(chain: Chain, shares: FloatArray, discount: float) -> FloatArray:
    """Return by how much a policy's values are too high if limits count as ends `(N,)`."""
    from scipy import sparse
    from scipy.sparse.linalg import spsolve

    size = len(shares)
    transitions = sparse.csr_array(chain.transitions, dtype=np.float64)
    true = spsolve(sparse.eye_array(size, format="csc") - discount * transitions, chain.rewards)
    scaled = sparse.diags_array(discount * (1 - shares)) @ transitions
    lost = -discount * shares * (transitions @ true)
    found: FloatArray = spsolve(sparse.eye_array(size, format="csc") - scaled, lost)
    return found


@dataclass(frozen=True, eq=False)
class Truth:
    """The task and what is best under the learner's discount.

    Attributes:
        model: The task.
        best: Values of the actions, then the best policy `(N, A)`.
    """

    model: MazeModel
    best: FloatArray

    @classmethod
    def of(cls, env_id: str, resolution: int) -> Truth:
        """Return those of a maze."""
        model = maze_model(MAZES[env_id], resolution)
        return cls(model, action_values(model, best_values(model, DISCOUNT), DISCOUNT))

    def data_chain(self, randomness: float) -> Chain:
        """Return the policy of the data."""
        chosen = mixed(self.best.argmax(axis=1), self.model.num_actions, randomness)
        return Chain(self.model, chosen.astype(np.float64))

    def exact(self, limit: int, randomness: float, treatment: str) -> Row:
        """Return what a treatment leads to with all data of a policy."""
        shares, cut = last_shares(self.data_chain(randomness), limit)
        ended = shares if treatment == "end" else np.zeros_like(shares)
        values = learned_values(self.model, ended, DISCOUNT)
        own = Chain(self.model, np.eye(self.model.num_actions)[values.argmax(axis=1)])
        start = self.model.start
        return Row(
            limit, randomness, treatment, cut, float(start @ values.max(axis=1)),
            float(start @ own.values(DISCOUNT)), own.expected_return, np.nan,
        )  # fmt: skip


def solutions(truth: Truth, coarse: Truth) -> Iterator[Row]:
    """Yield what both treatments lead to; bootstrapping's solution is the same for all data."""

    def solved(limit: int, randomness: float, treatment: str) -> Row:
        fine, other = (one.exact(limit, randomness, treatment) for one in (truth, coarse))
        return replace(fine, coarse_return=other.expected_return)

    through = solved(LIMITS[0], RANDOMNESS, "bootstrap")
    for limit in LIMITS:
        for randomness in (RANDOMNESS, RANDOM):
            end = solved(limit, randomness, "end")
            yield end
            yield replace(through, limit=limit, randomness=randomness, cut=end.cut)


def make(out: Path) -> list[str]:
    """Write `time_limits.csv`, `time_limits.png` and `time_limits.pdf` into a folder.

    Returns:
        The table as lines of text.
    """
    truth, coarse = (Truth.of(ENVIRONMENT, resolution) for resolution in (RESOLUTION, COARSE))
    rows = rounded(list(solutions(truth, coarse)))
    write(out, rows, _plot(truth, rows))
    heads = ("limit", "randomness", "treatment", "cut", "value", "true value", "return", "coarse")
    return [" ".join(f"{head:>13}" for head in heads), *summary(rows), *claims(rows)]


def summary(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the numbers of each solution."""
    for row in rows:
        numbers = (row.cut, row.value, row.true_value, row.expected_return, row.coarse_return)
        cells = [str(row.limit), str(row.randomness), row.treatment, *(f"{x:.2f}" for x in numbers)]
        yield " ".join(f"{cell:>13}" for cell in cells)


def one(rows: Sequence[Row], limit: int, treatment: str, randomness: float = RANDOMNESS) -> Row:
    """Return the row of a limit, a treatment and data."""
    return select(rows, limit=limit, treatment=treatment, randomness=randomness)[0]


def claims(rows: Sequence[Row]) -> list[str]:
    """Return what the table shows."""
    said = []
    for limit in sorted({row.limit for row in rows}):
        end, through = one(rows, limit, "end"), one(rows, limit, "bootstrap")
        said.append(
            f"Limit {limit}, which cuts {percent(end.cut)} of the episodes: the value of the start "
            f"is {end.value:.1f} if the limit is an end, and {through.value:.1f} if not. The "
            f"policy returns {end.expected_return:.1f} instead of {through.expected_return:.1f}."
        )
    random = one(rows, MAPPED, "end", RANDOM)
    own = one(rows, OWN_LIMIT, "end", RANDOM)
    return [
        *said,
        (
            f"Data of the random policy make it worse: with a limit of {MAPPED} the value is "
            f"{random.value:.1f} and the policy returns {random.expected_return:.1f}; with Hard's "
            f"own limit of {OWN_LIMIT}, {own.value:.1f} and {own.expected_return:.1f}."
        ),
        (
            "A coarser grid changes these returns by at most "
            f"{coarseness([*select(rows, randomness=RANDOMNESS), random, own]):.1f}."
        ),
    ]


def coarseness(rows: Sequence[Row]) -> float:
    """Return the largest difference of a return to that on the coarser grid."""
    return max(abs(row.expected_return - row.coarse_return) for row in rows)


# The figure


TREATMENTS = (("end", VERMILION, "limit is an end"), ("bootstrap", BLUE, "bootstrap through it"))


def _plot(truth: Truth, rows: Sequence[Row]) -> Plot:
    shares, _ = last_shares(truth.data_chain(RANDOMNESS), MAPPED)
    values = learned_values(truth.model, shares, DISCOUNT).max(axis=1)
    panels = (
        partial(_draw_curves, rows=rows, name="value", title="Expected at the start"),
        partial(_draw_curves, rows=rows, name="expected_return", title="Return of the policy"),
        partial(
            _draw_map, model=truth.model, field=100 * shares,
            title=f"Visits just before the limit of {MAPPED}, %",
        ),
        partial(
            _draw_map, model=truth.model, field=values - truth.best.max(axis=1),
            title="Value too high by",
        ),
    )  # fmt: skip
    title = "Values and returns of learners that take time limits for ends, and of those that don't"
    return Plot("time_limits", title, panels, columns=4, panel_inches=(3.6, 3.3))


def _draw_curves(ax: Axes, rows: Sequence[Row], name: str, title: str) -> None:
    for treatment, colour, label in TREATMENTS:
        for randomness, line in ((RANDOMNESS, "solid"), (RANDOM, "dashed")):
            if treatment == "bootstrap" and randomness == RANDOM:
                continue  # the same as with the other data
            own = [one(rows, limit, treatment, randomness) for limit in LIMITS]
            ax.plot(
                LIMITS, [getattr(row, name) for row in own], "o", color=colour, markersize=4,
                linewidth=1.8, linestyle=line,
                label=f"{label}{', random data' * (randomness == RANDOM)}",
            )  # fmt: skip
    ax.set_title(title)
    ax.set_xlabel("Time limit of the data", fontsize=LABEL_SIZE - 1)
    ax.set_xticks(LIMITS)


def _draw_map(ax: Axes, model: MazeModel, field: FloatArray, title: str) -> None:
    squares = Squares(model.maze, squares_per_unit(model.maze))
    shown = squares.spread(model.interpolation(observe(model.maze, squares.centres)) @ field)
    image = ax.imshow(shown, extent=(0, 1, 1, 0), cmap="YlOrRd", zorder=1, vmin=0)
    draw_maze(ax, model.maze, fill_goal=False)
    bar = ax.figure.colorbar(image, ax=ax, shrink=0.85)
    bar.outline.set_edgecolor(INK)
    ax.set_title(title)
    ax.grid(visible=False)
