"""The Gymnasium environment and the vector environment."""

import importlib
import pickle
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

import cs285.envs
from cs285.envs import rendering
from cs285.envs.mazes import MAZES, get_maze, observe
from cs285.envs.pointmass import NOISE_BLOCK, PointmassEnv, PointmassVectorEnv

EASY = "PointmassEasy-v0"
IDS = list(MAZES)
DOWN = 4


def solve_easy(env):
    """Walks right and then down, which reaches the goal of Easy within 30 steps."""
    steps = []
    for action in [2] * 14 + [DOWN] * 16:
        steps.append(env.step(action))
        if steps[-1][2]:
            return steps
    raise AssertionError("the goal was not reached")


@pytest.mark.parametrize("env_id", IDS)
def test_gymnasiums_checker_finds_nothing(env_id):
    env = gym.make(env_id, render_mode="rgb_array")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped)


@pytest.mark.parametrize("env_id", IDS)
def test_registration_serves_make_and_make_vec(env_id):
    limit = get_maze(env_id).max_episode_steps
    env = gym.make(env_id, dense_reward=True)
    assert isinstance(env.unwrapped, PointmassEnv)
    assert env.unwrapped.dense_reward
    assert env.spec.max_episode_steps == limit
    lanes = gym.make_vec(env_id, num_envs=3, vectorization_mode="vector_entry_point")
    assert isinstance(lanes, PointmassVectorEnv)
    assert lanes.num_envs == 3
    assert lanes.max_episode_steps == limit


def test_importing_twice_registers_once():
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Gymnasium warns when an id is registered again
        importlib.reload(cs285.envs)


def test_an_episode_begins_at_the_start():
    env = PointmassEnv("PointmassHard-v0")
    observation, info = env.reset(seed=0)
    assert observation.dtype == np.float32
    np.testing.assert_array_equal(observation, np.float32([2 / 22, 2 / 22]))
    assert info["position"].tolist() == [2.0, 2.0]


def test_a_step_adds_half_a_unit_of_noise_to_the_action():
    env = PointmassEnv("PointmassHard-v0")
    env.reset(seed=5)
    noise = np.random.Generator(np.random.PCG64(np.random.SeedSequence(5))).standard_normal(2)
    observation, *_, info = env.step(DOWN)
    np.testing.assert_allclose(info["position"], [2 + 1 + 0.5 * noise[0], 2 + 0.5 * noise[1]])
    np.testing.assert_array_equal(observation, np.float32(info["position"] / 22))


def test_the_goal_terminates_with_reward_zero():
    env = PointmassEnv(EASY)
    env.reset(seed=0)
    steps = solve_easy(env)
    assert all(step[1:4] == (-1.0, False, False) for step in steps[:-1])
    assert steps[-1][1:4] == (0.0, True, False)
    position = steps[-1][4]["position"]
    assert np.hypot(*(position - 9)) < 2 <= np.hypot(*(steps[-2][4]["position"] - 9))


def test_the_step_limit_truncates_and_does_not_terminate():
    env = PointmassEnv(EASY)
    env.reset(seed=0)
    ends = [env.step(1)[2:4] for _ in range(50)]
    assert ends == [(False, False)] * 49 + [(False, True)]


def test_the_step_limit_starts_afresh_with_every_episode():
    env = PointmassEnv(EASY, max_episode_steps=3)
    for _ in range(2):
        env.reset()
        assert [env.step(1)[3] for _ in range(3)] == [False, False, True]


def test_the_dense_reward_is_minus_the_distance_to_the_goal():
    env = PointmassEnv(EASY, dense_reward=True)
    env.reset(seed=0)
    for _, reward, _, _, info in solve_easy(env):
        row, column = info["position"]
        assert reward == pytest.approx(-(((row - 9) ** 2 + (column - 9) ** 2) ** 0.5))


def test_a_step_outside_an_episode_is_an_error():
    env = PointmassEnv(EASY, max_episode_steps=1)
    with pytest.raises(ResetNeeded):
        env.step(0)
    env.reset()
    env.step(0)
    with pytest.raises(ResetNeeded):
        env.step(0)


def test_the_noise_depends_on_the_seed_alone():
    def walk(env, seed):
        env.reset(seed=seed)
        return [env.step(2)[4]["position"].tolist() for _ in range(5)]

    np.random.seed(0)  # noqa: NPY002 (the global generator is what must not matter)
    first = walk(PointmassEnv(EASY), 7)
    np.random.seed(1)  # noqa: NPY002
    env = PointmassEnv(EASY)
    assert walk(env, 7) == first
    assert walk(env, None) != first  # a reset without a seed continues the noise
    assert walk(env, 7) == first


@pytest.mark.parametrize("action", [-1, 5, 0.5])
def test_an_unknown_action_is_an_error(action):
    env = PointmassEnv(EASY)
    env.reset()
    with pytest.raises(ValueError, match="from 0 to 4"):
        env.step(action)


