"""Exploration and offline reinforcement learning in Pointmass gridworlds."""

import sys as _sys
from pathlib import Path as _Path


def _refuse_scripts_of_other_trees() -> None:
    """Stop a script that lies in one `cs285` and has imported another.

    A reference and a starter on one machine make that easy: an editable install leads every
    script's imports to its own tree, and what is written in the script's tree would never run. It
    stands here, as this is what all scripts import first.
    """
    main = getattr(_sys.modules.get("__main__"), "__file__", None)
    script = _Path(main or "").resolve()
    theirs, ours = script.parent.parent, _Path(__file__).parent
    if (theirs.name, script.parent.name) != ("cs285", "scripts") or not script.is_file():
        return
    if not (ours.is_dir() and theirs.samefile(ours)):
        print(
            f"error: {script} is a script of {theirs.parent}, but this Python imports `cs285` from "
            f"{ours.parent}; run `pip install -e .` in {theirs.parent}, or use a .venv of its own",
            file=_sys.stderr,
        )
        _sys.exit(2)


_refuse_scripts_of_other_trees()
