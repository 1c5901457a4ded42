"""The questions of the handout: the runs that answer each, with figure, caption and table."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cs285.envs.tasks import Task, describe_task, known_tasks
from cs285.homework import (
    HANDOUT_STEPS,
    STAGES,
    Question,
    Stage,
    algorithms,
    algorithms_for,
    algorithms_of,
    title_of,
)
from cs285.infrastructure.palette import signed, thousands
from cs285.report import plots
from cs285.report.collection import (
    Collection,
    Experiment,
    by_environment,
    largest_sweep,
    plain,
)
from cs285.report.plots import Panel, Plot
from cs285.results.statistics import Estimate, estimate, estimate_scores

if TYPE_CHECKING:
    from matplotlib.axes import Axes

READING = (
    "Lines are interquartile means over seeds, bands and bars 95 % bootstrap intervals; a single "
    "seed has none."
)
BOUNDS = (
    "Dashed: the expected return of the best possible policy, found by dynamic programming; "
    "dotted: that of the random policy."
)


@dataclass(frozen=True)
class Table:
    """A table; columns from `first_number` on hold numbers."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    first_number: int = 2


@dataclass(frozen=True)
class Section:
    """The answer to one question, or how to get one."""

    number: str
    title: str
    plot: Plot | None
    caption: tuple[str, ...]
    """Sentences on what the figure shows."""
    findings: tuple[str, ...]
    """Sentences on the results, in numbers."""
    table: Table | None
    missing: tuple[tuple[str, str], ...]
    """Missing runs, and the command that makes them."""

    @property
    def anchor(self) -> str:
        """Its `id` in the web page."""
        return f"q{self.number.replace('.', '-')}-{self.title.split()[0].lower()}"


def answer(collection: Collection) -> list[Section]:
    """Return the sections of the handout in its order, then those on other algorithms."""
    return [*(question(collection) for question in _QUESTIONS), *_other_algorithms(collection)]


def overview(collection: Collection) -> Table | None:
    """Return the final returns of all basic experiments, and a line for all environments."""
    rows = []
    for stage in (Stage.OFFLINE, Stage.FINETUNE):
        name = STAGES[stage].name
        by_algorithm: dict[str, list[Experiment]] = {}
        for members in by_environment(collection.select(stage, *algorithms())).values():
            for experiment in plain(members):
                by_algorithm.setdefault(experiment.first.algorithm, []).append(experiment)
        for algorithm in algorithms():
            experiments = by_algorithm.get(algorithm, [])
            print_name = title_of(algorithm)
            rows += [(name, print_name, *_result_cells(experiment)) for experiment in experiments]
            scored = [one for one in experiments if one.score is not None]
            if len(scored) > 1:
                scores = estimate_scores({one.first.env_id: one.returns for one in scored})
                where = f"all {len(scored)} together"
                rows.append(
                    (name, print_name, where, *[""] * (len(_RESULTS) - 2),
                     format_estimate(scores, 2))
                )  # fmt: skip
    headings = ("Stage", "Algorithm", *_RESULTS)
    return Table(headings, tuple(rows), first_number=3) if rows else None


def format_estimate(value: Estimate | None, digits: int = 1) -> str:
    """Format an estimate as `mean [low, high]`, or as `mean` if it has no interval."""
    if value is None:
        return "\N{EM DASH}"
    text = f"{value.iqm:z.{digits}f}"
    if value.has_interval:
        text += f" [{value.low:z.{digits}f}, {value.high:z.{digits}f}]"
    return text.replace("-", "\N{MINUS SIGN}")


# The questions


def _random(collection: Collection) -> Section:
    return _exploration(
        collection, "random", "3.1", "Random exploration",
        "States that the random policy visits, coloured by the step of the visit. Walls are grey, "
        "S is the start and G the goal.",
        columns=3,
    )  # fmt: skip


