"""Algorithms side by side: questions 4.1, 4.2 and 5."""

from __future__ import annotations

from collections.abc import Sequence

from cs285.homework import Question, Stage, algorithms, algorithms_for, algorithms_of, title_of
from cs285.report import parts
from cs285.report.collection import Collection, Experiment, by_environment, plain
from cs285.report.plots import Plot
from cs285.report.sections import Section, register


@register(order=30)
def cql_against_dqn(collection: Collection) -> Section:
    """Compare CQL with DQN offline."""
    asked = algorithms_for(Question.CQL)
    return comparison(
        collection.select(Stage.OFFLINE, *asked), asked, "4.1", "CQL against DQN",
        "Evaluation return of DQN and CQL while they learn only from RND's data.",
        environments=("easy", "medium"),
    )  # fmt: skip


@register(order=50)
def awac_against_iql(collection: Collection) -> Section:
    """Compare AWAC with IQL offline."""
    asked = algorithms_for(Question.ACTORS)
    return comparison(
        collection.select(Stage.OFFLINE, *asked), asked, "4.2", "AWAC against IQL",
        "Evaluation return of AWAC and IQL while they learn only from RND's data.",
        environments=("easy", "medium"),
    )  # fmt: skip


@register(order=70)
def fine_tuning(collection: Collection) -> Section:
    """Compare all algorithms of the handout before and after they go online."""
    names = shown(Stage.FINETUNE)
    experiments = collection.select(Stage.FINETUNE, *names)
    has_line = any(one.first.online_start is not None for one in experiments)
    when = "after the vertical line, " if has_line else "later, "
    # The handout lets students choose the algorithm.
    wanted = () if experiments else ("cql", "iql", "awac")
    return comparison(
        experiments, wanted, "5", "Online fine-tuning",
        f"Evaluation return while learning from RND's data and, {when}also from "
        "new episodes. The handout's goal of \N{MINUS SIGN}20 on Hard is higher than the expected "
        "return of the best policy.",
        environments=("hard",), stage=Stage.FINETUNE,
    )  # fmt: skip


def shown(stage: Stage) -> list[str]:
    """Return the algorithms that the sections of this module show for a stage."""
    match stage:
        case Stage.OFFLINE:
            return [*algorithms_for(Question.CQL), *algorithms_for(Question.ACTORS)]
        case Stage.FINETUNE:
            return [name for name in algorithms_of(stage) if algorithms()[name].question]
        case Stage.EXPLORE:
            return []


def comparison(
    experiments: Sequence[Experiment],
    names: Sequence[str],
    number: str,
    title: str,
    text: str,
    *,
    environments: Sequence[str],
    stage: Stage = Stage.OFFLINE,
) -> Section:
    """Compare the basic experiments of the algorithms, one panel per environment."""
    shown = {env_id: plain(members) for env_id, members in by_environment(experiments).items()}
    panels = tuple(parts.returns_panel(members) for members in shown.values())
    everyone = [member for members in shown.values() for member in members]
    suffix = "_finetune" if stage is Stage.FINETUNE else ""
    missing = []
    for algorithm in names:
        found = {parts.task_of(one).name for one in everyone if one.first.algorithm == algorithm}
        if absent := [name for name in environments if name not in found]:
            configs = [f"pointmass_{name}_{algorithm}{suffix}" for name in absent]
            what = f"{title_of(algorithm)} on {' and '.join(absent)}"
            missing.append((what, parts.command_for(stage, configs)))
    if not panels:
        return Section(number, title, None, (), (), None, tuple(missing))
    stem = f"{number}_{'finetuning' if stage is Stage.FINETUNE else '_'.join(names)}"
    plot = Plot(stem, f"{title}: evaluation returns", panels, parts.columns_for(len(panels)))
    findings = tuple(parts.finding(members) for members in shown.values())
    return Section(
        number,
        title,
        plot,
        parts.caption_for(text, everyone),
        findings,
        parts.results_table(everyone),
        tuple(missing),
    )
