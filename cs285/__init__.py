"""Exploration and offline reinforcement learning in Pointmass gridworlds.

    from cs285 import load_policy, load_run, resume, train

Importing `cs285` alone imports nothing outside the standard library; the functions import what
they need at first use.
"""

import sys as _sys
from pathlib import Path as _Path
from typing import TYPE_CHECKING as _TYPE_CHECKING

if _TYPE_CHECKING:
    from cs285.training.door import load_policy, load_run, resume, train

__all__ = ["load_policy", "load_run", "resume", "train"]


def __getattr__(name: str) -> object:
    """Import the functions in `__all__` when they are first used (PEP 562)."""
    if name in __all__:
        from cs285.training import door

        return getattr(door, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _refuse_scripts_of_other_trees() -> None:
    """Stop a script of one `cs285` that has imported another.

    This happens easily with a reference and a starter on one machine: an editable install directs
    the imports of all scripts to its own tree, so the code next to the script would never run. The
    check is in this module because every script imports it first.
    """
    main = getattr(_sys.modules.get("__main__"), "__file__", None)
    script = _Path(main or "").resolve()
    theirs, ours = script.parent.parent, _Path(__file__).parent
    if (theirs.name, script.parent.name) != ("cs285", "scripts") or not script.is_file():
        return
    if not (ours.is_dir() and theirs.samefile(ours)):
        print(
            f"error: {script} is a script of {theirs.parent}, but this Python imports `cs285` from "
            f"{ours.parent}; run `pip install -e .` in {theirs.parent}, or use a separate .venv",
            file=_sys.stderr,
        )
        _sys.exit(2)


def _allow_imports_through_the_folder_above() -> None:
    """Let students' files import `hw5.cs285...`, whatever the folder above is called."""
    from cs285.infrastructure import import_names

    import_names.install(_Path(__file__).parents[1].absolute())


_refuse_scripts_of_other_trees()
_allow_imports_through_the_folder_above()
