"""Timing in turns, A B C A B C, so that whatever slows the machine slows every contender."""

from __future__ import annotations

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).parents[1]
WORKER = Path(__file__).with_name("worker.py")

VARIABLES = {
    "PYTHONPATH": str(ROOT),  # this tree, whatever is installed
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
    "JAX_PLATFORMS": "cpu",
}

EXTRAS = {"jax", "d3rlpy"}
"""Modules that come with the extra `bench`."""

RSS_UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes in the unit in which the system reports peak memory."""

Take = Callable[[], float]
"""Measures once and returns a number."""


class ContenderError(Exception):
    """A contender could not be measured; its row shows the message."""


@dataclass
class Timing:
    """One quantity, measured repeatedly, or the reason why there is no value."""

    values: list[float] = field(default_factory=list)
    problem: str | None = None

    @property
    def median(self) -> float:
        """The middle of the repeats; NaN without any."""
        return statistics.median(self.values) if self.values and not self.problem else float("nan")


def interleave(takes: Mapping[str, Take], repeats: int) -> dict[str, Timing]:
    """Let contenders take turns; one that fails drops out, and the others continue."""
    timings = {name: Timing() for name in takes}
    for _ in range(repeats):
        for name, take in takes.items():
            if timings[name].problem is None:
                try:
                    timings[name].values.append(take())
                except ContenderError as error:
                    timings[name].problem = str(error)
    return timings


# Whole processes


@dataclass(frozen=True)
class Finished:
    """A process that ended successfully."""

    started: float
    """When it was started, in seconds since the epoch."""
    seconds: float
    """Wall time from start to end."""
    output: str
    peak_bytes: int
    """Peak resident memory of the largest process among it and its children."""


def run(command: Sequence[object], environment: Mapping[str, str] | None = None) -> Finished:
    """Run one process to its end; see `run_together`."""
    return run_together([command], environment)[0]


def run_together(
    commands: Sequence[Sequence[object]], environment: Mapping[str, str] | None = None
) -> list[Finished]:
    """Run processes in parallel until they end; an exception ends all of them.

    Args:
        commands: Their command lines.
        environment: Variables in addition to those that every contender gets.

    Raises:
        ContenderError: If one of them fails.
    """
    with ExitStack() as stack:
        logs = [stack.enter_context(tempfile.TemporaryFile("w+")) for _ in commands]
        running = {}
        started = time.time()
        for command, log in zip(commands, logs, strict=True):
            process = start_process(command, environment or {}, stdout=log, stderr=log)
            stack.callback(end_group, process)
            running[process.pid] = (process, log)
        finished: dict[int, Finished] = {}
        while len(finished) < len(running):
            for pid in running.keys() - finished.keys():
                ended, status, usage = os.wait4(pid, os.WNOHANG)
                if ended:
                    process, log = running[pid]
                    process.returncode = os.waitstatus_to_exitcode(status)
                    log.seek(0)
                    output = log.read()
                    if status:
                        raise ContenderError(
                            f"exit status {process.returncode}: {last_line(output)}"
                        )
                    peak = usage.ru_maxrss * RSS_UNIT
                    finished[pid] = Finished(started, time.time() - started, output, peak)
            time.sleep(0.02)
    return [finished[pid] for pid in running]


def start_process(
    command: Sequence[object], variables: Mapping[str, str], **streams: Any
) -> subprocess.Popen[str]:
    """Start a process in a new group, which `end_group` ends as a whole."""
    return subprocess.Popen(
        [str(part) for part in command],
        env={**os.environ, **VARIABLES, **variables},
        cwd=ROOT,
        text=True,
        start_new_session=True,
        **streams,
    )


def end_group(process: subprocess.Popen[str]) -> None:
    """Kill a process and its children, unless it has ended by itself."""
    if process.returncode is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def last_line(text: str) -> str:
    """Return the last line that is not blank."""
    lines = [line.strip() for line in text.replace("\r", "\n").splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it printed nothing"


# Contenders in separate processes


class Worker:
    """A contender's process, which prepares and measures on request."""

    def __init__(
        self, python: str, module: str, log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.log = log
        with log.open("w") as stderr:
            self.process = start_process(
                [python, "-u", WORKER, module],
                environment or {},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
            )

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request and wait for its reply.

        Raises:
            ContenderError: If the worker fails or has ended.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise ContenderError(f"its process ended: {last_line(self.log.read_text())}")
        reply: dict[str, Any] = json.loads(line)
        if reply.get("missing") in EXTRAS:
            raise ContenderError("not measured (pip install -r requirements.txt -e '.[bench]')")
        if "error" in reply:
            raise ContenderError(reply["error"])
        return reply


class Bench:
    """A temporary folder, workers and durations, which all sections share.

    Args:
        quick: Measure briefly.
        repeats: Turns of every contender.
        contender_python: The interpreter that has JAX and d3rlpy.
    """

    def __init__(self, *, quick: bool, repeats: int, contender_python: str) -> None:
        self.quick = quick
        self.repeats = repeats
        self.contender_python = contender_python
        self.folder = Path(tempfile.mkdtemp(prefix="cs285-benchmark-"))
        self._workers: dict[str, Worker] = {}

    def __enter__(self) -> Self:
        os.environ["CS285_CACHE_DIR"] = str(self.folder / "cache")
        return self

    def __exit__(self, *_: object) -> None:
        self.end_workers()
        shutil.rmtree(self.folder, ignore_errors=True)

    @cached_property
    def dataset(self) -> Path:
        """Data of seed 1 on Medium, with those of seeds 2 to 5 next to it.

        They come from RND, so that agents find the goal and episodes are short; in a quick run,
        from a random policy.
        """
        algorithm = "random" if self.quick else "rnd"
        config = self.folder / "pointmass_medium_rnd.yaml"
        config.write_text(f"base_config: {algorithm}\nenv_name: PointmassMedium-v0\n")
        command = [sys.executable, ROOT / "cs285/scripts/run_hw5_explore.py", "-cfg", config]
        command += ["--dataset_dir", self.folder / "datasets", "--data_dir", self.fresh()]
        command += ["--visualization_dir", self.fresh(), "--seeds", *range(1, 6)]
        run(command)
        return self.folder / "datasets" / "pointmass_medium_rnd_seed1.npz"

    def fresh(self) -> Path:
        """Make an empty folder."""
        return Path(tempfile.mkdtemp(dir=self.folder))

    def cold_cache(self) -> Path:
        """Make a cache folder with the plans of the mazes but no compiled update."""
        folder = self.fresh()
        for plan in (self.folder / "cache").glob("plan-*.npz"):
            shutil.copy(plan, folder)
        return folder

    def end_workers(self) -> None:
        """End all processes of contenders."""
        while self._workers:
            end_group(self._workers.popitem()[1].process)

    def take(self, contender: str, module: str, **arguments: Any) -> Take:
        """Return a function that measures a contender's seconds per unit of work.

        The contender prepares and warms up before its first turn.

        Args:
            contender: Name of the process, which the cases of one contender share.
            module: Its code, see `worker.py`.
            **arguments: Arguments of its `prepare`.
        """
        case = json.dumps(arguments)
        seconds = 0.3 if self.quick else 1.0
        is_ready = False

        def take() -> float:
            nonlocal is_ready
            worker = self._worker(contender, module)
            if not is_ready:
                worker.ask(case=case, prepare=arguments)
                is_ready = True
            return float(worker.ask(case=case, seconds=seconds)["value"])

        return take

    def _worker(self, contender: str, module: str) -> Worker:
        if contender not in self._workers:
            ours = module in {"ours", "matmul", "contenders.starter"}
            python = sys.executable if ours else self.contender_python
            log = self.folder / f"{contender.replace(' ', '_')}.log"
            self._workers[contender] = Worker(python, module, log)
        return self._workers[contender]
