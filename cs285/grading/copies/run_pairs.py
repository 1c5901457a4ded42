"""Compares the runs of all hand-ins of a course."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum, auto
from itertools import combinations, product
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse

from cs285.grading.archives import printable
from cs285.grading.copies.fingerprints import Fingerprint
from cs285.grading.copies.pairs import Evidence, Excerpt, Kind
from cs285.grading.copies.runs import RunPrint, folder_name

Floats = npt.NDArray[np.float64]

MIN_POINTS = 12
"""Minimum number of points in common for two logs to be compared."""
MIN_VALUES = 8
"""Minimum number of different values among them: episodes that all fail have equal returns."""
MIN_EQUAL = 0.95
"""Minimum fraction of the points that must be equal."""
VALUE_TOLERANCE = 1e-4
"""Maximum relative difference of values that count as equal here."""
FEW_EDITS = 0.02
"""Maximum fraction of slightly different points that counts as an edit. If a machine rounds
differently, nearly all points differ from some step on."""
MIN_OVERLAP = 0.8
"""Minimum ratio of the shorter range of steps to the longer: a run that continues after the same
beginning is a different run."""
MIN_STEPS = 6
"""Minimum number of steps for times to be compared."""
SAME_TIME = 1e-3
"""Maximum difference in seconds of times that count as the same."""
MAX_RESIDUAL = 5e-5
"""Maximum deviation of times from a linear function of the other log's times, as a fraction of the
duration. If 50 intervals vary by only 1% each, independent runs deviate by ten times as much."""
MIN_DURATION = 0.05
"""Seconds; the times of a log written in less time prove nothing."""
_MAX_HOLDERS = 50
"""Maximum number of different logs with a point; a more common one is ignored."""
_SMALL_GROUP = 10
"""Maximum size of a group of equal logs in which every pair is compared."""
_WIDELY_USED = 3
"""Number of hand-ins with the same computer name above which the name is common."""
_MAX_SHOWN_POINTS = 6


PAIR = 2


class Times(Enum):
    """How the times of two logs are related."""

    EQUAL = auto()
    SHIFTED = auto()
    STRETCHED = auto()
    UNRELATED = auto()
    UNKNOWN = auto()
    """There are too few times, or one of the logs was written in an instant."""


_TIME_STRENGTHS = {Times.EQUAL: 1.0, Times.SHIFTED: 0.99, Times.STRETCHED: 0.98}
_OTHER_CLAIM, _EDITED, _SAME_CLOCK = 0.97, 0.96, 0.98
_SAME_PROCESS, _SAME_HOST, _HELD_BY_SEVERAL = 0.95, 0.5, 0.4
_ONLY_EQUAL, _RARELY_EQUAL = 0.05, 0.1


@dataclass(frozen=True)
class Relation:
    """What else two logs with equal values have in common."""

    points: int
    tags: int
    near: int
    """The number of points whose values are nearly, but not exactly, equal."""
    largest: float
    """The largest relative difference among them."""
    hidden_edit: bool
    """Whether all compared points are equal but the whole logs are not."""
    thinned: bool
    """Whether one log has fewer points of a tag than the other."""
    times: Times
    shift: float
    """Seconds by which the second log is later."""
    stretch: float
    """The duration of the second log divided by that of the first."""
    deviation: float
    """Standard deviation in seconds of what shift and stretch do not explain."""
    contradictions: tuple[str, ...]
    same_clock: bool
    """Whether both summaries give the same duration, to the last digit."""
    same_process: bool
    same_host: str


class _Known(NamedTuple):
    """A run, and the hand-in that it belongs to."""

    hand_in: int
    run: RunPrint


class _Related(NamedTuple):
    """Two runs with equal values, and the number of hand-ins with such a run."""

    first: _Known
    second: _Known
    relation: Relation
    group: int


def compare_runs(prints: Sequence[Fingerprint]) -> dict[tuple[int, int], list[Evidence]]:
    """Return what pairs of hand-ins have in common in their logs, by their indices."""
    known = [_Known(place, run) for place, one in enumerate(prints) for run in one.runs]
    hosts = Counter(
        host
        for one in prints
        for host in {writer.host for run in one.runs for writer in run.writers}
    )
    common_hosts = {host for host, count in hosts.items() if count > _WIDELY_USED}
    related: dict[tuple[int, int], _Related] = {}
    for group, pairs in _candidates(known):
        for one, other in pairs:
            first, second = sorted((one, other), key=lambda each: each.hand_in)
            place = id(first.run), id(second.run)
            if place not in related and (relation := relate(first.run, second.run, common_hosts)):
                related[place] = _Related(first, second, relation, group)
    best: defaultdict[int, float] = defaultdict(float)
    for place, pair in related.items():
        strength = _judge(pair.relation, pair.group)[1]
        for run in place:
            best[run] = max(best[run], strength)
    found: defaultdict[tuple[int, int], list[Evidence]] = defaultdict(list)
    for place, pair in related.items():
        kind, strength = _judge(pair.relation, pair.group)
        # The true source of one run is known, so other runs with its values prove nothing more.
        if strength <= _HELD_BY_SEVERAL and max(best[run] for run in place) >= _SAME_PROCESS:
            kind, strength = Kind.RUN_EQUAL, _ONLY_EQUAL
        mine, theirs = pair.first.run, pair.second.run
        fact = " ".join(_facts(mine, pair.relation, pair.group))
        evidence = Evidence(kind, strength, fact, _excerpt(mine, theirs), _excerpt(theirs, mine))
        found[pair.first.hand_in, pair.second.hand_in].append(evidence)
    return dict(found)


_Pairs = Iterable[tuple[_Known, _Known]]


def _candidates(known: Sequence[_Known]) -> Iterator[tuple[int, _Pairs]]:
    """Yield pairs of runs that may be equal, with the number of hand-ins that have such a run."""
    groups: defaultdict[bytes, list[_Known]] = defaultdict(list)
    for one in known:
        content = np.sort(one.run.keys).tobytes()
        groups[hashlib.blake2b(content, digest_size=16).digest()].append(one)
    members = list(groups.values())
    sizes = [len({one.hand_in for one in group}) for group in members]
    for group, size in zip(members, sizes, strict=True):
        yield size, _across_hand_ins(_pairs_within(group))
    for first, second in _similar([group[0].run for group in members]):
        size = sizes[first] + sizes[second]
        yield size, _across_hand_ins(product(members[first], members[second]))


def _across_hand_ins(pairs: _Pairs) -> Iterator[tuple[_Known, _Known]]:
    return ((one, other) for one, other in pairs if one.hand_in != other.hand_in)


def _pairs_within(group: Sequence[_Known]) -> Iterator[tuple[_Known, _Known]]:
    """Yield pairs of runs with equal points; in a large group, only those that may be copies."""
    if len(group) <= _SMALL_GROUP:
        yield from combinations(group, 2)
        return
    fits = _fitting_times([one.run for one in group])
    for one, other in np.argwhere(np.triu(fits, 1)).tolist():
        yield group[one], group[other]
    marks: defaultdict[object, list[_Known]] = defaultdict(list)
    claims: defaultdict[object, list[_Known]] = defaultdict(list)
    for known in group:
        claims[known.run.claim, tuple(sorted(known.run.extents.items()))].append(known)
        for mark in {known.run.wall_time_s, *known.run.writers} - {None}:
            marks[mark].append(known)
    for members in marks.values():
        yield from combinations(members[:_SMALL_GROUP], 2)
    if len(claims) <= _SMALL_GROUP:
        for some, others in combinations(claims.values(), 2):
            yield from product(some[:_SMALL_GROUP], others[:_SMALL_GROUP])


def _fitting_times(runs: Sequence[RunPrint]) -> npt.NDArray[np.bool_]:
    """Return which runs (N,) with equal points have linearly related times, shape (N, N)."""
    times = np.array([_times_by_step(run) for run in runs])
    centred = times - times.mean(axis=1, keepdims=True)
    spread = np.maximum(centred.std(axis=1), 1e-9)
    alike = (centred @ centred.T) / times.shape[1] / np.outer(spread, spread)
    fits: npt.NDArray[np.bool_] = np.sqrt(np.maximum(0.0, 1 - alike**2)) <= 10 * MAX_RESIDUAL
    return fits


def _similar(runs: Sequence[RunPrint]) -> Iterator[tuple[int, int]]:
    """Yield the indices of pairs of runs that have many points in common."""
    if len(runs) < PAIR:
        return
    keys, columns = np.unique(np.concatenate([run.keys for run in runs]), return_inverse=True)
    columns = columns.ravel()
    rows = np.repeat(np.arange(len(runs)), [len(run.keys) for run in runs])
    holders = np.bincount(columns, minlength=len(keys))
    some = (holders[columns] > 1) & (holders[columns] <= _MAX_HOLDERS)
    table = sparse.csr_matrix(
        (np.ones(int(some.sum()), dtype=np.int32), (rows[some], columns[some])),
        shape=(len(runs), len(keys)),
    )
    shared = sparse.triu(table @ table.T, 1).tocoo()
    enough = shared.data >= MIN_POINTS
    yield from zip(shared.row[enough].tolist(), shared.col[enough].tolist(), strict=True)


def _times_by_step(run: RunPrint) -> Floats:
    """Return the earliest time at each step."""
    steps, places = np.unique(run.step, return_inverse=True)
    return _first_times(run.time, places.ravel(), len(steps))


def _first_times(times: Floats, places: npt.NDArray[np.int64], count: int) -> Floats:
    first = np.full(count, np.inf)
    np.minimum.at(first, places, times)
    return first


def relate(first: RunPrint, second: RunPrint, common_hosts: Iterable[str] = ()) -> Relation | None:
    """Return how two logs are related; None if their values are not those of the same run.

    Args:
        first: A run.
        second: A run of another hand-in.
        common_hosts: Names of computers that occur in many hand-ins.
    """
    shorter = min(first.last_step - first.first_step, second.last_step - second.first_step)
    longer = max(first.last_step - first.first_step, second.last_step - second.first_step)
    if shorter < MIN_OVERLAP * longer:
        return None
    mine, others = _matching(first, second)
    if len(mine) < MIN_POINTS:
        return None
    ours, theirs = first.value[mine].astype(float), second.value[others].astype(float)
    apart = np.abs(ours - theirs)
    scale = np.maximum(np.abs(ours), np.abs(theirs))
    relative = np.where(apart > 0, apart / np.maximum(scale, 1e-30), 0.0)
    is_near = relative <= VALUE_TOLERANCE
    if is_near.mean() < MIN_EQUAL or len(np.unique(ours[is_near])) < MIN_VALUES:
        return None
    differs = relative > 0
    both = first.extents.keys() & second.extents.keys()
    counts = [(first.extents[tag].points, second.extents[tag].points) for tag in both]
    digests = [
        first.extents[tag].points == second.extents[tag].points
        and first.extents[tag].digest != second.extents[tag].digest
        for tag in both
    ]
    times, shift, stretch, deviation = _compare_times(first, second, mine, others)
    clocks = {first.wall_time_s, second.wall_time_s}
    shared_hosts = {one.host for one in first.writers} & {one.host for one in second.writers}
    return Relation(
        points=len(mine),
        tags=len(set(first.tag[mine].tolist())),
        near=int(differs.sum()),
        largest=float(relative.max()),
        hidden_edit=not differs.any() and any(digests),
        thinned=any(one != other for one, other in counts),
        times=times,
        shift=shift,
        stretch=stretch,
        deviation=deviation,
        contradictions=first.claim.contradicts(second.claim),
        same_clock=len(clocks) == 1 and None not in clocks,
        same_process=bool(set(first.writers) & set(second.writers)),
        same_host=min(shared_hosts - set(common_hosts), default=""),
    )


def _matching(
    first: RunPrint, second: RunPrint
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the indices of the points that both runs have, whatever their values."""
    numbers = {tag: place for place, tag in enumerate(first.tags)}
    translated = np.array([numbers.get(tag, -1) for tag in second.tags], dtype=np.int64)
    size = max(first.last_step, second.last_step) + 1
    mine = first.tag.astype(np.int64) * size + first.step
    others = translated[second.tag] * size + second.step
    _, one, other = np.intersect1d(mine, others, return_indices=True)
    return one, other


