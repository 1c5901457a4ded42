"""Small PyTorch helpers with the names that the homework's files use (imported as `ptu`)."""

from __future__ import annotations

from typing import Any, overload

import numpy as np
import torch
from torch import nn

device = torch.device("cpu")
"""Where agents and batches live; `init_gpu` sets it once, before anything is built."""

Activation = str | nn.Module
"""The name of an activation, one of the keys below, or a module."""

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "identity": nn.Identity,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "selu": nn.SELU,
    "sigmoid": nn.Sigmoid,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
}


def build_mlp(
    input_size: int,
    output_size: int,
    n_layers: int,
    size: int,
    activation: Activation = "tanh",
    output_activation: Activation = "identity",
) -> nn.Sequential:
    """Build a multi-layer perceptron `(..., input_size) -> (..., output_size)`.

    Args:
        input_size: Size of the last axis of the input.
        output_size: Size of the last axis of the output.
        n_layers: Number of hidden layers.
        size: Width of every hidden layer.
        activation: Name or module that follows every hidden layer.
        output_activation: Name or module that follows the last layer.
    """
    layers: list[nn.Module] = []
    width = input_size
    for _ in range(n_layers):
        layers += [nn.Linear(width, size), _activation(activation)]
        width = size
    layers += [nn.Linear(width, output_size), _activation(output_activation)]
    return nn.Sequential(*layers).to(device)


def _activation(activation: Activation) -> nn.Module:
    if not isinstance(activation, str):
        return activation
    if activation not in _ACTIVATIONS:
        raise ValueError(
            f"unknown activation {activation!r}; the names are {', '.join(_ACTIVATIONS)}"
        )
    return _ACTIVATIONS[activation]()


def init_gpu(use_gpu: bool = True, gpu_id: int = 0) -> None:  # noqa: FBT001, FBT002 - the homework's signature
    """Choose the device of everything built afterwards: a GPU if wanted and available."""
    global device  # noqa: PLW0603 - the homework's files read `ptu.device`
    available = use_gpu and torch.cuda.is_available()
    device = torch.device(f"cuda:{gpu_id}" if available else "cpu")


def set_device(gpu_id: int) -> None:
    """Set the GPU that PyTorch uses by default; without GPUs, do nothing."""
    if torch.cuda.is_available():
        torch.cuda.set_device(gpu_id)


@overload
def from_numpy(data: dict[str, np.ndarray]) -> dict[str, torch.Tensor]: ...
@overload
def from_numpy(data: np.ndarray) -> torch.Tensor: ...
def from_numpy(data: Any) -> Any:
    """Move an array, or a dict of arrays, to the device; float64 becomes float32."""
    if isinstance(data, dict):
        return {key: from_numpy(value) for key, value in data.items()}
    tensor = torch.from_numpy(np.asarray(data))
    return (tensor.float() if tensor.dtype == torch.float64 else tensor).to(device)


@overload
def to_numpy(tensor: dict[str, torch.Tensor]) -> dict[str, np.ndarray]: ...
@overload
def to_numpy(tensor: torch.Tensor) -> np.ndarray: ...
def to_numpy(tensor: Any) -> Any:
    """View a tensor, or a dict of tensors, as NumPy; on the CPU they share memory."""
    if isinstance(tensor, dict):
        return {key: to_numpy(value) for key, value in tensor.items()}
    return tensor.detach().cpu().numpy()
