"""Gelu, Mish, Swish, HardSigmoid's kin, and Clip with one bound."""

from __future__ import annotations

from typing import Any

from onnx2torch.node_converters.clip import OnnxClip
from onnx2torch.utils.common import OperationConverterResult
from torch import nn

from prune_core.model.converters.registry import constant, converts, of_first_input


@converts("Gelu", 20)
def gelu(node: Any, graph: Any) -> OperationConverterResult:
    kind = node.attributes.get("approximate", "none")
    if kind not in ("none", "tanh"):
        raise NotImplementedError(f"approximate={kind!r}")
    return of_first_input(nn.GELU(approximate=kind), node)


@converts("Mish", 18, 22)
def mish(node: Any, graph: Any) -> OperationConverterResult:
    return of_first_input(nn.Mish(), node)


@converts("Swish", 24)
def swish(node: Any, graph: Any) -> OperationConverterResult:
    if (alpha := node.attributes.get("alpha", 1.0)) != 1.0:
        raise NotImplementedError(f"alpha={alpha:g}, other than 1")
    return of_first_input(nn.SiLU(), node)


@converts("Clip", 11, 12, 13)
def clip(node: Any, graph: Any) -> OperationConverterResult:
    low, high = (constant(node, graph, position) for position in (1, 2))
    if any(bound is not None and bound.numel() != 1 for bound in (low, high)):
        raise NotImplementedError("a bound that is not one number")
    least, most = (None if bound is None else bound.item() for bound in (low, high))
    if least is None and most is None:
        return of_first_input(nn.Identity(), node)
    if least == 0 and most is None:
        return of_first_input(nn.ReLU(), node)
    if least == 0 and most == 6:
        return of_first_input(nn.ReLU6(), node)
    return of_first_input(OnnxClip(min_val=least, max_val=most), node)
