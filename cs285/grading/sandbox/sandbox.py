"""The grader's end of the child process that runs student code."""

from __future__ import annotations

import ast
import base64
import importlib.util
import json
import marshal
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import AbstractContextManager, suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import cs285
from cs285.grading.sandbox import bubblewrap, leftovers, reading
from cs285.grading.sandbox.ends import End, Ending
from cs285.grading.sandbox.layers import Layer
from cs285.grading.sandbox.needs import needed_by
from cs285.infrastructure.errors import UserError, printable

PACKAGE = Path(next(iter(cs285.__path__)))
JOB_SECONDS = 120.0
"""Wall time for one job, which needs about one second of processor time."""
START_SECONDS = 300.0
"""Wall time for importing PyTorch on a busy machine."""
MAX_LINE = 40_000_000
MAX_CONTAINERS = 200_000
"""Maximum number of lists and objects in an answer: an empty one takes two bytes of it, but about
seventy of memory, and an honest answer has a few thousand."""
_ROLE = re.compile(r"[a-z]{1,20}(/online|/target)?")
MAX_TEXT = 500
"""Maximum number of characters of each text in a job's description of an error."""
_STAGED = (
    "agents",
    "compiling",
    "datasets",
    "env_configs",
    "envs",
    "grading/sandbox",
    "infrastructure",
    "learning",
    "networks",
    "results",
)
_STAGED_FILES = (
    "__init__.py",
    "grading/__init__.py",
    "homework.py",
    "probing/__init__.py",
    "probing/networks.py",
)
# An editable install would resolve imports to this repository and its reference agents.
_START = """
import sys
sys.meta_path[:] = [f for f in sys.meta_path if "editable" not in getattr(f, "__module__", "")]
sys.path[:] = [{root!r}, *(path for path in sys.path if path not in {own!r})]
from cs285.grading.sandbox import supervisor
supervisor.main({hidden!r}, {staged!r})
"""


class SandboxError(UserError):
    """The child process does not start."""


class Answer(NamedTuple):
    """What came back from one job."""

    records: list[dict[str, Any]]
    """Records in the order in which they were sent; none of them can be trusted."""
    ending: Ending


