"""Keras activations as ONNX nodes, whether a layer's own field or layers themselves."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from prune_core.keras_files.config import WAY_OUT, Layer
from prune_core.keras_files.onnx_builder import OnnxBuilder, Tensor

# Fields are those of ONNX; where none are given, both sides have the same default.
_ONE_NODE: dict[str, tuple[str, dict[str, Any]]] = {
    "relu": ("Relu", {}),
    "leaky_relu": ("LeakyRelu", {"alpha": 0.2}),
    "elu": ("Elu", {"alpha": 1.0}),
    "selu": ("Selu", {}),
    "celu": ("Celu", {"alpha": 1.0}),
    "sigmoid": ("Sigmoid", {}),
    "tanh": ("Tanh", {}),
    "softplus": ("Softplus", {}),
    "softsign": ("Softsign", {}),
    "exponential": ("Exp", {}),
    "hard_swish": ("HardSwish", {}),
    "hard_silu": ("HardSwish", {}),
}
_CLIPPED = {"relu6": (0.0, 6.0), "hard_tanh": (-1.0, 1.0)}
_OWN = ("swish", "silu", "gelu", "mish", "hard_sigmoid", "softmax", "log_softmax")
_LAYERS = ("ReLU", "LeakyReLU", "ELU", "Softmax")


def add_activation(
    graph: OnnxBuilder,
    layer: Layer,
    tensor: Tensor,
    channels_last: bool,
    name: str | None = None,
    keras_2: bool = False,
) -> Tensor:
    """Apply the field `activation` of a layer.

    :param channels_last: axis order of images in the file; a softmax goes along its last axis.
    :param name: of the node; the layer's name and the function's by default.
    :param keras_2: the file is of Keras 2, whose hard sigmoid is another one.
    """
    function = layer.config.get("activation")
    if function is None or function == "linear":
        return tensor
    if isinstance(function, dict) and function.get("class_name") in _LAYERS:
        config = function.get("config")
        inner = replace(layer, class_name=function["class_name"], config=config or {})
        return add_activation_layer(graph, inner, name or f"{layer.name}/activation", tensor, channels_last)
    if isinstance(function, str) and function in _ONE_NODE:
        op, fields = _ONE_NODE[function]
        return _elementwise(graph, op, name or f"{layer.name}/{function}", tensor, **fields)
    if isinstance(function, str) and function in _CLIPPED:
        return _clip(graph, name or f"{layer.name}/{function}", tensor, *_CLIPPED[function])
    if not isinstance(function, str) or function not in _OWN:
        known = ", ".join(["linear", *_OWN, *_CLIPPED, *_ONE_NODE])
        layer.refuse(f"activation {str(function)[:100]!r} is not supported; supported: {known}; {WAY_OUT}")
    return _of_its_own(graph, function, name or f"{layer.name}/{function}", tensor, channels_last, keras_2)


def _of_its_own(
    graph: OnnxBuilder, function: str, name: str, tensor: Tensor, channels_last: bool, keras_2: bool
) -> Tensor:
    """Functions that take more than one node, or look at more than one number."""
    if function in ("softmax", "log_softmax"):
        op = "Softmax" if function == "softmax" else "LogSoftmax"
        return _softmax(graph, name, tensor, len(tensor.shape), channels_last, op)
    if function == "hard_sigmoid":
        slope = 0.2 if keras_2 else 1 / 6
        return _elementwise(graph, "HardSigmoid", name, tensor, alpha=slope, beta=0.5)
    if function == "gelu":  # x (1 + erf(x / sqrt 2)) / 2
        root = graph.constant(f"{name}/root", np.array(math.sqrt(2), np.float32))
        one = graph.constant(f"{name}/one", np.array(1, np.float32))
        half = graph.constant(f"{name}/half", np.array(0.5, np.float32))
        part = _elementwise(graph, "Div", f"{name}/div", tensor, root)
        part = _elementwise(graph, "Erf", f"{name}/erf", part)
        part = _elementwise(graph, "Add", f"{name}/add", part, one)
        gate = _elementwise(graph, "Mul", f"{name}/mul", part, half)
    elif function == "mish":  # x tanh(softplus(x))
        gate = _elementwise(graph, "Softplus", f"{name}/softplus", tensor)
        gate = _elementwise(graph, "Tanh", f"{name}/tanh", gate)
    else:  # silu
        gate = _elementwise(graph, "Sigmoid", f"{name}/sigmoid", tensor)
    return _elementwise(graph, "Mul", name, tensor, gate.value)


def add_activation_layer(
    graph: OnnxBuilder, layer: Layer, name: str, tensor: Tensor, channels_last: bool
) -> Tensor:
    """Apply an activation that is a layer: ReLU, LeakyReLU, ELU or Softmax."""
    if layer.class_name == "Softmax":
        axis = layer.axis(len(tensor.shape) + 1)
        if axis == 0:
            layer.refuse("a softmax over the batch is not supported")
        return _softmax(graph, name, tensor, axis, channels_last)
    if layer.class_name == "ELU":
        return _elementwise(graph, "Elu", name, tensor, alpha=layer.number("alpha", 1.0))
    if layer.class_name == "LeakyReLU":
        key = "negative_slope" if "negative_slope" in layer.config else "alpha"
        return _elementwise(graph, "LeakyRelu", name, tensor, alpha=layer.number(key, 0.3))
    if layer.number("threshold", 0.0) != 0:
        layer.refuse(f"a threshold other than 0 is not supported; {WAY_OUT}")
    slope = layer.number("negative_slope", 0.0)
    capped = layer.config.get("max_value") is not None
    if not slope:
        if not capped:
            return _elementwise(graph, "Relu", name, tensor)
        return _clip(graph, name, tensor, 0.0, layer.number("max_value", 0.0, 0.0))
    if not capped:
        return _elementwise(graph, "LeakyRelu", name, tensor, alpha=slope)
    leaky = _elementwise(graph, "LeakyRelu", f"{name}/slope", tensor, alpha=slope)
    lowest = float(np.finfo(np.float32).min)
    return _clip(graph, name, leaky, lowest, layer.number("max_value", 0.0, 0.0))


def _elementwise(
    graph: OnnxBuilder, op: str, name: str, tensor: Tensor, *inputs: str, **fields: Any
) -> Tensor:
    out = graph.node(op, name, [tensor.value, *inputs], tensor.shape, **fields)
    return Tensor(out.value, out.shape, tensor.order)


def _clip(graph: OnnxBuilder, name: str, tensor: Tensor, low: float, high: float) -> Tensor:
    bounds = [
        graph.constant(f"{name}/{key}", np.array(value, dtype=np.float32))
        for key, value in (("min", low), ("max", high))
    ]
    return _elementwise(graph, "Clip", name, tensor, *bounds)


def _softmax(
    graph: OnnxBuilder, name: str, tensor: Tensor, axis: int, channels_last: bool, op: str = "Softmax"
) -> Tensor:
    """:param axis: counted in the file's axis order, the batch being 0."""
    if tensor.is_image and channels_last:
        axis = (0, 2, 3, 1)[axis]
    return _elementwise(graph, op, name, tensor, axis=axis)
