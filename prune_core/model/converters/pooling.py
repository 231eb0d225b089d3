"""Pools and convolutions with padding of one side or of sizes that follow from the image's
(``auto_pad``), and GlobalMaxPool."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from onnx2torch.utils.common import OnnxMapping, OperationConverterResult
from torch import nn

from prune_core.model.converters.registry import converts, images, of_first_input, pair, registered

SAME = ("SAME_UPPER", "SAME_LOWER")


class SamePad(nn.Module):
    """Padding with which a window of a stride gives ceil(size / stride) values."""

    def __init__(
        self,
        window: tuple[int, int],
        stride: tuple[int, int],
        dilation: tuple[int, int],
        lower: bool,
        fill: float,
    ) -> None:
        super().__init__()
        self.window, self.stride, self.dilation, self.lower, self.fill = window, stride, dilation, lower, fill

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pads: list[int] = []
        for axis in (1, 0):
            size, stride = x.shape[2 + axis], self.stride[axis]
            reach = (self.window[axis] - 1) * self.dilation[axis] + 1
            both = max((-(-size // stride) - 1) * stride + reach - size, 0)
            less, more = both // 2, both - both // 2
            pads += [more, less] if self.lower else [less, more]
        return F.pad(x, pads, value=self.fill)


class MeanPool(nn.Module):
    """An average over what lies within the image: padding of any side is left out of it, or counted as
    zeros. ``ceil``: windows may reach beyond the padding, which is never counted."""

    def __init__(
        self,
        window: tuple[int, int],
        stride: tuple[int, int],
        pad: nn.Module,
        ceil: bool,
        counts_padding: bool,
        behind: tuple[int, int] = (0, 0),
    ) -> None:
        """``behind``: how much of the padding lies below, and to the right."""
        super().__init__()
        self.window, self.stride, self.pad = window, stride, pad
        self.ceil, self.counts_padding, self.behind = ceil, counts_padding, behind

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        ones = torch.ones((1, 1, *x.shape[2:]), dtype=x.dtype, device=x.device)
        x = self.pad(x)
        counted = torch.ones_like(self.pad(ones)) if self.counts_padding else self.pad(ones)
        return self._sums(x) / self._sums(counted)

    def _sums(self, x: torch.Tensor) -> torch.Tensor:
        size = self.window[0] * self.window[1]
        if self.ceil:  # a window that would start in the padding behind the image is left out
            x = F.pad(x, [0, self._beyond(x, 1), 0, self._beyond(x, 0)])
        return F.avg_pool2d(x, self.window, self.stride) * size

    def _beyond(self, x: torch.Tensor, axis: int) -> int:
        size, stride, window = x.shape[2 + axis], self.stride[axis], self.window[axis]
        steps = -(-(size - window) // stride)
        if steps * stride >= size - self.behind[axis]:
            steps -= 1
        return max(steps * stride + window - size, 0)


def _pad(node: Any, fill: float) -> tuple[nn.Module | None, bool]:
    """The padding of a node as a module of its own, and whether the node needs one."""
    info = node.attributes
    pads = info.get("pads") or [0, 0, 0, 0]
    auto = info.get("auto_pad", "NOTSET")
    if auto in SAME:
        window, stride = pair(info.get("kernel_shape"), 1), pair(info.get("strides"), 1)
        dilation = pair(info.get("dilations"), 1)
        return SamePad(window, stride, dilation, auto == "SAME_LOWER", fill), True
    if auto == "VALID":
        pads = [0, 0, 0, 0]
    if len(pads) != 4:
        raise NotImplementedError(f"{len(pads)} numbers of padding where images have 4")
    module = nn.ConstantPad2d((pads[1], pads[3], pads[0], pads[2]), fill)
    return module, pads[:2] != pads[2:]


_average = registered("AveragePool", 11)
_maximum = registered("MaxPool", 12)
_conv = registered("Conv", 11)


@converts("AveragePool", 7, 10, 11, 19, 22)
def average_pool(node: Any, graph: Any) -> OperationConverterResult:
    info = node.attributes
    if any(d != 1 for d in info.get("dilations") or ()):
        raise NotImplementedError("dilations other than 1")
    if len(info["kernel_shape"]) != 2 and not info.get("ceil_mode", 0) and info.get("auto_pad") not in SAME:
        return _average(node, graph)
    images(node, graph)
    pad, own = _pad(node, 0.0)
    if not own and not info.get("ceil_mode", 0):
        return _average(node, graph)
    window, stride = pair(info["kernel_shape"], 1), pair(info.get("strides"), 1)
    ceil, counts = bool(info.get("ceil_mode", 0)), bool(info.get("count_include_pad", 0))
    assert pad is not None
    behind = (pad.padding[3], pad.padding[1]) if isinstance(pad, nn.ConstantPad2d) else (0, 0)
    return of_first_input(MeanPool(window, stride, pad, ceil, counts, behind), node)


@converts("MaxPool", 1, 8, 10, 11, 12, 22)
def max_pool(node: Any, graph: Any) -> OperationConverterResult:
    info = node.attributes
    if len([value for value in node.output_values if value]) > 1:
        raise NotImplementedError("indices as an output")
    if info.get("auto_pad", "NOTSET") not in SAME:
        return _maximum(node, graph)
    images(node, graph)
    pad, _ = _pad(node, -torch.inf)
    window, stride = pair(info["kernel_shape"], 1), pair(info.get("strides"), 1)
    assert pad is not None
    pool = nn.MaxPool2d(window, stride, dilation=pair(info.get("dilations"), 1))
    return of_first_input(nn.Sequential(pad, pool), node)


class _Fixed:
    """A node without its ``auto_pad``."""

    def __init__(self, node: Any) -> None:
        self.input_values, self.output_values = node.input_values, node.output_values
        self.operation_type = node.operation_type
        self.attributes = {k: v for k, v in node.attributes.items() if k not in ("auto_pad", "pads")}


@converts("Conv", 1, 11, 22)
def conv(node: Any, graph: Any) -> OperationConverterResult:
    for position, name in enumerate(node.input_values[1:], 2):
        if name and name not in graph.initializers:
            raise NotImplementedError(f"its input {position} is not constant")
    if not node.input_values[-1]:  # a bias that is left out by an empty name
        node = _Without(node)
    if node.attributes.get("auto_pad", "NOTSET") not in SAME:
        return _conv(node, graph)
    kernel = graph.initializers[node.input_values[1]].to_torch()
    info = node.attributes
    stride, dilation = pair(info.get("strides"), 1), pair(info.get("dilations"), 1)
    lower = info["auto_pad"] == "SAME_LOWER"
    window = pair(info.get("kernel_shape") or kernel.shape[2:], 1)
    made = _conv(_Fixed(node), graph).torch_module
    module = nn.Sequential(SamePad(window, stride, dilation, lower, 0.0), made)
    return OperationConverterResult(module, OnnxMapping((node.input_values[0],), node.output_values))


class _Without:
    """A node without its last input, which is empty."""

    def __init__(self, node: Any) -> None:
        self.input_values, self.output_values = node.input_values[:-1], node.output_values
        self.operation_type, self.attributes = node.operation_type, node.attributes


@converts("GlobalMaxPool", 1, 22)
def global_max_pool(node: Any, graph: Any) -> OperationConverterResult:
    images(node, graph)
    return of_first_input(nn.AdaptiveMaxPool2d(1), node)
