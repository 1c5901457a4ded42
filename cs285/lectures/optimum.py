"""The returns of the best policy: their whole distribution, and what luck can do.

The best policy and the chance to arrive at each step follow from the transition probabilities, with
`a(i, u)` the chance of arriving in the goal and `P_u` the probabilities of continuing:

    Q_t(i, u) = a(i, u) - 1 + (P_u V_t+1)(i)           V_t = max_u Q_t,  V_H = 0
    d_t+1 = sum_u P_u' (d_t 1{u = argmax Q_t})          chance of return -t: sum_i d_t(i) a(i, u)
    U_k(i) = max_u [ a(i, u) + (P_u U_k-1)(i) ]         U_0 = 0

`U_k` is the largest chance that any policy has to arrive within k steps, whatever that costs it
otherwise. `docs/lectures.md` explains the figure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cs285.envs.mazes import MAZES
from cs285.envs.models import Model, maze_model, resolutions_of
from cs285.infrastructure.palette import BLUE, GREEN, INK, LABEL_SIZE, ORANGE, PURPLE, VERMILION
from cs285.lectures.shared.outputs import rounded, write
from cs285.report.plots import SMALL, Plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FloatArray = npt.NDArray[np.float64]

ENVIRONMENTS = tuple(MAZES)
HARD = "PointmassHard-v0"
HANDOUT = -20
"""What the handout asks for on Hard."""

EPISODES = 20_000
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
SEVERAL = 10
"""Episodes in the evaluations of the homework's public starter."""
SMALLEST = 1e-10
"""Smaller chances are not drawn."""


@dataclass(frozen=True)
class Row:
    """One possible return in one maze.

    Attributes:
        environment: The maze.
        returned: The return: minus the number of steps that do not arrive.
        chance: That the best policy returns this.
        at_least: That it returns this or more.
        any_policy: The largest chance of any policy to return this or more.
        coarser: `at_least` on the next coarser grid.
        simulated: Share of simulated episodes of the best policy that return this or more.
    """

    environment: str
    returned: int
    chance: float
    at_least: float
    any_policy: float
    coarser: float
    simulated: float


def best_action_values(model: Model) -> npt.NDArray[np.float32]:
    """Return the expected return to the end of each action, then the best ones `(H, N, A)`."""
    found = np.empty((model.horizon, *model.rewards.shape), np.float32)
    values = np.zeros(len(model.rewards), np.float32)
    for step in reversed(range(model.horizon)):
        found[step] = (model.transitions @ values).reshape(model.rewards.shape) + model.rewards
        values = found[step].max(axis=1)
    return found


def arrival_chances(model: Model, chosen: npt.NDArray[np.intp]) -> FloatArray:
    """Return the chances that episodes arrive with step 1, ..., H, or not at all `(H + 1,)`.

    Args:
        model: Its rewards are 0 for arriving and -1 otherwise.
        chosen: The action at each step and state `(H, N)`.
    """
    arriving = model.rewards.astype(np.float64) + 1
    backwards = model.transitions.T.astype(np.float64)
    states = np.arange(len(arriving))
    chances = np.empty(model.horizon + 1)
    now = model.start.astype(np.float64)
    for step, actions in enumerate(chosen):
        taken = np.zeros(arriving.shape)
        taken[states, actions] = now
        chances[step] = (taken * arriving).sum()
        now = backwards @ taken.ravel()
    chances[-1] = now.sum()
    return chances


def best_arrival_chances(model: Model) -> FloatArray:
    """Return the largest chance of any policy to arrive within 1, ..., H steps `(H,)`."""
    arriving = model.rewards.astype(np.float64) + 1
    forwards = model.transitions.astype(np.float64)
    chances = np.zeros(len(arriving))
    found = np.empty(model.horizon)
    for step in range(model.horizon):
        chances = ((forwards @ chances).reshape(arriving.shape) + arriving).max(axis=1)
        found[step] = model.start @ chances
    return found


def simulated_returns(
    model: Model, action_values: npt.NDArray[np.float32], episodes: int, seed: int = 0
) -> FloatArray:
    """Return what episodes return whose actions are best by interpolated values `(episodes,)`."""
    rng = np.random.default_rng(seed)
    returns = np.zeros(episodes)
    positions, running = model.first_positions(episodes), np.arange(episodes)
    for values in action_values:
        if not len(running):
            break
        actions = (model.interpolation(model.observe(positions)) @ values).argmax(axis=1)
        after = model.step(positions, actions, model.draw_noise(rng, len(running)))
        returns[running] += after.rewards
        running, positions = running[~after.terminated], after.positions[~after.terminated]
    return returns


