"""RND with two critics: one explores, the other learns the task, and one of them acts."""

import numpy as np
import pytest
import torch

from cs285.agents.two_critic_rnd_agent import TwoCriticRNDAgent
from cs285.env_configs.loading import make_config
from cs285.homework import Stage
from cs285.infrastructure.errors import UserError
from cs285.learning.agent_loop import AgentLoop
from cs285.learning.backends import choose_backend
from cs285.learning.columns import columns_of
from cs285.learning.ensemble import Ensemble
from cs285.learning.learner import make_learner
from cs285.learning.objective import Batch
from cs285.learning.replay_buffer import ReplayBuffer
from cs285.training import preparation
from cs285.training.stages import phases_of

OBSERVATIONS = np.random.default_rng(0).random((1, 200, 2), dtype=np.float32)


@pytest.fixture
def make_two(make_agent):
    return lambda **values: make_agent("rnd", num_exploration_steps=5, **values)


def seen(batch, uses=False):
    """Returns the fields as the explorer sees them, and the columns of the task."""
    shown = (
        batch
        if uses
        else batch._replace(
            rewards=torch.zeros_like(batch.rewards), dones=torch.zeros_like(batch.dones)
        )
    )
    return shown, {"task_rewards": batch.rewards, "task_dones": batch.dones}


def weights(network):
    return torch.nn.utils.parameters_to_vector(network.parameters()).detach().clone()


def test_by_default_there_is_no_second_critic(make_agent, make_two):
    assert not isinstance(make_agent("rnd"), TwoCriticRNDAgent)
    assert isinstance(make_two(), TwoCriticRNDAgent)


def test_the_exploitation_critic_learns_what_dqn_learns(make_agent, make_two, make_batch):
    agent, dqn = make_two(learning_rate=0.01), make_agent("dqn", learning_rate=0.01)
    dqn.critic.load_state_dict(agent.exploiter.critic.state_dict())
    dqn.target_critic.load_state_dict(agent.exploiter.target_critic.state_dict())
    for step in range(1, 8):
        batch = make_batch(9, seed=step)
        shown, task = seen(batch)
        ours, theirs = agent.learn_from(shown._asdict() | task, step), dqn.update(*batch, step)
        torch.testing.assert_close(ours["exploitation_critic_loss"], theirs["critic_loss"])
        torch.testing.assert_close(ours["exploitation_q_values"], theirs["q_values"])
    torch.testing.assert_close(weights(agent.exploiter.critic), weights(dqn.critic))


@pytest.mark.parametrize("uses", [False, True])
def test_the_exploration_critic_sees_the_task_only_if_asked_to(make_two, make_batch, uses):
    agent = make_two(use_reward=uses)
    buffer = ReplayBuffer(1, 9, (2,), [columns_of(agent)])
    batch = make_batch(9)
    buffer.fill(0, [field.numpy() for field in batch])
    columns = buffer.columns
    shown, task = seen(batch, uses)
    for name, expected in {**shown._asdict(), **task}.items():
        assert torch.equal(columns[name], expected), name
    assert torch.equal(buffer.contents(0).rewards, batch.rewards)


@pytest.mark.parametrize("loops", [False, True])
def test_the_critics_act_in_turn(make_two, loops):
    agent = make_two()
    learner = AgentLoop([agent]) if loops else make_learner([agent])
    best = {
        name: critic(torch.from_numpy(OBSERVATIONS[0])).argmax(-1).numpy()
        for name, critic in (("explore", agent.critic), ("exploit", agent.exploiter.critic))
    }
    assert (best["explore"] != best["exploit"]).any()
    uniforms = np.full((1, OBSERVATIONS.shape[1]), 0.5)
    barely = np.full(1, 1e-6)  # a chance too small to be met
    acts = lambda epsilon: learner.act(OBSERVATIONS, epsilon, uniforms)[0]  # noqa: E731 - short
    np.testing.assert_array_equal(acts(barely), best["explore"])
    np.testing.assert_array_equal(acts(np.zeros(1)), best["exploit"])
    learner.begin_phase("exploitation")
    np.testing.assert_array_equal(acts(barely), best["exploit"])


@pytest.mark.parametrize("compiles", [False, True])
def test_runs_side_by_side_learn_what_each_learns_alone(make_two, make_batch, compiles):
    together, alone = ([make_two(seed=seed) for seed in (1, 2)] for _ in range(2))
    learner = Ensemble(together, choose_backend("on" if compiles else "off"))
    for step in range(1, 40):
        batch = make_batch(2, 16, seed=step)
        shown, task = seen(batch)
        learner.update(shown._asdict() | task, step)
        for run, agent in enumerate(alone):
            own = Batch(*(field[run] for field in shown))
            further = {name: values[run] for name, values in task.items()}
            agent.learn_from(own._asdict() | further, step)
    learner.sync_agents()
    for ours, expected in zip(together, alone, strict=True):
        for name in ("critic", "rnd_net"):
            pair = weights(getattr(ours, name)), weights(getattr(expected, name))
            torch.testing.assert_close(*pair, atol=1e-4, rtol=1e-4)
        pair = weights(ours.exploiter.critic), weights(expected.exploiter.critic)
        torch.testing.assert_close(*pair, atol=1e-4, rtol=1e-4)


def test_both_targets_are_copied_when_due(make_two, make_batch):
    agent = make_two(target_update_period=2)
    for step, same in ((1, False), (2, True), (3, False)):
        shown, task = seen(make_batch(9, seed=step))
        agent.learn_from(shown._asdict() | task, step)
        for owner in (agent, agent.exploiter):
            assert torch.equal(weights(owner.critic), weights(owner.target_critic)) is same


@pytest.mark.parametrize(
    ("exploring", "expected"),
    [
        (None, [("exploration", 100)]),
        (100, [("exploration", 100)]),
        (500, [("exploration", 100)]),
        (30, [("exploration", 30), ("exploitation", 70)]),
    ],
)
def test_exploitation_begins_when_the_config_says(tmp_path, exploring, expected):
    values = {
        "base_config": "rnd",
        "env_name": "PointmassEasy-v0",
        "total_steps": 100,
        "num_exploration_steps": exploring,
    }
    config = make_config(values, tmp_path / "a.yaml", "explore")
    found = [(phase.name, phase.steps) for phase in phases_of(Stage.EXPLORE, config)]
    assert found == expected


def test_epsilon_0_is_refused_because_it_would_hide_which_critic_acts(make_two):
    with pytest.raises(UserError, match="needs an `epsilon` above 0"):
        make_two(epsilon=0.0)


def test_a_short_run_switches_early_too(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(
        "base_config: rnd\nenv_name: PointmassEasy-v0\ntotal_steps: 1000\n"
        "num_exploration_steps: 700\n"
    )
    (config,) = preparation.read_configs(Stage.EXPLORE, [path], steps_fraction=0.1)
    assert [phase.steps for phase in phases_of(Stage.EXPLORE, config)] == [70, 30]
