"""Exact evaluation of the runs of a program, as scalars by tag."""

from __future__ import annotations

import numpy as np

from cs285.analysis.exact import Data, ExactEvaluation, NotFiniteError, evaluate
from cs285.envs.tasks import Task
from cs285.learning.random_streams import derive_seed
from cs285.training.policies import Policy

EPISODES = 100
"""Largest number of simulated episodes while a run trains, where no grid is fine enough."""
FINAL_EPISODES = 1_000
"""The same in its last evaluation."""


def evaluate_policy(
    policy: Policy, data: Data, discount: float | None, seed: int, step: int, *, last: bool
) -> ExactEvaluation | None:
    """Evaluate one agent exactly, if its task allows it.

    An agent that can only choose one action at a time would take long, so it is evaluated in the
    last evaluation alone.

    Args:
        policy: The agent.
        data: What it has learned from, or has collected.
        discount: The learner's discount, or None if its values are not those of the task.
        seed: Seed of the run; with `step` it determines the episodes that are simulated.
        step: Steps so far.
        last: Whether this is the run's last evaluation.
    """
    models = policy.task.models()
    if not models or not (last or policy.has_probabilities):
        return None
    try:
        return evaluate(
            models,
            policy,
            discount=discount,
            values=policy.action_values if discount is not None and policy.has_values else None,
            data=data,
            rng=np.random.default_rng(derive_seed(seed, "exact", step)),
            episodes=FINAL_EPISODES if last else EPISODES,
            chooses=not policy.has_probabilities,
        )
    except NotFiniteError:  # the loss will say so at the next log
        return None


def scalars(found: ExactEvaluation, task: Task) -> dict[str, float]:
    """Return what is known of an agent, by tag; without what does not apply to it."""
    score = task.normalised_score(found.expected_return)
    values = {
        "return": found.expected_return,
        "return_error": found.return_error,
        "normalised_score": None if score is None else float(score),
        "overestimation": found.overestimation,
        "q_error": found.q_error,
        "q_error_occupancy": found.q_error_occupancy,
        "unseen": found.unseen,
        "shift": found.shift,
        "regret": found.regret,
    }
    return {f"exact/{name}": value for name, value in values.items() if value is not None}
