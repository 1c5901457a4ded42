"""Train on a collected dataset for `training_steps`, without any step in the environment.

python cs285/scripts/run_hw5_offline.py -cfg experiments/offline/pointmass_easy_cql.yaml
"""

from cs285.homework import Stage
from cs285.scripts import training_flags

if __name__ == "__main__":
    training_flags.main(Stage.OFFLINE, "Train offline on collected datasets.")
