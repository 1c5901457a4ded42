"""Losses, targets and gradients of the five learners against formulas written out by hand.

The formulas below are plain loops over NumPy arrays in float64, with forward passes by matrix
products and gradients by central differences; nothing is shared with the code under test.
"""

import math
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from cs285.agents.awac_agent import MAX_WEIGHT
from cs285.agents.iql_agent import IQLAgent
from cs285.env_configs.loading import load_config
from cs285.learning.objective import Batch
from cs285.networks.critics import ValueCritic

EXPERIMENTS = Path(__file__).parent.parent / "experiments"
ACTOR_FILES = sorted(
    path for name in ("awac", "iql") for path in EXPERIMENTS.glob(f"*/pointmass_*_{name}*.yaml")
)

DISCOUNT = 0.8
ACTIONS = [0, 4, 2, 2, 1, 3, 0]
DONES = [False, True, False, False, True, False, False]
SIZE = len(ACTIONS)


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    return Batch(
        observations=torch.tensor(rng.random((SIZE, 2)), dtype=torch.float32),
        actions=torch.tensor(ACTIONS),
        rewards=torch.tensor(rng.normal(size=SIZE), dtype=torch.float32),
        next_observations=torch.tensor(rng.random((SIZE, 2)), dtype=torch.float32),
        dones=torch.tensor(DONES),
    )


@pytest.fixture
def scrambled(make_agent):
    """Builds an agent whose networks, targets included, are all different and far from flat."""

    def make(algorithm, seed=1, **values):
        agent = make_agent(algorithm, discount=DISCOUNT, **values)
        for name, parameter in agent.named_parameters():
            # By name, so that no network's numbers depend on which others there are.
            generator = torch.Generator().manual_seed(zlib.crc32(f"{seed} {name}".encode()))
            nn.init.normal_(parameter, generator=generator)
        return agent

    return make


# Formulas


def weights_of(network):
    """Copies a perceptron's weights and biases, in order."""
    return [parameter.detach().double().numpy().copy() for parameter in network.parameters()]


def forward(weights, x):
    """Evaluates a perceptron with tanh layers and a linear output."""
    x = np.asarray(x, dtype=np.float64)
    for i in range(0, len(weights), 2):
        x = weights[i] @ x + weights[i + 1]
        if i + 2 < len(weights):
            x = np.tanh(x)
    return x


def softmax(logits):
    exponentials = np.exp(logits - logits.max())
    return exponentials / exponentials.sum()


def numerical_gradient(function, weights, epsilon=1e-6):
    """Differentiates `function(weights)` by central differences."""
    gradient = [np.zeros_like(w) for w in weights]
    for values, slopes in zip(weights, gradient, strict=True):
        for index in np.ndindex(values.shape):
            original = values[index]
            values[index] = original + epsilon
            above = function(weights)
            values[index] = original - epsilon
            below = function(weights)
            values[index] = original
            slopes[index] = (above - below) / (2 * epsilon)
    return gradient


def rows(batch):
    """Yields transitions as (s, a, r, s', terminated)."""
    return zip(*(field.numpy() for field in batch), strict=True)


def dqn_targets(agent, batch, *, double, bonus=None):
    online, target = weights_of(agent.critic), weights_of(agent.target_critic)
    targets = []
    for i, (_, _, reward, following, terminated) in enumerate(rows(batch)):
        chooser = forward(online if double else target, following)
        best = max(range(5), key=lambda action, values=chooser: values[action])
        future = 0.0 if terminated else DISCOUNT * forward(target, following)[best]
        targets.append(reward + (0.0 if bonus is None else bonus[i]) + future)
    return targets


def awac_targets(agent, batch):
    actor, target = weights_of(agent.actor), weights_of(agent.target_critic)
    targets = []
    for _, _, reward, following, terminated in rows(batch):
        expectation = 0.0
        for action in range(5):
            probability = softmax(forward(actor, following))[action]
            expectation += probability * forward(target, following)[action]
        targets.append(reward + (0.0 if terminated else DISCOUNT * expectation))
    return targets


