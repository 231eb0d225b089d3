"""Keras layers that slide a window over an image, or put zeros around it, as ONNX nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from prune_core.keras_files.activations import add_activation
from prune_core.keras_files.config import Layer
from prune_core.keras_files.onnx_builder import OnnxBuilder, Tensor

_MAX_FILTERS = 2**20
Take = Callable[[str, tuple[int, ...]], np.ndarray]
"""`take(name, shape)`: the layer's next weight, float32, checked to have that shape."""


@dataclass(frozen=True)
class Call:
    """What a layer is built from.

    :ivar channels_last: axis order of images in the file.
    :ivar keras_2: the file is of Keras 2, where a few functions are others.
    """

    graph: OnnxBuilder
    layer: Layer
    inputs: Sequence[Tensor]
    take: Take
    channels_last: bool
    keras_2: bool = False

    @property
    def input(self) -> Tensor:
        """The only input; layers that merge take `inputs`."""
        if len(self.inputs) != 1:
            self.layer.refuse(f"it has {len(self.inputs)} inputs, not one")
        return self.inputs[0]

    def image(self) -> Tensor:
        """The only input, which has to have height and width."""
        if not self.input.is_image:
            self.layer.refuse(f"its input has shape {self.input.shape}, an image is needed")
        return self.input

    def onnx_axis(self, tensor: Tensor, default: int = -1) -> int:
        """The field `axis`, as an axis of the channels-first tensor."""
        axis = self.layer.axis(len(tensor.shape) + 1, default)
        return (0, 2, 3, 1)[axis] if tensor.is_image and self.channels_last else axis


