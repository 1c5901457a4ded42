"""What the six agents promise to their callers: acting, copying, bonuses, signatures."""

import inspect

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn
from torch.distributions import Categorical

from cs285.agents.awac_agent import AWACAgent
from cs285.agents.cql_agent import CQLAgent
from cs285.agents.dqn_agent import DQNAgent
from cs285.agents.iql_agent import IQLAgent
from cs285.agents.random_agent import RandomAgent
from cs285.agents.rnd_agent import RNDAgent
from cs285.networks.critics import StateActionCritic, ValueCritic
from cs285.networks.mlp_policy import MLPPolicy

LEARNERS = ["dqn", "cql", "awac", "iql", "rnd"]
CRITIC_ACTORS = ["dqn", "cql", "rnd"]
POLICY_ACTORS = ["awac", "iql"]
OBSERVATION = np.array([0.3, 0.7], dtype=np.float32)
DRAWS = 4000


def prefer(network, *values):
    """Makes a network return `values` for any observation."""
    *_, last = (module for module in network.modules() if isinstance(module, nn.Linear))
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.tensor(values))


def frequencies(agent, epsilon):
    actions = [agent.get_action(OBSERVATION, epsilon) for _ in range(DRAWS)]
    return np.bincount(actions, minlength=5) / DRAWS


def tolerance(probabilities):
    """Four standard deviations of a frequency over all draws."""
    p = np.asarray(probabilities)
    return 4 * np.sqrt(p * (1 - p) / DRAWS) + 1e-12


# Acting


@pytest.mark.parametrize("algorithm", ["random", *LEARNERS])
@pytest.mark.parametrize("epsilon", [0.0, 0.5])
def test_an_action_is_a_python_int(make_agent, algorithm, epsilon):
    action = make_agent(algorithm).get_action(OBSERVATION, epsilon)
    assert type(action) is int
    assert 0 <= action < 5


@pytest.mark.parametrize("algorithm", ["random", *LEARNERS])
def test_observations_may_be_float64(make_agent, algorithm):
    assert make_agent(algorithm).get_action(OBSERVATION.astype(np.float64)) in range(5)


@pytest.mark.parametrize("algorithm", CRITIC_ACTORS)
def test_critics_act_greedily_by_default(make_agent, algorithm):
    agent = make_agent(algorithm)
    prefer(agent.critic, 0.0, 1.0, 3.0, 2.0, -5.0)
    assert {agent.get_action(OBSERVATION) for _ in range(50)} == {2}


@pytest.mark.parametrize("algorithm", CRITIC_ACTORS)
def test_critics_explore_epsilon_greedily(make_agent, algorithm):
    agent = make_agent(algorithm)
    prefer(agent.critic, 0.0, 1.0, 3.0, 2.0, -5.0)
    expected = np.array([0.08, 0.08, 0.68, 0.08, 0.08])  # 0.4 / 5, and 1 - 0.4 more for the best
    assert (abs(frequencies(agent, 0.4) - expected) < tolerance(expected)).all()


@pytest.mark.parametrize("algorithm", CRITIC_ACTORS)
def test_the_stated_distribution_is_epsilon_greedy_in_each_observation(make_agent, algorithm):
    agent = make_agent(algorithm)
    observations = torch.rand(20, 2, generator=torch.Generator().manual_seed(0))
    stated = agent.action_probabilities(observations, torch.tensor(0.25))
    for row, values in zip(stated, agent.critic(observations), strict=True):
        expected = [0.05] * 5
        expected[values.argmax()] = 0.8
        np.testing.assert_allclose(row.detach(), expected, rtol=1e-5)


@pytest.mark.parametrize("algorithm", POLICY_ACTORS)
def test_actors_take_their_mode_in_evaluation_whatever_the_critic_says(make_agent, algorithm):
    agent = make_agent(algorithm)
    prefer(agent.actor, 0.0, 2.0, 0.0, 1.9, 0.0)
    prefer(agent.critic, 5.0, -5.0, 0.0, 0.0, 0.0)
    assert {agent.get_action(OBSERVATION) for _ in range(50)} == {1}


