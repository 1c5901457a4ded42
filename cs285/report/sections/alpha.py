"""The effect of CQL's alpha: question 4.1."""

from __future__ import annotations

from collections.abc import Sequence

from cs285.envs.tasks import describe_task
from cs285.homework import Stage
from cs285.report import parts
from cs285.report.collection import Collection, by_environment, largest_sweep
from cs285.report.plots import Panel, Plot
from cs285.report.sections import Section, register
from cs285.results.statistics import Estimate

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
        values = [parts.last_value(one, "q_values") for one in swept]
        panels += [
            parts.curves_panel(swept, names, "q_values", f"{where}: Q-values", "Mean Q-value"),
            parts.points_panel(
                values, labels, f"{where}: Q-values at the end", "Mean Q-value", _ALPHA
            ),
            parts.curves_panel(
                swept, names, "eval_return", f"{where}: returns", "Evaluation return"
            ),
            parts.points_panel(
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
        missing = ("CQL with several alphas", parts.command_for(Stage.OFFLINE, configs))
        return Section("4.1", "Alpha of CQL", None, (), (), None, (missing,))
    return Section(
        "4.1", "Alpha of CQL",
        Plot("4.1_alpha", "Q-values and returns by alpha", tuple(panels), columns=2),
        parts.caption_for(
            "Effect of \N{GREEK SMALL LETTER ALPHA}, the weight of CQL's conservative term; "
            "with 0 CQL is DQN. Q-values are means over batches of the dataset's actions.", members
        ), tuple(findings),
        parts.results_table(
            members,
            (_ALPHA, lambda one: f"{one.alpha:g}"),
            ("Q-values", lambda one: parts.format_estimate(parts.last_value(one, "q_values"))),
        ),
        (),
    )  # fmt: skip


def _alpha_finding(
    where: str,
    labels: Sequence[str],
    values: Sequence[Estimate | None],
    returns: Sequence[Estimate | None],
) -> str:
    """Describe the effect of a sweep on Q-values and returns."""
    remarks = []
    first, last = values[0], values[-1]
    if first and last:
        remarks.append(
            f"the Q-values went from {parts.format_estimate(first)} at {_ALPHA} = {labels[0]} to "
            f"{parts.format_estimate(last)} at {_ALPHA} = {labels[-1]}"
        )
        found = [(value.iqm, label) for value, label in zip(values, labels, strict=True) if value]
        for extreme, word in ((min(found), "lowest"), (max(found), "highest")):
            if extreme[1] not in {labels[0], labels[-1]}:
                remarks.append(f"they were {word}, {extreme[0]:.1f}, at {_ALPHA} = {extreme[1]}")
    ended = [(value.iqm, label) for value, label in zip(returns, labels, strict=True) if value]
    (best, best_at), (worst, worst_at) = max(ended), min(ended)
    remarks.append(
        f"the final return was best, {best:.1f}, at {_ALPHA} = {best_at} and worst, {worst:.1f}, "
        f"at {_ALPHA} = {worst_at}"
    )
    return f"On {where} {'; '.join(remarks)}.".replace("-", "\N{MINUS SIGN}").replace(
        "Q\N{MINUS SIGN}values", "Q-values"
    )
