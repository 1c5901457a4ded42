"""Tasks: what the rest of the package knows of an environment, and which ones are accepted."""

import math
import re
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch

from cs285.envs import replayed
from cs285.envs.mazes import MAZES
from cs285.envs.planner import plan
from cs285.envs.tasks import (
    DEFAULT_STEP_LIMIT,
    describe_task,
    get_task,
    known_tasks,
    task_named_in,
)
from cs285.infrastructure.errors import UserError
from cs285.networks.mlp import Rescale, RescaleBounds, build_network

CARTPOLE = "CartPole-v1"
ROOT = Path(__file__).parent.parent

# Environments of these tests


class Toy(gym.Env):
    """Counts up from a random start; an episode ends at 10."""

    observation_space = gym.spaces.Box(-1.0, 20.0, (1,), np.float32)
    action_space = gym.spaces.Discrete(3)

    def __init__(self, observations=None, actions=None):
        self.observation_space = observations or self.observation_space
        self.action_space = actions or self.action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.value = self.start()
        return self.observe(), {}

    def start(self):
        return self.np_random.random()

    def observe(self):
        return np.full(self.observation_space.shape, self.value, np.float32)

    def step(self, action):
        self.value += action * self.np_random.random()
        return self.observe(), -1.0, self.value >= 10, False, {}


class Unseeded(Toy):
    """Draws its start from a generator that cannot be seeded."""

    def start(self):
        return np.random.default_rng().random()


class Wild(Toy):
    """Leaves its observation space after some steps, for the value `beyond`."""

    def __init__(self, beyond):
        super().__init__()
        self.beyond = beyond

    def step(self, action):
        self.value += 3
        observation = self.observe() if self.value < 9 else np.full(1, self.beyond, np.float32)
        return observation, -1.0, False, False, {}


class Broken(Toy):
    """Loses its reward to NaN after the first step."""

    def step(self, action):
        self.value += 1
        return self.observe(), -1.0 if self.value < 2 else math.nan, False, False, {}


def box(*shape, low=-1.0, high=1.0, dtype=np.float32):
    return gym.spaces.Box(low, high, shape, dtype)


@pytest.fixture
def register():
    """Registers an environment for one test; returns its id."""
    made = []

    def register(entry_point, limit=100, **kwargs):
        env_id = f"Toy{len(made)}x{id(made)}-v0"
        gym.register(env_id, entry_point=entry_point, max_episode_steps=limit, kwargs=kwargs)
        made.append(env_id)
        return env_id

    yield register
    for env_id in made:
        del gym.registry[env_id]
    get_task.cache_clear()
    describe_task.cache_clear()


# Mazes


def test_the_known_tasks_are_the_mazes_easiest_first():
    assert list(known_tasks()) == list(MAZES)
    tasks = list(known_tasks().values())
    assert [task.rank for task in tasks] == [0, 1, 2, 3]
    assert [task.title for task in tasks] == ["Easy", "Medium", "Hard", "VeryHard"]
    assert [task.max_episode_steps for task in tasks] == [50, 150, 100, 200]
    assert tasks[3].dataset_stem == "pointmass_veryhard"


@pytest.mark.parametrize("env_id", MAZES)
def test_a_maze_has_all_that_a_task_may_have(env_id):
    task = get_task(env_id)
    assert (task.observation_shape, task.num_actions) == ((2,), 5)
    assert task.input_bounds is None
    assert task.drawing is not None
    planned = plan(env_id)
    assert task.reference() == (planned.optimal_return, planned.random_return)
    bounds = [planned.random_return, planned.optimal_return]
    assert task.normalised_score(bounds).tolist() == [0, 1]


def test_statistics_of_maze_data_are_coverage_and_goals():
    task = get_task("PointmassMedium-v0")
    # Two of the 21 free cells, one of them twice.
    visited = np.array([[0.5, 0.5], [0.5, 1.5], [0.5, 0.5]], np.float32) / 6
    found = task.statistics(visited[:2], visited[1:], np.array([False, True]))
    assert found == {"coverage": pytest.approx(2 / 21), "goals_reached": 1}
    assert (
        task.describe_statistics(found)
        == "9.5% of the free cells visited, the goal reached 1 times"
    )


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("pointmass_medium_cql_rnd5000", "medium"),
        ("PointmassVeryHard-v0_cql0.1", "veryhard"),
        ("very_hard_iql", "veryhard"),
        ("hard_not_easy", "hard"),
        ("cartpole_dqn", None),
    ],
)
def test_a_known_task_is_recognised_in_a_name(text, name):
    task = task_named_in(text)
    assert (task and task.name) == name


