"""ONNX to a torch graph, by onnx2torch and the converters that it lacks."""

from __future__ import annotations

from typing import Any

import onnx
from torch import fx

from prune_core.errors import InputError
from prune_core.files.onnx_read import first_line
from prune_core.model.converters import register
from prune_core.model.onnx2torch_import import load_onnx2torch

WAY_OUT = (
    "export it with an older opset, or by torch's other exporter (torch.onnx.export(..., dynamo=False, "
    "opset_version=17), or dynamo=True), or without it"
)
# Operators of networks in whole numbers; those with constants alone are worked out before.
QUANTISED = frozenset((
    "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul",
    "ConvInteger", "MatMulInteger",
))  # fmt: skip


def to_torch(model: onnx.ModelProto, name: str) -> fx.GraphModule:
    """A ``normalized`` model as a torch graph. Raises InputError that names the operator at fault."""
    onnx2torch = load_onnx2torch()
    register()
    try:
        graph: fx.GraphModule = onnx2torch.convert(model)
        return graph
    except Exception as error:  # a hostile or odd graph can make the converter fail in any way
        raise InputError(f"{name}: {_said(model, error)}") from None


def _said(model: onnx.ModelProto, error: Exception) -> str:
    node = _at_fault(model)
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
    if node is None:
        return f"the network cannot be read: {type(error).__name__}: {first_line(error)}"
    operator, why = node
    if operator in QUANTISED:
        return f"operator {operator}: the network is quantised; give the one from before, which holds floats"
    if "Converter is not implemented" in str(why):
        return f"operator {operator} of opset {opset} is not supported; {WAY_OUT}"
    if isinstance(why, NotImplementedError):
        return f"operator {operator} of opset {opset} is not supported with {first_line(why)}; {WAY_OUT}"
    if "bfloat16" in str(why):
        return f"operator {operator} holds bfloat16; export the network in float32 (net.float())"
    return f"operator {operator} cannot be read: {type(why).__name__}: {first_line(why)}"


def _at_fault(model: onnx.ModelProto) -> tuple[str, Exception] | None:
    """The first operator whose converter fails, and how."""
    from onnx2torch.node_converters.registry import get_converter
    from onnx2torch.onnx_graph import OnnxGraph
    from onnx2torch.utils.safe_shape_inference import safe_shape_inference

    try:
        graph: Any = OnnxGraph(safe_shape_inference(model).graph)
        opsets = {o.domain: o.version for o in model.opset_import}
    except Exception:
        return None
    for node in graph.nodes.values():
        operator = first_line(ValueError(node.operation_type))
        try:
            converter = get_converter(
                domain=node.domain, operation_type=node.operation_type, version=opsets[node.domain]
            )
            converter(node, graph)
        except Exception as error:
            return operator, error
    return None