def _rnd(collection: Collection) -> Section:
    return _exploration(
        collection, "rnd", "3.2", "Random network distillation",
        "States that RND visits, coloured by the step of the visit, next to its prediction error, "
        "which is low in visited states and high in walls and unvisited ones.",
        columns=1,
    )  # fmt: skip


def _exploration(
    collection: Collection, algorithm: str, number: str, title: str, says: str, *, columns: int
) -> Section:
    environments = by_environment(collection.select(Stage.EXPLORE, algorithm))
    pictures, captions, shown, rows = [], [], [], []
    for members in environments.values():
        # Datasets of other sizes belong to 4.3.
        asked = [one for one in members if one.first.named_size in {None, HANDOUT_STEPS}]
        (chosen,) = plain(asked or members)
        shown.append(chosen)
        decoded = [plots.decode(run.picture) for run in chosen.runs if run.picture]
        pictures += [pixels for pixels in decoded[:1] if pixels is not None]
        found = _last(chosen, "coverage")
        if found:
            captions.append(
                f"On {_title(chosen)} {_percent(found)} of the free cells were visited, "
                f"over {_count(found.count, 'seed')}."
            )
        rows.append(
            (_title(chosen), title_of(algorithm), str(len(chosen.units)),
             f"{chosen.first.steps:,}", _percent(found),
             format_estimate(_last(chosen, "goals_reached"), 0))
        )  # fmt: skip
    plot = None
    panels: list[Panel] = [lambda ax, p=pixels: plots.draw_picture(ax, p) for pixels in pictures]  # type: ignore[misc]  # a default binds the picture of each turn
    if any("coverage" in run.curves for experiment in shown for run in experiment.runs):
        covered = [one for one in shown if any("coverage" in run.curves for run in one.runs)]
        panels.append(lambda ax: _coverage_curves(ax, covered))
    if panels:
        height, width = pictures[0].shape[:2] if pictures else (3.4, 4.0)
        panel_width = 3.6 if columns > 1 else 6.6
        plot = Plot(
            f"{number}_{algorithm}", f"{title}: visited states", tuple(panels),
            min(columns, _columns(len(panels))),
            panel_inches=(panel_width, panel_width * height / width),
            has_legend=False, is_picture=True,
        )  # fmt: skip
    seeds = "" if all(len(one.units) == 1 for one in shown) else " Pictures show the first seed."
    commands = [
        (f"{title_of(algorithm)} on {task.name}",
         _command(Stage.EXPLORE, [f"{task.dataset_stem}_{algorithm}"]))
        for task in list(known_tasks().values())[:3]
        if task.env_id not in environments
    ]  # fmt: skip
    headings = ("Environment", "Policy", "Seeds", "Steps", "Coverage", "Goals reached")
    return Section(
        number, title, plot, (says + seeds,) if plot else (), tuple(captions),
        Table(headings, tuple(rows)) if rows else None, tuple(commands),
    )  # fmt: skip


def _cql_against_dqn(collection: Collection) -> Section:
    asked = algorithms_for(Question.CQL)
    return _comparison(
        collection.select(Stage.OFFLINE, *asked), asked, "4.1", "CQL against DQN",
        "Evaluation return of DQN and CQL while they learn only from RND's data.",
        environments=("easy", "medium"),
    )  # fmt: skip


def _awac_against_iql(collection: Collection) -> Section:
    asked = algorithms_for(Question.ACTORS)
    return _comparison(
        collection.select(Stage.OFFLINE, *asked), asked, "4.2", "AWAC against IQL",
        "Evaluation return of AWAC and IQL while they learn only from RND's data.",
        environments=("easy", "medium"),
    )  # fmt: skip