# Any other environment


def test_cartpole_is_a_task_without_what_needs_an_optimum():
    task = get_task(CARTPOLE)
    assert (task.observation_shape, task.num_actions, task.max_episode_steps) == ((4,), 2, 500)
    assert (task.title, task.dataset_stem) == ("CartPole-v1", "cartpole")
    assert task.reference() is task.normalised_score([500.0]) is task.drawing is None
    data = np.zeros((3, 4), np.float32)
    assert task.statistics(data, data, np.zeros(3, bool)) == {}
    assert task.describe_statistics({}) == ""
    assert task.rank > max(known.rank for known in known_tasks().values())


def test_only_finite_bounds_of_a_reasonable_size_rescale_observations(register):
    low, high = get_task(CARTPOLE).input_bounds
    # Position and angle; the velocities are unbounded.
    assert low == pytest.approx([-4.8, -math.inf, -0.41887903, -math.inf])
    assert high == pytest.approx([4.8, math.inf, 0.41887903, math.inf])
    space = gym.spaces.Box(
        np.float32([-3e38, 0, 2, -math.inf, -1e4]), np.float32([3e38, math.inf, 2, 1, 1e4])
    )
    low, high = get_task(register(Toy, observations=space)).input_bounds
    assert low.tolist() == [-math.inf] * 4 + [-1e4]
    assert high.tolist() == [math.inf] * 4 + [1e4]


def test_two_coordinates_alone_make_no_drawing():
    # RND's map and the trajectories assume the unit square.
    task = get_task("MountainCar-v0")
    assert (task.observation_shape, task.drawing) == ((2,), None)
    low, high = task.input_bounds
    assert low == pytest.approx([-1.2, -0.07])
    assert high == pytest.approx([0.6, 0.07])


def test_an_environment_without_a_step_limit_gets_one(register):
    env_id = register(Toy, limit=None)
    assert get_task(env_id).max_episode_steps == DEFAULT_STEP_LIMIT == 10_000
    env = get_task(env_id).make_env()
    env.reset(seed=1)
    for step in range(1, DEFAULT_STEP_LIMIT + 1):
        *_, terminated, truncated, _ = env.step(0)
        assert not terminated
        assert truncated == (step == DEFAULT_STEP_LIMIT)


