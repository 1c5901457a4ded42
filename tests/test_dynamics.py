"""The batched dynamics against a naive implementation, and the rewards against hand calculation."""

import math

import numpy as np
import pytest

from cs285.envs.dynamics import MOVES, NOISE_STD, distance_to_goal, move, outcome, reached_goal
from cs285.envs.mazes import MAZES, get_maze

ALL = list(MAZES.values())


def naive_move(walls, position, displacement):
    """Moves one point, axis by axis and substep by substep, in plain Python."""
    height, width = len(walls), len(walls[0])
    row, column = position
    for _ in range(10):
        new_row = row + 0.1 * displacement[0]
        if 0 <= new_row <= height:
            cell = min(math.floor(new_row), height - 1), min(math.floor(column), width - 1)
            if not walls[cell[0]][cell[1]]:
                row = new_row
        new_column = column + 0.1 * displacement[1]
        if 0 <= new_column <= width:
            cell = min(math.floor(row), height - 1), min(math.floor(new_column), width - 1)
            if not walls[cell[0]][cell[1]]:
                column = new_column
    return row, column


@pytest.mark.parametrize("maze", ALL, ids=lambda maze: maze.name)
def test_a_trajectory_of_10000_steps_equals_the_naive_one_exactly(maze):
    rng = np.random.default_rng(1)
    walls = maze.walls.tolist()
    position = np.array([maze.start])
    expected = maze.start
    for _ in range(10_000):
        displacement = MOVES[rng.integers(5)] + NOISE_STD * rng.standard_normal(2)
        position = move(maze.walls, position, displacement[None])
        expected = naive_move(walls, expected, displacement.tolist())
        assert (position[0, 0], position[0, 1]) == expected


@pytest.mark.parametrize("maze", ALL, ids=lambda maze: maze.name)
def test_a_batch_of_large_moves_near_edges_equals_the_naive_ones_exactly(maze):
    rng = np.random.default_rng(2)
    cells = np.argwhere(~maze.walls)
    # Fractions of 0 and next to 0 and 1 put points on and next to the borders of cells.
    fractions = rng.choice([0.0, 1e-12, 0.25, 0.9, 1 - 1e-12], size=(2000, 2))
    positions = cells[rng.integers(len(cells), size=2000)] + fractions
    displacements = 3 * rng.standard_normal((2000, 2))
    walls = maze.walls.tolist()
    moved = move(maze.walls, positions, displacements)
    expected = [
        naive_move(walls, *pair)
        for pair in zip(positions.tolist(), displacements.tolist(), strict=True)
    ]
    np.testing.assert_array_equal(moved, expected)


def test_the_edges_of_the_box_can_be_stood_on_and_not_crossed():
    walls = np.zeros((2, 3), dtype=bool)
    corners = np.array([[2.0, 3.0], [0.0, 0.0]])
    outwards = np.array([[1.0, 1.0], [-1.0, -1.0]])
    np.testing.assert_array_equal(move(walls, corners, outwards), corners)
    # Quarter steps are exact in binary: 1.5 reaches 2.0 after two of them and stays there.
    moved = move(walls, np.array([[1.5, 1.0]]), np.array([[2.5, 0.0]]))
    np.testing.assert_array_equal(moved, [[2.0, 1.0]])


def test_a_point_slides_along_a_wall():
    walls = np.array([[False, False, False], [True, True, False]])
    moved = move(walls, np.array([[0.5, 0.5]]), np.array([[1.25, 1.25]]))
    # Parts of 0.125: rows continue to 0.875 and stop before 1.0, columns make all ten.
    np.testing.assert_array_equal(moved, [[0.875, 1.75]])


def test_a_point_stopped_by_a_wall_turns_the_corner_when_the_wall_ends():
    walls = np.array([[False, False], [True, False]])
    moved = move(walls, np.array([[0.75, 0.75]]), np.array([[1.25, 1.25]]))
    # Parts of 0.125. Row 0.875 at once, then stopped at 1.0; column 1.0 after two parts frees the
    # rows, which move in the parts 3 to 10: 0.875 + 8 * 0.125. Columns move all ten times.
    np.testing.assert_array_equal(moved, [[1.875, 2.0]])


def test_a_row_moves_before_its_column():
    walls = np.array([[False, True], [False, False]])
    moved = move(walls, np.array([[0.875, 0.875]]), np.array([[1.25, 1.25]]))
    # Row 1.0 in the first part opens the way to the right in the same part.
    assert moved[0, 1] == 0.875 + 9 * 0.125  # the tenth part would leave the box at 2.125


def test_inputs_are_left_as_they_are():
    positions, displacements = np.array([[0.5, 0.5]]), np.array([[5.0, -5.0]])
    move(np.zeros((2, 2), dtype=bool), positions, displacements)
    assert positions.tolist() == [[0.5, 0.5]]
    assert displacements.tolist() == [[5.0, -5.0]]


def test_actions_are_stay_left_right_up_down():
    assert MOVES.tolist() == [[0, 0], [0, -1], [0, 1], [-1, 0], [1, 0]]


def test_the_goal_is_an_open_disc():
    maze = get_maze("PointmassEasy-v0")  # goal (9, 9), radius 2
    positions = np.array([[9.0, 7.0], [9.0, 7.001], [6.0, 5.0]])
    assert reached_goal(maze, positions).tolist() == [False, True, False]
    np.testing.assert_allclose(distance_to_goal(maze, positions), [2.0, 1.999, 5.0])
    rewards, reached = outcome(maze, positions)
    assert rewards.tolist() == [-1.0, 0.0, -1.0]
    assert reached.tolist() == [False, True, False]
    rewards, reached = outcome(maze, positions, dense=True)
    np.testing.assert_allclose(rewards, [-2.0, -1.999, -5.0])
    assert reached.tolist() == [False, True, False]
