"""Reads run folders: the runs that can be compared, and why the others cannot."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, TypeGuard

from cs285.envs.tasks import describe_task, is_env_id
from cs285.homework import (
    STAGES,
    Stage,
    algorithms,
    keys_without_effect,
    order_of,
    usual_stage,
)
from cs285.infrastructure.errors import UserError
from cs285.infrastructure.palette import signed
from cs285.report.experiments import (
    Experiment,
    LeftOut,
    Run,
    Setting,
    Stub,
    by_environment,
    largest_sweep,
    plain,
    settings_key,
)
from cs285.results.event_files import PAUSE_S, EventLog, read_events, separate_runs
from cs285.results.final_returns import EXACT_TAGS
from cs285.results.folder_names import FolderName, parse_folder_path
from cs285.results.foreign_logs import tag_of_other_years, was_written_again
from cs285.results.run_folders import RunFolder, find_runs
from cs285.results.run_lengths import Progress, progress_of, shared_length, usual_lengths
from cs285.results.run_summary import RunStatus
from cs285.results.statistics import end_of
from cs285.results.summaries import natural_key

__all__ = [
    "EXPLORATION_PICTURE",
    "Collection",
    "Experiment",
    "LeftOut",
    "Run",
    "Setting",
    "by_environment",
    "collect",
    "largest_sweep",
    "plain",
]

SCALARS = (
    "eval_return",
    "eval/return_std",
    "eval/episodes",
    *EXACT_TAGS,
    "q_values",
    "coverage",
    "goals_reached",
    "phase",
    "train_return",
    "dataset_transitions",
)
EXPLORATION_PICTURE = "exploration_trajectories_eval"
IDENTITY = ("base_config", "env_name", "exp_name", "seed")
"""Keys of `config.yaml` that identify a run; the others are its settings."""
OUR_TAGS = ("eval/episodes", "dataset_transitions", "coverage")
"""Tags that only this project logs."""
_ENV_ID = re.compile(r"(?<![A-Za-z\d])[A-Z][A-Za-z\d]*(?:-[A-Za-z\d]+)?-v\d+(?![A-Za-z\d])")
_ABSURD_Q = 10_000
"""No return in this homework is nearly as large."""
_FEW = 3
"""Up to this many runs without events are listed one by one."""
LONGEST_S = 1e8
"""No run takes three years; if one seems to, the clock was wrong."""


@dataclass(frozen=True)
class Collection:
    """Everything found in the data folders."""

    experiments: tuple[Experiment, ...]
    left_out: tuple[LeftOut, ...]

    @property
    def runs(self) -> list[Run]:
        """All runs, in the order of the experiments."""
        return [run for experiment in self.experiments for run in experiment.runs]

    def select(self, stage: Stage, *names: str) -> list[Experiment]:
        """Return the experiments of a stage with one of these algorithms."""
        return [
            experiment
            for experiment in self.experiments
            if experiment.first.stage == stage and experiment.first.algorithm in names
        ]


@dataclass(frozen=True, eq=False)
class _Found:
    """A run that is shown unless it is a copy or was stopped."""

    run: Run
    folder: RunFolder
    digests: frozenset[str]
    """Digests of its event files."""
    progress: Progress | None
    """How far it got; None if its config or summary already settles that."""


def collect(
    data_dirs: Path | Sequence[Path],
    tags: Iterable[str] = (),
    *,
    only: Callable[[RunFolder], bool] = lambda _: True,
) -> Collection:
    """Read every run below some folders.

    Args:
        data_dirs: The folders, or one.
        tags: Scalars to read besides `SCALARS`.
        only: Which run folders to read.

    Raises:
        UserError: If a folder does not exist.
    """
    data_dirs = [data_dirs] if isinstance(data_dirs, Path) else data_dirs
    wanted = {*SCALARS, *tags}
    found: list[_Found] = []
    left_out: list[LeftOut] = []
    seen: set[Path] = set()
    for data_dir in data_dirs:
        if not data_dir.is_dir():
            raise UserError(
                f"the folder {data_dir} does not exist; set --data_dir to the folder with the runs"
            )
        folders, problems = find_runs(data_dir)
        left_out += [LeftOut(*problem.split(": ", 1)) for problem in problems]
        around = {parent for folder in folders for parent in folder.path.parents}
        for folder in folders:
            if folder.path.resolve() in seen or not only(folder):
                continue  # one data folder may be inside another
            if folder.path in around and not _has_events(folder):
                continue  # its logs are in subfolders
            seen.add(folder.path.resolve())
            parts = folder.path.relative_to(data_dir).parts
            # Several folders may have runs of the same name.
            name = str(folder.path if len(data_dirs) > 1 else Path(*parts))
            read = _read(folder, name, parts or (folder.path.resolve().name,), wanted)
            found += [one for one in read if isinstance(one, _Found)]
            left_out += [one for one in read if isinstance(one, LeftOut)]
    runs: list[Run] = []
    for judged in _unless_stopped(_without_copies(found)):
        if isinstance(judged, Run):
            runs.append(judged)
        else:
            left_out.append(judged)
    return Collection(tuple(_group(runs)), tuple(_without_repetition(left_out)))


def _without_repetition(left_out: Sequence[LeftOut]) -> Iterator[LeftOut]:
    """Replace the runs that stopped before their first log by their number, if there are many."""
    stubs = [one for one in left_out if isinstance(one, Stub)]
    if len(stubs) <= _FEW:
        yield from left_out
        return
    yield from (one for one in left_out if one not in stubs)
    yield LeftOut(
        f"{len(stubs):,} folders, such as {stubs[0].name}",
        "their event files contain no events: the runs were stopped before their first log",
    )


def _read(
    folder: RunFolder, name: str, parts: Sequence[str], tags: set[str]
) -> list[_Found | LeftOut]:
    """Read the run of a folder, or all runs that logged into it."""
    try:
        runs = [folder.event_files()]
        if not folder.config.exists() and len(runs[0]) > 1:
            runs = separate_runs(runs[0])
        names = [f"{name} (log {number} of {len(runs)} in this folder)"
                 for number in range(1, len(runs) + 1)] if len(runs) > 1 else [name]  # fmt: skip
        return [
            _read_run(folder, files, own, parts, tags)
            for files, own in zip(runs, names, strict=True)
        ]
    except OSError as error:
        return [LeftOut(name, f"cannot be read: {error.strerror}")]


def _read_run(
    folder: RunFolder, files: Sequence[Path], name: str, parts: Sequence[str], tags: set[str]
) -> _Found | LeftOut:
    named = parse_folder_path(parts)
    if named.homework not in {None, 5}:
        return LeftOut(name, f"belongs to homework {named.homework}")
    settings, notes = _read_settings(folder)
    log = read_events(files, tags, [EXPLORATION_PICTURE])
    notes += log.problems
    if not files and (result := _result_without_a_log(folder)):
        notes = [f"it has no event file; its summary.json says {result}"]
        log = replace(log, problems=notes)
    algorithm = str(settings.get("base_config") or named.algorithm or "")
    useless = keys_without_effect(algorithm, settings) if algorithm in algorithms() else []
    stage = named.stage or usual_stage(algorithm)
    if named.is_stage_guessed and stage is Stage.EXPLORE and "train_return" not in log.extents:
        stage = usual_stage(algorithm)  # it learned from a dataset, whatever the question's number
    run = Run(
        name=name,
        stage=stage,
        experiment=str(settings.get("exp_name") or named.experiment),
        algorithm=algorithm,
        env_id=str(settings.get("env_name") or named.env_id or ""),
        seed=seed if isinstance(seed := settings.get("seed", named.seed), int) else None,
        settings={key: value for key, value in settings.items() if key not in {*IDENTITY, *useless}}
        if settings
        else dict(named.settings),
        curves=log.curves,
        picture=log.pictures.get(EXPLORATION_PICTURE),
        notes=tuple(notes),
        is_ours=bool(settings) or any(tag in log.extents for tag in OUR_TAGS),
        picture_step=log.picture_steps.get(EXPLORATION_PICTURE),
        folder=folder.path,
    )
    if (planned := _planned(run)) and not any(tag in log.extents for tag in OUR_TAGS):
        # The last log of public versions comes before their last step.
        inferred = progress_of(log.extents, log.last_step, run.stage, run.env_id, (planned,))
        run = replace(run, length=planned if inferred.length == planned else None)
    if reason := _reason_to_leave_out(run, named, log):
        left_out = _left_out(run, folder, [reason, *(note for note in notes if note not in reason)])
        return Stub(*left_out) if log.stubs == len(notes) == 1 else left_out
    run, has_ended = _with_summary(run, folder)
    if "q_values" in run.curves and run.stage is not Stage.EXPLORE:
        q_values = run.curves["q_values"]
        mean, _ = end_of(q_values.steps, q_values.values)
        if abs(mean) > _ABSURD_Q:
            note = f"its Q-values diverged: {mean:.1e} on average over the last tenth"
            run = replace(run, notes=(*run.notes, note.replace("e+", "e")))
    progress = None
    if not settings and not has_ended:
        lengths = usual_lengths(run.stage, run.algorithm, run.env_id, run.named_size)
        progress = progress_of(log.extents, log.last_step, run.stage, run.env_id, lengths)
        run = _with_times_of_the_log(run, log)
    return _Found(run, folder, _digests(files), progress)


def _result_without_a_log(folder: RunFolder) -> str:
    """Describe the result in the summary; empty without a valid summary."""
    try:
        summary = folder.read_summary()
    except (OSError, ValueError):
        return ""
    if summary.status is RunStatus.DIVERGED or summary.final_return is None:
        return f"the run {summary.status} after {summary.total_steps:,} steps"
    return f"final return {signed(summary.final_return)} after {summary.total_steps:,} steps"


def _has_events(folder: RunFolder) -> bool:
    try:
        return bool(folder.event_files())
    except OSError:
        return True  # reading it will report the error


def _left_out(run: Run, folder: RunFolder, reasons: Sequence[str]) -> LeftOut:
    if folder.can_resume:
        reasons = [*reasons, f"resume it with {run.stage.script} --resume {folder}"]
    return LeftOut(run.name, "; ".join(reasons))


def _with_times_of_the_log(run: Run, log: EventLog) -> Run:
    """Add the start and the duration of a run without a summary, from its log."""
    if log.begins is None or log.ends is None:
        return run
    span = log.ends - log.begins
    learns = run.algorithm != "random"
    if learns and was_written_again(log.last_step, span, is_ours=run.is_ours):
        note = "its times are lost: the log was written again, perhaps to make it smaller"
        return replace(run, notes=(*run.notes, note))
    try:
        started = f"{datetime.fromtimestamp(log.begins):%Y-%m-%d %H:%M}"  # noqa: DTZ006 - for readers here
    except (OverflowError, OSError, ValueError):
        return run
    if (paused := span - log.took_s) > PAUSE_S:
        note = f"a pause of {paused / 3600:.1f} hours in its log, which its duration excludes"
        run = replace(run, notes=(*run.notes, note))
    took = log.took_s if 0 <= log.took_s < LONGEST_S else None
    return replace(run, started=started, wall_time_s=took)


def _with_summary(run: Run, folder: RunFolder) -> tuple[Run, bool]:
    """Add the contents of `summary.json`; return the run, and whether it has a valid summary."""
    try:
        summary = folder.read_summary()
    except (OSError, ValueError):
        return run, False  # the report can do without it
    if summary.status is RunStatus.DIVERGED:
        run = replace(run, notes=(*run.notes, "diverged: its losses are not finite"))
    started = f"{summary.started:%Y-%m-%d %H:%M}"
    return replace(run, started=started, wall_time_s=summary.wall_time_s), True


def _digests(files: Sequence[Path]) -> frozenset[str]:
    """Return the digests of the event files that are not empty."""
    digests = set()
    for path in files:
        if path.stat().st_size:
            with path.open("rb") as file:
                digests.add(hashlib.file_digest(file, "sha256").hexdigest())
    return frozenset(digests)


def _without_copies(found: Iterable[_Found]) -> Iterator[_Found | LeftOut]:
    """Leave out runs whose logs another run has too; of two, the one from this project is kept."""
    kept: list[_Found] = []
    by_digest: dict[str, _Found] = {}
    for one in sorted(
        found, key=lambda one: (-len(one.digests), not one.run.is_ours, one.run.name)
    ):
        originals = {by_digest[digest].run.name for digest in one.digests if digest in by_digest}
        if one.digests and all(digest in by_digest for digest in one.digests):
            yield LeftOut(one.run.name, f"the same log as {min(originals)}, which counts once")
        else:
            kept.append(one)
            by_digest |= dict.fromkeys(one.digests, one)
    yield from sorted(kept, key=lambda one: one.run.name)


def _unless_stopped(found: Iterable[_Found | LeftOut]) -> Iterator[Run | LeftOut]:
    """Leave out runs without a config that were stopped, judging by their logs and the others'."""
    members = list(found)
    stages: defaultdict[Stage, list[Progress]] = defaultdict(list)
    lengths: defaultdict[tuple[Any, ...], list[int]] = defaultdict(list)
    for one in members:
        if isinstance(one, _Found) and one.progress:
            stages[one.run.stage].append(one.progress)
            if one.progress.length is not None:
                lengths[settings_key(one.run)].append(one.progress.length)
    for one in members:
        if isinstance(one, LeftOut):
            yield one
        elif one.progress is None:
            yield one.run
        else:
            yield _judged(one, one.progress, stages[one.run.stage], lengths[settings_key(one.run)])


