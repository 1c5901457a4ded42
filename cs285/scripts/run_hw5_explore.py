"""Collect a dataset: let an agent explore for `total_steps` and save every transition.

python cs285/scripts/run_hw5_explore.py -cfg experiments/exploration/pointmass_easy_rnd.yaml
"""

from cs285.homework import Stage
from cs285.scripts import training_flags

if __name__ == "__main__":
    training_flags.main(Stage.EXPLORE, "Collect datasets by exploration.")
