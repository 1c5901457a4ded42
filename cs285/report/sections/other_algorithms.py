"""Sections on runs that those on the handout's questions do not show."""

from __future__ import annotations

import itertools
from dataclasses import replace

from cs285.homework import STAGES, Stage, algorithms, title_of
from cs285.report import parts
from cs285.report.collection import Collection
from cs285.report.sections import Section, comparisons, exploration, register

BASELINE = "dqn"
"""The algorithm that the others are compared with."""


@register(order=80)
def other_algorithms(collection: Collection) -> list[Section]:
    """Return sections on the algorithms that no other section shows, stage by stage."""
    numbers = (f"A.{index}" for index in itertools.count(1))
    sections = [
        replace(
            exploration.exploration(
                collection, name, next(numbers), f"{title_of(name)}: exploration",
                f"States that {title_of(name)} visits, coloured by the step of the visit.",
                columns=1,
            ),
            missing=(),
        )
        for name in algorithms()
        if name not in exploration.SHOWN and collection.select(Stage.EXPLORE, name)
    ]  # fmt: skip
    for stage in (Stage.OFFLINE, Stage.FINETUNE):
        names = [name for name in algorithms() if name not in comparisons.shown(stage)]
        found = collection.select(stage, *names)
        if found:
            places = {one.first.env_id for one in found}
            compared = [one for one in collection.select(stage, BASELINE, *names)
                        if one.first.env_id in places]  # fmt: skip
            present = [name for name in names if any(one.first.algorithm == name for one in found)]
            titles = parts.listed([title_of(name) for name in present])
            sections.append(
                comparisons.comparison(
                    compared, present, next(numbers), f"{titles}: {STAGES[stage].title.lower()}",
                    f"Evaluation return of {titles}, next to {title_of(BASELINE)} if it has runs "
                    "in the same environment.",
                    environments=(), stage=stage,
                )
            )  # fmt: skip
    return sections
