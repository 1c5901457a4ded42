"""Exact evaluation of the runs of a program, as scalars by tag.

It may take about one per cent of the time of a run. The last evaluation of a run that is long
enough is as exact as possible. The others use coarse models, whose error is stated, and are fewer
in tasks with large models.
"""

from __future__ import annotations

import numpy as np

from cs285.analysis.exact import Data, ExactEvaluation, evaluate
from cs285.envs.tasks import Task
from cs285.learning.random_streams import derive_seed
from cs285.training.policies import Policy

COARSE = 2
"""Number of models, the coarsest ones, that evaluations use while a run trains."""

SMALL = 1_000
"""A task is evaluated exactly every time if the finest of its coarse models has at most so many
states."""

STEPS_PER_STATE = 5
"""Otherwise so many steps must have passed since the last time, for each state of that model."""

LONG = 1_000
"""Runs of fewer steps end with a coarse evaluation."""

STEPS_PER_EPISODE = 100
"""At the end of a run, episodes may be simulated: one for so many steps of the run."""

MOST_EPISODES = 1_000
"""But not more than these."""

MOST_SIMULATED_STEPS = 50_000
"""Nor more than have so many steps together."""

MOST_CHOOSING_EPISODES = 100
"""The same for agents that choose one action at a time, which takes longer."""

FEWEST_EPISODES = 20
"""The standard error of a mean of fewer is not known well enough."""


def is_due(task: Task, step: int, previous: int, total_steps: int) -> bool:
    """Return whether an evaluation is also an exact one.

    Args:
        task: The environment.
        step: Steps so far.
        previous: Steps at the evaluation before, or 0.
        total_steps: Length of the run.
    """
    models = task.models()
    if not models:
        return False
    states = models[:COARSE][-1]().num_states
    if step == total_steps or states <= SMALL:
        return True
    interval = STEPS_PER_STATE * states
    return step // interval > previous // interval


def evaluate_policy(
    policy: Policy, data: Data, discount: float | None, seed: int, step: int, total_steps: int
) -> ExactEvaluation | None:
    """Evaluate one agent exactly, if its task allows it.

    An agent that can only choose one action at a time would take long, so it is evaluated at the
    end of a long run alone.

    Args:
        policy: The agent.
        data: What it has learned from, or has collected.
        discount: The learner's discount, or None if its values are not those of the task.
        seed: Seed of the run; with `step` it determines the episodes that are simulated.
        step: Steps so far.
        total_steps: Length of the run.

    Raises:
        OutputError: If the agent's outputs are no probabilities or values of actions.
    """
    models = policy.task.models()
    is_last = step == total_steps
    episodes = _episodes(policy, total_steps) if is_last else 0
    if not models or not (episodes or policy.has_probabilities):
        return None
    if policy.changes and not is_last:  # a policy for each step takes as many times as long
        return None
    return evaluate(
        models if is_last and total_steps >= LONG else models[:COARSE],
        policy,
        discount=discount,
        values=policy.action_values if discount is not None and policy.has_values else None,
        data=data,
        rng=np.random.default_rng(derive_seed(seed, "exact", step)),
        episodes=episodes,
        chooses=not policy.has_probabilities,
        at_step=policy.at_step if policy.changes else None,
    )


def _episodes(policy: Policy, total_steps: int) -> int:
    """Return how many episodes may be simulated at the end of a run; 0 if too few."""
    most = MOST_EPISODES if policy.has_probabilities else MOST_CHOOSING_EPISODES
    within_time = MOST_SIMULATED_STEPS // policy.task.max_episode_steps
    count = min(total_steps // STEPS_PER_EPISODE, most, within_time)
    return count if count >= FEWEST_EPISODES else 0


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