def _compare_times(
    first: RunPrint,
    second: RunPrint,
    mine: npt.NDArray[np.int64],
    others: npt.NDArray[np.int64],
) -> tuple[Times, float, float, float]:
    """Return how the times are related, the shift, the stretch, and the remaining deviation."""
    steps, places = np.unique(first.step[mine], return_inverse=True)
    ours = _first_times(first.time[mine], places.ravel(), len(steps))
    theirs = _first_times(second.time[others], places.ravel(), len(steps))
    shifts = theirs - ours
    if len(steps) < MIN_STEPS:
        return Times.UNKNOWN, 0.0, 1.0, 0.0
    if np.abs(shifts).max() <= SAME_TIME:
        return Times.EQUAL, 0.0, 1.0, float(np.abs(shifts).max())
    lasted = np.ptp(ours), np.ptp(theirs)
    if min(lasted) < MIN_DURATION:
        return Times.UNKNOWN, float(np.median(shifts)), 1.0, 0.0
    shift = float(np.median(shifts))
    deviation = float((shifts - shift).std())
    if deviation <= MAX_RESIDUAL * min(lasted):
        return Times.SHIFTED, shift, 1.0, deviation
    stretch, start = np.polyfit(ours - ours[0], theirs - theirs[0], 1)
    deviation = float((theirs - theirs[0] - start - stretch * (ours - ours[0])).std())
    fits = stretch > 0 and deviation <= MAX_RESIDUAL * lasted[1]
    kind = Times.STRETCHED if fits else Times.UNRELATED
    return kind, shift, float(stretch), deviation


