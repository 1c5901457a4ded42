"""Reward bonuses for constraints on the policy: the policies that they lead to, and the best ones.

`docs/theory.md` explains the figure and the numbers.
"""

from __future__ import annotations

import csv
import io
from dataclasses import astuple, dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cs285.analysis.constrained import (
    ActionPenalty,
    Candidate,
    Penalty,
    Process,
    StatePenalty,
    best_return,
    bonus_policy,
    constrained_optimum,
    excess,
    penalised_optimum,
)
from cs285.envs.mazes import MAZES
from cs285.envs.models import Model, maze_model
from cs285.infrastructure.files import write_atomically
from cs285.infrastructure.palette import BLUE, INK, LABEL_SIZE, ORANGE, TITLE_SIZE, VERMILION
from cs285.learning.divergences import DIVERGENCES, KL

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

FloatArray = npt.NDArray[np.float64]

DISCOUNT = 0.95
ENVIRONMENTS = ("PointmassEasy-v0", "PointmassMedium-v0")
RESOLUTION = 3
MULTIPLIERS = (0.03, 0.1, 0.3, 1.0, 3.0)
STATE_MULTIPLIERS = (0.1, 0.3, 1.0, 3.0)
CURVE = 21
"""Multipliers along each line of the figure."""

HEADS = (
    "maze", "D", "lambda", "J*", "D*", "excess", "frozen", "J b", "D b", "loss b", "short b",
    "J b~", "D b~", "loss b~", "short b~", "loss b*", "KL*",
)  # fmt: skip
"""What the printed table calls the parts of `Row`."""

RATES = {"kl": 1.0, "tvd": 0.03, "jsd": 0.1, "chi2": 0.05}
"""Steps of `bonus_policy`; larger ones oscillate."""

WALKERS = 40
KEPT = 0.7
"""Probability with which a walker repeats its action."""


@dataclass(frozen=True)
class Row:
    """One multiplier.

    Attributes:
        environment: The maze.
        divergence: Name of the divergence, `state_kl` for that of trajectories.
        multiplier: lambda.
        optimum: `J` of the penalised optimum.
        optimum_divergence: Its mean divergence per step, `(1 - discount) D`.
        excess: How much more return a policy with no more divergence could have; a bound.
        frozen_excess: By how much the best policy for the bonus `b`, frozen at the optimum, beats
            the optimum in the modified reward: 0 where the optimum is a fixed point.
        learned: `J` of the policy that learning with `b` in the reward leads to.
        learned_divergence: Its mean divergence per step.
        learned_loss: How much it lacks of the optimum in `J - multiplier D`.
        learned_shortfall: How much it lacks in `J` of the best policy with no more divergence.
        bounded: `J` with the bonus made from `f(x) + f(0) (x - 1)`.
        bounded_divergence: Its mean divergence per step.
        bounded_loss: How much it lacks.
        bounded_shortfall: How much it lacks of the best policy with no more divergence.
        marginal_loss: How much the policy lacks that learning with `b*` leads to.
        action_kl: The mean KL per step between actions at the optimum.
    """

    environment: str
    divergence: str
    multiplier: float
    optimum: float
    optimum_divergence: float
    excess: float
    frozen_excess: float
    learned: float
    learned_divergence: float
    learned_loss: float
    learned_shortfall: float
    bounded: float
    bounded_divergence: float
    bounded_loss: float
    bounded_shortfall: float
    marginal_loss: float
    action_kl: float


def walked(model: Model, seed: int = 0) -> FloatArray:
    """Return a behaviour policy `(N, A)`: how often walkers took each action in each region.

    They repeat their last action with probability `KEPT` and otherwise choose any. One is added to
    every count.
    """
    rng = np.random.default_rng(seed)
    counts = np.ones((model.num_regions, model.num_actions))
    positions = model.first_positions(WALKERS)
    actions = rng.integers(model.num_actions, size=WALKERS)
    for _ in range(model.horizon):
        anew = rng.random(len(actions)) > KEPT
        actions = np.where(anew, rng.integers(model.num_actions, size=len(actions)), actions)
        np.add.at(counts, (model.regions_of(model.observe(positions)), actions), 1)
        after = model.step(positions, actions, model.draw_noise(rng, len(actions)))
        positions, actions = after.positions[~after.terminated], actions[~after.terminated]
    behaviour: FloatArray = (counts / counts.sum(axis=1, keepdims=True))[model.regions]
    return behaviour


def process_of(env_id: str, resolution: int = RESOLUTION) -> Process:
    """Return a maze with the behaviour policy of `walked`."""
    model = maze_model(MAZES[env_id], resolution)
    return Process.of_model(model, walked(model), DISCOUNT)


