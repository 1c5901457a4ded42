"""Points for the runs that the questions of the handout ask for."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from cs285.envs.tasks import known_tasks
from cs285.grading.hand_ins.logs import EPISODE_TAGS
from cs285.grading.hand_ins.plausibility import (
    Inconsistency,
    exact_contradictions,
    why_written_again,
)
from cs285.grading.hand_ins.rubric import Experiment, Question, Rubric
from cs285.grading.hand_ins.submitted_runs import FoundRuns, Run
from cs285.homework import Stage
from cs285.results.event_files import final_return_of
from cs285.results.final_returns import final_return_in

WRITTEN_AGAIN = 0.5
"""Fraction of the points for a log that was written again, until the original is handed in."""
NEARLY_ALL = 0.9
"""Fraction of the steps that a public version's log must reach: it may lack the last interval."""


class Loss(StrEnum):
    """Why an experiment lost points; a course counts how often each occurs."""

    NO_RUN = "no such run"
    UNREAD = "its log was not read"
    EMPTY = "a log without events"
    INCONSISTENT = "an inconsistent log"
    DAMAGED = "a damaged log"
    WRITTEN_AGAIN = "a log that was written again"
    STEPS = "steps are missing"
    TAGS = "tags are missing"
    RESULT = "a result below its threshold"
    SEEDS = "too few seeds"
    ALPHAS = "too few alphas"


@dataclass(frozen=True)
class Credit:
    """How much of what an experiment asks for the runs show, and why."""

    share: float
    """From 0 to 1."""
    message: str
    remarks: int = 0
    """The number of notes in the message."""
    steps: int = 0
    """The last step of the run."""
    found: bool = True
    """Whether there is a run like the one asked for."""
    losses: frozenset[Loss] = frozenset()


def answers(run: Run, experiment: Experiment) -> bool:
    """Return whether a run is one that an experiment asks for."""
    return (
        is_of_kind(run, experiment)
        and run.env_id in experiment.env_ids
        and experiment.dataset_steps in {None, run.dataset_steps}
    )


def is_of_kind(run: Run, experiment: Experiment) -> bool:
    """Return whether a run has the stage and algorithm of an experiment, whatever its data."""
    return run.stage == experiment.stage and run.algorithm in experiment.algorithms


def score_question(
    question: Question,
    runs: FoundRuns,
    rubric: Rubric,
    found: Mapping[Run, Sequence[Inconsistency]],
) -> list[tuple[Experiment, Credit]]:
    """Return the credit for every experiment of a question.

    If all experiments must be in the same environment, the runs of the best environment count.
    """
    choices = [runs.read]
    if question.one_environment:
        choices = [[run for run in runs.read if run.env_id == env_id] for env_id in known_tasks()]
    tries = [
        [
            (experiment, score_experiment(experiment, chosen, runs.unread, rubric, found))
            for experiment in question.experiments
        ]
        for chosen in choices
    ]
    return max(
        tries,
        key=lambda one: (
            sum(asked.points * credit.share for asked, credit in one),
            sum(credit.found for _, credit in one),
        ),
    )


def score_experiment(
    experiment: Experiment,
    runs: Sequence[Run],
    unread: Sequence[Run],
    rubric: Rubric,
    found: Mapping[Run, Sequence[Inconsistency]],
) -> Credit:
    """Return the credit for one experiment: that of the best runs, so further runs cost nothing."""
    candidates = [run for run in runs if answers(run, experiment)]
    if not candidates:
        for run in unread:
            if answers(run, experiment):
                message = f"{run.name} was not read; see the item on logs"
                return Credit(0.0, message, losses=frozenset({Loss.UNREAD}))
        return Credit(0.0, Loss.NO_RUN, found=False, losses=frozenset({Loss.NO_RUN}))
    earned = {run: _credit(run, experiment, rubric.tags, found.get(run, ())) for run in candidates}
    if experiment.alphas is not None:
        return _sweep(experiment.alphas, earned)
    by_seed: defaultdict[object, list[Credit]] = defaultdict(list)
    for run, credit in earned.items():
        # Runs without a known seed count as different seeds, but a run and its copy do not.
        by_seed[run.log.fingerprint if run.seed is None else run.seed].append(credit)
    ranked = sorted(
        (_best(rivals) for rivals in by_seed.values()), key=lambda one: (-one.share, -one.steps)
    )
    counted = ranked[: experiment.seeds]
    message = "\n".join(credit.message for credit in counted)
    losses = _losses(counted)
    if len(ranked) < experiment.seeds:
        message += f"\n{len(ranked)} of {experiment.seeds} seeds"
        losses |= {Loss.SEEDS}
    share = sum(credit.share for credit in counted) / experiment.seeds
    return Credit(share, message, losses=losses)


