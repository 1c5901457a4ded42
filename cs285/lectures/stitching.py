"""Stitching: no episode of the data goes from the start to the goal, but what they learn from does.

Hard has four rooms. Episodes of the first kind go from the start, top left, into the far corner
of the room top right, and are cut there. Those of the second kind begin in that room and go to the
goal, bottom right. Whoever imitates the data walks into the corner. The best policy among those
that only take actions that the data took nearby,

    V(s) = max_{a: n(cell of s, a) > 0} [ r(s, a) + discount sum_s' P(s'|s, a) V(s') ],

changes over from one kind to the other, and dynamic programming on the data finds it.
`docs/lectures.md` explains the figure.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cs285.analysis.exact import Data
from cs285.analysis.markov import Chain, action_values, best_values
from cs285.analysis.rollouts import Policy
from cs285.datasets.dataset_files import Dataset
from cs285.envs.maze_figures import draw_maze
from cs285.envs.mazes import MAZES, Maze
from cs285.envs.models import MazeModel, Model, maze_model
from cs285.homework import algorithms
from cs285.infrastructure.palette import BLUE, GREEN, GREY, INK, LABEL_SIZE, VERMILION
from cs285.lectures.shared.episodes import greedy, joined, return_in, simulate
from cs285.lectures.shared.outputs import rounded, write
from cs285.lectures.shared.trained import learned
from cs285.report.plots import SMALL, Plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FloatArray = npt.NDArray[np.float64]

ENVIRONMENT = "PointmassHard-v0"
COARSE, RESOLUTION = 2, 3
"""Of the grids; what the finer one changes is the error of a return."""
DISCOUNT = 0.98
CORNER = (1.0, 21.0)
"""Where the first kind goes, in the room top right."""
RADIUS = 1.5
MIDDLE = (6.5, 16.0)
"""Around here, in the same room, the second kind begins."""
SPREAD = 1.5
"""Largest distance from there along each axis."""
RANDOMNESS = 0.3
"""Probability with which an action of the data is drawn at random."""
EPISODES = 150
"""Of each kind."""
LIMIT = 60
UPDATES = 20_000
SEEDS = (1, 2)

IMITATION = 1e4
"""A temperature of AWAC at which all weights are 1: its actor clones the data."""
LEARNERS: dict[str, dict[str, Any]] = {
    "imitation": {"base_config": "awac", "temperature": IMITATION},
    "dqn": {"base_config": "dqn"},
    "cql": {"base_config": "cql"},
    "awac": {"base_config": "awac"},
}
SHOWN = 12
"""Episodes of each kind in the figure."""


@dataclass(frozen=True)
class Row:
    """One policy.

    Attributes:
        learner: A name of `LEARNERS`; `best`: of the maze; `supported`: the best one with actions
            of the data; `counts`: takes actions as often as the data did in the same cell.
        seed: Of the data, and of the agent if there is one; 0 for `best`.
        expected_return: Exact and undiscounted, of an episode from the start.
        return_error: How much it differs on the coarser grid; 0 for what needs no learning.
    """

    learner: str
    seed: int
    expected_return: float
    return_error: float


def towards(model: MazeModel, place: tuple[float, float]) -> FloatArray:
    """Return values `(N, A)` whose best actions lead to a place and stay around it."""
    near = np.linalg.norm(model.grid.layout.nodes - place, axis=1) < RADIUS
    values = np.zeros(model.num_states)
    transitions = model.transitions.astype(np.float64)
    for _ in range(model.horizon):
        following = (transitions @ (near + DISCOUNT * values)).reshape(model.rewards.shape)
        values = following.max(axis=1)
    found: FloatArray = following
    return found


@dataclass(frozen=True, eq=False)
class Case:
    """The maze, and the policies of the two kinds of episodes.

    Attributes:
        model: The maze.
        first: Goes to the corner.
        second: Goes to the goal.
    """

    model: MazeModel
    first: Policy
    second: Policy

    @classmethod
    def of(cls, env_id: str, resolution: int) -> Case:
        """Return those of a maze."""
        model = maze_model(MAZES[env_id], resolution)
        best = action_values(model, best_values(model, DISCOUNT), DISCOUNT)
        return cls(
            model,
            greedy(model, towards(model, CORNER), RANDOMNESS),
            greedy(model, best, RANDOMNESS),
        )

    def halves(self, seed: int) -> tuple[Dataset, Dataset]:
        """Return the episodes of the two kinds."""
        env_id = self.model.maze.env_id
        shifts = np.random.default_rng(seed).uniform(-SPREAD, SPREAD, (EPISODES, 2))
        begins = self.model.first_positions(EPISODES)
        one = simulate(env_id, self.model, self.first, begins, LIMIT, 2 * seed)
        middle = np.array(MIDDLE) + shifts
        return one, simulate(env_id, self.model, self.second, middle, LIMIT, 2 * seed + 1)


def counts_policy(model: Model, data: Dataset) -> FloatArray:
    """Return how often the data took each action in the cell of each state `(N, A)`.

    Where there are no data, all actions are equally likely.
    """
    counts = Data(data.observations, data.actions).frequencies(model)[model.regions]
    totals = counts.sum(axis=1, keepdims=True)
    found: FloatArray = np.where(totals > 0, counts / np.where(totals > 0, totals, 1), 0.2)
    return found


def supported_policy(model: Model, data: Dataset, discount: float) -> FloatArray:
    """Return the best policy that only takes actions of the data in the same cell `(N, A)`.

    Cells without data are as bad as never reaching the goal.
    """
    counts = Data(data.observations, data.actions).frequencies(model)[model.regions]
    transitions = model.transitions.astype(np.float64)
    never = -1 / (1 - discount)
    values = np.full(model.num_states, never)
    for _ in range(2_000):
        options = model.rewards + discount * (transitions @ values).reshape(counts.shape)
        options = np.where(counts > 0, options, never)
        change, values = np.abs(options.max(axis=1) - values).max(), options.max(axis=1)
        if change < 1e-6:  # noqa: PLR2004 - far below any difference between actions
            break
    chosen: FloatArray = np.eye(model.num_actions)[options.argmax(axis=1)]
    return chosen


def exact_rows(case: Case) -> Iterator[Row]:
    """Yield the returns of policies that need no learning."""
    best = action_values(case.model, best_values(case.model, DISCOUNT), DISCOUNT)
    chosen = np.eye(case.model.num_actions)[best.argmax(axis=1)]
    yield Row("best", 0, Chain(case.model, chosen).expected_return, 0.0)
    for seed in SEEDS:
        data = joined(*case.halves(seed))
        for name, policy in (
            ("supported", supported_policy(case.model, data, DISCOUNT)),
            ("counts", counts_policy(case.model, data)),
        ):
            yield Row(name, seed, Chain(case.model, policy).expected_return, 0.0)


def agents(case: Case) -> Iterator[tuple[Row, Policy]]:
    """Train all learners, and yield their returns and policies."""
    keys = [(name, seed) for name in LEARNERS for seed in SEEDS]
    env_id = case.model.maze.env_id
    settings = [
        {"env_name": env_id, "seed": seed, "discount": DISCOUNT, **LEARNERS[name]}
        for name, seed in keys
    ]
    data = {seed: joined(*case.halves(seed)) for seed in SEEDS}
    coarse = maze_model(case.model.maze, COARSE)
    for agent in learned(settings, [data[seed] for _, seed in keys], [UPDATES]):
        found = return_in([coarse, case.model], agent.policy)
        yield Row(*keys[agent.index], *found), agent.policy


def make(out: Path) -> list[str]:
    """Write `stitching.csv`, `stitching.png` and `stitching.pdf` into a folder.

    Returns:
        The table as lines of text.
    """
    case = Case.of(ENVIRONMENT, RESOLUTION)
    found = list(exact_rows(case))
    walks = {}
    for row, policy in agents(case):
        found.append(row)
        if row.learner in WALKERS and row.seed == SEEDS[0]:
            begins = case.model.first_positions(SHOWN)
            horizon = case.model.horizon
            walks[row.learner] = simulate(
                case.model.maze.env_id, case.model, policy, begins, horizon, 0
            )
    rows = rounded(found)
    write(out, rows, _plot(case, rows, walks))
    return [*summary(rows), *claims(rows)]


def returns_of(rows: Sequence[Row], learner: str) -> list[float]:
    """Return the expected returns of a learner, by seed."""
    return [row.expected_return for row in rows if row.learner == learner]


def summary(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the mean, worst and best return of each learner."""
    yield " ".join(f"{head:>10}" for head in ("learner", "mean", "worst", "best"))
    for name in dict.fromkeys(row.learner for row in rows):
        own = returns_of(rows, name)
        numbers = (f"{value:.1f}" for value in (np.mean(own), min(own), max(own)))
        yield " ".join(f"{cell:>10}" for cell in (name, *numbers))