@pytest.mark.parametrize("algorithm", POLICY_ACTORS)
@pytest.mark.parametrize("epsilon", [0.01, 0.3, 1.0])
def test_actors_are_sampled_while_exploring(make_agent, algorithm, epsilon):
    agent = make_agent(algorithm)
    expected = np.array([0.1, 0.5, 0.05, 0.3, 0.05])
    prefer(agent.actor, *np.log(expected))
    prefer(agent.critic, 5.0, -5.0, 0.0, 0.0, 0.0)
    assert (abs(frequencies(agent, epsilon) - expected) < tolerance(expected)).all()


@pytest.mark.parametrize("epsilon", [0.0, 0.3])
def test_random_is_uniform_whatever_epsilon(make_agent, epsilon):
    agent = make_agent("random")
    assert (abs(frequencies(agent, epsilon) - 0.2) < tolerance([0.2] * 5)).all()


@pytest.mark.parametrize("algorithm", ["random", *LEARNERS])
def test_every_agent_draws_from_its_own_generator(make_agent, algorithm):
    first, second = make_agent(algorithm, seed=3), make_agent(algorithm, seed=3)
    expected = [first.get_action(OBSERVATION, 0.9) for _ in range(40)]
    assert len(set(expected)) > 1
    state = torch.get_rng_state()
    drawn = []
    for _ in range(40):
        np.random.rand()  # noqa: NPY002 - the generator that must not matter
        drawn.append(second.get_action(OBSERVATION, 0.9))
    assert drawn == expected
    assert torch.equal(torch.get_rng_state(), state)


def test_seeds_decide_what_random_does(make_agent):
    agents = [make_agent("random", seed=seed) for seed in (1, 2)]
    first, second = ([agent.get_action(OBSERVATION) for _ in range(40)] for agent in agents)
    assert first != second


def test_random_learns_nothing_and_reports_nothing(make_agent, make_batch):
    assert make_agent("random").update(*make_batch(7), 1) == {}


# Target networks


@pytest.mark.parametrize("algorithm", LEARNERS)
def test_targets_are_copied_exactly_when_due(make_agent, make_batch, algorithm):
    agent = make_agent(algorithm, target_update_period=3)
    for network, target in target_pairs(agent):
        assert_equal(network, target)
    for step in range(1, 8):
        held = [nn.utils.parameters_to_vector(t.parameters()) for _, t in target_pairs(agent)]
        agent.update(*make_batch(7, seed=step), step)
        for (network, target), before in zip(target_pairs(agent), held, strict=True):
            if step % 3 == 0:
                assert_equal(network, target)
            else:
                assert torch.equal(nn.utils.parameters_to_vector(target.parameters()), before)
                assert not torch.equal(nn.utils.parameters_to_vector(network.parameters()), before)


def target_pairs(agent):
    """Returns networks with their lagging copies, by the names that the homework gives them."""
    lagging = [name for name, _ in agent.named_children() if name.startswith("target_")]
    assert lagging
    return [(getattr(agent, x.removeprefix("target_")), getattr(agent, x)) for x in lagging]


def assert_equal(network, copy):
    ours, theirs = (nn.utils.parameters_to_vector(n.parameters()) for n in (network, copy))
    assert torch.equal(ours, theirs)
    assert all(a is not b for a, b in zip(network.parameters(), copy.parameters(), strict=True))


def test_iql_keeps_no_network_that_nothing_reads(make_agent):
    names = {name for name, _ in make_agent("iql").named_children()}
    assert names >= {"critic", "actor", "value_critic", "target_value_critic"}
    assert "target_critic" not in names


@pytest.mark.parametrize(
    ("algorithm", "method", "source", "target"),
    [
        ("awac", "update_target_critic", "critic", "target_critic"),
        ("iql", "update_target_value_critic", "value_critic", "target_value_critic"),
    ],
)
def test_targets_are_copied_on_demand(make_agent, algorithm, method, source, target):
    agent = make_agent(algorithm)
    prefer(getattr(agent, source).net, *[1.0] * (5 if source == "critic" else 1))
    getattr(agent, method)()
    assert_equal(getattr(agent, source), getattr(agent, target))


# Updates

TAGS = {
    "dqn": {"critic_loss", "q_values", "target_values", "grad_norm"},
    "cql": {"critic_loss", "q_values", "target_values", "grad_norm"},
    "awac": {"critic_loss", "q_values", "target_values", "grad_norm", "actor_loss"},
    "iql": {
        *("q_loss", "v_loss", "actor_loss", "q_values", "target_values", "vs", "vs_adv"),
        *("q_grad_norm", "v_grad_norm"),
    },
    "rnd": {"critic_loss", "q_values", "target_values", "grad_norm", "rnd_loss"},
}


