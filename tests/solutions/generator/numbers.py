"""Runs the files of a combination on small random networks, to prove what they compute.

This is the judge of the generator itself and shares nothing with the checker: a right file must
have the numbers of `formulas`, and a mistake must change one of them.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Categorical

from tests.solutions.generator.combinations import Combination
from tests.solutions.generator.formulas import (
    RATE,
    Expected,
    Rows,
    Settings,
    at,
    second_most_likely,
)
from tests.solutions.generator.mistakes import Mistake
from tests.solutions.generator.styles import Style
from tests.solutions.generator.writing import CLASS_NAMES, attribute_names

WIDTH, ACTIONS, ROWS = 3, 4, 7
SETTINGS = Settings()
DRAWS = 200
Numbers = dict[str, Tensor]

ROLES: dict[str, tuple[str, ...]] = {
    "random": (),
    "dqn": ("critic", "target_critic"),
    "cql": ("critic", "target_critic"),
    "awac": ("critic", "target_critic", "actor"),
    "iql": ("critic", "target_critic", "actor", "value_critic", "target_value_critic"),
    "rnd": ("critic", "target_critic", "rnd_net", "rnd_target_net"),
}
PARENTS = {"random": (), "dqn": (), "cql": ("dqn",), "awac": ("dqn",), "iql": ("dqn", "awac")}
PARENTS["rnd"] = ("dqn",)


class Actor(nn.Module):
    """A policy as the starter's: its output is a distribution."""

    def __init__(self) -> None:
        super().__init__()
        self.body = perceptron(ACTIONS)

    def forward(self, observations: Tensor) -> Categorical:
        return Categorical(logits=self.body(observations))


def perceptron(outputs: int) -> nn.Sequential:
    """Return a small network."""
    return nn.Sequential(nn.Linear(WIDTH, 12), nn.Tanh(), nn.Linear(12, outputs))


