"""Target networks and objectives with periods: declared once, followed alone, stacked, compiled."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from cs285.learning.agent import Agent
from cs285.learning.backends import CompiledToCpp, Traced
from cs285.learning.ensemble import Ensemble
from cs285.learning.objective import Batch, HardCopy, Objective, PolyakAverage

RATE = 0.3
LEARNING_RATE = 0.05
STARTS = (0.5, -1.0)


class Pair(Agent):
    """Two networks that regress on rewards and on each other's targets, which are of both kinds."""

    stackable = True
    num_actions = 3

    def __init__(self, start, rules, periods=(1, 1)):
        super().__init__()
        self.rules = rules
        self.periods = periods
        for k, name in enumerate(("first", "second", "slow", "copy")):
            network = nn.Linear(2, 1)
            nn.init.constant_(network.weight, start + k)
            nn.init.constant_(network.bias, 0.1 * k)
            setattr(self, name, network)
        self.optimizers = [
            torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
            for network in (self.first, self.second)
        ]

    def action_probabilities(self, observations, epsilon):
        return observations.new_full((len(observations), 3), 1 / 3)

    def first_loss(self, observations, rewards):
        with torch.no_grad():
            targets = rewards + self.copy(observations).squeeze(-1)
        return (self.first(observations).squeeze(-1) - targets).square().mean(), {}

    def second_loss(self, observations):
        with torch.no_grad():
            targets = self.slow(observations) + self.first(observations)
        return (self.second(observations) - targets).square().mean(), {}

    @property
    def objectives(self):
        first, second = (
            Objective(
                loss_tag=f"{name}_loss",
                grad_norm_tag=f"{name}_norm",
                loss=getattr(self, f"{name}_loss"),
                inputs=inputs,
                network=getattr(self, name),
                optimizer=self.optimizers[k],
                period=self.periods[k],
            )
            for k, (name, inputs) in enumerate(
                (("first", ("observations", "rewards")), ("second", ("observations",)))
            )
        )
        return first, second

    @property
    def target_rules(self):
        return self.rules


RULES = {
    "none": (),
    "copy": (HardCopy("first", "copy", 3),),
    "average": (PolyakAverage("second", "slow", RATE),),
    "both, on one source": (HardCopy("first", "copy", 2), PolyakAverage("first", "slow", RATE)),
    "a copy of an average": (HardCopy("slow", "copy", 4), PolyakAverage("second", "slow", RATE)),
}


def by_hand(start, rules, periods, batches):
    """Trains four linear networks in a plain loop; returns their parameters."""
    held = {}
    for k, name in enumerate(("first", "second", "slow", "copy")):
        network = nn.Linear(2, 1)
        nn.init.constant_(network.weight, start + k)
        nn.init.constant_(network.bias, 0.1 * k)
        held[name] = network
    optimizers = {
        name: torch.optim.Adam(held[name].parameters(), lr=LEARNING_RATE)
        for name in ("first", "second")
    }
    for step, batch in enumerate(batches, start=1):
        x, r = batch.observations, batch.rewards
        if step % periods[0] == 0:
            target = (r + held["copy"](x)[:, 0]).detach()
            optimizers["first"].zero_grad()
            (held["first"](x)[:, 0] - target).square().mean().backward()
            optimizers["first"].step()
        if step % periods[1] == 0:
            target = (held["slow"](x) + held["first"](x)).detach()
            optimizers["second"].zero_grad()
            (held["second"](x) - target).square().mean().backward()
            optimizers["second"].step()
        with torch.no_grad():
            for rule in rules:
                if isinstance(rule, PolyakAverage):
                    for name in ("weight", "bias"):
                        slow, source = (
                            getattr(held[rule.target], name),
                            getattr(held[rule.source], name),
                        )
                        slow.copy_((1 - rule.rate) * slow + rule.rate * source)
            for rule in rules:
                if isinstance(rule, HardCopy) and step % rule.period == 0:
                    held[rule.target].load_state_dict(held[rule.source].state_dict())
    return torch.cat([p.detach().flatten() for n in held.values() for p in n.parameters()])


def vector(agent):
    return nn.utils.parameters_to_vector(agent.parameters()).detach()


