"""Train on a collected dataset for `training_steps`, without a single step in the environment.

python cs285/scripts/run_hw5_offline.py -cfg experiments/offline/pointmass_easy_cql.yaml
"""

from cs285.env_configs import BaseConfig
from cs285.scripts import training_flags
from cs285.training.runs import Phase


def phases(config: BaseConfig) -> list[Phase]:
    """Gradient steps only; the environment serves evaluation alone."""
    return [Phase("offline", config.training_steps, interacts=False)]


if __name__ == "__main__":
    training_flags.main("offline", "Train offline on collected datasets.", phases)