def iql_targets(agent, batch):
    target = weights_of(agent.target_value_critic)
    return [
        reward + (0.0 if terminated else DISCOUNT * forward(target, following)[0])
        for _, _, reward, following, terminated in rows(batch)
    ]


def squared_error(batch, targets):
    """Makes the mean of (Q(s, a) - y)^2 as a function of Q's weights."""

    def loss(weights):
        terms = [
            (forward(weights, s)[a] - y) ** 2
            for (s, a, *_), y in zip(rows(batch), targets, strict=True)
        ]
        return sum(terms) / SIZE

    return loss


def conservative_loss(batch, targets, alpha, temperature):
    def loss(weights):
        penalty = 0.0
        for s, a, *_ in rows(batch):
            q = forward(weights, s)
            soft_maximum = temperature * math.log(sum(math.exp(v / temperature) for v in q))
            penalty += soft_maximum - q[a]
        return squared_error(batch, targets)(weights) + alpha * penalty / SIZE

    return loss


def cloning_loss(batch, advantages, temperature):
    """Makes -mean log pi(a|s) exp(A / lambda) as a function of the actor's weights."""

    def loss(weights):
        total = 0.0
        for (s, a, *_), advantage in zip(rows(batch), advantages, strict=True):
            weight = min(math.exp(advantage / temperature), MAX_WEIGHT)
            total += weight * math.log(softmax(forward(weights, s))[a])
        return -total / SIZE

    return loss


def awac_advantages(agent, batch):
    critic, actor = weights_of(agent.critic), weights_of(agent.actor)
    advantages = []
    for s, a, *_ in rows(batch):
        q, pi = forward(critic, s), softmax(forward(actor, s))
        advantages.append(q[a] - sum(pi[b] * q[b] for b in range(5)))
    return advantages


def iql_advantages(agent, batch):
    critic, value = weights_of(agent.critic), weights_of(agent.value_critic)
    return [forward(critic, s)[a] - forward(value, s)[0] for s, a, *_ in rows(batch)]


def expectile_regression(agent, batch, expectile):
    """Makes mean |tau - 1{u < 0}| u^2 as a function of V's weights."""
    critic = weights_of(agent.critic)

    def loss(weights):
        total = 0.0
        for s, a, *_ in rows(batch):
            u = forward(critic, s)[a] - forward(weights, s)[0]
            total += abs(expectile - (1 if u < 0 else 0)) * u**2
        return total / SIZE

    return loss


def prediction_errors(agent, batch, weights=None):
    predictor, target = weights or weights_of(agent.rnd_net), weights_of(agent.rnd_target_net)
    scale = agent.rnd_net[0].scale
    inputs = [(2 * following - 1) * scale for _, _, _, following, _ in rows(batch)]
    return np.array([sum((forward(predictor, x) - forward(target, x)) ** 2) for x in inputs])


# Comparison


def check(agent, loss_tag, batch, expected_loss):
    """Compares the loss of one objective and its gradient, which must not reach other networks."""
    (objective,) = (o for o in agent.objectives if o.loss_tag == loss_tag)
    agent.zero_grad(set_to_none=True)
    loss, metrics, *_ = objective.loss(*(getattr(batch, name) for name in objective.inputs))
    loss.backward()

    trained = weights_of(objective.network)
    assert loss.item() == pytest.approx(expected_loss(trained), rel=1e-5)
    gradients = numerical_gradient(expected_loss, trained)
    scale = max(abs(gradient).max() for gradient in gradients)
    for parameter, gradient in zip(objective.network.parameters(), gradients, strict=True):
        np.testing.assert_allclose(parameter.grad, gradient, rtol=1e-3, atol=1e-5 * scale)
    own = set(objective.network.parameters())
    assert all(p.grad is None for p in agent.parameters() if p not in own)
    return metrics


