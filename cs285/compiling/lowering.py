"""Lowers the traced graph of one run's update to loops and matrix products.

Views cost nothing: a `View` is a strided view of a buffer. Elementwise operations cost nothing
either until their results are needed in memory: a `Formula` is expanded where it is read, so chains
of operations become one loop. The result is a list of `Loop`s, `Reduction`s and `Product`s in the
order of the graph.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.fx import Graph, Node, map_arg
from torch.fx.passes.shape_prop import TensorMetadata

from cs285.compiling.errors import UnsupportedOperationError

aten = torch.ops.aten

Shape = tuple[int, ...]
Indices = tuple[str, ...]

C_TYPES = {torch.float32: "float", torch.int64: "std::int64_t", torch.bool: "bool"}


@dataclass(eq=False)
class Buffer:
    """One run's numbers in memory."""

    name: str
    dtype: torch.dtype
    size: int
    """Number of elements, including the padding of rows."""
    is_input: bool = False


@dataclass(frozen=True)
class Access:
    """An element of a buffer; `index` is a C++ expression in the loop variables."""

    buffer: Buffer
    index: str

    def __str__(self) -> str:
        return f"{self.buffer.name}[{self.index}]"


@dataclass(frozen=True)
class View:
    """A strided view of a buffer."""

    buffer: Buffer
    shape: Shape
    strides: Shape
    offset: int = 0

    @property
    def dtype(self) -> torch.dtype:
        """Type of the elements."""
        return self.buffer.dtype

    def access(self, indices: Indices) -> Access:
        """Return the access to one element."""
        terms = [str(self.offset)] if self.offset else []
        for index, stride in zip(indices, self.strides, strict=True):
            if index != "0" and stride != 0:
                terms.append(index if stride == 1 else f"{index} * {stride}")
        return Access(self.buffer, " + ".join(terms) or "0")

    def read(self, indices: Indices, accesses: list[Access]) -> str:
        """Return the C++ expression of an element, and record its memory accesses."""
        access = self.access(indices)
        accesses.append(access)
        return str(access)


@dataclass(frozen=True)
class Formula:
    """A value that is computed where it is read."""

    shape: Shape
    dtype: torch.dtype
    spell: Callable[[Indices, list[Access]], str]

    def read(self, indices: Indices, accesses: list[Access]) -> str:
        """See `View.read`."""
        return self.spell(indices, accesses)


Value = View | Formula
"""A tensor of the graph."""


@dataclass(frozen=True)
class Loop:
    """`target[...] = code` for every index of `extents`; loop variables are i0, i1, ..."""

    extents: Shape
    target: Access
    code: str
    accesses: tuple[Access, ...]


@dataclass(frozen=True)
class Reduction:
    """`target[...] = ` the sum, the largest or the index of the largest of `code`.

    Loop variables i run over `extents`, r over `reduced`.
    """

    kind: str
    extents: Shape
    reduced: Shape
    innermost: bool
    """Whether the reduced axes are the last ones."""
    target: Access
    code: str
    scale: float
    accesses: tuple[Access, ...]


@dataclass(frozen=True)
class Product:
    """C = A B with `C` row-major."""

    a: View
    b: View
    c: View

    @property
    def accesses(self) -> tuple[Access, ...]:
        """The operands, read as a whole."""
        return (Access(self.a.buffer, "all"), Access(self.b.buffer, "all"))

    @property
    def target(self) -> Access:
        """The result, written as a whole."""
        return Access(self.c.buffer, "all")


Kernel = Loop | Reduction | Product


@dataclass
class Program:
    """The result of lowering a graph."""

    inputs: list[View]
    kernels: list[Kernel] = field(default_factory=list)
    outputs: list[View] = field(default_factory=list)
    flops: int = 0
    """Floating-point operations of the matrix products."""


def lower(graph: Graph, lanes: int, widest: int) -> Program:
    """Turn a functional graph of float32, int64 and bool tensors into kernels.

    Args:
        graph: A graph whose operations are those that `tracing.DECOMPOSITIONS` leaves.
        lanes: Number of floats in a vector register.
        widest: Maximum number of vectors in a row of a product's tile.

    Raises:
        UnsupportedOperationError: If there is no rule for an operation.
    """
    return _Lowering(lanes, widest).run(graph)