def rows_of(env_id: str, resolutions: tuple[int, int], episodes: int) -> list[Row]:
    """Return the distribution in one maze, by return, the highest first.

    Args:
        env_id: The maze.
        resolutions: Those of the coarser and the finer grid.
        episodes: Number of simulated episodes.
    """
    coarse, fine = (maze_model(MAZES[env_id], resolution) for resolution in resolutions)
    values = best_action_values(fine)
    chances = arrival_chances(fine, values.argmax(axis=2))
    coarser = arrival_chances(coarse, best_action_values(coarse).argmax(axis=2)).cumsum()
    any_policy = np.append(best_arrival_chances(fine), 1.0)
    returns = -np.arange(fine.horizon + 1)
    simulated = simulated_returns(fine, values, episodes)
    shares = (simulated[None] >= returns[:, None] - 0.5).mean(axis=1)
    columns = (returns, chances, chances.cumsum(), any_policy, coarser, shares)
    lists = [column.tolist() for column in columns]
    return [Row(env_id, *numbers) for numbers in zip(*lists, strict=True)]


def mean(rows: Sequence[Row]) -> float:
    """Return the expected return."""
    return sum(row.chance * row.returned for row in rows)


def deviation(rows: Sequence[Row]) -> float:
    """Return the standard deviation of an episode's return."""
    centre = mean(rows)
    return float(np.sqrt(sum(row.chance * (row.returned - centre) ** 2 for row in rows)))


def quantile(rows: Sequence[Row], share: float) -> int:
    """Return the smallest return that at least this share of the episodes do not exceed."""
    below = 0.0
    for row in reversed(rows):
        below += row.chance
        if below >= share:
            return row.returned
    return rows[0].returned


def mean_chances(rows: Sequence[Row], episodes: int) -> FloatArray:
    """Return the chances that the mean return of some episodes is at least that of each row."""
    single = np.array([row.chance for row in rows])  # of 0, 1, ... steps that do not arrive
    total = np.ones(1)
    for _ in range(episodes):
        total = np.convolve(total, single)
    found: FloatArray = total.cumsum()[::episodes]
    return found


def listed(words: Sequence[str]) -> str:
    """Return words as a list in a sentence."""
    return " and ".join([*filter(None, [", ".join(words[:-1])]), words[-1]])


def luckier(rows: Sequence[Row], returned: int) -> Row:
    """Return the row of a return."""
    return next(row for row in rows if row.returned == returned)


def distances(rows: Sequence[Row]) -> tuple[float, float]:
    """Return the largest difference of `at_least` to the coarser grid, and to the simulation."""
    return (
        max(abs(row.at_least - row.coarser) for row in rows),
        max(abs(row.at_least - row.simulated) for row in rows),
    )


def make(out: Path) -> list[str]:
    """Write `optimum.csv`, `optimum.png` and `optimum.pdf` into a folder.

    Returns:
        The numbers of each maze, and the claims.
    """
    rows = []
    for env_id in ENVIRONMENTS:
        coarser, finer = resolutions_of(MAZES[env_id])[-2:]
        rows += rows_of(env_id, (coarser, finer), EPISODES)
    rows = rounded(rows)
    write(out, rows, _plot(rows))
    return [*summary(rows), *claims(rows)]