@pytest.mark.parametrize("double", [True, False])
def test_dqn(scrambled, batch, double):
    agent = scrambled("dqn", use_double_q=double)
    targets = dqn_targets(agent, batch, double=double)
    metrics = check(agent, "critic_loss", batch, squared_error(batch, targets))
    taken = [forward(weights_of(agent.critic), s)[a] for s, a, *_ in rows(batch)]
    assert metrics["target_values"].item() == pytest.approx(np.mean(targets), rel=1e-5)
    assert metrics["q_values"].item() == pytest.approx(np.mean(taken), rel=1e-5)


def test_double_and_single_targets_differ_on_this_batch(scrambled, batch):
    agent = scrambled("dqn")
    single, double = (np.array(dqn_targets(agent, batch, double=d)) for d in (False, True))
    assert (single - double).max() > 0.1  # else the two cases above would test the same thing


def test_a_terminated_transition_is_worth_its_reward(scrambled, batch):
    for algorithm in ("dqn", "cql", "awac", "iql"):
        agent = scrambled(algorithm)
        ended = batch._replace(dones=torch.ones(SIZE, dtype=torch.bool))
        _, metrics, _ = agent.compute_critic_loss(*ended)
        torch.testing.assert_close(metrics["target_values"], batch.rewards.mean())


@pytest.mark.parametrize(("alpha", "temperature"), [(0.7, 1.0), (3.0, 0.4), (0.5, 5.0)])
def test_cql(scrambled, batch, alpha, temperature):
    agent = scrambled("cql", cql_alpha=alpha, cql_temperature=temperature)
    targets = dqn_targets(agent, batch, double=True)
    check(agent, "critic_loss", batch, conservative_loss(batch, targets, alpha, temperature))


def test_cql_without_its_term_is_dqn(scrambled, batch):
    agent = scrambled("cql", cql_alpha=0.0, use_double_q=False)
    targets = dqn_targets(agent, batch, double=False)
    check(agent, "critic_loss", batch, squared_error(batch, targets))


def test_awac_critic(scrambled, batch):
    agent = scrambled("awac")
    targets = awac_targets(agent, batch)
    metrics = check(agent, "critic_loss", batch, squared_error(batch, targets))
    assert metrics["target_values"].item() == pytest.approx(np.mean(targets), rel=1e-5)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_awac_actor(scrambled, batch, temperature):
    agent = scrambled("awac", temperature=temperature)
    advantages = awac_advantages(agent, batch)
    check(agent, "actor_loss", batch, cloning_loss(batch, advantages, temperature))
    found = agent.compute_advantage(batch.observations, batch.actions)
    np.testing.assert_allclose(found, advantages, rtol=1e-4, atol=1e-5)


def test_awac_advantage_is_taken_under_the_distribution_that_is_given(scrambled, batch):
    agent, other = scrambled("awac"), scrambled("awac", seed=2)
    found = agent.compute_advantage(
        batch.observations, batch.actions, other.actor(batch.observations)
    )
    agent.actor.load_state_dict(other.actor.state_dict())
    np.testing.assert_allclose(found, awac_advantages(agent, batch), rtol=1e-4, atol=1e-5)


def test_iql_critic(scrambled, batch):
    agent = scrambled("iql")
    targets = iql_targets(agent, batch)
    metrics = check(agent, "q_loss", batch, squared_error(batch, targets))
    assert metrics["target_values"].item() == pytest.approx(np.mean(targets), rel=1e-5)


@pytest.mark.parametrize("expectile", [0.9, 0.5, 0.2])
def test_iql_value(scrambled, batch, expectile):
    agent = scrambled("iql", expectile=expectile)
    metrics = check(agent, "v_loss", batch, expectile_regression(agent, batch, expectile))
    values = [forward(weights_of(agent.value_critic), s)[0] for s, *_ in rows(batch)]
    advantages = iql_advantages(agent, batch)
    assert min(advantages) < 0 < max(advantages)  # both branches of the expectile are met
    assert metrics["vs"].item() == pytest.approx(np.mean(values), rel=1e-5)
    assert metrics["vs_adv"].item() == pytest.approx(-np.mean(advantages), rel=1e-5)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_iql_actor(scrambled, batch, temperature):
    agent = scrambled("iql", temperature=temperature)
    advantages = iql_advantages(agent, batch)
    check(agent, "actor_loss", batch, cloning_loss(batch, advantages, temperature))
    found = agent.compute_advantage(batch.observations, batch.actions)
    np.testing.assert_allclose(found, advantages, rtol=1e-4, atol=1e-5)


