"""Environments in lock-step and evaluation, compared with environments stepped one by one."""

import numpy as np
import pytest

from cs285.envs.mazes import get_maze
from cs285.envs.pointmass import PointmassEnv
from cs285.learning.learner import make_learner
from cs285.learning.random_streams import derive_seed
from cs285.training.rollouts import LockstepEnvs, evaluate

EASY, MEDIUM, HARD = "PointmassEasy-v0", "PointmassMedium-v0", "PointmassHard-v0"
LEFT, RIGHT, DOWN = 1, 2, 4


def solve_easy(observation):
    """Walks right along the top, then down to the goal."""
    return RIGHT if observation[1] < 0.85 else DOWN


def stay_left(observation):
    return LEFT


class Walkers:
    """A learner whose runs act by given functions of an observation, and that records its calls."""

    def __init__(self, *policies):
        self.policies = policies
        self.epsilons, self.uniforms = [], []

    agents = ()

    def act(self, observations, epsilon, uniforms):
        self.epsilons.append(epsilon.tolist())
        self.uniforms.append(uniforms.copy())
        return np.array(
            [
                [policy(observation) for observation in row]
                for policy, row in zip(self.policies, observations, strict=True)
            ]
        )


def single_episode(env_id, seed, policy):
    """Steps a separate environment until the episode ends."""
    env = PointmassEnv(env_id)
    observation, _ = env.reset(seed=seed)
    path, rewards, over = [observation], [], False
    while not over:
        observation, reward, terminated, truncated, _ = env.step(policy(observation))
        path.append(observation)
        rewards.append(reward)
        over = terminated or truncated
    return sum(rewards), len(rewards), np.array(path)


# Lock-step


def test_lanes_of_different_mazes_are_single_environments_that_restart():
    env_ids, seeds = [EASY, HARD, EASY, MEDIUM], [3, 1, 4, 1]
    lanes = LockstepEnvs(env_ids, seeds)
    singles = [PointmassEnv(env_id) for env_id in env_ids]
    now = [env.reset(seed=seed)[0] for env, seed in zip(singles, seeds, strict=True)]
    rng = np.random.default_rng(0)
    ends = np.zeros((2, 4), dtype=int)
    for _ in range(310):
        np.testing.assert_array_equal(lanes.observations, now)
        actions = rng.choice(5, size=4, p=[0.1, 0.1, 0.35, 0.1, 0.35])
        steps = lanes.step(actions)
        for k, env in enumerate(singles):
            now[k], reward, terminated, truncated, _ = env.step(actions[k])
            np.testing.assert_array_equal(steps.next_observations[k], now[k])
            assert steps.rewards[k] == reward
            assert (steps.terminated[k], steps.truncated[k]) == (terminated, truncated)
            ends[:, k] += terminated, truncated
            if terminated or truncated:
                now[k] = env.reset()[0]
    assert ends[0, 0] >= 1  # Easy was solved, and every time limit was met
    assert (ends[1] >= [1, 3, 1, 2]).all()


# Evaluation

SEEDS, STEP, EPISODES = [11, 12, 13], 40, 9


def test_every_lane_counts_exactly_its_first_episode():
    policies = [solve_easy, stay_left, solve_easy]
    env_ids = [EASY, EASY, MEDIUM]
    evaluations = evaluate(Walkers(*policies), env_ids, SEEDS, EPISODES, STEP)
    assert len(set(evaluations[0].lengths)) > 3
    assert evaluations[0].lengths.max() < get_maze(EASY).max_episode_steps
    for evaluation, env_id, seed, policy in zip(evaluations, env_ids, SEEDS, policies, strict=True):
        assert len(evaluation.paths) == EPISODES
        for lane in range(EPISODES):
            lane_seed = derive_seed(seed, "evaluation", STEP, lane)
            episode_return, length, path = single_episode(env_id, lane_seed, policy)
            assert evaluation.returns[lane] == episode_return
            assert evaluation.lengths[lane] == length
            np.testing.assert_array_equal(evaluation.paths[lane], path)


def test_an_episode_that_never_arrives_costs_its_step_limit():
    (evaluation,) = evaluate(Walkers(stay_left), [MEDIUM], [1], 4, 1)
    assert evaluation.returns.tolist() == [-150] * 4
    assert evaluation.lengths.tolist() == [150] * 4


def test_an_evaluation_lasts_as_long_as_its_longest_episode():
    walkers = Walkers(solve_easy)
    (evaluation,) = evaluate(walkers, [EASY], [1], EPISODES, 1)
    assert len(walkers.epsilons) == evaluation.lengths.max()


def test_agents_are_asked_to_act_greedily():
    walkers = Walkers(solve_easy, stay_left)
    evaluate(walkers, [EASY, EASY], [1, 2], 3, 1)
    assert walkers.epsilons == [[0.0, 0.0]] * 50


def test_episodes_steps_and_seeds_each_have_separate_noise():
    paths = [
        path.tobytes()
        for step in (1, 2)
        for evaluation in evaluate(Walkers(solve_easy, solve_easy), [EASY] * 2, [1, 2], 5, step)
        for path in evaluation.paths
    ]
    assert len(set(paths)) == len(paths) == 20


def test_a_repeated_evaluation_is_equal():
    first, second = (evaluate(Walkers(solve_easy), [EASY], [5], 4, 7)[0] for _ in range(2))
    assert first.returns.tolist() == second.returns.tolist()
    assert all(map(np.array_equal, first.paths, second.paths))


@pytest.mark.parametrize("algorithm", ["random", "awac"])
def test_a_run_is_evaluated_with_others_as_alone(make_agent, algorithm):
    def agents():
        return [make_agent(algorithm, seed=seed) for seed in SEEDS]

    env_ids = [EASY, MEDIUM, EASY]
    together = evaluate(make_learner(agents()), env_ids, SEEDS, 3, STEP)
    for run, agent in enumerate(agents()):
        (alone,) = evaluate(make_learner([agent]), [env_ids[run]], [SEEDS[run]], 3, STEP)
        assert together[run].returns.tolist() == alone.returns.tolist()
        assert all(map(np.array_equal, together[run].paths, alone.paths))
