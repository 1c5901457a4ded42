"""Derived columns: their definitions, updates with the buffer, and an agent that uses them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_resume import Interrupted, outcome
from test_training import Lab, random_walk

from cs285.agents.dqn_agent import DQNAgent
from cs285.agents.exploration import hidden_task
from cs285.datasets.dataset_files import save_dataset
from cs285.env_configs.dqn_config import DQNConfig
from cs285.infrastructure.errors import UserError
from cs285.learning.agent_loop import AgentLoop
from cs285.learning.backends import CompiledToCpp, Traced
from cs285.learning.columns import (
    BUILT_IN,
    Column,
    Transitions,
    columns_of,
    discounted_returns_to_go,
    windows,
)
from cs285.learning.ensemble import Ensemble
from cs285.learning.objective import Batch
from cs285.learning.replay_buffer import ReplayBuffer, look_up

DISCOUNT = 0.9
LENGTH = 3
RANKS = Column("ranks", lambda t: np.argsort(np.argsort(t.rewards)), reach="all")
COLUMNS = (
    *BUILT_IN.values(),
    discounted_returns_to_go(DISCOUNT),
    *windows(LENGTH),
    *hidden_task(),
    RANKS,
)


def draw(count, seed=0, last_ends=False):
    """Draws transitions with ends of both kinds, single-step episodes and an unfinished tail."""
    rng = np.random.default_rng(seed)
    kind = rng.choice(3, count, p=[0.7, 0.2, 0.1])
    kind[-1] = 1 if last_ends else 0
    return Transitions(
        observations=rng.random((count, 2), np.float32),
        actions=rng.integers(0, 5, count),
        rewards=-rng.random(count, np.float32),
        next_observations=rng.random((count, 2), np.float32),
        dones=kind == 1,
        truncated=kind == 2,
    )


def naive(name, transitions):
    """Computes a column row by row, from its definition."""
    return np.array([naive_row(name, transitions, i) for i in range(len(transitions.actions))])


def naive_row(name, t, i):
    ends = t.dones | t.truncated
    first = last = i
    while first > 0 and not ends[first - 1]:
        first -= 1
    while last < len(ends) - 1 and not ends[last]:
        last += 1
    window = [i - LENGTH + 1 + k for k in range(LENGTH)]
    follows = i > 0 and bool(t.dones[i - 1])

    def to_go(row, discount=1.0):
        return sum(discount ** (k - row) * float(t.rewards[k]) for k in range(row, last + 1))

    return {
        "returns_to_go": lambda: to_go(i),
        "discounted_returns_to_go": lambda: to_go(i, DISCOUNT),
        "next_actions": lambda: t.actions[i if i == last else i + 1],
        "episode_steps": lambda: i - first,
        "episode_returns": lambda: to_go(first),
        "window_observations": lambda: [t.observations[k] * (k >= first) for k in window],
        "window_actions": lambda: [t.actions[k] if k >= first else 0 for k in window],
        "window_returns_to_go": lambda: [to_go(k) if k >= first else 0 for k in window],
        "window_mask": lambda: [k >= first for k in window],
        "rewards": lambda: 0,
        "dones": lambda: False,
        "observations": lambda: t.next_observations[i - 1] if follows else t.observations[i],
        "next_observations": lambda: t.next_observations[i - 1 if follows else i],
        "ranks": lambda: sum(t.rewards < t.rewards[i]),
    }[name]()


def filled(transitions, capacity=None):
    buffer = ReplayBuffer(1, capacity or len(transitions), (2,), [COLUMNS])
    *fields, truncated, _ = vars(transitions).values()
    buffer.fill(0, fields, truncated)
    return buffer


def insert(buffer, transitions, row):
    one = transitions[row : row + 1]
    *values, _ = vars(one).values()
    buffer.insert(*values)


@pytest.mark.parametrize("last_ends", [False, True])
@pytest.mark.parametrize("name", [column.name for column in COLUMNS])
def test_a_column_is_what_its_definition_says(name, last_ends):
    transitions = draw(60, last_ends=last_ends)
    found = filled(transitions).columns[name].numpy()
    np.testing.assert_allclose(found, naive(name, transitions), rtol=1e-5)


@pytest.mark.parametrize("start", [0, 1, 17])
def test_columns_follow_a_buffer_online_bit_for_bit(start):
    """However often they are read, they equal those of the whole dataset.

    After a dataset a new episode begins, as if a time limit had cut its last one.
    """
    transitions = draw(60, seed=3)
    buffer = filled(transitions[:start], 60) if start else ReplayBuffer(1, 60, (2,), [COLUMNS])
    cut = transitions.truncated.copy()
    cut[start - 1 : start] = True
    known = replace(transitions, truncated=cut)
    for row in range(start, 60):
        insert(buffer, transitions, row)
        if row % 3 != 1:
            expected = filled(known[: row + 1]).columns
            for name, values in expected.items():
                assert torch.equal(buffer.columns[name][: row + 1], values), (name, row)


def test_a_checkpoint_restores_columns_bit_for_bit():
    transitions = draw(60, seed=4)
    buffer, restored = filled(transitions[:40], 60), ReplayBuffer(1, 60, (2,), [COLUMNS])
    for row in range(40, 50):
        insert(buffer, transitions, row)
        _ = buffer.columns
    restored.set_state(buffer.get_state())
    for row in range(50, 60):
        for one in (buffer, restored):
            insert(one, transitions, row)
        for name, values in buffer.columns.items():
            assert torch.equal(restored.columns[name], values), name


def test_runs_side_by_side_have_their_own_columns():
    own = [draw(30, seed=1), draw(20, seed=2)]
    buffer = ReplayBuffer(2, 30, (2,), [COLUMNS, COLUMNS])
    for run, transitions in enumerate(own):
        *fields, truncated, _ = vars(transitions).values()
        buffer.fill(run, fields, truncated)
    for run, transitions in enumerate(own):
        for name, values in filled(transitions).columns.items():
            held = buffer.columns[name].unflatten(0, (2, 30))[run, : len(transitions)]
            assert torch.equal(held, values), name


def test_a_column_in_place_of_a_field_changes_neither_the_data_nor_other_runs():
    transitions = draw(30)
    buffer = ReplayBuffer(2, 30, (2,), [hidden_task(), ()])
    *fields, truncated, _ = vars(transitions).values()
    for run in range(2):
        buffer.fill(run, fields, truncated)
        for held, values in zip(buffer.contents(run), fields, strict=True):
            np.testing.assert_array_equal(held, values)
    shown = {name: values.unflatten(0, (2, 30)) for name, values in buffer.columns.items()}
    assert not shown["rewards"][0].any()
    for name, values in zip(Batch._fields, fields, strict=True):
        np.testing.assert_array_equal(shown[name][1], values)


# An agent that learns from columns


class ColumnsAgent(DQNAgent):
    """Regresses Q on a mixture of the return-to-go and SARSA's target, weighted by the window."""

    stackable = True

    def derived_columns(self):
        return windows(LENGTH)

    def loss(self, obs, action, reward, next_obs, done, next_actions, returns_to_go, mask):
        with torch.no_grad():
            bootstrap = self.target_critic(next_obs).gather(-1, next_actions[:, None]).squeeze(-1)
            target = reward + self.discount * (~done) * bootstrap
            target = (target + returns_to_go) / 2
        q_values = self.critic(obs).gather(-1, action[:, None]).squeeze(-1)
        weights = mask.float().mean(-1)
        return (weights * (q_values - target).square()).mean(), {"to_go": returns_to_go.mean()}

    @property
    def critic_objective(self):
        inputs = (*Batch._fields, "next_actions", "returns_to_go", "window_mask")
        return replace(super().critic_objective, method="", loss=self.loss, inputs=inputs)


