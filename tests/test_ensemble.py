"""Many runs as one program: each learns and acts as if it were alone."""

import numpy as np
import pytest
import torch
from torch import nn

from cs285.agents.cql_agent import CQLAgent
from cs285.learning.agent import Agent
from cs285.learning.agent_loop import AgentLoop
from cs285.learning.backends import choose_backend
from cs285.learning.ensemble import Ensemble
from cs285.learning.learner import is_stackable, make_learner, stacking_obstacle
from cs285.learning.objective import Batch, Objective

SETTINGS = {
    "dqn": {"discount": [0.9, 0.95, 0.99]},
    "cql": {"cql_alpha": [0.0, 0.5, 5.0], "cql_temperature": [1.0, 0.5, 2.0]},
    "awac": {"temperature": [0.05, 0.3, 2.0], "discount": [0.8, 0.95, 0.99]},
    "iql": {"expectile": [0.6, 0.9, 0.95], "temperature": [0.1, 1.0, 3.0]},
    "rnd": {"rnd_weight": [0.5, 1.0, 10.0], "discount": [0.9, 0.95, 0.99]},
}
"""What differs between the three runs of an algorithm, apart from their seeds."""

UPDATES = 100
SIZE = 32
TOLERANCE = 1e-4
"""Rounding comes to about 1e-6 in any weight after 200 updates, to 2e-5 if it tips the argmax of
two nearly equal values; what a run learns is hundreds of times this."""


@pytest.fixture
def make_runs(make_agent):
    """Builds three agents that differ in seed and scalars; the same ones at every call."""

    def make(algorithm, **values):
        return [
            make_agent(
                algorithm,
                seed=run + 1,
                target_update_period=30,
                **{name: options[run] for name, options in SETTINGS[algorithm].items()},
                **values,
            )
            for run in range(3)
        ]

    return make


@pytest.fixture
def make_batches(make_batch):
    return lambda count: [make_batch(3, SIZE, seed=step) for step in range(count)]


def own(batch, run):
    return Batch(*(field[run] for field in batch))


def state_of(agent):
    return {name: value.detach().clone() for name, value in agent.state_dict().items()}


def target_pairs(agent):
    """Returns networks with their lagging copies, by the names that the homework gives them."""
    names = [name for name, _ in agent.named_children() if name.startswith("target_")]
    return [
        (agent.get_submodule(name.removeprefix("target_")), agent.get_submodule(name))
        for name in names
    ]


def assert_same_state(agent, expected, tolerance=TOLERANCE):
    for name, value in agent.state_dict().items():
        torch.testing.assert_close(value, expected[name], atol=tolerance, rtol=tolerance)


# Learning


@pytest.mark.parametrize("algorithm", SETTINGS)
@pytest.mark.parametrize("bound", [None, 0.05])
def test_a_run_with_others_learns_what_it_learns_alone(make_runs, make_batches, algorithm, bound):
    together, alone = (make_runs(algorithm, clip_grad_norm=bound) for _ in range(2))
    initial = [state_of(agent) for agent in alone]
    learner = make_learner(together)
    assert isinstance(learner, Ensemble)
    for step, batch in enumerate(make_batches(UPDATES), start=1):
        metrics = learner.update(batch, step)
        for run, agent in enumerate(alone):
            expected = agent.update(*own(batch, run), step)
            assert metrics.keys() >= expected.keys()
            for tag, value in expected.items() if step <= 20 else ():
                torch.testing.assert_close(metrics[tag][run], value, atol=1e-4, rtol=1e-4)
    learner.sync_agents()
    for run, agent in enumerate(learner.agents):
        assert_same_state(agent, state_of(alone[run]))
        moved = agent.critic.state_dict()["net.0.weight"] - initial[run]["critic.net.0.weight"]
        assert moved.abs().max() > 100 * TOLERANCE


@pytest.mark.parametrize("algorithm", SETTINGS)
def test_a_program_of_one_run_learns_what_its_agent_learns(make_runs, make_batches, algorithm):
    together, alone = make_runs(algorithm)[1], make_runs(algorithm)[1]
    learner = make_learner([together])
    for step, batch in enumerate(make_batches(50), start=1):
        learner.update(Batch(*(field[1:2] for field in batch)), step)
        alone.update(*own(batch, 1), step)
    learner.sync_agents()
    assert_same_state(together, state_of(alone))


