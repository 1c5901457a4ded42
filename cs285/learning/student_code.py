"""Calls of students' agents, whose results are checked and whose errors become one sentence.

The sentence names the file and the line, as in `cs285/agents/iql_agent.py, line 40, in update_v:
IndexError: ...`. The error's `__cause__` has the whole traceback, for callers in Python.
"""

from __future__ import annotations

import functools
import inspect
import linecache
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from cs285.infrastructure.errors import DivergenceError, UserError, is_unwritten, printable

PACKAGE = Path(__file__).parents[1]
MAX_MESSAGE = 300
"""Maximum length of an error's message, in characters: PyTorch's can fill a page."""


class Place(NamedTuple):
    """A line of a file, or a whole file."""

    path: Path
    line: int
    """0 for a whole file."""
    function: str

    def __str__(self) -> str:
        if not self.line:
            return _shown(self.path)
        inside = "" if self.function == "<module>" else f", in {self.function}"
        return f"{_shown(self.path)}, line {self.line}{inside}"


@contextmanager
def reported() -> Iterator[None]:
    """Turn errors from agent files into one sentence.

    Raises:
        UserError: In place of any error that was raised in an agent file or in code it called.
    """
    try:
        yield
    except (UserError, DivergenceError):
        raise
    except (Exception, SystemExit) as error:
        if isinstance(error, NotImplementedError) and is_unwritten(error):
            raise
        sentence = _sentence(error)
        if sentence is None:
            raise
        raise UserError(sentence) from error


def construct(
    agent_class: type, observation_shape: tuple[int, ...], num_actions: int, **arguments: Any
) -> Any:
    """Make an agent whose constructor takes shape and actions first, or by name in any order."""
    try:
        inspect.signature(agent_class).bind(observation_shape, num_actions, **arguments)
    except (TypeError, ValueError):
        named = {"observation_shape": observation_shape, "num_actions": num_actions, **arguments}
        try:
            inspect.signature(agent_class).bind(**named)
        except (TypeError, ValueError):
            pass  # the call below raises an error that says what does not fit
        else:
            return agent_class(**named)
    return agent_class(observation_shape, num_actions, **arguments)


def get_action(agent: Any, observation: np.ndarray, epsilon: float) -> int:
    """Return the action that an agent chooses for one observation `(*observation_shape)`.

    The method may return a number, or an array or a tensor of one element. The public starter's
    random agent takes no `epsilon`.

    Raises:
        UserError: If the method cannot be called, or returns anything else.
    """
    method = method_of(agent, "get_action")
    arguments = (observation, epsilon) if takes(method, 2) else (observation,)
    _check_call(method, arguments)
    given = method(*arguments)
    value = given.detach().cpu() if isinstance(given, torch.Tensor) else given
    is_number = isinstance(value, int | float | np.generic | np.ndarray | torch.Tensor)
    action = np.asarray(value) if is_number else np.empty(0)
    if action.size != 1 or action.dtype.kind not in "biuf" or action.item() % 1:
        raise UserError(
            f"{_place_of(method)}: it returned {_kind(given)}; "
            "`get_action` must return one action, an integer"
        )
    chosen = int(action.item())
    count = getattr(agent, "num_actions", None)
    if chosen < 0 or (isinstance(count, int) and chosen >= count):
        known = f"from 0 to {count - 1}" if isinstance(count, int) else "from 0 on"
        raise UserError(f"{_place_of(method)}: it returned {chosen}; the actions are {known}")
    return chosen


def update(agent: Any, arguments: tuple[Any, ...]) -> Mapping[str, Any]:
    """Let an agent take one update and return what it logs, which may be nothing.

    Raises:
        UserError: If `update` cannot be called, or returns anything but a dict with string keys.
    """
    method = method_of(agent, "update")
    _check_call(method, arguments)
    logged = method(*arguments)
    if logged is None:
        return {}
    if not isinstance(logged, Mapping) or not all(isinstance(tag, str) for tag in logged):
        raise UserError(
            f"{_place_of(method)}: it returned {_kind(logged)}; "
            "`update` must return a dict of the numbers to log, by name"
        )
    return logged


def scalar(agent: Any, tag: str, value: Any, device: torch.device) -> torch.Tensor:
    """Return a metric as a tensor; students' files return numbers, arrays or tensors.

    Raises:
        UserError: If it is none of these.
    """
    try:
        return torch.as_tensor(value, device=device).detach().float().mean()
    except (TypeError, ValueError, RuntimeError):
        raise UserError(
            f"{_place_of(method_of(agent, 'update'))}: it returned {_kind(value)} as {tag!r}, "
            "which must be a number"
        ) from None