def _fine_tuning(collection: Collection) -> Section:
    names = [name for name in algorithms_of(Stage.FINETUNE) if algorithms()[name].question]
    experiments = collection.select(Stage.FINETUNE, *names)
    # The handout lets students choose the algorithm.
    wanted = () if experiments else ("cql", "iql", "awac")
    return _comparison(
        experiments, wanted, "5", "Online fine-tuning",
        "Evaluation return while learning from RND's data and, after the vertical line, also from "
        "new episodes. The handout's goal of \N{MINUS SIGN}20 on Hard is higher than the expected "
        "return of the best policy.",
        environments=("hard",), stage=Stage.FINETUNE,
    )  # fmt: skip


def _comparison(
    experiments: Sequence[Experiment],
    names: Sequence[str],
    number: str,
    title: str,
    says: str,
    *,
    environments: Sequence[str],
    stage: Stage = Stage.OFFLINE,
) -> Section:
    """Compare the basic experiments of the algorithms, one panel per environment."""
    shown = {env_id: plain(members) for env_id, members in by_environment(experiments).items()}
    panels = tuple(_returns_panel(members) for members in shown.values())
    everyone = [member for members in shown.values() for member in members]
    suffix = "_finetune" if stage is Stage.FINETUNE else ""
    missing = []
    for algorithm in names:
        found = {_task(one).name for one in everyone if one.first.algorithm == algorithm}
        if absent := [name for name in environments if name not in found]:
            configs = [f"pointmass_{name}_{algorithm}{suffix}" for name in absent]
            what = f"{title_of(algorithm)} on {' and '.join(absent)}"
            missing.append((what, _command(stage, configs)))
    if not panels:
        return Section(number, title, None, (), (), None, tuple(missing))
    stem = f"{number}_{'finetuning' if stage is Stage.FINETUNE else '_'.join(names)}"
    plot = Plot(stem, f"{title}: evaluation returns", panels, _columns(len(panels)))
    findings = tuple(_finding(members) for members in shown.values())
    return Section(
        number, title, plot, _caption(says, everyone), findings, _results(everyone), tuple(missing)
    )


def _alpha(collection: Collection) -> Section:
    panels: list[Panel] = []
    findings, members = [], []
    for env_id, experiments in by_environment(collection.select(Stage.OFFLINE, "cql")).items():
        sweep = largest_sweep(experiments, "cql_alpha", lambda one: one.alpha)
        if not sweep:
            continue
        where = describe_task(env_id).title
        labels = [f"{alpha:g}" for alpha in sweep]
        swept = list(sweep.values())
        names = [f"\N{GREEK SMALL LETTER ALPHA} = {label}" for label in labels]
        values = [_last(one, "q_values") for one in swept]
        panels += [
            _curves_panel(swept, names, "q_values", f"{where}: Q-values", "Mean Q-value"),
            _points_panel(values, labels, f"{where}: Q-values at the end", "Mean Q-value", _ALPHA),
            _curves_panel(swept, names, "eval_return", f"{where}: returns", "Evaluation return"),
            _points_panel(
                [one.final for one in swept], labels, f"{where}: final return", "Final return",
                _ALPHA, env_id,
            ),
        ]  # fmt: skip
        members += swept
        findings.append(_alpha_finding(where, labels, values, [one.final for one in swept]))
    configs = [
        f"pointmass_medium_cql_alpha{alpha}" for alpha in ("0", "0.1", "0.5", "1", "2", "5", "10")
    ]
    if not panels:
        missing = ("CQL with several alphas", _command(Stage.OFFLINE, configs))
        return Section("4.1", "Alpha of CQL", None, (), (), None, (missing,))
    return Section(
        "4.1", "Alpha of CQL",
        Plot("4.1_alpha", "Q-values and returns by alpha", tuple(panels), columns=2),
        _caption(
            "Effect of \N{GREEK SMALL LETTER ALPHA}, the weight of CQL's conservative term; "
            "with 0 CQL is DQN. Q-values are means over batches of the dataset's actions.", members
        ), tuple(findings),
        _results(members, ("\N{GREEK SMALL LETTER ALPHA}", lambda one: f"{one.alpha:g}"),
                 ("Q-values", lambda one: format_estimate(_last(one, "q_values")))),
        (),
    )  # fmt: skip


