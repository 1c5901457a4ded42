"""The folder for what takes long to compute and can be computed again: plans and compiled code."""

from __future__ import annotations

import os
from pathlib import Path

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