def test_expectile_loss_by_hand():
    # Errors 2, -1 and 0 at tau 0.9: (0.9 * 4 + 0.1 * 1 + 0) / 3.
    loss = IQLAgent.iql_expectile_loss(0.9, torch.tensor([1.0, 1, 1]), torch.tensor([3.0, 0, 1]))
    assert loss.item() == pytest.approx(3.7 / 3)


def test_minimising_the_expectile_loss_finds_the_expectile():
    data = torch.arange(5.0)
    # The expectile m solves sum of tau (x - m) over x > m = sum of (1 - tau) (m - x) over x < m:
    # with 3 < m < 4 at tau 0.9, 0.9 (4 - m) = 0.1 (4m - 6), so m = 42 / 13.
    value = torch.tensor(42 / 13, requires_grad=True)
    IQLAgent.iql_expectile_loss(0.9, value.expand(5), data).backward()
    assert value.grad.item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("weight", [0.0, 0.7])
def test_rnd_critic(scrambled, batch, weight):
    agent = scrambled("rnd", rnd_weight=weight)
    errors = np.asarray(prediction_errors(agent, batch))
    deviation = np.sqrt(np.mean((errors - errors.mean()) ** 2))
    bonus = weight * (errors - errors.mean()) / deviation
    targets = dqn_targets(agent, batch, double=True, bonus=bonus)
    metrics = check(agent, "critic_loss", batch, squared_error(batch, targets))
    assert metrics["target_values"].item() == pytest.approx(np.mean(targets), rel=1e-5)


def test_rnd_predictor(scrambled, batch):
    agent = scrambled("rnd")
    check(agent, "rnd_loss", batch, lambda weights: prediction_errors(agent, batch, weights).mean())


# One gradient step, and the methods by which the assignment calls it

STEPS = {
    "update_critic": ("dqn", "critic_loss", "grad_norm"),
    "update_actor": ("awac", "actor_loss", "actor_grad_norm"),
    "update_q": ("iql", "q_loss", "q_grad_norm"),
    "update_v": ("iql", "v_loss", "v_grad_norm"),
    "update_rnd": ("rnd", "rnd_loss", "rnd_grad_norm"),
}


def formula_of(method, agent, batch):
    match method:
        case "update_critic":
            return squared_error(batch, dqn_targets(agent, batch, double=True))
        case "update_actor":
            return cloning_loss(batch, awac_advantages(agent, batch), 0.3)
        case "update_q":
            return squared_error(batch, iql_targets(agent, batch))
        case "update_v":
            return expectile_regression(agent, batch, 0.7)
        case "update_rnd":
            return lambda weights: prediction_errors(agent, batch, weights).mean()


