"""Evaluates one agent exactly: its policy's worth, its values' errors, its distance from the data.

The page `docs/exact.md` defines every quantity.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from cs285.analysis.markov import Chain, ChangingChain, action_values, best_values
from cs285.analysis.rollouts import Policy, corrected_return
from cs285.envs.models import Model, Observations

FloatArray = npt.NDArray[np.float64]

ERROR = 0.05
"""Largest error of a return, estimated by refining the grid."""

FURTHEST = 6
"""A return may be extrapolated by so many times the largest error."""

MOST_EPISODES = 1_000
"""Largest number of simulated episodes where no grid is fine enough."""

ROUNDING = 1e-3
"""Probabilities may sum to a number that differs from 1 by so much."""

Values = Callable[[Observations], npt.NDArray[np.float32]]
"""Estimates of the actions' values `(n, A)` at observations `(n, *observation_shape)`."""


class OutputError(ValueError):
    """An agent's outputs are no probabilities or values of actions."""


class Data:
    """The transitions that an agent has learned from.

    Args:
        observations: `(n, *observation_shape)`.
        actions: `(n,)`.
    """

    def __init__(self, observations: Observations, actions: npt.NDArray[np.int64]) -> None:
        self.observations = observations
        self.actions = actions
        self._frequencies: dict[Model, FloatArray] = {}
        self._weights: dict[Model, FloatArray] = {}

    def frequencies(self, model: Model) -> FloatArray:
        """Return how often each action was taken in each region `(regions, A)`; they sum to 1."""
        if model not in self._frequencies:
            regions = model.regions_of(self.observations)
            counts = np.zeros((model.num_regions, model.num_actions))
            np.add.at(counts, (regions, self.actions), 1.0)
            self._frequencies[model] = counts / len(self.actions)
        return self._frequencies[model]

    def weights(self, model: Model) -> FloatArray:
        """Return the share of the data on each action in each state `(N, A)`.

        A transition counts for the states around its observation, as values are interpolated.
        """
        if model not in self._weights:
            chosen = np.eye(model.num_actions)[self.actions] / len(self.actions)
            self._weights[model] = model.interpolation(self.observations).T @ chosen
        return self._weights[model]


@dataclass(frozen=True, eq=False)
class ExactEvaluation:
    """What is known exactly of one agent at one moment.

    Attributes:
        chain: Its policy in the finest model that was used.
        expected_return: Expected undiscounted return of an episode.
        return_error: How far off that may be: what refining the model changed, a bound on what
            refining it further would change, or the standard error of simulated episodes.
        discount: The learner's discount; None if there is nothing to compare with its values.
        learned: The agent's own estimates of the actions' values in each state `(N, A)`, if it has
            any.
        data: What it has learned from, if anything.
    """

    chain: Chain | ChangingChain
    expected_return: float
    return_error: float
    discount: float | None
    learned: npt.NDArray[np.float32] | None
    data: Data | None

    @property
    def _discount(self) -> float:
        if self.discount is None:
            raise ValueError("values need a discount")
        return self.discount

    @cached_property
    def values(self) -> FloatArray:
        """Values of the policy under the learner's discount `(N,)`: `V`."""
        return self.chain.values(self._discount, best_values(self.chain.model, self._discount))

    @cached_property
    def action_values(self) -> FloatArray:
        """Values of the actions under the learner's discount `(N, A)`: `Q`."""
        return action_values(self.chain.model, self.values, self._discount)

    @cached_property
    def visits(self) -> FloatArray:
        """Expected number of times that an episode takes each action in each state `(N, A)`."""
        return self.chain.occupancy[:, None] * self.chain.policy

    @cached_property
    def region_visits(self) -> FloatArray:
        """Share of an episode on each action in each region `(regions, A)`."""
        model = self.chain.model
        shares = np.zeros((model.num_regions, model.num_actions))
        np.add.at(shares, model.regions, self.visits)
        return np.asarray(shares / self.visits.sum())

    @property
    def overestimation(self) -> float | None:
        """Mean of `max_a Qhat - V` over the states that the policy visits."""
        if self.learned is None:
            return None
        occupancy = self.chain.occupancy
        return float(occupancy @ (self.learned.max(axis=1) - self.values) / occupancy.sum())

    @property
    def q_error(self) -> float | None:
        """Root mean square of `Qhat - Q` over the data."""
        if self.data is None or self.learned is None:
            return None
        squares = self.data.weights(self.chain.model) * (self.learned - self.action_values) ** 2
        return float(np.sqrt(squares.sum()))

    @property
    def q_error_occupancy(self) -> float | None:
        """Root mean square of `Qhat - Q` over the states and actions that the policy visits."""
        if self.learned is None:
            return None
        squares = self.visits * (self.learned - self.action_values) ** 2
        return float(np.sqrt(squares.sum() / self.visits.sum()))

    @property
    def unseen(self) -> float | None:
        """Share of the visits on actions in regions where the data never took them."""
        if self.data is None:
            return None
        return float(self.region_visits[self.data.frequencies(self.chain.model) == 0].sum())

    @property
    def shift(self) -> float | None:
        """Total variation distance between the visits and the data, by region and action."""
        if self.data is None:
            return None
        return float(np.abs(self.region_visits - self.data.frequencies(self.chain.model)).sum() / 2)

    @property
    def regret(self) -> float | None:
        """How much less the policy is worth at the start than the best one, discounted."""
        if self.discount is None:
            return None
        model = self.chain.model
        return float(model.start @ (best_values(model, self.discount) - self.values))