# Elementwise operations in C++; {0}, {1}, ... are the operands.
_COMPARISONS: dict[Any, str] = {
    aten.ge.Scalar: "({0} >= {1})",
    aten.gt.Scalar: "({0} > {1})",
    aten.le.Scalar: "({0} <= {1})",
    aten.lt.Scalar: "({0} < {1})",
    aten.eq.Scalar: "({0} == {1})",
    aten.ne.Scalar: "({0} != {1})",
    aten.ge.Tensor: "({0} >= {1})",
    aten.gt.Tensor: "({0} > {1})",
    aten.le.Tensor: "({0} <= {1})",
    aten.lt.Tensor: "({0} < {1})",
    aten.eq.Tensor: "({0} == {1})",
}
_ELEMENTWISE: dict[Any, str] = {
    **_COMPARISONS,
    aten.add.Tensor: "({0} + {1})",
    aten.sub.Tensor: "({0} - {1})",
    aten.mul.Tensor: "({0} * {1})",
    aten.mul.Scalar: "({0} * {1})",
    aten.div.Tensor: "({0} / {1})",
    aten.div.Scalar: "({0} / {1})",
    aten.neg.default: "(-{0})",
    aten.abs.default: "std::fabs({0})",
    aten.sign.default: "(float({0} > 0.0f) - float({0} < 0.0f))",
    aten.sgn.default: "(float({0} > 0.0f) - float({0} < 0.0f))",
    aten.exp.default: "fast_exp({0})",
    aten.log.default: "std::log({0})",
    aten.sqrt.default: "std::sqrt({0})",
    aten.rsqrt.default: "(1.0f / std::sqrt({0}))",
    aten.reciprocal.default: "(1.0f / {0})",
    aten.tanh.default: "fast_tanh({0})",
    aten.sigmoid.default: "(1.0f / (1.0f + fast_exp(-{0})))",
    aten.relu.default: "larger({0}, 0.0f)",
    aten.maximum.default: "larger({0}, {1})",
    aten.pow.Scalar: "std::pow({0}, {1})",
    aten.pow.Tensor_Tensor: "std::pow({0}, {1})",
    aten.where.self: "({0} ? {1} : {2})",
    aten.bitwise_not.default: "(!{0})",
    aten.logical_not.default: "(!{0})",
    aten.clone.default: "{0}",
    aten._to_copy.default: "{0}",  # noqa: SLF001 - an operation's name
}
_MOVES = {aten.where.self, aten.clone.default, aten._to_copy.default}  # noqa: SLF001
_EXACT: dict[torch.dtype, set[Any]] = {
    torch.int64: {*_MOVES, aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.neg.default},
    torch.bool: {
        *_MOVES,
        *_COMPARISONS,
        aten.mul.Tensor,
        aten.bitwise_not.default,
        aten.logical_not.default,
    },
}
"""Elementwise operations whose rules also hold for results that are not floats."""
_CONSTANTS = (aten.full.default, aten.full_like.default, aten.scalar_tensor.default)
_RESHAPES = (aten.view.default, aten._unsafe_view.default, aten.reshape.default)  # noqa: SLF001
_VIEWS = {
    aten.permute.default,
    aten.unsqueeze.default,
    aten.squeeze.dims,
    aten.squeeze.dim,
    aten.expand.default,
    aten.slice.Tensor,
    aten.select.int,
    aten.alias.default,
    aten.detach.default,
    *_RESHAPES,
}
_NEEDS_MEMORY = {aten.mm.default, aten.addmm.default, aten.gather.default, *_RESHAPES}
"""Operations that need their operands in memory rather than as formulas."""


