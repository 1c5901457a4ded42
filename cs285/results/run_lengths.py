"""Infers how many steps a run without a config was meant to take, and whether it took them.

Public versions of the homework write no config. The evidence is the length that the handout and the
starter give a run, the end of its log, and the ends of other runs of the same experiment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cs285.envs.tasks import known_tasks
from cs285.homework import DATA_STEPS, HANDOUT_STEPS, Stage
from cs285.results.event_files import Extent

PUBLIC_STEPS = 100_000
"""Steps of offline learning in the starter."""
PUBLIC_LONG_STEPS = 200_000
"""Steps of fine-tuning in the starter, and of IQL on Hard."""
_DENSE = 10
"""A log with at most this many steps between values ends at the last step of its run."""
_FAIRLY_DENSE = 100
"""With at most this many, about one stopped run in a hundred looks as if it had ended at a round
step."""
_SHARED = 3
"""If this many runs end at the same step, they were meant to end there."""
_ROUND = {Stage.EXPLORE: 1_000, Stage.OFFLINE: 10_000, Stage.FINETUNE: 10_000}
"""People who choose another length choose a multiple of these."""
_EPISODE = 500
"""Steps of the longest episode in environments that are not mazes."""


class Progress(NamedTuple):
    """How far a run got."""

    last: int
    """The last step in its log."""
    length: int | None
    """The steps it was meant to take, if it evidently took them all; None if it was stopped."""
    is_usual: bool
    """Whether that length is a usual or round one; otherwise it is where the log ends."""
    may_end: int | None = None
    """A round step at which it may have ended as planned; `shared_length` decides."""
    went_online: bool = True
    """Whether the log of a fine-tuning run shows any online steps."""


def usual_lengths(
    stage: Stage, algorithm: str, env_id: str, dataset_size: int | None = None
) -> tuple[int, ...]:
    """Return the usual lengths of such runs in public versions, shortest first.

    Args:
        stage: What the run does.
        algorithm: Its algorithm.
        env_id: Its environment.
        dataset_size: Steps of exploration in the run's name, if they are there.
    """
    if stage is Stage.EXPLORE:
        return (dataset_size or HANDOUT_STEPS,)
    if stage is Stage.FINETUNE or (algorithm == "iql" and env_id == "PointmassHard-v0"):
        return (PUBLIC_STEPS, PUBLIC_LONG_STEPS)
    return (PUBLIC_STEPS,)


def progress_of(
    extents: Mapping[str, Extent], last: int, stage: Stage, env_id: str, lengths: tuple[int, ...]
) -> Progress:
    """Infer from a log whether its run took all of its steps.

    A loop of N steps that logs every `gap` steps last logs at step N - gap or later. Tags that end
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
    if stage is Stage.FINETUNE and last <= PUBLIC_STEPS and not _went_online(extents):
        # It was stopped or crashed before or at the start of its online phase.
        return Progress(last, None, is_usual=False, went_online=False)
    has_episodes = len(extents) > len(regular)
    reached = _reached(alive, last, env_id if has_episodes else None)
    length = next(
        # A few steps are missing if the last values are those of the last episode.
        (length for length in lengths if last <= length <= reached + length // 200),
        None,
    ) or (_round_length(alive, last, reached, stage) if alive else None)
    if length is not None:
        return Progress(last, length, is_usual=True)
    dense = any(extent.gap <= _DENSE for extent in alive)
    if last > lengths[-1]:
        return Progress(last, min(last + 1, reached) if dense else last, is_usual=False)
    end = _next_round(last, stage)
    is_narrow = reached - last <= _ROUND[stage] // 10
    may_end = end if is_narrow and end <= reached else None
    return Progress(last, None, is_usual=False, may_end=may_end)


def _reached(alive: Sequence[Extent], last: int, env_id: str | None) -> int:
    """Return the most steps that the run may have taken.

    Args:
        alive: The extents of the tags that were logged to the end.
        last: The last step of anything in the log.
        env_id: The run's environment, if the log has episodes.
    """
    if alive:
        return min(extent.last + extent.gap for extent in alive)
    if env_id is None or last == 0:
        return last
    task = known_tasks().get(env_id)  # only episodes were logged
    return last + (task.max_episode_steps if task else _EPISODE)


def _round_length(alive: Sequence[Extent], last: int, reached: int, stage: Stage) -> int | None:
    """Return a length other than the usual ones, at which a stopped run would hardly end."""
    explores = stage is Stage.EXPLORE
    asked = (length for length in DATA_STEPS if explores and last < length <= reached)
    if length := next(asked, None):
        return length
    ends = {extent.last + extent.gap for extent in alive if extent.gap <= _DENSE}
    if len(ends) == 1 and (end := ends.pop()) % (500 if explores else 5_000) == 0:
        return end
    end = _next_round(last, stage)
    rarely = min(extent.gap for extent in alive) <= (_DENSE if explores else _FAIRLY_DENSE)
    return end if end <= reached and rarely else None


def _next_round(last: int, stage: Stage) -> int:
    return (last // _ROUND[stage] + 1) * _ROUND[stage]


def _went_online(extents: Mapping[str, Extent]) -> bool:
    return any(tag.lower().startswith("train") or tag == "phase" for tag in extents)


def shared_length(runs: Sequence[Progress], shortest: int) -> int | None:
    """Return the step, if any, at which several runs of a stage end and which none exceeds.

    Args:
        runs: How far the runs of the stage got.
        shortest: The shortest length that counts.
    """
    longest = max((run.last for run in runs), default=0)
    ends = {run.may_end for run in runs if run.may_end is not None and run.may_end > longest}
    for end in (*ends, longest):
        if end >= shortest and _agree([end in {run.last, run.may_end} for run in runs]):
            return end
    return None


def _agree(votes: Sequence[bool]) -> bool:
    return sum(votes) >= _SHARED
