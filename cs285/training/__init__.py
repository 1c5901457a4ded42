"""The training program: runs, the loop, rollouts, checkpoints."""
