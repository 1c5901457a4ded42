"""A contender's process: prepares and times it on request, with one thread on one core.

A contender is a module with `prepare(**arguments)`, which returns a function that does one block of
work and returns the number of units done. Requests and replies are lines of JSON.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Callable


def stay_on_one_core() -> None:
    """Keep this process and its threads on the last core that it may use."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def seconds_per_unit(advance: Callable[[], float], seconds: float) -> float:
    """Do blocks of work for at least `seconds`."""
    units = 0.0
    start = time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds or not units:
        units += advance()
    return elapsed / units


def main() -> None:
    """Serve requests until the input ends."""
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # keeps the output of libraries out of the replies
    stay_on_one_core()
    prepared: dict[str, Callable[[], float]] = {}
    for line in sys.stdin:
        request = json.loads(line)
        reply: dict[str, object] = {}
        try:
            if "prepare" in request:
                module = importlib.import_module(sys.argv[1])
                prepared[request["case"]] = module.prepare(**request["prepare"])
                prepared[request["case"]]()  # compiles
            else:
                advance = prepared[request["case"]]
                reply["value"] = seconds_per_unit(advance, request["seconds"])
        except Exception as error:  # noqa: BLE001 - any error becomes the text of a row
            reply["error"] = f"{type(error).__name__}: {error}".partition("\n")[0]
            if isinstance(error, ModuleNotFoundError):
                reply["missing"] = error.name
        replies.write(json.dumps(reply) + "\n")


if __name__ == "__main__":
    main()
