"""Measures the solution checker on thousands of generated solutions; takes hours.

    python tools/check_generator.py --seed 1 --count 3000 --workers 4

Every solution is right, or has mistakes that demonstrably change a number. Prints how many mistakes
of each kind were found and named, and in which styles right methods were accused. The exit status
is 1 if a mistake was missed or a right method accused, else 0.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
from collections import Counter, defaultdict
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.solutions.generator.mistakes import MISTAKES
from tests.solutions.generator.trials import Plan, Report, measured

CHUNK = 20


@dataclass
class Totals:
    """The results of all trials."""

    kinds: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    styles: dict[tuple[str, str], Counter[str]] = field(
        default_factory=lambda: defaultdict(Counter)
    )
    problems: list[tuple[int, Report]] = field(default_factory=list)
    without_effect: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def add(
        self, number: int, reports: list[Report], without_effect: list[str], seconds: float
    ) -> None:
        """Count the trials of one chunk."""
        self.seconds += seconds
        self.without_effect.update(without_effect)
        for one in reports:
            for name, found, named in one.mistakes or [("right", True, True)]:
                self.kinds[name].update(tried=1, found=found, named=named, accused=one.accused)
            missed = sum(not found for _, found, _ in one.mistakes)
            for value in one.style:
                self.styles[value].update(tried=1, accused=one.accused, missed=missed)
            if one.problems:
                self.problems.append((number, one))

    def total(self, what: str, *, wrong: bool = True) -> int:
        """Return a sum over the kinds of mistakes, or over right files."""
        return sum(row[what] for name, row in self.kinds.items() if (name != "right") == wrong)


def chunk(seed: int, number: int, name: str = "") -> tuple[list[Report], list[str], float]:
    """Try some solutions whose styles and mistakes depend only on the seed and the number.

    Args:
        seed: Seed of the whole measurement.
        number: Number of the chunk.
        name: If given, make only this mistake, in ever new styles.
    """
    torch.set_num_threads(1)
    order = np.random.default_rng(seed).permutation(len(MISTAKES))
    plan = Plan(np.random.default_rng([seed, number]), tuple(map(int, order)))
    start = processor_seconds()
    reports = measured(plan, number * CHUNK, CHUNK, name)
    return reports, [name for name, _ in plan.without_effect], processor_seconds() - start


def processor_seconds() -> float:
    """Return the processor time of this process and of its children that have ended."""
    own, ended = (
        resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return own.ru_utime + own.ru_stime + ended.ru_utime + ended.ru_stime


def print_table(totals: Totals) -> None:
    """Print the kinds of mistakes, the styles in which right methods were accused, and totals."""
    width = max(map(len, totals.kinds), default=0)
    print(f"{'mistake':<{width}}  tried  found  named  accused")
    for name, row in sorted(totals.kinds.items()):
        numbers = "  ".join(f"{row[key]:>5}" for key in ("tried", "found", "named"))
        print(f"{name:<{width}}  {numbers}  {row['accused']:>7}")
    print("\nvalue of a choice: files tried, right methods accused, mistakes missed")
    for (choice, value), row in sorted(totals.styles.items()):
        print(f"  {choice} = {value}: {row['tried']}, {row['accused']}, {row['missed']}")
    print("\ndropped, because they change no number in the style that was drawn:")
    for name, count in totals.without_effect.most_common():
        print(f"  {name}: {count}")
    print("\nproblems, each with its chunk:")
    for number, one in totals.problems:
        style = " ".join(f"{choice}={value}" for choice, value in one.style)
        print(f"- {'; '.join(one.problems)} (--chunk {number})\n    {one.told}\n    {style}")
    wrong, right = totals.total("tried"), totals.total("tried", wrong=False)
    accused = totals.total("accused") + totals.total("accused", wrong=False)
    found, named = totals.total("found"), totals.total("named")
    print(
        f"\n{wrong} files with a mistake: {found} found, {named} named; {right} right files; "
        f"{accused} right methods accused; {totals.seconds / max(1, wrong + right):.2f} s per file"
    )


def write(totals: Totals, folder: Path) -> None:
    """Write every solution with a problem into a separate folder."""
    for place, (_, one) in enumerate(totals.problems):
        for name, text in one.files:
            path = folder / f"{place:03d}" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="")


def main() -> int:
    """Run the measurement."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=2000, help="number of solutions")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--chunk", type=int, default=None, help="repeat only this chunk")
    parser.add_argument("--mistake", default="", help="make only this mistake, as in the table")
    parser.add_argument("--write", type=Path, help="folder to write solutions with problems to")
    arguments = parser.parse_args()
    if arguments.mistake and arguments.mistake not in {one.name for one in MISTAKES}:
        parser.error(f"there is no mistake {arguments.mistake!r}")
    numbers = range(-(-arguments.count // CHUNK))
    if arguments.chunk is not None:
        numbers = range(arguments.chunk, arguments.chunk + 1)
    totals = Totals()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.workers, mp_context=context) as pool:
        tasks = {
            pool.submit(chunk, arguments.seed, number, arguments.mistake): number
            for number in numbers
        }
        for task in as_completed(tasks):
            totals.add(tasks[task], *task.result())
    print_table(totals)
    if arguments.write:
        write(totals, arguments.write)
    missed = totals.total("tried") - totals.total("found")
    accused = totals.total("accused") + totals.total("accused", wrong=False)
    return 1 if missed or accused else 0


if __name__ == "__main__":
    sys.exit(main())
