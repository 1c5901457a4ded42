"""Sections of the report, and the panels, tables and phrases that they consist of."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cs285.envs.tasks import Task, describe_task
from cs285.homework import STAGES, Stage, algorithms, title_of
from cs285.infrastructure.palette import signed
from cs285.report import plots
from cs285.report.collection import Collection, Experiment, by_environment, plain
from cs285.report.plots import Panel, Plot
from cs285.results.statistics import Estimate, differs, estimate_scores, with_error

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BOUNDS = (
    "Dashed: the expected return of the best possible policy, found by dynamic programming; "
    "dotted, if the data come near it: that of the random policy."
)


@dataclass(frozen=True)
class Table:
    """A table; its columns from `first_number` on contain numbers."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    first_number: int = 2


@dataclass(frozen=True)
class Section:
    """The answer to one question, or the commands that produce its runs."""

    number: str
    title: str
    plot: Plot | None
    caption: tuple[str, ...]
    """Sentences on what the figure shows."""
    findings: tuple[str, ...]
    """Sentences on the results, in numbers."""
    table: Table | None
    missing: tuple[tuple[str, str], ...]
    """Missing runs, and the command that creates them."""

    @property
    def anchor(self) -> str:
        """The section's `id` in the web page."""
        return f"q{self.number.replace('.', '-')}-{self.title.split()[0].lower()}"


# Panels


def returns_panel(experiments: Sequence[Experiment]) -> Panel:
    """Make a panel of evaluation returns: one curve per experiment, in its algorithm's colour."""

    def draw(ax: Axes) -> None:
        for experiment in experiments:
            curve = experiment.curve("eval_return")
            colour = algorithms()[experiment.first.algorithm].colour
            plots.draw_curve(ax, curve, experiment.label, colour)
        for step in {one.first.online_start for one in experiments}:
            if step is not None:
                plots.draw_online_start(ax, step)
        draw_bound(ax, experiments[0].first.env_id)
        ax.set(title=title_of_task(experiments[0]), ylabel="Evaluation return")
        plots.label_steps(ax, "Training step")

    return draw


def curves_panel(
    experiments: Sequence[Experiment], names: Sequence[str], tag: str, title: str, label: str
) -> Panel:
    """Make a panel of one tag: one curve per experiment, in colours that follow their order."""

    def draw(ax: Axes) -> None:
        colours = plots.colours_in_order(len(names))
        for experiment, name, colour in zip(experiments, names, colours, strict=True):
            plots.draw_curve(ax, experiment.curve(tag), name, colour)
        if tag == "eval_return":
            draw_bound(ax, experiments[0].first.env_id)
        ax.set(title=title, ylabel=label)
        if tag == "q_values":
            ends = [curve.iqm[-1] for one in experiments if (curve := one.curve(tag)) is not None]
            plots.spread_out(ax, ends)
        plots.label_steps(ax, "Training step")

    return draw


def points_panel(
    values: Sequence[Estimate | None],
    labels: Sequence[str],
    title: str,
    label: str,
    axis: str,
    env_id: str | None = None,
) -> Panel:
    """Make a panel of one number per setting, with bounds of the return if `env_id` is given."""

    def draw(ax: Axes) -> None:
        plots.draw_points(ax, values, labels, plots.colours_in_order(len(labels)))
        if env_id:
            draw_bound(ax, env_id)
        ax.set(title=title, ylabel=label, xlabel=axis)
        if not env_id:
            plots.spread_out(ax, [value.iqm for value in values if value is not None])

    return draw


def draw_bound(ax: Axes, env_id: str) -> None:
    """Draw the returns of the best and the random policy, if they are known."""
    if reference := describe_task(env_id).reference():
        plots.draw_bounds(ax, *reference)


# Tables


def overview(collection: Collection) -> Table | None:
    """Return the final returns of all basic experiments, and each algorithm's score over all."""
    rows = []
    for stage in (Stage.OFFLINE, Stage.FINETUNE):
        name = STAGES[stage].name
        by_algorithm: dict[str, list[Experiment]] = {}
        for members in by_environment(collection.select(stage, *algorithms())).values():
            for experiment in plain(members):
                by_algorithm.setdefault(experiment.first.algorithm, []).append(experiment)
        for algorithm in algorithms():
            experiments = by_algorithm.get(algorithm, [])
            rows += [(name, one.label, *result_cells(one)) for one in experiments]
            scored = [one for one in experiments if one.score is not None]
            if len(scored) > 1:
                where = f"all {len(scored)} together"
                rows.append(
                    (name, title_of(algorithm), where, *[""] * (len(_RESULTS) - 2),
                     format_score(_score_of_all(scored)))
                )  # fmt: skip
    headings = ("Stage", "Algorithm", *_RESULTS)
    return Table(headings, tuple(rows), first_number=3) if rows else None


