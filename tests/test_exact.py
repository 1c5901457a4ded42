"""Exact evaluation against simulated episodes, hand calculation and dense linear algebra."""

import functools
from types import SimpleNamespace

import numpy as np
import pytest

from cs285.analysis import exact
from cs285.analysis.exact import Data, evaluate
from cs285.analysis.markov import Chain, best_values, solve
from cs285.analysis.rollouts import corrected_return
from cs285.envs.dynamics import MOVES, NOISE_STD, move, reached_goal
from cs285.envs.mazes import MAZES, Maze, observe, positions_of
from cs285.envs.models import maze_model
from cs285.envs.planner import plan
from cs285.envs.tasks import get_task
from cs285.training import exact_tags

EASY, MEDIUM = "PointmassEasy-v0", "PointmassMedium-v0"
DISCOUNT = 0.95


def one_hot(actions):
    return np.eye(5, dtype=np.float32)[actions]


def heading(maze):
    """Goes right along the upper corridor of Easy, then down; a fair policy with one switch."""

    def policy(observations):
        positions = positions_of(maze, observations)
        return one_hot(np.where(positions[:, 1] < 8.7, 2, 4))

    return policy


def pushing(observations):
    """Pushes against a wall in every other stripe of Easy, so that points collect there."""
    right, down = observations[:, 1] < 0.87, observations[:, 0] * 31 % 1 < 0.5
    going = np.where(right, np.where(observations[:, 1] * 37 % 1 < 0.5, 2, 3), np.where(down, 4, 2))
    return one_hot(going)


def planned(env_id):
    """The first step of the best plan, at every step."""

    def policy(observations):
        best = plan(env_id)
        return one_hot(best.actions(positions_of(best.maze, observations), 0))

    return policy


def wavering(observations):
    """A stochastic policy that changes smoothly."""
    x = observations[:, 1].astype(np.float64)
    chances = np.stack(
        [0.1 + 0 * x, 0.1 + 0 * x, 0.6 - 0.4 * x, 0.1 + 0 * x, 0.1 + 0.4 * x], axis=1
    )
    return chances.astype(np.float32)


def simulate(maze, policy, episodes, seed, first=None, discount=1.0, horizon=None):
    """Returns the returns and lengths of episodes, one naive step after the other.

    Args:
        first: Position and action that every episode begins with, if not the start.
    """
    rng = np.random.default_rng(seed)
    positions = np.tile(maze.start if first is None else first[0], (episodes, 1)).astype(float)
    returns, lengths = np.zeros(episodes), np.zeros(episodes)
    alive = np.ones(episodes, bool)
    for step in range(horizon or maze.max_episode_steps):
        chances = policy(observe(maze, positions)).astype(np.float64)
        actions = (
            np.array([rng.choice(5, p=p / p.sum()) for p in chances])
            if ((chances > 0) & (chances < 1)).any()
            else chances.argmax(1)
        )
        if step == 0 and first is not None:
            actions[:] = first[1]
        noise = NOISE_STD * rng.standard_normal((episodes, 2))
        positions = move(maze.walls, positions, MOVES[actions] + noise)
        arrived = reached_goal(maze, positions)
        lengths += alive
        returns -= discount**step * (alive & ~arrived)
        alive &= ~arrived
        if not alive.any():
            break
    return returns, lengths


def evaluated(env_id, policy, **options):
    task = get_task(env_id)
    options = {"discount": DISCOUNT, "rng": np.random.default_rng(0)} | options
    return evaluate(task.models(), policy, **options)


def test_the_return_is_the_mean_of_many_simulated_episodes():
    for env_id, policy, episodes, settled in (
        (EASY, heading(MAZES[EASY]), 10_000, True),
        (EASY, pushing, 4_000, False),  # no grid is fine enough
        (MEDIUM, planned(MEDIUM), 4_000, True),
    ):
        returns, lengths = simulate(MAZES[env_id], policy, episodes, seed=1)
        found = evaluated(env_id, policy)
        error = returns.std() / episodes**0.5
        assert abs(found.expected_return - returns.mean()) < 3 * error + found.return_error + 1e-3
        spread = lengths.std() / episodes**0.5
        tolerance = 4 * spread + (0.05 if settled else 2.0)
        assert abs(found.chain.expected_length - lengths.mean()) < tolerance
        assert found.chain.occupancy.sum() == pytest.approx(found.chain.expected_length)


def test_a_stochastic_policy_is_averaged_over_its_choices():
    returns, _ = simulate(MAZES[EASY], wavering, 1_500, seed=2)
    found = evaluated(EASY, wavering)
    assert abs(found.expected_return - returns.mean()) < 3 * returns.std() / 1_500**0.5 + 0.05


