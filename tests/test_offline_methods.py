"""The methods of the course notes: losses by hand, many runs as one program, resuming, mistakes.

Formulas are plain loops over NumPy arrays in float64 with gradients by central differences, as in
`test_objectives.py`; nothing is shared with the code under test.
"""

import math
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_columns import draw
from test_objectives import forward, numerical_gradient, softmax, weights_of
from test_resume import Interrupted, outcome
from test_training import EASY, Lab, random_walk
from torch import nn

from cs285.analysis.exact import evaluate
from cs285.datasets.dataset_files import FIELDS, save_dataset
from cs285.envs.mazes import positions_of
from cs285.envs.planner import plan
from cs285.envs.pointmass import PointmassEnv
from cs285.envs.tasks import get_task
from cs285.homework import algorithms_for
from cs285.infrastructure.errors import UserError
from cs285.learning.agent_loop import AgentLoop
from cs285.learning.backends import CompiledToCpp, Traced
from cs285.learning.columns import DRAWN, Transitions, columns_of
from cs285.learning.ensemble import Ensemble
from cs285.learning.learner import is_stackable
from cs285.learning.replay_buffer import ReplayBuffer, look_up
from cs285.training.policies import Policy
from cs285.training.program_recorder import ProgramRecorder

SETTINGS = {
    "bc": {"actor_learning_rate": [0.01, 0.03]},
    "filtered_bc": {"keep_fraction": [0.3, 0.8]},
}
"""What differs between the two runs of a program, apart from their seeds."""

SIZE = 60


@pytest.fixture
def scrambled(make_agent):
    """Builds an agent whose networks, targets included, are all different and far from flat."""

    def make(algorithm, seed=1, **values):
        agent = make_agent(algorithm, **values)
        for name, parameter in agent.named_parameters():
            generator = torch.Generator().manual_seed(zlib.crc32(f"{seed} {name}".encode()))
            nn.init.normal_(parameter, generator=generator)
        return agent

    return make


def buffer_of(agents):
    """Returns a buffer with other transitions for each agent, and the transitions."""
    buffer = ReplayBuffer(len(agents), SIZE, (2,), [columns_of(agent) for agent in agents])
    transitions = [draw(SIZE, seed=run) for run in range(len(agents))]
    for run, own in enumerate(transitions):
        *fields, truncated, _ = vars(own).values()
        buffer.fill(run, fields, truncated)
    return buffer, transitions


def batch_of(agent):
    """Returns one batch with all columns of an agent, as tensors and as arrays."""
    buffer, _ = buffer_of([agent])
    rows = buffer.rows(np.random.default_rng(0).random((1, 1, 9)))[0]
    batch = {name: values[0] for name, values in look_up(buffer.columns, rows).items()}
    return batch, {name: values.numpy() for name, values in batch.items()}


def assert_minimises(agent, tag, formula):
    """Expects the objective of this tag to have a loss and a gradient.

    Args:
        agent: The agent.
        tag: Tag of its loss.
        formula: `(weights, batch) -> loss`, with the weights of the trained network.
    """
    (objective,) = [x for x in agent.objectives if x.loss_tag == tag]
    tensors, batch = batch_of(agent)
    agent.zero_grad()
    loss, metrics, *_ = objective.loss(*(tensors[name] for name in objective.inputs))
    weights = weights_of(objective.network)
    assert loss.item() == pytest.approx(formula(weights, batch), rel=1e-4)
    assert all(value.shape == () for value in metrics.values())
    loss.backward()
    expected = numerical_gradient(lambda own: formula(own, batch), weights)
    for parameter, slopes in zip(objective.network.parameters(), expected, strict=True):
        np.testing.assert_allclose(parameter.grad, slopes, rtol=2e-3, atol=2e-5)
    trained = {id(parameter) for parameter in objective.network.parameters()}
    for name, parameter in agent.named_parameters():
        # What the loss reads of other networks must be without gradient.
        assert id(parameter) in trained or parameter.grad is None, name


def log_probability(weights, observation, action):
    return math.log(softmax(forward(weights, observation))[action])


@pytest.fixture
def unevaluated(monkeypatch):
    """Leaves out exact evaluation, which takes most of a short run."""
    monkeypatch.setattr(ProgramRecorder, "_evaluate_exactly", lambda *_: {})


# All methods


def test_every_method_is_tested():
    assert list(SETTINGS) == algorithms_for(None)


def make_program(make_agent, algorithm):
    return [
        make_agent(algorithm, seed=run + 1, **{"actor_learning_rate": 0.01} | own)
        for run in range(2)
        for own in [{key: values[run] for key, values in SETTINGS[algorithm].items()}]
    ]