@pytest.mark.parametrize("backend", ["alone", "traced", "compiled", "many at once"])
@pytest.mark.parametrize("periods", [(1, 1), (1, 2), (3, 2)])
@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
def test_rules_and_periods_equal_a_plain_loop(make_batch, rules, periods, backend):
    batches = [make_batch(2, 5, seed=step) for step in range(25)]
    agents = [Pair(start, rules, periods) for start in STARTS]
    own = [[Batch(*(field[run] for field in batch)) for batch in batches] for run in range(2)]
    if backend == "alone":
        for run, agent in enumerate(agents):
            for step, batch in enumerate(own[run], start=1):
                agent.update(*batch, step)
    else:
        learner = Ensemble(agents, Traced() if backend == "traced" else CompiledToCpp())
        if backend == "many at once":
            columns = {
                name: torch.cat([getattr(b, name).flatten(0, 1) for b in batches])
                for name in Batch._fields
            }
            learner.learn(columns, np.arange(25 * 2 * 5).reshape(25, 2, 5), 1)
        else:
            for step, batch in enumerate(batches, start=1):
                learner.update(batch, step)
        learner.sync_agents()
        if backend != "traced":
            assert None not in learner.backend.updates.values()
    for run, agent in enumerate(agents):
        expected = by_hand(STARTS[run], rules, periods, own[run])
        torch.testing.assert_close(
            vector(agent), expected, atol=1e-4, rtol=1e-4
        )  # Adam magnifies rounding
        assert (expected - vector(Pair(STARTS[run], rules))).abs().max() > 0.1


def test_an_objective_reports_only_what_it_has_trained(make_batch):
    agent = Pair(1.0, (), periods=(1, 2))
    learner = Ensemble([Pair(1.0, (), periods=(1, 2))])
    for step in (1, 2, 3):
        batch = make_batch(1, 5, seed=step)
        expected = agent.update(*(field[0] for field in batch), step)
        found = learner.update(batch, step)
        tags = {"first_loss", "first_norm"} | (
            {"second_loss", "second_norm"} if step == 2 else set()
        )
        assert expected.keys() == found.keys() == tags


class Child(Pair):
    """A student's subclass that overrides one method and leaves the order of updates alone."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.calls = []

    @property
    def objectives(self):
        first, second = super().objectives
        return replace(first, method="update_first"), second

    def update_first(self, observations, rewards):
        self.calls.append("first")
        return 0.5

    def copy_it(self):
        self.calls.append("copy")


def test_methods_that_are_named_take_the_step(make_batch):
    child = Child(1.0, (HardCopy("first", "copy", 2, method="copy_it"),))
    before = nn.utils.parameters_to_vector(child.first.parameters()).clone()
    metrics = [child.update(*make_batch(4, seed=step), step) for step in (1, 2)]
    assert child.calls == ["first", "first", "copy"]
    assert [m["first_loss"] for m in metrics] == [0.5, 0.5]
    assert torch.equal(nn.utils.parameters_to_vector(child.first.parameters()), before)


def test_objectives_with_one_loss_tag_are_refused_as_they_would_share_a_memory():
    class Twins(Pair):
        stackable = True

        @property
        def objectives(self):
            return tuple(replace(one, loss_tag="loss") for one in super().objectives)

    with pytest.raises(ValueError, match="different loss tags, not loss, loss"):
        Ensemble([Twins(0.5, ())])


def test_buffers_of_a_target_do_not_average():
    def make():
        agent = Pair(0.5, (PolyakAverage("second", "slow", RATE),))
        for network, value in ((agent.second, 1.0), (agent.slow, 5.0)):
            network.register_buffer("offset", torch.tensor(value))
        return agent

    alone, stacked = make(), make()
    batch = Batch(torch.rand(4, 2), *[torch.zeros(4)] * 2, torch.rand(4, 2), torch.zeros(4) > 1)
    alone.update(*batch, 1)
    learner = Ensemble([stacked])
    learner.update(Batch(*(field[None] for field in batch)), 1)
    learner.sync_agents()
    assert stacked.slow.offset == alone.slow.offset == 5.0
    torch.testing.assert_close(stacked.slow.weight, alone.slow.weight)
