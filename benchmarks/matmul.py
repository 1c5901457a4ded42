"""How fast PyTorch multiplies matrices on one core, in floating-point operations per second."""

from __future__ import annotations

from collections.abc import Callable

import torch

SHAPES = {
    "1024x1024x1024": ((1024, 1024), (1024, 1024)),
    "35x128x64x64": ((35, 128, 64), (35, 64, 64)),
    "35x128x128x128": ((35, 128, 128), (35, 128, 128)),
    "128x400x400": ((128, 400), (400, 400)),
}
"""A large product, and the largest of a critic's, an actor's and RND's update."""


def prepare(shape: str) -> Callable[[], float]:
    """See `worker.py`: one product, repeated for some milliseconds; units are operations."""
    torch.set_num_threads(1)
    left, right = (torch.randn(size) for size in SHAPES[shape])
    out = left @ right
    operations = 2.0 * left.numel() * right.shape[-1]
    times = max(1, round(2e8 / operations))

    def advance() -> float:
        for _ in range(times):
            torch.matmul(left, right, out=out)
        return times * operations

    return advance
