"""Runs inside the confined process: calls a student's agent and sends back raw numbers.

It judges nothing. The networks that it gives to the agent are linear in fixed random features of
the observation. The gradient of their weights therefore determines the derivative of the loss by
every output in every row of a batch: enough to compute the target and the weight of each row.
"""

from __future__ import annotations

import base64
import importlib
import inspect
import json
import os
import random
import re
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.distributions import Categorical

from cs285.grading.sandbox.own_modules import make_importable

LEARNING_RATE = 0.5
"""Learning rate of the agents' optimisers: plain gradient descent, so a step gives the gradient."""
NUM_ACTIONS = 5
RND_SIZE = 4
MAX_ELEMENTS = 100_000
PlainDescent = torch.optim.SGD
_OPTIMISERS = ("Adagrad", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "SGD")
_PATH_IN_MESSAGE = re.compile(r" ?\((?:/|[A-Z]:\\)[^)]*\)")


class FeatureNetwork(nn.Module):
    """A linear map of fixed random features: `(batch, 2)` to `(batch, outputs)`.

    Args:
        kind: What the agent uses it as, such as `critic`.
        features: `frequencies (2, features)` and `phases (features,)`.
        outputs: Number of outputs; V has one, and returns `(batch, 1)`.
    """

    frequencies: torch.Tensor
    phases: torch.Tensor

    def __init__(self, kind: str, features: dict[str, torch.Tensor], outputs: int) -> None:
        super().__init__()
        self.kind = kind
        self.register_buffer("frequencies", features["frequencies"].clone())
        self.register_buffer("phases", features["phases"].clone())
        self.linear = nn.Linear(features["phases"].shape[0], outputs)

    def forward(self, observations: torch.Tensor) -> Any:
        """Return the outputs, or for an actor their distribution."""
        features = torch.cos(observations @ self.frequencies + self.phases)
        outputs = self.linear(features)
        if self.kind == "actor":
            return Categorical(logits=outputs, validate_args=False)
        return outputs


class Networks:
    """The networks that an agent has made, and which of them it optimises."""

    def __init__(self, features: dict[str, torch.Tensor]) -> None:
        self.features = features
        self.made: list[FeatureNetwork] = []
        self.optimised: set[int] = set()
        self.optimisers: set[str] = set()
        self.own_optimisers: set[str] = set()
        """The kinds whose optimisers the class makes itself, without the makers."""

    def make(self, kind: str, outputs: int) -> Callable[..., FeatureNetwork]:
        """Return a maker of networks of one kind."""

        def make_network(*_shape: Any, **_named_shape: Any) -> FeatureNetwork:
            network = FeatureNetwork(kind, self.features, outputs)
            self.made.append(network)
            return network

        return make_network

    def optimise(self, kind: str) -> Callable[..., torch.optim.SGD]:
        """Return a maker of optimisers for one kind, whose step is proportional to the gradient."""

        def make_optimizer(params: Iterable[nn.Parameter]) -> torch.optim.SGD:
            optimizer = PlainDescent(params, lr=LEARNING_RATE)
            self.note(optimizer)
            self.optimisers.add(kind)
            return optimizer

        return make_optimizer

    def note(self, optimizer: torch.optim.SGD) -> set[str]:
        """Remember what an optimiser trains; return the kinds of networks among it."""
        groups = optimizer.param_groups
        optimised = {id(parameter) for group in groups for parameter in group["params"]}
        self.optimised |= optimised
        return {one.kind for one in self.made if id(one.linear.weight) in optimised}

    def by_role(self, agent: Any) -> dict[str, list[FeatureNetwork]]:
        """Return the agent's networks as `kind/online` and `kind/target`, in order of making.

        Deep copies come last. If the agent holds a network of a role, those of that role that it
        made and dropped are left out.
        """
        held = {id(network): network for network in _networks_in(agent)}
        made = {id(network): network for network in self.made}
        roles: dict[str, list[FeatureNetwork]] = {}
        for key, network in (made | held).items():
            role = self.role(network)
            if key in held or all(self.role(other) != role for other in held.values()):
                roles.setdefault(role, []).append(network)
        return roles

    def role(self, network: FeatureNetwork) -> str:
        """Return what a network is to the agent, such as `critic/online`."""
        online = id(network.linear.weight) in self.optimised
        return f"{network.kind}/{'online' if online else 'target'}"


def replace_optimisers(watching: list[Networks]) -> None:
    """Let optimisers that a class makes itself step along the gradient too, so it can be read.

    Args:
        watching: The networks of the agent that is being made, at the end.
    """

    class OwnOptimizer(PlainDescent):
        def __init__(self, params: Iterable[nn.Parameter], *_args: Any, **_settings: Any) -> None:
            super().__init__(params, lr=LEARNING_RATE)
            if watching:
                kinds = watching[-1].note(self)
                watching[-1].optimisers |= kinds
                watching[-1].own_optimisers |= kinds

    for name in _OPTIMISERS:
        setattr(torch.optim, name, OwnOptimizer)


