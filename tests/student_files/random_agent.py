"""Random exploration, as a student may hand it in."""

import numpy as np
from torch import nn


class RandomAgent(nn.Module):
    def __init__(self, observation_shape, num_actions):
        super().__init__()
        self.num_actions = num_actions

    def get_action(self, *args, **kwargs):
        return np.random.randint(self.num_actions)  # noqa: NPY002 - what students write

    def update(self, *args, **kwargs):
        pass
