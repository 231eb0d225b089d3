"""Reshape with allowzero, Split by a number of parts, Pad of some axes, Squeeze, PRelu of images."""

from __future__ import annotations

from typing import Any

import torch
from onnx2torch.node_converters.pad import OnnxPadStatic
from onnx2torch.node_converters.squeeze import OnnxSqueezeStaticAxes
from onnx2torch.utils.common import OperationConverterResult, onnx_mapping_from_node
from torch import nn

from prune_core.model.converters.registry import (
    constant,
    converts,
    numbers,
    of_first_input,
    rank_of,
    registered,
)

_reshape = registered("Reshape", 14)
_split = registered("Split", 13)
_pad = registered("Pad", 13)


class OnnxReshape(nn.Module):
    """To sizes that are computed; a 0 among them is one (``allowzero``). Named as onnx2torch's own, so
    that it is known to only move numbers."""

    def forward(self, x: torch.Tensor, shape: torch.Tensor) -> torch.Tensor:
        return torch.reshape(x, tuple(numbers(shape)))


@converts("Reshape", 14, 19, 21, 23, 24, 25)
def reshape(node: Any, graph: Any) -> OperationConverterResult:
    if not node.attributes.get("allowzero", 0):
        return _reshape(node, graph)
    return OperationConverterResult(OnnxReshape(), onnx_mapping_from_node(node))


class EqualParts(nn.Module):
    """Cut along an axis into parts of one size, the last of what is left."""

    def __init__(self, parts: int, axis: int) -> None:
        super().__init__()
        self.parts, self.axis = parts, axis

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return torch.split(x, -(-x.shape[self.axis] // self.parts), dim=self.axis)


@converts("Split", 18)
def split(node: Any, graph: Any) -> OperationConverterResult:
    if len(node.input_values) > 1 and node.input_values[1]:
        return _split(node, graph)
    parts = node.attributes.get("num_outputs", len(node.output_values))
    if parts != len(node.output_values):
        raise NotImplementedError(f"num_outputs={parts} with {len(node.output_values)} outputs")
    return of_first_input(EqualParts(parts, node.attributes.get("axis", 0)), node)


@converts("Pad", 11, 13, 18, 19, 21, 23, 24, 25)
def pad(node: Any, graph: Any) -> OperationConverterResult:
    amounts, fill, axes = (constant(node, graph, position) for position in (1, 2, 3))
    rank = rank_of(node, graph)
    along = list(range(rank)) if axes is None else [a % rank for a in numbers(axes)]
    given = [] if amounts is None else numbers(amounts)
    if len(given) != 2 * len(along):
        raise NotImplementedError(f"{len(given)} numbers of padding for {len(along)} axes")
    pads = [0] * (2 * rank)
    for place, axis in enumerate(along):
        pads[axis], pads[rank + axis] = given[place], given[len(along) + place]
    if node.attributes.get("mode", "constant") == "wrap":
        if rank != 4 or any(pads[:2] + pads[4:6]):
            raise NotImplementedError("mode='wrap' and other axes than height and width")
        return of_first_input(Around((pads[3], pads[7], pads[2], pads[6])), node)
    module = OnnxPadStatic.create_from_onnx_params(
        onnx_pads=pads,
        onnx_mode=node.attributes.get("mode", "constant"),
        constant_value=0.0 if fill is None else fill.item(),
    )
    return of_first_input(module, node)


class Around(nn.Module):
    """Images continued by their other end. ``pads``: left, right, above, below."""

    def __init__(self, pads: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.pads = pads

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.pad(x, self.pads, mode="circular")


@converts("Squeeze", 11, 13, 21, 23, 24, 25)
def squeeze(node: Any, graph: Any) -> OperationConverterResult:
    axes = node.attributes.get("axes") or constant(node, graph, 1)
    rank = rank_of(node, graph)
    if axes is None:  # all of size 1, but for the images: there may be any number of them
        sizes = [dim.dim_value for dim in graph.value_info[node.input_values[0]].type.tensor_type.shape.dim]
        if 0 in sizes[1:]:
            raise NotImplementedError("no axes, and sizes of its input that are not known")
        along = [axis for axis in range(1, rank) if sizes[axis] == 1]
    else:
        along = [a % rank for a in (axes if isinstance(axes, list) else numbers(axes))]
    return of_first_input(OnnxSqueezeStaticAxes(along) if along else nn.Identity(), node)


class Slopes(nn.Module):
    """PRelu, its slopes broadcast as ONNX has it."""

    def forward(self, x: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
        return torch.where(x < 0, x * slope, x)


@converts("PRelu", 7, 9, 16)
def prelu(node: Any, graph: Any) -> OperationConverterResult:
    slope = constant(node, graph, 1)
    rank = rank_of(node, graph)
    per_channel = slope is not None and slope.dim() == rank - 1 and slope.numel() == slope.shape[0]
    if slope is not None and (slope.numel() == 1 or per_channel):
        module = nn.PReLU(slope.numel())
        module.weight.data = slope.flatten()
        return of_first_input(module, node)
    return OperationConverterResult(Slopes(), onnx_mapping_from_node(node))
