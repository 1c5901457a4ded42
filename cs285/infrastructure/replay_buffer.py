"""The replay buffer, under the path that the homework's files import it from."""

from cs285.learning.replay_buffer import ReplayBuffer

__all__ = ["ReplayBuffer"]
