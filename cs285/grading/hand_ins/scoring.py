"""Points for the runs that the questions of the handout ask for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cs285.envs.tasks import known_tasks
from cs285.grading.hand_ins.rubric import Experiment, Question, Rubric
from cs285.grading.hand_ins.submitted_runs import Run
from cs285.results.event_files import final_return_of

NEARLY_ALL = 0.9
"""Part of its steps at which a public version's log may end: up to an interval before the last."""


@dataclass(frozen=True)
class Credit:
    """How much of what was asked for one run shows, from 0 to 1, and why."""

    share: float
    message: str


def answers(run: Run, experiment: Experiment) -> bool:
    """Tell whether a run is one that an experiment asks for."""
    return (
        is_of_kind(run, experiment)
        and run.env_id in experiment.env_ids
        and experiment.dataset_steps in {None, run.dataset_steps}
    )


def is_of_kind(run: Run, experiment: Experiment) -> bool:
    """Tell whether a run does what an experiment asks for, wherever and with whatever data."""
    return run.stage == experiment.stage and run.algorithm in experiment.algorithms


def score_question(
    question: Question, runs: Sequence[Run], rubric: Rubric, misfits: Mapping[Run, Sequence[str]]
) -> list[tuple[Experiment, Credit]]:
    """Return the credit for every experiment of a question.

    Where they are to be compared with each other, the runs of the best environment count.
    """
    choices = [runs]
    if question.one_environment:
        choices = [[run for run in runs if run.env_id == env_id] for env_id in known_tasks()]
    tries = [
        [
            (experiment, score_experiment(experiment, chosen, rubric, misfits))
            for experiment in question.experiments
        ]
        for chosen in choices
    ]
    return max(tries, key=lambda one: sum(asked.points * credit.share for asked, credit in one))


def score_experiment(
    experiment: Experiment,
    runs: Sequence[Run],
    rubric: Rubric,
    misfits: Mapping[Run, Sequence[str]],
) -> Credit:
    """Return the credit for one experiment: that of the best runs, so that more never cost."""
    candidates = [run for run in runs if answers(run, experiment)]
    if not candidates:
        return Credit(0.0, "there is no such run")
    earned = {
        run: _credit(run, experiment, rubric.tags, misfits.get(run, ())) for run in candidates
    }
    if experiment.alphas is not None:
        return _sweep(experiment.alphas, earned)
    by_seed: defaultdict[object, list[Credit]] = defaultdict(list)
    for run, credit in earned.items():
        # Where no seed is told, runs count as of different ones, but not a run and its copy.
        by_seed[run.log.fingerprint if run.seed is None else run.seed].append(credit)
    ranked = sorted((_best(found) for found in by_seed.values()), key=lambda one: -one.share)
    counted = ranked[: experiment.seeds]
    message = "\n".join(credit.message for credit in counted)
    if len(ranked) < experiment.seeds:
        message += f"\n{len(ranked)} of {experiment.seeds} seeds"
    return Credit(sum(credit.share for credit in counted) / experiment.seeds, message)


def _best(found: Iterable[Credit]) -> Credit:
    return max(found, key=lambda credit: (credit.share, -len(credit.message)))


def _sweep(wanted: int, earned: Mapping[Run, Credit]) -> Credit:
    """Return the credit for a sweep over alpha: that of its values' best runs."""
    by_alpha: defaultdict[float, list[Credit]] = defaultdict(list)
    for run, credit in earned.items():
        if run.alpha is not None:
            by_alpha[run.alpha].append(credit)
    best = {alpha: _best(found) for alpha, found in sorted(by_alpha.items())}
    counted = sorted(best.values(), key=lambda credit: -credit.share)[:wanted]
    listed = ", ".join(f"{alpha:g}" for alpha in best)
    lines = [f"alphas: {listed or 'none'}; {wanted} are asked for"]
    lines += [credit.message for credit in counted if credit.share < 1]
    return Credit(sum(credit.share for credit in counted) / wanted, "\n".join(lines))


def _credit(
    run: Run, experiment: Experiment, tags: Mapping[Any, Sequence[str]], facts: Sequence[str]
) -> Credit:
    """Multiply what is whole of a run by how far its results are from their thresholds."""
    if facts:
        return Credit(0.0, f"{run.name} does not fit: {'; '.join(facts)}")
    notes = []
    share = 1.0
    wanted = [tag for key in (run.algorithm, run.stage) for tag in tags.get(key, ())]
    missing = [tag for tag in wanted if tag not in run.log.tags]
    if missing:
        share *= 1 - len(missing) / len(wanted)
        notes.append(f"without {', '.join(missing)}")
    planned = max(experiment.steps, run.planned_steps)
    if run.log.last_step < planned * (1.0 if run.config else NEARLY_ALL):
        share *= run.log.last_step / planned
        notes.append(f"ends at step {run.log.last_step:,} of {planned:,}")
    if run.log.damage:
        share *= 0.5
        notes.append("; ".join(run.log.damage))
    results, seen = _results(run, experiment)
    notes += seen
    return Credit(share * results, f"{run.name}: {'; '.join(notes) or 'complete'}")


def _results(run: Run, experiment: Experiment) -> tuple[float, list[str]]:
    """Return how far the results come up to their thresholds, from 0 to 1, and say so."""
    share = 1.0
    notes = []
    final = final_return_of(run.log.series)
    if run.stage != "explore" and final is not None:
        task = known_tasks()[run.env_id]
        best = task.reference()
        note = f"final return {final:.1f} on {task.name}"
        if experiment.score is not None:
            reach = best.optimal_return - best.random_return
            bound = best.random_return + experiment.score * reach
            share *= _fraction((final - best.random_return) / reach, experiment.score)
            note += f", asked for {bound:.1f}"
        notes.append(f"{note}, best possible {best.optimal_return:.1f}")
    elif experiment.score is not None:
        share = 0.0
    if run.stage == "explore":
        coverage, goals = _explored(run)
        source = "the dataset" if run.dataset else "the log"
        asked: tuple[tuple[str, float | None, float | None, str], ...] = (
            ("coverage", coverage, experiment.coverage, ".0%"),
            ("goals reached", goals, experiment.goals, ".0f"),
        )
        for name, number, needed, form in asked:
            if number is not None:
                wish = "" if needed is None else f", asked for {needed:{form}}"
                notes.append(f"{name} {number:{form}} ({source}){wish}")
                share *= 1.0 if needed is None else _fraction(number, needed)
            elif needed is not None:
                notes.append(f"{name} not judged: neither dataset nor log tells it")
    return share, notes


def _explored(run: Run) -> tuple[float | None, float | None]:
    """Return coverage and goals, from the dataset rather than from the log."""
    if run.dataset is not None:
        return run.dataset.coverage, float(run.dataset.goals)
    series = run.log.series
    found = [series[tag].last if tag in series else None for tag in ("coverage", "goals_reached")]
    return found[0], found[1]


def _fraction(number: float, needed: float) -> float:
    return min(1.0, max(0.0, number / needed))
