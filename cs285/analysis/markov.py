"""A policy in a model is a Markov chain with rewards; its values and occupancy are linear algebra.

With `pi(a|i)` the policy's probabilities, `P_a` the probabilities of continuing and `r_a` the
rewards of the model:

    P = sum_a diag(pi_a) P_a            r = sum_a pi_a r_a
    d_0 = start,  d_t+1 = P' d_t        d = sum_{t < H} d_t        return = d' r
    V = r + discount P V                Q_a = r_a + discount P_a V

The first line of values is that of an episode, which ends after H steps; the second is what a
learner with this discount estimates. It bootstraps through the time limit, so its sum has no end.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cs285.envs.models import Model

if TYPE_CHECKING:
    from scipy.sparse import csr_array

FloatArray = npt.NDArray[np.float64]

NEGLIGIBLE = 1e-5
"""An episode counts as over once it continues with less than this probability."""

TOLERANCE = 1e-4
"""Relative error to which linear systems are solved."""


@dataclass(frozen=True, eq=False)
class Chain:
    """A policy in a model.

    Attributes:
        model: The model.
        policy: Probabilities of the actions in each state `(N, A)`.
    """

    model: Model
    policy: FloatArray

    @cached_property
    def transitions(self) -> csr_array:
        """Probability of continuing in each state `(N, N)`: `P`."""
        from scipy import sparse

        actions = self.model.num_actions
        first_rows = np.arange(self.model.num_states) * actions
        chosen = self.policy.argmax(axis=1)
        mixed = np.flatnonzero(self.policy.max(axis=1) < 1)
        pure = self.model.transitions[first_rows + chosen]  # copying rows is fast
        if not len(mixed):
            return pure
        # Indices of 32 bits, as those of the model: longer ones would be slower.
        rows = np.arange(0, len(mixed) * actions + 1, actions, dtype=np.int32)
        columns = (first_rows[mixed, None] + np.arange(actions)).ravel().astype(np.int32)
        chances = self.policy[mixed].astype(np.float32).ravel()
        shape = (len(mixed), self.model.transitions.shape[0])
        choice = sparse.csr_array((chances, columns, rows), shape=shape)
        choice.eliminate_zeros()
        order = np.arange(self.model.num_states)
        order[mixed] = self.model.num_states + np.arange(len(mixed))
        both = sparse.vstack([pure, choice @ self.model.transitions], format="csr")
        return both[order]

    @cached_property
    def rewards(self) -> FloatArray:
        """Expected reward of a step from each state `(N,)`: `r`."""
        rewards: FloatArray = np.einsum("na,na->n", self.policy, self.model.rewards)
        return rewards

    @cached_property
    def occupancy(self) -> FloatArray:
        """Expected number of steps from each state in an episode `(N,)`: `d`."""
        backwards = self.transitions.T
        now = self.model.start.astype(np.float32)
        total = now.astype(np.float64)
        for _ in range(self.model.horizon - 1):
            now = backwards @ now
            # Interpolation may leave tiny negative numbers.
            if np.abs(now).sum() < NEGLIGIBLE:
                break
            total += now
        return total

    @property
    def expected_return(self) -> float:
        """Expected undiscounted return of an episode."""
        return float(self.occupancy @ self.rewards)

    @property
    def expected_length(self) -> float:
        """Expected number of steps of an episode."""
        return float(self.occupancy.sum())

    def values_to_go(self) -> npt.NDArray[np.float32]:
        """Return the expected return from each step and state to the end `(H + 1, N)`."""
        rewards = self.rewards.astype(np.float32)
        values = np.zeros((self.model.horizon + 1, len(rewards)), np.float32)
        for step in reversed(range(self.model.horizon)):
            values[step] = self.transitions @ values[step + 1] + rewards
        return values

    def values(self, discount: float, guess: FloatArray | None = None) -> FloatArray:
        """Return the expected discounted return without a time limit `(N,)`: `V`.

        Args:
            discount: The discount.
            guess: Values that may be similar `(N,)`, from which the solution is found sooner.
        """
        return solve(self.transitions, self.rewards, discount, guess)

    def action_values(self, values: FloatArray, discount: float) -> FloatArray:
        """Return the discounted return of each action, then the policy `(N, A)`: `Q`."""
        return action_values(self.model, values, discount)


@dataclass(frozen=True, eq=False)
class ChangingChain:
    """A policy that depends on the step of an episode, in a model.

    Attributes:
        model: The model.
        policies: Probabilities of the actions at each step and in each state `(H, N, A)`.
    """

    model: Model
    policies: npt.NDArray[np.float32]

    @cached_property
    def _visits(self) -> FloatArray:
        """Expected number of times that an episode takes each action in each state `(N, A)`."""
        now = self.model.start.astype(np.float32)
        total = np.zeros(self.policies.shape[1:])
        backwards = self.model.transitions.T
        for policy in self.policies:
            visits = now[:, None] * policy
            total += visits
            now = backwards @ visits.ravel()
            if np.abs(now).sum() < NEGLIGIBLE:
                break
        return total

    @cached_property
    def occupancy(self) -> FloatArray:
        """Expected number of steps from each state in an episode `(N,)`."""
        return np.asarray(self._visits.sum(axis=1))

    @cached_property
    def policy(self) -> FloatArray:
        """Mean probabilities of the actions over the visits of each state `(N, A)`.

        In states that are never visited, those of the first step.
        """
        seen = self.occupancy[:, None] > 0
        return np.where(seen, self._visits / np.where(seen, self.occupancy[:, None], 1.0),
                        self.policies[0])  # fmt: skip

    @property
    def expected_return(self) -> float:
        """Expected undiscounted return of an episode."""
        return float((self._visits * self.model.rewards).sum())

    @property
    def expected_length(self) -> float:
        """Expected number of steps of an episode."""
        return float(self.occupancy.sum())

    def values_to_go(self, discount: float = 1.0) -> npt.NDArray[np.float32]:
        """Return the expected return from each step and state to the end `(H + 1, N)`."""
        steps, states, actions = self.policies.shape
        values = np.zeros((steps + 1, states), np.float32)
        for step in reversed(range(steps)):
            following = (self.model.transitions @ values[step + 1]).reshape(states, actions)
            options = self.model.rewards + discount * following
            values[step] = (self.policies[step] * options).sum(axis=1)
        return values

    def values(self, discount: float, guess: FloatArray | None = None) -> FloatArray:
        """Return the expected discounted return from the first step to the time limit `(N,)`."""
        del guess
        return np.asarray(self.values_to_go(discount)[0], dtype=np.float64)


def action_values(model: Model, values: FloatArray, discount: float) -> FloatArray:
    """Return `r_a + discount P_a V` `(N, A)`."""
    following = (model.transitions @ values.astype(np.float32)).reshape(model.rewards.shape)
    found: FloatArray = model.rewards + discount * following
    return found


def solve(
    transitions: csr_array,
    rewards: FloatArray,
    discount: float,
    guess: FloatArray | None = None,
) -> FloatArray:
    """Solve `V = r + discount P V` for `V` `(N,)`.

    Args:
        transitions: `P`, `(N, N)`; its rows sum to at most 1.
        rewards: `r`, `(N,)`.
        discount: In [0, 1]; where it is 1, every state must reach the end of an episode.
        guess: Where to begin `(N,)`; at 0 by default.
    """
    from scipy.sparse.linalg import LinearOperator, gmres

    size = len(rewards)
    operator = LinearOperator(
        (size, size), lambda v: v - discount * (transitions @ v.astype(np.float32)), dtype=float
    )
    found, failed = gmres(
        operator, rewards, guess, rtol=TOLERANCE, atol=0.0, restart=30, maxiter=20
    )
    if failed:  # plain iteration always converges, if slowly
        for _ in range(10_000):
            better = rewards + discount * (transitions @ found.astype(np.float32))
            change, found = np.abs(better - found).max(), better
            if change < TOLERANCE * max(1.0, np.abs(found).max()):
                break
    solution: FloatArray = np.asarray(found, dtype=np.float64)
    return solution


@functools.cache
def best_values(model: Model, discount: float) -> FloatArray:
    """Return the values of the best policy under a discount `(N,)`, by policy iteration."""
    chosen = np.argmax(model.rewards, axis=1)
    values = np.zeros(model.num_states)
    for _ in range(100):
        chain = Chain(model, np.eye(model.num_actions)[chosen])
        values = chain.values(discount, values)
        options = action_values(model, values, discount)
        held = np.take_along_axis(options, chosen[:, None], axis=1)[:, 0]
        # Actions of equal worth must not alternate for ever.
        better = options.max(axis=1) > held + 1e-4
        if not better.any():
            break
        chosen = np.where(better, options.argmax(axis=1), chosen)
    return values