def _judge(relation: Relation, group: int) -> tuple[Kind, float]:
    edited = relation.hidden_edit or 0 < relation.near <= max(1, FEW_EDITS * relation.points)
    # If a third hand-in has these values, the copy may have been made from that one.
    is_only = group <= PAIR
    reasons = [
        _TIME_STRENGTHS.get(relation.times, 0.0),
        (_OTHER_CLAIM if is_only else _HELD_BY_SEVERAL) if relation.contradictions else 0.0,
        (_EDITED if is_only else _HELD_BY_SEVERAL) if edited else 0.0,
        _SAME_CLOCK if relation.same_clock else 0.0,
        _SAME_PROCESS if relation.same_process else 0.0,
        _SAME_HOST if relation.same_host else 0.0,
    ]
    strength = max(reasons)
    if not strength:
        return Kind.RUN_EQUAL, _RARELY_EQUAL if is_only else _ONLY_EQUAL
    if edited:
        return Kind.RUN_EDITED, strength
    if relation.thinned:
        return Kind.RUN_THINNED, strength
    if relation.times is Times.EQUAL:
        return Kind.RUN_RENAMED, strength
    if relation.times in _TIME_STRENGTHS or not relation.contradictions:
        return Kind.RUN_RETIMED, strength
    return Kind.RUN_RENAMED, strength


