"""Reads the properties of a run from the name of its folder."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from cs285.envs.tasks import task_named_in
from cs285.homework import Question, Stage, algorithms

_WORDS = {
    "cql_alpha": "(?:cql_?)?alpha|a",
    "temperature": "temperature|temp|lambda|lam",
    "cql_temperature": "temperature|temp",
    "expectile": "expectile|tau|exp",
    "rnd_weight": "(?:rnd_?)?weight",
    "actor_learning_rate": "actor_?(?:learning_?rate|lr)",
    "learning_rate": "(?<!actor_)(?:learning_?rate|lr)",
    "discount": "discount|gamma",
}
"""Words for settings in names, as regular expressions; each is followed by a number."""
_BARE = {"cql": "cql_alpha", "awac": "temperature", "rnd": "rnd_weight"}
"""Settings whose number public versions write right after the name of the algorithm. IQL has two,
which differ in size."""
_NUMBER = r"0_\d{1,2}(?!\d)|\d{1,9}(?:[.p]\d{1,9})?(?:e-?\d{1,2})?"
"""A number: 10, 0.5, 3e-4; also 0_5 and 0p5, since some people avoid points in names."""
_END = r"(?=$|[^a-z0-9.])"
_TIME = re.compile(r"[_-]\d{2,4}-\d{2}-\d{2,4}_\d{2}-\d{2}-\d{2}(?!\d)(?P<after>.*)$")
_ANOTHER = re.compile(
    r"(?i)(?:[\s_-]*(?:\(?\d{1,2}\)?|copy|copie|kopie|old|new|backup|bak)(?![a-z\d]))*\s*"
)
"""Suffixes that people and file managers add when a name is taken; not a property of the run."""
_QUESTION = re.compile(r"(?i)(?:q\d+(?:[._]\d{1,2}(?=[_\s-]))*[a-z]?[_\s-]+)+")
"""The question at the beginning of a name: `q2_`, but also `Q2-`, `q3_1_` or `q2 `."""
_LARGEST = 50_000
"""The largest dataset, in steps, that a number without a word is taken to mean."""
_STAGES = {
    Stage.EXPLORE: "explor",
    Stage.OFFLINE: "offline",
    Stage.FINETUNE: "fine[_-]?tun",
}
_STAGES_OF_QUESTIONS = {
    Question.EXPLORATION: Stage.EXPLORE,
    Question.CQL: Stage.OFFLINE,
    Question.ACTORS: Stage.OFFLINE,
    Question.FINETUNING: Stage.FINETUNE,
}
"""The remaining question, on the size of the dataset, both explores and learns offline."""


@dataclass(frozen=True)
class FolderName:
    """The properties in the name of a run folder; None for those that it does not have."""

    experiment: str
    """The name without the prefixes, the seed and the time."""
    homework: int | None
    stage: Stage | None
    env_id: str | None
    algorithm: str | None
    seed: int | None
    settings: dict[str, float]
    """Settings of the algorithm by their keys in `config.yaml`."""
    is_stage_guessed: bool = False
    """Whether the stage was inferred from the number of a question alone."""

    @property
    def known(self) -> int:
        """How many of the properties that identify a run are in the name."""
        return sum(value is not None for value in (self.stage, self.env_id, self.algorithm))


def parse_folder_name(name: str) -> FolderName:
    """Parse the name of a run folder, as this project or the public versions write it.

    `hw5_offline_pointmass_medium_cql_rnd5000_sd2_2026-01-31_12-00-00` and
    `q2_hw5_offline_PointmassMedium-v0_cql0.1_31-01-2026_12-00-00` are examples.
    """
    question = re.match(r"(q\d)(?![a-z\d])", name.lower())
    experiment = _without_time(name)
    if prefix := _QUESTION.match(experiment):
        experiment = experiment[prefix.end() :]
    homework = re.match(r"hw(\d+)", experiment)
    # The prefix comes first in the name, so it decides.
    found = re.search("|".join(f"({word})" for word in _STAGES.values()), experiment.lower())
    stage = list(_STAGES)[found.lastindex - 1] if found and found.lastindex else None
    if stage is None and question and question[1] in list(Question):
        stage = _STAGES_OF_QUESTIONS.get(Question(question[1]))
    experiment = re.sub(rf"^hw\d+_(?:(?:{'|'.join(Stage)})_)?", "", experiment)
    seed = re.search(r"(?:^|[_,-])(?:sd|seed)[_=-]?(\d{1,10})(?=[_,-]|$)", experiment)
    if seed:
        experiment = experiment[: seed.start()] + experiment[seed.end() :]
    task = task_named_in(experiment)
    algorithm = _find_algorithm(experiment)
    if not found and algorithm and stage not in algorithms()[algorithm[0].lower()].stages:
        stage = None  # people number questions differently
    return FolderName(
        experiment=experiment,
        homework=int(homework[1]) if homework else None,
        stage=stage,
        env_id=task.env_id if task else None,
        algorithm=algorithm[0].lower() if algorithm else None,
        seed=int(seed[1]) if seed else None,
        settings=_settings(experiment, algorithm) if algorithm else {},
        is_stage_guessed=not found,
    )


def parse_folder_path(parts: Sequence[str]) -> FolderName:
    """Parse the names of a run's folder and of the folders around it, outermost first.

    The innermost name takes precedence, as in `hw5_offline_..._cql0.1_.../`. Properties that it
    lacks come from the names around it: `q2/PointmassMedium-v0/cql0.1/seed3`.
    """
    parsed = parse_folder_name(parts[-1])
    text = parts[-1]
    for around in reversed(parts[:-1]):
        text = f"{_without_time(around)}_{text}"
        joined = parse_folder_name(text)
        if joined.known > parsed.known:
            parsed = joined
    return parsed


def _without_time(name: str) -> str:
    """Drop the time in a name, and any suffix added because the name was taken."""
    found = _TIME.search(name)
    if found is None:
        return name
    after = found["after"]
    return name[: found.start()] + ("" if _ANOTHER.fullmatch(after) else after)


def _find_algorithm(experiment: str) -> re.Match[str] | None:
    """Find an algorithm in a name."""
    # Learners come first: the names of their runs may also contain the explorer's name.
    explorers = {name for name, one in algorithms().items() if one.stages == {Stage.EXPLORE}}
    for names in (algorithms().keys() - explorers, explorers):
        longest_first = sorted(names, key=lambda name: (-len(name), name))
        ends = [
            # Public versions may append anything to the handout's names.
            "" if name not in explorers and algorithms()[name].question else "(?![a-z])"
            for name in longest_first
        ]
        either = "|".join(map("{}{}".format, map(re.escape, longest_first), ends))
        if found := re.search(rf"(?i)(?<![a-z])(?:{either})", experiment):
            return found
    return None


def _settings(experiment: str, algorithm: re.Match[str]) -> dict[str, float]:
    """Return the settings in a name, given the name of the algorithm in it."""
    name = algorithm[0].lower()
    fields = algorithms()[name].config.model_fields
    after = experiment[algorithm.end() :].lower()
    # Without the algorithm, `iqltau0.9` is `tau0.9`.
    rest = f"{experiment[: algorithm.start()]}_{after}".lower()
    settings = {}
    for key, words in _WORDS.items():
        pattern = rf"(?<![a-z])(?:{words})[_=:\s-]?({_NUMBER}){_END}"
        if key in fields and (found := re.search(pattern, rest)):
            settings[key] = _number(found[1])
    keys: tuple[str, ...] = (_BARE[name],) if name in _BARE else ()
    numbers = _bare_numbers(after)
    if name == "iql":
        numbers = sorted(numbers, key=lambda number: not 0 < number < 1)
        keys = ("expectile", "temperature") if numbers and numbers[0] < 1 else ("temperature",)
    size = size_in_name(experiment)
    for key, number in zip(keys, numbers, strict=False):
        if number != size:
            settings.setdefault(key, number)
    return settings


def _bare_numbers(after: str) -> list[float]:
    """Return up to two numbers that directly follow the name of an algorithm.

    A whole number below ten after an underscore does not count; it may be an attempt, for example.
    """
    found = re.match(rf"({_NUMBER}|[_,-]\d+\.\d+){_END}(?:[_,-](\d\d+|\d+\.\d+){_END})?", after)
    return [_number(text.lstrip("_,-")) for text in found.groups() if text] if found else []


def _number(text: str) -> float:
    return float(re.sub("[_p]", ".", text))


def size_in_name(name: str) -> int | None:
    """Return the steps of RND's dataset, if the name of a dataset or a run contains them.

    Examples are `rnd_5000`, `cql0.1_5000` and `5k`. Without a word before it, only a round number
    between underscores counts.
    """
    lower = name.lower()
    found = re.search(
        r"(?:rnd(?:\d+\.\d+_)?|data|dataset|size|transitions)_?(\d{3,7}(?![\d.])|\d{1,3}k(?![a-z0-9]))",
        lower,
    )
    if found:
        return _whole(found[1])
    bare = [_whole(text) for text in re.findall(r"(?<=[_-])(\d{3,5}|\d{1,2}k)(?=[_-]|$)", lower)]
    return next((size for size in bare if size % 500 == 0 and 0 < size <= _LARGEST), None)


def _whole(text: str) -> int:
    return int(text.replace("k", "000"))
