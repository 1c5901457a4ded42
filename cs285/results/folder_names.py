"""What the name of a run folder says about the run."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cs285.envs.tasks import task_named_in
from cs285.homework import Stage, algorithms

NAMED_SETTINGS = ("cql_alpha", "temperature")
"""Settings that public versions put into names, after the name of the algorithm."""


@dataclass(frozen=True)
class FolderName:
    """What the name of a run folder says; None for what it does not."""

    experiment: str
    """The name without the prefix, the seed and the time."""
    homework: int | None
    stage: Stage | None
    env_id: str | None
    algorithm: str | None
    seed: int | None
    settings: dict[str, float]
    """Those of `NAMED_SETTINGS`."""


def parse_folder_name(name: str) -> FolderName:
    """Parse the name of a run folder, as this project or the public versions write it.

    `hw5_offline_pointmass_medium_cql_rnd5000_sd2_2026-01-31_12-00-00` and
    `hw5_offline_PointmassMedium-v0_cql0.1_31-01-2026_12-00-00` say much the same.
    """
    homework = re.match(r"hw(\d+)", name)
    # The prefix comes first in the name, so it decides.
    stage = re.search("|".join(Stage), name.lower())
    experiment = re.sub(r"[_-]\d{2,4}-\d{2}-\d{2,4}_\d{2}-\d{2}-\d{2}(-\d+)?$", "", name)
    experiment = re.sub(rf"^hw\d+_(?:(?:{'|'.join(Stage)})_)?", "", experiment)
    seed = re.search(r"_(?:sd|seed)_?(\d{1,10})(?=_|$)", experiment)
    if seed:
        experiment = experiment[: seed.start()] + experiment[seed.end() :]
    task = task_named_in(experiment)
    algorithm = _find_algorithm(experiment)
    kind = algorithm[1].lower() if algorithm else None
    settings: dict[str, float] = {}
    fields = algorithms()[kind].config.model_fields if kind else {}
    key = next((key for key in NAMED_SETTINGS if key in fields), None)
    value = re.search(r"(?i)(?:alpha|temperature)_?(\d+(?:\.\d+)?)", experiment)
    if key and (number := value[1] if value else algorithm and algorithm[2]):
        settings[key] = float(number)
    return FolderName(
        experiment=experiment,
        homework=int(homework[1]) if homework else None,
        stage=Stage(stage[0]) if stage else None,
        env_id=task.env_id if task else None,
        algorithm=kind,
        seed=int(seed[1]) if seed else None,
        settings=settings,
    )


def _find_algorithm(experiment: str) -> re.Match[str] | None:
    """Find an algorithm in a name, with a number that may follow it."""
    # Learners come first: their names also say which explorer collected the data.
    explorers = {name for name, one in algorithms().items() if one.stages == {Stage.EXPLORE}}
    for names in (algorithms().keys() - explorers, explorers):
        longest_first = sorted(names, key=lambda name: (-len(name), name))
        ends = [
            # Public versions may append anything to the handout's names.
            "" if name not in explorers and algorithms()[name].question else "(?![a-z])"
            for name in longest_first
        ]
        either = "|".join(map("{}{}".format, map(re.escape, longest_first), ends))
        if found := re.search(rf"(?i)(?<![a-z])({either})(\d+(?:\.\d+)?)?", experiment):
            return found
    return None


def size_in_name(name: str) -> int | None:
    """Return the steps of RND's dataset, if the name of a dataset or a run has them."""
    found = re.search(r"(?i)rnd_?(\d{3,7})(?!\d)", name)
    return int(found[1]) if found else None