def test_runs_that_differ_in_their_scalars_alone_learn_different_things(make_agent, make_batch):
    agents = [make_agent("cql", cql_alpha=alpha) for alpha in (0.0, 1.0)]
    learner = make_learner(agents)
    batch = make_batch(1, SIZE)
    for step in range(1, 20):
        learner.update(Batch(*(field.repeat(2, *[1] * (field.dim() - 1)) for field in batch)), step)
    learner.sync_agents()
    vectors = [nn.utils.parameters_to_vector(agent.critic.parameters()) for agent in agents]
    assert (vectors[0] - vectors[1]).abs().max() > 0.01


@pytest.mark.parametrize("algorithm", SETTINGS)
def test_targets_are_copied_when_due_and_only_then(make_runs, make_batches, algorithm):
    learner = make_learner(make_runs(algorithm))
    targets = [pair for agent in learner.agents for pair in target_pairs(agent)]
    assert len(targets) == 3

    def copied():
        learner.sync_agents()
        return [
            torch.equal(*(nn.utils.parameters_to_vector(n.parameters()) for n in pair))
            for pair in targets
        ]

    batches = make_batches(31)
    for step in range(1, 30):
        learner.update(batches[step], step)
    assert not any(copied())
    learner.update(batches[30], 30)
    assert all(copied())
    learner.update(batches[0], 31)
    assert not any(copied())


# Optimisers


class Bowl(Agent):
    """Minimises the sum of curvature / 2 * w^2 over four directions, whatever the batch."""

    stackable = True
    num_actions = 5

    def __init__(self, start, make_optimizer, make_schedule=None, bound=None):
        super().__init__()
        self.register_buffer("curvature", torch.tensor([1.0, 10.0, 0.1, 3.0]))
        self.network = nn.Linear(4, 1, bias=False)
        nn.init.constant_(self.network.weight, start)
        self.optimizer = make_optimizer(self.network.parameters())
        self.schedule = make_schedule and make_schedule(self.optimizer)
        self.bound = bound

    def action_probabilities(self, observations, epsilon):
        return observations.new_full((len(observations), 5), 0.2)

    def loss(self, observations):
        return (self.curvature * self.network.weight[0].square()).sum() / 2, {}

    @property
    def objectives(self):
        return (
            Objective(
                loss_tag="loss",
                grad_norm_tag="norm",
                loss=self.loss,
                inputs=("observations",),
                network=self.network,
                optimizer=self.optimizer,
                lr_scheduler=self.schedule,
                clip_grad_norm=self.bound,
            ),
        )


CURVATURE = np.array([1.0, 10.0, 0.1, 3.0])


STARTS = (2.0, -1.0, 0.3)


def train_bowls(batch, steps=60, **arguments):
    bowls = [Bowl(start, **arguments) for start in STARTS]
    learner = make_learner(bowls)
    for step in range(1, steps + 1):
        learner.update(batch, step)
    learner.sync_agents()
    return learner, [bowl.network.weight[0].detach().numpy() for bowl in bowls]


def adam_by_hand(start, steps, rates, betas=(0.9, 0.999), eps=1e-8, bound=np.inf, decay=0.0):
    """Minimises the bowl by Kingma and Ba 2015, algorithm 1; also counts clipped steps."""
    w, first, second, clipped = np.full(4, start), np.zeros(4), np.zeros(4), 0
    for step in range(1, steps + 1):
        gradient = CURVATURE * w
        norm = np.sqrt((gradient**2).sum())
        clipped += norm > bound
        gradient = gradient * min(1.0, bound / norm) + decay * w
        first = betas[0] * first + (1 - betas[0]) * gradient
        second = betas[1] * second + (1 - betas[1]) * gradient**2
        mean, variance = first / (1 - betas[0] ** step), second / (1 - betas[1] ** step)
        w = w - rates(step) * mean / (np.sqrt(variance) + eps)
    return w, clipped


