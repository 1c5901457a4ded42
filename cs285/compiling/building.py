"""Turns C++ text into a loaded library, with a cache on disk."""

from __future__ import annotations

import ctypes
import hashlib
import os
import stat
import subprocess
import tempfile
from pathlib import Path

from cs285.compiling.errors import CompilerError
from cs285.compiling.target import FLAGS, Target


def build(text: str, target: Target, cache: Path) -> ctypes.CDLL:
    """Compile a library, or find it in the cache, and load it.

    Args:
        text: The source, in C++.
        target: The compiler.
        cache: Folder for compiled libraries, created if it does not exist.

    Raises:
        CompilerError: If the compiler fails, if others can write to the cache, or if the user
            cannot.
    """
    # The macros are part of the key because machines may share a cache.
    key = hashlib.sha256("\0".join([text, target.compiler, target.macros, *FLAGS]).encode())
    try:
        folder = cache.absolute()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_ownership(folder)
        library = folder / f"update_{key.hexdigest()[:32]}.so"
        if not library.is_file():
            _compile(text, library, target)
        _check_ownership(library)
        try:
            return ctypes.CDLL(str(library))
        except OSError:  # damaged, by a crash or a full disk
            _compile(text, library, target)
            return ctypes.CDLL(str(library))
    except OSError as error:
        raise CompilerError(str(error)) from None


def _check_ownership(path: Path) -> None:
    """Refuse a folder or library that others may have written to."""
    found = path.stat()
    is_open = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if hasattr(os, "getuid") and (found.st_uid != os.getuid() or is_open):
        raise CompilerError(
            f"others can write to {path}, so no library is loaded from it; if it is yours, run "
            "`chmod go-w` on it; otherwise choose another folder with CS285_CACHE_DIR"
        )


def _compile(text: str, library: Path, target: Target) -> None:
    with tempfile.TemporaryDirectory(dir=library.parent) as scratch:
        source, built = Path(scratch) / "update.cpp", Path(scratch) / "update.so"
        source.write_text(text, encoding="utf-8")
        command = [target.compiler, *FLAGS, "-o", str(built), str(source)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own words
        if done.returncode != 0:
            complaint = next((x for x in done.stderr.splitlines() if "error" in x), done.stderr)
            raise CompilerError(complaint.strip() or f"{command[0]} ended with {done.returncode}")
        built.chmod(0o700)
        # Processes that build the library at the same time replace it with an equal one.
        built.replace(library)