def claims(rows: Sequence[Row]) -> list[str]:
    """Return what the table shows."""

    def mean(learner: str) -> str:
        return f"{np.mean(returns_of(rows, learner)):.1f}"

    offline = [name for name in LEARNERS if name in algorithms()]
    means = ", ".join(f"{mean(name)} with {titles()[name]}" for name in offline)
    worst = min(value for name in offline for value in returns_of(rows, name))
    return [
        f"Imitation, which takes the actions most frequent nearby, returns {mean('imitation')}.",
        f"Taking actions as often as the data in the same cell returns {mean('counts')}.",
        (
            f"The best policy that only takes actions of the data returns {mean('supported')}, and "
            f"the best one of the maze {mean('best')}."
        ),
        f"Offline RL returns {means}; the worst seed of all returns {worst:.1f}.",
    ]


# The figure

WALKERS = {"imitation": VERMILION, "cql": GREEN}
"""Learners whose episodes are drawn."""


def _plot(case: Case, rows: Sequence[Row], walks: dict[str, Dataset]) -> Plot:
    one, two = case.halves(SEEDS[0])
    maze = case.model.maze
    panels = (
        partial(_draw_paths, maze=maze, title="Data", paths=[(one, BLUE), (two, GREY)]),
        *(
            partial(_draw_paths, maze=maze, title=titles()[name], paths=[(walks[name], colour)])
            for name, colour in WALKERS.items()
        ),
        partial(_draw_returns, rows=rows),
    )
    title = "Two kinds of episodes, and the paths and returns of what is learned from them"
    return Plot("stitching", title, panels, columns=4, panel_inches=(3.5, 3.4), has_legend=False)


