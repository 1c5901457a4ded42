"""From C++ text to a function in this process, by way of a cache on disk."""

from __future__ import annotations

import ctypes
import hashlib
import os
import subprocess
import tempfile
from pathlib import Path

from cs285.infrastructure.compiling.target import FLAGS, Target


class CompilerError(Exception):
    """The C++ compiler refused; the text is its first complaint."""


def cache_folder() -> Path:
    """Return where compiled updates are kept: `$CS285_CACHE_DIR` or the user's cache folder."""
    if chosen := os.environ.get("CS285_CACHE_DIR"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cs285"


def build(text: str, target: Target) -> ctypes.CDLL:
    """Compile a library, or find it in the cache, and load it.

    Raises:
        CompilerError: If the compiler fails or the cache cannot be written to.
    """
    key = hashlib.sha256("\0".join([text, target.version, _processor(), *FLAGS]).encode())
    folder = cache_folder()
    library = folder / f"update_{key.hexdigest()[:32]}.so"
    try:
        if not library.is_file():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _compile(text, library, target)
        return ctypes.CDLL(str(library))
    except OSError as error:
        raise CompilerError(str(error)) from None


def _compile(text: str, library: Path, target: Target) -> None:
    with tempfile.TemporaryDirectory(dir=library.parent) as scratch:
        source, built = Path(scratch) / "update.cpp", Path(scratch) / "update.so"
        source.write_text(text, encoding="utf-8")
        command = [target.compiler, *FLAGS, "-o", str(built), str(source)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own words
        if done.returncode != 0:
            complaint = next((x for x in done.stderr.splitlines() if "error" in x), done.stderr)
            raise CompilerError(complaint.strip())
        # Processes that build the same library at once replace it by the same one.
        built.replace(library)


def _processor() -> str:
    """Identify what `-march=native` means here: a cache may be shared between machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return "".join(sorted({line for line in lines if line.startswith(("flags", "model name"))}))
