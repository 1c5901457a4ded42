"""The sections: each lets its contenders take turns and returns rows."""

from __future__ import annotations

import json
import math
import os
import shutil
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from flops import update_flops
from matmul import SHAPES
from measure import (
    ROOT,
    Bench,
    Finished,
    Take,
    Timing,
    interleave,
    last_line,
    run,
    run_together,
)
from ours import DATASET, settings_of

CORES = os.cpu_count() or 1
LEARNERS = ("dqn", "cql", "awac", "iql", "rnd")
LARGE = "1024x1024x1024"
SCRIPTS = ROOT / "cs285/scripts"
STARTER = ROOT / "benchmarks/contenders/starter.py"
EXPERIMENTS = ROOT / "experiments"


@dataclass
class Row:
    """One line of the table."""

    section: str
    name: str
    unit: str
    timing: Timing
    """In seconds, or in bytes."""
    scale: float = 1.0
    """Factor from the unit of `timing` to that of the table."""
    baseline: Timing | None = None
    """The starter, measured in the same turns."""
    inverts: bool = False
    """Whether the table shows a rate, units per second."""

    def shown(self, value: float) -> float:
        """Return a value in the table's units."""
        return self.scale / value if self.inverts else self.scale * value

    @property
    def ratio(self) -> float | None:
        """How many times faster the row is than the starter."""
        if self.baseline is None or self.timing.problem or self.baseline.problem:
            return None
        return self.baseline.median / self.timing.median


def rows_of(
    section: str, timings: dict[str, Timing], unit: str, scale: float = 1.0, **more: Any
) -> list[Row]:
    """Make a row of every timing; the one named `starter` is the baseline for all."""
    baseline = timings.get("starter")
    return [
        Row(section, name, unit, timing, scale, baseline, **more)
        for name, timing in timings.items()
    ]


# Matrix products and updates


def matmul(bench: Bench) -> list[Row]:
    """Rate of matrix products on one core."""
    takes = {shape: bench.take("matmul", "matmul", shape=shape) for shape in SHAPES}
    timings = interleave(takes, bench.repeats)
    return rows_of("matmul", timings, "GFLOP/s", 1e-9, inverts=True)


def arguments_of(bench: Bench, kind: str, algorithm: str, **values: Any) -> dict[str, Any]:
    """Return the arguments of every contender's `prepare`."""
    settings = settings_of(algorithm, **values)
    return {"settings": settings, "dataset": str(bench.dataset), "kind": kind}


def updates(bench: Bench, algorithm: str) -> list[Row]:
    """Cost of one update of one run, alone and with others."""
    arguments = arguments_of(bench, "updates", algorithm)
    takes = {"starter": bench.take("starter", "contenders.starter", **arguments)}
    for runs in (1, 35) if bench.quick else (1, 5, 35, 100):
        own = {**arguments, "runs": runs}
        takes[f"ours, S={runs}"] = bench.take("ours", "ours", **own)
        takes[f"ours uncompiled, S={runs}"] = bench.take("traced", "ours", **own, compiles=False)
        if algorithm in {"cql", "iql", "rnd"}:
            takes[f"jax.lax.scan, S={runs}"] = bench.take("jax", "contenders.jax_scan", **own)
    if algorithm in {"dqn", "cql"}:
        takes["d3rlpy, S=1"] = bench.take("d3rlpy", "contenders.d3rlpy_loop", **arguments)
    takes["matmul"] = bench.take("matmul", "matmul", shape=LARGE)
    timings = interleave(takes, bench.repeats)
    bench.end_workers()

    operation = timings.pop("matmul")
    counts = {"": update_flops(settings_of(algorithm))}
    if algorithm == "rnd":
        counts[", targets kept"] = update_flops(settings_of(algorithm), caches_targets=True)
    for note, flops in counts.items():
        timings[f"limit: {flops / 1e6:.1f} MFLOP at the rate of {LARGE}{note}"] = Timing(
            [flops * seconds for seconds in operation.values], operation.problem
        )
    return rows_of(f"updates-{algorithm}", timings, "us", 1e6)


