"""Converts a pickled replay buffer of a public version of this homework to a dataset file.

python cs285/scripts/convert_dataset.py old.pkl datasets/pointmass_medium_rnd.npz
"""

from __future__ import annotations

import itertools
import sys
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cs285.datasets.dataset_files import (
    Dataset,
    episode_starts,
    make_manifest,
    save_dataset,
)
from cs285.datasets.oddities import impossible_moves
from cs285.datasets.pickled_buffers import PickledBuffer, read_pickled_buffer
from cs285.envs.dynamics import NUM_ACTIONS, distance_to_goal
from cs285.envs.mazes import MAZES, FloatArray, Maze, cell_of, positions_of
from cs285.infrastructure.errors import UserError
from cs285.scripts.arguments import ArgumentParser, run

BoolArray = npt.NDArray[np.bool_]

ROUNDING = 1e-4
"""Rounding error of 32-bit observations, in cells."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Convert one file; return the exit status: 0 on success, 2 on bad input."""
    parser = ArgumentParser(
        "Convert a pickled replay buffer of a public version of this homework to a "
        "dataset for run_hw5_offline.py and run_hw5_finetune.py. The pickle is not executed."
    )
    parser.add_argument("old", type=Path, help="the pickle")
    parser.add_argument(
        "new",
        type=Path,
        help="the dataset: DATASET_NAME.npz for all seeds, DATASET_NAME_seedN.npz for one",
    )
    parser.add_argument(
        "--env_name", choices=MAZES, help="environment of the data, needed if several fit"
    )
    args = parser.parse_args(arguments)
    try:
        dataset = convert(args.old, args.new, args.env_name)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    manifest = dataset.manifest
    print(
        f"{args.new}: {len(dataset):,} transitions of {manifest['env_id']} in "
        f"{manifest['episodes']:,} episodes, {manifest['goals_reached']:,} of which reach the goal"
    )
    for line in describe_oddities(dataset):
        print(f"  {line}")
    return 0


def describe_oddities(dataset: Dataset) -> list[str]:
    """Return sentences about what is impossible in the maze of a converted dataset."""
    found = dataset.manifest["conversion"]
    limit = MAZES[dataset.manifest["env_id"]].max_episode_steps
    lines = []
    if cut_off := int(dataset.truncated.sum()):
        marks = "the goal and truncation" if found["flags_mark_limits"] else "only the goal"
        lines.append(f"Truncated episodes: {cut_off:,}; the flags in the pickle mark {marks}.")
    if count := found["impossible_moves"]:
        lines.append(
            "Moves across the maze, farther than one step or through a wall: "
            f"{count:,}, the first at index {found['first_impossible_move']:,}. Public versions "
            "make one after each evaluation, which leaves the environment elsewhere."
        )
    if count := found["overlong_episodes"]:
        lines.append(
            f"Episodes longer than the limit of {limit} steps: {count:,}, the longest with "
            f"{found['longest_episode']:,}. An evaluation had used up their limit, or it differed."
        )
    if found["impossible_moves"] or found["overlong_episodes"]:
        lines.append("They were converted unchanged.")
    return lines


def convert(old: Path, new: Path, env_name: str | None = None) -> Dataset:
    """Write the pickled buffer `old` as the dataset `new`, either completely or not at all.

    Raises:
        UserError: If `old` is unusable, `new` exists or cannot be written, or the data fit no
            environment, several environments, or not `env_name`.
    """
    if new.suffix != ".npz":
        raise UserError(
            f"{new}: the name of a dataset must end in .npz, such as pointmass_medium_rnd.npz"
        )
    if new.exists():
        raise UserError(f"{new}: already exists; choose another name")
    if old.is_file() and zipfile.is_zipfile(old):
        raise UserError(
            f"{old}: is a zip file, as datasets are, not a pickle; datasets need no conversion"
        )
    buffer = read_pickled_buffer(old)
    maze, terminated, truncated = find_maze(buffer, [env_name] if env_name else MAZES, old)
    arrays: dict[str, npt.NDArray[Any]] = {
        "observations": buffer.observations.astype(np.float32),
        "actions": buffer.actions.astype(np.int64),
        "rewards": buffer.rewards.astype(np.float32),
        "next_observations": buffer.next_observations.astype(np.float32),
        "terminated": terminated,
        "truncated": truncated,
    }
    origin = {"converted_from": old.name, "sha256": buffer.sha256}
    manifest = make_manifest(maze.env_id, origin, 0, arrays) | {
        "seed": None,
        "conversion": _oddities(maze, buffer, terminated, truncated),
    }
    try:
        dataset = Dataset(**arrays, manifest=manifest)
    except ValueError as error:
        raise UserError(f"the pickle {old} cannot be used: {error}") from error
    save_dataset(new, dataset)
    return dataset