def _dataset_size(collection: Collection) -> Section:
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
            _curves_panel(
                swept, [f"{label} steps" for label in labels], "eval_return", f"{where}: returns",
                "Evaluation return",
            ),
            _points_panel(
                [one.final for one in swept], labels, f"{where}: final return", "Final return",
                _SIZE, env_id,
            ),
        ]  # fmt: skip
        if any(coverages):
            panels.append(_coverage_panel(coverages, labels, f"{where}: coverage"))
        members += list(zip(swept, coverages, strict=True))
        parts = [
            f"{label} steps give {format_estimate(one.final)}"
            for label, one in zip(labels, swept, strict=True)
        ]
        findings.append(f"On {where} {_listed(parts)}.")
    sizes = ("1000", "5000", "10000", "20000")
    # fmt: off
    explore = ("RND's datasets of several sizes",
               _command(Stage.EXPLORE, [f"pointmass_medium_rnd_{size}" for size in sizes]))
    offline = ("CQL on datasets of several sizes",
               _command(Stage.OFFLINE, [f"pointmass_medium_cql_rnd{size}" for size in sizes]))
    # fmt: on
    if not panels:
        return Section("4.3", "Size of the dataset", None, (), (), None, (explore, offline))
    coverage_of = dict(members)
    return Section(
        "4.3", "Size of the dataset",
        Plot("4.3_dataset_size", "Returns and coverage by size of the dataset", tuple(panels), 3),
        _caption(
            "CQL on RND's datasets of several sizes, and the fraction of free cells that each one "
            "covers.", coverage_of
        ), tuple(findings),
        _results(list(coverage_of), ("Coverage", lambda one: _percent(coverage_of[one]))),
        () if any(coverage_of.values()) else (explore,),
    )  # fmt: skip


BASELINE = "dqn"
"""Algorithm that those outside the handout are compared with."""


def _other_algorithms(collection: Collection) -> list[Section]:
    """Return sections on the runs of algorithms that the handout does not ask for."""
    names = algorithms_for(None)
    numbers = (f"A.{index}" for index in itertools.count(1))
    sections = [
        replace(
            _exploration(
                collection, name, next(numbers), f"{title_of(name)}: exploration",
                f"States that {title_of(name)} visits, coloured by the step of the visit.",
                columns=1,
            ),
            missing=(),
        )
        for name in names
        if collection.select(Stage.EXPLORE, name)
    ]  # fmt: skip
    for stage in (Stage.OFFLINE, Stage.FINETUNE):
        found = collection.select(stage, *names)
        if found:
            places = {one.first.env_id for one in found}
            compared = [one for one in collection.select(stage, BASELINE, *names)
                        if one.first.env_id in places]  # fmt: skip
            present = [name for name in names if any(one.first.algorithm == name for one in found)]
            titles = _listed([title_of(name) for name in present])
            sections.append(
                _comparison(
                    compared, present, next(numbers), f"{titles}: {STAGES[stage].title.lower()}",
                    f"Evaluation return of {titles}, next to {title_of(BASELINE)} where it has "
                    "runs in the same environment.",
                    environments=(), stage=stage,
                )
            )  # fmt: skip
    return sections


_QUESTIONS: tuple[Callable[[Collection], Section], ...] = (
    _random, _rnd, _cql_against_dqn, _alpha, _awac_against_iql, _dataset_size, _fine_tuning,
)  # fmt: skip
_ALPHA = "\N{GREEK SMALL LETTER ALPHA}"
_SIZE = "Steps in the dataset"


# Panels


