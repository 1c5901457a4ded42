"""What a run leaves in its folder: a TensorBoard event file, its config and its summary."""

import json
import math
import platform
import shutil
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import yaml

from cs285.infrastructure.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PACKAGES = ("torch", "numpy", "gymnasium", "cs285")


class RunLogger:
    """Writes everything of one run into one folder; closes its event file as a context manager.

    Args:
        folder: An existing folder that belongs to this run alone.
    """

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.folder = folder
        self._writer = SummaryWriter(folder)
        self._events: Any = self._writer.file_writer  # torch declares it as None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def log_scalars(self, values: Mapping[str, float], step: int) -> None:
        """Add scalars under their tags; all values of a step share one event, which is cheaper."""
        from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]  # has no stubs

        entries = [
            Summary.Value(tag=tag, simple_value=float(value)) for tag, value in values.items()
        ]
        self._events.add_summary(Summary(value=entries), step)

    def log_figure(self, figure: "Figure", tag: str, step: int) -> None:
        """Add a picture of the figure under its tag, and close the figure."""
        self._writer.add_figure(tag, figure, step, close=True)

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write the resolved config (plain YAML types) to `config.yaml`."""
        text = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
        write_atomically(self.folder / "config.yaml", lambda file: file.write(text.encode()))

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write `summary.json`; JSON has no NaN or infinity, so these become null."""
        text = json.dumps(_finite(dict(summary)), indent=2, allow_nan=False) + "\n"
        write_atomically(self.folder / "summary.json", lambda file: file.write(text.encode()))

    def flush(self) -> None:
        """Bring everything logged so far to the disk."""
        self._writer.flush()

    def close(self) -> None:
        """Flush and close the event file."""
        self._writer.close()


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide a run's numbers."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def git_revision() -> str | None:
    """Return the short hash of the commit of this code, or None outside a repository."""
    git = shutil.which("git")
    if git is None:
        return None
    try:
        done = subprocess.run(  # noqa: S603 - a fixed command, no input from outside
            [git, "rev-parse", "--short", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _finite(value: Any) -> Any:
    """Copy a JSON value with None in the place of NaN and infinities."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