def _oddities(
    maze: Maze, buffer: PickledBuffer, terminated: BoolArray, truncated: BoolArray
) -> dict[str, int | bool]:
    """Count the transitions that are impossible in the maze, and find out what the flags mean."""
    if buffer.actions.min() < 0 or buffer.actions.max() >= NUM_ACTIONS:
        return {}  # not a dataset, as `Dataset` will report
    moves = impossible_moves(
        maze,
        positions_of(maze, buffer.observations),
        buffer.actions.astype(np.int64),
        positions_of(maze, buffer.next_observations),
    )
    lengths = np.diff([*episode_starts(terminated, truncated).tolist(), len(terminated)])
    return {
        "impossible_moves": int(moves.sum()),
        "first_impossible_move": int(moves.argmax()) if moves.any() else -1,
        "overlong_episodes": int((lengths > maze.max_episode_steps).sum()),
        "longest_episode": int(lengths.max()),
        "flags_mark_limits": bool((buffer.dones & truncated).any()),
    }


def find_maze(
    buffer: PickledBuffer, env_ids: Iterable[str], path: Path
) -> tuple[Maze, BoolArray, BoolArray]:
    """Return the maze that the data fit, and where their episodes end.

    Raises:
        UserError: The data fit none of the mazes, or more than one.
    """
    fitting, problems = [], []
    for env_id in env_ids:
        try:
            fitting.append((MAZES[env_id], *recover_ends(MAZES[env_id], buffer)))
        except ValueError as error:
            problems.append(f"not from {env_id} {error}")
    if not fitting:
        raise UserError(f"the data of {path} are {'; '.join(problems)}")
    if len(fitting) > 1:
        names = " and ".join(maze.env_id for maze, *_ in fitting)
        raise UserError(f"the data of {path} fit {names}; choose one with --env_name")
    return fitting[0]


def recover_ends(maze: Maze, buffer: PickledBuffer) -> tuple[BoolArray, BoolArray]:
    """Return where episodes terminated in the goal, and where the step limit truncated them.

    Public versions store one flag for both, or no flag for truncation. Here an episode terminated
    exactly where the next observation is inside the goal. It was truncated anywhere else where the
    flag is set or the next transition starts from another position.

    Returns:
        `terminated` and `truncated`, shape `(N,)`, never both.

    Raises:
        ValueError: The data cannot be from this maze: a point is in a wall, a reward is not 0 in
            the goal or not -1 elsewhere, or an episode does not begin at the start.
    """
    before = positions_of(maze, buffer.observations)
    after = positions_of(maze, buffer.next_observations)
    depth = maze.goal_radius - distance_to_goal(maze, after)
    # At the very edge of the goal, only the reward can decide.
    terminated = np.where(np.abs(depth) < ROUNDING, buffer.rewards == 0, depth > 0)
    moved = (buffer.observations[1:] != buffer.next_observations[:-1]).any(axis=1)
    truncated = (buffer.dones | np.append(moved, False)) & ~terminated

    off_start = np.abs(before - maze.start).max(axis=1) > ROUNDING
    begins = np.roll(terminated | truncated, 1)
    begins[0] = False  # a full ring may begin anywhere
    expected = np.where(terminated, 0, -1)
    for mask, problem in (
        (_in_wall(maze, before) | _in_wall(maze, after), "is in a wall"),
        (buffer.rewards != expected, "has reward {reward:g} instead of {expected}"),
        (begins & off_start, "begins an episode away from the start"),
    ):
        if mask.any():
            first = int(mask.argmax())
            said = problem.format(reward=float(buffer.rewards[first]), expected=expected[first])
            raise ValueError(f"because transition {first:,} {said}")
    return terminated, truncated


def _in_wall(maze: Maze, positions: FloatArray) -> BoolArray:
    """Return which positions `(N, 2)` are in a wall by more than rounding, bool `(N,)`."""
    corners = itertools.product((-ROUNDING, ROUNDING), repeat=2)
    cells = [cell_of(maze, positions + corner) for corner in corners]
    inside: BoolArray = np.all([maze.walls[tuple(cell.T)] for cell in cells], axis=0)
    return inside


if __name__ == "__main__":
    run(main)