@pytest.mark.parametrize("algorithm", SETTINGS)
def test_runs_learn_and_act_the_same_alone_stacked_and_compiled(make_agent, algorithm):
    learners = [
        AgentLoop(make_program(make_agent, algorithm)),
        Ensemble(make_program(make_agent, algorithm), Traced()),
        Ensemble(make_program(make_agent, algorithm), CompiledToCpp()),
    ]
    agents = learners[0].agents
    assert all(map(is_stackable, agents))
    before = [nn.utils.parameters_to_vector(agent.parameters()).clone() for agent in agents]
    buffer, _ = buffer_of(agents)
    rows = buffer.rows(np.random.default_rng(0).random((30, 2, 16)))
    logged = [learner.learn(buffer.columns, rows, 1) for learner in learners]
    seen = np.random.default_rng(1).random((2, 7, 2), np.float32)
    for learner, metrics in zip(learners, logged, strict=True):
        learner.sync_agents()
        assert metrics.keys() >= logged[0].keys()
        for tag, values in logged[0].items():
            torch.testing.assert_close(metrics[tag], values, rtol=1e-3, atol=1e-4)
        for own, alone in zip(learner.agents, agents, strict=True):
            torch.testing.assert_close(own.state_dict(), alone.state_dict(), atol=1e-4, rtol=1e-4)
    for ensemble in learners[1:]:
        epsilon = torch.tensor([0.0, 0.3])
        acted = ensemble.action_probabilities(torch.from_numpy(seen), epsilon)
        for run, agent in enumerate(agents):
            expected = agent.action_probabilities(torch.from_numpy(seen[run]), epsilon[run])
            torch.testing.assert_close(acted[run], expected, atol=1e-4, rtol=1e-4)
    assert None not in learners[2].backend.updates.values()
    assert None not in learners[2].backend.policies.values()
    for agent, was in zip(agents, before, strict=True):
        assert (nn.utils.parameters_to_vector(agent.parameters()) - was).abs().max() > 0.01


@pytest.mark.parametrize("algorithm", SETTINGS)
def test_at_epsilon_0_the_likeliest_action_of_evaluation_is_taken(scrambled, algorithm):
    agent = scrambled(algorithm)
    seen = torch.rand(20, 2, generator=torch.Generator().manual_seed(0))
    greedy = agent.action_probabilities(seen, torch.tensor(0.0))
    assert ((greedy == 0) | (greedy == 1)).all()
    explores = agent.action_probabilities(seen, torch.tensor(0.3))
    torch.testing.assert_close(explores.sum(-1), torch.ones(20))
    assert ((explores > 0) & (explores < 1)).any()
    for row, observation in zip(greedy, seen.numpy(), strict=True):
        assert agent.get_action(observation) == row.argmax()


@pytest.mark.parametrize("algorithm", SETTINGS)
def test_a_run_that_was_stopped_and_resumed_ends_as_the_uninterrupted_one(
    untraced, unevaluated, tmp_path, algorithm
):
    labs = [Lab(tmp_path / "calm"), Interrupted(tmp_path / "stormy")]
    for lab in labs:
        lab.root.mkdir()
        lab.save_data(size=220)
    calm, stormy = labs
    calm.run("finetune", calm.config("finetune", algorithm))
    stormy.run("finetune", stormy.config("finetune", algorithm), stops=[4, 30])
    assert outcome(calm) == outcome(stormy)


# Imitation


def test_bc_maximises_the_likelihood_of_all_actions(scrambled):
    def loss(actor, batch):
        pairs = zip(batch["observations"], batch["actions"], strict=True)
        return -np.mean([log_probability(actor, s, a) for s, a in pairs])

    assert_minimises(scrambled("bc"), "actor_loss", loss)
    assert_minimises(scrambled("filtered_bc", keep_fraction=0.5), "actor_loss", loss)


def best_episodes(count):
    """Plays episodes of the best policy of Easy; returns their observations and actions."""
    best, env, rows = plan(EASY), PointmassEnv(EASY), []
    for seed in range(count):
        (observation, _), step, ended = env.reset(seed=seed), 0, False
        while not ended:
            position = positions_of(best.maze, observation[None].astype(np.float64))
            action = best.actions(position, step)[0]
            rows.append((observation, action))
            observation, _, terminated, truncated, _ = env.step(action)
            step, ended = step + 1, terminated or truncated
    observations, actions = zip(*rows, strict=True)
    return torch.from_numpy(np.array(observations, np.float32)), torch.from_numpy(np.array(actions))


def test_bc_is_worth_what_a_narrow_expert_is(make_agent):
    agent = make_agent("bc", actor_hidden_size=32, actor_learning_rate=3e-3, input_scale=3.0)
    observations, actions = best_episodes(30)
    for step in range(1, 401):
        agent.learn_from({"observations": observations, "actions": actions}, step)
    task = get_task(EASY)
    found = evaluate(
        task.models(), Policy(agent, task), discount=None, rng=np.random.default_rng(0)
    )
    assert found.return_error < 0.1
    assert found.expected_return == pytest.approx(plan(EASY).optimal_return, abs=1.0)


