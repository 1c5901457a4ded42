"""Generates, from kernels, one C++ function that trains many runs for many steps.

The function processes the runs one after the other, so that the memory of one run's update stays in
the processor's cache, and it calls no library.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from cs285.compiling.errors import UnsupportedOperationError
from cs285.compiling.lowering import (
    C_TYPES,
    Access,
    Buffer,
    Kernel,
    Loop,
    Product,
    Program,
    Reduction,
    View,
    loop_indices,
    tile_width,
)
from cs285.compiling.target import Target

ALIGNMENT = 64
ITEM_BYTES = {"float": 4, "std::int64_t": 8, "bool": 1}


@dataclass(frozen=True)
class Source:
    """C++ text, and the size of the scratch memory that its caller must provide."""

    text: str
    scratch_bytes: int


def generate(program: Program, num_state: int, changed: Sequence[int], target: Target) -> Source:
    """Write the C++ function of a program.

    Args:
        program: Its first `num_state` inputs are a run's state; the others are fields of a batch
            whose first axis is looked up by row.
        num_state: See above.
        changed: Indices of the inputs that the first outputs replace; the other outputs are the
            run's metrics.
        target: The processor to generate code for.

    Raises:
        UnsupportedOperationError: If an output differs in shape from the input that it replaces, or
            a metric is not a scalar.
    """
    return _Writer(program, num_state, changed, target).write()


class _Arena:
    """Allocates buffers in one block of memory."""

    def __init__(self) -> None:
        self.places: dict[Buffer, int] = {}
        self.size = 0
        self._holes: list[tuple[int, int]] = []
        """Offset and length of each free hole."""

    def place(self, buffer: Buffer) -> None:
        """Put a buffer into the smallest hole that it fits into, or at the end."""
        size = _bytes(buffer)
        fitting = [hole for hole in self._holes if hole[1] >= size]
        if fitting:
            hole = min(fitting, key=lambda hole: hole[1])
            self._holes.remove(hole)
            start, length = hole
            if length > size:
                self._holes.append((start + size, length - size))
        else:
            start = self.size
            self.size += size
        self.places[buffer] = start

    def free(self, buffer: Buffer) -> None:
        """Free the place of a buffer."""
        self._holes.append((self.places[buffer], _bytes(buffer)))


class _Writer:
    def __init__(
        self, program: Program, num_state: int, changed: Sequence[int], target: Target
    ) -> None:
        self.program = program
        self.target = target
        self.state = program.inputs[:num_state]
        self.fields = program.inputs[num_state:]
        self.groups = _fuse(program.kernels)
        self.results = list(
            zip((program.inputs[k] for k in changed), program.outputs, strict=False)
        )
        self.metrics = program.outputs[len(changed) :]
        if any(old.shape != new.shape for old, new in self.results):
            raise UnsupportedOperationError("a result whose shape differs from what it replaces")
        if any(math.prod(view.shape) != 1 for view in self.metrics):
            raise UnsupportedOperationError("a metric that is not a scalar")
        self.in_place = self._outputs_in_place()
        self.unstored = self._never_stored()
        self.places, self.scratch = self._allocate()

    # Memory

    def _outputs_in_place(self) -> dict[Buffer, Buffer]:
        """Find results that can be computed in place of the old value.

        This requires that nothing reads the old value later, and that the same loop reads only the
        element that it replaces.
        """
        in_place: dict[Buffer, Buffer] = {}
        for old, new in self.results:
            if new.buffer in in_place or not _is_all_of(new, old):
                continue
            writers = [k for k, group in enumerate(self.groups) if _writes(group, new.buffer)]
            readers = [k for k, group in enumerate(self.groups) if _reads(group, old.buffer)]
            written_alone = all(isinstance(kernel, Loop) for kernel in self.groups[writers[-1]])
            if (
                len(writers) == 1
                and max(readers, default=-1) <= writers[0]
                and (max(readers, default=-1) < writers[0] or written_alone)
                and self._reads_match(self.groups[writers[0]], old.buffer, new.buffer)
            ):
                in_place[new.buffer] = old.buffer
        return in_place

    @staticmethod
    def _reads_match(group: Sequence[Kernel], old: Buffer, new: Buffer) -> bool:
        written = {kernel.target.index for kernel in group if kernel.target.buffer is new}
        read = {a.index for kernel in group for a in kernel.accesses if a.buffer is old}
        return read <= written

    def _never_stored(self) -> set[Buffer]:
        """Find buffers that only the loop that computes them reads: they stay in registers."""
        kept = {view.buffer for view in self.program.outputs}
        return {
            kernel.target.buffer
            for k, group in enumerate(self.groups)
            for kernel in group
            if isinstance(kernel, Loop)
            and kernel.target.buffer not in kept
            and not any(
                _reads(other, kernel.target.buffer) for n, other in enumerate(self.groups) if n != k
            )
        }

    def _allocate(self) -> tuple[dict[Buffer, int], int]:
        """Allocate each buffer in the scratch memory, freed after its last reader."""
        end = len(self.groups)
        last: dict[Buffer, int] = {}
        for k, group in enumerate(self.groups):
            for kernel in group:
                last[kernel.target.buffer] = k
                last |= {access.buffer: k for access in kernel.accesses}
        last |= {view.buffer: end for view in self.program.outputs}
        arena = _Arena()
        for view in self.fields:
            arena.place(view.buffer)
        for k, group in enumerate(self.groups):
            for kernel in group:
                buffer = kernel.target.buffer
                if buffer not in self.in_place and buffer not in self.unstored:
                    arena.place(buffer)
            for buffer in [x for x in arena.places if last.get(x) == k]:
                arena.free(buffer)
        return arena.places, arena.size

    # C++

    def write(self) -> Source:
        lines = [
            (files(__package__) / "kernels.hpp")
            .read_text(encoding="utf-8")
            .replace(
                "namespace {",
                f"namespace {{\n\nconstexpr int LANES = {self.target.lanes}, "
                f"REGISTERS = {self.target.registers};",
                1,
            ),
            "",
            "static void update(void* const* state, char* scratch) {",
            *self._declarations(),
        ]
        for group in self.groups:
            lines += self._group(group)
        for old, new in self.results:
            if self.in_place.get(new.buffer) is not old.buffer:
                lines += self._copy(old, new)
        lines += ["}", "", *self._driver()]
        return Source("\n".join(lines) + "\n", self.scratch + ALIGNMENT)

    def _declarations(self) -> list[str]:
        lines = []
        for k, view in enumerate(self.state):
            kind = C_TYPES[view.dtype]
            lines.append(f"  auto* {view.buffer.name} = static_cast<{kind}*>(state[{k}]);")
        for buffer, place in self.places.items():
            kind = C_TYPES[buffer.dtype]
            lines.append(f"  auto* {buffer.name} = reinterpret_cast<{kind}*>(scratch + {place});")
        return lines

    def _name(self, buffer: Buffer) -> str:
        return self.in_place.get(buffer, buffer).name

    def _spell(self, code: str) -> str:
        for new, old in self.in_place.items():
            code = code.replace(f"{new.name}[", f"{old.name}[")
        return code

    def _group(self, group: Sequence[Kernel]) -> list[str]:
        first = group[0]
        if isinstance(first, Product):
            return [self._product(first)]
        if isinstance(first, Reduction):
            return self._reduction(first)
        return self._loops([kernel for kernel in group if isinstance(kernel, Loop)])

    def _loops(self, loops: Sequence[Loop]) -> list[str]:
        lines = []
        known: list[tuple[Access, str]] = []
        written = {loop.target.buffer for loop in loops}
        for access in dict.fromkeys(a for loop in loops for a in loop.accesses):
            if access.index.isdigit() and access.buffer not in written and loops[0].extents:
                name = f"s{access.buffer.name}{access.index}"
                lines.append(f"    const auto {name} = {self._spell(str(access))};")
                known.append((access, name))
        lines += _open(loops[0].extents, "i")
        for loop in loops:
            code = loop.code
            for access, name in known:
                code = code.replace(str(access), name)
            name = f"x{loop.target.buffer.name}"
            kind = C_TYPES[loop.target.buffer.dtype]
            lines.append(f"    const {kind} {name} = {self._spell(code)};")
            known.append((loop.target, name))
        for loop in loops:
            if loop.target.buffer not in self.unstored:
                target = f"{self._name(loop.target.buffer)}[{loop.target.index}]"
                lines.append(f"    {target} = x{loop.target.buffer.name};")
        return ["  {", *lines, "  }", "  }"]

    def _reduction(self, kernel: Reduction) -> list[str]:
        target = f"{self._name(kernel.target.buffer)}[{kernel.target.index}]"
        code = self._spell(kernel.code)
        scale = f" * {kernel.scale!r}f" if kernel.scale != 1 else ""
        if kernel.kind == "argmax":
            place = "r0" if kernel.reduced else "0"
            # As in PyTorch, the first NaN counts as the largest.
            return [
                *_open(kernel.extents, "i"),
                "    std::int64_t best = 0;",
                "    float largest = -INFINITY;",
                *_open(kernel.reduced, "r"),
                f"      const float candidate = {code};",
                "      if (candidate > largest || (candidate != candidate && largest == largest))",
                f"        largest = candidate, best = {place};",
                "    }",
                f"    {target} = best;",
                "  }",
            ]
        kind = C_TYPES[kernel.target.buffer.dtype]
        start, combine = {
            "sum": ("0", "{0} + {1}"),
            "amax": ("-INFINITY", "larger({0}, {1})"),
        }[kernel.kind]
        if kernel.innermost or not kernel.extents:
            return [
                *_open(kernel.extents, "i"),
                f"    {kind} result = {start};",
                *_open(kernel.reduced, "r"),
                f"      result = {combine.format('result', code)};",
                "    }",
                f"    {target} = result{scale};",
                "  }",
            ]
        return [
            *_open(kernel.extents, "i"),
            f"    {target} = {start};",
            "  }",
            *_open(kernel.reduced, "r"),
            *_open(kernel.extents, "i"),
            f"      {target} = {combine.format(target, f'{code}{scale}')};",
            "  } }",
        ]

    def _product(self, kernel: Product) -> str:
        (rows, inner), columns = kernel.a.shape, kernel.b.shape[1]
        width = tile_width(-(-columns // self.target.lanes), self.target.widest_tile)
        sizes = (width, rows, columns, inner, *kernel.a.strides, kernel.b.strides[0])
        a, b = (f"{self._name(v.buffer)} + {v.offset}" for v in (kernel.a, kernel.b))
        arguments = ", ".join(str(size) for size in (*sizes, columns))
        return f"  multiply<{arguments}>({a}, {b}, {self._name(kernel.c.buffer)});"

    def _copy(self, old: View, new: View) -> list[str]:
        extents = [extent for extent in old.shape if extent != 1]
        indices = loop_indices(old.shape)
        code = self._spell(str(new.access(indices)))
        return [*_open(extents, "i"), f"    {old.access(indices)} = {code};", "  }"]

    def _driver(self) -> list[str]:
        """Write the function that callers use."""
        strides = ", ".join(str(view.buffer.size * _item_bytes(view.buffer)) for view in self.state)
        lines = [
            "// Trains `runs` runs for `steps` steps. `state` points to the tensors of the state,",
            "// run after run; `fields` to the columns that rows (steps x runs x batch) index;",
            "// `metrics` to (runs) floats each, which the last step writes.",
            'extern "C" void train(std::int64_t runs, std::int64_t steps, void* const* state,',
            "                      const void* const* fields, const std::int64_t* rows,",
            "                      float* const* metrics, char* scratch) {",
            f"  constexpr std::int64_t strides[] = {{{strides}}};",
            "  for (std::int64_t run = 0; run < runs; ++run) {",
            f"    void* own[{len(self.state)}];",
            f"    for (int k = 0; k < {len(self.state)}; ++k)",
            "      own[k] = static_cast<char*>(state[k]) + run * strides[k];",
            "    for (std::int64_t step = 0; step < steps; ++step) {",
        ]
        if self.fields:
            batch = self.fields[0].shape[0]
            lines.append(f"      const std::int64_t* row = rows + (step * runs + run) * {batch};")
        for k, view in enumerate(self.fields):
            kind = C_TYPES[view.dtype]
            width = math.prod(view.shape[1:])
            place = self.places[view.buffer]
            lines += [
                "      {",
                f"        const auto* from = static_cast<const {kind}*>(fields[{k}]);",
                f"        auto* to = reinterpret_cast<{kind}*>(scratch + {place});",
                f"        for (int i = 0; i < {batch}; ++i)",
                f"          for (int j = 0; j < {width}; ++j)",
                f"            to[i * {width} + j] = from[row[i] * {width} + j];",
                "      }",
            ]
        lines.append("      update(own, scratch);")
        lines.append("    }")
        for k, view in enumerate(self.metrics):
            lines.append(self._metric(k, view))
        return [*lines, "  }", "}"]

    def _metric(self, k: int, view: View) -> str:
        """Write a scalar to the metrics."""
        kind = C_TYPES[view.dtype]
        buffer = self.in_place.get(view.buffer, view.buffer)
        place = next((n for n, own in enumerate(self.state) if own.buffer is buffer), None)
        memory = f"scratch + {self.places[buffer]}" if place is None else f"own[{place}]"
        cast = "static_cast" if place is not None else "reinterpret_cast"
        index = view.access(("0",) * len(view.shape)).index
        return f"    metrics[{k}][run] = {cast}<const {kind}*>({memory})[{index}];"


def _fuse(kernels: Sequence[Kernel]) -> list[list[Kernel]]:
    """Fuse neighbouring loops over the same extents.

    A loop may join if it reads the results of the others only at its own index.
    """
    groups: list[list[Kernel]] = []
    for kernel in kernels:
        group = groups[-1] if groups else []
        joins = (
            isinstance(kernel, Loop)
            and bool(group)
            and all(isinstance(k, Loop) and k.extents == kernel.extents for k in group)
        )
        if joins:
            written = {k.target.buffer: k.target.index for k in group}
            joins = all(a.index == written.get(a.buffer, a.index) for a in kernel.accesses)
        if joins:
            group.append(kernel)
        else:
            groups.append([kernel])
    return groups


def _writes(group: Sequence[Kernel], buffer: Buffer) -> bool:
    return any(kernel.target.buffer is buffer for kernel in group)


def _reads(group: Sequence[Kernel], buffer: Buffer) -> bool:
    return any(access.buffer is buffer for kernel in group for access in kernel.accesses)


def _is_all_of(new: View, old: View) -> bool:
    """Return whether a result has the same layout in its buffer as the old value in its own."""
    same = View(new.buffer, old.shape, old.strides, old.offset)
    sizes = (new.buffer.size, new.dtype) == (old.buffer.size, old.dtype)
    return new == same and sizes


def _item_bytes(buffer: Buffer) -> int:
    return ITEM_BYTES[C_TYPES[buffer.dtype]]


def _bytes(buffer: Buffer) -> int:
    return -(-buffer.size * _item_bytes(buffer) // ALIGNMENT) * ALIGNMENT


def _open(extents: Sequence[int], variable: str) -> list[str]:
    """Open one brace for loops over all extents."""
    loops = [
        f"for (int {variable}{k} = 0; {variable}{k} < {extent}; ++{variable}{k})"
        for k, extent in enumerate(extents)
    ]
    if not loops:
        return ["  {"]
    return [*(f"  {loop}" for loop in loops[:-1]), "INDEPENDENT", f"  {loops[-1]} {{"]
