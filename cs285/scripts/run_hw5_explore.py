"""Collect a dataset: let an agent explore for `total_steps` and save every transition.

python cs285/scripts/run_hw5_explore.py -cfg experiments/exploration/pointmass_easy_rnd.yaml
"""

from cs285.env_configs import BaseConfig
from cs285.scripts import training_flags
from cs285.training.runs import Phase


def phases(config: BaseConfig) -> list[Phase]:
    """Environment steps only; the agent learns from what it collects."""
    exploring = config.steps_before_exploiting
    explored = [Phase("exploration", exploring, interacts=True)]
    if exploring == config.total_steps:
        return explored
    rest = config.total_steps - exploring
    return [*explored, Phase("exploitation", rest, interacts=True, exploits=True)]


if __name__ == "__main__":
    training_flags.main("explore", "Collect datasets by exploration.", phases)