@pytest.mark.parametrize("actions", [[0, -1], [5, 0], [0], [0, 0, 0]])
def test_unknown_actions_of_lanes_are_an_error(actions):
    env = PointmassVectorEnv(EASY, 2)
    env.reset()
    with pytest.raises(ValueError, match="2 integers from 0 to 4"):
        env.step(np.array(actions))


@pytest.mark.parametrize("make", [PointmassEnv, PointmassVectorEnv])
def test_an_unknown_render_mode_is_an_error(make):
    with pytest.raises(ValueError, match="rgb_array"):
        make(EASY, render_mode="human")


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("env_id", IDS)
def test_lanes_equal_single_environments_bit_for_bit(env_id, dense):
    """Over several episodes and blocks of noise, with lanes that restart at different steps."""
    seeds = [3, 1, 4]
    lanes = PointmassVectorEnv(env_id, 3, AutoresetMode.SAME_STEP, dense_reward=dense)
    singles = [PointmassEnv(env_id, dense_reward=dense) for _ in seeds]
    observations, infos = lanes.reset(seed=seeds)
    for k, (env, seed) in enumerate(zip(singles, seeds, strict=True)):
        observation, info = env.reset(seed=seed)
        np.testing.assert_array_equal(observations[k], observation)
        np.testing.assert_array_equal(infos["position"][k], info["position"])
    rng = np.random.default_rng(0)
    for _ in range(2 * NOISE_BLOCK + 10):
        actions = rng.choice(5, size=3, p=[0.1, 0.1, 0.35, 0.1, 0.35])
        observations, rewards, terminations, truncations, infos = lanes.step(actions)
        for k, env in enumerate(singles):
            observation, reward, terminated, truncated, info = env.step(actions[k])
            assert (rewards[k], terminations[k], truncations[k]) == (reward, terminated, truncated)
            if terminated or truncated:
                np.testing.assert_array_equal(infos["final_obs"][k], observation)
                np.testing.assert_array_equal(infos["final_info"]["position"][k], info["position"])
                observation, info = env.reset()
            np.testing.assert_array_equal(observations[k], observation)
            np.testing.assert_array_equal(infos["position"][k], info["position"])


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_autoreset_agrees_with_gymnasiums_own_vector_environment(mode):
    ours = gym.make_vec(EASY, 4, "vector_entry_point", autoreset_mode=mode)
    theirs = gym.make_vec(EASY, 4, "sync", vector_kwargs={"autoreset_mode": mode})
    assert ours.metadata["autoreset_mode"] is mode
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    rng = np.random.default_rng(0)
    pair = [ours.reset(seed=11), theirs.reset(seed=11)]
    restarts = 0
    for _ in range(200):
        assert_same(*pair)
        actions = rng.choice(5, size=4, p=[0.1, 0.1, 0.35, 0.1, 0.35])
        pair = [ours.step(actions), theirs.step(actions)]
        restarts += int((pair[0][2] | pair[0][3]).sum())
    assert restarts > 12


def assert_same(ours, theirs):
    """Compares nested tuples, dicts and arrays, including the types of the arrays."""
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys()
        for key in theirs:
            assert_same(ours[key], theirs[key])
    elif isinstance(theirs, tuple) or (isinstance(theirs, np.ndarray) and theirs.dtype == object):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert_same(one, other)
    elif theirs is None:
        assert ours is None
    else:
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


def test_next_step_mode_ignores_the_action_after_an_end():
    env = PointmassVectorEnv(EASY, 2, "NextStep", max_episode_steps=2)
    env.reset(seed=0)
    start = observe(env.maze, np.array([env.maze.start]))[0]
    right = np.array([2, 2])
    assert env.step(right)[3].tolist() == [False, False]
    assert env.step(right)[3].tolist() == [True, True]
    observations, rewards, terminations, truncations, _ = env.step(right)
    np.testing.assert_array_equal(observations, [start, start])
    assert rewards.tolist() == [0.0, 0.0]
    assert not (terminations | truncations).any()


def test_disabled_mode_resets_the_lanes_of_a_mask_only():
    env = PointmassVectorEnv(EASY, 3, AutoresetMode.DISABLED, max_episode_steps=4)
    env.reset(seed=0)
    stay = np.zeros(3, dtype=np.int64)
    for _ in range(2):
        before = env.step(stay)[0]
    observations, infos = env.reset(options={"reset_mask": np.array([False, True, False])})
    start = observe(env.maze, np.array([env.maze.start]))[0]
    np.testing.assert_array_equal(observations, [before[0], start, before[2]])
    assert infos["_position"].tolist() == [False, True, False]
    env.step(stay)
    assert env.step(stay)[3].tolist() == [True, False, True]
    with pytest.raises(ResetNeeded):
        env.step(stay)
    env.reset(options={"reset_mask": np.array([True, False, True])})
    assert env.step(stay)[3].tolist() == [False, False, False]
    assert env.step(stay)[3].tolist() == [False, True, False]


