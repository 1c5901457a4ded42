"""The maps, their coordinates and what is computed from them."""

import subprocess
import sys

import numpy as np
import pytest
from scipy.ndimage import label

from cs285.envs.mazes import (
    MAZES,
    cell_of,
    coverage,
    get_maze,
    observe,
    positions_of,
)

ALL = list(MAZES.values())


@pytest.mark.parametrize(
    ("env_id", "name", "shape", "free", "start", "goal", "radius", "limit"),
    [
        # Free cells counted by hand on the unscaled maps, times the factor squared.
        ("PointmassEasy-v0", "easy", (10, 10), 9 * 4, (1.0, 1.0), (9.0, 9.0), 2, 50),
        ("PointmassMedium-v0", "medium", (6, 6), 21, (0.5, 0.5), (1.5, 5.5), 1, 150),
        ("PointmassHard-v0", "hard", (22, 22), 104 * 4, (2.0, 2.0), (20.0, 20.0), 2, 100),
        ("PointmassVeryHard-v0", "veryhard", (11, 11), 67, (0.5, 0.5), (0.5, 10.5), 1, 200),
    ],
)
def test_every_maze_has_the_published_constants(
    env_id, name, shape, free, start, goal, radius, limit
):
    maze = get_maze(env_id)
    assert maze.name == name
    assert maze.walls.shape == (maze.height, maze.width) == shape
    assert maze.scale.tolist() == list(shape)
    assert maze.free_cells == free
    assert (maze.start, maze.goal) == (start, goal)
    assert (maze.goal_radius, maze.max_episode_steps) == (radius, limit)


def test_rows_run_down_and_columns_to_the_right():
    easy = get_maze("PointmassEasy-v0").walls
    assert not easy[0, 9]  # the upper right corner of the map is free
    assert easy[9, 0]  # the lower left corner is a wall
    medium = get_maze("PointmassMedium-v0").walls
    assert medium[1].tolist() == [True, False, True, False, True, False]  # "#.#.#."


@pytest.mark.parametrize("maze", ALL, ids=lambda maze: maze.name)
def test_the_goal_can_be_reached_from_the_start(maze):
    regions, _ = label(~maze.walls)
    start, goal = cell_of(maze, [maze.start, maze.goal])
    assert regions[tuple(start)] == regions[tuple(goal)] > 0


def test_a_misspelt_id_gets_the_known_ids_and_a_suggestion():
    with pytest.raises(ValueError, match=r"PointmassEasy-v0, .*did you mean PointmassMedium-v0"):
        get_maze("PointmasMedium-v0")


def test_the_far_edges_belong_to_the_last_cells():
    maze = get_maze("PointmassMedium-v0")
    cells = cell_of(maze, [(0.0, 0.0), (0.99, 1.0), (6.0, 5.5), (3.0, 6.0)])
    assert cells.tolist() == [[0, 0], [0, 1], [5, 5], [3, 5]]


def test_coverage_counts_each_free_cell_once_and_no_wall():
    maze = get_maze("PointmassMedium-v0")
    positions = [(0.5, 0.5), (0.1, 0.9), (0.5, 1.5), (1.5, 0.5)]  # a cell twice, a second, a wall
    assert coverage(maze, positions) == pytest.approx(2 / 21)
    everywhere = np.argwhere(~maze.walls) + 0.5
    assert coverage(maze, everywhere) == 1.0
    assert coverage(maze, np.empty((0, 2))) == 0.0


def test_observations_are_positions_divided_by_height_and_width():
    maze = get_maze("PointmassHard-v0")
    positions = np.array([[0.0, 22.0], [5.5, 11.0]])
    observations = observe(maze, positions)
    assert observations.dtype == np.float32
    assert observations.tolist() == [[0.0, 1.0], [0.25, 0.5]]
    np.testing.assert_array_equal(positions_of(maze, observations), positions)


ADD_A_MAZE = """
from dataclasses import replace

from cs285.envs.mazes import MAZES

MAZES["PointmassTwoRooms-v0"] = replace(
    MAZES["PointmassHard-v0"], env_id="PointmassTwoRooms-v0", name="two_rooms", title="Two Rooms"
)

from cs285.envs.tasks import known_tasks, task_named_in
from cs285.grading.hand_ins.rubric import Experiment

task = known_tasks()["PointmassTwoRooms-v0"]
assert (task.title, task.dataset_stem, task.rank) == ("Two Rooms", "pointmass_two_rooms", 4)
assert task_named_in("pointmass_two_rooms_cql") is task
asked = Experiment(
    stage="offline", algorithms=["cql"], environments=["easy", "two_rooms"], steps=1, points=1
)
assert asked.env_ids == ("PointmassEasy-v0", "PointmassTwoRooms-v0")
assert asked.name == "CQL on Easy or Two Rooms"
"""


def test_a_new_maze_is_one_entry():
    """Its name in print, its tables and the grader's rubric all follow from the entry."""
    done = subprocess.run(
        [sys.executable, "-c", ADD_A_MAZE], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