def _score_of_all(experiments: Sequence[Experiment]) -> Estimate | None:
    """Return the score over several environments, each a stratum."""
    scores = estimate_scores({one.first.env_id: one.returns for one in experiments})
    if scores is None:
        return None
    errors = [one.score_error for one in experiments]
    known = [error for error in errors if error is not None]
    sizes = [len(one.returns) for one in experiments]
    error = (
        math.hypot(*(size * one for size, one in zip(sizes, known, strict=True))) / sum(sizes)
        if len(known) == len(errors)
        else None
    )
    if not all(one.has_seeds for one in experiments):
        scores = replace(scores, low=math.nan, high=math.nan)
    return scores.with_error(error)


def results_table(
    experiments: Sequence[Experiment], *extra: tuple[str, Callable[[Experiment], str]]
) -> Table:
    """Return the table of final returns, with extra columns before the results."""
    # Extra columns take the place of these, which the figure shows too.
    dropped = {"Steps", "Best policy"} if extra else set()
    headings = [name for name in _RESULTS if name not in dropped]
    rows = []
    for one in experiments:
        cells = dict(zip(_RESULTS, result_cells(one), strict=True))
        environment, *results = (cells[name] for name in headings)
        rows.append((one.name, environment, *(cell(one) for _, cell in extra), *results))
    names = [name for name, _ in extra]
    return Table(("Experiment", headings[0], *names, *headings[1:]), tuple(rows))


_RESULTS = ("Environment", "Data", "Steps", "Runs", "Final return", "Best policy", "Score")


def result_cells(experiment: Experiment) -> tuple[str, ...]:
    """Return the cells of a row under the headings `_RESULTS`."""
    reference = task_of(experiment).reference()
    data = experiment.dataset_steps
    return (
        title_of_task(experiment),
        "\N{EM DASH}" if data is None else f"{data:,.0f}",
        f"{experiment.first.steps:,}",
        experiment.counted(),
        format_final(experiment),
        "\N{EM DASH}" if reference is None else signed(reference.optimal_return),
        format_score(experiment.score),
    )


# Words and numbers


def format_estimate(value: Estimate | None, digits: int = 1) -> str:
    """Format an estimate with its interval in brackets, or else with its error if known."""
    if value is None:
        return "\N{EM DASH}"
    if value.has_interval:
        text = f"{value.iqm:z.{digits}f} [{value.low:z.{digits}f}, {value.high:z.{digits}f}]"
    else:
        text = with_error(value.iqm, value.error, digits)
    return text.replace("-", "\N{MINUS SIGN}")


def format_final(experiment: Experiment) -> str:
    """Format a final return, and say if it is exact.

    Runs of unknown seed get their range if it exceeds the noise.
    """
    text = format_estimate(experiment.final, 2 if experiment.is_exact else 1)
    if experiment.is_exact:
        text += " (exact)"
    if experiment.has_seeds or len(experiment.returns) < 2:  # noqa: PLR2004 - a range takes two
        return text
    low, high = min(experiment.returns), max(experiment.returns)
    if high - low <= 4 * (experiment.error or 0.0):
        return text
    return f"{text}, runs {signed(low)} to {signed(high)}"


def format_score(value: Estimate | None) -> str:
    """Format a normalised score; no policy exceeds 1, so a higher score must show its noise."""
    if value is not None and value.iqm > 1 and not value.has_interval and value.error is None:
        return "\N{ALMOST EQUAL TO} 1"
    return format_estimate(value, 2)


def finding(experiments: Sequence[Experiment]) -> str:
    """State the final returns of one environment's experiments, and which differences are real."""
    ended = [experiment for experiment in experiments if experiment.final]
    if not ended:
        return ""
    reference = task_of(ended[0]).reference()
    differ = len({experiment.first.steps for experiment in ended}) > 1
    parts = [
        f"{one.label} ended at {format_final(one)}"
        + (f" after {one.first.steps:,} steps" if differ else "")
        for one in ended
    ]
    best = f" (best policy {signed(reference.optimal_return)})" if reference else ""
    remark = f" {compared}" if (compared := compare(ended)) else ""
    return f"On {title_of_task(ended[0])} {listed(parts)}{best}.{remark}"


