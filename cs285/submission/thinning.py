"""Makes event files smaller: keeps evenly spaced points of each scalar, and all evaluations.

Records are copied byte for byte, unless one of their values is dropped or changed.
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

from cs285.results.event_blocks import DamagedFileError, StoredEvent, decode_events
from cs285.results.tfrecords import pack_record


class Limits(NamedTuple):
    """How much to keep of every tag; None for everything."""

    points: int | None = None
    """Number of points of a scalar that is not an evaluation."""
    figures: int | None = None
    colours: int | None = None
    """Number of colours of a figure."""

    def describe(self) -> str:
        """Return a description of what a file within these limits contains."""
        points = "all" if self.points is None else f"at most {self.points:,}"
        figures = {None: "all figures", 1: "the last of every figure"}.get(
            self.figures, f"{self.figures} of every figure"
        )
        colours = "" if self.colours is None else f" in {self.colours} colours"
        return f"{points} points of a scalar, all evaluations, {figures}{colours}"


DENSEST = 0.02
"""Compression never gets below this fraction of the size; unchanged pictures do not shrink."""


@dataclass
class Inventory:
    """The contents of an event file, by tag."""

    points: Counter[str] = field(default_factory=Counter)
    figures: Counter[str] = field(default_factory=Counter)
    sizes: Counter[str] = field(default_factory=Counter)
    """Total size of the values in bytes."""

    def kept(self, limits: Limits) -> dict[str, tuple[int, int]]:
        """Return the number of values of every tag, and how many of them remain."""
        return {
            tag: (count, -(-count // _stride(count, limit)))
            for counts, limit in ((self.points, limits.points), (self.figures, limits.figures))
            for tag, count in counts.items()
        }

    def least_size(self, limits: Limits) -> float:
        """Return a lower bound on the bytes of a zip of the thinned file."""
        whole = self.figures if limits.colours is None else ()
        return sum(
            self.sizes[tag] * remaining / count * (1.0 if tag in whole else DENSEST)
            for tag, (count, remaining) in self.kept(limits).items()
        )

    def changes(self, limits: Limits) -> bool:
        """Return whether a file has to change to stay within the limits."""
        loses = any(remaining < count for count, remaining in self.kept(limits).values())
        return loses or bool(self.figures and limits.colours)


def is_evaluation(tag: str) -> bool:
    """Return whether a tag belongs to an evaluation, in this project or in public versions."""
    return tag.lower().startswith(("eval_", "eval/"))


def keeps(index: int, count: int, limit: int | None) -> bool:
    """Return whether the value at `index` of `count` stays: the last, and evenly spaced others."""
    return (count - 1 - index) % _stride(count, limit) == 0


def _stride(count: int, limit: int | None) -> int:
    return 1 if limit is None else max(1, -(-count // limit))


def take_inventory(path: Path) -> Inventory:
    """Count the contents of an event file, up to where it is damaged."""
    inventory = Inventory()
    for _, event in _undamaged(path):
        for value in event.summary.value:
            inventory.sizes[value.tag] += value.ByteSize()
            counts = _counts(inventory, value)
            if counts is not None:
                counts[value.tag] += 1
    return inventory


def thin(path: Path, inventory: Inventory, limits: Limits) -> bytes:
    """Return an event file reduced to the limits, up to where it is damaged."""
    output = bytearray()
    seen = Inventory()
    for record, event in _undamaged(path):
        values = list(event.summary.value)
        remaining = [one for one in values if _stays(one, seen, inventory, limits)]
        if values and not remaining:
            continue
        if not record.is_valid:
            break
        recoloured = limits.colours is not None and _recolour(remaining, limits.colours)
        if recoloured or len(remaining) < len(values):
            event.summary.CopyFrom(type(event.summary)(value=remaining))
            output += pack_record(event.SerializeToString())
        else:
            output += record.packed
    return bytes(output)


def _stays(value: Any, seen: Inventory, inventory: Inventory, limits: Limits) -> bool:
    """Return whether the next value of its tag is within the limits, and count it as seen."""
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
    """Reduce the colours of all pictures among values; return whether there was one."""
    pictures = [value.image for value in values if value.WhichOneof("value") == "image"]
    for picture in pictures:
        picture.encoded_image_string = _with_colours(picture.encoded_image_string, colours)
    return bool(pictures)


@lru_cache(maxsize=4_096)
def _with_colours(picture: bytes, colours: int) -> bytes:
    """Return a picture as a PNG with this many colours, or unchanged if that is not smaller."""
    from PIL import Image

    output = io.BytesIO()
    try:
        with Image.open(io.BytesIO(picture)) as image:
            image.convert("RGB").quantize(colours).save(output, "png", optimize=True)
    except (OSError, ValueError, Image.DecompressionBombError):
        return picture
    return min(output.getvalue(), picture, key=len)


def _counts(inventory: Inventory, value: Any) -> Counter[str] | None:
    """Return the counter of a value's kind; None for values that always stay, as in evaluations."""
    kind = value.WhichOneof("value")
    if kind == "image":
        return inventory.figures
    thins = kind in {"simple_value", "histo"} and not is_evaluation(value.tag)
    return inventory.points if thins else None


def _undamaged(path: Path) -> Iterator[StoredEvent]:
    """Yield the events of a file up to where it is damaged."""
    with suppress(DamagedFileError):
        yield from decode_events(path)