class Sandbox(AbstractContextManager["Sandbox"]):
    """A child process that runs jobs one after the other, each confined in a separate process.

    As a context manager it closes itself. If a job harms the child, only that job is lost: the next
    one starts a new child.
    """

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="cs285-grading-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._buffer = b""
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        self.layers: frozenset[Layer] = frozenset()
        """The layers that confine the jobs, as reported by the child once it has started."""
        self._stage()

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the child and remove its folder."""
        self._stop()
        leftovers.remove(self._folder)
        self._stderr.close()

    def _stage(self) -> None:
        """Copy what student code may import: this package without its agents and graders."""
        staged = self._folder / "cs285"
        ignored = shutil.ignore_patterns("*_agent.py", "__pycache__")
        for name in _STAGED:
            shutil.copytree(PACKAGE / name, staged / name, ignore=ignored)
        for name in _STAGED_FILES:
            (staged / name).parent.mkdir(exist_ok=True)
            shutil.copy(PACKAGE / name, staged / name)
        # If the grader is root, jobs run as another user, who has to read these files.
        for path in self._folder.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)

    def run(self, job: dict[str, Any]) -> Answer:
        """Run one job and return what came back.

        Raises:
            SandboxError: If the child does not start.
        """
        if self._process is None:
            self._start()
        sent = _without_sources(job)
        lines = (needed_by(sent["files"].values()), sent)
        request = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        line = self._exchange(request, time.monotonic() + job["seconds"] + 10.0)
        if line is None:
            self._stop()
            return Answer([], Ending(End.BROUGHT_DOWN))
        try:
            answer = json.loads(line)
            if answer["records"].count("{") + answer["records"].count("[") > MAX_CONTAINERS:
                return Answer([], Ending(End.NOT_AN_ANSWER))
            records = [json.loads(text) for text in answer["records"].splitlines()]
        except (ValueError, RecursionError):
            return Answer([], Ending(End.NOT_AN_ANSWER))
        if not all(map(_is_a_record, records)):
            return Answer([], Ending(End.NOT_AN_ANSWER))
        for record in records:
            if "error" in record:
                record["error"] = plain(record["error"])
        return Answer(records, Ending(End(answer["end"]), answer["number"]))

    def _start(self) -> None:
        environment = {
            "PATH": os.defpath,
            "LANG": "C.UTF-8",
            "HOME": str(self._folder),
            "TMPDIR": str(self._folder),
            "MPLBACKEND": "agg",
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1",
            "PYTHONHASHSEED": "0",
        }
        start = _START.format(
            root=str(self._folder),
            own=[
                path
                for path in sys.path
                if reading.is_code_of_the_repository(path, PACKAGE.resolve())
            ],
            hidden=str(PACKAGE.resolve()),
            staged=str(self._folder / "cs285"),
        )
        outer = bubblewrap.command(self._folder, PACKAGE.resolve())
        self._buffer = b""
        self._process = subprocess.Popen(  # noqa: S603 - this interpreter on our own text
            [*outer, sys.executable, "-I", "-B", "-c", start],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=environment,
            cwd=self._folder,
            start_new_session=True,
        )
        ready = self._exchange(b"", time.monotonic() + START_SECONDS)
        if ready is None:
            self._stop()
            self._stderr.seek(0)
            last = self._stderr.read().decode(errors="replace").strip().rpartition("\n")[2]
            raise SandboxError(f"the process that runs the checks does not start: {plain(last)}")
        self.layers = frozenset(map(Layer, json.loads(ready)))
        if outer:
            self.layers |= {Layer.OUTER}

    def _exchange(self, request: bytes, deadline: float) -> bytes | None:
        """Send a line and return the answering line, or None if none arrives in time."""
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            return None
        try:
            process.stdin.write(request)
            process.stdin.flush()
        except OSError:
            return None
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0 or len(self._buffer) > MAX_LINE:
                return None
            if select.select([process.stdout], [], [], left)[0]:
                chunk = os.read(process.stdout.fileno(), 1 << 20)
                if not chunk:
                    return None
                self._buffer += chunk
        line, self._buffer = self._buffer.split(b"\n", 1)
        return line

    def _stop(self) -> None:
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):  # an unsent request
                    pipe.close()
        self._process.wait()
        self._process = None


def _without_sources(job: dict[str, Any]) -> dict[str, Any]:
    """Return a job in which agents that are not the hand-in's own are bytecode.

    A student's class may inherit from them; it could read their source and quote it in an
    exception.
    """
    stand_ins = {
        path: text
        for path, text in job.get("files", {}).items()
        if path not in job["own"] and path.endswith("_agent.py")
    }
    if not stand_ins:
        return job
    return job | {
        "files": {path: text for path, text in job["files"].items() if path not in stand_ins},
        "compiled": {path: _compile(path, text) for path, text in stand_ins.items()},
    }


@cache
def _compile(path: str, text: str) -> str:
    """Return the content of a `.pyc` file in base64, without docstrings."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            node.body = [one for one in node.body if not _is_string_statement(one)] or [ast.Pass()]
    code = compile(ast.fix_missing_locations(tree), path, "exec", dont_inherit=True)
    header = importlib.util.MAGIC_NUMBER + bytes(12)  # no flags, no source time or size
    return base64.b64encode(header + marshal.dumps(code)).decode("ascii")


def _is_string_statement(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _is_a_record(record: Any) -> bool:
    """Return whether a record has the right form; the names of its networks appear in messages."""
    if not isinstance(record, dict):
        return False
    named = (record.get(kind) for kind in ("weights", "gradients"))
    return all(_ROLE.fullmatch(name) for one in named if isinstance(one, dict) for name in one)


def plain(data: Any, depth: int = 4) -> Any:
    """Return a job's description of an error in a form that is safe to show.

    Its texts are short and contain no control characters, line breaks, or marks that change the
    direction of text.
    """
    if isinstance(data, str):
        return printable(data[:MAX_TEXT])
    if depth and isinstance(data, dict):
        few = list(data.items())[:20]
        return {plain(str(key)): plain(value, depth - 1) for key, value in few}
    if depth and isinstance(data, list):
        return [plain(value, depth - 1) for value in data[:20]]
    return data if isinstance(data, int | float | None) else None