def scaling(bench: Bench) -> list[Row]:
    """Cost of one update of CQL by width and batch size."""
    widths = (32, 128) if bench.quick else (32, 64, 128, 256, 512)
    batches = (32, 512) if bench.quick else (32, 128, 512, 1024)
    shapes = {f"width {width}": {"hidden_size": width} for width in widths}
    shapes |= {f"batch {batch}": {"batch_size": batch} for batch in batches}
    takes = {
        f"{name}, S={runs}": bench.take(
            "ours", "ours", **arguments_of(bench, "updates", "cql", **shape), runs=runs
        )
        for name, shape in shapes.items()
        for runs in (1, 35)
    }
    timings = interleave(takes, bench.repeats)
    bench.end_workers()
    return rows_of("scaling", timings, "us", 1e6)


# Environments


def exploration(bench: Bench, algorithm: str, runs: int) -> list[Row]:
    """Steps per second of exploration, over all runs of a program."""
    arguments = arguments_of(bench, "exploration", algorithm, learning_starts=1)
    takes = {"starter": bench.take("starter", "contenders.starter", **arguments)}
    for count in (1, runs):
        takes[f"ours, S={count}"] = bench.take("ours", "ours", **arguments, runs=count)
    timings = interleave(takes, bench.repeats)
    bench.end_workers()
    return rows_of(f"exploration-{algorithm}", timings, "steps/s", inverts=True)


def evaluation(bench: Bench) -> list[Row]:
    """Seconds of one evaluation of one run: 20 episodes of an untrained agent."""
    arguments = arguments_of(bench, "evaluation", "cql")
    takes = {"starter": bench.take("starter", "contenders.starter", **arguments)}
    for runs in (1, 35):
        takes[f"ours, S={runs}"] = bench.take("ours", "ours", **arguments, runs=runs)
    timings = interleave(takes, bench.repeats)
    bench.end_workers()
    return rows_of("evaluation", timings, "ms", 20e3)


# Whole scripts


