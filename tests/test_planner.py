"""The exact planner against rollouts, hand calculation and brute force."""

import numpy as np
import pytest
from scipy.stats import ncx2

from cs285.envs import planner
from cs285.envs.dynamics import MOVES, NOISE_STD, move, reached_goal
from cs285.envs.mazes import MAZES, Maze
from cs285.envs.tasks import get_task

IDS = list(MAZES)
EASY = "PointmassEasy-v0"


@pytest.fixture(autouse=True, scope="module")
def _own_cache(tmp_path_factory):
    """Keeps the user's cache out of the tests, so that every plan is computed here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        planner.plan.cache_clear()
        yield
    planner.plan.cache_clear()


def rollouts(maze, choose, episodes, seed):
    """Returns the returns `(episodes,)` of `choose(positions, step) -> actions`."""
    rng = np.random.default_rng(seed)
    positions = np.tile(maze.start, (episodes, 1))
    returns = np.zeros(episodes)
    running = np.arange(episodes)
    for step in range(maze.max_episode_steps):
        noise = NOISE_STD * rng.standard_normal((len(running), 2))
        actions = choose(positions[running], step)
        positions[running] = move(maze.walls, positions[running], MOVES[actions] + noise)
        running = running[~reached_goal(maze, positions[running])]
        returns[running] -= 1
    return returns


def open_box(goal=(6.0, 3.0), goal_radius=2.0, max_episode_steps=1, start=(3.0, 3.0)):
    """A box without walls, large enough for its edges not to matter within two steps."""
    walls = np.zeros((9, 6), dtype=bool)
    return Maze("Open-v0", "open", "Open", walls, start, goal, goal_radius, max_episode_steps)


@pytest.mark.parametrize(
    ("env_id", "expected", "tolerance"),
    [
        ("PointmassEasy-v0", -13.4, 0.2),
        ("PointmassMedium-v0", -21.0, 0.4),
        ("PointmassHard-v0", -32.8, 0.4),
        ("PointmassVeryHard-v0", -68.8, 0.5),
    ],
)
def test_the_optimal_return_is_the_known_one_and_rollouts_reach_it(env_id, expected, tolerance):
    best = planner.plan(env_id)
    assert best.optimal_return == pytest.approx(expected, abs=tolerance)
    returns = rollouts(MAZES[env_id], best.actions, episodes=4000, seed=0)
    assert returns.mean() == pytest.approx(expected, abs=tolerance)
    standard_error = returns.std() / len(returns) ** 0.5
    # 0.15 allows for the finite grid, on which values and policy are computed.
    assert returns.mean() == pytest.approx(best.optimal_return, abs=0.15 + 3 * standard_error)


@pytest.mark.parametrize("env_id", IDS)
def test_the_random_return_is_the_mean_of_random_rollouts(env_id):
    rng = np.random.default_rng(1)
    returns = rollouts(
        MAZES[env_id], lambda at, step: rng.integers(5, size=len(at)), episodes=2000, seed=0
    )
    standard_error = returns.std() / len(returns) ** 0.5
    assert planner.plan(env_id).random_return == pytest.approx(
        returns.mean(), abs=0.05 + 3 * standard_error
    )


def chance_of_goal(maze, positions):
    """Return exact probabilities `(N, 5)` of entering the goal in one step, far from walls.

    The squared distance over the noise's variance has a noncentral chi-squared distribution.
    """
    offsets = positions[:, None] + MOVES - maze.goal
    noncentrality = (offsets**2).sum(axis=-1) / NOISE_STD**2
    return ncx2.cdf((maze.goal_radius / NOISE_STD) ** 2, df=2, nc=noncentrality)


@pytest.mark.parametrize("start", [(3.0, 3.0), (4.3, 4.1), (5.0, 1.0)])
def test_one_step_from_the_goal_the_return_follows_from_the_chance_of_missing_it(start):
    maze = open_box(start=start)
    chances = chance_of_goal(maze, np.array([start]))[0]
    solved = planner.solve(maze)
    assert solved.optimal_return == pytest.approx(chances.max() - 1, abs=0.02)
    assert solved.random_return == pytest.approx(chances.mean() - 1, abs=0.02)


def test_two_steps_from_the_goal_the_return_agrees_with_direct_integration():
    maze = open_box(start=(2.6, 3.2), max_episode_steps=2)
    axis = np.linspace(-2.5, 2.5, 201)
    noise = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    density = np.exp(-0.5 * (noise / NOISE_STD) ** 2).prod(axis=1)
    density /= density.sum()
    best, uniform = [], []
    for action in MOVES:
        ends = maze.start + action + noise
        chances = chance_of_goal(maze, ends)
        missed = density * (np.hypot(*(ends - maze.goal).T) >= maze.goal_radius)
        best.append(missed @ (chances.max(axis=1) - 2))
        uniform.append(missed @ (chances.mean(axis=1) - 2))
    solved = planner.solve(maze)
    assert solved.optimal_return == pytest.approx(max(best), abs=0.02)
    assert solved.random_return == pytest.approx(np.mean(uniform), abs=0.02)
    assert solved.actions(np.array([maze.start]), 0).tolist() == [int(np.argmax(best))]


def test_a_goal_behind_a_wall_costs_every_step(monkeypatch):
    monkeypatch.setattr(planner, "MOVE_BUDGET", 1000)  # two cells need no fine grid
    walls = np.array([[False, True, False]])
    maze = Maze("Walled-v0", "walled", "Walled", walls, (0.5, 0.5), (0.5, 2.5), 0.5, 7)
    solved = planner.solve(maze)
    assert solved.optimal_return == pytest.approx(-7, abs=1e-5)
    assert solved.random_return == pytest.approx(-7, abs=1e-5)


def test_a_goal_that_cannot_be_missed_costs_nothing():
    solved = planner.solve(open_box(goal_radius=100.0, max_episode_steps=3))
    assert (solved.optimal_return, solved.random_return) == pytest.approx((0.0, 0.0))


def test_actions_head_for_the_goal_and_values_rise_towards_it():
    best = planner.plan(EASY)  # right along the upper corridor, then down to the goal at (9, 9)
    positions = np.array([(1.0, 3.0), (5.0, 9.0)])
    assert best.actions(positions, 0).tolist() == [2, 4]
    assert best.actions(positions, np.array([0, 30])).tolist() == [2, 4]
    resolution = best.values.shape[1] // 10
    far, near = (
        best.values[0, int(row * resolution), int(column * resolution)] for row, column in positions
    )
    assert far < near < 0
    assert np.isnan(best.values[:, -1, 0]).all()  # a wall
    assert (best.values[-1][~np.isnan(best.values[-1])] == 0).all()  # no step is left
    with pytest.raises(IndexError):
        best.actions(positions, 50)


def test_points_on_the_edges_of_the_box_have_actions():
    best = planner.plan(EASY)
    assert best.actions(np.array([(0.0, 10.0), (10.0, 10.0)]), 0).shape == (2,)


@pytest.mark.parametrize("env_id", IDS)
def test_normalised_scores_run_from_random_to_optimal(env_id):
    best = planner.plan(env_id)
    low, high = best.random_return, best.optimal_return
    scores = get_task(env_id).normalised_score([low, high, (low + high) / 2])
    np.testing.assert_allclose(scores, [0.0, 1.0, 0.5])


def test_an_unknown_id_is_an_error():
    with pytest.raises(ValueError, match="did you mean PointmassEasy-v0"):
        planner.plan("PointmassEasy-v1")


@pytest.fixture(scope="module")
def small():
    """The plan of a small maze."""
    return planner.solve(open_box())


@pytest.fixture
def cache(tmp_path, monkeypatch, small):
    """An empty cache folder and a solver that counts its calls and plans a small maze."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    calls = []

    def counting_solve(maze):
        calls.append(maze.name)
        return small

    monkeypatch.setattr(planner, "solve", counting_solve)
    monkeypatch.setattr(planner, "get_maze", lambda env_id: small.maze)
    planner.plan.cache_clear()
    yield tmp_path / "cs285", calls, small
    planner.plan.cache_clear()