def _facts(first: RunPrint, relation: Relation, group: int) -> Iterator[str]:
    what = f"{relation.points} points of {relation.tags} tags were compared"
    if relation.near:
        equal = relation.points - relation.near
        differ = "1 differs" if relation.near == 1 else f"{relation.near:,} differ"
        yield (
            f"{what}: {equal:,} are equal to the last bit, and {differ} by at most "
            f"{relation.largest:.1g} of the value."
        )
    else:
        yield f"{what}, and all are equal to the last bit."
    if relation.hidden_edit:
        yield "Other points of a tag differ, though both logs have equally many."
    if relation.thinned:
        yield "One log has fewer points than the other."
    yield {
        Times.EQUAL: "All times are the same.",
        Times.SHIFTED: (
            f"All times differ by {relation.shift:,.3f} s, to within {relation.deviation:.6f} s."
        ),
        Times.STRETCHED: (
            "The times of one are those of the other stretched by a factor of "
            f"{relation.stretch:.4f}, to within {relation.deviation:.6f} s."
        ),
        Times.UNRELATED: "The times are unrelated.",
        Times.UNKNOWN: "The times prove nothing.",
    }[relation.times]
    if relation.contradictions:
        yield f"The folders differ in {' and '.join(relation.contradictions)}."
    if relation.same_clock:
        yield f"Both summaries give {first.wall_time_s!r} s."
    if relation.same_process:
        yield "The names of the event files name the same computer, process and time."
    elif relation.same_host:
        yield f"Both were written on {printable(relation.same_host, 60)!r}."
    if group > PAIR:
        yield f"{group} hand-ins have a run with these values."


def _excerpt(run: RunPrint, other: RunPrint) -> Excerpt:
    """Return some points that both runs have, different ones first."""
    mine, others = _matching(run, other)
    differs = run.value[mine] != other.value[others]
    is_evaluation = run.tag[mine] == 0
    order = np.lexsort((run.step[mine], ~is_evaluation, ~differs))[:_MAX_SHOWN_POINTS]
    lines = [
        f"event file of {printable(one.host, 40)}"
        f"{f', process {one.process}' if one.process else ''}, {_clock(float(one.time))[:19]}"
        for one in run.writers[:2]
    ]
    if run.wall_time_s is not None:
        lines.append(f"summary.json: took {run.wall_time_s:.3f} s")
    lines += [
        f"{printable(run.tags[run.tag[place]], 24)} at {run.step[place]:,}: "
        f"{run.value[place]:.9g}  {_clock(run.time[place])}"
        for place in mine[order]
    ]
    return Excerpt(printable(folder_name(run.folder)), tuple(lines))


def _clock(time: float) -> str:
    try:
        moment = datetime.fromtimestamp(time, UTC)
    except (ValueError, OverflowError, OSError):
        return f"{time:.6f} s"
    return f"{moment:%Y-%m-%d %H:%M:%S.%f}"[:-3]
