"""Checkpoints: everything that the future of a training program depends on, in one file.

The file is PyTorch's, of one text and a list of tensors: the text is JSON that says how plain
values and the tensors make up the state. So it loads with `weights_only=True`, and its reader can
insist on a layout so simple that nothing in it is left to trust.
"""

from __future__ import annotations

import io
import json
import pickletools
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from cs285.infrastructure.errors import UserError
from cs285.infrastructure.files import write_atomically

FORMAT_VERSION = 1
MAX_TEXT = 1_000_000
"""Characters of the text; what is long belongs into arrays."""
MAX_TENSORS = 10_000
MAX_LAYOUT_BYTES = MAX_TEXT + 500 * MAX_TENSORS
MAX_OPCODES = 40 * MAX_TENSORS

# Kind of value -> its mark. What JSON lacks is written as a mapping of one mark to a value.
TENSOR, ARRAY, SCALAR, NUMBERS = "tensor", "array", "scalar", "numbers"
MAPPING, TUPLE = "mapping", "tuple"

SHORT_LIST = 16
"""Longer lists of Python's own numbers are written as one tensor."""

STORAGES = {
    "torch BoolStorage": torch.bool,
    "torch ByteStorage": torch.uint8,
    "torch CharStorage": torch.int8,
    "torch ShortStorage": torch.int16,
    "torch IntStorage": torch.int32,
    "torch LongStorage": torch.int64,
    "torch HalfStorage": torch.float16,
    "torch BFloat16Storage": torch.bfloat16,
    "torch FloatStorage": torch.float32,
    "torch DoubleStorage": torch.float64,
}
GLOBALS = {"torch._utils _rebuild_tensor_v2", "collections OrderedDict", *STORAGES}
OPCODES = re.compile(
    r"PROTO|EMPTY_(DICT|LIST|TUPLE)|MARK|BINUNICODE|BININT[12]?|LONG1|GLOBAL|BINPERSID|STOP"
    r"|TUPLE[123]?|NEW(FALSE|TRUE)|REDUCE|APPENDS?|SETITEMS|(LONG_)?BIN(PUT|GET)"
)
"""All that PyTorch writes a text and tensors with."""


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a state of plain values, arrays and tensors, whole or not at all.

    Raises:
        TypeError: If the state holds anything else, or too much that is no array or tensor.
        UserError: If the file cannot be written.
    """
    tensors: list[torch.Tensor] = []
    try:
        text = json.dumps(_flatten(state, tensors))
    except RecursionError as error:
        raise TypeError("something holds itself, or far too much within each other") from error
    if len(text) > MAX_TEXT or len(tensors) > MAX_TENSORS:
        raise TypeError(f"{len(text):,} characters and {len(tensors):,} tensors are too much")
    # PyTorch's own writer does not survive a full disk, so the disk is none of its business.
    content = io.BytesIO()
    torch.save({"format": FORMAT_VERSION, "state": text, "tensors": tensors}, content)
    write_atomically(path, lambda file: file.write(content.getbuffer()))


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a state; its tensors are on the CPU.

    Raises:
        UserError: If the file cannot be opened or is no sound checkpoint.
    """
    try:
        _check_archive(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content["format"] != FORMAT_VERSION:
            raise ValueError(f"it has format {content['format']}, not {FORMAT_VERSION}")  # noqa: TRY301 - one place reports all
        tensors = content["tensors"]
        if len(content["state"]) > MAX_TEXT:
            raise ValueError("its text is too long")  # noqa: TRY301 - as above
        for tensor in tensors:
            if tensor.numel() * tensor.element_size() != tensor.untyped_storage().nbytes():
                raise ValueError("a tensor is not what its bytes are")  # noqa: TRY301 - as above
        if sum(tensor.nbytes for tensor in tensors) > path.stat().st_size:
            raise ValueError("its tensors overlap")  # noqa: TRY301 - as above
        state = _restore(json.loads(content["state"]), dict(enumerate(tensors)))
        if not isinstance(state, dict):
            raise TypeError("its state is no mapping")  # noqa: TRY301 - as above
    except OSError as error:
        raise UserError(f"cannot open the checkpoint {path}: {error.strerror or error}") from error
    except Exception as error:
        # On forged bytes zipfile, pickletools, PyTorch and JSON raise errors of many kinds.
        raise UserError(
            f"the checkpoint {path} cannot be used: it is damaged, or none of this version; "
            "delete it, and --resume starts over what it is of"
        ) from error
    return state


def _flatten(value: Any, tensors: list[torch.Tensor]) -> Any:
    """Turn a value into JSON, with numbers of `tensors` in the place of tensors and arrays."""
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
        # PyTorch takes neither foreign byte orders nor negative strides.
        native = value.dtype.newbyteorder("=")
        tensor = torch.from_numpy(np.array(value, dtype=native, order="C"))
    if tensor.dtype not in STORAGES.values() or tensor.layout != torch.strided:
        kind = f"{tensor.layout} {value.dtype}".removeprefix("torch.strided ")
        raise TypeError(f"a {type(value).__name__} of {kind} cannot be kept in a checkpoint")
    # A clone owns its bytes; a view would bring along all that it is a view of.
    tensors.append(tensor.cpu().clone(memory_format=torch.contiguous_format))
    return {mark: len(tensors) - 1}


def _are_numbers(values: list[Any]) -> bool:
    """Tell whether all are floats, or all whole numbers of 64 bits."""
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
    """Undo `_flatten`; each tensor stands in one place, or a small file could make long lists."""
    if isinstance(value, list):
        return [_restore(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    ((mark, content),) = value.items()
    if mark in READERS:
        return READERS[mark](tensors.pop(content))
    items = _restore(content, tensors)
    return {MAPPING: dict, TUPLE: tuple}[mark](items)


class _Word(NamedTuple):
    """An opcode with what it pushes."""

    opcode: str
    argument: Any


def _check_archive(path: Path) -> None:
    """Refuse a file that could take more memory than it has bytes, or bytes that it has not.

    Raises:
        ValueError: If the file is damaged or not laid out as `save_checkpoint` does.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if any(info.compress_type != zipfile.ZIP_STORED for info in members):
            raise ValueError("it is compressed")
        # PyTorch looks names up without regard to case.
        sizes = {info.filename.lower().partition("/")[2]: info.file_size for info in members}
        if len(sizes) != len(members) or sum(sizes.values()) > path.stat().st_size:
            raise ValueError("its members overlap")
        (layout,) = (info for info in members if info.filename.endswith("/data.pkl"))
        if layout.file_size > MAX_LAYOUT_BYTES or archive.testzip():
            raise ValueError("it is damaged")
        _check_layout(archive.read(layout), sizes)


def _check_layout(layout: bytes, sizes: dict[str, int]) -> None:
    """Refuse a pickle of anything but plain values and tensors whose bytes are there.

    PyTorch believes the number of elements that the layout claims for a storage.
    """
    said: list[_Word] = []
    memo: dict[Any, _Word] = {}
    for count, (opcode, argument, _) in enumerate(pickletools.genops(layout)):
        if count == MAX_OPCODES:
            raise ValueError("its layout is too long")
        if not OPCODES.fullmatch(opcode.name):
            raise ValueError(f"its layout uses {opcode.name}")
        if opcode.name in {"BINPUT", "LONG_BINPUT"}:
            memo[argument] = said[-1]
        elif opcode.name in {"BINGET", "LONG_BINGET"}:
            said.append(memo[argument])
        else:
            said.append(_Word(opcode.name, argument))
        if opcode.name == "GLOBAL" and argument not in GLOBALS:
            raise ValueError(f"its layout names {argument}")
        if opcode.name == "BINPERSID":
            _check_storage(said[-8:-1], sizes)
        del said[:-8]


def _check_storage(said: list[_Word], sizes: dict[str, int]) -> None:
    """Refuse a storage that is not `("storage", type, name, "cpu", elements)` of its member."""
    opcodes = [word.opcode for word in said]
    _, kind, type_, name, device, count, _ = (word.argument for word in said)
    shape = ["MARK", "BINUNICODE", "GLOBAL", "BINUNICODE", "BINUNICODE", opcodes[5], "TUPLE"]
    if opcodes != shape or (kind, device) != ("storage", "cpu") or not isinstance(count, int):
        raise ValueError("its layout describes a storage otherwise")
    if count * STORAGES[type_].itemsize != sizes[f"data/{name}"]:
        raise ValueError(f"storage {name} claims {count} elements")