def test_both_recursions_give_the_same_return():
    """Forwards by occupancy and backwards by values are different sums of the same terms."""
    model = maze_model(MAZES[MEDIUM], 3)
    chain = Chain(model, np.asarray(planned(MEDIUM)(model.observations), float))
    assert model.start @ chain.values_to_go()[0] == pytest.approx(chain.expected_return, abs=1e-3)


def test_learners_values_solve_bellmans_equation_and_agree_with_dense_algebra():
    model = maze_model(MAZES[EASY], 3)
    chain = Chain(model, np.asarray(wavering(model.observations), float))
    values = chain.values(DISCOUNT)
    matrix = np.eye(model.num_states) - DISCOUNT * chain.transitions.toarray()
    np.testing.assert_allclose(values, np.linalg.solve(matrix, chain.rewards), atol=1e-3)
    q = chain.action_values(values, DISCOUNT)
    np.testing.assert_allclose((q * chain.policy).sum(1), values, atol=1e-3)


def test_values_without_a_future_are_rewards():
    model = maze_model(MAZES[EASY], 3)
    chain = Chain(model, np.asarray(wavering(model.observations), float))
    np.testing.assert_allclose(
        solve(chain.transitions, chain.rewards, 0.0), chain.rewards, atol=1e-6
    )


@pytest.mark.parametrize("env_id", [EASY, MEDIUM])
def test_q_is_the_discounted_return_of_simulated_episodes_without_a_time_limit(env_id):
    maze = MAZES[env_id]
    rng = np.random.default_rng(3)
    policy = heading(maze) if env_id == EASY else planned(MEDIUM)
    found = evaluated(env_id, policy)
    free = np.argwhere(~maze.walls)
    for _ in range(6):
        position = free[rng.integers(len(free))] + rng.random(2)
        if reached_goal(maze, position[None])[0]:
            continue
        action = int(rng.integers(5))
        returns, _ = simulate(
            maze, policy, 1_000, int(rng.integers(1 << 30)), (position, action), DISCOUNT, 200
        )
        weights = found.chain.model.interpolation(observe(maze, position[None]))
        q = (weights @ found.action_values)[0, action]
        assert abs(q - returns.mean()) < 4 * returns.std() / 1_000**0.5 + 0.1


def test_the_best_values_are_those_of_value_iteration():
    model = maze_model(MAZES[EASY], 3)
    values = np.zeros(model.num_states)
    for _ in range(400):
        values = (
            model.rewards + DISCOUNT * (model.transitions @ values).reshape(model.rewards.shape)
        ).max(axis=1)
    np.testing.assert_allclose(best_values(model, DISCOUNT), values, atol=2e-3)


def test_a_goal_that_cannot_be_missed_is_worth_nothing_and_one_behind_a_wall_costs_every_step():
    walls = np.zeros((9, 6), dtype=bool)
    near = Maze("Near-v0", "near", "Near", walls, (3.0, 3.0), (3.5, 3.0), 20.0, 7)
    divided = walls.copy()
    divided[4] = True
    far = Maze("Far-v0", "far", "Far", divided, (2.5, 3.0), (7.0, 3.0), 1.0, 7)
    for maze, cost in ((near, 0.0), (far, -7.0)):
        model = maze_model(maze, 3)
        chain = Chain(model, np.full((model.num_states, 5), 0.2))
        assert chain.expected_return == pytest.approx(cost, abs=1e-5)
    model = maze_model(far, 3)
    chain = Chain(model, np.full((model.num_states, 5), 0.2))
    upper = model.observations[:, 0] * far.height < 4
    forever = -1 / (1 - DISCOUNT)
    np.testing.assert_allclose(chain.values(DISCOUNT)[upper], forever, atol=1e-3)


def test_transition_probabilities_are_probabilities():
    """No row is negative, and with the chance of arriving, each sums to 1."""
    for resolution in (2, 3):
        model = maze_model(MAZES[MEDIUM], resolution)
        assert model.transitions.data.min() > 0
        going_on = np.asarray(model.transitions.sum(axis=1)).reshape(model.rewards.shape)
        np.testing.assert_allclose(going_on + 1 + model.rewards, 1.0, atol=1e-5)


