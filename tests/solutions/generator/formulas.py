"""What every right method computes, from the assignment's formulas alone."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tests.solutions.generator.styles import Style

RATE = 0.02
"""Step size of the plain gradient descent that trains everything here."""


@dataclass(frozen=True)
class Settings:
    """The scalars of an agent; none is 1 or the root of another, so that no two roles coincide."""

    discount: float = 0.8
    alpha: float = 1.3
    cql_temperature: float = 1.7
    temperature: float = 0.6
    expectile: float = 0.65
    rnd_weight: float = 1.4
    period: int = 3


@dataclass(frozen=True)
class Rows:
    """A batch of transitions."""

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    next_observations: Tensor
    dones: Tensor

    def __iter__(self):
        return iter(
            (self.observations, self.actions, self.rewards, self.next_observations, self.dones)
        )

    def __len__(self) -> int:
        return len(self.actions)


def second_most_likely(probabilities: Tensor) -> Tensor:
    """Return what stands in for a sample, so that sampled styles have exact numbers too."""
    return probabilities.argsort(dim=-1, descending=True)[..., 1]


def at(values: Tensor, actions: Tensor) -> Tensor:
    """Return the value of one action in every row."""
    return values[list(range(len(actions))), actions.tolist()]


class Expected:
    """Right networks after right steps.

    Args:
        agent: The algorithm.
        networks: By role; copied.
        style: Which accepted formula to follow where there are several.
        settings: The scalars.
        double: Whether to use double Q-learning.
    """

    def __init__(
        self,
        agent: str,
        networks: dict[str, nn.Module],
        style: Style,
        settings: Settings,
        *,
        double: bool,
    ) -> None:
        self.agent = agent
        self.networks = {role: copy.deepcopy(one) for role, one in networks.items()}
        self.style = style
        self.settings = settings
        self.double = double

    # Values of states

    def q(self, role: str, states: Tensor) -> Tensor:
        """Return Q `(batch, actions)`."""
        return self.networks[role](states)

    def v(self, role: str, states: Tensor) -> Tensor:
        """Return V `(batch,)`, whatever shape the network gives it."""
        return self.networks[role](states).reshape(len(states))

    def probabilities(self, states: Tensor) -> Tensor:
        """Return the actor's `(batch, actions)`."""
        return self.networks["actor"](states).probs

    def errors(self, states: Tensor) -> Tensor:
        """Return the predictor's errors `(batch,)`."""
        gap = self.networks["rnd_net"](states) - self.networks["rnd_target_net"](states)
        kind = self.style["rnd_error"]
        total = (gap * gap) @ torch.ones(gap.shape[1])
        if kind == "norm":
            return total.sqrt()
        return total if kind == "squared_sum" else total / gap.shape[1]

    # Losses

    def next_values(self, states: Tensor) -> Tensor:
        """Return what the target has of the next states `(batch,)`."""
        if self.agent == "iql":
            online = self.style["v_target"] == "online"
            return self.v("value_critic" if online else "target_value_critic", states)
        if self.agent == "awac":
            online = self.style["awac_next"] == "online"
            values = self.q("critic" if online else "target_critic", states)
            probabilities = self.probabilities(states)
            if self.style["expectation"] == "sampled":
                return at(values, second_most_likely(probabilities))
            return (probabilities @ values.T).diagonal()
        values = self.q("target_critic", states)
        return at(values, (self.q("critic", states) if self.double else values).argmax(1))

    def critic_loss(self, rows: Rows) -> Tensor:
        """Return the temporal-difference loss, with CQL's term in CQL."""
        s, a, r, s2, d = rows
        following = self.next_values(s2).tolist()
        targets = [
            reward if done else reward + self.settings.discount * value
            for reward, done, value in zip(r.tolist(), d.tolist(), following, strict=True)
        ]
        values = self.q("critic", s)
        gap = at(values, a) - torch.tensor(targets)
        loss = gap @ gap / len(rows)
        if self.agent == "cql":
            temperature = self.settings.cql_temperature
            factor = temperature if self.style["cql_temperature"] == "scaled" else 1.0
            soft = factor * torch.log(torch.exp(values / temperature) @ torch.ones(values.shape[1]))
            loss = loss + self.settings.alpha * (soft - at(values, a)).sum() / len(rows)
        return loss

    def advantages(self, states: Tensor, actions: Tensor) -> Tensor:
        """Return A `(batch,)`, without a gradient."""
        values = self.q("critic", states)
        if self.agent == "iql":
            return (at(values, actions) - self.v("value_critic", states)).detach()
        probabilities = self.probabilities(states)
        base = (probabilities @ values.T).diagonal()
        if self.style["baseline"] == "sampled":
            base = at(values, second_most_likely(probabilities))
        return (at(values, actions) - base).detach()

    def actor_loss(self, rows: Rows) -> Tensor:
        """Return the weighted negative log-likelihood."""
        advantages = self.advantages(rows.observations, rows.actions)
        exponents = [one / self.settings.temperature for one in advantages.tolist()]
        cap = 100.0 if self.style["exponential"] == "clamped" else math.inf
        factors = torch.tensor([min(math.exp(one), cap) for one in exponents])
        logs = torch.log(at(self.probabilities(rows.observations), rows.actions))
        return -(factors @ logs) / len(rows)

    def value_loss(self, rows: Rows) -> Tensor:
        """Return the expectile loss of V."""
        s, a = rows.observations, rows.actions
        u = at(self.q(self.style["v_regresses"], s), a).detach() - self.v("value_critic", s)
        tau = self.settings.expectile
        factors = torch.tensor([tau if one > 0 else 1 - tau for one in u.tolist()])
        return (factors * u) @ u / len(rows)

    def rnd_loss(self, states: Tensor) -> Tensor:
        """Return the predictor's loss."""
        return self.errors(states).sum() / len(states)

    # Steps

    def descend(self, role: str, loss: Tensor) -> None:
        parameters = list(self.networks[role].parameters())
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.sub_(RATE * gradient)

    def copy_to(self, target: str, source: str) -> None:
        self.networks[target] = copy.deepcopy(self.networks[source])

    def train_critic(self, rows: Rows) -> None:
        self.descend("critic", self.critic_loss(rows))

    def train_actor(self, rows: Rows) -> None:
        self.descend("actor", self.actor_loss(rows))

    def train_value(self, rows: Rows) -> None:
        self.descend("value_critic", self.value_loss(rows))

    def train_both(self, rows: Rows) -> None:
        self.train_critic(rows)
        self.train_value(rows)

    def train_predictor(self, states: Tensor) -> None:
        self.descend("rnd_net", self.rnd_loss(states))

    def copy_critic(self) -> None:
        self.copy_to("target_critic", "critic")

    def copy_value(self) -> None:
        self.copy_to("target_value_critic", "value_critic")

    def update(self, rows: Rows, step: int) -> None:
        """Take all steps of an update, in the order of the style."""
        if self.agent == "rnd":
            self.update_rnd_agent(rows, step)
            return
        self.train_critic(rows)
        if self.agent == "iql":
            self.train_value(rows)
        if self.agent in {"awac", "iql"}:
            self.train_actor(rows)
        if step % self.settings.period == 0:
            self.copy_critic()
            if "target_value_critic" in self.networks:
                self.copy_value()

    def update_rnd_agent(self, rows: Rows, step: int) -> None:
        following = self.style["rnd_state"] == "next"
        states = rows.next_observations if following else rows.observations
        if self.style["rnd_order"] == "before":
            self.train_predictor(states)
        e = self.errors(states).detach()
        scale: dict[str, Callable[[], Tensor]] = {
            "z_score": lambda: (e - e.mean()) / e.std(),
            "none": lambda: e,
            "by_deviation": lambda: e / e.std(),
            "min_max": lambda: (e - e.min()) / (e.max() - e.min()),
        }
        bonus = self.settings.rnd_weight * scale[self.style["rnd_scale"]]()
        kept = torch.zeros_like(bonus) if self.style["rnd_rewards"] == "replaced" else rows.rewards
        s, a, _, s2, d = rows
        self.train_critic(Rows(s, a, kept + bonus, s2, d))
        if step % self.settings.period == 0:
            self.copy_critic()
        if self.style["rnd_order"] == "after":
            self.train_predictor(states)
