"""Each Keras layer as ONNX nodes, channels first, without a Transpose."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from prune_core.keras_files.activations import add_activation, add_activation_layer
from prune_core.keras_files.config import WAY_OUT, is_count
from prune_core.keras_files.norms import (
    batch_normalization,
    group_normalization,
    layer_normalization,
    normalization,
    prelu,
    rescaling,
    to_onnx_order,
)
from prune_core.keras_files.onnx_builder import Tensor
from prune_core.keras_files.windows import (
    Call,
    average_pooling,
    conv2d,
    depthwise,
    max_pooling,
    separable,
    sides,
    zero_padding,
)


def _global_pooling(call: Call) -> Tensor:
    layer, image = call.layer, call.image()
    channels = image.shape[0]
    op = "GlobalAveragePool" if "Average" in layer.class_name else "GlobalMaxPool"
    out = call.graph.node(op, layer.name, [image.value], (channels, 1, 1))
    if layer.flag("keepdims", False):
        return out
    return call.graph.node("Flatten", f"{layer.name}/flatten", [out.value], (channels,), axis=1)


def _flatten(call: Call) -> Tensor:
    # Keras moves the first axis to the end here, so that both formats flatten alike.
    moves = call.layer.choice("data_format", "channels_last", ("channels_last", "channels_first"))
    return _flattened(call, call.channels_last, moves == "channels_first")


def _flattened(call: Call, channels_last: bool, first_axis_moves: bool = False) -> Tensor:
    layer, tensor = call.layer, call.input
    if not tensor.is_image:
        return tensor
    features = int(np.prod(tensor.shape))
    out = call.graph.node("Flatten", layer.name, [tensor.value], (features,), axis=1)
    places = np.arange(features).reshape(tensor.shape)
    if channels_last:
        places = places.transpose(1, 2, 0)
    if first_axis_moves:
        places = places.transpose(1, 2, 0)
    return _vector(out, places.ravel())


def _vector(tensor: Tensor, order: np.ndarray) -> Tensor:
    agrees = np.array_equal(order, np.arange(len(order)))
    return Tensor(tensor.value, tensor.shape, None if agrees else order)


def _dense(call: Call) -> Tensor:
    graph, layer, tensor = call.graph, call.layer, call.input
    if tensor.is_image:
        layer.refuse(f"its input has shape {tensor.shape}; put a Flatten or a global pooling layer before it")
    units = layer.integer("units")
    kernel = to_onnx_order(tensor, call.take("kernel", (tensor.shape[0], units)))
    inputs = [tensor.value, graph.constant(f"{layer.name}/kernel", kernel)]
    if layer.flag("use_bias", True):
        inputs.append(graph.constant(f"{layer.name}/bias", call.take("bias", (units,))))
    out = graph.node("Gemm", layer.name, inputs, (units,))
    return add_activation(graph, layer, out, call.channels_last, keras_2=call.keras_2)


def _merge(call: Call) -> Tensor:
    """Add, Multiply and so on: of tensors of one shape, or of images some of whose sides are 1."""
    graph, layer = call.graph, call.layer
    total, *others = call.inputs
    if not others:
        layer.refuse("there is one input, nothing to add it to")
    op = _MERGING[layer.class_name]
    if layer.class_name == "Subtract" and len(others) != 1:
        layer.refuse(f"it has {len(call.inputs)} inputs, not two")
    for number, other in enumerate(others, 1):
        same_rank = len(total.shape) == len(other.shape)
        pairs = list(zip(total.shape, other.shape, strict=True)) if same_rank else []
        if not pairs or any(a != b and 1 not in (a, b) for a, b in pairs):
            layer.refuse(f"shapes {total.shape} and {other.shape} differ")
        if not _same_order(total, other):
            layer.refuse("it adds flattened images to features in another order; not supported")
        name = layer.name if number == len(others) else f"{layer.name}/{number}"
        out = graph.node(op, name, [total.value, other.value], [max(pair) for pair in pairs])
        total = Tensor(out.value, out.shape, total.order)
    if layer.class_name == "Average":
        count = graph.constant(f"{layer.name}/count", np.array(len(call.inputs), np.float32))
        out = graph.node("Div", f"{layer.name}/mean", [total.value, count], total.shape)
        total = Tensor(out.value, out.shape, total.order)
    return total


_MERGING = {
    "Add": "Add",
    "Subtract": "Sub",
    "Multiply": "Mul",
    "Average": "Add",
    "Maximum": "Max",
    "Minimum": "Min",
}


def _same_order(one: Tensor, other: Tensor) -> bool:
    if one.order is None or other.order is None:
        return one.order is other.order
    return np.array_equal(one.order, other.order)


def _concatenate(call: Call) -> Tensor:
    graph, layer, inputs = call.graph, call.layer, call.inputs
    shapes = [tensor.shape for tensor in inputs]
    axis = call.onnx_axis(inputs[0]) if len({len(shape) for shape in shapes}) == 1 else 0
    rest = {shape[: axis - 1] + shape[axis:] for shape in shapes} if axis else set()
    if len(rest) != 1:
        layer.refuse(f"shapes {shapes} cannot be joined")
    shape = list(shapes[0])
    shape[axis - 1] = sum(part[axis - 1] for part in shapes)
    out = graph.node("Concat", layer.name, [tensor.value for tensor in inputs], shape, axis=axis)
    if inputs[0].is_image:
        return out
    starts = np.cumsum([0] + [part[0] for part in shapes[:-1]])
    orders = [
        start + (np.arange(tensor.shape[0]) if tensor.order is None else tensor.order)
        for start, tensor in zip(starts, inputs, strict=True)
    ]
    return _vector(out, np.concatenate(orders))


def _reshape(call: Call) -> Tensor:
    layer, tensor = call.layer, call.input
    target: Any = layer.config.get("target_shape")
    size = math.prod(tensor.shape)
    if (
        not isinstance(target, list)
        or not all(is_count(t) or t == -1 for t in target)
        or target.count(-1) > 1
    ):
        layer.refuse(
            f"target_shape should be a list of sizes, one of them perhaps -1, not {str(target)[:80]}"
        )
    known = math.prod(t for t in target if t != -1)
    sizes = [size // known if t == -1 else t for t in target]
    if math.prod(sizes) != size:
        layer.refuse(f"{size} values of each image do not fit target_shape {target}")
    if len(sizes) == 1:
        return _flattened(call, call.channels_last)
    if len(sizes) != 3:
        layer.refuse(f"target_shape {target} is neither an image nor a vector; {WAY_OUT}")
    return _as_image(call, sizes)


def _as_image(call: Call, sizes: list[int]) -> Tensor:
    """Whatever comes, as an image of the sizes that the file gives, in its own order of axes."""
    graph, name, tensor = call.graph, call.layer.name, call.input
    height, width, channels = sizes if call.channels_last else (*sizes[1:], sizes[0])
    shape = (channels, height, width)
    value = tensor.value
    if tensor.is_image and call.channels_last and tensor.shape[1:] != (1, 1):
        last = (*tensor.shape[1:], tensor.shape[0])
        value = graph.node("Transpose", f"{name}/last", [value], last, perm=[0, 2, 3, 1]).value
    if tensor.order is not None:
        places = graph.constant(f"{name}/order", np.asarray(tensor.order, np.int64))
        value = graph.node("Gather", f"{name}/ordered", [value, places], tensor.shape, axis=1).value
    direct = not call.channels_last or (height, width) == (1, 1)
    target = graph.constant(f"{name}/shape", np.array([0, *(shape if direct else sizes)], np.int64))
    out = graph.node("Reshape", name, [value, target], shape if direct else sizes)
    if direct:
        return Tensor(out.value, shape)
    return graph.node("Transpose", f"{name}/first", [out.value], shape, perm=[0, 3, 1, 2])


def _up_sampling(call: Call) -> Tensor:
    layer, image = call.layer, call.image()
    rows, columns = layer.pair("size", (2, 2))
    how = layer.choice("interpolation", "nearest", ("nearest", "bilinear"))
    return _resized(call, (image.shape[1] * rows, image.shape[2] * columns), how)


def _resizing(call: Call) -> Tensor:
    layer = call.layer
    for key in ("crop_to_aspect_ratio", "pad_to_aspect_ratio", "antialias"):
        if layer.config.get(key) not in (None, False):
            layer.refuse(f"{key} is not supported; {WAY_OUT}")
    how = layer.choice("interpolation", "bilinear", ("nearest", "bilinear"))
    return _resized(call, (layer.integer("height"), layer.integer("width")), how)


def _resized(call: Call, size: tuple[int, int], how: str) -> Tensor:
    graph, layer, image = call.graph, call.layer, call.image()
    channels, height, width = image.shape
    if how == "nearest" and (size[0] % height or size[1] % width):
        layer.refuse(
            f"nearest from {(height, width)} to {size}, no whole multiple, is not supported; {WAY_OUT}"
        )
    scales = np.array([1, 1, size[0] / height, size[1] / width], np.float32)
    fields = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    if how == "nearest":
        fields = {
            "mode": "nearest",
            "coordinate_transformation_mode": "asymmetric",
            "nearest_mode": "floor",
        }
    inputs = [image.value, "", graph.constant(f"{layer.name}/scales", scales)]
    return graph.node("Resize", layer.name, inputs, (channels, *size), **fields)


def _cropping(call: Call) -> Tensor:
    graph, layer, image = call.graph, call.layer, call.image()
    (top, bottom), (left, right) = sides(layer, "cropping")
    channels, height, width = image.shape
    if top + bottom >= height or left + right >= width:
        layer.refuse(f"nothing is left of an image of {height} x {width}")
    parts = {"starts": [top, left], "ends": [height - bottom, width - right], "axes": [2, 3]}
    inputs = [graph.constant(f"{layer.name}/{key}", np.array(v, np.int64)) for key, v in parts.items()]
    shape = (channels, height - top - bottom, width - left - right)
    return graph.node("Slice", layer.name, [image.value, *inputs], shape)


def _activation(call: Call) -> Tensor:
    name = call.layer.name
    return add_activation(call.graph, call.layer, call.input, call.channels_last, name, call.keras_2)


def _activation_layer(call: Call) -> Tensor:
    return add_activation_layer(call.graph, call.layer, call.layer.name, call.input, call.channels_last)


def _identity(call: Call) -> Tensor:
    return call.input


AUGMENTING = (
    "RandomFlip", "RandomRotation", "RandomTranslation", "RandomZoom", "RandomShear", "RandomPerspective",
    "RandomContrast", "RandomBrightness", "RandomHue", "RandomSaturation", "RandomSharpness",
    "RandomGrayscale", "RandomColorJitter", "RandomColorDegeneration", "RandomPosterization",
    "RandomInvert", "RandomErasing", "RandomGaussianBlur", "RandomElasticTransform", "MixUp", "CutMix",
    "RandAugment", "AugMix",
)  # fmt: skip
"""Layers that change training images and, when a network is used, none."""

BUILDERS: dict[str, Callable[[Call], Tensor]] = {
    "Conv2D": conv2d,
    "DepthwiseConv2D": depthwise,
    "SeparableConv2D": separable,
    "BatchNormalization": batch_normalization,
    "LayerNormalization": layer_normalization,
    "GroupNormalization": group_normalization,
    "Normalization": normalization,
    "Rescaling": rescaling,
    "Dense": _dense,
    "Activation": _activation,
    "ReLU": _activation_layer,
    "LeakyReLU": _activation_layer,
    "ELU": _activation_layer,
    "PReLU": prelu,
    "Softmax": _activation_layer,
    "MaxPooling2D": max_pooling,
    "AveragePooling2D": average_pooling,
    "GlobalAveragePooling2D": _global_pooling,
    "GlobalMaxPooling2D": _global_pooling,
    "ZeroPadding2D": zero_padding,
    "Cropping2D": _cropping,
    "UpSampling2D": _up_sampling,
    "Resizing": _resizing,
    "Flatten": _flatten,
    "Reshape": _reshape,
    **dict.fromkeys(_MERGING, _merge),
    "Concatenate": _concatenate,
    # These do nothing when a network is used.
    **dict.fromkeys(
        ("Identity", "Dropout", "SpatialDropout2D", "GaussianDropout", "GaussianNoise", "AlphaDropout",
         "ActivityRegularization", *AUGMENTING),
        _identity,
    ),
}  # fmt: skip
"""What a Keras layer of a class becomes."""
