"""The phases of each stage."""

from __future__ import annotations

from cs285.env_configs import BaseConfig
from cs285.homework import Stage
from cs285.training.runs import Phase


def phases_of(stage: Stage, config: BaseConfig) -> list[Phase]:
    """Return the phases that a run of a stage goes through.

    - Exploration takes environment steps only; the agent learns from what it collects.
    - Offline learning takes gradient steps only; the environment serves evaluation alone.
    - Fine-tuning takes gradient steps first, then an environment step before every update.
    """
    match stage:
        case Stage.EXPLORE:
            phases = config.exploration_phases.items()
            return [Phase(name, steps, interacts=True) for name, steps in phases]
        case Stage.OFFLINE:
            return [Phase("offline", config.training_steps, interacts=False)]
        case Stage.FINETUNE:
            return [
                Phase("offline", config.offline_steps, interacts=False),
                Phase("online", config.online_steps, interacts=True),
            ]
