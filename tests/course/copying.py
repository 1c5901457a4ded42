"""Copies the work of others in six ways."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import StrEnum

import numpy as np

from tests.course.hands import disguised, with_methods
from tests.course.logs import CourseRun, own_times

DAY = 86_400.0


class Way(StrEnum):
    """How something was copied."""

    RENAMED = "log renamed"
    RETIMED = "log re-timed"
    EDITED = "log with one value changed"
    THINNED = "log re-thinned"
    CODE = "code under other names"
    PART = "part of a file"


OF_LOGS = (Way.RENAMED, Way.RETIMED, Way.EDITED, Way.THINNED)


def renamed(run: CourseRun, mine: CourseRun, rng: np.random.Generator, *, again: bool) -> CourseRun:
    """Hand in another's log unchanged under one's own seed; the event file may keep its name."""
    taken = replace(run, folder_time=run.times[0] + 0.3 * DAY, seed=mine.seed)
    return taken if again else replace(taken, host=mine.host, process=mine.process)


def retimed(run: CourseRun, mine: CourseRun, rng: np.random.Generator, *, again: bool) -> CourseRun:
    """Shift all times by days; or stretch them and add a little noise."""
    moved = mine.times[0] + np.array(run.times) - run.times[0]
    if again:
        moved = mine.times[0] + (moved - mine.times[0]) * rng.uniform(1.2, 1.6)
        moved += rng.normal(0, 2e-5 * np.ptp(moved), len(moved)).clip(-0.01, 0.01)
        moved = np.maximum.accumulate(moved)
    return replace(
        run, times=tuple(moved.tolist()), host=mine.host, process=mine.process, seed=mine.seed
    )


def edited(run: CourseRun, mine: CourseRun, rng: np.random.Generator, *, again: bool) -> CourseRun:
    """Change one value by one part in ten million, and perhaps make up all times."""
    places = [
        (number, tag)
        for number, (_, values) in enumerate(run.events)
        for tag, value in values.items()
        if tag.endswith("loss") and value
    ]
    number, tag = places[rng.integers(len(places))]
    step, values = run.events[number]
    changed = {**values, tag: float(np.nextafter(np.float32(values[tag]), np.float32(np.inf)))}
    events = (*run.events[:number], (step, changed), *run.events[number + 1 :])
    if not again:
        return replace(run, events=events, seed=mine.seed)
    times = own_times(run.base, events, rng, mine.times[0])
    return replace(
        run, events=events, times=times, host=mine.host, process=mine.process, seed=mine.seed
    )


def thinned(run: CourseRun, mine: CourseRun, rng: np.random.Generator, *, again: bool) -> CourseRun:
    """Keep every third point that is not an evaluation; the second time, shift all times too."""
    kept = [
        number
        for number, (_, values) in enumerate(run.events)
        if "eval_return" in values or "dataset_transitions" in values or number % 3 == 0
    ]
    events = tuple(run.events[number] for number in kept)
    times = tuple(run.times[number] for number in kept)
    if again:
        times = tuple(time - run.times[0] + mine.times[0] for time in times)
        return replace(
            run, events=events, times=times, host=mine.host, process=mine.process, seed=mine.seed
        )
    return replace(run, events=events, times=times, seed=mine.seed)


Copy = Callable[..., CourseRun]
LOGS: Mapping[Way, Copy] = {
    Way.RENAMED: renamed,
    Way.RETIMED: retimed,
    Way.EDITED: edited,
    Way.THINNED: thinned,
}


def copied_code(
    source: Mapping[str, str],
    own: Mapping[str, str],
    way: Way,
    rng: np.random.Generator,
    *,
    again: bool,
) -> dict[str, str]:
    """Return the files of a student who copied all or some of another's."""
    if way is Way.CODE:
        return disguised(source, rng)
    if not again:
        name = "iql_agent.py"
        return {**own, name: disguised({name: source[name]}, rng)[name]}
    name = "awac_agent.py"
    methods = ("compute_advantage", "update_actor", "update", "compute_critic_loss")
    return {**own, name: with_methods(own[name], source[name], methods)}
