"""Where a run logs its scalars and figures: TensorBoard, CSV, Weights & Biases, or your own sink.

A sink is one file in this folder that defines a class with the methods of `Sink` and registers it
under a name for `--log`. It imports optional packages where they are used, never with the module.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

from tqdm import tqdm

from cs285.homework import RegistrationError
from cs285.infrastructure.errors import UserError, suggestion
from cs285.results.run_folders import RunFolder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Made = TypeVar("Made", bound=Callable[[RunFolder], "Sink"])

DEFAULT = ("tensorboard",)
"""Sinks of a run by default; the report and the hand-in read TensorBoard's files."""


class Sink(Protocol):
    """One place that a run logs to.

    It is created with the run's folder whenever training starts or resumes. It starts empty: the
    first write replaces the log of an earlier attempt, unless `rewind` was called before.
    """

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Log scalars, by tag. Steps never decrease between calls."""

    def figure(self, figure: Figure, tag: str, step: int) -> None:
        """Log a figure, and leave it open, since other sinks log it too."""

    def flush(self) -> Any:
        """Make everything logged so far durable.

        Returns:
            The position for `rewind`, as plain values, since it is stored in checkpoints.
        """

    def rewind(self, position: Any) -> None:
        """Continue from a position that `flush` returned earlier, and drop everything after it."""

    def close(self) -> None:
        """Release files and connections. Only `flush` may follow."""


@dataclass(frozen=True)
class SinkRecord:
    """A registered sink."""

    name: str
    make: Callable[[RunFolder], Sink]
    package: str | None
    """A package that it needs and that is not a dependency of this project."""
    may_fail: bool
    """Whether training continues without the sink when it raises an exception."""


_registered: dict[str, SinkRecord] = {}


def register(
    name: str, *, package: str | None = None, may_fail: bool = False
) -> Callable[[Made], Made]:
    """Register a class as a sink; the arguments are those of `SinkRecord`.

    Raises:
        RegistrationError: If another class has registered this name.
    """

    def decorate(make: Made) -> Made:
        known = _registered.get(name)
        if known is not None and _place(known.make) != _place(make):
            raise RegistrationError(
                f"the sink `{name}` is registered twice, by {known.make.__module__} and by "
                f"{make.__module__}; give one of them another name"
            )
        _registered[name] = SinkRecord(name, make, package, may_fail)
        return make

    return decorate


def _place(make: Callable[..., object]) -> tuple[str, str]:
    return make.__module__, make.__qualname__


@functools.cache
def sinks() -> Mapping[str, SinkRecord]:
    """Return all sinks by name; the first call imports every module of this folder.

    Raises:
        RegistrationError: If two sinks have the same name.
    """
    for module in pkgutil.iter_modules(__path__, f"{__name__}."):
        importlib.import_module(module.name)
    return MappingProxyType(dict(sorted(_registered.items())))


def check_names(given: str | Sequence[str]) -> tuple[str, ...]:
    """Return the names of the sinks, each once, if all of them can be used here.

    Args:
        given: The names, in a list or separated by commas.

    Raises:
        UserError: If there are none, or one is unknown or needs a package that is not installed.
    """
    known = sinks()
    parts = given.split(",") if isinstance(given, str) else map(str, given)
    names = [name for part in parts if (name := part.strip())]
    if not names:
        raise UserError(f"--log needs at least one of {', '.join(known)}")
    for name in names:
        if name not in known:
            raise UserError(
                f"--log {name[:80]!r} is unknown{suggestion(name, known)}; "
                f"choose from {', '.join(known)}, separated by commas"
            )
        package = known[name].package
        if package is not None and importlib.util.find_spec(package) is None:
            raise UserError(
                f"--log {name} needs the package {package}; install it with: pip install {package}"
            )
    return tuple(dict.fromkeys(names))


class Logger:
    """Logs one run to all of its sinks, and closes them as a context manager.

    Args:
        folder: The run's folder.
        names: Names of sinks, which `check_names` accepts.
    """

    def __init__(self, folder: RunFolder, names: Sequence[str] = DEFAULT) -> None:
        self._folder = folder
        self._sinks = {name: sinks()[name].make(folder) for name in names}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Log scalars, by tag.

        Raises:
            UserError: If a file cannot be written; likewise for all other methods.
        """
        self._call_all(lambda _, sink: sink.scalars(values, step))

    def figure(self, figure: Figure, tag: str, step: int) -> None:
        """Log a figure, and close it."""
        self._call_all(lambda _, sink: sink.figure(figure, tag, step))
        if pyplot := sys.modules.get("matplotlib.pyplot"):
            pyplot.close(figure)

    def flush(self) -> dict[str, Any]:
        """Make everything logged so far durable; return the positions for `rewind`."""
        return self._call_all(lambda _, sink: sink.flush())

    def rewind(self, positions: Mapping[str, Any]) -> None:
        """Continue from the positions that `flush` returned, and drop everything logged later."""

        def rewind(name: str, sink: Sink) -> None:
            # A sink that had failed has no position, so it starts over.
            if name in positions or not sinks()[name].may_fail:
                sink.rewind(positions[name])

        self._call_all(rewind)

    def close(self) -> None:
        """Close all sinks."""
        self._call_all(lambda _, sink: sink.close())

    def _call_all(self, call: Callable[[str, Sink], Any]) -> dict[str, Any]:
        """Call every sink; return the results by name."""
        results = {}
        for name, sink in list(self._sinks.items()):
            try:
                results[name] = call(name, sink)
            except Exception as error:
                if not sinks()[name].may_fail:
                    raise
                del self._sinks[name]
                reason = " ".join(str(error).split()) or type(error).__name__
                tqdm.write(f"{self._folder.name} is no longer logged to {name}: {reason}")
        return results