def test_the_correction_removes_variance_but_no_mean():
    model = maze_model(MAZES[MEDIUM], 4)
    for policy in (planned(MEDIUM), wavering):
        chain = Chain(model, exact._over_states(model, policy).astype(float))
        good = chain.values_to_go()
        rng = np.random.default_rng(4)
        estimates = [
            corrected_return(
                model, lambda _, own=policy: own, values, rng, standard_error=0.0, most=150
            )
            for values in (good, np.zeros_like(good), 0.5 * good + 3)
        ]
        assert estimates[0].standard_error < 0.6 * estimates[1].standard_error + 1e-6
        for one, other in zip(estimates[1:], estimates, strict=False):
            spread = np.hypot(one.standard_error, other.standard_error)
            assert abs(one.mean - other.mean) < 4 * spread + 1e-9


def test_the_limit_of_a_quadratic_error_is_found_from_three_grids():
    levels = [(1 / n, -20.0 + 3.0 / n**2) for n in (2, 3, 4)]
    assert exact._limit(levels[:2], 0.05) is None
    limit, error = exact._limit(levels, 0.05)
    assert limit == pytest.approx(-20.0)
    assert error < 1e-9


@pytest.mark.parametrize(
    "returns",
    [
        (-21.0, -20.0, -20.01),  # the last two agree by chance
        (-10.0, -20.0, -24.3),  # far from converged
    ],
)
def test_grids_that_have_not_converged_have_no_limit(returns):
    levels = list(zip((1 / 2, 1 / 3, 1 / 4), returns, strict=True))
    assert exact._limit(levels, 0.05) is None
    assert exact._limit([], 0.05) is None


def test_the_chain_of_a_policy_is_the_mean_over_its_actions():
    """Also where only some states are mixtures."""
    model = maze_model(MAZES[EASY], 2)
    rng = np.random.default_rng(8)
    policy = np.eye(5)[rng.integers(0, 5, model.num_states)]
    mixed = rng.random(model.num_states) < 0.3
    policy[mixed] = rng.dirichlet(np.ones(5), mixed.sum())
    by_action = model.transitions.toarray().reshape(model.num_states, 5, model.num_states)
    expected = np.einsum("na,nam->nm", policy, by_action)
    np.testing.assert_allclose(Chain(model, policy).transitions.toarray(), expected, atol=1e-6)
    pure = np.eye(5)[policy.argmax(axis=1)]
    expected = np.einsum("na,nam->nm", pure, by_action)
    np.testing.assert_array_equal(Chain(model, pure).transitions.toarray(), expected)


@pytest.mark.parametrize("resolution", [2, 3, 4])
def test_samples_are_spread_evenly_over_the_square_of_their_state(resolution):
    model = maze_model(MAZES[EASY], resolution)
    layout = model.grid.layout
    positions = positions_of(MAZES[EASY], model.samples)
    counts = np.diff(model.first_samples, append=len(positions))
    own = np.repeat(np.arange(model.num_states), counts)
    assert (positions > layout.lower[own]).all()
    assert (positions < layout.upper[own]).all()
    centres = MAZES[EASY].height * model.mean_of_samples(model.samples)
    np.testing.assert_allclose(centres, (layout.lower + layout.upper) / 2, atol=1e-4)
    # A unit length has at least one point in each sixth, on average over its squares.
    areas = (layout.upper - layout.lower).prod(axis=1)
    assert counts.sum() >= 36 * areas.sum() - 1e-6


def test_an_error_in_proportion_to_the_spacing_is_bounded_by_itself():
    levels = [(1 / n, -20.0 + 3.0 / n) for n in (2, 3)]
    value, error = exact._bounded(levels)
    assert value == -19.0
    assert error == pytest.approx(1.0)


def test_a_coarse_evaluation_simulates_nothing_and_states_a_larger_error():
    for env_id, policy, largest in (
        (EASY, heading(MAZES[EASY]), 0.5),
        (EASY, pushing, 8.0),
        (MEDIUM, planned(MEDIUM), 0.5),
    ):
        episodes = 3_000
        returns, _ = simulate(MAZES[env_id], policy, episodes, seed=9)
        models = get_task(env_id).models()[:2]
        found = evaluate(models, policy, discount=None, rng=None, episodes=0)
        assert found.chain.model.spacing == 1 / 3
        assert found.return_error < largest
        chance = 3 * returns.std() / episodes**0.5
        assert abs(found.expected_return - returns.mean()) < found.return_error + chance


def test_a_guess_shortens_the_way_to_the_same_solution():
    model = maze_model(MAZES[EASY], 3)
    chain = Chain(model, np.asarray(heading(MAZES[EASY])(model.observations), float))
    for guess in (best_values(model, DISCOUNT), np.full(model.num_states, 7.0)):
        np.testing.assert_allclose(chain.values(DISCOUNT, guess), chain.values(DISCOUNT), atol=2e-3)


