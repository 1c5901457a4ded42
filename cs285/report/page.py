"""The report as a self-contained web page: values for the template `page.html.j2`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from cs285.homework import Stage, title_of
from cs285.infrastructure.palette import signed
from cs285.report.collection import Collection, Run, Setting
from cs285.report.plots import Plot, svg_uri
from cs285.report.sections import Section, Table
from cs285.report.words import Front
from cs285.results.final_returns import final_return_in
from cs285.results.statistics import with_error

TEMPLATE = "page.html.j2"


def render(front: Front, sections: Sequence[Section], collection: Collection) -> str:
    """Return the page; call within `plots.style`."""
    environment = Environment(
        loader=PackageLoader("cs285.report", package_path="."),
        autoescape=True,  # names of runs may contain anything
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    return environment.get_template(TEMPLATE).render(
        front=front,
        sections=[_section(section) for section in sections],
        runs=_runs(collection.runs),
        settings=list(_settings(collection)),
        left_out=_left_out(collection),
    )


def _section(section: Section) -> dict[str, Any]:
    return {
        "anchor": section.anchor,
        "number": section.number,
        "title": section.title,
        "figure": _figure(section.plot, section) if section.plot else None,
        "table": section.table,
        "missing": section.missing,
    }


def _figure(plot: Plot, section: Section) -> dict[str, Any]:
    width, height = plot.size(plot.columns)
    return {
        "is_picture": plot.is_picture,
        "wide": svg_uri(plot, plot.columns),
        "narrow": svg_uri(plot, 1),
        "width": f"{100 * width:.0f}",
        "height": f"{100 * height:.0f}",
        # At more than 1.25 times the size on paper, its text would look like headings.
        "max_width": f"{width * 1.25 * 96:.0f}",
        "title": plot.title,
        "caption": " ".join(section.caption),
        "findings": section.findings,
    }


def _runs(runs: Sequence[Run]) -> Table:
    rows = []
    for run in runs:
        minutes = "" if run.wall_time_s is None else f"{run.wall_time_s / 60:.1f}"
        seed = "" if run.seed is None else str(run.seed)
        steps = f"{run.steps:,}" if run.curves else ""
        rows.append(
            (run.name, "; ".join(run.notes), run.started, seed, steps, minutes, *_results(run))
        )
    return Table(
        ("Run", "Remarks", "Started", "Seed", "Steps", "Minutes", "Final return",
         "Last evaluation"),
        tuple(rows),
        first_number=3,
    )  # fmt: skip


def _results(run: Run) -> tuple[str, str]:
    """Return the final return and the last evaluation of a learning run, if it has them."""
    returns = run.curves.get("eval_return")
    final = final_return_in(run.curves)
    if run.stage is Stage.EXPLORE or returns is None or final.value is None:
        return "", ""
    shown = with_error(final.value, final.error, 2 if final.is_exact else 1)
    if final.is_exact:
        shown += " (exact)"
    return shown.replace("-", "\N{MINUS SIGN}"), f"{signed(returns.last)} at {returns.steps[-1]:,}"


def _settings(collection: Collection) -> Iterator[dict[str, Any]]:
    """Yield, per stage and algorithm, the settings that all experiments share and the others."""
    groups: dict[tuple[str, str], dict[str, dict[str, Setting]]] = {}
    for experiment in collection.experiments:
        first = experiment.first
        members = groups.setdefault((first.stage, first.algorithm), {})
        members[experiment.name] = first.settings
    for (stage, algorithm), members in groups.items():
        keys = list(dict.fromkeys(key for settings in members.values() for key in settings))
        values = {key: [_shown(settings.get(key)) for settings in members.values()] for key in keys}
        shared = {key: column[0] for key, column in values.items() if len(set(column)) == 1}
        differing = [key for key in keys if key not in shared]
        rows = [
            (name, *(_shown(settings.get(key)) for key in differing))
            for name, settings in members.items()
        ]
        yield {
            "title": f"{title_of(algorithm)}, {stage}",
            "shared": ", ".join(f"{key} {value}" for key, value in shared.items()),
            "differing": Table(("Experiment", *differing), tuple(rows), first_number=1)
            if differing
            else None,
        }


def _left_out(collection: Collection) -> Table | None:
    if not collection.left_out:
        return None
    return Table(("Run", "Reason"), collection.left_out, first_number=2)


def _shown(value: Setting) -> str:
    if value is None:
        return "\N{EM DASH}"
    return f"{value:g}" if isinstance(value, float) else str(value)