def compare(experiments: Sequence[Experiment]) -> str:
    """State which final returns differ by more than noise; empty if there is nothing to compare."""
    if len(experiments) < 2:  # noqa: PLR2004 - a comparison takes two
        return ""
    if any(one.noise is None for one in experiments):
        return "The logs do not show how noisy these returns are."
    top = max(experiments, key=lambda one: one.final.iqm if one.final else -math.inf)
    lower = [one.label for one in experiments if is_lower(one, top)]
    if not lower:
        return "No difference between them exceeds the noise."
    remark = f"{listed(lower)} ended lower than {top.label}, by more than the noise"
    if all(len(one.units) == 1 for one in experiments):
        kind = "" if all(one.is_exact for one in experiments) else " of evaluation"
        return f"{remark}{kind}; other seeds may differ."
    return f"{remark}."


def is_lower(one: Experiment, other: Experiment) -> bool:
    """Return whether one final return is lower than another by more than noise."""
    if one.final is None or other.final is None or one.final.iqm >= other.final.iqm:
        return False
    return differs(one.final.iqm, other.final.iqm, one.noise, other.noise)


def last_value(experiment: Experiment, tag: str) -> Estimate | None:
    """Return the estimate of a tag's last value over seeds; None if no run logged it."""
    return experiment.last_of(tag)


def command_for(stage: Stage, configs: Sequence[str]) -> str:
    """Return the command that creates the runs of these experiment files."""
    folder = STAGES[stage].experiments
    files = " ".join(f"experiments/{folder}/{config}.yaml" for config in configs)
    return f"python cs285/scripts/{stage.script} -cfg {files} --dataset_dir datasets"


def task_of(experiment: Experiment) -> Task:
    """Return the task that an experiment ran in."""
    return describe_task(experiment.first.env_id)


def title_of_task(experiment: Experiment) -> str:
    """Return the displayed name of the environment that an experiment ran in."""
    return task_of(experiment).title


def caption_for(
    text: str, experiments: Iterable[Experiment], *, has_points: bool = False
) -> tuple[str, ...]:
    """Explain how to read a plot of returns, and its bounds if it has any.

    Args:
        text: What the plot shows.
        experiments: The experiments in the plot.
        has_points: Whether it has panels of one number per experiment besides curves.
    """
    shown = list(experiments)
    lines = [text]
    if any(one.has_seeds and len(one.units) > 1 for one in shown):
        bands = "bands and bars" if has_points else "bands"
        lines.append(
            f"Lines are interquartile means over seeds, {bands} their 95 % bootstrap intervals."
        )
    if any(len(one.units) == 1 for one in shown):
        line = "A single run has no band"
        measured = [one for one in shown if not one.is_exact]
        if has_points and any(len(one.units) == 1 and one.error is not None for one in measured):
            line += (
                "; the thin bar at its final return extends two standard errors, over its "
                "evaluation episodes, up and down"
            )
        lines.append(f"{line}.")
    if any(not one.has_seeds and len(one.units) > 1 for one in shown):
        line = "Runs of unknown seed may share one, so their mean has no band"
        lines.append(f"{line}; thin bars show their range." if has_points else f"{line}.")
    if any(task_of(one).reference() for one in shown):
        lines.append(BOUNDS)
    return tuple(lines)


def percent(value: Estimate | None) -> str:
    """Format an estimate of a fraction as a percentage, with its interval."""
    if value is None:
        return "\N{EM DASH}"
    text = f"{value.iqm:.0%}"
    if value.has_interval:
        text += f" [{value.low:.0%}, {value.high:.0%}]"
    elif value.span:
        text += f" ({value.span[0]:.0%} to {value.span[1]:.0%})"
    return text.replace("%", "\N{NARROW NO-BREAK SPACE}%")


def counted(number: int, noun: str) -> str:
    """Return a number and a noun, in the plural unless the number is 1."""
    return f"{number} {noun}{'s' * (number != 1)}"


def columns_for(panels: int) -> int:
    """Return the number of panels per row: up to three, but two if there are four."""
    return 2 if panels == 4 else min(3, panels)  # noqa: PLR2004 - as the docstring says


def listed(parts: Sequence[str]) -> str:
    """Join texts with commas and "and"."""
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1]))) if parts else ""
