"""The best policy near a behaviour policy, in finite Markov decision processes.

`J` is the expected discounted return of a policy and `D` its expected discounted divergence from
the behaviour policy, both from the first state:

    penalised    max J - lambda D
    constrained  max J  subject to  D <= limit
    bonus        what a learner reaches that adds lambda b to the reward and, in each update of its
                 policy, treats b as a fixed reward

The first two have the same solutions (strong duality), which `excess` certifies independently of
the solver. `docs/theory.md` derives all of it. Processes are dense: a thousand states at most.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from cs285.envs.models import Model
from cs285.learning.divergences import CHI2, JSD, TVD, Divergence

FloatArray = npt.NDArray[np.float64]

TOLERANCE = 1e-10
"""Change of the values at which policy iteration stops."""

GIVEN_UP = 1e-9
"""Smallest probability of an action in `bonus_policy`; an action that falls to it is given up."""

LARGEST_MULTIPLIER = 1e4
"""Multipliers are sought up to this one, and down to its inverse."""

GAP = 1e-7
"""Distance from the dual bound at which a constrained optimum is good enough."""

SMALLEST_ENDING = 1e-5
TINY = 1e-300


@dataclass(frozen=True, eq=False)
class Process:
    """A Markov decision process with a behaviour policy.

    Attributes:
        transitions: Probability of continuing in each state `(N, A, N)`; an episode ends with the
            rest, after which nothing is earned and nothing chosen.
        rewards: Expected reward `(N, A)`.
        start: Probability of each first state `(N,)`.
        behaviour: Probabilities of the behaviour policy, all positive `(N, A)`.
        discount: In [0, 1]; where it is 1, every policy must reach the end.
    """

    transitions: FloatArray
    rewards: FloatArray
    start: FloatArray
    behaviour: FloatArray
    discount: float

    @classmethod
    def of_model(cls, model: Model, behaviour: FloatArray, discount: float) -> Process:
        """Return the process of a model with a behaviour policy `(N, A)`."""
        shape = (model.num_states, model.num_actions, model.num_states)
        transitions = model.transitions.toarray().reshape(shape).astype(float)
        start = np.asarray(model.start, float)
        return cls(transitions, model.rewards.astype(float), start, behaviour, discount)

    def chain(self, policy: FloatArray) -> FloatArray:
        """Return the probabilities of continuing under a policy `(N, N)`."""
        following: FloatArray = np.matmul(policy[:, None], self.transitions)[:, 0]
        return following

    def visits(self, policy: FloatArray) -> FloatArray:
        """Return the expected discounted number of visits to each state `(N,)`."""
        return self._solve(self.chain(policy).T, self.start)

    def values(self, policy: FloatArray, rewards: FloatArray) -> FloatArray:
        """Return the expected discounted sum of rewards `(N,)` from each state `(N,)`."""
        return self._solve(self.chain(policy), rewards)

    def _solve(self, matrix: FloatArray, right: FloatArray) -> FloatArray:
        found = np.linalg.solve(np.eye(len(right)) - self.discount * matrix, right)
        return np.asarray(found, dtype=np.float64)

    def action_values(self, values: FloatArray) -> FloatArray:
        """Return the reward of each action and the discounted values that follow `(N, A)`."""
        return self.rewards + self.discount * self.following(values)

    def following(self, values: FloatArray) -> FloatArray:
        """Return the expected value of the next state `(N, A)`, from those of all states `(N,)`."""
        found: FloatArray = (self._rows @ values).reshape(self.rewards.shape)
        return found

    @cached_property
    def _rows(self) -> csr_array:
        return csr_array(self.transitions.reshape(-1, len(self.start)))

    @cached_property
    def ending(self) -> FloatArray:
        """Probability that the episode ends with each action `(N, A)`."""
        rest: FloatArray = 1 - self.transitions.sum(axis=2)
        # Models have probabilities in single precision; what is smaller than its rounding is none.
        return np.where(rest > SMALLEST_ENDING, rest, 0.0)


class Penalty(ABC):
    """A divergence from the behaviour policy, as a sum over the states of an episode."""

    @abstractmethod
    def of(self, process: Process, policy: FloatArray) -> FloatArray:
        """Return the divergence in each state `(N,)`."""

    @abstractmethod
    def marginal_bonus(self, found: Candidate) -> FloatArray:
        """Return minus the derivative of `D` by the visits to each state and action `(N, A)`."""

    @abstractmethod
    def response(self, now: Candidate) -> FloatArray:
        """Return a policy that is at least as good in every state `(N, A)`.

        Good is a high `sum_a p values - multiplier * divergence`, with the values of `now`.
        """


@dataclass(frozen=True, eq=False)
class Candidate:
    """A policy and what it is worth where `multiplier * divergence` is subtracted from the reward.

    Attributes:
        process: The process.
        penalty: The divergence.
        policy: Probabilities of the actions in each state `(N, A)`.
        multiplier: lambda, at least 0.
    """

    process: Process
    penalty: Penalty
    policy: FloatArray
    multiplier: float = 0.0

    @cached_property
    def divergences(self) -> FloatArray:
        """The divergence in each state `(N,)`."""
        return self.penalty.of(self.process, self.policy)

    @cached_property
    def rewards(self) -> FloatArray:
        """Expected reward of each state `(N,)`."""
        rewards: FloatArray = (self.policy * self.process.rewards).sum(axis=1)
        return rewards

    @cached_property
    def state_values(self) -> FloatArray:
        """Expected discounted sum of penalised rewards from each state `(N,)`."""
        return self.process.values(self.policy, self.rewards - self.multiplier * self.divergences)

    @cached_property
    def values(self) -> FloatArray:
        """Values of the actions, with the penalties of all later states `(N, A)`."""
        return self.process.action_values(self.state_values)

    @cached_property
    def visits(self) -> FloatArray:
        """Expected discounted number of visits to each state `(N,)`."""
        return self.process.visits(self.policy)

    @property
    def expected_return(self) -> float:
        """`J`."""
        return float(self.visits @ self.rewards)

    @property
    def divergence(self) -> float:
        """`D`."""
        return float(self.visits @ self.divergences)

    @property
    def objective(self) -> float:
        """`J - multiplier D`."""
        return self.expected_return - self.multiplier * self.divergence


@dataclass(frozen=True)
class ActionPenalty(Penalty):
    """An f-divergence between the distributions of actions."""

    divergence: Divergence

    def of(self, process: Process, policy: FloatArray) -> FloatArray:
        """Return `D_f` in each state."""
        found: FloatArray = self.divergence.between(policy, process.behaviour)
        return found

    def marginal_bonus(self, found: Candidate) -> FloatArray:
        """Return `b*`, with the subgradient at the kink of total variation that values ask for."""
        p, q = found.policy, found.process.behaviour
        if self.divergence is not TVD:
            smooth: FloatArray = self.divergence.marginal_bonus(np.maximum(p, TINY), q)
            return smooth
        best = found.values.max(axis=1, keepdims=True)
        at_kink = np.clip((found.values - best) / found.multiplier + 0.5, -0.5, 0.5)
        slopes = np.where(np.abs(p - q) < TOLERANCE, at_kink, TVD.slope(p / q))
        means: FloatArray = (p * slopes).sum(axis=1) - TVD.between(p, q)
        bonus: FloatArray = means[:, None] - slopes
        return bonus

    def response(self, now: Candidate) -> FloatArray:
        """Return the best policy."""
        best = RESPONSES[self.divergence.name]
        return best(now.values, now.process.behaviour, now.multiplier)


class StatePenalty(Penalty):
    """KL between the distributions of the next state: of the trajectory of states, in sum.

    Source: the handout, section 1, question 3. The end of an episode counts as a state.
    """

    def bonus(self, process: Process, policy: FloatArray) -> FloatArray:
        """Return `b(s, a) = -sum_s' p(s'|s,a) log p_policy(s'|s) / p_behaviour(s'|s)` `(N, A)`."""
        mine, theirs = process.chain(policy), process.chain(process.behaviour)
        ending = _log_ratio(
            (policy * process.ending).sum(axis=1), (process.behaviour * process.ending).sum(axis=1)
        )
        going = np.matmul(process.transitions, _log_ratio(mine, theirs)[..., None])[..., 0]
        bonus: FloatArray = -going - process.ending * ending[:, None]
        return bonus

    def of(self, process: Process, policy: FloatArray) -> FloatArray:
        """Return the divergence of the next state."""
        found: FloatArray = -(policy * self.bonus(process, policy)).sum(axis=1)
        return found

    def marginal_bonus(self, found: Candidate) -> FloatArray:
        """Return the bonus: as with `kl`, both are the same."""
        return self.bonus(found.process, found.policy)

    def response(self, now: Candidate) -> FloatArray:
        """Return the policy after some steps of Blahut (1972) and Arimoto; none makes it worse."""
        policy = now.policy
        for _ in range(5):
            bonus = self.bonus(now.process, policy)
            policy = _softmax(
                np.log(np.maximum(policy, TINY)) + now.values / now.multiplier + bonus
            )
        return policy


def _log_ratio(p: FloatArray, q: FloatArray) -> FloatArray:
    """Return `log p/q`, 0 where both are 0."""
    seen = p > 0
    found: FloatArray = np.log(np.where(seen, p, 1.0)) - np.log(np.where(seen, q, 1.0))
    return found


def _softmax(logits: FloatArray) -> FloatArray:
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    found: FloatArray = weights / weights.sum(axis=-1, keepdims=True)
    return found


# The best distribution in one state: max sum_a p values - multiplier D(p, q)


def _kl_response(values: FloatArray, q: FloatArray, multiplier: float) -> FloatArray:
    return _softmax(np.log(q) + values / multiplier)


def _tvd_response(values: FloatArray, q: FloatArray, multiplier: float) -> FloatArray:
    """Move to the best action what gains more than `multiplier`, which moving it costs."""
    p = np.where(values < values.max(axis=1, keepdims=True) - multiplier, 0.0, q)
    p[np.arange(len(p)), values.argmax(axis=1)] += 1 - p.sum(axis=1)
    return p


def _chi2_response(values: FloatArray, q: FloatArray, multiplier: float) -> FloatArray:
    return _by_bisection(CHI2, lambda slope: np.maximum(1 + slope / 2, 0.0), values / multiplier, q)


def _jsd_response(values: FloatArray, q: FloatArray, multiplier: float) -> FloatArray:
    def ratio(slope: FloatArray) -> FloatArray:
        share = np.exp(np.minimum(slope, np.log(2) - 1e-15)) / 2
        found: FloatArray = share / (1 - share)
        return found

    return _by_bisection(JSD, ratio, values / multiplier, q)


def _by_bisection(
    divergence: Divergence,
    ratio: Callable[[FloatArray], FloatArray],
    values: FloatArray,
    q: FloatArray,
) -> FloatArray:
    """Return the distributions `q ratio(values - m)`, with `m` such that they sum to 1 `(N, A)`.

    `ratio` inverts the slope of the divergence, which must be 0 at 1.
    """
    high = values.max(axis=1)  # no ratio exceeds 1
    best = np.take_along_axis(q, values.argmax(axis=1)[:, None], axis=1)[:, 0]
    low = high - divergence.slope(1 / best)  # the best action alone has probability 1
    for _ in range(60):
        middle = (low + high) / 2
        too_much = (q * ratio(values - middle[:, None])).sum(axis=1) > 1
        low, high = np.where(too_much, middle, low), np.where(too_much, high, middle)
    p = q * ratio(values - high[:, None])
    found: FloatArray = p / p.sum(axis=1, keepdims=True)
    return found


RESPONSES = {
    "kl": _kl_response,
    "tvd": _tvd_response,
    "jsd": _jsd_response,
    "chi2": _chi2_response,
}


# Whole policies


def penalised_optimum(
    process: Process,
    penalty: Penalty,
    multiplier: float,
    most: int = 1_000,
    first: FloatArray | None = None,
) -> Candidate:
    """Maximise `J - multiplier D` by policy iteration, from `first` or the behaviour policy.

    It stops after `most` iterations, or once no state's value changes by more than `TOLERANCE`.
    """
    begin = process.behaviour if first is None else first
    now = Candidate(process, penalty, begin, multiplier)
    for _ in range(most):
        better = Candidate(process, penalty, penalty.response(now), multiplier)
        change = np.abs(better.state_values - now.state_values).max()
        now = better
        if change < TOLERANCE:
            break
    return now


def best_return(process: Process, rewards: FloatArray) -> float:
    """Return the largest expected sum of rewards `(N, A)` of any policy."""
    chosen = rewards.argmax(axis=1)
    states = np.arange(len(chosen))
    for _ in range(1_000):
        policy = np.zeros_like(rewards)
        policy[states, chosen] = 1.0
        values = process.values(policy, rewards[states, chosen])
        options = rewards + process.discount * process.following(values)
        better = options.max(axis=1) > options[states, chosen] + TOLERANCE
        if not better.any():
            break
        chosen = np.where(better, options.argmax(axis=1), chosen)
    return float(process.start @ values)


def excess(found: Candidate, bonus: FloatArray) -> float:
    """Return by how much the best policy for `r + multiplier b` beats the one that was found.

    The bonus `(N, A)` is that of the policy found, held fixed. With `marginal_bonus`, this bounds
    how much more return any policy with no more divergence could have: `D` is convex in the visits
    to states and actions, and that bonus is minus its derivative.
    """
    rewards = found.process.rewards + found.multiplier * bonus
    own = float(found.visits @ (found.policy * rewards).sum(axis=1))
    return best_return(found.process, rewards) - own


def constrained_optimum(
    process: Process, penalty: Penalty, limit: float
) -> tuple[Candidate, float]:
    """Maximise `J` among the policies with `D <= limit`.

    The multiplier is sought between one whose optimum is within the limit and one whose optimum is
    not; the policy mixes the visits of both. It reaches the bound of the dual problem to `GAP`,
    also where `D` jumps and no multiplier meets the limit, as with total variation.

    Returns:
        The policy, and the return that no policy within the limit exceeds.

    Raises:
        ValueError: If the limit is not positive, or too small to be distinguished from 0.
    """
    if not limit > 0:
        raise ValueError(f"the limit of a divergence must be positive, not {limit}")
    far = penalised_optimum(process, penalty, 1 / LARGEST_MULTIPLIER)
    if far.divergence <= limit:  # the constraint hardly binds
        return far, far.objective + far.multiplier * limit
    near = penalised_optimum(process, penalty, LARGEST_MULTIPLIER)
    if near.divergence > limit:
        raise ValueError(
            f"the limit of a divergence, {limit}, must be at least {near.divergence:.1g}"
        )
    for attempt in range(100):
        share = (limit - near.divergence) / (far.divergence - near.divergence)
        gained = far.expected_return - near.expected_return
        bound = min(one.objective + one.multiplier * limit for one in (near, far))
        if bound - near.expected_return - share * gained < GAP:
            break
        multiplier = float(np.sqrt(near.multiplier * far.multiplier))
        if attempt % 2:  # where the dual bounds of both meet
            multiplier = gained / (far.divergence - near.divergence)
        found = penalised_optimum(process, penalty, multiplier, first=near.policy)
        if found.divergence > limit:
            far = found
        else:
            near = found
    policy = mixture(near, far, share)
    return Candidate(process, penalty, policy, near.multiplier), bound


def mixture(first: Candidate, second: Candidate, share: float) -> FloatArray:
    """Return the policy `(N, A)` whose visits are those of `second` with this share, else `first`.

    Its return is the mean of theirs, and its divergence at most that mean.
    """
    visits = (1 - share) * first.visits[:, None] * first.policy
    visits = np.maximum(visits + share * second.visits[:, None] * second.policy, 0.0)
    total = visits.sum(axis=1, keepdims=True)
    seen = total > TINY
    return np.where(seen, visits / np.where(seen, total, 1.0), first.policy)


Bonus = Callable[[FloatArray, FloatArray], FloatArray]
"""Returns the bonus of each action `(N, A)` from the policy's and the behaviour's probabilities."""


def bonus_policy(
    process: Process, bonus: Bonus, multiplier: float, rate: float = 1.0, most: int = 2_000
) -> tuple[FloatArray, float]:
    """Learn with `r + multiplier b` as the reward, b being fixed in each update of the policy.

    As in equations (3) and (4) of the handout, with small steps in place of the argmax:

        Q = r + multiplier b + discount P V
        policy = policy * exp(rate Q / multiplier), normalised      V = sum_a policy Q

    The step is the natural policy gradient of a table of logits. With KL's bonus and rate 1, it is
    soft value iteration.

    Returns:
        The policy `(N, A)`, and the largest change of a probability in the last step.
    """
    policy, change = process.behaviour, np.inf
    values = np.zeros(len(process.start))
    for _ in range(most):
        rewards = process.rewards + multiplier * bonus(policy, process.behaviour)
        options = rewards + process.discount * process.following(values)
        better = _softmax(np.log(policy) + rate * options / multiplier)
        better = np.maximum(better, GIVEN_UP)
        better /= better.sum(axis=1, keepdims=True)
        following = (policy * options).sum(axis=1)
        moved = float(np.abs(following - values).max())
        change = float(np.abs(better - policy).max())
        policy, values = better, following
        if max(moved, change) < TOLERANCE:
            break
    return policy, change