def test_episodes_are_simulated_where_no_grid_is_fine_enough():
    returns, _ = simulate(MAZES[EASY], heading(MAZES[EASY]), 5_000, seed=5)
    found = evaluated(EASY, heading(MAZES[EASY]), most_error=1e-9, episodes=250)
    error = np.hypot(returns.std() / 5_000**0.5, found.return_error)
    assert 0 < found.return_error < 0.1
    assert abs(found.expected_return - returns.mean()) < 4 * error


def data_of(maze, policy, steps, seed):
    """Visited observations and actions of a policy, without restarts at the goal."""
    rng = np.random.default_rng(seed)
    position = np.array([maze.start])
    observations, actions = [], []
    for _ in range(steps):
        action = int(policy(observe(maze, position))[0].argmax())
        observations.append(observe(maze, position)[0])
        actions.append(action)
        position = move(maze.walls, position, MOVES[[action]] + rng.normal(0, NOISE_STD, (1, 2)))
        if reached_goal(maze, position)[0]:
            position = np.array([maze.start])
    return Data(np.array(observations), np.array(actions))


def test_a_policy_is_near_its_own_data_and_far_from_others():
    maze = MAZES[EASY]
    own = data_of(maze, heading(maze), 4_000, seed=6)
    near = evaluated(EASY, heading(maze), data=own)
    assert near.unseen < 0.02
    assert near.shift < 0.15
    still = Data(own.observations, np.zeros_like(own.actions))
    far = evaluated(EASY, heading(maze), data=still)
    assert far.unseen == pytest.approx(1.0)
    assert far.shift == pytest.approx(1.0)


def test_exact_estimates_have_no_error_and_shifted_ones_have_that_of_the_shift():
    maze = MAZES[EASY]
    truth = evaluated(EASY, heading(maze))

    def learned(observations):
        q = truth.chain.model.interpolation(observations) @ truth.action_values
        return (q + 2.0).astype(np.float32)

    found = evaluated(
        EASY, heading(maze), values=learned, data=data_of(maze, heading(maze), 500, 7)
    )
    assert found.q_error == pytest.approx(2.0, abs=0.15)
    assert found.q_error_occupancy == pytest.approx(2.0, abs=0.15)
    # The best action may be worth more than the policy's.
    assert 1.9 < found.overestimation < 2.0 + found.regret + 1.0
    assert found.regret > 0


def test_the_best_policy_has_no_regret():
    model = maze_model(MAZES[EASY], 4)
    values = best_values(model, DISCOUNT)

    def policy(observations):
        q = model.interpolation(observations) @ exact.action_values(model, values, DISCOUNT)
        return one_hot(q.argmax(axis=1))

    found = evaluated(EASY, policy)
    assert abs(found.regret) < 0.03
    assert get_task(EASY).normalised_score(found.expected_return) == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize(
    ("policy", "values", "expected"),
    [
        (lambda x: np.full((len(x), 5), np.nan, np.float32), None, "not finite"),
        (wavering, lambda x: np.full((len(x), 5), np.inf, np.float32), "not finite"),
        (lambda x: np.full((len(x), 4), 0.25, np.float32), None, "4 probabilities for each"),
        (wavering, lambda x: np.zeros((len(x), 1), np.float32), "1 values for each"),
        (wavering, lambda x: np.zeros(len(x), np.float32), "1 values for each"),
        (lambda x: np.full((len(x), 5), 0.3, np.float32), None, "do not sum to 1"),
        (lambda x: np.tile(np.float32([2, -1, 0, 0, 0]), (len(x), 1)), None, "do not sum to 1"),
    ],
)
def test_outputs_that_are_no_probabilities_or_values_are_refused(policy, values, expected):
    with pytest.raises(exact.OutputError, match=expected):
        evaluated(EASY, policy, values=values)


def test_large_mazes_are_evaluated_exactly_less_often():
    """With an evaluation every 2,500 steps of 100,000, as by default."""

    def task(states):
        coarse = [functools.partial(SimpleNamespace, num_states=n) for n in (states // 2, states)]
        return SimpleNamespace(models=lambda: [*coarse, None])

    evaluations = list(zip(range(0, 97_501, 2_500), range(2_500, 100_001, 2_500), strict=True))
    for states, expected in ((700, 40), (5_000, 4), (100_000, 1)):
        due = [exact_tags.is_due(task(states), now, last, 100_000) for last, now in evaluations]
        assert sum(due) == expected
        assert due[-1], "the last one always is"
    assert not exact_tags.is_due(get_task("CartPole-v1"), 10, 5, 10)
    assert maze_model(MAZES[EASY], 3).num_states < 1_000


def test_a_task_without_known_probabilities_has_no_models():
    assert not get_task("CartPole-v1").models()
