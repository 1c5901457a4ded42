"""Train offline for `offline_steps`, then go on online for `online_steps`.

The offline data stay in the buffer, online data join them, and the dataset file is never touched.

    python cs285/scripts/run_hw5_finetune.py \
        -cfg experiments/finetune/pointmass_hard_cql_finetune.yaml
"""

from cs285.env_configs import BaseConfig
from cs285.scripts import training_flags
from cs285.training.runs import Phase


def phases(config: BaseConfig) -> list[Phase]:
    """First the dataset alone, then one environment step before every update."""
    return [
        Phase("offline", config.offline_steps, interacts=False),
        Phase("online", config.online_steps, interacts=True),
    ]


if __name__ == "__main__":
    training_flags.main("finetune", "Train offline, then fine-tune online.", phases)
