"""Figures for every task: the learning curve, and saving figures to files.

Figures are made without pyplot, which would keep a reference to each of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cs285.infrastructure.files import write_atomically
from cs285.infrastructure.palette import BLUE, INK, LABEL_SIZE, TITLE_SIZE, VERMILION, signed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.figure import Figure


def learning_curve_figure(
    steps: Sequence[int],
    returns: Sequence[float],
    optimum: float | None = None,
    random: float | None = None,
    *,
    title: str | None = None,
    online_start: int | None = None,
) -> Figure:
    """Plot evaluation returns over training, with the best and the random policy's if known.

    Args:
        steps: Training steps of the evaluations.
        returns: Mean evaluation returns.
        optimum: The expected return of the best policy; None if it is not known.
        random: The expected return of the uniformly random policy; None if it is not known.
        title: Text above the picture.
        online_start: The step at which online training begins, marked by a vertical line.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import StrMethodFormatter

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    ax = figure.add_subplot()
    ax.plot(steps, returns, color=BLUE, linewidth=2, marker="o", markersize=4, zorder=3)
    for value, name, style, side in (
        (optimum, "best policy", "dashed", "bottom"),
        (random, "random policy", "dotted", "top"),
    ):
        if value is None:
            continue
        ax.axhline(value, color=INK, linestyle=style, linewidth=1.4)
        ax.annotate(
            f"{name} {signed(value)}", (1, value), xycoords=("axes fraction", "data"), ha="right",
            va=side, xytext=(-4, 3 if side == "bottom" else -3), textcoords="offset points",
            fontsize=LABEL_SIZE,
        )  # fmt: skip
    if online_start is not None:
        ax.axvline(online_start, color=VERMILION, linewidth=1.6)
        ax.annotate(
            "online from here", (online_start, 0.5), xycoords=("data", "axes fraction"),
            rotation=90, ha="right", va="center", xytext=(-3, 0), textcoords="offset points",
            color=VERMILION, fontsize=LABEL_SIZE,
        )  # fmt: skip
    ax.margins(y=0.12)
    ax.grid(color="0.9")
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    ax.tick_params(labelsize=LABEL_SIZE - 1)
    ax.set_xlabel("Training step", fontsize=LABEL_SIZE)
    ax.set_ylabel("Evaluation return", fontsize=LABEL_SIZE)
    if title:
        ax.set_title(title, fontsize=TITLE_SIZE)
    return figure


def save_png(figure: Figure, path: Path) -> None:
    """Write the figure to `path`, complete or not at all.

    Raises:
        UserError: The file cannot be written.
    """
    write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=150))