def test_an_id_may_name_the_module_that_registers_it(tmp_path, monkeypatch):
    (tmp_path / "toy_module.py").write_text(
        "import gymnasium as gym\n"
        "gym.register('ToyPole-v3', entry_point='gymnasium.envs.classic_control:CartPoleEnv')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    try:
        task = get_task("toy_module:ToyPole-v3")
        assert (task.observation_shape, task.dataset_stem) == ((4,), "toypole")
    finally:
        gym.registry.pop("ToyPole-v3", None)
        sys.modules.pop("toy_module", None)


REFUSED = [
    ("Pendulum-v1", "takes actions in Box"),
    ("FrozenLake-v1", "observes Discrete(16)"),
    ("Blackjack-v1", "observes Tuple"),
    ("LunarLander-v3", "needs a package that is not installed"),
    ("ALE/Pong-v5", "needs a package that is not installed"),
    ("no_such_module:Toy-v0", "needs a package that is not installed"),
    ("CartPole-v7", "did you mean `CartPole-v"),
    ("Cartpole-v1", "did you mean `CartPole-v1`?"),
    ("PointmasHard-v0", "did you mean `PointmassHard-v0`?"),
    ("CartPole", "write CartPole-v1"),
    ("Nothing-like-it-v0", "unknown environment Nothing-like-it-v0"),
    ("", "unknown environment"),
    ("a b\nc\x1b[31m", "unknown environment a b c"),
    ("x" * 5_000, "unknown environment xxx"),
]


@pytest.mark.parametrize(("env_id", "reason"), REFUSED)
def test_other_environments_are_refused_in_one_line(env_id, reason, recwarn):
    with pytest.raises(ValueError, match=re.escape(reason)) as refused:
        get_task(env_id)
    message = str(refused.value)
    assert message.isprintable()
    assert len(message) < 500
    assert not recwarn.list


@pytest.mark.parametrize(
    ("spaces", "reason"),
    [
        ({"observations": box(2, 2)}, "flat Box"),
        ({"observations": box()}, "flat Box"),
        ({"actions": gym.spaces.Discrete(3, start=1)}, "numbered from 0"),
        ({"actions": gym.spaces.MultiDiscrete([2, 2])}, "Discrete"),
    ],
)
def test_other_spaces_are_refused(register, spaces, reason):
    with pytest.raises(ValueError, match=reason):
        get_task(register(Toy, **spaces))


def test_an_environment_that_fails_to_start_is_refused(register):
    def fail():
        raise RuntimeError("no display.\nTraceback")

    with pytest.raises(ValueError, match=r"cannot be made: no display\. Traceback$"):
        get_task(register(fail))


def test_a_name_can_be_described_without_making_anything(monkeypatch):
    monkeypatch.setattr(gym, "make", None)
    task = describe_task("some/Where-v12")
    assert (task.name, task.title, task.rank) == ("some_where", "some/Where-v12", 4)
    assert task.reference() is None


def test_whole_numbers_and_doubles_are_observed_as_floats(register):
    for dtype in (np.float64, np.int16, np.uint8):
        space = gym.spaces.Box(0, 20, (3,), dtype)
        task = get_task(register(Toy, observations=space))
        envs = task.make_vector_env(1)
        assert envs.reset(seed=[1])[0].dtype == np.float32
        assert task.observation_space.dtype == np.float32


def test_layouts_are_equal_where_one_network_serves_both(register):
    easy, hard = get_task("PointmassEasy-v0"), get_task("PointmassHard-v0")
    assert easy.layout == hard.layout
    layouts = {
        easy.layout,
        get_task(CARTPOLE).layout,
        get_task(register(Toy)).layout,
        get_task(register(Toy, observations=box(1))).layout,
        get_task(register(Toy, actions=gym.spaces.Discrete(4))).layout,
    }
    assert len(layouts) == 5


# Many of them, and their state


def test_lanes_are_single_environments_that_restart():
    seeds = [5, 6, 7]
    lanes = get_task(CARTPOLE).make_vector_env(3)
    singles = [gym.make(CARTPOLE) for _ in seeds]
    now = [env.reset(seed=seed)[0] for env, seed in zip(singles, seeds, strict=True)]
    observations, _ = lanes.reset(seed=seeds)
    rng, ends = np.random.default_rng(0), 0
    for _ in range(120):
        np.testing.assert_array_equal(observations, now)
        actions = rng.integers(0, 2, 3)
        observations, rewards, terminated, truncated, infos = lanes.step(actions)
        for k, env in enumerate(singles):
            now[k], reward, *over, _ = env.step(int(actions[k]))
            assert (rewards[k], terminated[k], truncated[k]) == (reward, *over)
            if any(over):
                assert infos["_final_obs"][k]
                np.testing.assert_array_equal(infos["final_obs"][k], now[k])
                now[k], ends = env.reset()[0], ends + 1
    assert ends > 6


@pytest.mark.parametrize("steps", [0, 1, 7, 60])
def test_a_restored_environment_continues_bit_for_bit(register, steps):
    for env_id in (CARTPOLE, register(Toy)):
        task = get_task(env_id)
        rng = np.random.default_rng(steps)
        actions = rng.integers(0, task.num_actions, (steps + 80, 2))
        original, other = task.make_vector_env(2), task.make_vector_env(2)
        original.reset(seed=[1, 2])
        for action in actions[:steps]:
            original.step(action)
        other.reset(seed=[8, 9])
        other.step(actions[0])
        other.set_state(original.get_state())
        for action in actions[steps:]:
            for one, two in zip(original.step(action)[:4], other.step(action)[:4], strict=True):
                np.testing.assert_array_equal(one, two)


def test_an_environment_with_its_own_randomness_cannot_be_restored(register):
    task = get_task(register(Unseeded))
    original, other = task.make_vector_env(1), task.make_vector_env(1)
    original.reset(seed=[1])
    with pytest.raises(UserError, match="cannot be resumed"):
        other.set_state(original.get_state())


def test_a_state_of_other_actions_is_noticed(register):
    task = get_task(register(Toy))
    original, other = task.make_vector_env(1), task.make_vector_env(1)
    original.reset(seed=[1])
    original.step(np.array([2]))
    state = original.get_state()
    state["lanes"][0]["actions"][0] = 1
    with pytest.raises(UserError, match="cannot be resumed"):
        other.set_state(state)
    with pytest.raises(ValueError, match="1 lanes"):
        task.make_vector_env(2).set_state(state)


@pytest.mark.parametrize(
    ("env", "options", "reason"),
    [
        (Wild, {"beyond": math.nan}, r"the observation \[nan\], which is not finite"),
        (Wild, {"beyond": -math.inf}, r"the observation \[-inf\], which is not finite"),
        (Broken, {}, "a reward"),
    ],
)
def test_an_environment_whose_numbers_are_not_finite_is_named(register, env, options, reason):
    env_id = register(env, **options)
    envs = get_task(env_id).make_vector_env(2)
    envs.reset(seed=[1, 2])
    envs.step(np.zeros(2, np.int64))

    def step_on():
        for _ in range(4):
            envs.step(np.zeros(2, np.int64))

    with pytest.raises(UserError, match=f"{env_id} returned .*{reason}"):
        step_on()


def test_leaving_the_observation_space_is_reported_once(register, capsys):
    env_id = register(Wild, beyond=20.5)
    for _ in range(2):  # as for training and evaluation
        envs = get_task(env_id).make_vector_env(2)
        envs.reset(seed=[1, 2])
        for _ in range(4):
            observations, *_ = envs.step(np.zeros(2, np.int64))
        assert observations.tolist() == [[20.5], [20.5]]
    assert capsys.readouterr().out == (
        f"{env_id} returned the observation [20.5], which is outside its own observation space; "
        "training continues\n"
    )


def test_no_environment_steps_before_it_begins():
    envs = get_task(CARTPOLE).make_vector_env(1)
    with pytest.raises(gym.error.ResetNeeded):
        envs.step(np.zeros(1, np.int64))


def test_closing_lanes_closes_every_environment(monkeypatch):
    closed = []

    def close(self):
        closed.append(self)

    monkeypatch.setattr(gym.envs.classic_control.CartPoleEnv, "close", close)
    get_task.cache_clear()
    envs = get_task(CARTPOLE).make_vector_env(3)
    del closed[:]
    envs.close()
    assert len(set(map(id, closed))) == 3
    assert isinstance(envs, replayed.ReplayedVectorEnv)


# Networks


def test_bounds_are_mapped_to_the_scale_and_the_rest_stays_unchanged():
    low, high = np.array([-4.0, 0.0, -math.inf]), np.array([4.0, 10.0, math.inf])
    rescale = RescaleBounds(3.0, (low, high))
    observations = torch.tensor([[4.0, 0.0, 7.5], [-4.0, 10.0, -1e6], [0.0, 5.0, 0.0]])
    expected = [[3.0, -3.0, 7.5], [-3.0, 3.0, -1e6], [0.0, 0.0, 0.0]]
    assert rescale(observations).tolist() == expected
    assert not rescale.state_dict()


def test_the_unit_square_is_rescaled_as_ever():
    network = build_network((2,), 5, 2, 8, 3.0, get_task("PointmassEasy-v0").input_bounds)
    observations = torch.rand(100, 2)
    assert isinstance(network[0], Rescale)
    assert network[0](observations).equal((2.0 * observations - 1.0) * 3.0)


def test_no_scale_leaves_observations_alone():
    network = build_network((4,), 2, 1, 8, None, get_task(CARTPOLE).input_bounds)
    assert isinstance(network[0], torch.nn.Linear)


# The rest of the package

KNOWS_MAZES = re.compile(
    r"NUM_ACTIONS|OBSERVATION_SHAPE|get_maze|MAZES\b|envs\.(mazes|planner|dynamics|pointmass)|\(2,\)"
)
ABOUT_MAZES = {
    # Public versions of the homework know no other environments, and the checker tries solutions
    # in its own.
    "datasets/oddities.py",
    "datasets/pickled_buffers.py",
    "scripts/convert_dataset.py",
    "grading/sandbox/probe.py",
    *(
        f"probing/{name}.py"
        for name in ("acting", "actors", "critics", "inputs", "networks", "subject")
    ),
    "grading/solutions/judges/actions.py",
    "grading/solutions/judges/sampling.py",
    # Maps of what agents have learned are drawn over the squares of a maze.
    "analysis/maps.py",
    "analysis/panels.py",
    "report/explorer.py",
    # Figures of lectures name the mazes that they show.
    "lectures/bonus.py",
    "lectures/coverage.py",
    "lectures/lower_bound.py",
    "lectures/optimum.py",
    "lectures/rnd.py",
    "lectures/shift.py",
    "lectures/stitching.py",
    "lectures/time_limits.py",
    "lectures/shared/trained.py",
}


def test_nothing_above_the_environments_knows_the_mazes():
    package = ROOT / "cs285"
    found = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if KNOWS_MAZES.search(path.read_text()) and path.parent != package / "envs"
    }
    assert found == ABOUT_MAZES
