"""Reductions over axes that are an input, as since opset 13 (ReduceSum) and 18 (the others)."""

from __future__ import annotations

from typing import Any

from onnx2torch.node_converters.reduce import OnnxReduceStaticAxes
from onnx2torch.utils.common import OperationConverterResult
from torch import nn

from prune_core.model.converters.registry import constant, converts, numbers, of_first_input

KINDS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")


@converts("ReduceSum", 13)
def reduce_over(node: Any, graph: Any) -> OperationConverterResult:
    axes = constant(node, graph, 1)
    info = node.attributes
    if (axes is None or not axes.numel()) and info.get("noop_with_empty_axes", 0):
        return of_first_input(nn.Identity(), node)
    module = OnnxReduceStaticAxes(
        operation_type=node.operation_type,
        axes=None if axes is None else numbers(axes),
        keepdims=info.get("keepdims", 1),
    )
    return of_first_input(module, node)


for _kind in KINDS:
    converts(f"Reduce{_kind}", 18)(reduce_over)
for _kind in ("Max", "Min"):
    converts(f"Reduce{_kind}", 20)(reduce_over)
for _kind in ("LogSum", "LogSumExp"):
    converts(f"Reduce{_kind}", 28)(reduce_over)