def _losses(counted: Iterable[Credit]) -> frozenset[Loss]:
    return frozenset(loss for credit in counted for loss in credit.losses)


def _best(rivals: Iterable[Credit]) -> Credit:
    return max(rivals, key=lambda credit: (credit.share, -credit.remarks))


def _sweep(wanted: int, earned: Mapping[Run, Credit]) -> Credit:
    """Return the credit for a sweep over alpha: that of the best run for each value."""
    by_alpha: defaultdict[float, list[Credit]] = defaultdict(list)
    for run, credit in earned.items():
        if run.alpha is not None:
            by_alpha[run.alpha].append(credit)
    best = {alpha: _best(rivals) for alpha, rivals in sorted(by_alpha.items())}
    counted = sorted(best.values(), key=lambda credit: -credit.share)[:wanted]
    listed = ", ".join(f"{alpha:g}" for alpha in best)
    lines = [f"alphas: {listed or 'none'}; {wanted} are required"]
    lines += [credit.message for credit in counted if credit.share < 1]
    losses = _losses(counted) | ({Loss.ALPHAS} if len(counted) < wanted else frozenset())
    share = sum(credit.share for credit in counted) / wanted
    return Credit(share, "\n".join(lines), losses=losses)


def _credit(
    run: Run,
    experiment: Experiment,
    tags: Mapping[Any, Sequence[str]],
    found: Sequence[Inconsistency],
) -> Credit:
    """Return how complete a run is, times how close its results come to their thresholds."""
    if found:
        facts = "; ".join(one.fact for one in found)
        losses = frozenset({Loss.INCONSISTENT})
        return Credit(0.0, f"{run.name} is inconsistent: {facts}", len(found), losses=losses)
    if not run.log.tags:
        reasons = [*run.log.damage, *run.log.cuts, *run.log.stubs]
        losses = frozenset({Loss.DAMAGED if run.log.damage else Loss.EMPTY})
        return Credit(0.0, f"{run.name}: {'; '.join(reasons)}", len(reasons), losses=losses)
    notes = []
    lost = set()
    share = 1.0
    wanted = [tag for key in (run.algorithm, run.stage) for tag in tags.get(key, ())]
    missing = [tag for tag in wanted if tag not in run.log.tags]
    if {*missing} >= EPISODE_TAGS and run.stage is Stage.EXPLORE and not run.config:
        # In public versions, the limit of the first episode is used up before it begins.
        missing = [tag for tag in missing if tag not in EPISODE_TAGS]
        notes.append("no episode ended")
    if missing:
        lost.add(Loss.TAGS)
        share *= 1 - len(missing) / len(wanted)
        notes.append(f"tags missing: {', '.join(missing)}")
    planned = max(experiment.steps, run.planned_steps)
    taken = run.log.last_step if run.config else run.log.reached
    if taken < planned * (1.0 if run.config else NEARLY_ALL):
        lost.add(Loss.STEPS)
        share *= run.log.last_step / planned
        notes.append(f"ends at step {run.log.last_step:,} of {planned:,}")
    if run.log.damage:
        lost.add(Loss.DAMAGED)
        share *= 0.5
        notes.append("; ".join(run.log.damage))
    notes += run.log.cuts  # only missing steps cost points
    if written_again := why_written_again(run):
        lost.add(Loss.WRITTEN_AGAIN)
        share *= WRITTEN_AGAIN
        notes.append(f"{written_again}; until then, {WRITTEN_AGAIN:.0%} of the points")
    results, seen = _results(run, experiment)
    notes += seen
    if results < 1:
        lost.add(Loss.RESULT)
    message = f"{run.name}: {'; '.join(notes) or 'complete'}"
    credit = share * results
    return Credit(credit, message, len(notes), run.log.last_step, losses=frozenset(lost))