def by_maze(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Return the rows of each maze."""
    return {
        env_id: [row for row in rows if row.environment == env_id]
        for env_id in dict.fromkeys(row.environment for row in rows)
    }


def summary(rows: Sequence[Row]) -> Iterator[str]:
    """Yield a table with a line for each maze."""
    heads = ("maze", "mean", "sd", *(f"{share:.0%}" for share in QUANTILES), "grid", "rollouts")
    yield " ".join(f"{head:>9}" for head in heads)
    for env_id, own in by_maze(rows).items():
        numbers = (f"{mean(own):.2f}", f"{deviation(own):.2f}")
        quantiles = (str(quantile(own, share)) for share in QUANTILES)
        errors = (f"{distance:.4f}" for distance in distances(own))
        cells = (MAZES[env_id].title, *numbers, *quantiles, *errors)
        yield " ".join(f"{cell:>9}" for cell in cells)


def claims(rows: Sequence[Row]) -> list[str]:
    """Return what the table shows."""
    mazes = by_maze(rows)
    names = listed([MAZES[env_id].title for env_id in mazes])
    means = listed([f"{mean(own):.2f}" for own in mazes.values()])
    deviations = listed([f"{deviation(own):.1f}" for own in mazes.values()])
    hard = mazes[HARD]
    there = luckier(hard, HANDOUT)
    several = mean_chances(hard, SEVERAL)[-HANDOUT]
    grid, rollouts = (max(distances(own)[which] for own in mazes.values()) for which in range(2))
    low, high = (quantile(hard, share) for share in (0.25, 0.75))
    lowest, highest = (quantile(hard, share) for share in (0.01, 0.99))
    best, any_policy = (round(1 / x, -2) for x in (there.at_least, there.any_policy))
    return [
        (
            f"The expected return of the best policy is {means} on {names}; a single episode "
            f"scatters around it with a standard deviation of {deviations}."
        ),
        (
            f"On Hard, half of its episodes return {low} to {high}, and 98 % return {lowest} to "
            f"{highest}."
        ),
        (
            f"One in {best:,.0f} of them returns {HANDOUT} or more. A policy that cares for "
            f"nothing but this reaches one in {any_policy:,.0f}, and none does better."
        ),
        (
            f"The mean of {SEVERAL} episodes of the best policy is {HANDOUT} or more with a chance "
            f"of {several:.0e}."
        ),
        (
            f"The shares of {EPISODES:,} simulated episodes differ from the distribution by at "
            f"most {rollouts:.3f}, and those of a coarser grid by at most {grid:.4f}."
        ),
    ]


# The figure


def _plot(rows: Sequence[Row]) -> Plot:
    found = by_maze(rows)
    panels = [partial(_draw_distribution, env_id=one, rows=own) for one, own in found.items()]
    hard = partial(_draw_luck, rows=found[HARD])
    spread = partial(_draw_quantiles, found=found)
    title = "Distribution of the best policy's return in four mazes"
    return Plot("optimum", title, (*panels, hard, spread), columns=3)


def _draw_distribution(ax: Axes, env_id: str, rows: Sequence[Row]) -> None:
    shares = -np.diff([row.simulated for row in rows][::-1], append=0.0)[::-1]
    returns = [row.returned for row in rows]
    ax.bar(
        returns, [100 * row.chance for row in rows], width=1.0, color=BLUE, alpha=0.55,
        label="exact",
    )  # fmt: skip
    ax.plot(
        returns, 100 * shares, "o", color=ORANGE, markersize=3,
        label=f"{EPISODES:,} episodes of the best policy",
    )  # fmt: skip
    ax.axvline(mean(rows), color=INK, linestyle="dashed", linewidth=1.2, label="expected return")
    low, high = quantile(rows, 0.002), quantile(rows, 0.998)
    if env_id == HARD:
        ax.axvline(HANDOUT, color=VERMILION, linewidth=1.5, label="\N{MINUS SIGN}20 of the handout")
        high = HANDOUT
    ax.set_xlim(low - 3, high + 3)
    ax.set_title(MAZES[env_id].title)
    ax.set_xlabel("Return of an episode", fontsize=LABEL_SIZE - 1)
    ax.set_ylabel("Chance in %", fontsize=LABEL_SIZE - 1)


def _draw_luck(ax: Axes, rows: Sequence[Row]) -> None:
    """Show how likely an episode on Hard, or the mean of several, returns at least so much."""
    from matplotlib.ticker import FuncFormatter

    returns = np.array([row.returned for row in rows])
    for name, colour, chances in (
        ("any policy, 1 episode, at most", PURPLE, np.array([row.any_policy for row in rows])),
        (f"best policy, mean of {SEVERAL}", GREEN, mean_chances(rows, SEVERAL)),
    ):
        shown = chances > SMALLEST
        ax.plot(returns[shown], chances[shown], color=colour, linewidth=1.8, label=name)
    hard = luckier(rows, HANDOUT)
    ax.axvline(HANDOUT, color=VERMILION, linewidth=1.5)
    ax.annotate(
        f"1 in {round(1 / hard.any_policy, -2):,.0f}", (HANDOUT, hard.any_policy), xytext=(5, 3),
        textcoords="offset points", fontsize=SMALL,
    )  # fmt: skip
    ax.set_yscale("log")
    ax.yaxis.set_major_formatter(FuncFormatter(lambda chance, _: f"{chance:g}"))
    ax.set_ylim(SMALLEST, 3)
    ax.set_xlim(-45, -12)
    ax.set_title("Hard: chance of at least a return")
    ax.set_xlabel("Return", fontsize=LABEL_SIZE - 1)


def _draw_quantiles(ax: Axes, found: dict[str, list[Row]]) -> None:
    """Show the quantiles of an episode's return beside its mean."""
    for at, rows in enumerate(found.values()):
        for low, high, width in ((0.01, 0.99, 1.5), (0.05, 0.95, 4), (0.25, 0.75, 9)):
            ax.plot(
                [quantile(rows, low), quantile(rows, high)], [at, at], color=BLUE, alpha=0.6,
                linewidth=width, solid_capstyle="butt",
            )  # fmt: skip
        ax.plot(mean(rows), at, "D", color=INK, markersize=4)
    ax.set_yticks(range(len(found)), [MAZES[env_id].title for env_id in found])
    ax.invert_yaxis()
    ax.set_title("98, 90 and 50 % of the episodes")
    ax.set_xlabel("Return of an episode", fontsize=LABEL_SIZE - 1)