def test_a_plan_is_computed_once_and_read_back_whole(cache):
    folder, calls, small = cache
    assert planner.plan(EASY) is planner.plan(EASY) is small
    planner.plan.cache_clear()
    read = planner.plan(EASY)
    assert calls == ["open"]
    assert (read.optimal_return, read.random_return) == (small.optimal_return, small.random_return)
    np.testing.assert_array_equal(read.policy, small.policy)
    np.testing.assert_array_equal(read.values, small.values)
    assert [path.suffix for path in folder.iterdir()] == [".npz"]  # nothing unfinished is left


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "text", "other"])
def test_a_damaged_cache_is_computed_and_written_again(cache, damage):
    folder, calls, _ = cache
    planner.plan(EASY)
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes(255 - byte for byte in whole[middle : middle + 64])
    path.write_bytes(
        {
            "empty": b"",
            "cut": whole[:middle],
            "flipped": flipped + whole[middle + 64 :],
            "text": b"not an archive",
            "other": whole,
        }[damage]
    )
    if damage == "other":
        np.savez(path, something=np.zeros(3))
    planner.plan.cache_clear()
    planner.plan(EASY)
    assert calls == ["open", "open"]
    planner.plan.cache_clear()
    planner.plan(EASY)
    assert calls == ["open", "open"]


def test_a_cache_folder_that_cannot_be_made_is_ignored(cache):
    folder, calls, small = cache
    folder.write_text("a file stands where the folder should be")
    assert planner.plan(EASY) is small
    assert calls == ["open"]


def test_plans_of_different_mazes_have_different_files(cache):
    names = {
        planner._cache_name(maze)
        for maze in (*MAZES.values(), open_box(), open_box(goal_radius=1.0), open_box((6.0, 4.0)))
    }
    assert len(names) == 7