class Scripts:
    """Commands of our scripts and of the starter's, which write to the temporary folder."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.fraction = 0.1 if bench.quick else 1.0
        """The fraction of all steps that is taken."""

    def ours(self, stage: str, config: Path, *, cold: bool = False, **flags: object) -> Finished:
        """Run one of our scripts, with or without compiled updates in the cache."""
        variables = {"CS285_CACHE_DIR": str(self.bench.cold_cache())} if cold else {}
        flags = {"steps_fraction": self.fraction, **flags}
        folders = {
            "dataset_dir": self.bench.dataset.parent if stage == "offline" else self.bench.fresh(),
            "data_dir": self.bench.folder / "runs",
            "visualization_dir": self.bench.folder / "pictures",
        }
        command: list[object] = [sys.executable, SCRIPTS / f"run_hw5_{stage}.py", "-cfg", config]
        for name, value in (folders | flags).items():
            command += [f"--{name}", *(value if isinstance(value, list) else [value])]
        return run(command, variables)

    def starter(
        self, algorithm: str, steps: int, processes: int = 1, *, explores: bool = False
    ) -> list[Starter]:
        """Run starter-style scripts side by side."""
        settings = self.bench.fresh() / "settings.json"
        settings.write_text(json.dumps(settings_of(algorithm)))
        command = [sys.executable, STARTER, "--settings", settings, "--steps", steps]
        if explores:
            command += ["--visualize_interval", 2_500]
        else:
            command += ["--dataset", self.bench.dataset]
        finished = run_together(
            [
                [*command, "--seed", seed, "--log_dir", self.bench.fresh()]
                for seed in range(1, processes + 1)
            ]
        )
        return [Starter(one, **json.loads(last_line(one.output))) for one in finished]


@dataclass(frozen=True)
class Starter:
    """A finished starter-style script, with the times that it printed."""

    process: Finished
    first_update: float
    """When its first update was done, in seconds since the epoch."""
    loop_s: float
    """Seconds that the training loop took."""


def single(bench: Bench) -> list[Row]:
    """One run of CQL on Medium from the command to the end."""
    scripts = Scripts(bench)
    config = EXPERIMENTS / "offline/pointmass_medium_cql.yaml"
    steps = round(100_000 * scripts.fraction)

    def ours(*, cold: bool = False) -> float:
        return scripts.ours("offline", config, cold=cold).seconds

    scripts.ours("offline", config, compile="on", steps_fraction=1e-4)  # fills the caches
    takes = {
        "starter": lambda: scripts.starter("cql", steps)[0].process.seconds,
        "ours, warm cache": ours,
        "ours, cold cache": lambda: ours(cold=True),
    }
    timings = interleave(takes, bench.repeats)
    return rows_of("scripts-single", timings, f"s per {steps:,} updates of CQL")


def sweep(bench: Bench, algorithm: str, file: str) -> list[Row]:
    """Seconds per run of a sweep, with all cores in use."""
    scripts = Scripts(bench)
    config = EXPERIMENTS / "offline" / file
    runs = math.prod(map(len, yaml.safe_load(config.read_text())["sweep"].values()))
    steps = round(100_000 * scripts.fraction)
    measured = steps // 10  # the starter's speed does not change over a run

    def starter() -> float:
        stretch = steps / measured - 1
        ends = [
            one.process.seconds + stretch * one.loop_s
            for one in scripts.starter(algorithm, measured, CORES)
        ]
        return statistics.mean(ends) / CORES

    def ours() -> float:
        return scripts.ours("offline", config).seconds / runs

    # Fills the caches with the programs that the whole sweep will need.
    scripts.ours("offline", config, compile="on", workers=CORES, steps_fraction=1e-4)
    timings = interleave({"starter": starter, f"ours, {runs} runs": ours}, bench.repeats)
    section, unit = f"scripts-sweep-{algorithm}", f"runs/h of {steps:,} updates"
    rows = rows_of(section, timings, unit, 3_600, inverts=True)
    rows[0].name = f"starter, {CORES} at a time, extrapolated from {measured:,} updates"
    return rows


def explore(bench: Bench) -> list[Row]:
    """Seconds per run of RND exploration over five seeds."""
    scripts = Scripts(bench)
    config = EXPERIMENTS / "exploration/pointmass_medium_rnd.yaml"
    steps = round(10_000 * scripts.fraction)
    seeds = [1, 2, 3, 4, 5]

    def starter() -> float:
        finished = scripts.starter("rnd", steps, CORES, explores=True)
        return statistics.mean(one.process.seconds for one in finished) / CORES

    def ours() -> float:
        return scripts.ours("explore", config, seeds=seeds).seconds / len(seeds)

    ours()  # fills the caches
    timings = interleave({"starter": starter, "ours, 5 seeds": ours}, bench.repeats)
    unit = f"runs/h of {steps:,} steps"
    rows = rows_of("scripts-explore-rnd", timings, unit, 3_600, inverts=True)
    rows[0].name = f"starter, {CORES} at a time"
    return rows


def startup(bench: Bench) -> list[Row]:
    """Seconds from the start of a process to its first update."""
    config = EXPERIMENTS / "offline/pointmass_medium_cql.yaml"

    def ours(choice: str = "auto", *, cold: bool = False) -> float:
        command = [
            sys.executable,
            ROOT / "benchmarks/ours.py",
            config,
            bench.dataset.parent,
            choice,
        ]
        finished = run(command, {"CS285_CACHE_DIR": str(bench.cold_cache())} if cold else {})
        return float(last_line(finished.output)) - finished.started

    def starter() -> float:
        one = Scripts(bench).starter("cql", steps=1)[0]
        return one.first_update - one.process.started

    ours()  # fills the cache
    takes: dict[str, Take] = {
        "starter": starter,
        "ours, warm cache": ours,
        "ours, cold cache": lambda: ours(cold=True),
        "ours, --compile off": lambda: ours("off"),
    }
    return rows_of("startup", interleave(takes, bench.repeats), "s")


# Memory


def memory(bench: Bench) -> list[Row]:
    """Peak memory by number of runs, and how much more a long run needs than a short one."""
    scripts = Scripts(bench)
    short, long = 25_000, 50_000 if bench.quick else 200_000

    def peak(runs: int, steps: int) -> float:
        config = write_config(bench, training_steps=steps)
        seeds = list(range(1, runs + 1))
        flags: dict[str, Any] = {"steps_fraction": 1.0, "compile": "on", "workers": 1}
        return float(scripts.ours("offline", config, seeds=seeds, **flags).peak_bytes)

    takes: dict[str, Take] = {f"peak, S={runs}": partial(peak, runs, 100) for runs in (1, 10, 100)}
    takes[f"growth from {short:,} to {long:,} steps, S=1"] = lambda: peak(1, long) - peak(1, short)
    return rows_of("memory", interleave(takes, 1), "MB", 1e-6)


def write_config(bench: Bench, **values: object) -> Path:
    """Write a config of CQL on Medium whose runs all read the dataset of seed 1."""
    path = bench.fresh() / "benchmark.yaml"
    shared = {"base_config": "cql", "env_name": "PointmassMedium-v0", "dataset_name": DATASET}
    path.write_text(yaml.safe_dump({**shared, "dataset_seed": 1, **values}))
    return path


# Elsewhere


def gpu(bench: Bench) -> list[Row]:
    """Updates per second of all runs of one program on a GPU, start-up included."""
    names = {runs: f"S={runs}" for runs in (1, 32, 256, 1024)}
    if not torch.cuda.is_available():
        nothing = Timing(problem="not measured: no GPU")
        return rows_of("gpu", dict.fromkeys(names.values(), nothing), "updates/s")
    scripts = Scripts(bench)
    config = write_config(bench)
    updates = round(100_000 * scripts.fraction)

    def take(runs: int) -> float:
        seeds = list(range(1, runs + 1))
        return scripts.ours("offline", config, seeds=seeds).seconds / runs / updates

    takes: dict[str, Take] = {name: partial(take, runs) for runs, name in names.items()}
    return rows_of("gpu", interleave(takes, bench.repeats), "updates/s", inverts=True)


def homework(bench: Bench) -> list[Row]:
    """Minutes of `run_hw5.sh` in a copy of this tree."""
    copy = bench.folder / "homework"
    for name in ("cs285", "experiments", "tools"):
        shutil.copytree(ROOT / name, copy / name)
    for name in ("run_hw5.sh", "pyproject.toml", "requirements.txt"):
        shutil.copy(ROOT / name, copy)
    (copy / ".venv").symlink_to(sys.prefix)
    variables = {"SKIP_INSTALL": "1", "PYTHONPATH": str(copy)}
    variables |= {"QUICK": "1"} if bench.quick else {}

    def take(seeds: str) -> float:
        return run([copy / "run_hw5.sh"], {**variables, "SEEDS": seeds}).seconds

    takes: dict[str, Take] = {f'SEEDS="{seeds}"': partial(take, seeds) for seeds in ("1", "1 2 3")}
    return rows_of("homework", interleave(takes, 1), "min", 1 / 60)


def compilers(bench: Bench) -> list[Row]:
    """Cost of one update of one run, compiled by the package and by `torch.compile`."""
    takes = {}
    for algorithm in ("cql", "iql", "rnd"):
        arguments = arguments_of(bench, "updates", algorithm)
        for runs in (1, 35):
            own = {**arguments, "runs": runs}
            case = f"{algorithm}, S={runs}"
            takes[f"{case}: ours"] = bench.take(f"ours {algorithm}", "ours", **own)
            takes[f"{case}: torch.compile"] = bench.take(
                f"torch {algorithm}", "ours", **own, compiles=False, by_torch=True
            )
    timings = interleave(takes, bench.repeats)
    bench.end_workers()
    return rows_of("compilers", timings, "us", 1e6)


SECTIONS: dict[str, Callable[[Bench], list[Row]]] = {
    "matmul": matmul,
    **{f"updates-{name}": partial(updates, algorithm=name) for name in LEARNERS},
    "compilers": compilers,
    "scaling": scaling,
    "exploration-random": partial(exploration, algorithm="random", runs=20),
    "exploration-rnd": partial(exploration, algorithm="rnd", runs=5),
    "evaluation": evaluation,
    "startup": startup,
    "memory": memory,
    "scripts-single": single,
    "scripts-sweep-cql": partial(sweep, algorithm="cql", file="sweep_medium_cql_alpha.yaml"),
    "scripts-sweep-awac": partial(
        sweep, algorithm="awac", file="sweep_medium_awac_temperature.yaml"
    ),
    "scripts-sweep-iql": partial(sweep, algorithm="iql", file="sweep_medium_iql.yaml"),
    "scripts-explore-rnd": explore,
    "gpu": gpu,
    "homework": homework,
}
"""In the order of measurement; `--only scripts` selects all whose names begin with `scripts`."""
