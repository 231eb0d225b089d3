"""Each Keras layer as ONNX nodes, channels first, without a Transpose."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from prune_core.keras_files.activations import add_activation, add_activation_layer
from prune_core.keras_files.onnx_builder import Tensor
from prune_core.keras_files.windows import (
    Call,
    average_pooling,
    conv2d,
    depthwise,
    max_pooling,
    zero_padding,
)


def _batch_normalization(call: Call) -> Tensor:
    graph, layer, tensor = call.graph, call.layer, call.input
    if call.onnx_axis(tensor) != 1:
        layer.refuse("it normalises an axis other than the channels")
    count = tensor.shape[:1]
    gamma = call.take("gamma", count) if layer.flag("scale", True) else np.ones(count, np.float32)
    beta = call.take("beta", count) if layer.flag("center", True) else np.zeros(count, np.float32)
    parameters = {
        "gamma": gamma,
        "beta": beta,
        "moving_mean": call.take("moving_mean", count),
        "moving_variance": call.take("moving_variance", count),
    }
    names = [
        graph.constant(f"{layer.name}/{key}", _to_onnx_order(tensor, values))
        for key, values in parameters.items()
    ]
    epsilon = layer.number("epsilon", 1e-3, 0, 1)
    out = graph.node("BatchNormalization", layer.name, [tensor.value, *names], tensor.shape, epsilon=epsilon)
    return Tensor(out.value, out.shape, tensor.order)


def _to_onnx_order(tensor: Tensor, values: np.ndarray) -> np.ndarray:
    """Rows of `values`, one per Keras feature of `tensor`, in the order of the ONNX features."""
    if tensor.order is None:
        return values
    ordered = np.empty_like(values)
    ordered[tensor.order] = values
    return ordered


def _global_average_pooling(call: Call) -> Tensor:
    layer, image = call.layer, call.image()
    channels = image.shape[0]
    out = call.graph.node("GlobalAveragePool", layer.name, [image.value], (channels, 1, 1))
    if layer.flag("keepdims", False):
        return out
    return call.graph.node("Flatten", f"{layer.name}/flatten", [out.value], (channels,), axis=1)


def _flatten(call: Call) -> Tensor:
    layer, tensor = call.layer, call.input
    if not tensor.is_image:
        return tensor
    features = int(np.prod(tensor.shape))
    out = call.graph.node("Flatten", layer.name, [tensor.value], (features,), axis=1)
    places = np.arange(features).reshape(tensor.shape)
    if call.channels_last:
        places = places.transpose(1, 2, 0)
    # Keras moves the first axis to the end here, so that both formats flatten alike.
    if layer.choice("data_format", "channels_last", ("channels_last", "channels_first")) == (
        "channels_first"
    ):
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
    kernel = _to_onnx_order(tensor, call.take("kernel", (tensor.shape[0], units)))
    inputs = [tensor.value, graph.constant(f"{layer.name}/kernel", kernel)]
    if layer.flag("use_bias", True):
        inputs.append(graph.constant(f"{layer.name}/bias", call.take("bias", (units,))))
    out = graph.node("Gemm", layer.name, inputs, (units,))
    return add_activation(graph, layer, out, call.channels_last)


def _add(call: Call) -> Tensor:
    graph, layer = call.graph, call.layer
    total, *others = call.inputs
    if not others:
        layer.refuse("there is one input, nothing to add it to")
    for number, other in enumerate(others, 1):
        if other.shape != total.shape:
            layer.refuse(f"shapes {total.shape} and {other.shape} differ")
        if not _same_order(total, other):
            layer.refuse("it adds flattened images to features in another order; not supported")
        name = layer.name if number == len(others) else f"{layer.name}/{number}"
        out = graph.node("Add", name, [total.value, other.value], total.shape)
        total = Tensor(out.value, out.shape, total.order)
    return total


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


def _activation(call: Call) -> Tensor:
    return add_activation(call.graph, call.layer, call.input, call.channels_last, call.layer.name)


def _activation_layer(call: Call) -> Tensor:
    return add_activation_layer(call.graph, call.layer, call.layer.name, call.input, call.channels_last)


def _identity(call: Call) -> Tensor:
    return call.input


BUILDERS: dict[str, Callable[[Call], Tensor]] = {
    "Conv2D": conv2d,
    "DepthwiseConv2D": depthwise,
    "BatchNormalization": _batch_normalization,
    "Dense": _dense,
    "Activation": _activation,
    "ReLU": _activation_layer,
    "LeakyReLU": _activation_layer,
    "ELU": _activation_layer,
    "Softmax": _activation_layer,
    "MaxPooling2D": max_pooling,
    "AveragePooling2D": average_pooling,
    "GlobalAveragePooling2D": _global_average_pooling,
    "ZeroPadding2D": zero_padding,
    "Flatten": _flatten,
    "Add": _add,
    "Concatenate": _concatenate,
    # These do nothing when a network is used.
    "Dropout": _identity,
    "SpatialDropout2D": _identity,
    "GaussianDropout": _identity,
    "GaussianNoise": _identity,
    "AlphaDropout": _identity,
    "ActivityRegularization": _identity,
}
"""What a Keras layer of a class becomes."""

WEIGHTED = ("Conv2D", "DepthwiseConv2D", "BatchNormalization", "Dense")
"""Classes that have weights in a file."""
