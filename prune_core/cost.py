"""What a network costs: numbers it holds, multiplications with them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx

from prune_core.channel_flow import BATCH, constants_of, read_flow


def multiply_adds(proto: onnx.ModelProto, shape: Sequence[int]) -> int:
    """Multiplications with a weight for one image: convolutions and dense layers."""
    flow = read_flow(proto, shape)
    total = 0
    for node in proto.graph.node:
        if node.op_type not in ("Conv", "Gemm", "MatMul") or len(node.input) < 2:
            continue
        weight, out = flow.constants.get(node.input[1]), flow.shapes.get(node.output[0])
        if weight is None or out is None:
            continue
        size = math.prod(out) // BATCH
        if node.op_type == "Conv":
            total += size * int(np.prod(weight.shape[1:]))
        else:
            total += size * weight.size // out[-1]
    return total


def parameters(proto: onnx.ModelProto) -> int:
    """Numbers in the floating-point constants of a model."""
    return sum(a.size for a in constants_of(proto.graph).values() if a.dtype.kind == "f")
