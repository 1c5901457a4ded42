"""Exploration and offline reinforcement learning in Pointmass gridworlds."""
