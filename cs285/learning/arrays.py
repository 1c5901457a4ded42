"""Arrays and tensors that are filled in place."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


def fill(target: torch.Tensor | np.ndarray, source: Any) -> None:
    """Copy a value of a checkpoint into a tensor or an array that must be of its shape and type.

    Raises:
        ValueError: If it is not.
    """
    if (target.shape, target.dtype) != (source.shape, source.dtype):
        raise ValueError(f"{source.dtype} of shape {tuple(source.shape)} fits nothing here")
    target[...] = source