@pytest.fixture
def make_learner_of(make_agent):
    def make(learner, *arguments):
        agents = [make_agent("dqn", seed=seed, learning_rate=0.01) for seed in (1, 2)]
        for agent in agents:
            agent.__class__ = ColumnsAgent
        return learner(agents, *arguments)

    return make


def test_an_agent_sees_only_what_it_asks_for(make_learner_of, make_agent):
    agent = make_learner_of(AgentLoop).agents[0]
    names = {column.name for column in columns_of(agent)}
    assert names == {"next_actions", "returns_to_go", "window_mask"}
    assert columns_of(make_agent("dqn")) == columns_of(make_agent("iql")) == ()
    assert columns_of(object()) == ()


def test_an_unknown_column_is_named(make_learner_of):
    class Wrong(ColumnsAgent):
        stackable = True

        @property
        def critic_objective(self):
            return replace(super().critic_objective, inputs=("return_to_go",))

    agent = make_learner_of(AgentLoop).agents[0]
    agent.__class__ = Wrong
    with pytest.raises(ValueError, match=r"'return_to_go'.*returns_to_go"):
        columns_of(agent)


def test_learning_from_columns_is_the_same_alone_stacked_and_compiled(make_learner_of):
    learners = [
        make_learner_of(AgentLoop),
        make_learner_of(Ensemble, Traced()),
        make_learner_of(Ensemble, CompiledToCpp()),
    ]
    buffer = ReplayBuffer(2, 40, (2,), [columns_of(agent) for agent in learners[0].agents])
    for run in range(2):
        *fields, truncated, _ = vars(draw(40, seed=run)).values()
        buffer.fill(run, fields, truncated)
    rows = np.random.default_rng(0).integers([[0], [40]], [[40], [80]], (30, 2, 16))
    before = [x.clone() for x in learners[0].agents[0].critic.parameters()]
    metrics = [learner.learn(buffer.columns, rows, 1) for learner in learners]
    expected = look_up(buffer.columns, rows[-1])["returns_to_go"].mean(-1)
    for learner, logged in zip(learners, metrics, strict=True):
        learner.sync_agents()
        torch.testing.assert_close(logged["to_go"], expected)
        for agent, alone in zip(learner.agents, learners[0].agents, strict=True):
            torch.testing.assert_close(agent.state_dict(), alone.state_dict(), atol=1e-4, rtol=1e-4)
    assert None not in learners[2].backend.updates.values()
    after = learners[0].agents[0].critic.parameters()
    assert max((x - y).abs().max() for x, y in zip(before, after, strict=True)) > 0.05