def action_row(env_id: str, process: Process, name: str, multiplier: float) -> Row:
    """Return the numbers of an f-divergence."""
    divergence = DIVERGENCES[name]
    penalty = ActionPenalty(divergence)
    best = penalised_optimum(process, penalty, multiplier)
    learned, bounded, marginal = (
        Candidate(
            process, penalty, bonus_policy(process, bonus, multiplier, RATES[name])[0], multiplier
        )
        for bonus in (divergence.bonus, divergence.bounded_bonus, divergence.marginal_bonus)
    )
    held = divergence.bonus(np.maximum(best.policy, 1e-12), process.behaviour)
    return Row(
        env_id,
        name,
        multiplier,
        best.expected_return,
        per_step(best),
        excess(best, penalty.marginal_bonus(best)),
        excess(best, held),
        learned.expected_return,
        per_step(learned),
        best.objective - learned.objective,
        shortfall(learned),
        bounded.expected_return,
        per_step(bounded),
        best.objective - bounded.objective,
        shortfall(bounded),
        best.objective - marginal.objective,
        action_kl(best),
    )


def state_row(env_id: str, process: Process, multiplier: float) -> Row:
    """Return the numbers of the divergence between trajectories of states."""
    penalty = StatePenalty()
    best = penalised_optimum(process, penalty, multiplier, most=60)
    margin = excess(best, penalty.marginal_bonus(best))
    nothing = (np.nan,) * 9  # there is one bonus, and it is right
    return Row(
        env_id, "state_kl", multiplier, best.expected_return, per_step(best), margin, margin,
        *nothing, action_kl(best),
    )  # fmt: skip


def per_step(found: Candidate) -> float:
    """Return the mean divergence per step; the goal counts as a state where it is 0."""
    return (1 - found.process.discount) * found.divergence


def shortfall(found: Candidate) -> float:
    """Return how much more return the best policy with no more divergence has."""
    best, _ = constrained_optimum(found.process, found.penalty, found.divergence)
    return best.expected_return - found.expected_return


def action_kl(found: Candidate) -> float:
    """Return the mean KL divergence per step between the actions of a policy and the behaviour."""
    return per_step(Candidate(found.process, ActionPenalty(KL), found.policy))


def rows() -> Iterator[Row]:
    """Yield the numbers of all mazes, divergences and multipliers."""
    for env_id in ENVIRONMENTS:
        process = process_of(env_id)
        for name in DIVERGENCES:
            for multiplier in MULTIPLIERS:
                yield action_row(env_id, process, name, multiplier)
        for multiplier in STATE_MULTIPLIERS:
            yield state_row(env_id, process, multiplier)


def make(out: Path) -> list[str]:
    """Write `bonus.csv`, `bonus.png` and `bonus.pdf` into a folder.

    Returns:
        The table as lines of text.
    """
    found = list(rows())
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(field.name for field in fields(Row))
    writer.writerows(astuple(row) for row in found)
    write_atomically(out / "bonus.csv", lambda file: file.write(table.getvalue().encode()))
    _draw(found, out)
    lines = [" ".join(f"{head:>9}" for head in HEADS)]
    for row in found:
        numbers = (f"{number:.4g}" for number in astuple(row)[2:])
        cells = [MAZES[row.environment].title, row.divergence, *numbers]
        lines.append(" ".join(f"{cell:>9}" for cell in cells))
    return lines


def _draw(found: Sequence[Row], out: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 6.4), layout="constrained")
    axes = figure.subplots(len(ENVIRONMENTS), len(DIVERGENCES), squeeze=False)
    for line, env_id in zip(axes, ENVIRONMENTS, strict=True):
        process = process_of(env_id)
        for ax, name in zip(line, DIVERGENCES, strict=True):
            own = [row for row in found if (row.environment, row.divergence) == (env_id, name)]
            _draw_panel(ax, process, own)
            ax.set_title(f"{MAZES[env_id].title}: {DIVERGENCES[name].title}", fontsize=TITLE_SIZE)
    for ax in axes[-1]:
        ax.set_xlabel("Mean divergence per step", fontsize=LABEL_SIZE)
    for ax in axes[:, 0]:
        ax.set_ylabel("Discounted return", fontsize=LABEL_SIZE)
    axes[0, 0].legend(fontsize=LABEL_SIZE - 2, loc="lower right", frameon=False)
    write_atomically(out / "bonus.png", lambda file: figure.savefig(file, format="png", dpi=150))
    write_atomically(out / "bonus.pdf", lambda file: figure.savefig(file, format="pdf"))


def _draw_panel(ax: Axes, process: Process, own: Sequence[Row]) -> None:
    """Show the constrained optimum as a line, and what learning with bonuses leads to as points."""
    penalty: Penalty = ActionPenalty(DIVERGENCES[own[0].divergence])
    multipliers = np.geomspace(min(MULTIPLIERS), max(MULTIPLIERS), CURVE)
    best = [penalised_optimum(process, penalty, multiplier) for multiplier in multipliers]
    ax.plot(
        [per_step(one) for one in best], [one.expected_return for one in best],
        color=BLUE, linewidth=2, label="constrained optimum",
    )  # fmt: skip
    for colour, marker, label, points in (
        (VERMILION, "o", "b in the reward", [(r.learned_divergence, r.learned) for r in own]),
        (
            ORANGE,
            "s",
            "b from f(x) + f(0)(x - 1)",
            [(r.bounded_divergence, r.bounded) for r in own],
        ),
    ):
        ax.plot(*zip(*points, strict=True), color=colour, marker=marker, linestyle="", label=label)
    ax.axhline(best_return(process, process.rewards), color=INK, linestyle="dashed", linewidth=1)
    ax.grid(color="0.9")
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