def evaluate(
    models: Sequence[Callable[[], Model]],
    policy: Policy,
    *,
    discount: float | None,
    values: Values | None = None,
    data: Data | None = None,
    rng: np.random.Generator,
    most_error: float = ERROR,
    episodes: int = MOST_EPISODES,
    chooses: bool = False,
    at_step: Callable[[int], Policy] | None = None,
) -> ExactEvaluation:
    """Evaluate a policy on models that are refined until its return no longer changes.

    Args:
        models: Make the models, the coarsest first; at least two.
        policy: The policy.
        discount: The learner's discount, if its values are wanted.
        values: The agent's own estimates, if it has any.
        data: What the agent learned from, if anything.
        rng: For the episodes that are simulated where no model is fine enough.
        most_error: Refine the model while the return may be off by more than this.
        episodes: Largest number of simulated episodes; 0 to simulate none.
        chooses: The policy does not state its probabilities but chooses one action, perhaps by
            chance. It is then asked once in each state, and its return is that of episodes, which
            must be allowed.
        at_step: The policy at each step of an episode, counted from 0, if it changes.

    Raises:
        OutputError: If the policy's probabilities or the agent's estimates are not finite, or not
            one for each action, or the probabilities do not sum to 1.
    """
    levels: list[tuple[float, float]] = []
    estimate: tuple[float, float] | None = None
    for make in models:
        model = make()
        chain: Chain | ChangingChain
        if at_step is None:
            chain = Chain(model, _over_states(model, policy, once=chooses).astype(np.float64))
        else:
            tables = [_over_states(model, at_step(step)) for step in range(model.horizon)]
            chain = ChangingChain(model, np.stack(tables).astype(np.float32))
        levels.append((model.spacing, chain.expected_return))
        estimate = None if chooses else _limit(levels, most_error)
        if estimate is not None or (chooses and len(levels) > 1):
            break
    if estimate is None and not episodes:
        estimate = _bounded(levels)
    if estimate is None:
        simulated = corrected_return(
            model,
            at_step or (lambda _: policy),
            chain.values_to_go(),
            rng,
            standard_error=most_error / 2,
            most=episodes,
        )
        estimate = simulated.mean, simulated.standard_error
    learned = None if values is None else _checked(model, values(model.observations), "values")
    return ExactEvaluation(chain, *_possible(model, *estimate), discount, learned, data)


def _limit(levels: Sequence[tuple[float, float]], most_error: float) -> tuple[float, float] | None:
    """Return what the returns on finer and finer grids converge to, and how far off that may be.

    The error of a smooth policy is quadratic in the spacing, so two grids give an extrapolated
    value (Richardson). The limit is known if two such values agree; two grids alone may agree by
    chance. A far extrapolation is not trusted.

    Args:
        levels: Spacing and return of each grid, the coarsest first.
        most_error: None is returned if the limit may be off by more than this.
    """
    extrapolated = [
        fine + (fine - coarse) * b**2 / (a**2 - b**2)
        for (a, coarse), (b, fine) in itertools.pairwise(levels)
    ]
    if len(extrapolated) > 1:
        limit = extrapolated[-1]
        error, distance = abs(limit - extrapolated[-2]), abs(limit - levels[-1][1])
        if error < most_error and distance < FURTHEST * most_error:
            return limit, error
    return None


def _bounded(levels: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return the return on the finest of several grids, and a bound on its error.

    Where a policy jumps from one action to another, the error falls in proportion to the spacing at
    worst; the bound is what it would then be, given the last two returns.

    Args:
        levels: Spacing and return of at least two grids, the coarsest first.
    """
    (a, coarse), (b, fine) = levels[-2:]
    return fine, abs(fine - coarse) * b / (a - b)


def _possible(model: Model, expected: float, error: float) -> tuple[float, float]:
    """Keep an extrapolated or sampled return within what any episode can have."""
    lowest, highest = min(model.rewards.min(), 0.0), max(model.rewards.max(), 0.0)
    return float(np.clip(expected, model.horizon * lowest, model.horizon * highest)), error


def _over_states(model: Model, policy: Policy, *, once: bool = False) -> npt.NDArray[np.float32]:
    """Return the probabilities of a policy in each state `(N, A)`.

    They are the mean over the samples, or those at one observation.
    """
    found = _checked(model, policy(model.observations if once else model.samples), "probabilities")
    if found.min() < -ROUNDING or np.abs(found.sum(axis=1) - 1).max() > ROUNDING:
        raise OutputError("the agent's probabilities of the actions do not sum to 1 everywhere")
    return found if once else model.mean_of_samples(found)


def _checked(model: Model, outputs: npt.NDArray[np.float32], name: str) -> npt.NDArray[np.float32]:
    if outputs.shape[1:] != (model.num_actions,):
        numbers = int(np.prod(outputs.shape[1:]))
        raise OutputError(
            f"the agent gives {numbers} {name} for each observation, not one for each of the "
            f"{model.num_actions} actions"
        )
    if not np.isfinite(outputs).all():
        raise OutputError("the agent's outputs are not finite numbers everywhere")
    return outputs
