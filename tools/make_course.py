"""Makes the hand-ins of a synthetic course from a few real runs, with copies among them.

    python tools/make_course.py course --students 300 --compare

Trains short runs of every kind that the handout asks for, or reuses those of an earlier call, and
derives from them what other students might hand in: other seeds, other computers, other code. Some
students honestly computed the same numbers as many others. Some pairs copied, in six ways, which
`copies.json` lists. With --compare, it also searches for the copies and prints their ranks.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from cs285.grading.copies import Fingerprint, compare, fingerprint
from cs285.homework import STAGES, Stage
from cs285.infrastructure.files import prepare_folder
from cs285.training.door import train
from tests.course.logs import Base, read_base
from tests.course.students import Course

ROOT = Path(__file__).parents[1] / "experiments"
SCALES = {"explore": 20, "offline": 50, "finetune": 50}
"""The divisor of the number of steps in the real runs."""
EXPERIMENTS = {
    "explore": [
        *(f"{maze}_{kind}" for maze in ("easy", "medium", "hard") for kind in ("random", "rnd")),
        *(f"medium_rnd_{size}" for size in (1_000, 5_000, 20_000)),
    ],
    "offline": [
        *("medium_dqn", "easy_cql", "easy_awac", "easy_iql"),
        *(f"medium_cql_alpha{alpha}" for alpha in ("0.1", "1", "10")),
        *(f"medium_cql_rnd{size}" for size in (1_000, 5_000, 20_000)),
    ],
    "finetune": ["hard_cql_finetune"],
}


def make_bases(folder: Path) -> list[Base]:
    """Train the short runs, unless they exist, and read them."""
    if not (folder / "data").exists():
        for stage, names in EXPERIMENTS.items():
            scale = SCALES[stage]
            train(
                [
                    ROOT / STAGES[Stage(stage)].experiments / f"pointmass_{name}.yaml"
                    for name in names
                ],
                stage=stage,
                steps_fraction=1 / scale,
                eval_interval=(500 if stage == "explore" else 2_500) // scale,
                visualize_interval=100_000,
                log_interval=(240 if stage == "explore" else 1_000) // scale,
                data_dir=folder / "data",
                dataset_dir=folder / "datasets",
                visualization_dir=folder / "pictures",
                workers=1,
            )
    bases = []
    for path in sorted((folder / "data").iterdir()):
        stage = path.name.split("_")[1]
        bases.append(read_base(path, SCALES[stage]))
    return bases


def write_one(course: Course, folder: Path, number: int) -> str:
    """Write the hand-in of one student."""
    return course.student(number).write(folder).name


def find_copies(course: Course, folder: Path, workers: int) -> int:
    """Search for the copies and print their ranks; return how many are not at the top."""
    paths = sorted(folder.glob("*.zip"))
    start = time.perf_counter()
    with ProcessPoolExecutor(workers) as pool:
        stored = list(pool.map(_fingerprint, paths, chunksize=4))
    read = time.perf_counter()
    print(f"fingerprints: {read - start:.1f} s, {sum(map(len, stored)) / 1e6:.1f} MB as JSON")
    start = time.perf_counter()
    prints = {
        path.stem: Fingerprint.from_json(json.loads(text))
        for path, text in zip(paths, stored, strict=True)
    }
    loaded = time.perf_counter()
    pairs = compare(prints)
    print(f"loaded in {loaded - start:.1f} s, compared in {time.perf_counter() - loaded:.1f} s")
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(f"{len(pairs)} pairs listed; at most {most:.0f} MB of memory\n")
    truth = {frozenset((one.source, one.copier)): one for one in course.planted}
    found = set()
    for rank, pair in enumerate(pairs, 1):
        planted = truth.get(frozenset((pair.first, pair.second)))
        if planted:
            found.add(rank)
        if planted or rank <= len(truth) + 5:
            what = f"{planted.way}{' (of many)' * planted.of_equal}" if planted else "-"
            print(f"{rank:4}  {pair.strength:.3f}  {pair.kind:18}  {what}")
    on_top = len([rank for rank in found if rank <= len(truth)])
    print(f"\n{len(found)} of {len(truth)} planted pairs found, {on_top} of them at the top")
    return len(truth) - on_top


def _fingerprint(path: Path) -> str:
    return json.dumps(fingerprint(path).as_json())


def main() -> int:
    """Make the course; with --compare, return 1 if a copy is not at the top of the list."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="where to write everything")
    parser.add_argument("--students", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=2, help="copies of each of the six kinds")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--runs", type=Path, help="folder of the real runs (default: FOLDER/runs)")
    parser.add_argument("--compare", action="store_true", help="also search for the copies")
    chosen = parser.parse_args()
    course = Course(
        make_bases(chosen.runs or chosen.folder / "runs"),
        chosen.students,
        chosen.seed,
        chosen.pairs,
    )
    folder = chosen.folder / "hand_ins"
    prepare_folder(folder)
    with ProcessPoolExecutor(chosen.workers) as pool:
        write = partial(write_one, course, folder)
        for count, _ in enumerate(pool.map(write, range(course.count)), 1):
            print(f"\r{count} of {course.count} hand-ins", end="", file=sys.stderr)
    print(file=sys.stderr)
    copies = [one._asdict() for one in course.planted]
    (chosen.folder / "copies.json").write_text(json.dumps(copies, indent=2), encoding="utf-8")
    return min(1, find_copies(course, folder, chosen.workers)) if chosen.compare else 0


if __name__ == "__main__":
    sys.exit(main())
