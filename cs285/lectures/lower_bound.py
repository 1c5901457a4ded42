"""The lower bound of conservative Q-learning: where it holds, and why values rise at temperature 1.

`docs/lectures.md` explains the figure and the numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp, softmax

from cs285.analysis.exact import Data
from cs285.analysis.markov import Chain, ChangingChain, action_values
from cs285.datasets.dataset_files import Dataset
from cs285.envs.mazes import MAZES
from cs285.envs.models import Model, maze_model
from cs285.infrastructure.palette import BLUE, INK, VERMILION
from cs285.lectures.shared.outputs import (
    column,
    draw_range,
    percent,
    rounded,
    select,
    spread,
    write,
)
from cs285.lectures.shared.trained import explored, known, learned
from cs285.report.plots import Plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FloatArray = npt.NDArray[np.float64]

ENVIRONMENT = "PointmassMedium-v0"
SEEDS = (1, 2, 3)
TRANSITIONS = 10_000
UPDATES = 30_000
ALPHAS = (0.0, 0.1, 1.0, 10.0)
TEMPERATURES = (0.1, 1.0)
DISCOUNT = 0.98
RESOLUTION = 2
SLACK = 0.01
"""The bound counts as held up to so much, which is above the error of the linear systems."""


@dataclass(frozen=True)
class Row:
    """CQL with one weight and temperature on one dataset.

    Attributes:
        source: `trained`: a network after training; `exact`: the fixed point of CQL's equation in
            the maze, without a network or a sample, for the data's action probabilities;
            `uniform`: the same for data of the random policy.
        temperature: T of the soft maximum.
        alpha: Weight of the penalty.
        seed: Of the data and the agent.
        expected_return: Of its policy.
        difference: Mean of the largest estimate minus the exact value of its policy, over its
            visits.
        bounded: Share of its visits where the largest estimate is at most the exact value.
        gap: Mean of the soft maximum minus the maximum of the estimates, over its visits.
        raised: Share of its visits where the penalty raises the best action, because the data
            takes it more often than the softmax does.
        cost: What the penalty takes from the reward of a step, mean over its visits:
            `alpha / 2 (mu / pi_b - 1)` of the best action, with the softmax mu.
    """

    source: str
    temperature: float
    alpha: float
    seed: int
    expected_return: float
    difference: float
    bounded: float
    gap: float
    raised: float
    cost: float


def row_of(
    source: str,
    temperature: float,
    alpha: float,
    seed: int,
    chain: Chain | ChangingChain,
    estimates: FloatArray,
    behaviour: FloatArray,
    expected_return: float,
) -> Row:
    """Return the numbers of an agent.

    Args:
        source: As in `Row`.
        temperature: As in `Row`.
        alpha: As in `Row`.
        seed: As in `Row`.
        chain: Its policy in a model.
        estimates: Its values of the actions in each state `(N, A)`.
        behaviour: How often the data takes each action in each state `(N, A)`.
        expected_return: As in `Row`.
    """
    visits = chain.occupancy / chain.occupancy.sum()
    largest, values = estimates.max(axis=1), chain.values(DISCOUNT)
    best = estimates.argmax(axis=1)[:, None]
    share = softmax(estimates / temperature, axis=1)
    ratio = np.take_along_axis(share / behaviour, best, axis=1)[:, 0]
    soft = temperature * logsumexp(estimates / temperature, axis=1)
    return Row(
        source, temperature, alpha, seed, expected_return,
        float(visits @ (largest - values)),
        float(visits @ (largest <= values + SLACK)),
        float(visits @ (soft - largest)),
        float(visits @ (ratio < 1)),
        float(alpha / 2 * visits @ (ratio - 1)),
    )  # fmt: skip


def behaviour_of(model: Model, data: Data) -> FloatArray:
    """Return how often the data takes each action in the region of each state `(N, A)`.

    One is added to every count.
    """
    counts = data.frequencies(model) * len(data.actions) + 1
    shares: FloatArray = (counts / counts.sum(axis=1, keepdims=True))[model.regions]
    return shares


def fixed_point(
    model: Model, behaviour: FloatArray, alpha: float, temperature: float, tolerance: float = 1e-3
) -> FloatArray:
    """Return the values to which CQL converges in a model, with one value per state and action.

    In each state, they minimise the mean over the data's actions of the squared error to
    `y_a = r_a + discount P_a max Q`, plus the penalty:

        sum_a pi_b(a) (Q_a - y_a)^2 + alpha (T logsumexp(Q / T) - sum_a pi_b(a) Q_a)

    Args:
        model: The model.
        behaviour: pi_b, the data's action probabilities in each state `(N, A)`.
        alpha: Weight of the penalty.
        temperature: T.
        tolerance: Largest change of a value in the last iteration.
    """
    values = np.zeros((model.num_states, model.num_actions))
    for _ in range(2_000):
        targets = action_values(model, values.max(axis=1), DISCOUNT)
        following = minimise(targets, behaviour, alpha, temperature, values)
        change, values = np.abs(following - values).max(), following
        if change < tolerance:
            break
    return values


def minimise(
    targets: FloatArray,
    behaviour: FloatArray,
    alpha: float,
    temperature: float,
    values: FloatArray,
    tolerance: float = 1e-6,
) -> FloatArray:
    """Return the values of actions that minimise CQL's loss for given targets `(N, A)`.

    By Newton's method with halved steps; the loss is convex.

    Args:
        targets: y, `(N, A)`.
        behaviour: pi_b, `(N, A)`.
        alpha: Weight of the penalty.
        temperature: T.
        values: Where to begin `(N, A)`.
        tolerance: Largest component of the gradient at the end.
    """

    def loss(q: FloatArray) -> FloatArray:
        penalty = temperature * logsumexp(q / temperature, axis=1) - (behaviour * q).sum(axis=1)
        found: FloatArray = (behaviour * (q - targets) ** 2).sum(axis=1) + alpha * penalty
        return found

    identity = np.eye(values.shape[1])
    for _ in range(100):
        share = softmax(values / temperature, axis=1)
        gradient = 2 * behaviour * (values - targets) + alpha * (share - behaviour)
        if np.abs(gradient).max() < tolerance:
            break
        diagonal = 2 * behaviour + alpha / temperature * share
        curvature = diagonal[:, :, None] * identity
        curvature -= alpha / temperature * share[:, :, None] * share[:, None]
        step = np.linalg.solve(curvature, gradient[..., None])[..., 0]
        scale = np.ones((len(values), 1))
        before = loss(values)
        for _ in range(30):
            worse = loss(values - scale * step) > before + 1e-12
            if not worse.any():
                break
            scale[worse] /= 2
        values = values - scale * step
    return values


def measure(
    seeds: Sequence[int] = SEEDS,
    alphas: Sequence[float] = ALPHAS,
    temperatures: Sequence[float] = TEMPERATURES,
    updates: int = UPDATES,
    transitions: int = TRANSITIONS,
) -> Iterator[Row]:
    """Train CQL, solve its equation on the same data, and yield the numbers of both."""
    explorers = [{"base_config": "rnd", "env_name": ENVIRONMENT, "seed": seed} for seed in seeds]
    data = {found.config.seed: found.dataset for found in explored(explorers, [transitions])}
    cases = [(t, alpha, seed) for t in temperatures for alpha in alphas for seed in seeds]
    own = [data[seed] for _, _, seed in cases]
    yield from trained(own, cases, updates)
    for dataset, (temperature, alpha, seed) in zip(own, cases, strict=True):
        yield solved(Data(dataset.observations, dataset.actions), temperature, alpha, seed)
    model = maze_model(MAZES[ENVIRONMENT], RESOLUTION)
    uniform = np.full((model.num_states, model.num_actions), 1 / model.num_actions)
    for temperature in temperatures:
        for alpha in alphas:
            yield row_at_fixed_point("uniform", ENVIRONMENT, uniform, temperature, alpha, 0)


def trained(
    datasets: Sequence[Dataset],
    cases: Sequence[tuple[float, float, int]],
    updates: int,
    env_id: str = ENVIRONMENT,
) -> Iterator[Row]:
    """Train CQL on data, with a temperature, an alpha and a seed for each; yield the numbers."""
    settings = [
        {
            "base_config": "cql", "env_name": env_id, "seed": seed, "discount": DISCOUNT,
            "cql_alpha": alpha, "cql_temperature": temperature,
        }
        for temperature, alpha, seed in cases
    ]  # fmt: skip
    for found in learned(settings, datasets, [updates]):
        exact = found.exact
        behaviour = behaviour_of(exact.chain.model, known(exact.data))
        yield row_of(
            "trained", *cases[found.index], exact.chain, known(exact.learned).astype(np.float64),
            behaviour, exact.expected_return,
        )  # fmt: skip


def solved(
    data: Data, temperature: float, alpha: float, seed: int, env_id: str = ENVIRONMENT
) -> Row:
    """Return the numbers of the fixed point of CQL's equation on data."""
    behaviour = behaviour_of(maze_model(MAZES[env_id], RESOLUTION), data)
    return row_at_fixed_point("exact", env_id, behaviour, temperature, alpha, seed)