@pytest.mark.parametrize(("betas", "eps"), [((0.9, 0.999), 1e-8), ((0.5, 0.9), 1e-3)])
def test_adam_on_stacked_runs_is_adam_on_each(make_batch, betas, eps):
    learner, found = train_bowls(
        make_batch(3, 1),
        make_optimizer=lambda p: torch.optim.Adam(p, lr=0.02, betas=betas, eps=eps),
    )
    assert isinstance(learner, Ensemble)
    for start, weights in zip(STARTS, found, strict=True):
        expected, _ = adam_by_hand(start, 60, lambda step: 0.02, betas, eps)
        np.testing.assert_allclose(weights, expected, atol=1e-5)


def test_clipping_bounds_the_gradient_of_each_run_by_itself(make_batch):
    learner, found = train_bowls(
        make_batch(3, 1),
        # So large an eps makes a step depend on the gradient's length, not on its sign alone.
        make_optimizer=lambda p: torch.optim.Adam(p, lr=0.5, eps=10.0),
        bound=5.0,
    )
    assert isinstance(learner, Ensemble)
    for start, weights in zip(STARTS, found, strict=True):
        expected, clipped = adam_by_hand(start, 60, lambda step: 0.5, eps=10.0, bound=5.0)
        assert (clipped > 0) == (abs(start) >= 1)  # two runs are clipped, one never is
        np.testing.assert_allclose(weights, expected, atol=1e-5)


@pytest.mark.parametrize("gamma", [0.5, 0.9])
def test_a_learning_rate_schedule_is_followed(make_batch, gamma):
    learner, found = train_bowls(
        make_batch(3, 1),
        make_optimizer=lambda p: torch.optim.Adam(p, lr=0.1),
        make_schedule=lambda o: torch.optim.lr_scheduler.ExponentialLR(o, gamma),
    )
    assert isinstance(learner, Ensemble)
    for start, weights in zip(STARTS, found, strict=True):
        expected, _ = adam_by_hand(start, 60, lambda step: 0.1 * gamma ** (step - 1))
        np.testing.assert_allclose(weights, expected, atol=1e-5)


@pytest.mark.parametrize("compiles", [False, True])
def test_every_run_has_its_own_learning_rate_and_schedule(make_batch, compiles):
    rates, gammas = (0.1, 0.02, 0.3), (0.9, 1.0, 0.5)
    bowls = [
        Bowl(
            start,
            make_optimizer=lambda p, lr=rate: torch.optim.Adam(p, lr=lr),
            make_schedule=lambda o, gamma=gamma: torch.optim.lr_scheduler.ExponentialLR(o, gamma),
        )
        for start, rate, gamma in zip(STARTS, rates, gammas, strict=True)
    ]
    learner = Ensemble(bowls, choose_backend("on" if compiles else "off"))
    for step in range(1, 31):
        learner.update(make_batch(3, 1), step)
    learner.sync_agents()
    for bowl, start, rate, gamma in zip(bowls, STARTS, rates, gammas, strict=True):
        expected, _ = adam_by_hand(start, 30, lambda k, r=rate, g=gamma: r * g ** (k - 1))
        np.testing.assert_allclose(bowl.network.weight[0].detach(), expected, atol=1e-5)


