"""One file per algorithm: networks, acting, losses, objectives.

    from cs285.agents import DQNAgent, agents

`agents` maps the name of each of the homework's algorithms to its class. Importing this package
imports no agent; each is imported when it is first used.
"""

import importlib
from typing import Any

_MODULES = {
    "RandomAgent": "random",
    "RNDAgent": "rnd",
    "DQNAgent": "dqn",
    "CQLAgent": "cql",
    "AWACAgent": "awac",
    "IQLAgent": "iql",
}
"""The algorithm of each class, which `{algorithm}_agent.py` defines."""

__all__ = ["AWACAgent", "CQLAgent", "DQNAgent", "IQLAgent", "RNDAgent", "RandomAgent", "agents"]


def __getattr__(name: str) -> Any:
    """Import a class, or all of them for `agents`, when it is first used (PEP 562)."""
    if name == "agents":
        return {algorithm: __getattr__(own) for own, algorithm in _MODULES.items()}
    if name in _MODULES:
        return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}_agent"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
