"""Imports all that it takes to grade hand-ins with code, once, in the process whose forks do so."""

import os

# Before NumPy and PyTorch make threads: there is a worker for every core, and each is a fork.
os.environ["OMP_NUM_THREADS"] = "1"

import cs285.grading.course.worker  # noqa: F401
from cs285.grading.solutions import code_check

code_check.preload()