@pytest.mark.parametrize("algorithm", LEARNERS)
def test_an_update_reports_scalar_tensors_under_the_agreed_tags(make_agent, make_batch, algorithm):
    metrics = make_agent(algorithm).update(*make_batch(7), 1)
    assert metrics.keys() >= TAGS[algorithm]
    for value in metrics.values():
        assert value.shape == ()
        assert not value.requires_grad
        assert torch.isfinite(value)


@pytest.mark.parametrize("algorithm", LEARNERS)
def test_an_update_moves_every_trained_network(make_agent, make_batch, algorithm):
    agent = make_agent(algorithm)
    networks = [objective.network for objective in agent.objectives]
    before = [nn.utils.parameters_to_vector(n.parameters()).clone() for n in networks]
    agent.update(*make_batch(7), 1)
    for network, was in zip(networks, before, strict=True):
        assert (nn.utils.parameters_to_vector(network.parameters()) != was).any()


@pytest.mark.parametrize("algorithm", ["dqn", "cql", "awac", "iql"])
def test_learning_finds_the_value_of_a_bandit(make_agent, algorithm):
    agent = make_agent(algorithm, learning_rate=0.01, discount=0.0, hidden_size=32)
    if algorithm == "cql":
        agent.cql_alpha.zero_()
    rng = np.random.default_rng(0)
    rewards = torch.tensor([-1.0, 0.5, 0.0, -0.5, 2.0])
    for step in range(1, 301):
        actions = torch.tensor(rng.integers(0, 5, 64))
        observations = torch.tensor(rng.random((64, 2)), dtype=torch.float32)
        dones = torch.zeros(64, dtype=torch.bool)
        agent.update(observations, actions, rewards[actions], observations, dones, step)
    values = agent.critic(torch.from_numpy(OBSERVATION)[None])[0].detach()
    torch.testing.assert_close(values, rewards, atol=0.15, rtol=0)
    assert agent.get_action(OBSERVATION) == 4


# Random network distillation


def assert_centred_and_stretched(network):
    """Expects a network that maps [0, 1] to [-3, 3] before its first layer."""
    _, *layers = network
    expected = nn.Sequential(*layers)(torch.tensor([[-3.0, 3.0], [0.0, -1.5]]))
    assert torch.equal(network(torch.tensor([[0.0, 1.0], [0.5, 0.25]])), expected)


def test_both_networks_of_rnd_see_observations_centred_and_stretched(make_agent):
    agent = make_agent("rnd", rnd_input_scale=3.0)
    assert_centred_and_stretched(agent.rnd_net)
    assert_centred_and_stretched(agent.rnd_target_net)


def test_critics_and_actors_see_observations_centred_and_stretched(make_agent):
    agent = make_agent("iql", input_scale=3.0)
    for network in (agent.critic, agent.target_value_critic, agent.value_critic):
        assert_centred_and_stretched(network.net)
    assert_centred_and_stretched(agent.actor.logits_net)


def test_only_the_predictor_of_rnd_learns(make_agent, make_batch):
    agent = make_agent("rnd", rnd_learning_rate=1e-2)
    before = nn.utils.parameters_to_vector(agent.rnd_target_net.parameters()).clone()
    batch = make_batch(64)
    losses = [agent.update(*batch, step)["rnd_loss"].item() for step in range(1, 301)]
    after = nn.utils.parameters_to_vector(agent.rnd_target_net.parameters())
    assert torch.equal(before, after)
    assert not any(p.requires_grad for p in agent.rnd_target_net.parameters())
    assert losses[-1] < 0.2 * losses[0]


def test_the_error_falls_where_the_predictor_was_trained_and_stays_elsewhere(make_agent):
    agent = make_agent("rnd", rnd_hidden_size=64, rnd_learning_rate=1e-3)
    seen, unseen = torch.full((1, 2), 0.1), torch.full((1, 2), 0.9)
    before = agent.compute_errors(torch.cat([seen, unseen])).tolist()
    for _ in range(300):
        agent.update_rnd(seen)
    after = agent.compute_errors(torch.cat([seen, unseen])).tolist()
    assert after[0] < 0.01 * before[0]
    assert after[1] > 10 * after[0]