class Descent:
    """Plain gradient descent, without the seconds that PyTorch's optimisers take to import."""

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        self.parameters = list(parameters)

    def zero_grad(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        for parameter in self.parameters:
            if parameter.grad is not None:
                parameter.sub_(RATE * parameter.grad)


class NoSchedule:
    """A learning rate that stays as it is."""

    def step(self) -> None:
        """Do nothing."""


def draw_rows(seed: int) -> Rows:
    """Draw a batch in which some transitions are terminal, and not those of one action alone."""
    rng = np.random.default_rng(seed)
    dones = torch.tensor([True, False, False, True, False, False, True])
    return Rows(
        torch.tensor(rng.normal(size=(ROWS, WIDTH)), dtype=torch.float32),
        torch.tensor(rng.permutation([0, 1, 2, 3, 1, 0, 2])),
        torch.tensor(rng.normal(size=ROWS), dtype=torch.float32),
        torch.tensor(rng.normal(size=(ROWS, WIDTH)), dtype=torch.float32),
        dones[torch.tensor(rng.permutation(ROWS))],
    )


def load(files: Mapping[str, str], agent: str) -> type:
    """Execute the text of an agent and of its parents, and return the class."""
    loaded: dict[str, ModuleType] = {}
    order = [name for name in files if not name.endswith("_agent.py")]
    order += [f"{one}_agent.py" for one in (*PARENTS[agent], agent)]
    with mock.patch.dict(sys.modules):
        for name in order:
            module = ModuleType(f"cs285.agents.{name.removesuffix('.py')}")
            sys.modules[module.__name__] = loaded[name] = module
            exec(compile(files[name], name, "exec"), module.__dict__)
    result: type = getattr(loaded[f"{agent}_agent.py"], CLASS_NAMES[agent])
    return result


def build(agent_class: type, agent: str, *, double: bool) -> Any:
    """Construct an agent of small networks and plain gradient descent."""
    if agent == "random":
        return agent_class((WIDTH,), ACTIONS)
    arguments: dict[str, Any] = {
        "make_critic": lambda shape, actions: perceptron(actions),
        "make_optimizer": Descent,
        "make_lr_schedule": lambda one: NoSchedule(),
        "discount": SETTINGS.discount,
        "target_update_period": SETTINGS.period,
        "use_double_q": double,
    }
    if agent == "cql":
        arguments |= {"cql_alpha": SETTINGS.alpha, "cql_temperature": SETTINGS.cql_temperature}
    if agent in {"awac", "iql"}:
        arguments |= {
            "make_actor": lambda shape, actions: Actor(),
            "make_actor_optimizer": Descent,
            "temperature": SETTINGS.temperature,
        }
    if agent == "iql":
        arguments |= {
            "make_value_critic": lambda shape: perceptron(1),
            "make_value_critic_optimizer": Descent,
            "expectile": SETTINGS.expectile,
        }
    if agent == "rnd":
        arguments |= {
            "make_rnd_network": lambda shape: perceptron(5),
            "make_rnd_network_optimizer": Descent,
            "make_target_rnd_network": lambda shape: perceptron(5),
            "rnd_weight": SETTINGS.rnd_weight,
        }
    return agent_class((WIDTH,), ACTIONS, **arguments)


def networks_of(built: Any, agent: str, style: Style) -> dict[str, nn.Module]:
    """Return the agent's networks by the starter's names."""
    own = attribute_names(style)
    found = {role: getattr(built, own.get(role, role), None) for role in ROLES[agent]}
    return {role: network for role, network in found.items() if network is not None}


def give_weights(networks: Mapping[str, nn.Module]) -> None:
    """Set weights that depend on the role alone, so that online and target networks differ."""
    for seed, (_, network) in enumerate(sorted(networks.items())):
        rng = np.random.default_rng(100 + seed)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.copy_(torch.tensor(rng.normal(scale=0.6, size=parameter.shape)))


@contextmanager
def exact_samples() -> Iterator[None]:
    """Replace sampling by the second most likely action, and make other randomness repeatable."""
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - students' files draw from the global generator
    with (
        mock.patch.object(
            Categorical, "sample", lambda self, shape=(): second_most_likely(self.probs)
        ),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield


def weights(network: nn.Module) -> Tensor:
    """Return all weights as one vector."""
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


class Actual:
    """An agent of a combination, with the methods that `Expected` has."""

    def __init__(self, combination: Combination, agent: str, *, double: bool = False) -> None:
        agents = (*PARENTS[agent], agent)
        self.agent = load(combination.files(agents), agent)
        self.built = build(self.agent, agent, double=double)
        self.networks = networks_of(self.built, agent, combination.style)
        give_weights(self.networks)

    def train_critic(self, rows: Rows) -> None:
        method = "update_q" if hasattr(self.built, "update_q") else "update_critic"
        getattr(self.built, method)(*rows)

    def train_actor(self, rows: Rows) -> None:
        self.built.update_actor(rows.observations, rows.actions)

    def train_value(self, rows: Rows) -> None:
        self.built.update_v(rows.observations, rows.actions)

    def train_both(self, rows: Rows) -> None:
        self.built.update_critic(*rows)

    def train_predictor(self, states: Tensor) -> None:
        self.built.update_rnd(states)

    def copy_critic(self) -> None:
        self.built.update_target_critic()

    def copy_value(self) -> None:
        self.built.update_target_value_critic()

    def update(self, rows: Rows, step: int) -> None:
        self.built.update(*rows, step)


# What each method is known by


def after_steps(one: Any, method: str, *roles: str) -> Numbers:
    """Return weights after two steps on different batches: one step does not show `zero_grad`."""
    for seed in (1, 2):
        rows = draw_rows(seed)
        getattr(one, method)(rows.next_observations if method == "train_predictor" else rows)
    return {role: weights(one.networks[role]) for role in roles}


def read_networks(agent: str, style: Style) -> set[str]:
    """Return the networks that matter: not a target critic that no loss reads."""
    unread = (agent == "awac" and style["awac_next"] == "online") or (
        agent == "iql" and style["v_regresses"] == "critic"
    )
    return set(ROLES[agent]) - ({"target_critic"} if unread else set())


def after_updates(one: Any, roles: set[str]) -> Numbers:
    """Return weights after every update of more than one period."""
    numbers = {}
    for step in range(1, SETTINGS.period + 2):
        one.update(draw_rows(step), step)
        kept = {role: network for role, network in one.networks.items() if role in roles}
        numbers |= {f"{role} {step}": weights(network) for role, network in kept.items()}
    return numbers


def loss_numbers(one: Any) -> Numbers:
    """Return the critic's loss, its gradient and the values that go with it."""
    rows = draw_rows(1)
    critic = one.networks["critic"]
    if isinstance(one, Actual):
        loss, _, values = one.built.compute_critic_loss(*rows)
        q, qa = values["q_values"], values["qa_values"]
    else:
        loss = one.critic_loss(rows)
        qa = one.q("critic", rows.observations)
        q = at(qa, rows.actions)
    gradients = torch.autograd.grad(loss, list(critic.parameters()), allow_unused=True)
    flat = [
        (torch.zeros_like(parameter) if gradient is None else gradient).flatten()
        for parameter, gradient in zip(critic.parameters(), gradients, strict=True)
    ]
    return {"loss": loss.detach(), "gradient": torch.cat(flat), "q": q.detach(), "qa": qa.detach()}


def advantage_numbers(one: Any) -> Numbers:
    """Return the advantages, and the actor after steps that use them."""
    rows = draw_rows(1)
    if isinstance(one, Actual):
        a = one.built.compute_advantage(rows.observations, rows.actions)
    else:
        a = one.advantages(rows.observations, rows.actions)
    return {"advantage": a.detach(), **after_steps(one, "train_actor", "actor")}


def frequencies(one: Any, agent: str, style: Style) -> Numbers:
    """Return how often every action is chosen: greedily, where few draws are enough, and not."""
    states = np.random.default_rng(5).normal(size=(2, WIDTH)).astype(np.float32)
    numbers = {}
    few = DRAWS if agent == "random" else 20
    for epsilon, draws, position in ((0.0, few, 0), (0.0, few, 1), (1.0, DRAWS, 0)):
        state = states[position]
        if isinstance(one, Actual):
            chosen = [_one_action(one.built.get_action(state, epsilon)) for _ in range(draws)]
            share = torch.tensor(np.bincount(np.asarray(chosen), minlength=ACTIONS) / draws)
        else:
            share = _acting(one, agent, style, torch.tensor(state), epsilon)
        numbers[f"epsilon {epsilon} state {position}"] = share
    return numbers


def _one_action(action: Any) -> int:
    return int(np.asarray(action).reshape(-1)[0])


def _acting(one: Expected, agent: str, style: Style, state: Tensor, epsilon: float) -> Tensor:
    uniform = torch.full((ACTIONS,), 1 / ACTIONS)
    if agent == "random":
        return uniform
    acts = style["actor_acts"] if agent in {"awac", "iql"} else "inherited"
    if acts == "inherited":
        best = one.q("critic", state[None])[0].argmax()
    elif acts == "mode":
        best = one.probabilities(state[None])[0].argmax()
    else:
        best = second_most_likely(one.probabilities(state[None])[0])
    greedy = nn.functional.one_hot(best, ACTIONS).float()
    explores = epsilon if acts in {"inherited", "epsilon"} else 0.0
    return (1 - explores) * greedy + explores * uniform


def observe(one: Any, agent: str, method: str, style: Style) -> Numbers:
    """Return the numbers by which a method is known."""
    steps = {
        "update_critic": ("train_both", "critic", "value_critic")
        if agent == "iql"
        else ("train_critic", "critic"),
        "update_actor": ("train_actor", "actor"),
        "update_q": ("train_critic", "critic"),
        "update_v": ("train_value", "value_critic"),
        "iql_expectile_loss": ("train_value", "value_critic"),
        "update_rnd": ("train_predictor", "rnd_net", "rnd_target_net"),
    }
    if method in steps:
        return after_steps(one, *steps[method])
    if method == "get_action":
        return frequencies(one, agent, style)
    if method == "compute_critic_loss":
        return loss_numbers(one)
    if method == "compute_advantage":
        return advantage_numbers(one)
    if method in {"update_target_critic", "update_target_value_critic"}:
        one.copy_critic() if method == "update_target_critic" else one.copy_value()
        return {role: weights(network) for role, network in one.networks.items()}
    return after_updates(one, read_networks(agent, style))


def methods_of(agent: str, style: Style) -> tuple[str, ...]:
    """Return the methods that a right file of a style must have right."""
    own = {
        "random": ("get_action",),
        "dqn": ("get_action", "compute_critic_loss", "update_critic", "update_target_critic"),
        "cql": ("compute_critic_loss", "update_critic"),
        "awac": ("get_action", "compute_critic_loss", "compute_advantage", "update_actor"),
        "iql": ("compute_advantage", "update_actor", "update_q", "update_v"),
        "rnd": ("update_rnd",),
    }[agent]
    if agent == "iql":
        own += ("update_critic",) if style["steps"] == "inherited" else ()
        own += ("update_target_value_critic",) if style["v_target"] == "target" else ()
    return own if agent == "random" else (*own, "update")


def compare(agent: str, method: str, wanted: Numbers, got: Numbers) -> str:
    """Return the first number that differs; empty if none does."""
    for key, value in wanted.items():
        random = method == "get_action" and (agent == "random" or "epsilon 1" in key)
        tolerance = 2.5 / DRAWS**0.5 if random else 2e-4
        one, other = got[key].flatten().double(), value.flatten().double()
        if one.shape != other.shape:
            return f"{key} has shape {tuple(got[key].shape)}"
        if not torch.allclose(one, other, rtol=tolerance, atol=tolerance):
            return f"{key} by {float((one - other).abs().max()):.3g}"
    return ""


def doubles(agent: str, method: str) -> tuple[bool, ...]:
    """Return the settings of double Q-learning in which a method may differ."""
    return (False, True) if agent in {"dqn", "cql"} and "loss" in method else (True,)


def faults_of_right_file(agent: str, style: Style) -> list[str]:
    """Return the methods of a right file that do not have the numbers of the formulas."""
    found = []
    for method in methods_of(agent, style):
        for double in doubles(agent, method):
            with exact_samples():
                actual = Actual(Combination(style), agent, double=double)
                expected = Expected(agent, actual.networks, style, SETTINGS, double=double)
                wanted = observe(expected, agent, method, style)
                got = observe(actual, agent, method, style)
            if text := compare(agent, method, wanted, got):
                found.append(f"{agent}.{method}: {text}")
    return found


def effect(style: Style, mistake: Mistake) -> str:
    """Return what a mistake changes in a right file of the same style.

    Returns:
        The name of the first number that differs, or the error that the method raises; empty if
        nothing changes, so that it is no mistake in this style.
    """
    agent, method = mistake.agent, mistake.method
    for double in doubles(agent, method):
        with exact_samples():
            wanted = observe(Actual(Combination(style), agent, double=double), agent, method, style)
        with exact_samples():
            try:
                actual = Actual(Combination(style, (mistake,)), agent, double=double)
                got = observe(actual, agent, method, style)
            except Exception as error:  # noqa: BLE001 - a student's method may raise anything
                return f"{type(error).__name__}: {error}"
        if text := compare(agent, method, wanted, got):
            return text
    return ""