def titles() -> dict[str, str]:
    """Return what the figure calls each learner."""
    own = {name: algorithms()[name].title for name in LEARNERS if name in algorithms()}
    return {"counts": "Counts", "imitation": "Imitation", **own, "supported": "Best of data"}


def paths_of(data: Dataset, count: int) -> list[FloatArray]:
    """Return the observations of the first episodes, each `(T + 1, 2)`."""
    edges = [*data.episode_starts, len(data)][: count + 1]
    return [
        np.concatenate([data.observations[a:b], data.next_observations[b - 1 : b]])
        for a, b in itertools.pairwise(edges)
    ]


def _draw_paths(ax: Axes, maze: Maze, title: str, paths: Sequence[tuple[Dataset, str]]) -> None:
    for data, colour in paths:
        for path in paths_of(data, SHOWN):
            ax.plot(path[:, 1], path[:, 0], color=colour, linewidth=0.9, alpha=0.7, zorder=3)
            ax.plot(*path[-1][::-1], "o", color=colour, markersize=3, zorder=4)
    draw_maze(ax, maze, fill_goal=False)
    ax.set_title(title)
    ax.grid(visible=False)


def _draw_returns(ax: Axes, rows: Sequence[Row]) -> None:
    names = titles()
    for at, name in enumerate(names):
        own = returns_of(rows, name)
        shifts = np.linspace(-0.2, 0.2, len(own))
        colour = WALKERS.get(name, BLUE)
        ax.plot(at + shifts, own, "o", color=colour, markersize=4.5, alpha=0.8)
    best = returns_of(rows, "best")[0]
    ax.axhline(best, color=INK, linestyle="dashed", linewidth=1.2)
    ax.set_xticks(range(len(names)), names.values(), rotation=35, ha="right", fontsize=SMALL)
    ax.set_ylabel("Expected return", fontsize=LABEL_SIZE - 1)
    ax.set_title("Return from the start")