def test_a_step_of_lanes_before_the_first_reset_is_an_error():
    for mode in AutoresetMode:
        with pytest.raises(ResetNeeded):
            PointmassVectorEnv(EASY, 2, mode).step(np.zeros(2, dtype=np.int64))


@pytest.mark.parametrize(
    "mask", [np.array([True]), np.array([1, 0]), np.array([False, False]), [[True, False]]]
)
def test_a_wrong_reset_mask_is_an_error(mask):
    with pytest.raises(ValueError, match="reset_mask"):
        PointmassVectorEnv(EASY, 2).reset(options={"reset_mask": mask})


def test_seeds_are_spread_over_the_lanes_as_gymnasium_does():
    def first_positions(seed):
        env = PointmassVectorEnv(EASY, 2)
        env.reset(seed=seed)
        return env.step(np.zeros(2, dtype=np.int64))[4]["position"].tolist()

    assert first_positions(8) == first_positions(np.int64(8)) == first_positions([8, 9])
    assert first_positions([8, 9])[0] != first_positions([9, 8])[0]
    with pytest.raises(ValueError, match="2 lanes need 2 seeds, not 3"):
        first_positions([1, 2, 3])


def test_a_seed_of_none_leaves_the_noise_of_that_lane_alone():
    stay = np.zeros(2, dtype=np.int64)
    env, other = PointmassVectorEnv(EASY, 2), PointmassVectorEnv(EASY, 2)
    for each in (env, other):
        each.reset(seed=[1, 2])
        each.step(stay)
    env.reset(seed=[1, None])
    other.reset()
    ours, theirs = env.step(stay)[0], other.step(stay)[0]
    np.testing.assert_array_equal(ours[1], theirs[1])
    assert (ours[0] != theirs[0]).any()


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_a_restored_state_continues_exactly(mode):
    actions = np.random.default_rng(0).integers(5, size=(700, 2))

    def walk(env, start, stop):
        trace = []
        for step in range(start, stop):
            observations, rewards, terminations, truncations, _ = env.step(actions[step])
            trace.append((observations.tolist(), rewards.tolist(), truncations.tolist()))
            ended = terminations | truncations
            if mode is AutoresetMode.DISABLED and ended.any():
                env.reset(options={"reset_mask": ended})
        return trace

    env = PointmassVectorEnv(EASY, 2, mode)
    env.reset(seed=0)
    walk(env, 0, 100)  # the hundredth step ends an episode: one is pending in next-step mode
    state = pickle.loads(pickle.dumps(env.get_state()))
    expected = walk(env, 100, 700)  # beyond the block of noise
    restored = PointmassVectorEnv(EASY, 2, mode)
    restored.set_state(state)
    assert walk(restored, 100, 700) == expected
    restored.set_state(state)  # running on has not changed the state itself
    assert walk(restored, 100, 700) == expected


def test_a_state_of_other_lanes_is_an_error():
    with pytest.raises(ValueError, match="the state has 2 lanes, this environment 3"):
        PointmassVectorEnv(EASY, 3).set_state(PointmassVectorEnv(EASY, 2).get_state())


@pytest.mark.parametrize("env_id", IDS)
def test_pictures_show_walls_where_the_wall_cells_are(env_id):
    env = PointmassEnv(env_id, render_mode="rgb_array")
    env.reset(seed=0)
    picture = env.render()
    side = rendering.CELL_PIXELS
    assert picture.dtype == np.uint8
    assert picture.shape == (env.maze.height * side, env.maze.width * side, 3)
    # The picture's cell (i, j) starts at pixel (i * side, j * side).
    cells = picture.reshape(env.maze.height, side, env.maze.width, side, 3).swapaxes(1, 2)
    is_wall = (cells == rendering.WALL).all(axis=-1)
    np.testing.assert_array_equal(is_wall.all(axis=(2, 3)), env.maze.walls)
    np.testing.assert_array_equal(is_wall.any(axis=(2, 3)), env.maze.walls)


def test_pictures_show_start_goal_and_agent_in_their_places():
    env = PointmassVectorEnv("PointmassMedium-v0", 2, render_mode="rgb_array")
    env.reset(seed=0)
    infos = env.step(np.array([DOWN, 2]))[4]
    side = rendering.CELL_PIXELS
    for picture, position in zip(env.render(), infos["position"], strict=True):
        row, column = (position * side).astype(int)
        assert tuple(picture[row, column]) == rendering.AGENT
        assert tuple(picture[int(1.5 * side), int(5.5 * side)]) == rendering.GOAL
        assert tuple(picture[int(0.3 * side), int(0.5 * side)]) == rendering.START
        assert tuple(picture[int(5.5 * side), int(2.5 * side)]) == rendering.FLOOR


def test_without_a_render_mode_there_is_no_picture():
    assert PointmassEnv(EASY).render() is None
    assert PointmassVectorEnv(EASY, 2).render() is None
