"""Runs inside the confined process: calls a student's agent and sends back raw numbers.

It judges nothing. The networks that it gives to the agent are linear in fixed random features of
the observation. The gradient of their weights therefore determines the derivative of the loss with
respect to every output in every row of a batch: enough to compute each row's target and weight.
"""

from __future__ import annotations

import base64
import importlib
import json
import os
import re
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cs285.grading.sandbox.own_modules import make_importable
from cs285.learning.student_code import construct, takes
from cs285.probing.networks import (
    NUM_ACTIONS,
    FeatureNetwork,
    KeptWeights,
    Networks,
    replace_optimisers,
    seed_everything,
)

MAX_ELEMENTS = 100_000
_CONSTRUCTION_SEED = 1
_PATH_IN_MESSAGE = re.compile(r" ?\((?:/|[A-Z]:\\)[^)]*\)")


class ErrorReporter:
    """Describes an error and where in the hand-in's files it was raised.

    Args:
        folder: The folder with a job's files.
        own: The paths of the files from the hand-in.
        compiled: The paths of the files present as bytecode, which names them as its source.
    """

    def __init__(self, folder: Path, own: frozenset[str], compiled: frozenset[str]) -> None:
        self.folder = folder
        self.own = own
        self.compiled = compiled

    def describe(self, error: BaseException) -> dict[str, Any]:
        """Return an error as plain data; lines are given only for the hand-in's own files."""
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
        """Return the path of a file relative to the folder; empty if it is elsewhere."""
        if filename in self.compiled:
            return filename
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
    reporter = ErrorReporter(folder, frozenset(job["own"]), frozenset(job.get("compiled", ())))
    try:
        make_importable(folder, job["files"])
        cls = getattr(importlib.import_module(job["module"]), job["class"])
    except BaseException as error:  # noqa: BLE001 - a student may raise anything
        send({"stage": "import", "error": reporter.describe(error)})
        return
    for index, trial in enumerate(job["trials"]):
        _run_trial(index, trial, job, cls, reporter, watching, send)
    send({"stage": "done"})


def _run_trial(
    index: int,
    trial: dict[str, Any],
    job: dict[str, Any],
    cls: Any,
    reporter: ErrorReporter,
    watching: list[Networks],
    send: Callable[[dict[str, Any]], None],
) -> None:
    features = {name: _decode(value) for name, value in job["features"].items()}
    networks = Networks(features)
    makers = networks.makers()
    watching.append(networks)
    # What a constructor draws, such as hidden weights, must not count as randomness of the calls.
    seed_everything(_CONSTRUCTION_SEED)
    try:
        chosen = {name: makers[name] for name in trial["makers"]}
        agent = construct(cls, (2,), NUM_ACTIONS, **chosen, **trial["arguments"])
        shared = networks.shared(agent)
        networks.settle(agent)
    except BaseException as error:  # noqa: BLE001
        send({"trial": index, "stage": "construct", "error": reporter.describe(error)})
        return
    roles = networks.by_role(agent)
    send(
        {
            "trial": index,
            "stage": "construct",
            "weights": _weights(roles),
            "optimisers": sorted(networks.optimisers),
            "own_optimisers": sorted(networks.own_optimisers),
            "shared": sorted(shared),
        }
    )
    with torch.no_grad():
        for role, members in roles.items():
            for network, (weight, bias) in zip(members, job["weights"].get(role, []), strict=False):
                network.linear.weight.copy_(_decode(weight))
                network.linear.bias.copy_(_decode(bias))
    seed_everything(trial["seed"])
    for number, call in enumerate(trial["calls"]):
        record: dict[str, Any] = {"trial": index, "stage": "call", "call": number}
        try:
            record |= _call(agent, call, networks.by_role(agent))
            record["weights"] = _weights(networks.by_role(agent))
            record["shared"] = sorted(networks.shared(agent))
            record["foreign_schedule"] = networks.has_foreign_schedule()
        except BaseException as error:  # noqa: BLE001
            send(record | {"error": reporter.describe(error)})
            return
        send(record)


class _NotAnActionError(ValueError):
    """What `get_action` returned is not one action."""


class _MissingMethodError(AttributeError):
    """The class lacks the method to be called."""

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
        epsilon = (call["epsilon"],) if takes(method, 2) else ()
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
    if call["kind"] == "advantage" and takes(method, len(values) + 1):
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


def _weights(roles: dict[str, list[FeatureNetwork | KeptWeights]]) -> dict[str, Any]:
    return {
        role: [[_encode(n.linear.weight), _encode(n.linear.bias)] for n in members]
        for role, members in roles.items()
    }


def _decode(value: Any) -> torch.Tensor:
    data = base64.b64decode(value["data"])
    array = np.frombuffer(data, dtype=value["dtype"]).reshape(value["shape"])
    return torch.from_numpy(array.copy())


def _encode(value: Any, depth: int = 0) -> Any:
    """Convert what a student's method returned to plain JSON, with arrays as bytes in base64."""
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
