"""Train offline for `offline_steps`, then continue online for `online_steps`.

The offline data stay in the buffer, online data are added, and the dataset file never changes.

    python cs285/scripts/run_hw5_finetune.py \
        -cfg experiments/finetune/pointmass_hard_cql_finetune.yaml
"""

from cs285.homework import Stage
from cs285.scripts import training_flags
from cs285.training.stages import FineTuning


def finetune(run: FineTuning, offline_steps: int, online_steps: int) -> None:
    """Request the steps of a run, one after the other.

    The training loop takes them in this order, and evaluates, logs and saves in between. The config
    determines exploration: `run.act()` passes its `epsilon` to `get_action`.

    Args:
        run: `run.load_dataset()` puts the dataset into the replay buffer, `run.act()` takes one
            step in the environment and adds its transition to the buffer, and `run.learn()`
            updates the agent once, on a batch from the buffer.
        offline_steps: Number of updates on the dataset alone.
        online_steps: Number of steps in the environment, each followed by an update.
    """
    run.load_dataset()
    for _ in range(offline_steps):
        run.learn()
    for _ in range(online_steps):
        run.act()
        run.learn()


if __name__ == "__main__":
    training_flags.main(Stage.FINETUNE, "Train offline, then fine-tune online.", finetune)