def best_rows(transitions, count):
    """Returns the rows of the best episodes that have ended, one episode after the other."""
    episodes, start = [], 0
    for row in range(len(transitions)):
        if transitions.dones[row] or transitions.truncated[row]:
            rows = list(range(start, row + 1))
            episodes.append((sum(float(transitions.rewards[k]) for k in rows), start, rows))
            start = row + 1
    best = sorted(episodes)[len(episodes) - count :]
    return sorted(row for *_, rows in best for row in rows), len(episodes)


@pytest.mark.parametrize("keep_fraction", [0.2, 0.75, 1.0])
def test_filtered_bc_draws_from_the_best_episodes_alone(make_agent, keep_fraction):
    agent = make_agent("filtered_bc", keep_fraction=keep_fraction)
    buffer, (transitions,) = buffer_of([agent])
    _, episodes = best_rows(transitions, 0)
    expected, _ = best_rows(transitions, math.floor(keep_fraction * episodes))
    assert buffer.columns[DRAWN].numpy().nonzero()[0].tolist() == expected
    uniforms = (np.arange(len(expected)) + 0.5) / len(expected)
    assert buffer.rows(uniforms[None])[0].tolist() == expected
    assert buffer.rows(np.array([[0.0, 1 - 1e-12]]))[0].tolist() == [expected[0], expected[-1]]


def test_runs_that_keep_different_episodes_draw_from_their_own(make_agent):
    agents = make_program(make_agent, "filtered_bc")
    buffer, transitions = buffer_of(agents)
    rows = buffer.rows(np.random.default_rng(0).random((400, 2, 16)))
    for run, agent in enumerate(agents):
        _, episodes = best_rows(transitions[run], 0)
        expected, _ = best_rows(transitions[run], math.floor(agent.keep_fraction * episodes))
        assert set((rows[:, run] - run * SIZE).ravel().tolist()) == set(expected)


def test_of_equal_episodes_the_later_ones_are_kept(make_agent):
    agent = make_agent("filtered_bc", keep_fraction=0.5)
    walk = draw(8)
    ends = np.arange(8) % 2 == 1  # four episodes of two steps
    rewards = np.full(8, -1.0, np.float32)
    equal = replace(walk, rewards=rewards, dones=ends, truncated=np.zeros(8, np.bool_))
    (column,) = agent.derived_columns()
    assert column.compute(equal).tolist() == [False] * 4 + [True] * 4


def test_new_episodes_are_imitated_once_they_have_ended_among_the_best(make_agent):
    agent = make_agent("filtered_bc", keep_fraction=0.5)
    buffer = ReplayBuffer(1, 20, (2,), [columns_of(agent)])
    *fields, truncated, _ = vars(draw(8)).values()
    fields[2][:], fields[4][:] = -1.0, np.arange(8) % 4 == 3  # two episodes of four steps
    truncated[:] = False
    buffer.fill(0, fields, truncated)
    everything = np.linspace(0, 1, 200, endpoint=False)[None]
    assert set(buffer.rows(everything)[0]) == {4, 5, 6, 7}
    for ended in (False, False, True):  # a third one, of three steps
        assert 8 not in buffer.rows(everything)[0]
        flags = np.array([ended]), np.zeros(1, np.bool_)
        row = np.zeros((1, 2), np.float32)
        buffer.insert(row, np.zeros(1, np.int64), np.full(1, -1.0, np.float32), row, *flags)
    assert set(buffer.rows(everything)[0]) == {8, 9, 10}


@pytest.mark.parametrize(("fraction", "enough"), [(0.3, 0.3334), (0.1, 0.3334)])
def test_a_fraction_that_keeps_no_episode_is_refused(make_agent, tmp_path, fraction, enough):
    lab = Lab(tmp_path)
    lab.save_data()
    walk = random_walk(160, 1)
    assert (walk.terminated | walk.truncated).sum() == 3
    save_dataset(tmp_path / "datasets" / "shared_seed1.npz", walk)
    expected = f"`keep_fraction: {fraction}` keeps none of the 3 episodes .* {enough} keeps"
    with pytest.raises(UserError, match=expected):
        lab.run("offline", lab.config("offline", "filtered_bc", keep_fraction=fraction))
    assert not (tmp_path / "data").exists()
    check = make_agent("filtered_bc", keep_fraction=enough).check_data
    check(Transitions(*(walk.arrays()[name] for name in FIELDS)), "x")


def without_ends(walk):
    ends = np.flatnonzero(walk.terminated | walk.truncated)
    return replace(walk, **{name: values[: ends[0]] for name, values in walk.arrays().items()})


@pytest.mark.parametrize("algorithm", ["filtered_bc"])
def test_methods_that_need_returns_refuse_data_in_which_no_episode_ends(tmp_path, algorithm):
    lab = Lab(tmp_path)
    lab.save_data()
    save_dataset(tmp_path / "datasets" / "shared_seed1.npz", without_ends(random_walk(80, 1)))
    with pytest.raises(UserError, match=r"no episode ends in this dataset.* explore for more"):
        lab.run("offline", lab.config("offline", algorithm))
    assert not (tmp_path / "data").exists()