class _Lowering:
    def __init__(self, lanes: int, widest: int) -> None:
        self.lanes = lanes
        self.widest = widest
        self.values: dict[Node, Value] = {}
        self.packed: dict[tuple[Any, ...], View] = {}
        self.program = Program([])
        self.count = 0

    def run(self, graph: Graph) -> Program:
        for node in graph.nodes:
            if node.op == "placeholder":
                meta = _meta(node)
                buffer = self._buffer(meta.dtype, math.prod(meta.shape), is_input=True)
                view = _contiguous(buffer, meta.shape)
                self.program.inputs.append(view)
                self.values[node] = view
            elif node.op == "call_function":
                self.values[node] = self._lower(node)
            elif node.op == "output":
                self.program.outputs = [self._output(result) for result in _arguments(node)[0]]
            else:
                raise UnsupportedOperationError("a tensor that is neither state nor batch")
        return self.program

    def _buffer(self, dtype: torch.dtype, size: int, *, is_input: bool = False) -> Buffer:
        self.count += 1
        return Buffer(f"b{self.count}_", dtype, size, is_input)

    def _output(self, node: Node) -> View:
        """Store a result where changes of the state do not affect it."""
        view = self._in_memory(self.values[node])
        return self._in_memory(_copy_of(view)) if view.buffer.is_input else view

    def _lower(self, node: Node) -> Value:
        target = node.target
        if target in _VIEWS:
            return self._view(node)
        value = self._compute(node)
        return self._in_memory(value) if self._is_needed_in_memory(node, value) else value

    def _compute(self, node: Node) -> Value:
        target = node.target
        if target in _ELEMENTWISE:
            return self._elementwise(_ELEMENTWISE[target], node)
        if target in _CONSTANTS:
            return self._constant(node)
        rules: dict[Any, Callable[[Node], Value]] = {
            aten.mm.default: self._mm,
            aten.addmm.default: self._addmm,
            aten.pow.Tensor_Scalar: self._power,
            aten.clamp.default: self._clamp,
            aten.sum.default: self._sum,
            aten.sum.dim_IntList: self._sum,
            aten.mean.default: self._sum,
            aten.mean.dim: self._sum,
            aten.amax.default: self._amax,
            aten.argmax.default: self._argmax,
            aten.gather.default: self._gather,
            aten.scatter_add.default: self._scatter,
            aten.scatter.value: self._scatter,
        }
        if target not in rules:
            raise UnsupportedOperationError(f"operation {target}")
        return rules[target](node)

    def _is_needed_in_memory(self, node: Node, value: Value) -> bool:
        """Return whether a formula is read more than once, or by something that needs memory."""
        if isinstance(value, View) or node.target in _CONSTANTS:
            return False
        users = list(_users(node))
        size = math.prod(value.shape)
        return (
            len(users) != 1
            or users[0].op == "output"
            or users[0].target in _NEEDS_MEMORY
            or any(user.target in _RESHAPES for user in node.users)
            or math.prod(_meta(users[0]).shape) > size
        )

    def _in_memory(self, value: Value) -> View:
        """Compute a formula into a new buffer."""
        if isinstance(value, View):
            return value
        view = _contiguous(self._buffer(value.dtype, math.prod(value.shape)), value.shape)
        self._store(value, view)
        return view

    def _store(self, value: Value, view: View) -> None:
        extents = tuple(extent for extent in value.shape if extent != 1)
        indices = loop_indices(value.shape)
        accesses: list[Access] = []
        code = value.read(indices, accesses)
        self.program.kernels.append(Loop(extents, view.access(indices), code, tuple(accesses)))

    # Views

    def _view(self, node: Node) -> Value:
        value = self.values[_arguments(node)[0]]
        shape = tuple(_meta(node).shape)
        if shape == value.shape and node.target is not aten.permute.default:
            return value
        if node.target not in _LAZY_VIEWS:
            value = self._in_memory(value)
        if not isinstance(value, View):
            return _lazy_view(node, value, shape)
        try:
            return _view_of(value, node)
        except RuntimeError:  # no strides make this view of that one
            copy = self._in_memory(_copy_of(value))
            return _contiguous(copy.buffer, shape)

    # Elementwise

    def _operand(
        self, argument: Any, shape: Shape, dtype: torch.dtype
    ) -> Callable[[Indices, list[Access]], str]:
        """Read an operand as numbers of type `dtype`, broadcast to `shape`."""
        if not isinstance(argument, Node):
            return _constant(_literal(argument, dtype))
        value = self.values[argument]
        missing = len(shape) - len(value.shape)

        def read(indices: Indices, accesses: list[Access]) -> str:
            own = indices[missing:]
            fitted = tuple("0" if n == 1 else i for i, n in zip(own, value.shape, strict=True))
            return _cast(value.read(fitted, accesses), value.dtype, dtype)

        return read

    def _elementwise(self, pattern: str, node: Node) -> Formula:
        meta = _meta(node)
        shape = tuple(meta.shape)
        if node.kwargs.get("alpha", 1) != 1 or node.target not in _EXACT.get(
            meta.dtype, {node.target}
        ):
            raise UnsupportedOperationError(f"operation {node.target} with {node.kwargs}")
        types = [meta.dtype] * len(_arguments(node))
        if node.target in _COMPARISONS:
            types = [functools.reduce(torch.promote_types, map(self._type, node.args))] * 2
        elif node.target is aten.where.self:
            types[0] = torch.bool
        operands = [
            self._operand(argument, shape, dtype)
            for argument, dtype in zip(_arguments(node), types, strict=True)
        ]

        def spell(indices: Indices, accesses: list[Access]) -> str:
            return pattern.format(*(operand(indices, accesses) for operand in operands))

        return Formula(shape, meta.dtype, spell)

    def _type(self, argument: Any) -> torch.dtype:
        if isinstance(argument, Node):
            return self.values[argument].dtype
        return {bool: torch.bool, int: torch.int64}.get(type(argument), torch.float32)

    def _constant(self, node: Node) -> Formula:
        meta = _meta(node)
        value = (
            _arguments(node)[0]
            if node.target is aten.scalar_tensor.default
            else _arguments(node)[1]
        )
        return Formula(tuple(meta.shape), meta.dtype, _constant(_literal(value, meta.dtype)))

    def _power(self, node: Node) -> Formula:
        patterns = {0.5: "std::sqrt({0})", 1.0: "{0}", 2.0: "square({0})"}
        return self._elementwise(
            patterns.get(float(_arguments(node)[1]), "std::pow({0}, {1})"), node
        )

    def _clamp(self, node: Node) -> Formula:
        low, high = [*_arguments(node)[1:], None, None][:2]
        bounds = (
            node.kwargs.get("min", low),
            node.kwargs.get("max", high),
        )
        low_text, high_text = (
            _literal(infinity if bound is None else bound, torch.float32)
            for bound, infinity in zip(bounds, (-math.inf, math.inf), strict=True)
        )
        meta = _meta(node)
        if meta.dtype is not torch.float32:
            raise UnsupportedOperationError(f"operation {node.target} of {meta.dtype}")
        operand = self._operand(_arguments(node)[0], tuple(meta.shape), meta.dtype)
        return Formula(
            tuple(meta.shape),
            meta.dtype,
            lambda indices, accesses: (
                f"clamp({operand(indices, accesses)}, {low_text}, {high_text})"
            ),
        )

    # Looking up

    def _gather(self, node: Node) -> Formula:
        source, axis, index = _arguments(node)[:3]
        values, places = self.values[source], self.values[index]
        axis = axis % len(values.shape)

        def spell(indices: Indices, accesses: list[Access]) -> str:
            place = places.read(indices, accesses)
            inside = (*indices[:axis], place, *indices[axis + 1 :])
            return values.read(inside, accesses)

        return Formula(places.shape, values.dtype, spell)

    def _scatter(self, node: Node) -> Formula:
        """Write or add one element to each row along an axis."""
        base, axis, index, source = _arguments(node)
        into, places = self.values[base], self.values[index]
        axis = axis % len(into.shape)
        if places.shape != (*into.shape[:axis], 1, *into.shape[axis + 1 :]):
            raise UnsupportedOperationError("a scatter of more than one element per row")
        values = self._operand(source, places.shape, into.dtype)
        adds = node.target is aten.scatter_add.default

        def spell(indices: Indices, accesses: list[Access]) -> str:
            row = (*indices[:axis], "0", *indices[axis + 1 :])
            is_here = f"{indices[axis]} == {places.read(row, accesses)}"
            new, old = values(row, accesses), into.read(indices, accesses)
            return (
                f"({is_here} ? {old} + {new} : {old})" if adds else f"({is_here} ? {new} : {old})"
            )

        return Formula(into.shape, into.dtype, spell)

    # Reductions

    def _reduce(self, kind: str, node: Node, axes: Iterable[int] | None) -> View:
        value = self.values[_arguments(node)[0]]
        meta = _meta(node)
        if kind != "sum" and value.dtype is not torch.float32:
            raise UnsupportedOperationError(f"operation {node.target} of {value.dtype}")
        rank = len(value.shape)
        chosen = {axis % max(rank, 1) for axis in axes} if axes else set(range(rank))
        kept = [axis for axis in range(rank) if axis not in chosen]
        names: dict[int, str] = {}
        extents: list[int] = []
        reduced: list[int] = []
        for axis, extent in enumerate(value.shape):
            if extent == 1:
                names[axis] = "0"
            elif axis in chosen:
                names[axis] = f"r{len(reduced)}"
                reduced.append(extent)
            else:
                names[axis] = f"i{len(extents)}"
                extents.append(extent)
        accesses: list[Access] = []
        code = value.read(tuple(names[axis] for axis in range(rank)), accesses)
        if kind == "sum":
            code = _cast(code, value.dtype, meta.dtype)
        buffer = self._buffer(meta.dtype, math.prod(extents))
        target = _contiguous(buffer, tuple(value.shape[axis] for axis in kept))
        scale = 1 / math.prod(reduced) if "mean" in str(node.target) else 1.0
        self.program.kernels.append(
            Reduction(
                kind,
                tuple(extents),
                tuple(reduced),
                not kept or min(chosen) > max(kept),
                target.access(tuple(names[axis] for axis in kept)),
                code,
                scale,
                tuple(accesses),
            )
        )
        return _contiguous(buffer, tuple(meta.shape))

    def _sum(self, node: Node) -> View:
        return self._reduce("sum", node, _arguments(node)[1] if len(_arguments(node)) > 1 else None)

    def _amax(self, node: Node) -> View:
        return self._reduce(
            "amax", node, _arguments(node)[1] if len(_arguments(node)) > 1 else None
        )

    def _argmax(self, node: Node) -> View:
        axis = [*_arguments(node), None][1]
        if axis is None:
            raise UnsupportedOperationError("argmax over all axes")
        return self._reduce("argmax", node, [axis])

    # Products

    def _mm(self, node: Node) -> View:
        a, b = (self._in_memory(self.values[argument]) for argument in _arguments(node))
        return self._product(a, b)

    def _addmm(self, node: Node) -> Formula:
        if node.kwargs:
            raise UnsupportedOperationError("addmm with factors")
        bias, *operands = _arguments(node)
        product = self._product(*(self._in_memory(self.values[x]) for x in operands))
        meta = _meta(node)
        added = self._operand(bias, product.shape, torch.float32)

        def spell(indices: Indices, accesses: list[Access]) -> str:
            return f"({product.read(indices, accesses)} + {added(indices, accesses)})"

        return Formula(product.shape, meta.dtype, spell)

    def _product(self, a: View, b: View) -> View:
        rows, inner = a.shape
        columns = b.shape[1]
        self.program.flops += 2 * rows * inner * columns
        if columns < self.lanes and rows >= self.lanes and a.strides[0] == 1:
            # Few columns leave vectors mostly empty; the transposed product has few rows instead.
            return _transposed(self._product_into(_transposed(b), _transposed(a)))
        return self._product_into(a, b)

    def _product_into(self, a: View, b: View) -> View:
        buffer = self._buffer(torch.float32, a.shape[0] * b.shape[1])
        c = _contiguous(buffer, (a.shape[0], b.shape[1]))
        self.program.kernels.append(Product(a, self._pack(b), c))
        return c

    def _pack(self, b: View) -> View:
        """Pad the rows of B to whole vectors and make each contiguous."""
        rows, columns = b.shape
        tile = self.lanes * tile_width(-(-columns // self.lanes), self.widest)
        padded = -(-columns // tile) * tile
        if b.strides[1] == 1 and columns == padded:
            return b
        key = (b.buffer, b.shape, b.strides, b.offset)
        if key not in self.packed:
            buffer = self._buffer(torch.float32, rows * padded)
            view = View(buffer, b.shape, (padded, 1))
            self._store(_copy_of(b), view)
            self.packed[key] = view
        return self.packed[key]


_LAZY_VIEWS = {
    aten.permute.default,
    aten.unsqueeze.default,
    aten.squeeze.dims,
    aten.squeeze.dim,
    aten.expand.default,
}
"""Views of a formula that need no memory."""


def _view_of(view: View, node: Node) -> View:
    """Let PyTorch compute the shape, strides and offset of a view of a view."""
    memory = torch.empty(view.offset + _span(view.shape, view.strides), device="meta")
    base = memory.as_strided(view.shape, view.strides, view.offset)
    operation: Any = node.target
    seen = operation(base, *_arguments(node)[1:], **node.kwargs)
    return View(view.buffer, tuple(seen.shape), tuple(seen.stride()), seen.storage_offset())


def _lazy_view(node: Node, value: Value, shape: Shape) -> Formula:
    """Return a formula whose axes are reordered, added, removed or repeated."""
    rank = len(value.shape)
    if node.target is aten.permute.default:
        order = [axis % rank for axis in _arguments(node)[1]]
        source = [order.index(axis) for axis in range(rank)]
    elif node.target is aten.unsqueeze.default:
        added = _arguments(node)[1] % len(shape)
        source = [axis for axis in range(len(shape)) if axis != added]
    elif node.target is aten.expand.default:
        source = list(range(len(shape) - rank, len(shape)))
    else:
        axes = _arguments(node)[1]
        gone = {axis % rank for axis in (axes if isinstance(axes, Sequence) else [axes])}
        kept = iter(range(len(shape)))
        source = [
            -1 if axis in gone and value.shape[axis] == 1 else next(kept) for axis in range(rank)
        ]

    def spell(indices: Indices, accesses: list[Access]) -> str:
        inner = tuple(
            "0" if place < 0 or extent == 1 else indices[place]
            for place, extent in zip(source, value.shape, strict=True)
        )
        return value.read(inner, accesses)

    return Formula(shape, value.dtype, spell)


def tile_width(vectors: int, widest: int) -> int:
    """Choose the width of a product's tiles, in vectors, for rows of a given number of vectors.

    A tile of width w loads about 1 + 1/w numbers per multiplication, but the last tile of a row may
    extend beyond it.
    """

    def cost(width: int) -> float:
        return -(-vectors // width) * width * (1 + 1 / width)

    return min(range(1, widest + 1), key=cost)


def _constant(text: str) -> Callable[[Indices, list[Access]], str]:
    def spell(indices: Indices, accesses: list[Access]) -> str:
        del indices, accesses
        return text

    return spell


def _meta(node: Node) -> TensorMetadata:
    """Return shape and type of a node's result, which must be one non-empty tensor."""
    meta = node.meta.get("tensor_meta")
    if not isinstance(meta, TensorMetadata):
        raise UnsupportedOperationError(f"operation {node.target}")
    if meta.dtype not in C_TYPES:
        raise UnsupportedOperationError(f"numbers of type {meta.dtype}")
    if 0 in meta.shape:
        raise UnsupportedOperationError("a tensor without elements")
    return meta


def _arguments(node: Node) -> tuple[Any, ...]:
    return node.args


def _users(node: Node) -> Iterable[Node]:
    """Yield the nodes that read a node, looking through views."""
    for user in node.users:
        if user.target in _VIEWS:
            yield from _users(user)
        else:
            # An operation may read the same operand twice.
            operands: list[Node] = []
            map_arg((user.args, user.kwargs), operands.append)
            yield from [user] * operands.count(node)


def _contiguous(buffer: Buffer, shape: Iterable[int]) -> View:
    extents = tuple(shape)
    strides = [math.prod(extents[axis + 1 :]) for axis in range(len(extents))]
    return View(buffer, extents, tuple(strides))


def _transposed(view: View) -> View:
    return View(view.buffer, view.shape[::-1], view.strides[::-1], view.offset)


def _copy_of(view: View) -> Formula:
    return Formula(view.shape, view.dtype, view.read)


def _span(shape: Shape, strides: Shape) -> int:
    return 1 + sum((extent - 1) * stride for extent, stride in zip(shape, strides, strict=True))


def loop_indices(shape: Shape) -> Indices:
    """Return the loop variables for all elements; an axis with one element needs none."""
    counter = iter(range(len(shape)))
    return tuple("0" if extent == 1 else f"i{next(counter)}" for extent in shape)


def _cast(code: str, given: torch.dtype, wanted: torch.dtype) -> str:
    return code if given is wanted else f"static_cast<{C_TYPES[wanted]}>({code})"


def _literal(value: float, dtype: torch.dtype) -> str:
    """Return a number as a C++ literal."""
    if dtype is torch.bool:
        return str(bool(value)).lower()
    if dtype is torch.int64:
        text = str(int(value))
    elif math.isfinite(value):
        text = f"{float(value)!r}f"
    else:
        text = {"nan": "NAN", "inf": "INFINITY", "-inf": "-INFINITY"}[str(float(value))]
    return f"({text})" if text.startswith("-") else text
