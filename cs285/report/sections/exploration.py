"""What exploration visited: questions 3.1 and 3.2."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from cs285.envs.tasks import known_tasks
from cs285.homework import HANDOUT_STEPS, Stage, title_of
from cs285.report import parts, plots
from cs285.report.collection import Collection, Experiment, Run, by_environment, plain
from cs285.report.plots import Panel, Plot
from cs285.report.sections import Section, Table, register

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.axes import Axes


SHOWN = frozenset({"random", "rnd"})
"""Algorithms whose exploration the sections of this module show."""


@register(order=10)
def random(collection: Collection) -> Section:
    """Show the states that random exploration visits."""
    return exploration(
        collection, "random", "3.1", "Random exploration",
        "States that the random policy visits, coloured by the step of the visit. Walls are grey, "
        "S is the start and G the goal.",
        columns=3,
    )  # fmt: skip


@register(order=20)
def rnd(collection: Collection) -> Section:
    """Show the states that RND visits, and its prediction error."""
    return exploration(
        collection, "rnd", "3.2", "Random network distillation",
        "States that RND visits, coloured by the step of the visit, next to its prediction error, "
        "which is low in visited states and high in walls and unvisited ones.",
        columns=1,
    )  # fmt: skip


def exploration(
    collection: Collection, algorithm: str, number: str, title: str, text: str, *, columns: int
) -> Section:
    """Show pictures and curves of one exploration algorithm, in every environment."""
    environments = by_environment(collection.select(Stage.EXPLORE, algorithm))
    pictures: list[_Picture] = []
    captions, shown, rows, unseen = [], [], [], []
    for members in environments.values():
        # Datasets of other sizes belong to question 4.3.
        asked = [one for one in members if one.first.named_size in {None, HANDOUT_STEPS}]
        (chosen,) = plain(asked or members)
        shown.append(chosen)
        picture = _picture(chosen)
        if picture is not None:
            pictures.append(picture)
        else:
            unseen.append(parts.title_of_task(chosen))
        found = parts.last_value(chosen, "coverage")
        if found:
            captions.append(
                f"On {parts.title_of_task(chosen)} {parts.percent(found)} of the free cells were "
                f"visited, over {chosen.counted(found.count)}."
            )
        rows.append(
            (parts.title_of_task(chosen), title_of(algorithm), chosen.counted(len(chosen.units)),
             f"{chosen.first.steps:,}", parts.percent(found),
             parts.format_estimate(parts.last_value(chosen, "goals_reached"), 0))
        )  # fmt: skip
    plot = None
    panels: list[Panel] = [picture.panel for picture in pictures]
    if any("coverage" in run.curves for experiment in shown for run in experiment.runs):
        covered = [one for one in shown if any("coverage" in run.curves for run in one.runs)]
        panels.append(lambda ax: _coverage_curves(ax, covered))
    if panels:
        height, width = pictures[0].pixels.shape[:2] if pictures else (3.4, 4.0)
        panel_width = 3.6 if columns > 1 else 6.6
        plot = Plot(
            f"{number}_{algorithm}", f"{title}: visited states", tuple(panels),
            min(columns, parts.columns_for(len(panels))),
            panel_inches=(panel_width, panel_width * height / width),
            has_legend=False, is_picture=True,
        )  # fmt: skip
    if pictures and unseen:
        captions.append(f"On {parts.listed(unseen)} no picture was logged.")
    caption = _caption(text, pictures, shown) if plot else ()
    commands = [
        (f"{title_of(algorithm)} on {task.name}",
         parts.command_for(Stage.EXPLORE, [f"{task.dataset_stem}_{algorithm}"]))
        for task in list(known_tasks().values())[:3]
        if task.env_id not in environments
    ]  # fmt: skip
    headings = ("Environment", "Policy", "Runs", "Steps", "Coverage", "Goals reached")
    return Section(
        number, title, plot, caption, tuple(captions),
        Table(headings, tuple(rows)) if rows else None, tuple(commands),
    )  # fmt: skip


class _Picture(NamedTuple):
    """The picture of one run."""

    run: Run
    pixels: npt.NDArray[Any]
    title: str

    def panel(self, ax: Axes) -> None:
        """Draw the picture, with the name of its environment."""
        plots.draw_picture(ax, self.pixels)
        ax.set_title(self.title)


def _picture(experiment: Experiment) -> _Picture | None:
    """Return the picture of the longest run whose picture is intact."""
    for run in experiment.longest:
        pixels = plots.decode(run.picture) if run.picture else None
        if pixels is not None:
            return _Picture(run, pixels, parts.title_of_task(experiment))
    return None


def _caption(
    text: str, pictures: Sequence[_Picture], experiments: Sequence[Experiment]
) -> tuple[str, ...]:
    """Explain the pictures; those of public versions are only said to come from the logs."""
    sentences = []
    if not pictures or any(picture.run.is_ours for picture in pictures):
        sentences.append(text)
    foreign = [picture for picture in pictures if not picture.run.is_ours]
    if foreign:
        which = "These pictures are" if len(foreign) == len(pictures) else (
            f"The pictures of {parts.listed([picture.title for picture in foreign])} are"
        )  # fmt: skip
        sentences.append(f"{which} shown as the runs logged them; the logs do not explain them.")
    firsts = {experiment.first for experiment in experiments}
    if any(len(experiment.units) > 1 for experiment in experiments) and pictures:
        if any(picture.run not in firsts for picture in pictures) or foreign:
            sentences.append("Each shows a single run, the longest one.")
        else:
            sentences.append("Pictures show the first seed.")
    return tuple(sentences)


def _coverage_curves(ax: Axes, experiments: Iterable[Experiment]) -> None:
    colours = itertools.cycle(plots.COLOURS_OF_TASKS)
    for experiment, colour in zip(experiments, colours, strict=False):
        plots.draw_curve(ax, experiment.curve("coverage"), parts.title_of_task(experiment), colour)
    ax.set(title="Coverage", ylabel="Free cells visited", ylim=(0, 1.04), xlim=(0, None))
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    ax.legend(frameon=False, fontsize=plots.SMALL, loc="lower right")
    plots.label_steps(ax, "Step of exploration")
