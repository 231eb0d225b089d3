"""Operators of which onnx2torch makes something else than ONNX says: an attribute with another default,
or one that it does not look at."""

from __future__ import annotations

from typing import Any

import torch
from onnx2torch.node_converters.pad import OnnxPadStatic
from onnx2torch.utils.common import OperationConverterResult, onnx_mapping_from_node
from torch import nn

from prune_core.model.converters.registry import constant, converts, numbers, of_first_input, registered

_conv_transpose = registered("ConvTranspose", 11)


class Sums(nn.Module):
    """Running sums along an axis; ``reverse``: from its end; ``exclusive``: without the value itself."""

    def __init__(self, axis: int, reverse: bool, exclusive: bool) -> None:
        super().__init__()
        self.axis, self.reverse, self.exclusive = axis, reverse, exclusive

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        given = x.flip(self.axis) if self.reverse else x
        sums = given.cumsum(self.axis)
        if self.exclusive:
            sums = sums - given
        return sums.flip(self.axis) if self.reverse else sums


@converts("CumSum", 11, 14)
def running_sum(node: Any, graph: Any) -> OperationConverterResult:
    axis = constant(node, graph, 1)
    if axis is None or axis.numel() != 1:
        raise NotImplementedError("an axis that is not one number")
    info = node.attributes
    return of_first_input(
        Sums(numbers(axis)[0], bool(info.get("reverse", 0)), bool(info.get("exclusive", 0))), node
    )


class IsInfinite(nn.Module):
    """Whether a number is infinite, of the signs asked for."""

    def __init__(self, negative: bool, positive: bool) -> None:
        super().__init__()
        self.negative, self.positive = negative, positive

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = torch.isinf(x)
        if not self.negative:
            found = found & (x > 0)
        return found if self.positive else found & (x < 0)


@converts("IsInf", 10, 20)
def is_infinite(node: Any, graph: Any) -> OperationConverterResult:
    info = node.attributes
    module = IsInfinite(bool(info.get("detect_negative", 1)), bool(info.get("detect_positive", 1)))
    return of_first_input(module, node)


class NonZero(nn.Module):
    """(axes, found): where numbers are not 0."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nonzero(x).T


@converts("NonZero", 9, 13)
def non_zero(node: Any, graph: Any) -> OperationConverterResult:
    return of_first_input(NonZero(), node)


@converts("ConvTranspose", 1, 11, 22)
def conv_transpose(node: Any, graph: Any) -> OperationConverterResult:
    if node.attributes.get("output_shape"):
        raise NotImplementedError("output_shape in place of pads")
    if node.attributes.get("auto_pad", "NOTSET") in ("SAME_UPPER", "SAME_LOWER"):
        raise NotImplementedError(f"auto_pad={node.attributes['auto_pad']!r}")
    return _conv_transpose(node, graph)


@converts("Pad", 2)
def pad_by_attributes(node: Any, graph: Any) -> OperationConverterResult:
    info = node.attributes
    module = OnnxPadStatic.create_from_onnx_params(
        onnx_pads=info["pads"], onnx_mode=info.get("mode", "constant"), constant_value=info.get("value", 0.0)
    )
    return of_first_input(module, node)


_responses = {version: registered("LRN", version) for version in (1, 13)}


def _odd_responses(version: int) -> Any:
    def responses(node: Any, graph: Any) -> OperationConverterResult:
        if node.attributes["size"] % 2 == 0:  # torch takes one more channel before, ONNX behind
            raise NotImplementedError("an even size")
        return _responses[version](node, graph)

    return responses


for _version in _responses:
    converts("LRN", _version)(_odd_responses(_version))


class Triangle(nn.Module):
    """The upper or lower triangle of the last two axes, from a diagonal on."""

    def __init__(self, upper: bool, diagonal: int) -> None:
        super().__init__()
        self.upper, self.diagonal = upper, diagonal

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.triu(x, self.diagonal) if self.upper else torch.tril(x, self.diagonal)


@converts("Trilu", 14)
def triangle(node: Any, graph: Any) -> OperationConverterResult:
    diagonal = constant(node, graph, 1)
    at = 0 if diagonal is None else numbers(diagonal)[0]
    return of_first_input(Triangle(bool(node.attributes.get("upper", 1)), at), node)


class Slices(nn.Module):
    """Parts of axes, (axis, start, end, step) each; backwards too."""

    def __init__(self, parts: list[tuple[int, int, int, int]]) -> None:
        super().__init__()
        self.parts = parts

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for axis, start, end, step in self.parts:
            places = range(x.shape[axis])[start:end:step]
            if step > 0:
                x = x.narrow(axis, places.start, max(places.stop - places.start, 0))
                if step > 1:
                    x = x[(slice(None),) * (axis % x.ndim) + (slice(None, None, step),)]
            else:
                x = x.index_select(axis, torch.tensor(list(places), dtype=torch.int64, device=x.device))
        return x


class SlicesAsTold(nn.Module):
    """``Slices`` whose places are computed."""

    def forward(
        self,
        x: torch.Tensor,
        starts: torch.Tensor,
        ends: torch.Tensor,
        axes: torch.Tensor | None = None,
        steps: torch.Tensor | None = None,
    ) -> torch.Tensor:
        return Slices(_parts(*(None if t is None else numbers(t) for t in (starts, ends, axes, steps))))(x)


def _parts(
    starts: list[int] | None, ends: list[int] | None, axes: list[int] | None, steps: list[int] | None
) -> list[tuple[int, int, int, int]]:
    starts, ends = starts or [], ends or []
    along, by = axes or list(range(len(starts))), steps or [1] * len(starts)
    if not len(starts) == len(ends) == len(along) == len(by) or 0 in by:
        raise NotImplementedError("starts, ends, axes and steps that do not fit")
    return list(zip(along, starts, ends, by, strict=True))


@converts("Slice", 1)
def slice_by_attributes(node: Any, graph: Any) -> OperationConverterResult:
    info = node.attributes
    return of_first_input(Slices(_parts(info["starts"], info["ends"], info.get("axes"), None)), node)


@converts("Slice", 10, 11, 13)
def slice_of(node: Any, graph: Any) -> OperationConverterResult:
    names = [name for name in node.input_values[1:] if name]
    if any(name not in graph.initializers for name in names):
        return OperationConverterResult(SlicesAsTold(), onnx_mapping_from_node(node))
    told = [constant(node, graph, place) for place in (1, 2, 3, 4)]
    parts = _parts(*(None if t is None else numbers(t) for t in told))
    return of_first_input(Slices(parts), node)