def _networks_in(value: Any, depth: int = 0) -> Iterator[FeatureNetwork]:
    """Yield the networks that an agent holds, also in plain lists, where `modules` misses them."""
    if isinstance(value, FeatureNetwork):
        yield value
    elif depth < 4:  # noqa: PLR2004 - a list in a module in the agent
        if isinstance(value, dict):
            parts = list(value.values())
        elif isinstance(value, list | tuple):
            parts = list(value)
        else:
            parts = list(vars(value).values()) if isinstance(value, nn.Module) or not depth else []
        for part in parts:
            yield from _networks_in(part, depth + 1)


class Scene:
    """Tells what was raised, and where in the hand-in's files.

    Args:
        folder: Where a job's files lie.
        own: The paths of those from the hand-in.
    """

    def __init__(self, folder: Path, own: frozenset[str]) -> None:
        self.folder = folder
        self.own = own

    def describe(self, error: BaseException) -> dict[str, Any]:
        """Return the error as plain data; places are given only in the hand-in's own files."""
        try:
            message = str(error)[:500]
        except BaseException:  # noqa: BLE001
            message = "(an error that cannot be printed)"
        message = _PATH_IN_MESSAGE.sub("", message).replace(f"{self.folder}/", "")
        description: dict[str, Any] = {"type": type(error).__name__[:80], "message": message}
        if isinstance(error, _MissingMethodError):
            return description | {"type": "AttributeError", "missing": error.method}
        if isinstance(error, ImportError):
            description["name"] = str(error.name or "")[:80]
        for frame, line in traceback.walk_tb(error.__traceback__):
            path = self._path(frame.f_code.co_filename)
            if path in self.own:
                description |= {"file": path, "line": line, "function": frame.f_code.co_name}
                description.pop("inherited", None)
            elif path:
                description["inherited"] = {
                    "function": frame.f_code.co_name,
                    "shapes": {
                        name: list(value.shape)
                        for name, value in frame.f_locals.items()
                        if isinstance(value, torch.Tensor)
                    },
                }
        if isinstance(error, SyntaxError) and self._path(error.filename or "") in self.own:
            path = self._path(error.filename or "")
            description |= {"message": error.msg, "file": path, "line": error.lineno}
        return description

    def _path(self, filename: str) -> str:
        """Return the path of a file below the folder; empty if it is not there."""
        inside = filename.startswith(f"{self.folder}/")
        return filename.removeprefix(f"{self.folder}/") if inside else ""


def run(job: dict[str, Any], folder: Path, writer: int) -> None:
    """Run every trial of a job and write one line of JSON per result."""

    def send(record: dict[str, Any]) -> None:
        data = (json.dumps(record) + "\n").encode()
        while data:
            data = data[os.write(writer, data) :]

    watching: list[Networks] = []
    replace_optimisers(watching)
    scene = Scene(folder, frozenset(job["own"]))
    try:
        make_importable(folder, job["files"])
        cls = getattr(importlib.import_module(job["module"]), job["class"])
    except BaseException as error:  # noqa: BLE001 - a student may raise anything
        send({"stage": "import", "error": scene.describe(error)})
        return
    for index, trial in enumerate(job["trials"]):
        _run_trial(index, trial, job, cls, scene, watching, send)
    send({"stage": "done"})


def _run_trial(
    index: int,
    trial: dict[str, Any],
    job: dict[str, Any],
    cls: Any,
    scene: Scene,
    watching: list[Networks],
    send: Callable[[dict[str, Any]], None],
) -> None:
    features = {name: _decode(value) for name, value in job["features"].items()}
    networks = Networks(features)
    makers = {
        "make_critic": networks.make("critic", NUM_ACTIONS),
        "make_optimizer": networks.optimise("critic"),
        "make_lr_schedule": lambda optimizer: torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0),
        "make_actor": networks.make("actor", NUM_ACTIONS),
        "make_actor_optimizer": networks.optimise("actor"),
        "make_value_critic": networks.make("value", 1),
        "make_value_critic_optimizer": networks.optimise("value"),
        "make_rnd_network": networks.make("rnd", RND_SIZE),
        "make_rnd_network_optimizer": networks.optimise("rnd"),
        "make_target_rnd_network": networks.make("rnd", RND_SIZE),
    }
    watching.append(networks)
    _seed(trial["seed"])
    try:
        chosen = {name: makers[name] for name in trial["makers"]}
        agent = cls((2,), NUM_ACTIONS, **chosen, **trial["arguments"])
    except BaseException as error:  # noqa: BLE001
        send({"trial": index, "stage": "construct", "error": scene.describe(error)})
        return
    roles = networks.by_role(agent)
    send(
        {
            "trial": index,
            "stage": "construct",
            "weights": _weights(roles),
            "optimisers": sorted(networks.optimisers),
            "own_optimisers": sorted(networks.own_optimisers),
        }
    )
    with torch.no_grad():
        for role, members in roles.items():
            for network, (weight, bias) in zip(members, job["weights"].get(role, []), strict=False):
                network.linear.weight.copy_(_decode(weight))
                network.linear.bias.copy_(_decode(bias))
    _seed(trial["seed"])
    for number, call in enumerate(trial["calls"]):
        record: dict[str, Any] = {"trial": index, "stage": "call", "call": number}
        try:
            record |= _call(agent, call, networks.by_role(agent))
            record["weights"] = _weights(networks.by_role(agent))
        except BaseException as error:  # noqa: BLE001
            send(record | {"error": scene.describe(error)})
            return
        send(record)


