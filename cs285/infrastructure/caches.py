"""The folder that caches what takes long to compute: plans and compiled code."""

from __future__ import annotations

import os
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import platformdirs


def cache_folder() -> Path:
    """Return `$CS285_CACHE_DIR`, or the folder `cs285` in the user's cache folder.

    On Linux that is `~/.cache/cs285`, or `$XDG_CACHE_HOME/cs285`. The folder may not exist yet.

    Raises:
        RuntimeError: If the user has no home folder.
    """
    if chosen := os.environ.get("CS285_CACHE_DIR"):
        return Path(chosen)
    return platformdirs.user_cache_path("cs285", appauthor=False)


def read_arrays(file_name: str, names: Iterable[str]) -> dict[str, npt.NDArray[Any]] | None:
    """Return these arrays of a file in the cache folder; None if it is missing or damaged."""
    try:
        with np.load(cache_folder() / file_name, allow_pickle=False) as file:
            return {name: file[name] for name in names}
    # RuntimeError: the user has no home folder. The others: the file is missing or damaged.
    except (OSError, RuntimeError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None


def write_arrays(
    file_name: str, arrays: Mapping[str, npt.NDArray[Any]], *, compressed: bool = True
) -> None:
    """Write arrays to a file in the cache folder, complete or not at all.

    Failing to do so is harmless, so nothing is raised.
    """
    with suppress(OSError, RuntimeError):
        path = cache_folder() / file_name
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            unfinished = Path(folder) / path.name
            save: Any = np.savez_compressed if compressed else np.savez
            save(unfinished, **arrays)
            unfinished.replace(path)
