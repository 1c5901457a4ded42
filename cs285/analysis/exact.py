"""Evaluates one agent exactly: its policy's worth, its values' errors, its distance from the data.

The page `docs/exact.md` defines every quantity.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from cs285.analysis.markov import Chain, action_values, best_values
from cs285.analysis.rollouts import Policy, corrected_return
from cs285.envs.models import Model, Observations

FloatArray = npt.NDArray[np.float64]

ERROR = 0.05
"""Largest error of a return, estimated by refining the grid."""

MOST_EPISODES = 1_000
"""Largest number of simulated episodes where no grid is fine enough."""

Values = Callable[[Observations], npt.NDArray[np.float32]]
"""Estimates of the actions' values `(n, A)` at observations `(n, *observation_shape)`."""


class Data:
    """The transitions that an agent has learned from.

    Args:
        observations: `(n, *observation_shape)`.
        actions: `(n,)`.
    """

    def __init__(self, observations: Observations, actions: npt.NDArray[np.int64]) -> None:
        self.observations = observations
        self.actions = actions

    def frequencies(self, model: Model) -> FloatArray:
        """Return how often each action was taken in each region `(regions, A)`; they sum to 1."""
        regions = model.regions_of(self.observations)
        counts = np.zeros((model.num_regions, model.num_actions))
        np.add.at(counts, (regions, self.actions), 1.0)
        frequencies: FloatArray = counts / len(self.actions)
        return frequencies


@dataclass(frozen=True, eq=False)
class ExactEvaluation:
    """What is known exactly of one agent at one moment.

    Attributes:
        chain: Its policy in the finest model that was used.
        expected_return: Expected undiscounted return of an episode.
        return_error: How far off that may be: what refining the grid changed, or the standard error
            where episodes had to be simulated.
        discount: The learner's discount.
        learned: The agent's own estimates of the actions' values in each state `(N, A)`, if it has
            any.
    """

    chain: Chain
    expected_return: float
    return_error: float
    discount: float
    learned: npt.NDArray[np.float32] | None
    largest_learned: npt.NDArray[np.float32] | None
    data: Data | None
    learned_of_data: npt.NDArray[np.float32] | None

    @cached_property
    def values(self) -> FloatArray:
        """Values of the policy under the learner's discount `(N,)`: `V`."""
        return self.chain.values(self.discount)

    @cached_property
    def action_values(self) -> FloatArray:
        """Values of the actions under the learner's discount `(N, A)`: `Q`."""
        return action_values(self.chain.model, self.values, self.discount)

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
        if self.largest_learned is None:
            return None
        occupancy = self.chain.occupancy
        return float(occupancy @ (self.largest_learned - self.values) / occupancy.sum())

    @property
    def q_error(self) -> float | None:
        """Root mean square of `Qhat - Q` over the data."""
        if self.data is None or self.learned_of_data is None:
            return None
        weights = self.chain.model.interpolation(self.data.observations)
        true = (weights @ self.action_values)[np.arange(len(self.data.actions)), self.data.actions]
        return float(np.sqrt(np.mean((self.learned_of_data - true) ** 2)))

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
    def regret(self) -> float:
        """How much less the policy is worth at the start than the best one, discounted."""
        model = self.chain.model
        return float(model.start @ (best_values(model, self.discount) - self.values))


def evaluate(
    models: Sequence[Callable[[], Model]],
    policy: Policy,
    *,
    discount: float,
    values: Values | None = None,
    data: Data | None = None,
    rng: np.random.Generator,
    most_episodes: int = MOST_EPISODES,
) -> ExactEvaluation:
    """Evaluate a policy on models that are refined until its return no longer changes.

    Args:
        models: Make the models, the coarsest first; at least two.
        policy: The policy.
        discount: The learner's discount.
        values: The agent's own estimates, if it has any.
        data: What the agent learned from, if anything.
        rng: For the episodes that are simulated where no model is fine enough.
        most_episodes: Largest number of these.

    Raises:
        ValueError: If the policy's probabilities or the agent's estimates are not numbers.
    """
    returns: list[float] = []
    for make in models:
        model = make()
        chain = Chain(model, _over_states(model, policy).astype(np.float64))
        returns.append(chain.expected_return)
        if len(returns) > 1 and abs(returns[-1] - returns[-2]) < ERROR:
            expected, error = returns[-1], abs(returns[-1] - returns[-2])
            break
    else:
        estimate = corrected_return(
            model, policy, chain.values_to_go(), rng, standard_error=ERROR / 2, most=most_episodes
        )
        expected, error = estimate.mean, estimate.standard_error
    learned = largest = of_data = None
    if values is not None:
        sampled = _samples(model, values)
        learned, largest = sampled.mean(axis=1), sampled.max(axis=-1).mean(axis=1)
        if data is not None:
            of_data = values(data.observations)[np.arange(len(data.actions)), data.actions]
    return ExactEvaluation(chain, expected, error, discount, learned, largest, data, of_data)


def _samples(model: Model, function: Policy | Values) -> npt.NDArray[np.float32]:
    """Return what a function says at all samples `(N, m, A)`."""
    states, samples = model.samples.shape[:2]
    found = function(model.samples.reshape(states * samples, *model.samples.shape[2:]))
    if not np.isfinite(found).all():
        raise ValueError("the agent's outputs are not finite numbers everywhere")
    return found.reshape(states, samples, -1)


def _over_states(model: Model, function: Policy | Values) -> npt.NDArray[np.float32]:
    """Return the mean over the samples of each state `(N, A)`."""
    means: npt.NDArray[np.float32] = _samples(model, function).mean(axis=1)
    return means
