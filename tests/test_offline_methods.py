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
from test_columns import draw, naive
from test_objectives import forward, numerical_gradient, softmax, weights_of
from test_resume import Interrupted, outcome
from test_training import EASY, Lab, random_walk
from torch import nn

from cs285.analysis.exact import evaluate
from cs285.analysis.markov import ChangingChain
from cs285.datasets.dataset_files import FIELDS, save_dataset
from cs285.env_configs.loading import make_config
from cs285.envs.mazes import positions_of
from cs285.envs.planner import plan
from cs285.envs.pointmass import PointmassEnv
from cs285.envs.tasks import get_task
from cs285.homework import algorithms_for
from cs285.infrastructure.errors import UserError
from cs285.learning.agent_loop import AgentLoop
from cs285.learning.backends import CompiledToCpp, Traced
from cs285.learning.columns import DRAWN, Transitions, columns_of
from cs285.learning.contexts import Contexts
from cs285.learning.ensemble import Ensemble
from cs285.learning.learner import is_stackable
from cs285.learning.replay_buffer import ReplayBuffer, look_up
from cs285.training import rollouts
from cs285.training.policies import Policy
from cs285.training.program_recorder import ProgramRecorder

SETTINGS = {
    "bc": {"actor_learning_rate": [0.01, 0.03]},
    "filtered_bc": {"keep_fraction": [0.3, 0.8]},
    "awr": {"temperature": [0.3, 2.0], "discount": [0.9, 1.0]},
    "sarsa": {"temperature": [0.3, 2.0], "discount": [0.8, 0.95]},
    "bcq": {"threshold": [0.2, 0.9], "discount": [0.8, 0.95]},
    "brac": {"divergence_weight": [0.05, 1.0], "discount": [0.8, 0.95]},
    "rcsl": {"target_return": [-10.0, -40.0]},
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


def make_program(make_agent, algorithm, **values):
    return [
        make_agent(algorithm, seed=run + 1, **{"actor_learning_rate": 0.01} | values | own)
        for run in range(2)
        for own in [{key: values[run] for key, values in SETTINGS[algorithm].items()}]
    ]


VARIANTS = [
    *((algorithm, {}) for algorithm in SETTINGS),
    ("brac", {"divergence": "tvd", "placement": "reward", "target_divergence": 0.1}),
]


@pytest.mark.parametrize(("algorithm", "values"), VARIANTS)
def test_runs_learn_and_act_the_same_alone_stacked_and_compiled(make_agent, algorithm, values):
    learners = [
        AgentLoop(make_program(make_agent, algorithm, **values)),
        Ensemble(make_program(make_agent, algorithm, **values), Traced()),
        Ensemble(make_program(make_agent, algorithm, **values), CompiledToCpp()),
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
        for tag, expected in logged[0].items():
            torch.testing.assert_close(metrics[tag], expected, rtol=1e-3, atol=1e-4)
        for own, alone in zip(learner.agents, agents, strict=True):
            torch.testing.assert_close(own.state_dict(), alone.state_dict(), atol=1e-4, rtol=1e-4)
    for ensemble in learners[1:]:
        epsilon = torch.tensor([0.0, 0.3])
        inputs = torch.from_numpy(Contexts(agents, 7).inputs(seen))
        acted = ensemble.action_probabilities(inputs, epsilon)
        for run, agent in enumerate(agents):
            expected = agent.action_probabilities(inputs[run], epsilon[run])
            torch.testing.assert_close(acted[run], expected, atol=1e-4, rtol=1e-4)
    assert None not in learners[2].backend.updates.values()
    assert None not in learners[2].backend.policies.values()
    for agent, was in zip(agents, before, strict=True):
        assert (nn.utils.parameters_to_vector(agent.parameters()) - was).abs().max() > 0.01


@pytest.mark.parametrize("algorithm", SETTINGS)
def test_at_epsilon_0_the_likeliest_action_of_evaluation_is_taken(scrambled, algorithm):
    agent = scrambled(algorithm)
    seen = torch.rand(20, 2, generator=torch.Generator().manual_seed(0))
    inputs = torch.from_numpy(Contexts([agent], 20).inputs(seen.numpy()[None])[0])
    greedy = agent.action_probabilities(inputs, torch.tensor(0.0))
    assert ((greedy == 0) | (greedy == 1)).all()
    explores = agent.action_probabilities(inputs, torch.tensor(0.3))
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


@pytest.mark.parametrize("algorithm", ["filtered_bc", "awr", "rcsl"])
def test_methods_that_need_returns_refuse_data_in_which_no_episode_ends(tmp_path, algorithm):
    lab = Lab(tmp_path)
    lab.save_data()
    save_dataset(tmp_path / "datasets" / "shared_seed1.npz", without_ends(random_walk(80, 1)))
    with pytest.raises(UserError, match=r"no episode ends in this dataset.* explore for more"):
        lab.run("offline", lab.config("offline", algorithm))
    assert not (tmp_path / "data").exists()


# Weighted imitation


MAX_WEIGHT = 100.0


def weighted_imitation(actor, batch, advantages, temperature):
    """Returns -mean( log pi(a|s) exp(A / temperature) ), with the cap on weights."""
    weights = [min(math.exp(advantage / temperature), MAX_WEIGHT) for advantage in advantages]
    pairs = zip(batch["observations"], batch["actions"], weights, strict=True)
    return -np.mean([log_probability(actor, s, a) * weight for s, a, weight in pairs])


def squared_error(critic, batch, targets):
    """Returns mean (Q(s, a) - y)^2."""
    pairs = zip(batch["observations"], batch["actions"], targets, strict=True)
    return np.mean([(forward(critic, s)[a] - y) ** 2 for s, a, y in pairs])


@pytest.mark.parametrize("temperature", [0.5, 0.02])
def test_awr_fits_v_to_the_returns_and_weights_by_what_they_exceed(scrambled, temperature):
    agent = scrambled("awr", discount=0.9, temperature=temperature)
    v = weights_of(agent.value_critic)

    def v_loss(weights, batch):
        pairs = zip(batch["observations"], batch["discounted_returns_to_go"], strict=True)
        return np.mean([(forward(weights, s)[0] - r) ** 2 for s, r in pairs])

    def actor_loss(actor, batch):
        pairs = zip(batch["observations"], batch["discounted_returns_to_go"], strict=True)
        advantages = [r - forward(v, s)[0] for s, r in pairs]
        return weighted_imitation(actor, batch, advantages, temperature)

    assert_minimises(agent, "v_loss", v_loss)
    assert_minimises(agent, "actor_loss", actor_loss)


def test_awr_learns_from_episodes_that_have_ended(make_agent):
    agent = make_agent("awr", discount=0.9)
    buffer, (transitions,) = buffer_of([agent])
    expected, _ = best_rows(transitions, SIZE)
    assert expected != list(range(SIZE))
    assert buffer.columns[DRAWN].numpy().nonzero()[0].tolist() == expected


def test_sarsa_evaluates_the_next_action_of_the_data(scrambled):
    agent = scrambled("sarsa", discount=0.8, temperature=0.5)
    target, q, pi = (weights_of(x) for x in (agent.target_critic, agent.critic, agent.actor))

    def critic_loss(critic, batch):
        names = ("rewards", "next_observations", "dones", "next_actions")
        targets = [
            r + (0.0 if done else 0.8 * forward(target, following)[then])
            for r, following, done, then in zip(*(batch[name] for name in names), strict=True)
        ]
        return squared_error(critic, batch, targets)

    def actor_loss(actor, batch):
        advantages = [
            forward(q, s)[a] - softmax(forward(pi, s)) @ forward(q, s)
            for s, a in zip(batch["observations"], batch["actions"], strict=True)
        ]
        return weighted_imitation(actor, batch, advantages, 0.5)

    assert_minimises(agent, "critic_loss", critic_loss)
    assert_minimises(agent, "actor_loss", actor_loss)


def test_sarsa_learns_where_the_next_action_is_known_or_there_is_none(make_agent):
    agent = make_agent("sarsa")
    buffer, (transitions,) = buffer_of([agent])
    cut = transitions.truncated.copy()
    cut[-1] |= not transitions.dones[-1]
    assert cut.any()
    assert transitions.dones.any()
    expected = np.flatnonzero(~cut).tolist()
    assert buffer.columns[DRAWN].numpy().nonzero()[0].tolist() == expected


# Constraints to the data


@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize("threshold", [0.0, 0.4, 1.0])
def test_bcq_takes_the_best_of_the_actions_that_the_data_take(scrambled, threshold, double):
    agent = scrambled("bcq", threshold=threshold, discount=0.8, use_double_q=double)
    target, q, pb = (weights_of(x) for x in (agent.target_critic, agent.critic, agent.actor))

    def best(values, observation):
        probabilities = softmax(forward(pb, observation))
        allowed = [a for a in range(5) if probabilities[a] >= threshold * max(probabilities)]
        return max(allowed, key=lambda action: values[action]), len(allowed)

    def critic_loss(critic, batch):
        targets = []
        names = ("rewards", "next_observations", "dones")
        for r, following, done in zip(*(batch[name] for name in names), strict=True):
            then, _ = best(forward(q if double else target, following), following)
            targets.append(r + (0.0 if done else 0.8 * forward(target, following)[then]))
        return squared_error(critic, batch, targets)

    assert_minimises(agent, "critic_loss", critic_loss)
    seen = np.random.default_rng(0).random((30, 2), np.float32)
    greedy = agent.action_probabilities(torch.from_numpy(seen), torch.tensor(0.0))
    chosen = [best(forward(q, observation), observation) for observation in seen]
    assert greedy.argmax(-1).tolist() == [action for action, _ in chosen]
    counts = {count for _, count in chosen}
    assert counts == {5} if threshold == 0 else counts == {1} if threshold == 1 else len(counts) > 1


def test_bcq_and_brac_imitate_the_data_by_likelihood(scrambled):
    def loss(policy, batch):
        pairs = zip(batch["observations"], batch["actions"], strict=True)
        return -np.mean([log_probability(policy, s, a) for s, a in pairs])

    assert_minimises(scrambled("bcq"), "actor_loss", loss)
    assert_minimises(scrambled("brac"), "behaviour_loss", loss)


def divergence(name, p, q):
    """Sums over actions, as the handout and textbooks define them."""
    m = (p + q) / 2
    return {
        "kl": sum(p * np.log(p / q)),
        "tvd": sum(abs(p - q)) / 2,
        "jsd": sum(p * np.log(p / m)) + sum(q * np.log(q / m)),
        "chi2": sum((p - q) ** 2 / q),
    }[name]


@pytest.mark.parametrize("name", ["kl", "tvd", "jsd", "chi2"])
def test_brac_penalises_its_actor_for_leaving_the_data(scrambled, name):
    agent = scrambled("brac", divergence=name, divergence_weight=0.3, discount=0.8)
    agent.multiplier.logarithm.data.fill_(math.log(0.3))
    target, q, pi, pb = (
        weights_of(x) for x in (agent.target_critic, agent.critic, agent.actor, agent.behaviour)
    )

    def critic_loss(critic, batch):
        names = ("rewards", "next_observations", "dones")
        targets = [
            r + (0.0 if done else 0.8 * softmax(forward(pi, then)) @ forward(target, then))
            for r, then, done in zip(*(batch[name] for name in names), strict=True)
        ]
        return squared_error(critic, batch, targets)

    def actor_loss(actor, batch):
        terms = []
        for s in batch["observations"]:
            p = softmax(forward(actor, s))
            penalty = divergence(name, p, softmax(forward(pb, s)))
            terms.append(0.3 * penalty - p @ forward(q, s))
        return np.mean(terms)

    assert_minimises(agent, "critic_loss", critic_loss)
    assert_minimises(agent, "actor_loss", actor_loss)
    assert agent.action_values(torch.zeros(1, 2)).shape == (1, 5)


@pytest.mark.parametrize("name", ["kl", "tvd", "jsd", "chi2"])
def test_brac_rewards_its_critic_for_staying_with_the_data(scrambled, name):
    agent = scrambled("brac", divergence=name, placement="reward", discount=0.8)
    agent.multiplier.logarithm.data.fill_(math.log(0.3))
    target, q, pi, pb = (
        weights_of(x) for x in (agent.target_critic, agent.critic, agent.actor, agent.behaviour)
    )

    def bonus(s, a):
        """The gradient of -D by the policy, shifted so that its mean under the policy is -D."""
        p, data = softmax(forward(pi, s)), softmax(forward(pb, s))
        (slopes,) = numerical_gradient(lambda own: divergence(name, own[0], data), [p.copy()])
        return -divergence(name, p, data) + p @ slopes - slopes[a]

    def critic_loss(critic, batch):
        names = ("observations", "actions", "rewards", "next_observations", "dones")
        targets = [
            r + 0.3 * bonus(s, a)
            + (0.0 if done else 0.8 * softmax(forward(pi, then)) @ forward(target, then))
            for s, a, r, then, done in zip(*(batch[name] for name in names), strict=True)
        ]  # fmt: skip
        return squared_error(critic, batch, targets)

    def actor_loss(actor, batch):
        return -np.mean([softmax(forward(actor, s)) @ forward(q, s) for s in batch["observations"]])

    assert_minimises(agent, "critic_loss", critic_loss)
    assert_minimises(agent, "actor_loss", actor_loss)
    task = get_task(EASY)
    assert not Policy(agent, task).has_values
    assert Policy(scrambled("brac"), task).has_values


def test_bracs_multiplier_rises_while_the_policy_is_too_far_from_the_data(scrambled):
    agent = scrambled("brac", target_divergence=0.2, multiplier_learning_rate=0.1)
    pi, pb = weights_of(agent.actor), weights_of(agent.behaviour)

    def loss(weights, batch):
        far = [
            divergence("kl", softmax(forward(pi, s)), softmax(forward(pb, s)))
            for s in batch["observations"]
        ]
        assert np.mean(far) > 0.2
        return math.exp(weights[0]) * (0.2 - np.mean(far))

    assert_minimises(agent, "multiplier_loss", loss)
    batch, _ = batch_of(agent)
    before = agent.multiplier().item()
    agent.learn_from(batch, 1)
    assert agent.multiplier().item() == pytest.approx(before * math.exp(0.1), rel=1e-3)


def test_a_learned_and_a_fixed_multiplier_do_not_share_a_program(tmp_path):
    def key(**values):
        values = {"base_config": "brac", "env_name": EASY} | values
        return make_config(values, tmp_path / "a.yaml", "offline").program_key

    assert key() == key(divergence_weight=3.0)
    assert key(target_divergence=0.1) == key(target_divergence=0.3) != key()


@pytest.mark.parametrize(("name", "refused"), [("kl", True), ("chi2", True), ("tvd", False)])
def test_a_divergence_without_support_is_refused(make_agent, name, refused):
    transitions = draw(SIZE)
    never = replace(transitions, actions=np.where(transitions.actions == 3, 2, transitions.actions))
    agent = make_agent("brac", divergence=name)
    agent.check_data(transitions, "x")
    if not refused:
        agent.check_data(never, "x")
        return
    with pytest.raises(UserError, match=rf"never takes action 3, .*`divergence: {name}` .*use tvd"):
        agent.check_data(never, "x")


# Imitation given the return


def test_rcsl_maximises_the_likelihood_given_the_return_that_follows(scrambled):
    def loss(actor, batch):
        pairs = zip(batch["conditioned_observations"], batch["actions"], strict=True)
        return -np.mean([log_probability(actor, inputs, a) for inputs, a in pairs])

    agent = scrambled("rcsl")
    assert_minimises(agent, "actor_loss", loss)
    buffer, (transitions,) = buffer_of([agent])
    seen = buffer.columns["conditioned_observations"].numpy()
    np.testing.assert_array_equal(seen[:, :2], transitions.observations)
    np.testing.assert_allclose(seen[:, 2], naive("returns_to_go", transitions), rtol=1e-5)
    expected, _ = best_rows(transitions, SIZE)
    assert buffer.columns[DRAWN].numpy().nonzero()[0].tolist() == expected


def test_rcsl_sees_the_return_between_its_bounds_as_it_sees_observations(make_agent):
    first = make_agent("rcsl", input_scale=3.0).actor.logits_net[0]
    seen = first(torch.tensor([[0.0, 1.0, -50.0], [0.5, 0.25, 0.0], [1.0, 0.5, -25.0]]))
    expected = torch.tensor([[-3.0, 3.0, -3.0], [0.0, -1.5, 3.0], [3.0, 0.0, 0.0]])
    torch.testing.assert_close(seen, expected)


def test_the_target_falls_by_the_rewards_until_the_episode_ends(make_agent):
    context = make_agent("rcsl", target_return=-20.0).make_context(2)
    seen = np.array([[0.1, 0.2], [0.3, 0.4]], np.float32)
    nothing, still = np.zeros(2), np.zeros(2, np.bool_)
    assert context.inputs(seen)[:, 2].tolist() == [-20.0, -20.0]
    np.testing.assert_array_equal(context.inputs(seen)[:, :2], seen)
    context.record(seen, nothing, np.array([-1.0, -3.0]), still)
    assert context.inputs(seen)[:, 2].tolist() == [-19.0, -17.0]
    context.record(seen, nothing, np.array([-1.0, -1.0]), np.array([True, False]))
    assert context.inputs(seen)[:, 2].tolist() == [-20.0, -16.0]


def test_a_policy_by_steps_is_evaluated_as_its_definition_says():
    model = get_task(EASY).models()[0]()
    states, actions, horizon = model.num_states, model.num_actions, model.horizon
    rng = np.random.default_rng(0)
    tables = rng.dirichlet(np.full(actions, 0.3), (horizon, states)).astype(np.float32)
    chain = ChangingChain(model, tables)
    moves = model.transitions.toarray().reshape(states, actions, states).astype(np.float64)
    value, discounted = np.zeros(states), np.zeros(states)
    for table in tables[::-1]:
        value = np.einsum("na,na->n", table, model.rewards + moves @ value)
        discounted = np.einsum("na,na->n", table, model.rewards + 0.9 * (moves @ discounted))
    now, length, return_ = model.start.copy(), 0.0, 0.0
    for table in tables:
        length += now.sum()
        return_ += np.einsum("n,na,na->", now, table, model.rewards)
        now = np.einsum("n,na,nam->m", now, table, moves)
    assert chain.expected_return == pytest.approx(return_, abs=1e-3)
    assert chain.expected_return == pytest.approx(model.start @ value, abs=1e-2)
    assert chain.expected_length == pytest.approx(length, abs=1e-3)
    np.testing.assert_allclose(chain.values_to_go()[0], value, atol=1e-3)
    np.testing.assert_allclose(chain.values(0.9), discounted, atol=1e-3)
    np.testing.assert_allclose(chain.policy.sum(axis=1), 1.0, atol=1e-5)


def test_the_exact_return_of_rcsl_is_that_of_its_episodes(make_agent):
    agent = make_agent("rcsl", actor_learning_rate=0.01, input_scale=3.0, target_return=-13.0)
    observations, actions = best_episodes(20)
    # What the target should be is made to matter: with more to come it does something else.
    returns = torch.full((len(actions), 1), -10.0)
    given = [torch.cat([observations, more], dim=1) for more in (returns, returns + 8.0)]
    batch = {
        "conditioned_observations": torch.cat(given),
        "actions": torch.cat([actions, torch.zeros_like(actions)]),
    }
    for step in range(1, 201):
        agent.learn_from(batch, step)
    task = get_task(EASY)
    policy = Policy(agent, task)
    assert policy.changes
    assert policy.has_probabilities
    found = evaluate(
        task.models()[:2], policy, discount=None, rng=np.random.default_rng(0), episodes=0,
        at_step=policy.at_step,
    )  # fmt: skip
    learner = Ensemble([agent])
    (played,) = rollouts.evaluate(learner, [EASY], [1], 300, 1)
    error = played.returns.std() / len(played.returns) ** 0.5
    assert abs(found.expected_return - played.returns.mean()) < 4 * error + found.return_error
    # The policy of the first step alone is worth something else.
    first = evaluate(
        task.models()[:2], policy, discount=None, rng=np.random.default_rng(0), episodes=0
    )
    assert abs(first.expected_return - found.expected_return) > 1


@pytest.mark.parametrize("target", [1.0, -50.5])
def test_a_target_that_no_episode_can_return_is_refused(tmp_path, target):
    lab = Lab(tmp_path)
    lab.save_data()
    expected = rf"`target_return: {target:g}` is outside .* choose one from -50 to 0"
    with pytest.raises(UserError, match=expected):
        lab.run("offline", lab.config("offline", "rcsl", target_return=target))
    assert not (tmp_path / "data").exists()


def test_the_usual_target_is_the_best_expected_return(make_agent):
    assert make_agent("rcsl").target_return == plan(EASY).optimal_return
    with pytest.raises(UserError, match=r"needs a `target_return` in CartPole-v1"):
        make_agent("rcsl", env_name="CartPole-v1", dataset_name="x", exp_name="x")
