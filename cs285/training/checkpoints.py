"""Checkpoints: everything that the future of a training program depends on, in one file.

The file is in the safetensors format. It contains tensors, named by number, and a JSON text that
describes how plain values and the tensors make up the state. Such a file contains no code, and its
reader checks that the tensors are exactly the bytes in the file.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch

from cs285.infrastructure.errors import UserError
from cs285.infrastructure.files import write_atomically

FORMAT_VERSION = "2"
MAX_TEXT = 1_000_000
"""Maximum length of the text, in characters; long values belong in arrays."""
MAX_TENSORS = 10_000
MAX_HEADER_BYTES = 4 * MAX_TEXT
"""The header contains the text, with escaped quotes, and about 100 bytes for each tensor."""
LENGTH_BYTES = 8
"""The file begins with the length of its header, as a little-endian number."""

# Kind of value -> its mark. Types that JSON lacks are written as a mapping of one mark to a value.
TENSOR, ARRAY, SCALAR, NUMBERS = "tensor", "array", "scalar", "numbers"
MAPPING, TUPLE = "mapping", "tuple"

SHORT_LIST = 16
"""Longer lists of Python numbers are written as one tensor."""

DTYPES = {
    torch.bool,
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
}


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a state of plain values, arrays and tensors, either completely or not at all.

    Raises:
        TypeError: If the state contains anything else, or too much outside arrays and tensors.
        UserError: If the file cannot be written.
    """
    tensors: list[torch.Tensor] = []
    try:
        text = json.dumps(_flatten(state, tensors))
    except RecursionError as error:
        raise TypeError("a value contains itself, or is nested too deeply") from error
    if len(text) > MAX_TEXT or len(tensors) > MAX_TENSORS:
        raise TypeError(f"{len(text):,} characters and {len(tensors):,} tensors are too many")
    content = safetensors.torch.save(
        {str(number): tensor for number, tensor in enumerate(tensors)},
        {"format": FORMAT_VERSION, "state": text, "checksum": _checksum(text, tensors)},
    )
    write_atomically(path, lambda file: file.write(content))


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a state, with its tensors on the CPU.

    Raises:
        UserError: If the file cannot be opened or is not a valid checkpoint.
    """
    try:
        _check_header_size(path)
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            if metadata["format"] != FORMAT_VERSION:
                raise ValueError(f"it has format {metadata['format']}, not {FORMAT_VERSION}")  # noqa: TRY301 - one place reports all
            # Clones, because the returned tensors may share the file's memory.
            tensors = {int(name): file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - not a mapping
        text = metadata["state"]
        if metadata["checksum"] != _checksum(text, [x for _, x in sorted(tensors.items())]):
            raise ValueError("its checksum is wrong")  # noqa: TRY301 - as above
        state = _restore(json.loads(text), tensors)
        if not isinstance(state, dict):
            raise TypeError("its state is not a mapping")  # noqa: TRY301 - as above
    except OSError as error:
        raise UserError(f"cannot open the checkpoint {path}: {error.strerror or error}") from error
    except Exception as error:
        # On forged bytes safetensors, PyTorch and JSON raise errors of many kinds.
        raise UserError(
            f"the checkpoint {path} cannot be used: it is damaged, or from another version; "
            "delete it to let --resume start its runs over"
        ) from error
    return state


def _check_header_size(path: Path) -> None:
    """Refuse a header that would take far more memory to parse than that of any checkpoint.

    Raises:
        ValueError: If the header is too long.
    """
    with path.open("rb") as file:
        if int.from_bytes(file.read(LENGTH_BYTES), "little") > MAX_HEADER_BYTES:
            raise ValueError("its header is too long")


def _checksum(text: str, tensors: Iterable[torch.Tensor]) -> str:
    """Return the CRC-32 of the text and all tensors' bytes, which detects damage."""
    found = zlib.crc32(text.encode())
    for tensor in tensors:
        found = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, found)
    return f"{found:08x}"


def _flatten(value: Any, tensors: list[torch.Tensor]) -> Any:
    """Convert a value to JSON in which tensors and arrays are replaced by numbers of `tensors`."""
    if isinstance(value, torch.Tensor | np.ndarray | np.generic):
        return _keep(value, tensors)
    if isinstance(value, dict):
        return {MAPPING: [[_flatten(x, tensors) for x in item] for item in value.items()]}
    if isinstance(value, tuple):
        return {TUPLE: _flatten(list(value), tensors)}
    if isinstance(value, list):
        if len(value) > SHORT_LIST and _are_numbers(value):
            return {NUMBERS: _keep(np.array(value), tensors)[ARRAY]}
        return [_flatten(item, tensors) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a {type(value).__name__} cannot be kept in a checkpoint")


def _keep(value: torch.Tensor | np.ndarray | np.generic, tensors: list[torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        mark, tensor = TENSOR, value.detach()
    else:
        mark = ARRAY if isinstance(value, np.ndarray) else SCALAR
        # PyTorch supports neither foreign byte orders nor negative strides.
        native = value.dtype.newbyteorder("=")
        tensor = torch.from_numpy(np.array(value, dtype=native, order="C"))
    if tensor.dtype not in DTYPES or tensor.layout != torch.strided:
        kind = f"{tensor.layout} {value.dtype}".removeprefix("torch.strided ")
        raise TypeError(f"a {type(value).__name__} of {kind} cannot be kept in a checkpoint")
    # Tensors that share memory cannot be saved, so each gets its own.
    tensors.append(tensor.cpu().clone(memory_format=torch.contiguous_format))
    return {mark: len(tensors) - 1}


def _are_numbers(values: list[Any]) -> bool:
    """Return whether all values are floats, or all are 64-bit integers."""
    types = set(map(type, values))
    return types == {float} or (types == {int} and all(-(2**63) <= x < 2**63 for x in values))


def _numbers(tensor: torch.Tensor) -> Any:
    if tensor.element_size() != 8:  # noqa: PLR2004 - bytes of what _are_numbers lets pass
        raise ValueError("a list would take far more memory than its tensor")
    return tensor.tolist()


READERS: dict[str, Callable[[torch.Tensor], Any]] = {
    TENSOR: lambda tensor: tensor,
    ARRAY: lambda tensor: tensor.numpy(),
    SCALAR: lambda tensor: tensor.numpy()[()],
    NUMBERS: _numbers,
}


def _restore(value: Any, tensors: dict[int, torch.Tensor]) -> Any:
    """Undo `_flatten`; each tensor is used once, or a small file could make many long lists."""
    if isinstance(value, list):
        return [_restore(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    ((mark, content),) = value.items()
    if mark in READERS:
        return READERS[mark](tensors.pop(content))
    items = _restore(content, tensors)
    return {MAPPING: dict, TUPLE: tuple}[mark](items)
