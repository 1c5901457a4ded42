"""How many steps a run without a config was meant to take, and whether it took them.

Public versions of the homework write no config. What is known of their runs is the length that the
handout and the starter give them, where their logs end, and how far other runs of the same
experiment went.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from cs285.envs.tasks import known_tasks
from cs285.homework import HANDOUT_STEPS, Stage
from cs285.results.event_files import Extent

EXPLORATION_STEPS = (1_000, 5_000, HANDOUT_STEPS, 20_000)
"""Lengths of exploration that the handout asks for: its own, and those of 4.3."""
PUBLIC_STEPS = 100_000
"""Steps of offline learning in the starter."""
PUBLIC_LONG_STEPS = 200_000
"""Steps of fine-tuning in the starter, and of IQL on Hard."""
_DENSE = 10
"""Logs with at most this many steps between values end at the last step of their run."""
_SHARED = 3
"""So many runs that end at the same step were meant to end there."""
_EPISODE = 500
"""Longest episode in environments that are not mazes."""


class Progress(NamedTuple):
    """How far a run came."""

    last: int
    """The last step in its log."""
    length: int | None
    """The steps it was meant to take, if it evidently took them; None if it was stopped."""
    is_usual: bool
    """Whether that length is one of `usual_lengths`, or else where a dense log ends."""


def usual_lengths(
    stage: Stage, algorithm: str, env_id: str, dataset_size: int | None = None
) -> tuple[int, ...]:
    """Return the lengths that runs of public versions have, shortest first.

    Args:
        stage: What the run does.
        algorithm: Its algorithm.
        env_id: Its environment.
        dataset_size: Steps of exploration in the run's name, if it has them.
    """
    if stage is Stage.EXPLORE:
        return (dataset_size or HANDOUT_STEPS,)
    if stage is Stage.FINETUNE or (algorithm == "iql" and env_id == "PointmassHard-v0"):
        return (PUBLIC_STEPS, PUBLIC_LONG_STEPS)
    return (PUBLIC_STEPS,)


def progress_of(
    extents: Mapping[str, Extent], last: int, stage: Stage, env_id: str, lengths: tuple[int, ...]
) -> Progress:
    """Tell from a log whether its run took all of its steps.

    A loop of N steps that logs every `gap` steps logs last at N - gap or later. Tags that ended
    long before the others, such as those of the offline phase, do not count.

    Args:
        extents: Where each scalar ends.
        last: The last step of anything in the log.
        stage: What the run does.
        env_id: Its environment.
        lengths: Its usual lengths, shortest first.
    """
    regular = {
        tag: extent
        for tag, extent in extents.items()
        if extent.gap and not tag.lower().startswith("train")  # those end with episodes
    }
    alive = [extent for extent in regular.values() if extent.last + extent.gap >= last]
    dense = [extent for extent in alive if extent.gap <= _DENSE]
    task = known_tasks().get(env_id)
    episode = task.max_episode_steps if task else _EPISODE
    if alive:
        reached = min(extent.last + extent.gap for extent in alive)
    elif len(extents) > len(regular) and last > 0:
        reached = last + episode  # only episodes were logged
    else:
        reached = last
    usual = list(lengths)
    if stage is Stage.FINETUNE and dense and not _went_online(extents):
        usual = usual[-1:]  # it was stopped, or crashed, where it should have gone online
    for length in usual:
        # A few steps are missing where the last values belong to the last episode.
        if last <= length <= reached + length // 200:
            return Progress(last, length, is_usual=True)
    if last > usual[-1]:
        return Progress(last, min(last + 1, reached) if dense else last, is_usual=False)
    if dense and not (stage is Stage.FINETUNE and not _went_online(extents)):
        # A run that was stopped ends at a round step once in hundreds of times.
        ends = {extent.last + extent.gap for extent in dense}
        unit = 500 if stage is Stage.EXPLORE else 5_000
        if len(ends) == 1 and (end := ends.pop()) % unit == 0:
            return Progress(last, end, is_usual=True)
    if stage is Stage.EXPLORE and alive and reached in EXPLORATION_STEPS:
        return Progress(last, reached, is_usual=True)
    return Progress(last, None, is_usual=False)


def _went_online(extents: Mapping[str, Extent]) -> bool:
    return any(tag.lower().startswith("train") or tag == "phase" for tag in extents)


def shared_length(lasts: list[int], shortest: int) -> int | None:
    """Return the last step at which several runs of a stage end and which none exceeds, if any.

    Args:
        lasts: The last step of every run of the stage.
        shortest: The least that counts.
    """
    longest = max(lasts, default=0)
    return longest if lasts.count(longest) >= _SHARED and longest >= shortest else None
