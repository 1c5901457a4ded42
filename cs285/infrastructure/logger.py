"""The logger that the homework's files import: it writes scalars and figures to TensorBoard.

Training here does not use it but `cs285.results.sinks`, which survives kills and rewinds.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Logger:
    """Writes to one event file.

    Args:
        log_dir: Folder of the event file.
    """

    def __init__(self, log_dir: str | Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(log_dir))

    def log_scalar(self, scalar: float, name: str, step: int) -> None:
        """Write one number."""
        self._writer.add_scalar(name, scalar, step)

    def log_scalars(self, scalars: Mapping[str, float], group: str, step: int, phase: str) -> None:
        """Write several numbers into one chart, named after the group and the phase."""
        self._writer.add_scalars(f"{group}_{phase}", dict(scalars), step)

    def log_figure(self, figure: Any, name: str, step: int, phase: str = "") -> None:
        """Write one Matplotlib figure and close it."""
        tag = f"{name}_{phase}" if phase else name
        self._writer.add_figure(tag, figure, step)

    def flush(self) -> None:
        """Write everything to the disk."""
        self._writer.flush()