class _NotAnActionError(ValueError):
    """What `get_action` returned is not one action."""


class _MissingMethodError(AttributeError):
    """The class does not have the method that is to be called."""

    def __init__(self, method: str, message: str) -> None:
        super().__init__(message)
        self.method = method


def _call(agent: Any, call: dict[str, Any], roles: dict[str, list[Any]]) -> dict[str, Any]:
    values = [
        _decode(value) if isinstance(value, dict) else value for value in call.get("values", [])
    ]
    try:
        method = getattr(agent, call["method"])
    except AttributeError as error:
        raise _MissingMethodError(call["method"], str(error)) from None
    if call["kind"] == "actions":
        observations = values[0].numpy()
        # A class that leaves epsilon out is judged by what it does, not by its signature.
        epsilon = (call["epsilon"],) if _takes(method, 2) else ()
        actions = [
            [_action(method(row.copy(), *epsilon)) for _ in range(call["repeats"])]
            for row in observations
        ]
        return {"result": _encode(np.array(actions, dtype=np.int64))}
    if call["kind"] == "leaves":
        values = [v.requires_grad_() if isinstance(v, torch.Tensor) else v for v in values]
        result = method(*values)
        result.sum().backward()
        gradients = [v.grad for v in values if isinstance(v, torch.Tensor)]
        return {"result": _encode(result), "gradients": _encode(gradients)}
    if call["kind"] == "advantage" and _takes(method, len(values) + 1):
        # Some students ignore the default None of `action_dist` and always pass a distribution.
        values.append(roles["actor/online"][0](values[0]))
    result = method(*values)
    record = {"result": _encode(result)}
    if call["kind"] == "loss":
        parameters = [p for members in roles.values() for n in members for p in n.parameters()]
        for parameter in parameters:
            parameter.grad = None
        result[0].backward()
        record["gradients"] = {
            role: [[_encode(n.linear.weight.grad), _encode(n.linear.bias.grad)] for n in members]
            for role, members in roles.items()
        }
    return record


def _action(returned: Any) -> int:
    """Return the action that `get_action` gave: a number, or an array or tensor of one.

    Raises:
        _NotAnActionError: If it is not one whole number.
    """
    value = returned.detach().cpu().numpy() if isinstance(returned, torch.Tensor) else returned
    array = np.asarray(value)
    if array.dtype.kind not in "iufb" or array.size != 1 or array.item() != int(array.item()):
        what = type(returned).__name__ if array.dtype.kind not in "iufb" else "array"
        shown = f"of shape {array.shape}" if array.size != 1 else f": {str(value)[:40]}"
        raise _NotAnActionError(f"get_action returns {what} {shown}, not one action")
    return int(array.item())


def _takes(method: Callable[..., Any], count: int) -> bool:
    """Return whether a method can be called with this many positional arguments."""
    try:
        inspect.signature(method).bind(*range(count))
    except (TypeError, ValueError):
        return False
    return True


def _weights(roles: dict[str, list[FeatureNetwork]]) -> dict[str, Any]:
    return {
        role: [[_encode(n.linear.weight), _encode(n.linear.bias)] for n in members]
        for role, members in roles.items()
    }


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - what students draw from
    torch.manual_seed(seed)


def _decode(value: Any) -> torch.Tensor:
    data = base64.b64decode(value["data"])
    array = np.frombuffer(data, dtype=value["dtype"]).reshape(value["shape"])
    return torch.from_numpy(array.copy())


def _encode(value: Any, depth: int = 0) -> Any:
    """Convert what a student's method returned to plain JSON, arrays as bytes in base 64."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        if array.size > MAX_ELEMENTS or array.dtype.kind not in "fiub":
            return {"kind": "other", "of": str(array.dtype)[:80]}
        array = array.astype(np.float64)
        data = base64.b64encode(array.tobytes()).decode()
        return {"kind": "array", "shape": array.shape, "data": data}
    if isinstance(value, bool | int | float):
        return _encode(np.float64(value))
    if isinstance(value, dict) and depth < 3:  # noqa: PLR2004
        return {
            "kind": "dict",
            "items": {str(key)[:80]: _encode(item, depth + 1) for key, item in value.items()},
        }
    if isinstance(value, list | tuple) and depth < 3:  # noqa: PLR2004
        return {"kind": "list", "items": [_encode(item, depth + 1) for item in value]}
    return {"kind": "other", "of": type(value).__name__[:80]}
