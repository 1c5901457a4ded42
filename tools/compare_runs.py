"""Compare two folders that ./run_hw5.sh wrote to: every scalar and every dataset, bit for bit.

python tools/compare_runs.py OLD NEW

OLD and NEW each contain `data/` and `datasets/`. Runs are matched by their names without the time,
in the order of their times. Logs are read by TensorBoard's own reader. Tags that only NEW has are
listed, but do not count as differences. The exit status is 1 if anything differs.
"""

from __future__ import annotations

import re
import struct
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

TIME = re.compile(r"_\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d(-\d+)?$")


def scalars_of(folder: Path) -> dict[str, list[tuple[int, bytes]]]:
    """Return the steps and values, as bytes, of every scalar in a run's event files."""
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    found = defaultdict(list)
    for path in sorted(folder.glob("events.out.tfevents.*")):
        for event in LegacyEventFileLoader(str(path)).Load():
            for value in event.summary.value:
                if value.WhichOneof("value") == "simple_value":
                    found[value.tag].append((event.step, struct.pack("<f", value.simple_value)))
    return dict(found)


def runs_in(data_dir: Path) -> dict[str, list[Path]]:
    """Return the run folders of each name, in the order of their times."""
    found = defaultdict(list)
    for folder in sorted(data_dir.glob("hw5_*")):
        found[TIME.sub("", folder.name)].append(folder)
    return dict(found)


def compare(old: Path, new: Path) -> int:
    """Print every difference and a summary; return the number of differences."""
    differences: list[str] = []
    runs = points = 0
    added: set[str] = set()
    before, after = runs_in(old / "data"), runs_in(new / "data")
    for name in sorted(before.keys() | after.keys()):
        pairs = before.get(name, []), after.get(name, [])
        if len(pairs[0]) != len(pairs[1]):
            differences.append(f"{name}: {len(pairs[0])} runs, then {len(pairs[1])}")
        for ours, theirs in zip(*pairs, strict=False):
            first, second = scalars_of(ours), scalars_of(theirs)
            runs += 1
            points += sum(map(len, first.values()))
            added |= second.keys() - first.keys()
            differences += [
                f"{name}: {tag}" for tag in sorted(first) if second.get(tag) != first[tag]
            ]
    files = [{path.name for path in (one / "datasets").glob("*.npz")} for one in (old, new)]
    differences += [f"{name}: only in one folder" for name in sorted(files[0] ^ files[1])]
    for name in sorted(files[0] & files[1]):
        with np.load(old / "datasets" / name) as first, np.load(new / "datasets" / name) as second:
            for array in (key for key in first.files if key != "manifest"):
                if array not in second.files or not _equal(first[array], second[array]):
                    differences.append(f"{name}: {array}")
    for difference in differences:
        print(difference)
    print(
        f"{runs} runs, {points:,} points and {len(files[0])} datasets compared; "
        f"{len(differences)} differences; new tags: {', '.join(sorted(added)) or 'none'}"
    )
    return len(differences)


def _equal(first: np.ndarray, second: np.ndarray) -> bool:
    return first.dtype == second.dtype and first.tobytes() == second.tobytes()


if __name__ == "__main__":
    sys.exit(compare(Path(sys.argv[1]), Path(sys.argv[2])) > 0)
