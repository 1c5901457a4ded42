"""Training: runs, the loop, rollouts, checkpoints, and the functions that `cs285` exports."""
