"""Keras activations as ONNX nodes, whether a layer's own field or layers themselves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from prune_core.keras_files.config import Layer
from prune_core.keras_files.onnx_builder import OnnxBuilder, Tensor

# Fields are those of ONNX; where none are given, both sides have the same default.
_ONE_NODE: dict[str, tuple[str, dict[str, Any]]] = {
    "relu": ("Relu", {}),
    "leaky_relu": ("LeakyRelu", {"alpha": 0.2}),
    "elu": ("Elu", {"alpha": 1.0}),
    "selu": ("Selu", {}),
    "sigmoid": ("Sigmoid", {}),
    "tanh": ("Tanh", {}),
    "softplus": ("Softplus", {}),
    "softsign": ("Softsign", {}),
}
_LAYERS = ("ReLU", "LeakyReLU", "ELU", "Softmax")


def add_activation(
    graph: OnnxBuilder, layer: Layer, tensor: Tensor, channels_last: bool, name: str | None = None
) -> Tensor:
    """Apply the field `activation` of a layer.

    :param channels_last: axis order of images in the file; a softmax goes along its last axis.
    :param name: of the node; the layer's name and the function's by default.
    """
    function = layer.config.get("activation")
    if function is None or function == "linear":
        return tensor
    if isinstance(function, dict) and function.get("class_name") in _LAYERS:
        config = function.get("config")
        inner = replace(layer, class_name=function["class_name"], config=config or {})
        return add_activation_layer(graph, inner, name or f"{layer.name}/activation", tensor, channels_last)
    name = name or f"{layer.name}/{function}"
    if function == "softmax":
        return _softmax(graph, name, tensor, len(tensor.shape), channels_last)
    if function == "relu6":
        return _clip(graph, name, tensor, 0.0, 6.0)
    if not isinstance(function, str) or function not in _ONE_NODE:
        known = ", ".join(["linear", "softmax", "relu6", *_ONE_NODE])
        layer.refuse(f"activation {function!r} is not supported; supported: {known}")
    op, fields = _ONE_NODE[function]
    return _elementwise(graph, op, name, tensor, **fields)


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
        layer.refuse("a threshold other than 0 is not supported")
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


def _softmax(graph: OnnxBuilder, name: str, tensor: Tensor, axis: int, channels_last: bool) -> Tensor:
    """:param axis: counted in the file's axis order, the batch being 0."""
    if tensor.is_image and channels_last:
        axis = (0, 2, 3, 1)[axis]
    return _elementwise(graph, "Softmax", name, tensor, axis=axis)