def normalised_score(run: Run) -> float | None:
    """Return a run's final return on a scale from 0, the random policy, to 1, the best possible.

    Both ends come from dynamic programming, the final return from the run's own evaluations. None
    if the run explores or has no final return.
    """
    final = final_return_of(run.log.series)
    if run.stage is Stage.EXPLORE or final is None:
        return None
    return float(known_tasks()[run.env_id].reference().score(final))


def best_score(
    experiment: Experiment, runs: Iterable[Run], found: Mapping[Run, Sequence[Inconsistency]]
) -> float | None:
    """Return the highest normalised score among the consistent runs of an experiment, if any.

    It is that of the exact return where the log has one that its evaluations do not contradict.
    """
    scores = [
        score
        for run in runs
        if answers(run, experiment) and not found.get(run) and not why_written_again(run)
        if (score := leaderboard_score(run)) is not None and math.isfinite(score)
    ]
    return max(scores, default=None)


def leaderboard_score(run: Run) -> float | None:
    """Return a run's score on the leaderboard; None as in `normalised_score`."""
    known = final_return_in(run.log.series)
    if known.exact is None or any(exact_contradictions(run)):
        return normalised_score(run)
    if run.stage is Stage.EXPLORE:
        return None
    return float(known_tasks()[run.env_id].reference().score(known.exact))


def _results(run: Run, experiment: Experiment) -> tuple[float, list[str]]:
    """Return how close the results come to their thresholds, from 0 to 1, with notes on them."""
    share = 1.0
    notes = []
    final = final_return_of(run.log.series)
    if run.stage is not Stage.EXPLORE and final is not None:
        task = known_tasks()[run.env_id]
        best = task.reference()
        note = f"final return {final:.1f} on {task.name}"
        if experiment.score is not None:
            reach = best.optimal_return - best.random_return
            bound = best.random_return + experiment.score * reach
            share *= _fraction(normalised_score(run) or 0.0, experiment.score)
            note += f", required {bound:.1f}"
        notes.append(f"{note}, best possible {best.optimal_return:.1f}")
    elif experiment.score is not None:
        share = 0.0
    if run.stage is Stage.EXPLORE:
        coverage, goals = _explored(run)
        source = "from the dataset" if run.dataset else "from the log"
        asked: tuple[tuple[str, float | None, float | None, str], ...] = (
            ("coverage", coverage, experiment.coverage, ".0%"),
            ("goals reached", goals, experiment.goals, ".0f"),
        )
        for name, number, needed, form in asked:
            if number is not None:
                required = "" if needed is None else f", required {needed:{form}}"
                notes.append(f"{name} {number:{form}} ({source}){required}")
                share *= 1.0 if needed is None else _fraction(number, needed)
            elif needed is not None:
                notes.append(f"{name} not judged: neither the dataset nor the log contains it")
    return share, notes


def _explored(run: Run) -> tuple[float | None, float | None]:
    """Return coverage and goals, from the dataset if there is one, else from the log."""
    if run.dataset is not None:
        return run.dataset.coverage, float(run.dataset.goals)
    series = run.log.series
    found = [series[tag].last if tag in series else None for tag in ("coverage", "goals_reached")]
    return found[0], found[1]


def _fraction(number: float, needed: float) -> float:
    return min(1.0, max(0.0, number / needed))
