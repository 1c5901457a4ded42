"""Train offline for `offline_steps`, then continue online for `online_steps`.

The offline data stay in the buffer, online data join them, and the dataset file never changes.

    python cs285/scripts/run_hw5_finetune.py \
        -cfg experiments/finetune/pointmass_hard_cql_finetune.yaml
"""

from cs285.homework import Stage
from cs285.scripts import training_flags

if __name__ == "__main__":
    training_flags.main(Stage.FINETUNE, "Train offline, then fine-tune online.")