def _returns_panel(experiments: Sequence[Experiment]) -> Panel:
    def draw(ax: Axes) -> None:
        for experiment in experiments:
            algorithm = algorithms()[experiment.first.algorithm]
            curve = experiment.curve("eval_return")
            plots.draw_curve(ax, curve, algorithm.title, algorithm.colour)
        for step in {one.first.online_start for one in experiments}:
            if step is not None:
                plots.draw_online_start(ax, step)
        _bound(ax, experiments[0].first.env_id)
        ax.set(title=_title(experiments[0]), ylabel="Evaluation return")
        plots.label_steps(ax, "Training step")

    return draw


def _curves_panel(
    experiments: Sequence[Experiment], names: Sequence[str], tag: str, title: str, label: str
) -> Panel:
    def draw(ax: Axes) -> None:
        colours = plots.colours_in_order(len(names))
        for experiment, name, colour in zip(experiments, names, colours, strict=True):
            plots.draw_curve(ax, experiment.curve(tag), name, colour)
        if tag == "eval_return":
            _bound(ax, experiments[0].first.env_id)
        ax.set(title=title, ylabel=label)
        plots.label_steps(ax, "Training step")

    return draw


def _points_panel(
    values: Sequence[Estimate | None],
    labels: Sequence[str],
    title: str,
    label: str,
    axis: str,
    env_id: str | None = None,
) -> Panel:
    """Make a panel of one number per setting; with bounds of the return if `env_id` is given."""

    def draw(ax: Axes) -> None:
        plots.draw_points(ax, values, labels, plots.colours_in_order(len(labels)))
        if env_id:
            _bound(ax, env_id)
        ax.set(title=title, ylabel=label, xlabel=axis)

    return draw


def _coverage_panel(values: Sequence[Estimate | None], labels: Sequence[str], title: str) -> Panel:
    def draw(ax: Axes) -> None:
        plots.draw_points(ax, values, labels, plots.colours_in_order(len(labels)))
        ax.set(title=title, ylabel="Free cells visited", xlabel=_SIZE, ylim=(0, 1.04))
        ax.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")

    return draw


def _coverage_curves(ax: Axes, experiments: Iterable[Experiment]) -> None:
    for experiment, colour in zip(experiments, plots.COLOURS_OF_TASKS, strict=False):
        plots.draw_curve(ax, experiment.curve("coverage"), _title(experiment), colour)
    ax.set(title="Coverage", ylabel="Free cells visited", ylim=(0, 1.04), xlim=(0, None))
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    ax.legend(frameon=False, fontsize=plots.SMALL, loc="lower right")
    plots.label_steps(ax, "Step of exploration")


def _bound(ax: Axes, env_id: str) -> None:
    if reference := describe_task(env_id).reference():
        plots.draw_bounds(ax, *reference)


# Words and numbers


def _results(
    experiments: Sequence[Experiment], *extra: tuple[str, Callable[[Experiment], str]]
) -> Table:
    """Return the table of final returns, with extra columns before the results."""
    # Make room for other columns: the figure shows these as well.
    shown = {"Steps", "Optimum"} if extra else set()
    headings = [name for name in _RESULTS if name not in shown]
    rows = []
    for one in experiments:
        cells = dict(zip(_RESULTS, _result_cells(one), strict=True))
        environment, *results = (cells[name] for name in headings)
        rows.append((one.name, environment, *(cell(one) for _, cell in extra), *results))
    names = [name for name, _ in extra]
    return Table(("Experiment", headings[0], *names, *headings[1:]), tuple(rows))


_RESULTS = ("Environment", "Data", "Steps", "Seeds", "Final return", "Optimum", "Score")


def _result_cells(experiment: Experiment) -> tuple[str, ...]:
    """Return a row under `_RESULTS`."""
    reference = _task(experiment).reference()
    data = experiment.dataset_steps
    return (
        _title(experiment),
        "\N{EM DASH}" if data is None else f"{data:,.0f}",
        f"{experiment.first.steps:,}",
        str(len(experiment.returns)),
        format_estimate(experiment.final),
        "\N{EM DASH}" if reference is None else signed(reference.optimal_return),
        format_estimate(experiment.score, 2),
    )


