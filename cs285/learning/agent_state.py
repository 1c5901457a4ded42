"""The state of an agent of any kind, found by walking through its attributes.

Agents that declare their objectives do not need this. An agent written against the homework's
starter keeps networks, optimisers, counters and the like under names of its choice.
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

from cs285.infrastructure import pytorch_util as ptu
from cs285.learning.arrays import fill
from cs285.learning.random_streams import pack_legacy, unpack_legacy

Outline = dict[str, dict[str, object]]

KEEPERS: tuple[tuple[type, str, str], ...] = (
    (torch.optim.Optimizer, "state_dict", "load_state_dict"),
    (torch.optim.lr_scheduler.LRScheduler, "state_dict", "load_state_dict"),
    (torch.Generator, "get_state", "set_state"),
    (random.Random, "getstate", "setstate"),
)
"""Types whose objects return their state and restore it, and the methods that do so."""

PLAIN = (type(None), bool, int, float, str, np.generic, torch.Tensor)
STATELESS = (torch.device, torch.dtype, np.dtype)
CODE = (
    type,
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    functools.partial,
)


def outline(agent: object) -> Outline:
    """Return what `set_state` needs to find unchanged: modules, trained tensors and code.

    The result is by module and attribute, like that of `get_state`.
    """
    if not hasattr(agent, "__dict__"):
        return {}  # it has slots, which `get_state` does not read
    return {
        path: {name: kind for name, value in _attributes(owner) if (kind := _kind(value))}
        for path, owner in _owners(agent)
    }


def get_state(agent: object, born: Outline | None = None) -> dict[str, dict[str, Any]]:
    """Return the state of an agent and its modules, by module and attribute.

    Args:
        agent: The agent.
        born: Its outline when it was made, which `set_state` needs unchanged.

    Raises:
        TypeError: If an attribute is of a kind that cannot be saved, or the outline has changed.
    """
    if born is not None:
        _compare(type(agent).__name__, born, outline(agent))
    return {
        path: {
            name: _export(value, f"{type(agent).__name__}.{path}{name}")
            for name, value in _attributes(owner)
            if not _is_fixed(value)
        }
        for path, owner in _owners(agent)
    }


def set_state(agent: object, state: dict[str, dict[str, Any]]) -> None:
    """Restore a state that `get_state` returned for such an agent.

    Raises:
        ValueError, KeyError, TypeError: If the state belongs to another agent.
    """
    owners = dict(_owners(agent))
    for path, owner in owners.items():
        own = dict(_attributes(owner))
        for name in own.keys() - state[path].keys():
            if not _is_fixed(own[name]):
                delattr(owner, name)
        for name, value in state[path].items():
            _restore(owner, name, own.get(name), value)
    # Attributes that share memory in a new agent may have been separated since.
    for path, owner in owners.items():
        for name, value in state[path].items():
            current = getattr(owner, name)
            if _is_array(current) and not (_is_trained(current) or _is_equal(current, value)):
                setattr(owner, name, _like(current, value))


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
    """Yield the attributes of an object, including those that PyTorch registers."""
    if not isinstance(owner, nn.Module):
        yield from vars(owner).items()
        return
    yield from owner.named_parameters(recurse=False)
    yield from owner.named_buffers(recurse=False)
    own_of_torch = vars(nn.Module()).keys() - {"training"}
    yield from ((name, value) for name, value in vars(owner).items() if name not in own_of_torch)


def _is_fixed(value: Any) -> bool:
    """Return whether a value is handled separately, or is code rather than data."""
    return isinstance(value, (nn.Module, *STATELESS, *CODE))


def _kind(value: Any) -> object:
    """Return the property of a value that must not change if it is to be restored, or None."""
    if isinstance(value, CODE):
        return getattr(value, "__qualname__", type(value))
    if isinstance(value, STATELESS):
        return value
    if isinstance(value, (nn.Module, np.random.Generator, *(kind for kind, *_ in KEEPERS))):
        return type(value)
    if _is_trained(value):
        return value.dtype, value.shape
    return None


def _compare(agent: str, born: Outline, now: Outline) -> None:
    for path in born.keys() | now.keys():
        before, after = born.get(path, {}), now.get(path, {})
        for name in before.keys() | after.keys():
            if before.get(name) != after.get(name):
                raise TypeError(f"{agent}.{path}{name} is not what it was when the agent was made")
        if (path in born) != (path in now):
            raise TypeError(f"{agent}.{path[:-1]} is not what it was when the agent was made")


def _is_trained(value: Any) -> bool:
    """Return whether optimisers and networks may hold a tensor by its identity."""
    is_leaf = isinstance(value, torch.Tensor) and value.is_leaf and value.requires_grad
    return is_leaf or isinstance(value, nn.Parameter)


def _export(value: Any, what: str) -> Any:
    if isinstance(value, np.random.RandomState):
        return pack_legacy(value.get_state())
    for kind, getter, _ in KEEPERS:
        if isinstance(value, kind):
            return getattr(value, getter)()
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
    # A parameter in a list is shared with a network; a copy would not be.
    # An array of a subclass, such as a masked array, is more than its numbers.
    return (isinstance(value, PLAIN) or type(value) is np.ndarray) and not isinstance(
        value, nn.Parameter
    )


def _restore(owner: object, name: str, current: Any, value: Any) -> None:
    for kind, _, take in KEEPERS:
        if isinstance(current, kind):
            getattr(current, take)(value)
            return
    if isinstance(current, np.random.RandomState):
        current.set_state(unpack_legacy(value))
    elif isinstance(current, np.random.Generator):
        current.bit_generator.state = value
    elif _is_trained(current) or _fits(current, value):
        # In place, because optimisers and views may refer to it.
        with torch.no_grad():
            fill(current, value)
    else:
        setattr(owner, name, _like(current, value))


def _fits(current: Any, value: Any) -> bool:
    """Return whether a value can be copied into the current one."""
    if not _is_array(value) or type(current) is not type(value):
        return False
    is_own = current.flags.writeable if isinstance(current, np.ndarray) else current.is_contiguous()
    return bool(is_own and (current.shape, current.dtype) == (value.shape, value.dtype))


def _like(current: Any, value: Any) -> Any:
    """Return a checkpoint's value in the form of the value that it will replace."""
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, torch.Tensor):
        return value.to(current.device if isinstance(current, torch.Tensor) else ptu.device)
    return value


def _is_array(value: Any) -> bool:
    return isinstance(value, (torch.Tensor, np.ndarray))


def _is_equal(current: Any, value: Any) -> bool:
    """Return whether two arrays, or two tensors, are equal, with NaN equal to NaN."""
    one, other = (x.cpu().numpy() if isinstance(x, torch.Tensor) else x for x in (current, value))
    return np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
