"""Makes event files smaller: fewer points of a scalar, evenly, and all evaluations.

Records are copied as they are, checksums included, unless one of their values goes or changes.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from cs285.results.tfrecords import DamagedRecordError, Record, pack_record, read_records


class Limits(NamedTuple):
    """How much of every tag a file keeps; None for all."""

    points: int | None = None
    """Of a scalar that is no evaluation."""
    figures: int | None = None
    colours: int | None = None
    """Of a figure."""

    def describe(self) -> str:
        """Say what a file within these limits holds."""
        points = "all" if self.points is None else f"at most {self.points:,}"
        figures = {None: "all figures", 1: "the last of every figure"}.get(
            self.figures, f"{self.figures} of every figure"
        )
        colours = "" if self.colours is None else f" in {self.colours} colours"
        return f"{points} points of a scalar, all evaluations, {figures}{colours}"


DENSEST = 0.02
"""Nothing gets smaller than this part of it, and pictures as they are no smaller at all."""


@dataclass
class Inventory:
    """What an event file holds, by tag."""

    points: Counter[str] = field(default_factory=Counter)
    figures: Counter[str] = field(default_factory=Counter)
    sizes: Counter[str] = field(default_factory=Counter)
    """Bytes of all values."""

    def kept(self, limits: Limits) -> dict[str, tuple[int, int]]:
        """Return how many values there are of every tag, and how many remain."""
        return {
            tag: (count, -(-count // _stride(count, limit)))
            for counts, limit in ((self.points, limits.points), (self.figures, limits.figures))
            for tag, count in counts.items()
        }

    def least_size(self, limits: Limits) -> float:
        """Return a number of bytes below which no zip of the thinned file gets."""
        whole = self.figures if limits.colours is None else ()
        return sum(
            self.sizes[tag] * remaining / count * (1.0 if tag in whole else DENSEST)
            for tag, (count, remaining) in self.kept(limits).items()
        )

    def changes(self, limits: Limits) -> bool:
        """Tell whether a file is not within the limits as it is."""
        loses = any(remaining < count for count, remaining in self.kept(limits).values())
        return loses or bool(self.figures and limits.colours)


def is_evaluation(tag: str) -> bool:
    """Tell whether a tag is of an evaluation, by this project or by public versions."""
    return tag.lower().startswith(("eval_", "eval/"))


def keeps(index: int, count: int, limit: int | None) -> bool:
    """Tell whether the value at `index` of `count` stays: the last one and evenly before it."""
    return (count - 1 - index) % _stride(count, limit) == 0


def _stride(count: int, limit: int | None) -> int:
    return 1 if limit is None else max(1, -(-count // limit))


def take_inventory(path: Path) -> Inventory:
    """Count what an event file holds, up to where it is damaged."""
    inventory = Inventory()
    for event in map(_parse, _records(path)):
        if event is None:
            break
        for value in event.summary.value:
            inventory.sizes[value.tag] += value.ByteSize()
            counts = _counts(inventory, value)
            if counts is not None:
                counts[value.tag] += 1
    return inventory


def thin(path: Path, inventory: Inventory, limits: Limits) -> bytes:
    """Return an event file within the limits, up to where it is damaged."""
    output = bytearray()
    seen = Inventory()
    for record in _records(path):
        event = _parse(record)
        if event is None:
            break
        values = list(event.summary.value)
        remaining = [one for one in values if _stays(one, seen, inventory, limits)]
        if values and not remaining:
            continue
        if not record.is_sound:
            break
        recoloured = limits.colours is not None and _recolour(remaining, limits.colours)
        if recoloured or len(remaining) < len(values):
            event.summary.CopyFrom(type(event.summary)(value=remaining))
            output += pack_record(event.SerializeToString())
        else:
            output += record.packed
    return bytes(output)


def _stays(value: Any, seen: Inventory, inventory: Inventory, limits: Limits) -> bool:
    """Tell whether the next value of its tag is within the limits, and count it as seen."""
    counts = _counts(seen, value)
    if counts is None:
        return True
    is_figure = counts is seen.figures
    total, limit = (
        (inventory.figures, limits.figures) if is_figure else (inventory.points, limits.points)
    )
    counts[value.tag] += 1
    return keeps(counts[value.tag] - 1, total[value.tag], limit)


def _recolour(values: Sequence[Any], colours: int) -> bool:
    """Reduce the colours of all pictures among values; tell whether there was one."""
    pictures = [value.image for value in values if value.WhichOneof("value") == "image"]
    for picture in pictures:
        picture.encoded_image_string = _with_colours(picture.encoded_image_string, colours)
    return bool(pictures)


@lru_cache(maxsize=4_096)
def _with_colours(picture: bytes, colours: int) -> bytes:
    """Return a picture as a PNG of so many colours, or as it is if that is no smaller."""
    from PIL import Image

    output = io.BytesIO()
    try:
        with Image.open(io.BytesIO(picture)) as image:
            image.convert("RGB").quantize(colours).save(output, "png", optimize=True)
    except (OSError, ValueError, Image.DecompressionBombError):
        return picture
    return min(output.getvalue(), picture, key=len)


def _counts(inventory: Inventory, value: Any) -> Counter[str] | None:
    """Return the counter of a value's kind; None for evaluations and others that all stay."""
    kind = value.WhichOneof("value")
    if kind == "image":
        return inventory.figures
    thins = kind in {"simple_value", "histo"} and not is_evaluation(value.tag)
    return inventory.points if thins else None


def _records(path: Path) -> Iterator[Record]:
    """Yield the records of an event file up to where it is damaged."""
    with suppress(DamagedRecordError):
        yield from read_records(path)


def _parse(record: Record) -> Any:
    """Return the event of a record, or None if it is none."""
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # has no stubs
    from tensorboard.compat.proto.event_pb2 import Event  # type: ignore[import-untyped]  # likewise

    try:
        return Event.FromString(record.data)
    except DecodeError:
        return None
