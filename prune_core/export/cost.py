"""What a network costs: numbers it holds, multiplications with them, time."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy as np
import onnx
import torch

from prune_core.compaction.flow import BATCH, constants_of, read_flow
from prune_core.model.model import PrunableModel


def multiply_adds(proto: onnx.ModelProto, shape: Sequence[int]) -> int:
    """Multiplications with a weight for one image of ``shape`` (as the input has it, without the
    batch): convolutions and dense layers."""
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


def latencies(
    models: Sequence[PrunableModel], shape: tuple[int, int, int], batch: int, seconds: float = 1.0
) -> list[float]:
    """Median milliseconds for a batch of black images of (C, H, W), in torch on the model's device.

    The models take turns, so that what else the machine does falls on all of them alike; each gets
    at least 5 turns and about ``seconds``.
    """
    taken: list[list[float]] = [[] for _ in models]
    images = [torch.zeros((batch, *shape), device=model.device) for model in models]
    for model, given in zip(models, images, strict=True):
        model.logits(given)
    ends = time.monotonic() + seconds * len(models)
    while len(taken[-1]) < 5 or time.monotonic() < ends:
        for model, given, times in zip(models, images, taken, strict=True):
            started = time.perf_counter()
            model.logits(given)
            if given.is_cuda:
                torch.cuda.synchronize()
            times.append(1000 * (time.perf_counter() - started))
    return [float(np.median(times)) for times in taken]