# Calls


def method_of(agent: Any, name: str) -> Callable[..., Any]:
    """Return a method of an agent.

    Raises:
        UserError: If there is none.
    """
    method = getattr(agent, name, None)
    if not callable(method):
        raise UserError(f"{_place_of(type(agent))}: {type(agent).__name__} has no method `{name}`")
    found: Callable[..., Any] = method
    return found


def takes(method: Callable[..., Any], count: int) -> bool:
    """Return whether a method can be called with this many positional arguments."""
    function = getattr(method, "__func__", None)
    return _can_call(method, count) if function is None else _can_call(function, count + 1)


@functools.lru_cache(maxsize=64)
def _can_call(function: Callable[..., Any], count: int) -> bool:
    try:
        inspect.signature(function).bind(*range(count))
    except TypeError:
        return False
    except ValueError:
        return True  # its signature is unknown
    return True


def _check_call(method: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    if not takes(method, len(arguments)):
        raise UserError(
            f"{_place_of(method)}: it cannot be called with {len(arguments)} arguments, "
            f"as the training loop does; it takes {inspect.signature(method)}"
        )


def _place_of(thing: Any) -> str:
    """Return where a method or a class is defined, as text."""
    name = getattr(thing, "__name__", type(thing).__name__)
    try:
        path = Path(inspect.getsourcefile(thing) or "")
        line = inspect.getsourcelines(thing)[1]
    except (OSError, TypeError):
        return str(name)
    return str(Place(path, line, name if inspect.isroutine(thing) else "<module>"))


def _kind(value: Any) -> str:
    """Describe a value in a few words."""
    if value is None:
        return "None"
    if isinstance(value, torch.Tensor | np.ndarray):
        sort = "a tensor" if isinstance(value, torch.Tensor) else "an array"
        return f"{sort} of shape {tuple(value.shape)} and type {str(value.dtype).split('.')[-1]}"
    text = f" ({value})" if isinstance(value, int | float | np.generic) else ""
    return f"a {type(value).__name__}{text}"


# Errors


def _sentence(error: BaseException) -> str | None:
    """Describe an error and where it was raised; None if no agent file was involved."""
    frames = list(_frames(error))
    agents = [k for k, place in enumerate(frames) if _is_agent(place.path)]
    if not agents:
        return None
    raised = frames[-1]
    own = frames[agents[-1]]
    if raised.path != own.path:
        where = f"{own} (raised in {raised})"
    else:
        callers = [frames[k] for k in agents if frames[k].path != own.path]
        where = f"{own} (called from {callers[-1]})" if callers else str(own)
    return f"{where}: {_message(error, raised)}"


def _frames(error: BaseException) -> Iterator[Place]:
    """Yield the lines of this package and of its agents in an error's traceback."""
    for frame in traceback.extract_tb(error.__traceback__):
        path = Path(frame.filename)
        if _is_agent(path) or path.is_relative_to(PACKAGE):
            yield Place(path, frame.lineno or 0, frame.name)
    if isinstance(error, SyntaxError) and error.filename:
        yield Place(Path(error.filename), error.lineno or 0, "<module>")
    elif isinstance(error, ImportError) and error.path and _is_agent(Path(error.path)):
        yield Place(Path(error.path), 0, "<module>")  # the file lacks the imported name


def _is_agent(path: Path) -> bool:
    package = sys.modules.get(f"{__name__.partition('.')[0]}.agents")
    return str(path.parent) in map(str, getattr(package, "__path__", ()))


def _message(error: BaseException, raised: Place) -> str:
    """Return the type and the message of an error in one line."""
    module = error.name or "" if isinstance(error, ModuleNotFoundError) else ""
    if module.partition(".")[0] == "gym":
        return (
            "the package `gym` is not installed, since Gymnasium has replaced it; "
            "write `import gymnasium as gym`"
        )
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    if isinstance(error, ImportError) and error.path:
        text = text.removesuffix(f" ({error.path})")
    if module.startswith(f"{PACKAGE.name}."):
        text += ", so this file is missing from the tree"
    if isinstance(error, AssertionError) and not text:
        text = linecache.getline(str(raised.path), raised.line)
    text = printable(" ".join(text.split()))
    shown = text if len(text) <= MAX_MESSAGE else f"{text[:MAX_MESSAGE]}..."
    return f"{type(error).__name__}: {shown}" if shown else type(error).__name__


def _shown(path: Path) -> str:
    """Return a path relative to the current folder or to the folder above this package."""
    for folder in (Path.cwd(), PACKAGE.parent):
        if path.is_relative_to(folder):
            return str(path.relative_to(folder))
    return str(path)
