"""Networks whose gradients can be read, for agents whose methods are tried.

They are linear in fixed random features of the observation, and their optimisers are plain
gradient descent. A step therefore reveals the gradient that it followed, and the gradient reveals
the derivative of the loss with respect to every output in every row of a batch.
"""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import combinations, pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.distributions import Categorical

LEARNING_RATE = 0.5
"""Learning rate of the agents' optimisers, which use plain gradient descent."""
NUM_ACTIONS = 5
RND_SIZE = 4
_KINDS = {NUM_ACTIONS: "critic", 1: "value", RND_SIZE: "rnd"}
"""Kinds of networks that have target networks, by number of outputs."""
PlainDescent = torch.optim.SGD
_NAME_OF_TARGET = re.compile(r"(?i)target|slow|lagg|frozen|delayed|(?:^|_)old(?:_|$)")
_OPTIMISERS = ("Adagrad", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "SGD")


class FeatureNetwork(nn.Module):
    """A linear map of fixed random features: `(batch, 2)` to `(batch, outputs)`.

    Args:
        kind: Its role in the agent, such as `critic`.
        features: `frequencies (2, features)` and `phases (features,)`.
        outputs: Number of outputs; V has one, and returns `(batch, 1)`.
    """

    frequencies: torch.Tensor
    phases: torch.Tensor

    def __init__(self, kind: str, features: dict[str, torch.Tensor], outputs: int) -> None:
        super().__init__()
        self.kind = kind
        self.is_for_target = False
        """Whether it was made by the constructor's argument for a target network."""
        self.register_buffer("frequencies", features["frequencies"].clone())
        self.register_buffer("phases", features["phases"].clone())
        self.linear = nn.Linear(features["phases"].shape[0], outputs)

    def forward(self, observations: torch.Tensor) -> Any:
        """Return the outputs; for an actor, the distribution over actions."""
        features = torch.cos(observations @ self.frequencies + self.phases)
        outputs = self.linear(features)
        if self.kind == "actor":
            return Categorical(logits=outputs, validate_args=False)
        return outputs