def row_at_fixed_point(
    source: str, env_id: str, behaviour: FloatArray, temperature: float, alpha: float, seed: int
) -> Row:
    """Return the numbers of the fixed point of CQL's equation for a behaviour policy `(N, A)`."""
    model = maze_model(MAZES[env_id], RESOLUTION)
    values = fixed_point(model, behaviour, alpha, temperature)
    chain = Chain(model, np.eye(model.num_actions)[values.argmax(axis=1)])
    return row_of(source, temperature, alpha, seed, chain, values, behaviour, chain.expected_return)


COLOURS = {0.1: BLUE, 1.0: VERMILION}


def plot_of(rows: Sequence[Row]) -> Plot:
    """Return the figure."""
    return Plot(
        "lower_bound",
        "Learned minus exact values of CQL over alpha, at two temperatures",
        (
            lambda ax: _draw(ax, rows, "difference", "Learned max Q \N{MINUS SIGN} exact V"),
            lambda ax: _draw(ax, rows, "bounded", "Visits where the bound holds"),
            lambda ax: _draw(ax, rows, "raised", "Visits where the best action is raised"),
        ),
        3,
    )


def _draw(ax: Axes, rows: Sequence[Row], y: str, title: str) -> None:
    for temperature, colour in COLOURS.items():
        for source, line in (("trained", "solid"), ("exact", "dashed")):
            own = select(rows, temperature=temperature, source=source)
            label = f"{source}, T = {temperature:g}"
            draw_range(ax, own, "alpha", y, colour, label, line=line)
    if y == "difference":
        ax.axhline(0, color=INK, linewidth=1)
    ax.set_xscale("symlog", linthresh=0.1)
    ax.set_xlim(-0.015, 1.3 * max(ALPHAS))
    ticks = sorted({row.alpha for row in rows})
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.set(title=title, xlabel="alpha")