def _same_pads(size: int, window: int, stride: int) -> tuple[int, int]:
    """Zeros that TensorFlow's 'same' puts before and after an axis; an odd one goes after."""
    total = max((-(-size // stride) - 1) * stride + window - size, 0)
    return total // 2, total - total // 2


@dataclass(frozen=True)
class _Sliding:
    """A window that slides over height and width. Each field is (height, width).

    :ivar pads: (top, left, bottom, right), ONNX's order.
    """

    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[int, int, int, int]
    out: tuple[int, int]

    @property
    def symmetric(self) -> bool:
        return self.pads[:2] == self.pads[2:]


def _sliding(
    layer: Layer,
    image: Tensor,
    kernel: tuple[int, int],
    strides: tuple[int, int],
    dilations: tuple[int, int] = (1, 1),
) -> _Sliding:
    window = [(size - 1) * dilation + 1 for size, dilation in zip(kernel, dilations, strict=True)]
    sizes = image.shape[1:]
    before, after = (0, 0), (0, 0)
    if layer.choice("padding", "valid", ("valid", "same")) == "same":
        pads = [_same_pads(*axis) for axis in zip(sizes, window, strides, strict=True)]
        before, after = (pads[0][0], pads[1][0]), (pads[0][1], pads[1][1])
    out = [
        (sizes[i] + before[i] + after[i] - window[i]) // strides[i] + 1
        for i in range(2)
    ]  # fmt: skip
    if min(out) < 1:
        layer.refuse(f"a window of {window} does not fit its input of {list(sizes)}")
    return _Sliding(kernel, strides, dilations, before + after, (out[0], out[1]))


def _pad(graph: OnnxBuilder, name: str, image: Tensor, pads: Sequence[int]) -> Tensor:
    """Zeros around an image; `pads` is (top, left, bottom, right)."""
    top, left, bottom, right = pads
    channels, height, width = image.shape
    amounts = np.array([0, 0, top, left, 0, 0, bottom, right], dtype=np.int64)
    shape = (channels, height + top + bottom, width + left + right)
    return graph.node("Pad", name, [image.value, graph.constant(f"{name}/pads", amounts)], shape)


def _convolution(
    call: Call,
    window: _Sliding,
    kernel: np.ndarray,
    bias: np.ndarray | None,
    groups: int,
    weight: str = "kernel",
) -> Tensor:
    """A Conv node named as the layer, and its activation."""
    out = _conv_node(call, call.layer.name, call.image(), window, kernel, bias, groups, weight)
    return add_activation(call.graph, call.layer, out, call.channels_last, keras_2=call.keras_2)


def _conv_node(
    call: Call,
    name: str,
    image: Tensor,
    window: _Sliding,
    kernel: np.ndarray,
    bias: np.ndarray | None,
    groups: int,
    weight: str,
) -> Tensor:
    """A Conv node, `kernel` (out, in / groups, kh, kw); `weight`: how the layer calls it."""
    graph, layer = call.graph, call.layer
    pads = window.pads
    if not window.symmetric:
        # A node of its own: within the Conv, onnx2torch would hide the convolution in a Sequential.
        image, pads = _pad(graph, f"{name}/pad", image, pads), (0, 0, 0, 0)
    inputs = [image.value, graph.constant(f"{layer.name}/{weight}", kernel)]
    if bias is not None:
        inputs.append(graph.constant(f"{layer.name}/bias", bias))
    return graph.node(
        "Conv", name, inputs, (len(kernel), *window.out),
        kernel_shape=window.kernel, strides=window.strides, dilations=window.dilations,
        pads=pads, group=groups,
    )  # fmt: skip


def conv2d(call: Call) -> Tensor:
    """Conv2D, with its activation."""
    layer, image = call.layer, call.image()
    size = layer.pair("kernel_size")
    filters, groups = layer.integer("filters"), layer.integer("groups", 1)
    channels = image.shape[0]
    if channels % groups or filters % groups:
        layer.refuse(f"{groups} groups do not divide {channels} channels into {filters} filters")
    window = _sliding(layer, image, size, layer.pair("strides", (1, 1)), layer.pair("dilation_rate", (1, 1)))
    kernel = call.take("kernel", (*size, channels // groups, filters))
    bias = call.take("bias", (filters,)) if layer.flag("use_bias", True) else None
    return _convolution(call, window, kernel.transpose(3, 2, 0, 1), bias, groups)


def depthwise(call: Call) -> Tensor:
    """DepthwiseConv2D: filters of input channel c stand next to each other, from c * multiplier."""
    layer, image = call.layer, call.image()
    window, kernel = _depthwise_kernel(call)
    bias = call.take("bias", (len(kernel),)) if layer.flag("use_bias", True) else None
    return _convolution(call, window, kernel, bias, image.shape[0], "depthwise_kernel")


def separable(call: Call) -> Tensor:
    """SeparableConv2D: a depthwise convolution, `<layer>/depthwise`, and one of 1 x 1 behind it."""
    layer, image = call.layer, call.image()
    filters = layer.integer("filters")
    window, kernel = _depthwise_kernel(call)
    weights = call.take("pointwise_kernel", (1, 1, len(kernel), filters))
    bias = call.take("bias", (filters,)) if layer.flag("use_bias", True) else None
    first = _conv_node(
        call, f"{layer.name}/depthwise", image, window, kernel, None, image.shape[0], "depthwise_kernel"
    )
    one = _Sliding((1, 1), (1, 1), (1, 1), (0, 0, 0, 0), window.out)
    out = _conv_node(call, layer.name, first, one, weights.transpose(3, 2, 0, 1), bias, 1, "pointwise_kernel")
    return add_activation(call.graph, layer, out, call.channels_last, keras_2=call.keras_2)


def _depthwise_kernel(call: Call) -> tuple[_Sliding, np.ndarray]:
    """Where it slides, and its kernel (filters, 1, kh, kw)."""
    layer, image = call.layer, call.image()
    size, channels = layer.pair("kernel_size"), image.shape[0]
    filters = channels * layer.integer("depth_multiplier", 1)
    if filters > _MAX_FILTERS:
        layer.refuse(f"{filters} filters; at most {_MAX_FILTERS}")
    window = _sliding(layer, image, size, layer.pair("strides", (1, 1)), layer.pair("dilation_rate", (1, 1)))
    kernel = call.take("depthwise_kernel", (*size, channels, filters // channels))
    return window, kernel.transpose(2, 3, 0, 1).reshape(filters, 1, *size)


def max_pooling(call: Call) -> Tensor:
    """MaxPooling2D."""
    layer, image = call.layer, call.image()
    size = layer.pair("pool_size", (2, 2))
    window = _sliding(layer, image, size, layer.pair("strides", size))
    # Padded places never win: runtimes pad a maximum with minus infinity.
    return call.graph.node(
        "MaxPool", layer.name, [image.value], (image.shape[0], *window.out),
        kernel_shape=size, strides=window.strides, pads=window.pads,
    )  # fmt: skip


def average_pooling(call: Call) -> Tensor:
    """AveragePooling2D; places of the padding do not count."""
    graph, layer, image = call.graph, call.layer, call.image()
    size = layer.pair("pool_size", (2, 2))
    window = _sliding(layer, image, size, layer.pair("strides", size))
    fields = {"kernel_shape": size, "strides": window.strides}
    shape = (image.shape[0], *window.out)
    if window.symmetric:
        return graph.node("AveragePool", layer.name, [image.value], shape, pads=window.pads, **fields)
    # onnx2torch knows no one-sided padding here: average over explicit zeros as well, then scale
    # by (window size) / (places in the image), which leaves the padding out of the count.
    padded = _pad(graph, f"{layer.name}/pad", image, window.pads)
    mean = graph.node("AveragePool", layer.name, [padded.value], shape, **fields)
    counts = [
        _places(image.shape[1 + i], size[i], window.strides[i], window.pads[i], window.out[i])
        for i in range(2)
    ]
    scale = size[0] * size[1] / np.outer(counts[0], counts[1])
    weights = graph.constant(f"{layer.name}/scale", scale[None, None].astype(np.float32))
    return graph.node("Mul", f"{layer.name}/edges", [mean.value, weights], shape)


def _places(size: int, window: int, stride: int, before: int, out: int) -> np.ndarray:
    """How many places of each of `out` windows along an axis lie within the image."""
    start = np.arange(out) * stride - before
    return np.minimum(start + window, size) - np.maximum(start, 0)


def zero_padding(call: Call) -> Tensor:
    """ZeroPadding2D."""
    layer, image = call.layer, call.image()
    (top, bottom), (left, right) = sides(layer, "padding")
    return _pad(call.graph, layer.name, image, (top, left, bottom, right))


def sides(layer: Layer, key: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """A field `((top, bottom), (left, right))`."""
    amounts: Any = layer.config.get(key)
    try:
        (top, bottom), (left, right) = amounts
        fits = all(type(amount) is int and 0 <= amount < 2**31 for amount in (top, bottom, left, right))
    except (TypeError, ValueError):
        fits = False
    if not fits:
        layer.refuse(f"{key} should be [[top, bottom], [left, right]], not {amounts!r}")
    return (top, bottom), (left, right)
