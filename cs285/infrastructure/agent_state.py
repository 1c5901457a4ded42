"""The state of an agent of any kind, found by walking through its attributes.

Agents that state their objectives need none of this. One written against the homework's starter
keeps networks, optimisers, counters and the like under names of its own.
"""

from __future__ import annotations

import functools
import random
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from cs285.infrastructure.checkpoints import fill

KEEPERS: tuple[tuple[type, str, str], ...] = (
    (torch.optim.Optimizer, "state_dict", "load_state_dict"),
    (torch.optim.lr_scheduler.LRScheduler, "state_dict", "load_state_dict"),
    (torch.Generator, "get_state", "set_state"),
    (random.Random, "getstate", "setstate"),
)
"""Types whose objects tell their state and take it back, and the methods that do so."""

PLAIN = (type(None), bool, int, float, str, np.generic, np.ndarray, torch.Tensor)
STATELESS = (torch.device, torch.dtype, np.dtype)
CODE = (
    type,
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    functools.partial,
)


def get_state(agent: object) -> dict[str, dict[str, Any]]:
    """Return what an agent and its modules hold, per module and attribute.

    Raises:
        TypeError: If an attribute is of a kind that cannot be kept.
    """
    return {
        path: {
            name: _told(value, f"{type(agent).__name__}.{path}{name}")
            for name, value in _attributes(owner)
            if not _is_fixed(value)
        }
        for path, owner in _owners(agent)
    }


def set_state(agent: object, state: dict[str, dict[str, Any]]) -> None:
    """Restore what `get_state` of such an agent returned.

    Raises:
        ValueError, KeyError, TypeError: If it is of another agent.
    """
    for path, owner in _owners(agent):
        own = dict(_attributes(owner))
        for name, value in state[path].items():
            _take_back(owner, name, own.get(name), value)


def _owners(agent: object) -> Iterator[tuple[str, object]]:
    """Yield an agent and the modules in it, each once, with a prefix for its attributes."""
    yield "", agent
    roots = {"": agent} if isinstance(agent, nn.Module) else vars(agent)
    seen = {id(agent)}
    for root, thing in roots.items():
        for name, module in thing.named_modules() if isinstance(thing, nn.Module) else ():
            if id(module) not in seen:
                seen.add(id(module))
                yield ".".join(filter(None, (root, name))) + ".", module


def _attributes(owner: object) -> Iterator[tuple[str, Any]]:
    """Yield the attributes of an object, those that PyTorch registers included."""
    if not isinstance(owner, nn.Module):
        yield from vars(owner).items()
        return
    yield from owner.named_parameters(recurse=False)
    yield from owner.named_buffers(recurse=False)
    own_of_torch = vars(nn.Module())
    yield from ((name, value) for name, value in vars(owner).items() if name not in own_of_torch)


def _is_fixed(value: Any) -> bool:
    """Tell whether a value is an owner of its own, or code rather than data."""
    return isinstance(value, (nn.Module, *STATELESS, *CODE))


def _told(value: Any, what: str) -> Any:
    for kind, tell, _ in KEEPERS:
        if isinstance(value, kind):
            return getattr(value, tell)()
    if isinstance(value, np.random.Generator):
        return value.bit_generator.state
    if not (isinstance(value, nn.Parameter) or _is_plain(value)):
        raise TypeError(f"{what} is a {type(value).__name__}")
    return value


def _is_plain(value: Any) -> bool:
    if type(value) in {list, tuple}:
        return all(map(_is_plain, value))
    if type(value) is dict:
        return all(map(_is_plain, value.values()))
    # A parameter in a list is shared with a network, of which a copy would know nothing.
    return isinstance(value, PLAIN) and not isinstance(value, nn.Parameter)


def _take_back(owner: object, name: str, current: Any, value: Any) -> None:
    for kind, _, take in KEEPERS:
        if isinstance(current, kind):
            getattr(current, take)(value)
            return
    if isinstance(current, np.random.Generator):
        current.bit_generator.state = value
    elif isinstance(current, torch.Tensor):
        with torch.no_grad():
            fill(current, value)
    elif isinstance(current, np.ndarray):
        fill(current, value)
    else:
        setattr(owner, name, value)