class Networks:
    """The networks that an agent has made, and which of them it optimises.

    Args:
        features: `frequencies (2, features)` and `phases (features,)`.
        learning_rate: Learning rate of every optimiser that is made for the agent.
    """

    def __init__(
        self, features: dict[str, torch.Tensor], learning_rate: float = LEARNING_RATE
    ) -> None:
        self.features = features
        self.learning_rate = learning_rate
        self.made: list[FeatureNetwork] = []
        self.schedules: list[torch.optim.lr_scheduler.LRScheduler] = []
        self.optimised: set[int] = set()
        self.optimisers: set[str] = set()
        self.own_optimisers: set[str] = set()
        """The kinds whose optimisers the class makes itself, not with the makers it is given."""
        self.critics: set[int] = set()
        """The ids of optimisers that were given a critic's parameters."""
        self.stepped: set[int] = set()
        """The ids of optimisers that have taken a step."""
        self.swapped: set[str] = set()
        """The kinds whose optimiser was given the target network's parameters instead."""

    def make(
        self, kind: str, outputs: int, *, for_target: bool = False
    ) -> Callable[..., FeatureNetwork]:
        """Return a maker of networks of one kind."""

        def make_network(*_shape: Any, **_named_shape: Any) -> FeatureNetwork:
            network = FeatureNetwork(kind, self.features, outputs)
            network.is_for_target = for_target
            self.made.append(network)
            return network

        return make_network

    def optimise(self, kind: str) -> Callable[..., torch.optim.SGD]:
        """Return a maker of optimisers for one kind, whose steps are proportional to gradients."""

        def make_optimizer(params: Iterable[nn.Parameter]) -> torch.optim.SGD:
            optimizer = PlainDescent(params, lr=self.learning_rate)
            self.note(optimizer)
            self.optimisers.add(kind)
            return optimizer

        return make_optimizer

    def schedule(self, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        """Return a schedule that leaves the learning rate unchanged."""
        self.schedules.append(torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0))
        return self.schedules[-1]

    def has_foreign_schedule(self) -> bool:
        """Return whether critics are trained only by optimisers that have no schedule."""
        scheduled = {id(one.optimizer) for one in self.schedules}
        return bool(scheduled & self.critics and self.stepped & self.critics) and not (
            scheduled & self.stepped
        )

    def note(self, optimizer: torch.optim.SGD) -> set[str]:
        """Record what an optimiser trains; return the kinds of those networks."""
        optimizer.register_step_post_hook(lambda stepped, *_: self.stepped.add(id(stepped)))
        groups = optimizer.param_groups
        optimised = {id(parameter) for group in groups for parameter in group["params"]}
        self.optimised |= optimised
        kinds = {one.kind for one in self.made if id(one.linear.weight) in optimised}
        if "critic" in kinds:
            self.critics.add(id(optimizer))
        return kinds

    def makers(self) -> dict[str, Callable[..., Any]]:
        """Return the makers that the constructors of the homework's agents take, by argument."""
        return {
            "make_critic": self.make("critic", NUM_ACTIONS),
            "make_optimizer": self.optimise("critic"),
            "make_lr_schedule": self.schedule,
            "make_actor": self.make("actor", NUM_ACTIONS),
            "make_actor_optimizer": self.optimise("actor"),
            "make_value_critic": self.make("value", 1),
            "make_value_critic_optimizer": self.optimise("value"),
            "make_rnd_network": self.make("rnd", RND_SIZE),
            "make_rnd_network_optimizer": self.optimise("rnd"),
            "make_target_rnd_network": self.make("rnd", RND_SIZE, for_target=True),
        }

    def settle(self, agent: Any) -> None:
        """Prepare a new agent: give each network separate parameters, and note swapped roles.

        A target network that is the online one, or shares its parameters, would reveal nothing
        about the methods that use both. An optimiser that was given the target's parameters must
        not make that network the online one.
        """
        _separate(agent, self.made)
        held = dict(_named_networks(agent))
        for kind in {network.kind for network in held.values()}:
            of_kind = {name: one for name, one in held.items() if one.kind == kind}
            trained = [self._is_optimised(one) for one in of_kind.values()]
            targets = [
                one.is_for_target or bool(_NAME_OF_TARGET.search(name))
                for name, one in of_kind.items()
            ]
            if any(targets) and not all(targets) and trained == targets:
                self.swapped.add(kind)

    def shared(self, agent: Any) -> set[str]:
        """Return the kinds of networks whose parameters an agent holds under two names."""
        return {network.kind for _, network, _ in _shared_targets(agent)}

    def by_role(self, agent: Any) -> dict[str, list[FeatureNetwork | KeptWeights]]:
        """Return the agent's networks as `kind/online` and `kind/target`, in order of creation.

        Deep copies come last. If the agent holds a network in a role, networks that it made for
        that role and dropped are left out.
        """
        held = {id(network): network for network in _networks_in(agent)}
        made = {id(network): network for network in self.made}
        roles: dict[str, list[FeatureNetwork | KeptWeights]] = {}
        every: dict[int, FeatureNetwork | KeptWeights] = {**made, **held}
        for key, network in every.items():
            role = self.role(network)
            if key in held or all(self.role(other) != role for other in held.values()):
                roles.setdefault(role, []).append(network)
        return roles

    def role(self, network: FeatureNetwork | KeptWeights) -> str:
        """Return a network's role in the agent, such as `critic/online`."""
        online = self._is_optimised(network) != (network.kind in self.swapped)
        return f"{network.kind}/{'online' if online else 'target'}"

    def _is_optimised(self, network: FeatureNetwork | KeptWeights) -> bool:
        return id(network.linear.weight) in self.optimised


def replace_optimisers(watching: list[Networks]) -> None:
    """Make PyTorch's optimisers plain gradient descent, for classes that make their own.

    Args:
        watching: Its last item holds the networks of the agent that is being made.
    """

    class OwnOptimizer(PlainDescent):
        def __init__(self, params: Iterable[nn.Parameter], *_args: Any, **_settings: Any) -> None:
            super().__init__(params, lr=watching[-1].learning_rate if watching else LEARNING_RATE)
            if watching:
                kinds = watching[-1].note(self)
                watching[-1].optimisers |= kinds
                watching[-1].own_optimisers |= kinds

    for name in _OPTIMISERS:
        setattr(torch.optim, name, OwnOptimizer)


@contextmanager
def own_optimisers_replaced(watching: list[Networks]) -> Iterator[None]:
    """Do what `replace_optimisers` does while the context lasts."""
    originals = {name: getattr(torch.optim, name) for name in _OPTIMISERS}
    replace_optimisers(watching)
    try:
        yield
    finally:
        for name, original in originals.items():
            setattr(torch.optim, name, original)