def _judged(
    one: _Found, progress: Progress, others: list[Progress], siblings: list[int]
) -> Run | LeftOut:
    """Return a run without a config, or why it is left out.

    Args:
        one: The run.
        progress: How far it got.
        others: How far all runs of its stage without a config got, including this one.
        siblings: The lengths of the complete runs of its experiment.
    """
    run, length = one.run, progress.length
    usual = usual_lengths(run.stage, run.algorithm, run.env_id, run.named_size)
    shared = shared_length(others, usual[0] // 2) if progress.went_online else None
    if length is None and shared is not None and shared in {progress.last, progress.may_end}:
        length = shared  # its owner chose this length for all of them
    elif length is not None and not progress.is_usual and length < max(siblings):
        length = None
    if length is not None:
        return replace(run, length=length)
    planned = max(siblings, default=0)
    if planned <= progress.last:
        planned = usual[-1]
    reason = f"stopped at step {progress.last:,} of {planned:,}"
    if not progress.went_online:
        reason += ", without any sign of online steps"
    elif progress.may_end and not siblings:
        reason = (
            f"ends at step {progress.last:,}: stopped, or meant to have {progress.may_end:,} steps "
            f"and not {planned:,}"
        )
    return _left_out(run, one.folder, [reason, *run.notes])


def _read_settings(folder: RunFolder) -> tuple[dict[str, Setting], list[str]]:
    """Read the plain values of `config.yaml`, which runs of public versions do not have."""
    if not folder.config.exists():
        return {}, []
    try:
        values = folder.read_config()
    except UserError:
        return {}, ["config.yaml is not valid, so the settings are those in the folder's name"]
    return {key: value for key, value in values.items() if _is_setting(value)}, []


def _is_setting(value: object) -> TypeGuard[Setting]:
    # Python refuses to print integers with thousands of digits.
    return isinstance(value, Setting) and not (isinstance(value, int) and abs(value) >= 1 << 64)


def _planned(run: Run) -> int:
    """Return the number of steps in the config; 0 if it has none."""
    keys = STAGES[run.stage].step_keys
    planned = sum(value for key in keys if isinstance(value := run.settings.get(key), int))
    total = run.settings.get("total_steps")
    if (
        run.stage is Stage.FINETUNE
        and "online_steps" not in run.settings
        and isinstance(total, int)
    ):
        return max(planned, total)  # in the starter's files: offline and online together
    return planned


def _reason_to_leave_out(run: Run, named: FolderName, log: EventLog) -> str | None:
    planned = _planned(run)
    other_year = tag_of_other_years(log.extents)
    reason = None
    if not run.env_id and other_year:
        reason = f"a log of another homework, which has the tag {other_year}"
    elif not run.env_id and (other_env := _ENV_ID.search(run.name)):
        reason = f"its environment, {other_env[0]}, does not belong to this homework"
    elif not run.env_id:
        reason = "neither config.yaml nor the folder's name says which environment it used"
    elif not is_env_id(run.env_id):
        reason = f"`env_name` {run.env_id[:80]!r} is not the id of an environment"
    elif run.algorithm not in algorithms():
        reason = (
            f"`{run.algorithm[:80]}` is not a known algorithm"
            if run.algorithm
            else f"neither config.yaml nor {named.experiment!r} says which algorithm it used"
        )
    elif other_year and not run.curves:
        reason = f"a log of another year's homework, which has the tag {other_year}"
    elif not run.curves and run.picture is None:
        # Problems with the files explain what is missing.
        unread = "; ".join(log.problems) if not log.extents else None
        reason = unread or "its logs have none of the tags of this homework"
    elif run.stage is not Stage.EXPLORE and "eval_return" not in run.curves:
        reason = "the tag eval_return is missing"
    elif run.curves and run.steps < planned:
        reason = f"stopped, or still running, at step {run.steps:,} of {planned:,}"
    return reason


def _group(runs: Iterable[Run]) -> list[Experiment]:
    """Group runs into experiments, and number experiments that have the same name."""
    groups: defaultdict[tuple[Any, ...], list[Run]] = defaultdict(list)
    for run in runs:
        groups[settings_key(run)].append(run)
    groups_in_order = sorted(groups.values(), key=lambda group: _rank(group[0]))
    names = Counter((group[0].stage, group[0].experiment) for group in groups_in_order)
    taken: Counter[tuple[str, str]] = Counter()
    experiments = []
    for group in groups_in_order:
        identity = (group[0].stage, group[0].experiment)
        taken[identity] += 1
        number = f" #{taken[identity]}" if names[identity] > 1 else ""
        group.sort(key=lambda run: (run.seed is None, run.seed or 0, run.started, run.name))
        experiments.append(Experiment(group[0].experiment + number, tuple(group)))
    return experiments


def _rank(run: Run) -> tuple[Any, ...]:
    """Order by stage, difficulty, algorithm and name."""
    return (
        list(STAGES).index(run.stage),
        describe_task(run.env_id).rank,
        run.env_id,
        order_of(run.algorithm),
        natural_key(run.experiment),
        run.name,
    )
