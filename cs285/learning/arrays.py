"""Filling arrays and tensors in place."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


def fill(target: torch.Tensor | np.ndarray, source: Any) -> None:
    """Copy a checkpoint's value into a tensor or an array.

    Raises:
        ValueError: If shapes or types differ.
    """
    if (target.shape, target.dtype) != (source.shape, source.dtype):
        raise ValueError(
            f"{source.dtype} of shape {tuple(source.shape)} does not fit into {target.dtype} of "
            f"shape {tuple(target.shape)}"
        )
    target[...] = source