def claims(rows: Sequence[Row]) -> list[str]:
    """Return what the page says of the rows."""
    weak, one, strong = 0.1, 1.0, max(ALPHAS)

    def of(name: str, temperature: float, alpha: float, source: str = "trained") -> FloatArray:
        own = select(rows, source=source, temperature=temperature, alpha=alpha)
        return column(own, name)

    def bounded(temperature: float, alpha: float) -> str:
        return percent(of("bounded", temperature, alpha).mean())

    def difference(temperature: float, alpha: float, source: str = "trained") -> str:
        return spread(of("difference", temperature, alpha, source))

    def exact(name: str, temperature: float) -> float:
        return float(of(name, temperature, one, "exact").mean())

    uniform = select(rows, source="uniform")
    return [
        (
            "At temperature 0.1, values fall with alpha and become a lower bound: the learned "
            f"max Q is at most the exact V of its policy on {bounded(0.1, weak)} of the visits "
            f"with alpha {weak:g}, {bounded(0.1, one)} with alpha {one:g} and "
            f"{bounded(0.1, strong)} with alpha {strong:g}. The mean difference is "
            f"{difference(0.1, weak)}, {difference(0.1, one)} and {difference(0.1, strong)}."
        ),
        (
            f"At temperature 1, they rise: the difference is {difference(1.0, one)} with alpha "
            f"{one:g} and {difference(1.0, strong)} with alpha {strong:g}. The bound holds on "
            f"{bounded(1.0, one)} and {bounded(1.0, strong)} of the visits."
        ),
        (
            "The network is not the reason. The fixed point of CQL's equation in the maze, for "
            "the action probabilities of the same data, has neither network nor samples, and its "
            f"differences with alpha {strong:g} are {difference(0.1, strong, 'exact')} at "
            f"temperature 0.1 and {difference(1.0, strong, 'exact')} at temperature 1."
        ),
        (
            "The reason is the sign of `mu / pi_b - 1`: with alpha 1, the data takes the best "
            f"action more often than the softmax does on {percent(exact('raised', 1.0))} of the "
            f"visits of the fixed point at temperature 1, and on {percent(exact('raised', 0.1))} "
            "at temperature 0.1."
        ),
        (
            "For data of the random policy, no softmax does that: the bound of the fixed point "
            f"holds on {percent(column(uniform, 'bounded').min())} of the visits at both "
            "temperatures and for every alpha."
        ),
        (
            f"The soft maximum exceeds the maximum by {exact('gap', 1.0):.2f} at temperature 1, of "
            f"at most log 5 = {np.log(5):.2f}, and by {exact('gap', 0.1):.2f} at temperature 0.1."
        ),
    ]


def make(out: Path) -> list[str]:
    """Write the table and the figure into a folder; return the claims."""
    rows = rounded(list(measure()))
    write(out, rows, plot_of(rows))
    return claims(rows)
