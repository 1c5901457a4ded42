"""Traces a function of tensors to a flat list of operations."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.fx import Graph, GraphModule, Node

aten = torch.ops.aten


def trace(
    function: Callable[..., Any], inputs: Sequence[torch.Tensor], *, decomposes: bool = False
) -> GraphModule:
    """Run a pure function of tensors once and return its operations, without duplicates.

    Equal operations on equal operands are merged: RND's loss and bonus share one pass through its
    networks.

    Args:
        function: Takes `inputs` and returns a list of tensors.
        inputs: Examples; the result works for inputs of the same shapes.
        decomposes: Whether to decompose operations into PyTorch's core set.
    """
    from torch._decomp import core_aten_decompositions
    from torch._guards import TracingContext, tracing
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx

    table = {**core_aten_decompositions(), **DECOMPOSITIONS} if decomposes else None
    tracer = make_fx(
        torch.func.functionalize(function),
        decomposition_table=table,
        _disable_torch_fn_metadata_mode=True,  # nobody reads which function an operation is from
    )
    # Without a shared mode every value gets its own, which takes a third of the tracing time.
    with tracing(TracingContext(FakeTensorMode(allow_fallback_kernels=True))):
        traced = tracer(*inputs)
    _merge_equal_operations(traced.graph)
    traced.graph.eliminate_dead_code()
    traced.recompile()
    return traced


def _merge_equal_operations(graph: Graph) -> None:
    """Merge equal operations on the same operands; all operations are pure."""
    seen: dict[str, Node] = {}
    for node in list(graph.nodes):
        if node.op == "call_function":
            # Nodes print as their names, which are unique; other operands print as their values.
            first = seen.setdefault(f"{node.target} {node.args!r} {node.kwargs!r}", node)
            if first is not node:
                node.replace_all_uses_with(first)
                graph.erase_node(node)


def _softmax(values: torch.Tensor, axis: int, half_to_float: bool) -> torch.Tensor:  # noqa: FBT001 - PyTorch's signature
    del half_to_float
    weights = (values - values.amax(axis, keepdim=True)).exp()
    return weights / weights.sum(axis, keepdim=True)


def _log_softmax(values: torch.Tensor, axis: int, half_to_float: bool) -> torch.Tensor:  # noqa: FBT001 - PyTorch's signature
    del half_to_float
    return values - _logsumexp(values, [axis], keepdim=True)


def _logsumexp(values: torch.Tensor, axes: list[int], keepdim: bool = False) -> torch.Tensor:  # noqa: FBT001, FBT002 - PyTorch's signature
    largest = values.amax(axes, keepdim=True)
    largest = torch.where(largest.abs() == math.inf, 0.0, largest)  # inf - inf would be NaN
    total = (values - largest).exp().sum(axes, keepdim=True).log() + largest
    return total if keepdim else total.squeeze(axes)


def _var_mean(
    values: torch.Tensor,
    axes: list[int] | None = None,
    *,
    correction: float | None = None,
    keepdim: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    chosen = axes or list(range(values.dim()))
    mean = values.mean(chosen, keepdim=True)
    count = values.numel() // mean.numel()
    divisor = max(0, count - (1 if correction is None else correction))
    variance = (values - mean).square().sum(chosen, keepdim=keepdim) / divisor
    return variance, mean if keepdim else mean.squeeze(chosen)


def _var(values: torch.Tensor, axes: list[int] | None = None, **options: Any) -> torch.Tensor:
    return _var_mean(values, axes, **options)[0]


DECOMPOSITIONS: dict[Any, Callable[..., Any]] = {
    aten._softmax.default: _softmax,  # noqa: SLF001 - an operation's name
    aten._log_softmax.default: _log_softmax,  # noqa: SLF001
    aten.logsumexp.default: _logsumexp,
    aten.var.correction: _var,
    aten.var_mean.correction: _var_mean,
}
"""Decompositions in addition to PyTorch's."""