def squared_errors(agent, observations):
    """Sums the squared differences of all features, in float64."""
    predictions = agent.rnd_net(observations).detach().double().numpy()
    truths = agent.rnd_target_net(observations).detach().double().numpy()
    return ((predictions - truths) ** 2).sum(axis=1)


def test_the_bonus_is_the_error_in_deviations_from_the_mean_of_its_batch(make_agent, make_batch):
    agent = make_agent("rnd")
    for step in range(1, 5):
        agent.update(*make_batch(7, seed=step), step)
    later = make_batch(7, seed=9).next_observations
    errors = squared_errors(agent, later)
    expected = (errors - errors.mean()) / np.sqrt(((errors - errors.mean()) ** 2).mean())
    np.testing.assert_allclose(agent.compute_bonus(later), expected, rtol=1e-3, atol=1e-4)


def test_the_exploration_critic_learns_from_reward_plus_weighted_bonus(make_agent, make_batch):
    agent = make_agent("rnd", rnd_weight=2.0, discount=0.0)
    batch = make_batch(50)
    bonus = (e := squared_errors(agent, batch.next_observations)) - e.mean()
    bonus /= e.std()
    q = agent.critic(batch.observations).detach().double().numpy()
    taken = q[np.arange(50), batch.actions]
    targets = batch.rewards.double().numpy() + 2.0 * bonus  # the whole target at discount 0
    metrics = agent.update(*batch, 1)
    assert metrics["critic_loss"].item() == pytest.approx(((taken - targets) ** 2).mean(), rel=1e-4)
    assert metrics["rnd_loss"].item() == pytest.approx(e.mean(), rel=1e-4)


def test_identical_observations_give_a_finite_bonus(make_agent, make_batch):
    agent = make_agent("rnd")
    batch = make_batch(7)
    batch = batch._replace(next_observations=torch.zeros(7, 2))
    for step in (1, 2):
        assert all(torch.isfinite(value) for value in agent.update(*batch, step).values())
    assert torch.isfinite(agent.compute_bonus(batch.next_observations)).all()


class RowsAboveColumns(nn.Module):
    """Errs by 10 at row 1, by 3 at column 1, by their sum at both."""

    def forward(self, observations):
        return 1e-3 + observations @ torch.tensor([[10.0], [3.0]])


class Zero(nn.Module):
    def forward(self, observations):
        return torch.zeros(len(observations), 1)


def test_the_error_map_is_not_mirrored(make_agent):
    agent = make_agent("rnd")
    agent.rnd_net, agent.rnd_target_net = RowsAboveColumns(), Zero()
    figure = Figure()
    axes = [figure.add_subplot() for _ in range(agent.num_aux_plots())]
    agent.plot_aux(axes)
    (image,) = axes[0].images
    left, right, bottom, top = image.get_extent()
    assert (left, right, bottom, top) == (0, 1, 1, 0)
    to_display = axes[0].transData.transform
    assert to_display((0.5, 0.9))[1] < to_display((0.5, 0.1))[1]  # y runs down
    for row, column in [(0.105, 0.905), (0.905, 0.105), (0.5, 0.5)]:
        x, y = to_display((column, row))
        shown = image.get_cursor_data(type("Event", (), {"x": x, "y": y})())
        assert shown == pytest.approx((10 * row + 3 * column) ** 2, rel=0.05)


# Signatures of the assignment

DQN_ARGUMENTS = [
    *("observation_shape", "num_actions", "make_critic", "make_optimizer", "make_lr_schedule"),
    *("discount", "target_update_period", "use_double_q", "clip_grad_norm"),
]
METHODS = {
    (DQNAgent, "get_action"): ["observation", "epsilon"],
    (DQNAgent, "compute_critic_loss"): ["obs", "action", "reward", "next_obs", "done"],
    (DQNAgent, "update_critic"): ["obs", "action", "reward", "next_obs", "done"],
    (DQNAgent, "update_target_critic"): [],
    (AWACAgent, "compute_advantage"): ["observations", "actions", "action_dist"],
    (AWACAgent, "update_actor"): ["observations", "actions"],
    (IQLAgent, "update_v"): ["observations", "actions"],
    (IQLAgent, "update_target_value_critic"): [],
    (IQLAgent, "iql_expectile_loss"): ["expectile", "vs", "target_qs"],
    (RNDAgent, "update_rnd"): ["obs"],
    (RNDAgent, "num_aux_plots"): [],
    (RNDAgent, "plot_aux"): ["axes"],
    **{
        (agent, "update"): [
            *("observations", "actions", "rewards", "next_observations", "dones", "step")
        ]
        for agent in (RandomAgent, DQNAgent, CQLAgent, AWACAgent, IQLAgent, RNDAgent)
    },
    (IQLAgent, "update_q"): [*("observations", "actions", "rewards", "next_observations", "dones")],
}


