"""The effect of the size of the dataset: question 4.3."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cs285.envs.tasks import describe_task
from cs285.homework import DATA_ENVIRONMENTS, DATA_STEPS, Stage
from cs285.infrastructure.palette import thousands
from cs285.report import parts, plots
from cs285.report.collection import Collection, Experiment, by_environment, largest_sweep
from cs285.report.plots import Panel, Plot
from cs285.report.sections import Section, register
from cs285.results.statistics import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_SIZE = "Steps in the dataset"


@register(order=60)
def dataset_size(collection: Collection) -> Section:
    """Show returns and coverage against the number of transitions."""
    panels: list[Panel] = []
    findings, members = [], []
    explored = collection.select(Stage.EXPLORE, "rnd")
    for env_id, experiments in by_environment(collection.select(Stage.OFFLINE, "cql")).items():
        sized = [one for one in experiments if one.first.named_size is not None]
        sweep = largest_sweep(sized, "dataset_name", lambda one: one.dataset_steps)
        if not sweep:
            continue
        where = describe_task(env_id).title
        labels = [thousands(size) for size in sweep]
        swept = list(sweep.values())
        coverages = [_dataset_coverage(one, explored) for one in swept]
        panels += [
            parts.curves_panel(
                swept, [f"{label} steps" for label in labels], "eval_return", f"{where}: returns",
                "Evaluation return",
            ),
            parts.points_panel(
                [one.final for one in swept], labels, f"{where}: final return", "Final return",
                _SIZE, env_id,
            ),
        ]  # fmt: skip
        if any(coverages):
            panels.append(_coverage_panel(coverages, labels, f"{where}: coverage"))
        members += list(zip(swept, coverages, strict=True))
        ended = [
            f"{label} steps give {parts.format_final(one)}"
            for label, one in zip(labels, swept, strict=True)
        ]
        findings.append(f"On {where} {parts.listed(ended)}.")
    stem = describe_task(DATA_ENVIRONMENTS[0]).dataset_stem
    explored_as, learned_as = (
        [f"{stem}_{name}{size}" for size in DATA_STEPS] for name in ("rnd_", "cql_rnd")
    )
    # fmt: off
    explore = ("RND's datasets of several sizes",
               parts.command_for(Stage.EXPLORE, explored_as))
    offline = ("CQL on datasets of several sizes",
               parts.command_for(Stage.OFFLINE, learned_as))
    # fmt: on
    if not panels:
        return Section("4.3", "Size of the dataset", None, (), (), None, (explore, offline))
    coverage_of = dict(members)
    return Section(
        "4.3", "Size of the dataset",
        Plot("4.3_dataset_size", "Returns and coverage by size of the dataset", tuple(panels), 3),
        parts.caption_for(
            "CQL on RND's datasets of several sizes, and the fraction of free cells that each one "
            "covers.", coverage_of, has_points=True,
        ), tuple(findings),
        parts.results_table(
            list(coverage_of), ("Coverage", lambda one: parts.percent(coverage_of[one]))
        ),
        () if any(coverage_of.values()) else (explore,),
    )  # fmt: skip


def _coverage_panel(values: Sequence[Estimate | None], labels: Sequence[str], title: str) -> Panel:
    def draw(ax: Axes) -> None:
        plots.draw_points(ax, values, labels, plots.colours_in_order(len(labels)))
        ax.set(title=title, ylabel="Free cells visited", xlabel=_SIZE, ylim=(0, 1.04))
        ax.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")

    return draw


def _dataset_coverage(experiment: Experiment, explored: Sequence[Experiment]) -> Estimate | None:
    """Return the coverage of an experiment's dataset, from the runs that collected it."""
    name = experiment.first.settings.get("dataset_name")
    for candidate in explored:
        first = candidate.first
        is_source = (
            first.settings.get("dataset_name", candidate.first.experiment) == name
            if name
            else first.env_id == experiment.first.env_id and first.steps == experiment.dataset_steps
        )
        if is_source and (found := parts.last_value(candidate, "coverage")):
            return found
    return None