@pytest.mark.parametrize("compiles", [False, True])
def test_a_learning_rate_that_falls_in_steps_is_followed_within_stretches(make_batch, compiles):
    rates, factors, period = (0.1, 0.02, 0.3), (0.5, 0.9, 0.7), 7
    bowls = [
        Bowl(
            start,
            make_optimizer=lambda p, lr=rate: torch.optim.Adam(p, lr=lr),
            make_schedule=lambda o, k=factor: torch.optim.lr_scheduler.StepLR(o, period, k),
        )
        for start, rate, factor in zip(STARTS, rates, factors, strict=True)
    ]
    learner = Ensemble(bowls, choose_backend("on" if compiles else "off"))
    columns = {"observations": make_batch(3, 1).observations.flatten(0, 1)}
    done = 0
    for count in (5, 16, 1, 18):  # stretches that begin and end anywhere
        rows = np.tile(np.arange(3).reshape(1, 3, 1), (count, 1, 1))
        learner.learn(columns, rows, done + 1)
        done += count
    learner.sync_agents()
    for bowl, start, rate, factor in zip(bowls, STARTS, rates, factors, strict=True):
        expected, _ = adam_by_hand(start, 40, lambda k, r=rate, f=factor: r * f ** ((k - 1) // 7))
        np.testing.assert_allclose(bowl.network.weight[0].detach(), expected, atol=1e-5)


def test_weight_decay_is_not_lost(make_batch):
    _, found = train_bowls(
        make_batch(3, 1),
        make_optimizer=lambda p: torch.optim.Adam(p, lr=0.02, eps=1e-3, weight_decay=0.5),
    )
    for start, weights in zip(STARTS, found, strict=True):
        expected, _ = adam_by_hand(start, 60, lambda step: 0.02, eps=1e-3, decay=0.5)
        np.testing.assert_allclose(weights, expected, atol=1e-5)


def test_another_optimiser_is_not_taken_for_adam(make_batch):
    _, found = train_bowls(
        make_batch(3, 1),
        make_optimizer=lambda p: torch.optim.SGD(p, lr=0.05),
        make_schedule=lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.9),
        steps=25,
    )
    for start, weights in zip(STARTS, found, strict=True):
        w = np.full(4, start)
        for step in range(25):
            w = w - 0.05 * 0.9**step * CURVATURE * w
        np.testing.assert_allclose(weights, w, atol=1e-5)


@pytest.mark.parametrize(
    ("make_optimizer", "said"),
    [
        (lambda p: torch.optim.SGD(p, lr=0.1), "loss is SGD,"),
        (lambda p: torch.optim.Adam(p, weight_decay=0.1), "loss is Adam with weight_decay,"),
        (torch.optim.AdamW, "loss is AdamW with weight_decay,"),
    ],
)
def test_an_optimiser_that_cannot_be_stacked_is_named(make_optimizer, said):
    agent = Bowl(1.0, make_optimizer)
    assert not is_stackable(agent)
    assert said in stacking_obstacle(agent)
    assert "one by one, uncompiled" in stacking_obstacle(agent)


def test_plain_adam_and_unknown_classes_give_no_warning(make_agent):
    class Childs(Bowl):
        """A student's."""

    assert stacking_obstacle(Bowl(1.0, torch.optim.Adam)) is None
    assert stacking_obstacle(Childs(1.0, torch.optim.AdamW)) is None
    assert stacking_obstacle(make_agent("random")) is None


# Acting


@pytest.mark.parametrize("algorithm", SETTINGS)
def test_acting_follows_each_agents_own_distribution(make_agent, algorithm):
    agents = [make_agent(algorithm, seed=seed) for seed in (1, 2, 3)]
    epsilon = np.array([0.0, 0.3, 1.0])
    count = 1000
    observation = np.random.default_rng(0).random((3, 1, 2), np.float32)
    uniforms = np.tile((np.arange(count) + 0.5) / count, (3, 1))
    actions = make_learner(agents).act(np.repeat(observation, count, 1), epsilon, uniforms)
    assert actions.shape == (3, count)
    for run, agent in enumerate(agents):
        expected = agent.action_probabilities(
            torch.from_numpy(observation[run]), torch.tensor(epsilon[run], dtype=torch.float32)
        )[0]
        # An even grid of uniform numbers hits each action in proportion, up to one grid cell.
        found = np.bincount(actions[run], minlength=5) / count
        np.testing.assert_allclose(found, expected.detach(), atol=1.5 / count)


@pytest.mark.parametrize("algorithm", SETTINGS)
def test_acting_without_epsilon_is_deterministic(make_runs, algorithm):
    agents = make_runs(algorithm)
    observations = np.random.default_rng(0).random((3, 4, 2), np.float32)
    learner = make_learner(agents)
    for uniform in (0.0, 0.5, np.nextafter(1.0, 0.0)):
        actions = learner.act(observations, np.zeros(3), np.full((3, 4), uniform))
        assert actions.tolist() == [
            [agent.get_action(observation) for observation in row]
            for agent, row in zip(agents, observations, strict=True)
        ]


@pytest.mark.parametrize("algorithm", ["awac", "iql"])
def test_acting_asks_the_actor_not_the_critic(make_runs, algorithm):
    agents = make_runs(algorithm)
    for run, agent in enumerate(agents):
        with torch.no_grad():
            agent.actor.logits_net[-2].bias[run] += 100
            agent.critic.net[-2].bias[4] += 100
    actions = make_learner(agents).act(
        np.zeros((3, 2, 2), np.float32), np.zeros(3), np.zeros((3, 2))
    )
    assert actions.tolist() == [[0, 0], [1, 1], [2, 2]]


def test_acting_uses_what_was_just_learned(make_agent):
    agents = [make_agent("dqn", seed=seed, learning_rate=0.05, discount=0.0) for seed in (1, 2)]
    learner = make_learner(agents)
    observations = np.full((2, 1, 2), 0.5, np.float32)
    for best in (3, 1):
        for step in range(1, 200):
            actions = torch.arange(5).expand(2, 5)
            states = torch.full((2, 5, 2), 0.5)
            dones = torch.zeros(2, 5, dtype=torch.bool)
            batch = Batch(states, actions, (actions == best).float(), states, dones)
            learner.update(batch, step)
        assert learner.act(observations, np.zeros(2), np.zeros((2, 1))).tolist() == [[best]] * 2


# Which learner


def test_an_agent_that_does_not_declare_stackable_is_not_stacked(make_agent):
    class Changed(CQLAgent):
        def update(self, *batch_and_step):
            return {"mine": torch.tensor(1.0)}

    agent = make_agent("cql")
    agent.__class__ = Changed
    learner = make_learner([agent])
    assert isinstance(learner, AgentLoop)
    assert learner.update(Batch(*[torch.zeros(1, 4)] * 5), 1).keys() == {"mine"}


class Recorder:
    """An agent as in the assignment: two methods, not a PyTorch module, floats as metrics."""

    def __init__(self, name, report=None):
        self.name = name
        self.report = report
        self.calls = []

    def get_action(self, observation, epsilon=0.0):
        assert isinstance(epsilon, float)
        self.calls.append((observation.tolist(), epsilon))
        return np.int64(self.name)

    def update(self, observations, actions, rewards, next_observations, dones, step):
        self.calls.append((rewards.tolist(), dones.tolist(), step))
        return self.report


def test_the_loop_asks_every_agent_about_its_own_observations():
    agents = [Recorder(1), Recorder(4)]
    observations = np.arange(8.0).reshape(2, 2, 2)
    actions = make_learner(agents).act(observations, np.array([0.0, 0.3]), np.zeros((2, 2)))
    assert actions.tolist() == [[1, 1], [4, 4]]
    assert agents[0].calls == [([0, 1], 0.0), ([2, 3], 0.0)]
    assert agents[1].calls == [([4, 5], 0.3), ([6, 7], 0.3)]


def test_the_loop_gives_every_agent_its_own_batch_and_gathers_the_metrics(make_batch):
    report = {"loss": 1.5, "norm": torch.tensor(2.0, requires_grad=True), "n": np.float64(3)}
    agents = [Recorder(0, report), Recorder(1, {**report, "loss": 2.5})]
    learner = make_learner(agents)
    batch = make_batch(2, 7)
    metrics = learner.update(batch, 12)
    for run, agent in enumerate(agents):
        assert agent.calls == [(batch.rewards[run].tolist(), batch.dones[run].tolist(), 12)]
    assert {tag: value.tolist() for tag, value in metrics.items()} == {
        "loss": [1.5, 2.5],
        "norm": [2, 2],
        "n": [3, 3],
    }
    learner.sync_agents()
    assert learner.agents == agents


def test_the_loop_takes_agents_that_report_nothing(make_batch):
    assert make_learner([Recorder(0), Recorder(1)]).update(make_batch(2, 7), 1) == {}


@pytest.mark.parametrize("algorithm", SETTINGS)
def test_the_loop_and_the_ensemble_learn_the_same(make_runs, make_batches, algorithm):
    stacked, looped = Ensemble(make_runs(algorithm)), AgentLoop(make_runs(algorithm))
    for step, batch in enumerate(make_batches(5), start=1):
        ours, theirs = stacked.update(batch, step), looped.update(batch, step)
        assert ours.keys() >= theirs.keys()
        assert all(value.shape == (3,) for value in ours.values())
        for tag, value in theirs.items():
            torch.testing.assert_close(ours[tag], value, atol=1e-4, rtol=1e-4)