@pytest.mark.parametrize(("owner", "name"), METHODS)
def test_methods_take_the_arguments_of_the_assignment(owner, name):
    parameters = list(inspect.signature(getattr(owner, name)).parameters)
    assert [p for p in parameters if p != "self"] == METHODS[owner, name]


def test_dqn_takes_its_arguments_in_the_agreed_order():
    parameters = inspect.signature(DQNAgent).parameters
    assert list(parameters) == DQN_ARGUMENTS
    assert parameters["use_double_q"].default is False
    assert parameters["clip_grad_norm"].default is None


def test_epsilon_is_0_by_default():
    for agent in (RandomAgent, DQNAgent, AWACAgent):
        assert inspect.signature(agent.get_action).parameters["epsilon"].default == 0.0


def adam(parameters):
    return torch.optim.Adam(parameters, lr=1e-3)


def make_critic(observation_shape, num_actions):
    return StateActionCritic(observation_shape, num_actions, num_layers=1, hidden_size=4)


def make_actor(observation_shape, num_actions):
    return MLPPolicy(num_actions, *observation_shape, discrete=True, n_layers=1, layer_size=4)


def make_value_critic(observation_shape):
    return ValueCritic(observation_shape, num_layers=1, hidden_size=4)


def make_rnd_network(observation_shape):
    return nn.Linear(*observation_shape, 3)


DQN = {
    "make_critic": make_critic,
    "make_optimizer": adam,
    "make_lr_schedule": lambda optimizer: torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0),
    "discount": 0.9,
    "target_update_period": 2,
}
AWAC = {"make_actor": make_actor, "make_actor_optimizer": adam, "temperature": 0.5, **DQN}
IQL = {
    "make_value_critic": make_value_critic,
    "make_value_critic_optimizer": adam,
    "expectile": 0.8,
    **AWAC,
}
RND = {
    "make_rnd_network": make_rnd_network,
    "make_rnd_network_optimizer": adam,
    "make_target_rnd_network": make_rnd_network,
    "rnd_weight": 1.0,
    **DQN,
}


@pytest.mark.parametrize(
    ("agent_class", "arguments"),
    [
        (RandomAgent, {}),
        (DQNAgent, DQN),
        (CQLAgent, {"cql_alpha": 0.1, **DQN}),
        (CQLAgent, {"cql_alpha": 0.1, "cql_temperature": 2.0, "use_double_q": True, **DQN}),
        (AWACAgent, AWAC),
        (IQLAgent, IQL),
        (RNDAgent, {"clip_grad_norm": 1.0, **RND}),
    ],
)
def test_agents_are_built_by_keyword_as_the_assignment_does(make_batch, agent_class, arguments):
    agent = agent_class(observation_shape=(2,), num_actions=5, **arguments)
    agent.update(*make_batch(7), 2)
    assert agent.get_action(OBSERVATION, epsilon=0.3) in range(5)


@pytest.mark.parametrize("algorithm", LEARNERS)
def test_a_critic_loss_comes_with_its_metrics_and_values(make_agent, make_batch, algorithm):
    loss, metrics, variables = make_agent(algorithm).compute_critic_loss(*make_batch(7))
    assert loss.shape == ()
    assert loss.requires_grad
    assert {"q_values", "target_values"} <= metrics.keys()
    assert {name: tuple(value.shape) for name, value in variables.items()} == {
        "qa_values": (7, 5),
        "q_values": (7,),
    }


def test_a_policy_returns_a_categorical_distribution(make_agent, make_batch):
    distribution = make_agent("awac").actor(make_batch(7).observations)
    assert isinstance(distribution, Categorical)
    assert distribution.probs.shape == (7, 5)
    torch.testing.assert_close(distribution.probs.sum(-1), torch.ones(7))