def seed_everything(seed: int) -> None:
    """Seed every generator that agents may draw from."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - students draw from it
    torch.manual_seed(seed)


class _Linear(NamedTuple):
    """The parameters of a linear map."""

    weight: torch.Tensor
    bias: torch.Tensor


class KeptWeights:
    """The weights of a network that an agent keeps without a module, as for `functional_call`.

    Args:
        weight: `(outputs, features)`; the number of outputs determines the kind of network.
        bias: `(outputs,)`.
    """

    is_for_target = True

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
        self.kind = _KINDS[weight.shape[0]]
        self.linear = _Linear(weight, bias)

    def parameters(self) -> Iterator[nn.Parameter]:
        """Yield nothing: optimisers train the parameters of modules only."""
        return iter(())


def _networks_in(
    value: Any, depth: int = 0, *, everywhere: bool = True
) -> Iterator[FeatureNetwork | KeptWeights]:
    """Yield the networks that an agent holds, including those in plain lists.

    Args:
        value: The agent, or a part of it.
        depth: How deep in the agent the part is.
        everywhere: Whether to search objects of other classes too, and weights without a module.
    """
    if isinstance(value, FeatureNetwork):
        yield value
    elif depth < 4:  # noqa: PLR2004 - a list in a module in the agent
        if everywhere and isinstance(value, dict | list | tuple):
            tensors = value.values() if isinstance(value, dict) else value
            yield from _kept_weights([one for one in tensors if isinstance(one, torch.Tensor)])
        if isinstance(value, dict):
            parts = list(value.values())
        elif isinstance(value, list | tuple):
            parts = list(value)
        elif isinstance(value, nn.Module) or not depth or (everywhere and _is_own(value)):
            parts = list(vars(value).values())
        else:
            parts = []
        for part in parts:
            yield from _networks_in(part, depth + 1, everywhere=everywhere)


def _kept_weights(tensors: Sequence[torch.Tensor]) -> Iterator[KeptWeights]:
    """Yield the networks whose weights are among tensors in the order of a state dict."""
    for weight, bias in pairwise(tensors):
        is_parameter = isinstance(weight, nn.Parameter)
        fits = weight.ndim == 2 and bias.shape == weight.shape[:1]  # noqa: PLR2004
        if fits and not is_parameter and weight.shape[0] in _KINDS and weight.shape[1] > 8:  # noqa: PLR2004
            yield KeptWeights(weight, bias)


def _is_own(value: Any) -> bool:
    """Return whether an object's class is the hand-in's, not Python's, NumPy's or PyTorch's."""
    package = type(value).__module__.partition(".")[0]
    return package == "cs285" and hasattr(value, "__dict__")


def _named_networks(agent: Any) -> list[tuple[str, FeatureNetwork]]:
    """Return the networks that an agent's attributes hold, wrapped or not, with their names."""
    held = getattr(agent, "__dict__", {})
    attributes = {**held, **held.get("_modules", {})}
    return [
        (name, network)
        for name, value in attributes.items()
        if not name.startswith("_") or isinstance(value, nn.Module)
        for network in _networks_in(value, depth=1, everywhere=False)
        if isinstance(network, FeatureNetwork)
    ]


def _shared_targets(agent: Any) -> list[tuple[str, FeatureNetwork, FeatureNetwork]]:
    """Return target networks that share parameters with another network.

    Each comes with its attribute's name before it and the other network after it.
    """
    found = []
    for (one, first), (other, second) in combinations(_named_networks(agent), 2):
        share = first.linear.weight.data_ptr() == second.linear.weight.data_ptr()
        are_targets = [bool(_NAME_OF_TARGET.search(name)) for name in (one, other)]
        if first.kind == second.kind and share and any(are_targets) and not all(are_targets):
            found.append((one, first, second) if are_targets[0] else (other, second, first))
    return found


def _separate(agent: Any, made: Iterable[FeatureNetwork]) -> None:
    """Give target networks that share parameters with another network separate ones."""
    for name, target, other in _shared_targets(agent):
        if target is not other:
            for parameter in target.parameters():
                parameter.data = parameter.data.clone()
        elif getattr(agent, name, None) is target:
            held = {id(network) for _, network in _named_networks(agent)}
            dropped = (new for new in made if new.kind == target.kind and id(new) not in held)
            setattr(agent, name, next(dropped, None) or copy.deepcopy(target))