@pytest.mark.parametrize("method", STEPS)
@pytest.mark.parametrize("bound", [None, 0.01])
def test_a_step_goes_down_the_clipped_gradient(scrambled, batch, method, bound):
    algorithm, loss_tag, norm_tag = STEPS[method]
    settings = {"awac": {"temperature": 0.3}, "iql": {"expectile": 0.7}}.get(algorithm, {})
    agent, twin = (scrambled(algorithm, clip_grad_norm=bound, **settings) for _ in range(2))
    (objective,) = (o for o in agent.objectives if o.loss_tag == loss_tag)
    (twins,) = (o for o in twin.objectives if o.loss_tag == loss_tag)
    inputs = [getattr(batch, name) for name in objective.inputs]
    before = weights_of(objective.network)
    formula = formula_of(method, agent, batch)
    gradient = numerical_gradient(formula, before)
    norm = math.sqrt(sum((g**2).sum() for g in gradient))

    metrics = objective.minimise(*inputs)

    assert metrics[loss_tag].item() == pytest.approx(formula(before), rel=1e-5)
    assert metrics[norm_tag].item() == pytest.approx(norm, rel=1e-4)  # before clipping
    factor = 1.0 if bound is None else bound / norm
    assert factor == 1.0 or factor < 0.5  # the bound binds, where there is one
    rate = objective.optimizer.defaults["lr"]
    for was, parameter, g in zip(before, objective.network.parameters(), gradient, strict=True):
        np.testing.assert_allclose(parameter.grad, factor * g, rtol=1e-3, atol=1e-5 * factor * norm)
        # Adam's first step: both moments are the gradient itself once their bias is corrected.
        expected = was - rate * factor * g / (abs(factor * g) + 1e-8)
        clear = abs(g) > 1e-4 * norm
        np.testing.assert_allclose(
            parameter.detach()[torch.from_numpy(clear)], expected[clear], atol=1e-2 * rate
        )

    getattr(twin, method)(*inputs)
    for ours, theirs in zip(weights_of(objective.network), weights_of(twins.network), strict=True):
        np.testing.assert_array_equal(ours, theirs)


# Traps


def test_weights_are_capped_rather_than_infinite(scrambled, batch):
    for algorithm in ("awac", "iql"):
        agent = scrambled(algorithm, temperature=1e-3)
        loss, metrics = agent.compute_actor_loss(batch.observations, batch.actions)
        advantages = agent.compute_advantage(batch.observations, batch.actions)
        capped = (advantages > 1e-2).sum().item()
        assert capped > 0
        assert math.isfinite(loss.item())
        assert metrics["actor_weight"].item() == pytest.approx(capped * MAX_WEIGHT / SIZE)


def test_state_values_are_columns_that_iql_squeezes_once():
    network = ValueCritic((2,), num_layers=1, hidden_size=4)
    states = torch.rand(SIZE, 2)
    columns = network(states)
    assert columns.shape == (SIZE, 1)
    assert torch.equal(IQLAgent.state_values(network, states), columns[:, 0])


def test_losses_refuse_columns_where_vectors_belong(scrambled, batch):
    column = batch._replace(rewards=batch.rewards[:, None])
    for algorithm in ("dqn", "cql", "awac", "iql"):
        with pytest.raises(AssertionError):
            scrambled(algorithm).compute_critic_loss(*column)
    with pytest.raises(AssertionError):
        scrambled("rnd").compute_exploration_loss(*column)
    with pytest.raises(AssertionError):
        IQLAgent.iql_expectile_loss(0.9, torch.zeros(SIZE, 1), torch.zeros(SIZE))


class TwoValues(nn.Module):
    """A state-value network with one output too many."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, observations):
        return self.layer(observations)


def test_iql_refuses_a_value_network_of_two_outputs(scrambled, batch):
    agent = scrambled("iql")
    agent.value_critic = agent.target_value_critic = TwoValues()
    with pytest.raises((AssertionError, RuntimeError)):
        agent.compute_critic_loss(*batch)
    with pytest.raises((AssertionError, RuntimeError)):
        agent.compute_value_loss(batch.observations, batch.actions)
    with pytest.raises((AssertionError, RuntimeError)):
        agent.compute_advantage(batch.observations, batch.actions)


@pytest.mark.parametrize("path", ACTOR_FILES, ids=lambda path: path.stem)
def test_the_temperatures_of_the_experiments_separate_good_actions_from_bad(path):
    temperature = load_config(path, path.parent.name).temperature
    # Advantages are fractions of one step's reward: a tenth better must clearly count for more.
    assert math.exp(0.1 / temperature) > 2


def test_there_are_experiments_with_actors():
    assert len(ACTOR_FILES) >= 8