@pytest.fixture
def columns_everywhere(monkeypatch):
    """Makes `base_config: dqn` build agents that learn from columns."""
    make_agent = DQNConfig.make_agent

    def make(self, *shapes):
        agent = make_agent(self, *shapes)
        agent.__class__ = ColumnsAgent
        return agent

    monkeypatch.setattr(DQNConfig, "make_agent", make)


@pytest.mark.parametrize("choice", ["on", "off"])
@pytest.mark.parametrize("stage", ["offline", "finetune"])
def test_a_run_that_was_stopped_and_resumed_ends_as_the_uninterrupted_one(
    columns_everywhere, tmp_path, stage, choice
):
    labs = [Lab(tmp_path / "calm"), Interrupted(tmp_path / "stormy")]
    for lab in labs:
        lab.root.mkdir()
        for seed in (1, 2):
            lab.save_data(seed=seed)
    calm, stormy = labs
    flags = ["--seeds", "1", "2", "--compile", choice]
    calm.run(stage, calm.config(stage, "dqn"), flags=flags)
    stormy.run(stage, stormy.config(stage, "dqn"), flags=flags, stops=[5, 9])
    left = outcome(calm)
    assert left == outcome(stormy)
    scalars = [series[1] for name, series in left.items() if not isinstance(name, str)]
    assert all("to_go" in tags for tags in scalars)


def test_a_dataset_that_cannot_give_a_column_is_refused_before_anything_is_written(
    columns_everywhere, tmp_path
):
    lab = Lab(tmp_path)
    lab.save_data()
    walk = random_walk(80, 1)
    ends = np.flatnonzero(walk.terminated | walk.truncated)
    short = {name: values[: ends[0]] for name, values in walk.arrays().items()}
    save_dataset(tmp_path / "datasets" / "shared_seed1.npz", replace(walk, **short))
    with pytest.raises(UserError, match=r"shared: no episode ends .* no `returns_to_go`"):
        lab.run("offline", lab.config("offline", "dqn"))
    assert not (tmp_path / "data").exists()
