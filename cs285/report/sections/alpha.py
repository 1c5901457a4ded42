"""The effect of CQL's alpha: question 4.1."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from cs285.envs.tasks import describe_task
from cs285.homework import Stage
from cs285.infrastructure.palette import signed
from cs285.report import parts
from cs285.report.collection import Collection, Experiment, by_environment, largest_sweep
from cs285.report.plots import Panel, Plot
from cs285.report.sections import Section, register
from cs285.results.statistics import Estimate, differs

_ALPHA = "\N{GREEK SMALL LETTER ALPHA}"


@register(order=40)
def alpha(collection: Collection) -> Section:
    """Show Q-values and returns against alpha, in every environment with a sweep."""
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
        values = [one.end_of("q_values") for one in swept]
        if any(values):
            panels += [
                parts.curves_panel(swept, names, "q_values", f"{where}: Q-values", "Mean Q-value"),
                parts.points_panel(
                    [_without_error(value) for value in values],
                    labels,
                    f"{where}: Q-values at the end",
                    "Mean Q-value",
                    _ALPHA,
                ),
            ]
        panels += [
            parts.curves_panel(
                swept, names, "eval_return", f"{where}: returns", "Evaluation return"
            ),
            parts.points_panel(
                [one.final for one in swept], labels, f"{where}: final return", "Final return",
                _ALPHA, env_id,
            ),
        ]  # fmt: skip
        members += swept
        findings.append(_alpha_finding(where, labels, values, swept))
    configs = [
        f"pointmass_medium_cql_alpha{alpha}" for alpha in ("0", "0.1", "0.5", "1", "2", "5", "10")
    ]
    if not panels:
        missing = ("CQL with several alphas", parts.command_for(Stage.OFFLINE, configs))
        return Section("4.1", "Alpha of CQL", None, (), (), None, (missing,))
    return Section(
        "4.1", "Alpha of CQL",
        Plot("4.1_alpha", "Q-values and returns by alpha", tuple(panels), columns=2),
        parts.caption_for(
            "Effect of \N{GREEK SMALL LETTER ALPHA}, the weight of CQL's conservative term; "
            "with 0 CQL is DQN. Q-values are means over batches of the dataset's actions; those at "
            "the end are means over the last tenth of training.", members, has_points=True,
        ), tuple(findings),
        parts.results_table(
            members,
            (_ALPHA, lambda one: f"{one.alpha:g}"),
            ("Q-values", lambda one: _shown(one.end_of("q_values"))),
        ),
        (),
    )  # fmt: skip


def _shown(value: Estimate | None) -> str:
    """Format Q-values without their error."""
    return parts.format_estimate(_without_error(value))


def _without_error(value: Estimate | None) -> Estimate | None:
    """Drop the error: the variation within the last tenth is not a standard error of the mean."""
    return replace(value, error=None) if value else None


def _alpha_finding(
    where: str,
    labels: Sequence[str],
    values: Sequence[Estimate | None],
    swept: Sequence[Experiment],
) -> str:
    """Describe the effect of a sweep on Q-values and returns, if it exceeds the noise."""
    remarks = []
    first, last = values[0], values[-1]
    if first and last:
        remarks.append(
            f"the Q-values over the last tenth were {_shown(first)} at "
            f"{_ALPHA} = {labels[0]} and {_shown(last)} at {_ALPHA} = {labels[-1]}"
        )
        found = [(value.iqm, label, value) for value, label in zip(values, labels, strict=True)
                 if value]  # fmt: skip
        for (number, label, extreme), word in ((min(found), "lowest"), (max(found), "highest")):
            if all(differs(number, end.iqm, extreme.error, end.error) for end in (first, last)):
                remarks.append(f"they were {word}, {signed(number)}, at {_ALPHA} = {label}")
    at = dict(zip(swept, labels, strict=True))
    ended = [one for one in swept if one.final is not None]
    ends = [f"{parts.format_final(one)} at {_ALPHA} = {at[one]}" for one in ended]
    remarks.append(f"the final return was {parts.listed(ends)}")
    if any(one.noise is None for one in ended):
        remarks.append("the logs do not show how noisy these returns are")
    else:
        top = max(ended, key=lambda one: one.final.iqm if one.final else -math.inf)
        lower = [at[one] for one in ended if parts.is_lower(one, top)]
        if lower:
            remarks.append(
                f"compared with {_ALPHA} = {at[top]}, it was lower by more than the noise at "
                f"{_ALPHA} = {parts.listed(lower)}"
            )
        else:
            remarks.append("no difference between these exceeds the noise")
    return f"On {where} {'; '.join(remarks)}."