def _finding(experiments: Sequence[Experiment]) -> str:
    """Describe where the experiments of one environment ended."""
    reference = _task(experiments[0]).reference()
    parts = []
    differ = len({experiment.first.steps for experiment in experiments}) > 1
    for experiment in experiments:
        if experiment.final:
            after = f", after {experiment.first.steps:,} steps" if differ else ""
            name = title_of(experiment.first.algorithm)
            ended = f"{name} ended at {format_estimate(experiment.final)}"
            if reference:
                distance = reference.optimal_return - experiment.final.iqm
                side = "below" if distance >= 0 else "above"
                ended += f", {abs(distance):.1f} {side} the optimum"
            parts.append(f"{ended}{after}")
    return f"On {_title(experiments[0])} {_listed(parts)}."


def _alpha_finding(
    where: str,
    labels: Sequence[str],
    values: Sequence[Estimate | None],
    returns: Sequence[Estimate | None],
) -> str:
    """Describe the effect of a sweep on Q-values and returns."""
    parts = []
    first, last = values[0], values[-1]
    if first and last:
        parts.append(
            f"the Q-values went from {format_estimate(first)} at {_ALPHA} = {labels[0]} to "
            f"{format_estimate(last)} at {_ALPHA} = {labels[-1]}"
        )
        found = [(value.iqm, label) for value, label in zip(values, labels, strict=True) if value]
        for extreme, word in ((min(found), "lowest"), (max(found), "highest")):
            if extreme[1] not in {labels[0], labels[-1]}:
                parts.append(f"they were {word}, {extreme[0]:.1f}, at {_ALPHA} = {extreme[1]}")
    ended = [(value.iqm, label) for value, label in zip(returns, labels, strict=True) if value]
    (best, best_at), (worst, worst_at) = max(ended), min(ended)
    parts.append(
        f"the final return was best, {best:.1f}, at {_ALPHA} = {best_at} and worst, {worst:.1f}, "
        f"at {_ALPHA} = {worst_at}"
    )
    return f"On {where} {'; '.join(parts)}.".replace("-", "\N{MINUS SIGN}").replace(
        "Q\N{MINUS SIGN}values", "Q-values"
    )


def _last(experiment: Experiment, tag: str) -> Estimate | None:
    numbers = experiment.last_of(tag)
    return estimate(numbers) if numbers else None


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
        if is_source and (found := _last(candidate, "coverage")):
            return found
    return None


def _command(stage: Stage, configs: Sequence[str]) -> str:
    folder = STAGES[stage].experiments
    files = " ".join(f"experiments/{folder}/{config}.yaml" for config in configs)
    return f"python cs285/scripts/{stage.script} -cfg {files} --dataset_dir datasets"


def _task(experiment: Experiment) -> Task:
    return describe_task(experiment.first.env_id)


def _title(experiment: Experiment) -> str:
    return _task(experiment).title


def _caption(says: str, experiments: Iterable[Experiment]) -> tuple[str, ...]:
    """Say how to read a plot of returns, and its bounds if it has any."""
    has_bounds = any(_task(one).reference() for one in experiments)
    return (says, READING, BOUNDS) if has_bounds else (says, READING)


def _percent(value: Estimate | None) -> str:
    if value is None:
        return "\N{EM DASH}"
    text = f"{value.iqm:.0%}"
    if value.has_interval:
        text += f" [{value.low:.0%}, {value.high:.0%}]"
    return text.replace("%", "\N{NARROW NO-BREAK SPACE}%")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _columns(panels: int) -> int:
    """Return the number of panels per row: up to three, but two if there are four."""
    return 2 if panels == 4 else min(3, panels)  # noqa: PLR2004 - as the docstring says


def _listed(parts: Sequence[str]) -> str:
    """Join with commas and "and"."""
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1]))) if parts else ""
